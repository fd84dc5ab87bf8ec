//! The image: a compiled policy as one flat array of 64-byte nodes, and the lookup in it.
//!
//! The kernel programs walk the image in a map, the agent and the tests walk the same bytes in
//! memory, with the code of this module. Building an image is the agent's business.
//!
//! # Shape
//!
//! Node 0 is the [`Header`]. Everything else is found by node number from there. A node holds
//! sixteen host-order `u32` words; some structures take half a node, and a *half* number is then
//! `node * 2 + half`. Number 0 in a reference means "nothing".
//!
//! ```text
//! header ─ zones: one node a zone: flags, a rule set for each (direction, family), own addresses
//!            └ rule set (half): an address tree, and the classes that its values name
//!                 └ class (half): four selector tables ─ selector tree ─ rule word
//! ```
//!
//! * **Address → class.** The addresses of a family are cut into intervals, stored by their last
//!   address. The keys lie in a static B-tree: node *n* of 16 (IPv4) or 8 (IPv6) keys has the
//!   children `n * 17 + 1 ..` or `n * 9 + 1 ..`; a search keeps the smallest key that is not below
//!   the address. Values are class numbers, stored beside in the same order. The IPv6 tree is built
//!   over the high halves; where one high half is cut further, its class is a *run* of low halves
//!   or a *subtree* over them. Unused keys are all ones and carry the last interval's value.
//! * **Selector → rule.** A class has a table each for TCP, UDP, ICMP and other protocols. A table
//!   opens nothing, everything, or what a search tree of 16-bit values says: its leaves hold ten
//!   range ends and ten rule words, its inner nodes thirty ends and the first of up to 31
//!   consecutive children.
//!
//! A reference that leads outside of the image, or a level too deep, is [`Corrupt`]: the caller
//! drops the packet.

mod layout;

pub use layout::*;

use crate::{
    addr::{Addr, Family},
    branchless::{self, below, below_u64, sum},
    tuple::{Direction, Selector, Table},
};
/// The image leads outside of itself: it was not written whole, or by another version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corrupt;

/// Whoever holds an image's nodes: a map in the kernel, a slice in memory.
pub trait Nodes {
    /// Node number `index`, or `None` past the end.
    fn node(&self, index: u32) -> Option<&Node>;

    /// [`class_of`] in these nodes. The programs make this and the others functions of their own:
    /// the verifier then judges each once, instead of on every path to it, and each has its own
    /// part of the small stack.
    #[inline(always)]
    fn class_of(&self, set: u32, address: Addr) -> u64 {
        class_of(self, set, address)
    }

    /// [`answer`] in these nodes, likewise.
    #[inline(always)]
    fn answer(&self, set: u32, address: Addr, selector: u32) -> u64 {
        answer(self, set, address, selector)
    }

    /// [`key_v4`] in these nodes, likewise. This and the next also hide from the verifier how the
    /// key's number came about: else it would tell apart every way down a tree.
    #[inline(always)]
    fn key_v4(&self, keys: u32, key_nodes: u32, address: u32) -> u32 {
        key_v4(self, keys, key_nodes, address)
    }

    /// [`key_v6`] in these nodes, likewise.
    #[inline(always)]
    fn key_v6(&self, keys: u32, key_nodes: u32, half: u64) -> u32 {
        key_v6(self, keys, key_nodes, half)
    }
}

impl Nodes for [Node] {
    #[inline(always)]
    fn node(&self, index: u32) -> Option<&Node> {
        self.get(index as usize)
    }
}

#[inline(always)]
fn node<N: Nodes + ?Sized>(nodes: &N, index: u32) -> Result<&Node, Corrupt> {
    nodes.node(index).ok_or(Corrupt)
}

/// The zone record of an image.
///
/// # Errors
///
/// [`Corrupt`], when the zone cannot be read, or the image has no such zone.
#[inline(always)]
pub fn zone<N: Nodes + ?Sized>(nodes: &N, number: u32) -> Result<&Node, Corrupt> {
    let zone = node(nodes, ZONES.wrapping_add(number))?;
    if zone.words[zone_word::MARK] == zone_mark(number) { Ok(zone) } else { Err(Corrupt) }
}

/// The rule that opens `selector` to `remote` in a zone's `direction`, or [`RuleWord::NONE`].
///
/// # Errors
///
/// [`Corrupt`], when a reference leads outside of the image.
#[inline(always)]
pub fn rule<N: Nodes + ?Sized>(
    nodes: &N,
    zone: &Node,
    direction: Direction,
    remote: Addr,
    selector: Selector,
) -> Result<RuleWord, Corrupt> {
    let set = zone.word(zone_word::RULE_SETS + rule_set_slot(direction, remote.family()))?;
    if set == 0 {
        return Ok(RuleWord::NONE);
    }
    Answer::open(nodes.answer(set, remote, selector.to_bits())).map(RuleWord)
}

/// Whether `address` is one of the zone's own addresses.
///
/// # Errors
///
/// [`Corrupt`], when a reference leads outside of the image.
#[inline(always)]
pub fn is_own<N: Nodes + ?Sized>(nodes: &N, zone: &Node, address: Addr) -> Result<bool, Corrupt> {
    match zone.word(zone_word::OWN + address.family() as usize)? {
        0 => Ok(false),
        set => Ok(Answer::open(nodes.class_of(set, address))? != 0),
    }
}

/// What stands for [`Corrupt`] in an answer.
pub const CORRUPT: u64 = u64::MAX;

/// A number or [`Corrupt`] in one register, as a BPF function can return it.
struct Answer;

impl Answer {
    const CORRUPT: u64 = CORRUPT;

    #[inline(always)]
    fn close(answer: Result<u32, Corrupt>) -> u64 {
        match answer {
            Ok(number) => number.into(),
            Err(Corrupt) => Self::CORRUPT,
        }
    }

    #[inline(always)]
    const fn open(answer: u64) -> Result<u32, Corrupt> {
        if answer == Self::CORRUPT { Err(Corrupt) } else { Ok(answer as u32) }
    }
}

/// The class of `address` in rule set `set`: its half number, 0 for class 0, or all ones for
/// [`Corrupt`].
#[inline(always)]
pub fn class_of<N: Nodes + ?Sized>(nodes: &N, set: u32, address: Addr) -> u64 {
    Answer::close(node(nodes, set / 2).and_then(|set_node| class(nodes, set_node, set, address)))
}

/// The bits of the [`RuleWord`] that rule set `set` has for an address and a selector, as
/// [`Selector::to_bits`] gives it, or all ones for [`Corrupt`].
#[inline(always)]
pub fn answer<N: Nodes + ?Sized>(nodes: &N, set: u32, address: Addr, selector: u32) -> u64 {
    let class = match Answer::open(class_of(nodes, set, address)) {
        Ok(0) => return RuleWord::NONE.0.into(),
        Ok(class) => class,
        Err(Corrupt) => return Answer::CORRUPT,
    };
    Answer::close(rule_word(nodes, class, Selector::from_bits(selector)).map(|RuleWord(bits)| bits))
}

/// Whether the zone's instance may send from the Ethernet address in the low 48 bits of `mac`.
///
/// # Errors
///
/// [`Corrupt`], when a reference leads outside of the image.
#[inline(always)]
pub fn permits_mac<N: Nodes + ?Sized>(nodes: &N, zone: &Node, mac: u64) -> Result<bool, Corrupt> {
    let number = zone.word(zone_word::MACS)?;
    if number == 0 {
        return Ok(true);
    }
    let listed = node(nodes, number)?;
    let mut found = false;
    let mut index = 0;
    while index < 2 * MACS_MAX {
        found |= u64::from(listed.words[index]) << 32 | u64::from(listed.words[index + 1]) == mac;
        index += 2;
    }
    Ok(found)
}

/// An Ethernet address that [`permits_mac`] says yes to.
///
/// # Errors
///
/// [`Corrupt`], when a reference leads outside of the image.
pub fn honest_mac<N: Nodes + ?Sized>(nodes: &N, zone: &Node) -> Result<u64, Corrupt> {
    match zone.word(zone_word::MACS)? {
        0 => Ok(0),
        number => {
            let listed = node(nodes, number)?;
            Ok(u64::from(listed.words[0]) << 32 | u64::from(listed.words[1]))
        }
    }
}

/// Whether the zone lets `ethertype` pass unseen.
#[inline(always)]
#[must_use]
pub fn permits_ethertype(zone: &Node, ethertype: u16) -> bool {
    let mut found = false;
    let mut index = zone_word::ETHERTYPES;
    while index < zone_word::ETHERTYPES + ETHERTYPES_MAX / 2 {
        let pair = zone.words[index];
        found |= pair & 0xffff == ethertype as u32 || pair >> 16 == ethertype as u32;
        index += 1;
    }
    found && ethertype != 0
}

/// The class of `address` as a half number, or 0 for class 0.
#[inline(always)]
fn class<N: Nodes + ?Sized>(nodes: &N, set_node: &Node, set: u32, address: Addr) -> Result<u32, Corrupt> {
    let tree = Tree {
        keys: set_node.half_word(set, rule_set_word::KEYS)?,
        key_nodes: set_node.half_word(set, rule_set_word::KEY_NODES)?,
        values: set_node.half_word(set, rule_set_word::VALUES)?,
        wide: set_node.half_word(set, rule_set_word::WIDE)? != 0,
    };
    let classes = set_node.half_word(set, rule_set_word::CLASSES)?;
    if address.is_v4() {
        let number = tree.find_v4(nodes, address.v4_bits())?;
        return Ok(half_of(classes, number));
    }
    let number = tree.find_v6(nodes, address.hi())?;
    if number == 0 {
        return Ok(0);
    }
    let half = classes.wrapping_add(number);
    let class_node = node(nodes, half / 2)?;
    let kind = class_node.half_word(half, 0)?;
    if kind == class_word::RUN {
        let low_half = |word| -> Result<u64, Corrupt> {
            let high = class_node.half_word(half, word + 1)?;
            Ok(u64::from(class_node.half_word(half, word)?) | u64::from(high) << 32)
        };
        let inside = low_half(1)? <= address.lo() && address.lo() <= low_half(3)?;
        let number = class_node.half_word(half, if inside { 5 } else { 6 })?;
        return Ok(half_of(classes, number));
    }
    if kind != class_word::SUBTREE {
        return Ok(half);
    }
    let low = Tree {
        keys: class_node.half_word(half, 1 + rule_set_word::KEYS)?,
        key_nodes: class_node.half_word(half, 1 + rule_set_word::KEY_NODES)?,
        values: class_node.half_word(half, 1 + rule_set_word::VALUES)?,
        wide: tree.wide,
    };
    let number = low.find_v6(nodes, address.lo())?;
    Ok(half_of(classes, number))
}

/// The half number of class `number`, or 0 for class 0.
#[inline(always)]
const fn half_of(classes: u32, number: u32) -> u32 {
    if number == 0 { 0 } else { classes.wrapping_add(number) }
}

/// A static B-tree of interval ends with a class number for each.
#[derive(Clone, Copy)]
struct Tree {
    keys: u32,
    key_nodes: u32,
    values: u32,
    wide: bool,
}

/// `new` if `less` is below `limit`, else `old`, without a branch: a branch on each level would be
/// two to the power of levels ways for the verifier to follow.
#[inline(always)]
fn pick(less: u32, limit: u32, new: u32, old: u32) -> u32 {
    branchless::pick(below(less.into(), limit.into()), new.into(), old.into()) as u32
}

/// What stands for no key: the image is corrupt.
pub const NO_KEY: u32 = u32::MAX;

/// The number of the first key not below `address` in a tree of `key_nodes` nodes at `keys`, or
/// all ones.
#[inline(always)]
pub fn key_v4<N: Nodes + ?Sized>(nodes: &N, keys: u32, key_nodes: u32, address: u32) -> u32 {
    let address = u64::from(address);
    let mut at = 0_u32;
    let mut best = NO_KEY;
    for _ in 0..LEVELS_V4 {
        if at >= key_nodes {
            break;
        }
        let Some(node) = nodes.node(keys.wrapping_add(at)) else { return NO_KEY };
        let less = below_v4(&node.words, address);
        best = pick(less, KEYS_V4, at.wrapping_mul(KEYS_V4).wrapping_add(less), best);
        at = at.wrapping_mul(KEYS_V4 + 1).wrapping_add(1 + less);
    }
    best
}

/// How many of a node's sixteen sorted keys are below `address`: first which four it lies among, then
/// where among these. Half of the comparisons do, and none waits for more than one before it.
#[inline(always)]
fn below_v4(words: &[u32; 16], address: u64) -> u32 {
    let key = |index: usize| below(u64::from(words[index]), address);
    let four = ((key(3) + key(7) + key(11)) * 4) & 12;
    let at = four as usize;
    four + (key(at) + key(at + 1)) + (key(at + 2) + key(at + 3))
}

/// As [`below_v4`], for eight keys of two words: first which two, then where.
#[inline(always)]
fn below_v6(words: &[u32; 16], half: u64) -> u32 {
    let key = |index: usize| {
        let key = u64::from(words[index * 2]) | u64::from(words[index * 2 + 1]) << 32;
        below_u64(key, half)
    };
    let two = ((key(1) + key(3) + key(5)) * 2) & 6;
    let at = two as usize;
    two + key(at) + key(at + 1)
}

/// As [`key_v4`], for one half of an IPv6 address.
#[inline(always)]
pub fn key_v6<N: Nodes + ?Sized>(nodes: &N, keys: u32, key_nodes: u32, half: u64) -> u32 {
    let mut at = 0_u32;
    let mut best = NO_KEY;
    for _ in 0..LEVELS_V6 {
        if at >= key_nodes {
            break;
        }
        let Some(node) = nodes.node(keys.wrapping_add(at)) else { return NO_KEY };
        let less = below_v6(&node.words, half);
        best = pick(less, KEYS_V6, at.wrapping_mul(KEYS_V6).wrapping_add(less), best);
        at = at.wrapping_mul(KEYS_V6 + 1).wrapping_add(1 + less);
    }
    best
}

impl Tree {
    #[inline(always)]
    fn find_v4<N: Nodes + ?Sized>(self, nodes: &N, address: u32) -> Result<u32, Corrupt> {
        if self.key_nodes == 0 {
            return Ok(self.values);
        }
        self.value(nodes, nodes.key_v4(self.keys, self.key_nodes, address))
    }

    #[inline(always)]
    fn find_v6<N: Nodes + ?Sized>(self, nodes: &N, half: u64) -> Result<u32, Corrupt> {
        if self.key_nodes == 0 {
            return Ok(self.values);
        }
        self.value(nodes, nodes.key_v6(self.keys, self.key_nodes, half))
    }

    /// The class number stored for key number `key`.
    #[inline(always)]
    fn value<N: Nodes + ?Sized>(self, nodes: &N, key: u32) -> Result<u32, Corrupt> {
        if key == NO_KEY {
            return Err(Corrupt);
        }
        let (at, index) = if self.wide { (key / 16, key) } else { (key / 32, key / 2) };
        let word = node(nodes, self.values.wrapping_add(at))?.word((index % 16) as usize)?;
        Ok(if self.wide { word } else { word >> (key % 2 * 16) & 0xffff })
    }
}

/// The rule word of a class for `selector`.
#[inline(always)]
fn rule_word<N: Nodes + ?Sized>(nodes: &N, class: u32, selector: Selector) -> Result<RuleWord, Corrupt> {
    let class_node = node(nodes, class / 2)?;
    let place = (selector.table as usize) * 2;
    let tag = class_node.half_word(class, place)?;
    let payload = class_node.half_word(class, place + 1)?;
    match tag {
        class_word::NONE => return Ok(RuleWord::NONE),
        class_word::ALL => return Ok(RuleWord(payload)),
        _ => {}
    }
    let levels = tag - class_word::TREE;
    if levels > SELECTOR_LEVELS {
        return Err(Corrupt);
    }
    let value = u64::from(selector.value);
    let mut at = payload;
    for level in 0..SELECTOR_LEVELS {
        if level >= levels {
            break;
        }
        let words = &node(nodes, at)?.words;
        at = words[15].wrapping_add(count_below::<15>(words, value));
    }
    let words = node(nodes, at)?;
    words
        .word(LEAF_RANGES / 2 + count_below::<{ LEAF_RANGES / 2 }>(&words.words, value) as usize)
        .map(RuleWord)
}

/// How many of the 16-bit ends in the first `PAIRS` words are below `value`.
#[inline(always)]
fn count_below<const PAIRS: usize>(words: &[u32; 16], value: u64) -> u32 {
    let mut less = 0;
    let mut index = 0;
    while index < PAIRS {
        let pair = u64::from(words[index]);
        less = sum(less, (below(pair & 0xffff, value) + below(pair >> 16, value)).into());
        index += 1;
    }
    less as u32
}

/// The table that answers for a protocol number of a family's packets.
#[inline(always)]
#[must_use]
pub const fn table(family: Family, protocol: u8) -> Table {
    match (protocol, family) {
        (6, _) => Table::Tcp,
        (17, _) => Table::Udp,
        (1, Family::V4) | (58, Family::V6) => Table::Icmp,
        _ => Table::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::RuleNumber;

    #[test]
    fn rule_words_carry_number_and_openness() {
        for number in [0, 1, RuleWord::MAX_RULE] {
            for anywhere in [false, true] {
                let word = RuleWord::new(RuleNumber(number), anywhere);
                assert_eq!(word.rule(), Some(RuleNumber(number)));
                assert_eq!(word.is_anywhere(), anywhere);
            }
        }
        assert_eq!(RuleWord::NONE.rule(), None);
    }

    #[test]
    fn a_header_survives_its_node_and_another_version_does_not() {
        let header = Header { nodes: 9, zones: 1, zone_count: 2, digest: [7; 8] };
        let mut node = header.to_node();
        assert_eq!(Header::from_node(&node), Ok(header));
        node.words[1] += 1;
        assert_eq!(Header::from_node(&node), Err(Corrupt));
    }

    #[test]
    fn references_outside_of_the_image_are_corrupt_not_open() {
        let header = Header { nodes: 2, zones: 1, zone_count: 1, digest: [0; 8] };
        let mut zone_node = Node::ZERO;
        zone_node.words[zone_word::MARK] = zone_mark(0);
        zone_node.words[zone_word::RULE_SETS] = 1000;
        let nodes = [header.to_node(), zone_node];
        let zone = zone(&nodes[..], 0).unwrap();
        let selector = Selector { table: Table::Tcp, value: 443 };
        let answer = rule(&nodes[..], zone, Direction::Inbound, Addr::v4(1), selector);
        assert_eq!(answer, Err(Corrupt));
        assert_eq!(super::zone(&nodes[..], 1), Err(Corrupt), "past the end");
        // Zone 0's record is not zone 1's, and what is none is nobody's.
        let nodes = [header.to_node(), zone_node, zone_node, Node::ZERO];
        assert_eq!(super::zone(&nodes[..], 1), Err(Corrupt));
        assert_eq!(super::zone(&nodes[..], 2), Err(Corrupt));
    }
}
