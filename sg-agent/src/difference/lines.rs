//! Who gains and who loses what, merged: addresses that gain the same make one line.

use std::collections::{HashMap, VecDeque};

use sg_common::addr::{Family, Prefix};

use super::{Addresses, selectors};
use crate::{
    compile::{Access, Opened, Ports},
    explain::words,
    policy::{Peer, Policy},
};

/// The services that some addresses gain or lose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// By family: what is gained or lost, and by whom.
    parts: [Option<Part>; 2],
}

/// Addresses of one family, and what they gain or lose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) opened: Opened,
    pub(super) addresses: Addresses,
}

impl Line {
    #[cfg(test)]
    pub(super) fn parts(&self) -> impl Iterator<Item = &Part> {
        self.parts.iter().flatten()
    }

    fn rank(&self) -> Option<[(bool, &[Ports]); 4]> {
        self.parts.iter().flatten().next().map(|part| rank(&part.opened))
    }

    /// The services, in the policy's language.
    #[must_use]
    pub fn services(&self) -> Vec<String> {
        selectors::services([0, 1].map(|family| self.parts[family].as_ref().map(|part| &part.opened)))
    }

    /// The addresses in the policy's language, at most `limit` of them, and how many more there are.
    #[must_use]
    pub fn addresses(&self, limit: usize) -> (Vec<String>, u64) {
        let all = || self.parts.iter().flatten().flat_map(|part| part.addresses.prefixes());
        if all().eq([Prefix::ANY_V4, Prefix::ANY_V6]) {
            return (vec!["anywhere".to_owned()], 0);
        }
        let nowhere = Policy::default();
        let word = |prefix| words::peer(&nowhere, Peer::Prefix(prefix));
        let mut prefixes = all();
        (prefixes.by_ref().take(limit).map(word).collect(), prefixes.count() as u64)
    }
}

/// What one family's addresses gain and lose.
#[derive(Debug, Default)]
pub(super) struct Parts {
    pub(super) gains: Vec<Part>,
    pub(super) losses: Vec<Part>,
}

/// Walks both at once. Costs as much as they have runs, and once for each pair of classes that meets.
pub(super) fn parts(family: Family, before: &Access, after: &Access) -> Parts {
    let mut known: HashMap<(usize, usize), [Option<usize>; 2]> = HashMap::new();
    let (mut gains, mut losses) = (Gathered::default(), Gathered::default());
    let (mut old, mut new) = (before.runs.iter().peekable(), after.runs.iter().peekable());
    let mut first = 0;
    while let (Some((old_end, old_class)), Some((new_end, new_class))) = (old.peek(), new.peek()) {
        let last = *old_end.min(new_end);
        let numbers = known.entry((*old_class, *new_class)).or_insert_with(|| {
            let (old, new) = (&before.classes[*old_class], &after.classes[*new_class]);
            match old == new {
                true => [None, None],
                false => [gains.number(selectors::less(new, old)), losses.number(selectors::less(old, new))],
            }
        });
        let [gained, lost] = *numbers;
        gains.add(gained, first, last);
        losses.add(lost, first, last);
        old.next_if(|(end, _)| *end == last);
        new.next_if(|(end, _)| *end == last);
        first = last.wrapping_add(1);
    }
    Parts { gains: gains.parts(family), losses: losses.parts(family) }
}

/// Addresses by what they gain, or lose.
#[derive(Default)]
struct Gathered {
    numbers: HashMap<Opened, usize>,
    ranges: Vec<Vec<(u128, u128)>>,
}

impl Gathered {
    fn number(&mut self, opened: Opened) -> Option<usize> {
        if selectors::is_nothing(&opened) {
            return None;
        }
        let next = self.ranges.len();
        let number = *self.numbers.entry(opened).or_insert(next);
        if number == next {
            self.ranges.push(Vec::new());
        }
        Some(number)
    }

    fn add(&mut self, number: Option<usize>, first: u128, last: u128) {
        let Some(ranges) = number.and_then(|number| self.ranges.get_mut(number)) else { return };
        match ranges.last_mut() {
            Some(before) if before.1.checked_add(1) == Some(first) => before.1 = last,
            _ => ranges.push((first, last)),
        }
    }

    fn parts(mut self, family: Family) -> Vec<Part> {
        let take = |(opened, number): (Opened, usize)| Part {
            opened,
            addresses: Addresses::of(family, std::mem::take(&mut self.ranges[number])),
        };
        let mut parts: Vec<Part> = self.numbers.into_iter().map(take).collect();
        parts.sort_unstable_by(|a, b| rank(&a.opened).cmp(&rank(&b.opened)));
        parts
    }
}

/// TCP before UDP, ICMP and the rest; low ports before high ones.
fn rank(opened: &Opened) -> [(bool, &[Ports]); 4] {
    [0, 1, 2, 3].map(|table| (opened.0[table].is_empty(), &opened.0[table][..]))
}

/// Makes lines of the parts of both families. Where IPv4 and IPv6 addresses gain the same but for the
/// names of their ICMP, they share a line.
pub(super) fn joined(v4: Vec<Part>, v6: Vec<Part>) -> Vec<Line> {
    /// All but ICMP, and whether there is some.
    type Key = ([Vec<Ports>; 3], bool);
    let key = |part: &Part| -> Key {
        let [tcp, udp, icmp, other] = &part.opened.0;
        ([tcp.clone(), udp.clone(), other.clone()], icmp.is_empty())
    };
    let mut alike: HashMap<Key, VecDeque<usize>> = HashMap::new();
    for (index, part) in v6.iter().enumerate() {
        alike.entry(key(part)).or_default().push_back(index);
    }
    let mut v6: Vec<Option<Part>> = v6.into_iter().map(Some).collect();
    let mut lines: Vec<Line> = v4
        .into_iter()
        .map(|part| {
            let twin = alike.get_mut(&key(&part)).and_then(VecDeque::pop_front);
            let twin = twin.and_then(|index| v6.get_mut(index)).and_then(Option::take);
            Line { parts: [Some(part), twin] }
        })
        .collect();
    lines.extend(v6.into_iter().flatten().map(|part| Line { parts: [None, Some(part)] }));
    lines.sort_by(|a, b| a.rank().cmp(&b.rank()));
    lines
}
