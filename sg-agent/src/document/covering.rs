//! Finds rules that another rule of the same group and direction covers whole.
//!
//! Rules are compared as sets: (services × peers) of both families, where a group is only covered
//! by itself or by its whole family, since who carries it changes. A set that only several rules
//! together cover is not found, nor an address range that only a list and other peers together do.

use std::collections::{BTreeSet, HashMap};

use sg_common::{
    addr::{Addr, Family, Prefix},
    tuple::Table,
};

use crate::policy::{GroupIndex, Peer, Policy, PrefixListIndex, Rule};

/// Disjoint address ranges in order, first and last inclusive, neighbours joined.
type Ranges = Vec<(Addr, Addr)>;

/// The address ranges of every prefix list, by family.
pub(super) struct Lists {
    ranges: Vec<[Ranges; 2]>,
    /// The fewest blocks that make up each list, with the list, in order.
    blocks: Vec<(Prefix, PrefixListIndex)>,
    lengths: Lengths,
}

impl Lists {
    pub(super) fn new(policy: &Policy) -> Self {
        let ranges: Vec<_> = policy
            .prefix_lists
            .iter()
            .map(|list| Family::ALL.map(|family| joined(list.entries.iter().copied(), family)))
            .collect();
        let mut all = Vec::new();
        let mut lengths = Lengths::default();
        for (index, list) in ranges.iter().enumerate() {
            for block in list.iter().flatten().flat_map(|range| blocks(*range)) {
                lengths.add(block);
                all.push((block, PrefixListIndex(index)));
            }
        }
        // Stable, because that is quick where most is in order: each list is.
        all.sort();
        Self { ranges, blocks: all, lengths }
    }

    /// The lists that have exactly this block.
    fn holders(&self, block: Prefix) -> impl Iterator<Item = PrefixListIndex> {
        let first = self.blocks.partition_point(|(other, _)| *other < block);
        let from = self.blocks.get(first..).unwrap_or_default();
        from.iter().take_while(move |(other, _)| *other == block).map(|(_, list)| *list)
    }

    fn of(&self, list: PrefixListIndex, family: Family) -> &[(Addr, Addr)] {
        self.ranges.get(list.0).map_or(&[], |ranges| &ranges[family as usize])
    }
}

/// How long some blocks are: what is not among them need not be looked for.
#[derive(Clone, Copy, Default)]
struct Lengths([[u64; 3]; 2]);

impl Lengths {
    fn add(&mut self, block: Prefix) {
        let length = usize::from(block.length());
        self.0[block.family() as usize][length / 64] |= 1 << (length % 64);
    }

    fn has(&self, family: Family, length: u8) -> bool {
        let length = usize::from(length);
        self.0[family as usize][length / 64] >> (length % 64) & 1 == 1
    }
}

/// A rule as a set, by family.
struct Shape {
    services: [Vec<(Table, u16, u16)>; 2],
    own: [Ranges; 2],
    lists: BTreeSet<PrefixListIndex>,
    groups: BTreeSet<GroupIndex>,
}

impl Shape {
    fn new(rule: &Rule) -> Self {
        let prefixes = || {
            rule.peers.iter().filter_map(|peer| match peer {
                Peer::Prefix(prefix) => Some(*prefix),
                Peer::PrefixList(_) | Peer::Group(_) => None,
            })
        };
        Self {
            services: Family::ALL.map(|family| services(rule, family)),
            own: Family::ALL.map(|family| joined(prefixes(), family)),
            lists: rule
                .peers
                .iter()
                .filter_map(|peer| if let Peer::PrefixList(list) = peer { Some(*list) } else { None })
                .collect(),
            groups: rule
                .peers
                .iter()
                .filter_map(|peer| if let Peer::Group(group) = peer { Some(*group) } else { None })
                .collect(),
        }
    }

    /// The lists with addresses of the family.
    fn lists<'l>(&'l self, lists: &'l Lists, family: Family) -> impl Iterator<Item = PrefixListIndex> + 'l {
        self.lists.iter().copied().filter(move |list| !lists.of(*list, family).is_empty())
    }

    /// Whether the rule opens anything in the family.
    fn is_live(&self, lists: &Lists, family: Family) -> bool {
        !self.services[family as usize].is_empty()
            && (!self.groups.is_empty()
                || !self.own[family as usize].is_empty()
                || self.lists(lists, family).next().is_some())
    }

    /// Whether the rule's peers hold all of the range.
    fn holds(&self, range: (Addr, Addr), lists: &Lists, family: Family) -> bool {
        within(&self.own[family as usize], range)
            || self.lists.iter().any(|list| within(lists.of(*list, family), range))
    }

    fn covers(&self, other: &Self, lists: &Lists, left: &mut usize) -> bool {
        Family::ALL.into_iter().all(|family| {
            if !other.is_live(lists, family) {
                return true;
            }
            let services = other.services[family as usize].iter().all(|(table, first, last)| {
                self.services[family as usize]
                    .iter()
                    .any(|(own, from, to)| own == table && from <= first && last <= to)
            });
            if !services {
                return false;
            }
            let any = (Prefix::any(family).first(), Prefix::any(family).last());
            let groups = other.groups.is_subset(&self.groups) || self.holds(any, lists, family);
            groups
                && other.own[family as usize].iter().all(|range| {
                    *left = left.saturating_sub(1);
                    self.holds(*range, lists, family)
                })
                && other.lists(lists, family).all(|list| {
                    self.lists.contains(&list)
                        || lists.of(list, family).iter().all(|range| {
                            *left = left.saturating_sub(1);
                            self.holds(*range, lists, family)
                        })
                })
        })
    }
}

/// Something that a rule may name, and a table that it opens there.
type Key = (Peer, Table);

/// The rules behind one key: intervals of the table's values, by their first.
#[derive(Default)]
struct Intervals {
    /// First, last, rule.
    sorted: Vec<(u16, u16, usize)>,
    /// The greatest last up to here.
    reach: Vec<u16>,
}

/// For every rule that another covers, the two indices, the covering one second. Of equal rules,
/// the first stays. The search ends when `left` comparisons are used up.
pub(super) fn covered(rules: &[Rule], lists: &Lists, left: &mut usize) -> Vec<(usize, usize)> {
    if rules.len() < 2 {
        return Vec::new();
    }
    let shapes: Vec<_> = rules.iter().map(Shape::new).collect();
    let (index, lengths) = index(&shapes, lists);
    let mut found = Vec::new();
    // Rules of one list follow each other, or alternate with those of few others.
    let mut of_lists: HashMap<(PrefixListIndex, Family), Vec<Peer>> = HashMap::new();
    for (number, shape) in shapes.iter().enumerate() {
        if *left == 0 {
            break;
        }
        let Some(family) = Family::ALL.into_iter().find(|family| shape.is_live(lists, *family)) else {
            continue;
        };
        let Some(&(table, first, last)) = shape.services[family as usize].first() else { continue };
        let own;
        let first_list = shape.lists(lists, family).next();
        let keys = match first_list.filter(|_| shape.own[family as usize].is_empty()) {
            Some(list) => {
                &*of_lists.entry((list, family)).or_insert_with(|| keys(shape, lists, &lengths, family))
            }
            None => {
                own = keys(shape, lists, &lengths, family);
                &own
            }
        };
        let by = keys.iter().find_map(|peer| {
            let intervals = index.get(&(*peer, table))?;
            intervals.around(first, last, left).find_map(|(by, left)| {
                let other = shapes.get(by).filter(|_| by != number)?;
                (other.covers(shape, lists, left) && (by < number || !shape.covers(other, lists, left)))
                    .then_some(by)
            })
        });
        found.extend(by.map(|by| (number, by)));
    }
    found
}

impl Intervals {
    /// The rules whose interval holds all of `first..=last`, with what is left of the search.
    fn around<'i, 'l>(&'i self, first: u16, last: u16, left: &'l mut usize) -> Around<'i, 'l> {
        let end = self.sorted.partition_point(|(from, _, _)| *from <= first);
        Around { intervals: self, end, last, left }
    }
}

struct Around<'i, 'l> {
    intervals: &'i Intervals,
    end: usize,
    last: u16,
    left: &'l mut usize,
}

impl Around<'_, '_> {
    fn find_map<T>(mut self, mut test: impl FnMut((usize, &mut usize)) -> Option<T>) -> Option<T> {
        while self.end > 0 && *self.left > 0 {
            *self.left -= 1;
            self.end -= 1;
            let (Some((_, to, rule)), Some(reach)) =
                (self.intervals.sorted.get(self.end), self.intervals.reach.get(self.end))
            else {
                return None;
            };
            if *reach < self.last {
                return None;
            }
            if *to >= self.last
                && let Some(found) = test((*rule, self.left))
            {
                return Some(found);
            }
        }
        None
    }
}

/// Under which peers a rule that covers `shape` must be found: those that hold its first peer. Rules
/// have blocks of these lengths for peers.
fn keys(shape: &Shape, lists: &Lists, lengths: &Lengths, family: Family) -> Vec<Peer> {
    let mut keys = Vec::new();
    let own = shape.own[family as usize].first().copied();
    let first_list = shape.lists(lists, family).next();
    let block = match (own, first_list, shape.groups.first()) {
        (Some(range), _, _) => blocks(range).next(),
        (None, Some(list), _) => {
            keys.push(Peer::PrefixList(list));
            lists.of(list, family).first().and_then(|range| blocks(*range).next())
        }
        (None, None, Some(group)) => {
            keys.push(Peer::Group(*group));
            Some(Prefix::any(family))
        }
        (None, None, None) => None,
    };
    let Some(block) = block else { return keys };
    for length in (0..=block.length()).rev() {
        let (in_rules, in_lists) = (lengths.has(family, length), lists.lengths.has(family, length));
        if !in_rules && !in_lists {
            continue;
        }
        let Some(above) = Prefix::new(block.first(), length) else { continue };
        if in_rules {
            keys.push(Peer::Prefix(above));
        }
        if in_lists {
            keys.extend(lists.holders(above).map(Peer::PrefixList));
        }
    }
    keys
}

fn index(shapes: &[Shape], lists: &Lists) -> (HashMap<Key, Intervals>, Lengths) {
    let mut index: HashMap<Key, Intervals> = HashMap::new();
    let mut lengths = Lengths::default();
    for (rule, shape) in shapes.iter().enumerate() {
        for family in Family::ALL {
            let blocks = shape.own[family as usize].iter().flat_map(|range| blocks(*range)).map(Peer::Prefix);
            let lists = shape.lists(lists, family).map(Peer::PrefixList);
            let groups = shape.groups.iter().copied().map(Peer::Group);
            for peer in blocks.chain(lists).chain(groups) {
                if let Peer::Prefix(block) = peer {
                    lengths.add(block);
                }
                for (table, first, last) in &shape.services[family as usize] {
                    index.entry((peer, *table)).or_default().sorted.push((*first, *last, rule));
                }
            }
        }
    }
    for intervals in index.values_mut() {
        // Of equal intervals, the rule written last comes first in the search, so sort it first.
        intervals
            .sorted
            .sort_unstable_by_key(|(first, last, rule)| (*first, *last, std::cmp::Reverse(*rule)));
        let mut reach = 0;
        intervals.reach.extend(intervals.sorted.iter().map(|(_, last, _)| {
            reach = reach.max(*last);
            reach
        }));
    }
    (index, lengths)
}

/// What the rule opens in a family: disjoint, in order, neighbours joined.
fn services(rule: &Rule, family: Family) -> Vec<(Table, u16, u16)> {
    let mut ranges: Vec<_> = rule.services.iter().flat_map(|service| service.ranges(family)).collect();
    ranges.sort_unstable();
    let mut joined: Vec<(Table, u16, u16)> = Vec::with_capacity(ranges.len());
    for (table, first, last) in ranges {
        match joined.last_mut() {
            Some((same, _, end)) if *same == table && first <= end.saturating_add(1) => *end = last.max(*end),
            _ => joined.push((table, first, last)),
        }
    }
    joined
}

fn joined(prefixes: impl Iterator<Item = Prefix>, family: Family) -> Ranges {
    let mut ranges: Vec<_> = prefixes
        .filter(|prefix| prefix.family() == family)
        .map(|prefix| (prefix.first(), prefix.last()))
        .collect();
    ranges.sort_unstable();
    let mut joined: Ranges = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match joined.last_mut() {
            Some((_, end)) if first.to_bits() <= end.to_bits().saturating_add(1) => *end = last.max(*end),
            _ => joined.push((first, last)),
        }
    }
    joined
}

fn within(ranges: &[(Addr, Addr)], (first, last): (Addr, Addr)) -> bool {
    let behind = ranges.partition_point(|(from, _)| *from <= first);
    behind.checked_sub(1).and_then(|before| ranges.get(before)).is_some_and(|(_, to)| last <= *to)
}

/// The fewest prefixes that make up a range.
fn blocks((first, last): (Addr, Addr)) -> impl Iterator<Item = Prefix> {
    let family = first.family();
    let mut next = Some(first);
    std::iter::from_fn(move || {
        let from = next?;
        // As large as its first address allows, and no larger than what is left. The bits above an
        // IPv4 address keep the first of these at 32.
        let aligned = from.to_bits().trailing_zeros();
        let left = last.to_bits().checked_sub(from.to_bits())?;
        let fitting = left.checked_add(1).map_or(u128::BITS, u128::ilog2);
        let host_bits = u8::try_from(aligned.min(fitting)).ok()?;
        let block = Prefix::new(from, family.bits().checked_sub(host_bits)?)?;
        let end = block.last();
        next = (end < last).then(|| Addr::from_bits(end.to_bits().wrapping_add(1)));
        Some(block)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn prefix(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    #[test]
    fn ranges_are_cut_into_the_fewest_blocks() {
        for (prefixes, expected) in [
            (&["10.0.0.0/25", "10.0.0.128/25"][..], &["10.0.0.0/24"][..]),
            (&["10.0.0.1", "10.0.0.2", "10.0.0.3"], &["10.0.0.1/32", "10.0.0.2/31"]),
            (&["0.0.0.0/1", "128.0.0.0/1"], &["0.0.0.0/0"]),
            (&["::/1", "8000::/1"], &["::/0"]),
            (&["10.0.0.0/8", "10.1.0.0/16"], &["10.0.0.0/8"]),
        ] {
            let family = prefix(prefixes[0]).family();
            let ranges = joined(prefixes.iter().map(|text| prefix(text)), family);
            let found: Vec<_> = ranges.into_iter().flat_map(blocks).map(|block| block.to_string()).collect();
            assert_eq!(found, expected, "{prefixes:?}");
        }
    }

    proptest! {
        #[test]
        fn blocks_are_the_range(a in any::<u32>(), b in any::<u32>()) {
            let (first, last) = (Addr::v4(a.min(b)), Addr::v4(a.max(b)));
            let blocks: Vec<_> = blocks((first, last)).collect();
            prop_assert_eq!(joined(blocks.iter().copied(), Family::V4), vec![(first, last)]);
            prop_assert!(blocks.len() <= 62);
        }
    }
}
