//! Writes intervals of addresses as a rule set in the image's form: see [`sg_common::image`].

use sg_common::image::{KEYS_V4, KEYS_V6, LEVELS_V4, LEVELS_V6, Node, class_word};

use super::{
    arena::{Arena, Full, Half},
    sweep::{Address, Interval},
};

/// Why intervals cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unplanted {
    /// The image is full.
    Full,
    /// More intervals than a lookup has levels for.
    TooDeep { intervals: usize, limit: usize },
}

impl From<Full> for Unplanted {
    fn from(Full: Full) -> Self {
        Self::Full
    }
}

/// A key of a tree: an IPv4 address, or half of an IPv6 address.
trait Key: Copy {
    const PER_NODE: usize;
    const LEVELS: u32;
    const LAST: Self;
    fn write(self, node: &mut Node, place: usize);
}

impl Key for u32 {
    const PER_NODE: usize = KEYS_V4 as usize;
    const LEVELS: u32 = LEVELS_V4;
    const LAST: Self = Self::MAX;

    fn write(self, node: &mut Node, place: usize) {
        node.words[place] = self;
    }
}

impl Key for u64 {
    const PER_NODE: usize = KEYS_V6 as usize;
    const LEVELS: u32 = LEVELS_V6;
    const LAST: Self = Self::MAX;

    fn write(self, node: &mut Node, place: usize) {
        node.words[place * 2] = self as u32;
        node.words[place * 2 + 1] = (self >> 32) as u32;
    }
}

/// Addresses whose intervals can be written.
pub(super) trait Plant: Address {
    /// A rule set over `intervals`, which cover the family.
    fn plant(arena: &mut Arena, intervals: &[Interval<Self>]) -> Result<Half, Unplanted>;
}

impl Plant for u32 {
    fn plant(arena: &mut Arena, intervals: &[Interval<Self>]) -> Result<Half, Unplanted> {
        let numbering = Numbering::of(intervals.iter().map(|interval| interval.class), 0, arena);
        tree(arena, intervals, numbering).map(|tree| rule_set(tree, numbering))
    }
}

impl Plant for u128 {
    fn plant(arena: &mut Arena, intervals: &[Interval<Self>]) -> Result<Half, Unplanted> {
        let Split { tops, lows } = Split::of(intervals);
        let cuts = tops.iter().filter(|top| matches!(top.within, Within::Cut { .. })).count();
        let numbering = Numbering::of(intervals.iter().map(|interval| interval.class), cuts, arena);
        let mut whole: Vec<Interval<u64>> = Vec::with_capacity(tops.len());
        for Top { end, within } in tops {
            let class = match within {
                Within::Whole(class) => class,
                Within::Cut { from, to } => {
                    let half = cut(arena, &lows[from..to], numbering)?;
                    arena.class(half)?
                }
            };
            match whole.last_mut() {
                Some(last) if last.class == class => last.end = end,
                _ => whole.push(Interval { end, class }),
            }
        }
        tree(arena, &whole, numbering).map(|tree| rule_set(tree, numbering))
    }
}

/// The class of one high half: `lows` cover its low halves and are at least two.
fn cut(arena: &mut Arena, lows: &[Interval<u64>], numbering: Numbering) -> Result<Half, Unplanted> {
    let (first, run, outside) = match lows {
        [run, outside] => (0, run, outside),
        [before, run, after] if before.class == after.class => (before.end + 1, run, before),
        _ => {
            let [keys, key_nodes, values] = tree(arena, lows, numbering)?;
            return Ok([class_word::SUBTREE, keys, key_nodes, values, 0, 0, 0, 0]);
        }
    };
    let [inside, outside] = [run, outside].map(|interval| numbering.relative(interval.class));
    let words = |half: u64| [half as u32, (half >> 32) as u32];
    let ([first_low, first_high], [last_low, last_high]) = (words(first), words(run.end));
    Ok([class_word::RUN, first_low, first_high, last_low, last_high, inside, outside, 0])
}

fn rule_set([keys, key_nodes, values]: [u32; 3], numbering: Numbering) -> Half {
    [keys, key_nodes, values, numbering.base, numbering.wide.into(), 0, 0, 0]
}

/// How a rule set writes class numbers: from which class they count, and in how many bits.
#[derive(Clone, Copy, Debug)]
struct Numbering {
    base: u32,
    wide: bool,
}

impl Numbering {
    /// For these classes and `more` that are still to come.
    ///
    /// Counting from 0 lets rule sets share their values; where that takes more than 16 bits,
    /// counting from the lowest class may not. Classes to come can have any number.
    fn of(classes: impl Iterator<Item = u32>, more: usize, arena: &Arena) -> Self {
        let (mut low, mut high) = (u32::MAX, 0);
        for class in classes.filter(|class| *class != 0) {
            low = low.min(class);
            high = high.max(class);
        }
        if more > 0 {
            low = 0;
            high = u32::try_from(arena.classes() + more).unwrap_or(u32::MAX);
        }
        let narrow = u32::from(u16::MAX);
        match low.saturating_sub(1) {
            _ if high <= narrow => Self { base: 0, wide: false },
            base if high - base <= narrow => Self { base, wide: false },
            _ => Self { base: 0, wide: true },
        }
    }

    fn relative(self, class: u32) -> u32 {
        if class == 0 { 0 } else { class - self.base }
    }
}

/// The first key node, how many there are, and the first value node; for a single interval, no key
/// nodes and its class.
fn tree<K: Key>(
    arena: &mut Arena,
    intervals: &[Interval<K>],
    numbering: Numbering,
) -> Result<[u32; 3], Unplanted> {
    let last = match intervals {
        [] => return Ok([0, 0, 0]),
        [only] => return Ok([0, 0, numbering.relative(only.class)]),
        [.., last] => numbering.relative(last.class),
    };
    let children = K::PER_NODE + 1;
    let limit = (children.pow(K::LEVELS) - 1) / (children - 1) * K::PER_NODE;
    if intervals.len() > limit {
        return Err(Unplanted::TooDeep { intervals: intervals.len(), limit });
    }
    let nodes = intervals.len().div_ceil(K::PER_NODE);
    let mut filling = Filling {
        keys: vec![Node::ZERO; nodes],
        values: vec![last; nodes * K::PER_NODE],
        rest: intervals.iter(),
        numbering,
    };
    filling.node(0);
    let values = pack(&filling.values, numbering.wide);
    // There are at most 43 million key nodes.
    Ok([arena.block(&filling.keys)?, nodes as u32, arena.block(&values)?])
}

/// Hands out keys in order to the places of a static B-tree.
struct Filling<'a, K> {
    keys: Vec<Node>,
    values: Vec<u32>,
    rest: std::slice::Iter<'a, Interval<K>>,
    numbering: Numbering,
}

impl<K: Key> Filling<'_, K> {
    /// Fills node `at` and everything below it.
    fn node(&mut self, at: usize) {
        let first_child = at * (K::PER_NODE + 1) + 1;
        for place in 0..K::PER_NODE {
            if first_child + place < self.keys.len() {
                self.node(first_child + place);
            }
            match self.rest.next() {
                Some(interval) => {
                    interval.end.write(&mut self.keys[at], place);
                    self.values[at * K::PER_NODE + place] = self.numbering.relative(interval.class);
                }
                None => K::LAST.write(&mut self.keys[at], place),
            }
        }
        if first_child + K::PER_NODE < self.keys.len() {
            self.node(first_child + K::PER_NODE);
        }
    }
}

/// Values side by side, 16 or 32 bits wide.
fn pack(values: &[u32], wide: bool) -> Vec<Node> {
    let per_node = if wide { 16 } else { 32 };
    values
        .chunks(per_node)
        .map(|values| {
            let mut node = Node::ZERO;
            for (place, value) in values.iter().enumerate() {
                if wide {
                    node.words[place] = *value;
                } else {
                    node.words[place / 2] |= *value << (place % 2 * 16);
                }
            }
            node
        })
        .collect()
}

/// IPv6 intervals by high half, and those within one high half by low half.
struct Split {
    tops: Vec<Top>,
    lows: Vec<Interval<u64>>,
}

struct Top {
    end: u64,
    within: Within,
}

/// What the low halves of a run of high halves get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Within {
    /// All the same class.
    Whole(u32),
    /// What these elements of [`Split::lows`] say. The run is one high half.
    Cut { from: usize, to: usize },
}

impl Split {
    fn of(intervals: &[Interval<u128>]) -> Self {
        let mut split = Self { tops: Vec::with_capacity(intervals.len()), lows: Vec::new() };
        // Where the cut of the current high half begins in `lows`, while there is one.
        let mut cut: Option<usize> = None;
        let mut first: u128 = 0;
        for Interval { end, class } in intervals.iter().copied() {
            let (first_high, high, low) = ((first >> 64) as u64, (end >> 64) as u64, end as u64);
            first = end.wrapping_add(1);
            if let Some(from) = cut {
                let ends_here = high == first_high && low != u64::MAX;
                let end = if high == first_high { low } else { u64::MAX };
                split.lows.push(Interval { end, class });
                if ends_here {
                    continue;
                }
                split.tops.push(Top { end: first_high, within: Within::Cut { from, to: split.lows.len() } });
                cut = None;
                if high == first_high {
                    continue;
                }
            }
            if low == u64::MAX {
                split.whole(high, class);
                continue;
            }
            if let Some(before) = high.checked_sub(1) {
                split.whole(before, class);
            }
            cut = Some(split.lows.len());
            split.lows.push(Interval { end: low, class });
        }
        split
    }

    /// Up to and including `end`, what has no answer yet is of `class`.
    fn whole(&mut self, end: u64, class: u32) {
        if self.tops.last().is_none_or(|last| last.end < end) {
            self.tops.push(Top { end, within: Within::Whole(class) });
        }
    }
}
