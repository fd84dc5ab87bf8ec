//! What the words of an image are.

use super::Corrupt;
use crate::{addr::Family, tuple::Direction, verdict::RuleNumber};

/// What every header begins with: `"sgim"`, read little-endian.
pub const MAGIC: u32 = 0x6d69_6773;

/// The version of the layout in this module.
pub const VERSION: u32 = 3;

/// The node of zone 0, right behind the header: a lookup need not read the header to find it.
pub const ZONES: u32 = 1;

/// What the record of zone `number` is marked with: nothing else is, so that a node which is none, or
/// of another version, is not taken for one.
#[inline(always)]
#[must_use]
pub const fn zone_mark(number: u32) -> u32 {
    (MAGIC ^ VERSION << 8).wrapping_add(number)
}

/// IPv4 keys in a node.
pub const KEYS_V4: u32 = 16;
/// IPv6 keys in a node.
pub const KEYS_V6: u32 = 8;
/// Levels of IPv4 keys that a lookup follows: room for 24 million intervals.
pub const LEVELS_V4: u32 = 6;
/// Levels of IPv6 keys that a lookup follows: room for 43 million intervals.
pub const LEVELS_V6: u32 = 8;
/// Ranges in a leaf of a selector tree.
pub const LEAF_RANGES: usize = 10;
/// Ends in an inner node of a selector tree; it has one child more.
pub const INNER_ENDS: usize = 30;
/// Inner levels of a selector tree: room for 297 910 ranges, four times what 16 bits can tell apart.
pub const SELECTOR_LEVELS: u32 = 3;

/// Nodes in an element of the image map. A program looks an element up, and what is within it is then
/// only an offset away: the size is the largest that Linux 6.1 lets a value have, 4 MiB.
pub const CHUNK_NODES: u32 = 1 << 16;

/// An element of the image map.
pub type Chunk = [Node; CHUNK_NODES as usize];

/// Sixty-four bytes of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(8))]
pub struct Node {
    /// Host-order words; what they mean depends on what led here.
    pub words: [u32; 16],
}

const _: () = assert!(size_of::<Node>() == 64, "a node is one cache line and one map value");

impl Node {
    /// A node of zeros.
    pub const ZERO: Self = Self { words: [0; 16] };

    #[inline(always)]
    pub(super) fn word(&self, index: usize) -> Result<u32, Corrupt> {
        self.words.get(index).copied().ok_or(Corrupt)
    }

    /// The first word of half 0 or 1, for [`half_word`](Self::half_word).
    #[inline(always)]
    pub(super) fn half_word(&self, half: u32, index: usize) -> Result<u32, Corrupt> {
        self.word(((half & 1) as usize) * 8 + index)
    }
}

/// What node 0 says. Words: magic, version, nodes, first zone node, zones, digest (8 words).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Number of nodes in the image, this one included.
    pub nodes: u32,
    /// Node number of zone 0.
    pub zones: u32,
    /// Number of zones.
    pub zone_count: u32,
    /// SHA-256 of the whole image as little-endian words, these eight taken as zero.
    pub digest: [u32; 8],
}

impl Header {
    /// The header as a node.
    #[must_use]
    pub fn to_node(&self) -> Node {
        let Self { nodes, zones, zone_count, digest } = *self;
        let mut node = Node::ZERO;
        node.words[..5].copy_from_slice(&[MAGIC, VERSION, nodes, zones, zone_count]);
        node.words[5..13].copy_from_slice(&digest);
        node
    }

    /// Reads node 0.
    ///
    /// # Errors
    ///
    /// [`Corrupt`], when the magic number or the version is another.
    pub fn from_node(node: &Node) -> Result<Self, Corrupt> {
        let [magic, version, nodes, zones, zone_count, rest @ ..] = node.words;
        if magic != MAGIC || version != VERSION {
            return Err(Corrupt);
        }
        let mut digest = [0; 8];
        digest.copy_from_slice(&rest[..8]);
        Ok(Self { nodes, zones, zone_count, digest })
    }
}

/// A zone's switches, as bits of its flags word.
pub mod flag {
    /// The protected instance sits behind the interface; else it is this machine.
    pub const GUEST: u32 = 1 << 0;
    /// Nothing is dropped; what would be is counted as such.
    pub const AUDIT: u32 = 1 << 1;
    /// Only the instance's own addresses may leave and be entered.
    pub const SOURCE_CHECK: u32 = 1 << 2;
    /// ARP passes.
    pub const ARP: u32 = 1 << 3;
    /// Neighbour discovery passes.
    pub const NDP: u32 = 1 << 4;
    /// DHCP passes, client side.
    pub const DHCP: u32 = 1 << 5;
    /// Multicast listener discovery passes.
    pub const MLD: u32 = 1 << 6;
    /// Under the source check, the instance may use any link-local address to find its neighbours: none
    /// is listed.
    pub const ANY_LINK_LOCAL: u32 = 1 << 7;
    /// The first of four: the direction opens every TCP port of the family to any address. One bit
    /// for each (direction, family) as [`super::rule_set_slot`] numbers them; see also
    /// [`OPEN_UDP`].
    pub const OPEN_TCP: u32 = 1 << 8;
    /// The first of four, as [`OPEN_TCP`], for UDP.
    pub const OPEN_UDP: u32 = 1 << 12;
}

/// Words of a zone node: flags, four rule sets, own IPv4 and IPv6 addresses, EtherTypes, its mark.
pub mod zone_word {
    /// Bits of [`super::flag`].
    pub const FLAGS: usize = 0;
    /// Half numbers of the four rule sets, in the order of [`super::rule_set_slot`].
    pub const RULE_SETS: usize = 1;
    /// Half numbers of the rule sets that hold the instance's own addresses, IPv4 then IPv6. Their
    /// class 0 means "not its own".
    pub const OWN: usize = 5;
    /// Up to eight permitted EtherTypes, two to a word, the low half first; 0 means none.
    pub const ETHERTYPES: usize = 7;
    /// Node number of the instance's Ethernet addresses, or 0 where any may be used: up to eight,
    /// two words each, the high 16 bits first. The first is repeated where there are fewer.
    pub const MACS: usize = 11;
    /// [`super::zone_mark`].
    pub const MARK: usize = 15;
}

/// The most Ethernet addresses that a zone can list.
pub const MACS_MAX: usize = 8;

/// The most EtherTypes that a zone can permit.
pub const ETHERTYPES_MAX: usize = 8;

/// The place of a rule set among a zone's four: inbound IPv4, inbound IPv6, outbound IPv4,
/// outbound IPv6.
#[inline(always)]
#[must_use]
pub const fn rule_set_slot(direction: Direction, family: Family) -> usize {
    (direction as usize) * 2 + family as usize
}

/// Words of a rule set, which is half a node.
pub mod rule_set_word {
    /// Node number of the first key node.
    pub const KEYS: usize = 0;
    /// Number of key nodes; 0 means that [`VALUES`] is itself the class number of every address.
    pub const KEY_NODES: usize = 1;
    /// Node number of the first value node.
    pub const VALUES: usize = 2;
    /// Half number of class 0. Class 0 opens nothing and is never read.
    pub const CLASSES: usize = 3;
    /// 1 where values are 32 bits wide, 0 where they are 16.
    pub const WIDE: usize = 4;
}

/// Words of a class, which is half a node: a tag and a payload for each of the four tables.
pub mod class_word {
    /// Table tag: opens nothing.
    pub const NONE: u32 = 0;
    /// Table tag: the payload is the rule word of every value.
    pub const ALL: u32 = 1;
    /// Table tag: the payload is the root of a selector tree with `tag - TREE` inner levels.
    pub const TREE: u32 = 2;
    /// Word 0 of a class that is one run of low halves, as a single host or a prefix longer than 64
    /// bits makes: most high halves that are cut at all are cut so. Words 1 and 2 are the first low
    /// half of the run, words 3 and 4 the last, low word first; word 5 is the class number inside of
    /// it and word 6 the one outside.
    pub const RUN: u32 = u32::MAX - 1;
    /// Word 0 of a class that is a subtree over low halves. Its words 1 to 3 are
    /// [`super::rule_set_word::KEYS`] to [`super::rule_set_word::VALUES`] of it; classes and width
    /// are those of the rule set that led here.
    pub const SUBTREE: u32 = u32::MAX;
}

/// What a selector tree ends in: nothing, or a rule and whether its opening is to any address.
///
/// Bit layout: 0 is nothing; else bits 0–30 are the rule number plus one, and bit 31 tells that
/// some rule opens this selector to every address of the family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleWord(pub u32);

impl RuleWord {
    const ANYWHERE: u32 = 1 << 31;
    /// No rule.
    pub const NONE: Self = Self(0);
    /// The highest rule number that a word can carry.
    pub const MAX_RULE: u32 = Self::ANYWHERE - 2;

    /// A rule at most [`Self::MAX_RULE`].
    #[must_use]
    pub const fn new(rule: RuleNumber, anywhere: bool) -> Self {
        Self((rule.0 + 1) | if anywhere { Self::ANYWHERE } else { 0 })
    }

    /// The rule, if there is one.
    #[inline(always)]
    #[must_use]
    pub const fn rule(self) -> Option<RuleNumber> {
        match self.0 & !Self::ANYWHERE {
            0 => None,
            number => Some(RuleNumber(number - 1)),
        }
    }

    /// Whether a rule opens the selector to every address of the family.
    #[inline(always)]
    #[must_use]
    pub const fn is_anywhere(self) -> bool {
        self.0 & Self::ANYWHERE != 0
    }
}
