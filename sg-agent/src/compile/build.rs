//! Puts the parts of an image together: rule sets for every union of groups, a record for every
//! zone, the header.

use std::collections::HashMap;

use sg_common::{
    addr::{Family, Prefix},
    image::{ETHERTYPES_MAX, MACS_MAX, Node, ZONES, flag, rule_set_slot, zone_mark, zone_word},
    tuple::Direction,
};

use super::{
    CompileError, Input, Limits, Zone,
    address_tree::{Plant, Unplanted},
    arena::{Arena, OWN_CLASS},
    classes::Classes,
    sweep::{Claim, Swept, sweep},
    union::Union,
};
use crate::{
    image::{Image, Stats},
    policy::{GroupIndex, Mode, Side},
};

/// A rule set's number in the arena; `None` opens nothing.
type RuleSet = Option<u32>;

/// One direction and family of a union of groups.
#[derive(Clone, Copy, Default)]
struct Compiled {
    rule_set: RuleSet,
    /// TCP and UDP: whether every port is open to any address.
    opens_all: [bool; 2],
}

/// A zone's record before the rule sets have their place.
#[derive(Default)]
struct ZoneRecord {
    flags: u32,
    rule_sets: [RuleSet; 4],
    own: [RuleSet; 2],
    ethertypes: Vec<u16>,
    /// The node with the Ethernet addresses, or 0.
    macs: u32,
}

/// The image under construction.
pub(super) struct Build<'a> {
    input: Input<'a>,
    limit: u32,
    arena: Arena,
    zones: Vec<ZoneRecord>,
    /// By family, as [`Family::ALL`].
    unions: HashMap<(Vec<GroupIndex>, Direction), [Compiled; 2]>,
    largest: Largest,
    stats: Stats,
}

/// What took most nodes so far.
struct Largest {
    nodes: usize,
    name: String,
}

impl<'a> Build<'a> {
    pub(super) fn new(input: Input<'a>, limits: &Limits) -> Self {
        let limit = limits.nodes.min(Limits::MAX.nodes);
        // Going on beyond the limit tells how much is wanted, but memory is finite.
        let ceiling = (limit as usize).saturating_mul(2).min(Limits::MAX.nodes as usize);
        Self {
            input,
            limit,
            arena: Arena::new(1 + input.zones.len(), ceiling),
            zones: Vec::with_capacity(input.zones.len()),
            unions: HashMap::new(),
            largest: Largest { nodes: 0, name: "the zones' records".to_owned() },
            stats: Stats { rules: input.policy.rules().count(), ..Stats::default() },
        }
    }

    /// Adds the zone of the next number, which is `number`.
    pub(super) fn zone(&mut self, number: usize, zone: Option<&Zone>) -> Result<(), CompileError> {
        let Some(zone) = zone else {
            self.zones.push(ZoneRecord::default());
            return Ok(());
        };
        let mut groups = zone.groups.clone();
        groups.sort_unstable();
        groups.dedup();
        let known = self.input.policy.groups.len();
        if let Some(group) = groups.last().copied().filter(|group| group.0 >= known) {
            return Err(CompileError::NoSuchGroup { zone: number, group, groups: known });
        }
        let mut ethertypes = zone.ethertypes.clone();
        ethertypes.sort_unstable();
        ethertypes.dedup();
        if ethertypes.len() > ETHERTYPES_MAX {
            return Err(CompileError::TooManyEthertypes { zone: number, found: ethertypes.len() });
        }
        let mut record = ZoneRecord { flags: switches(zone), ethertypes, ..ZoneRecord::default() };
        for direction in Direction::ALL {
            for (family, compiled) in Family::ALL.into_iter().zip(self.union(&groups, direction)?) {
                let slot = rule_set_slot(direction, family);
                record.rule_sets[slot] = compiled.rule_set;
                for (first, open) in [flag::OPEN_TCP, flag::OPEN_UDP].into_iter().zip(compiled.opens_all) {
                    record.flags |= if open { first << slot } else { 0 };
                }
            }
        }
        record.own = self.named(
            || format!("zone {number}'s own addresses"),
            |build| Ok([build.own::<u32>(&zone.own)?, build.own::<u128>(&zone.own)?]),
        )?;
        record.macs = self.macs(number, zone)?;
        self.zones.push(record);
        Ok(())
    }

    /// The node with a zone's Ethernet addresses, or 0 where any may be used.
    fn macs(&mut self, number: usize, zone: &Zone) -> Result<u32, CompileError> {
        let mut macs = zone.macs.clone();
        macs.sort_unstable();
        macs.dedup();
        let Some(first) = macs.first() else { return Ok(0) };
        if macs.len() > MACS_MAX {
            return Err(CompileError::TooManyMacs { zone: number, found: macs.len() });
        }
        let mut node = Node::ZERO;
        let listed = macs.iter().chain(std::iter::repeat(first));
        for (words, mac) in node.words.chunks_exact_mut(2).zip(listed) {
            words.copy_from_slice(&[(mac.to_bits() >> 32) as u32, mac.to_bits() as u32]);
        }
        self.arena.block(&[node]).map_err(|_| self.too_large(false))
    }

    /// One direction of a union of groups, which are sorted.
    fn union(&mut self, groups: &[GroupIndex], direction: Direction) -> Result<[Compiled; 2], CompileError> {
        let key = (groups.to_vec(), direction);
        if let Some(compiled) = self.unions.get(&key) {
            return Ok(*compiled);
        }
        let input = self.input;
        let union = Union::of(&input, groups, direction)
            .map_err(|rule| CompileError::RuleNumber { rule: input.policy.rule_name(rule) })?;
        let name = || {
            let groups = groups.iter().filter_map(|group| input.policy.groups.get(group.0));
            let names: Vec<_> = groups.map(|group| group.name.as_str()).collect();
            format!("{direction} of {}", names.join(" with "))
        };
        let compiled =
            self.named(name, |build| Ok([build.rules::<u32>(&union)?, build.rules::<u128>(&union)?]))?;
        self.unions.insert(key, compiled);
        Ok(compiled)
    }

    /// Does a part of the build that a refusal would name.
    fn named<T>(
        &mut self,
        name: impl Fn() -> String,
        part: impl FnOnce(&mut Self) -> Result<T, (Family, Unplanted)>,
    ) -> Result<T, CompileError> {
        let before = self.arena.len();
        let done = part(self);
        let nodes = self.arena.len() - before;
        if nodes > self.largest.nodes {
            self.largest = Largest { nodes, name: name() };
        }
        done.map_err(|(family, unplanted)| match unplanted {
            Unplanted::Full => self.too_large(false),
            Unplanted::TooDeep { intervals, limit } => {
                CompileError::TooManyIntervals { of: name(), family, intervals, limit }
            }
        })
    }

    fn too_large(&self, exact: bool) -> CompileError {
        let Self { limit, ref largest, ref arena, .. } = *self;
        CompileError::TooLarge { wanted: arena.len(), exact, limit, largest: largest.name.clone() }
    }

    fn rules<A: Plant>(&mut self, union: &Union<'_>) -> Result<Compiled, (Family, Unplanted)> {
        let mut classes = Classes::new(union, A::FAMILY, &mut self.arena);
        let swept = sweep(union.claims::<A>(), |entered| classes.enter(&entered));
        let opens_all = classes.opens_all;
        Ok(Compiled { rule_set: self.plant(swept.map_err(Unplanted::from))?, opens_all })
    }

    fn own<A: Plant>(&mut self, own: &[Prefix]) -> Result<RuleSet, (Family, Unplanted)> {
        let own = own.iter().filter(|prefix| prefix.family() == A::FAMILY);
        let claims = own.map(|prefix| Claim::<A>::new(*prefix, 0)).collect();
        self.plant(sweep(claims, |_| Ok(OWN_CLASS)))
    }

    fn plant<A: Plant>(
        &mut self,
        swept: Result<Swept<A>, Unplanted>,
    ) -> Result<RuleSet, (Family, Unplanted)> {
        let planted = swept.and_then(|Swept { intervals, prefixes }| {
            self.stats.prefixes += prefixes;
            if intervals.iter().all(|interval| interval.class == 0) {
                return Ok(None);
            }
            self.stats.intervals += intervals.len();
            let half = A::plant(&mut self.arena, &intervals)?;
            Ok(Some(self.arena.rule_set(half)?))
        });
        planted.map_err(|unplanted| (A::FAMILY, unplanted))
    }

    /// The whole image.
    pub(super) fn finish(self) -> Result<Image, CompileError> {
        if self.arena.len() > self.limit as usize {
            return Err(self.too_large(true));
        }
        let refusal = self.too_large(true);
        let Self { mut stats, arena, zones, .. } = self;
        stats.classes = arena.classes();
        let (mut nodes, first_set) = arena.finish().map_err(|_| refusal)?;
        for ((number, zone), node) in (0..).zip(&zones).zip(&mut nodes[ZONES as usize..]) {
            *node = zone.to_node(number, first_set);
        }
        Ok(Image::seal(nodes, zones.len(), stats))
    }
}

impl ZoneRecord {
    /// The record of zone `number`, when rule set 0 has half number `first_set`.
    fn to_node(&self, number: u32, first_set: u32) -> Node {
        let mut node = Node::ZERO;
        node.words[zone_word::MARK] = zone_mark(number);
        let half = |set: &RuleSet| set.map_or(0, |set| first_set + set);
        node.words[zone_word::FLAGS] = self.flags;
        for (word, set) in node.words[zone_word::RULE_SETS..].iter_mut().zip(&self.rule_sets) {
            *word = half(set);
        }
        for (word, set) in node.words[zone_word::OWN..].iter_mut().zip(&self.own) {
            *word = half(set);
        }
        for (word, pair) in node.words[zone_word::ETHERTYPES..].iter_mut().zip(self.ethertypes.chunks(2)) {
            *word = pair.iter().rev().fold(0, |word, ethertype| word << 16 | u32::from(*ethertype));
        }
        node.words[zone_word::MACS] = self.macs;
        node
    }
}

/// The flags that a zone's entry states; what its rules open is not among them.
fn switches(zone: &Zone) -> u32 {
    let Zone { side, mode, source_check, infrastructure, own, .. } = zone;
    [
        (!own.iter().any(|prefix| prefix.first().is_link_local()), flag::ANY_LINK_LOCAL),
        (*side == Side::Guest, flag::GUEST),
        (*mode == Mode::Audit, flag::AUDIT),
        (*source_check, flag::SOURCE_CHECK),
        (infrastructure.arp, flag::ARP),
        (infrastructure.ndp, flag::NDP),
        (infrastructure.dhcp, flag::DHCP),
        (infrastructure.mld, flag::MLD),
    ]
    .into_iter()
    .fold(0, |flags, (on, bit)| if on { flags | bit } else { flags })
}
