//! Cuts one family's addresses into intervals that the same prefixes cover.
//!
//! Two prefixes are nested or apart, never half over each other. So a walk in address order needs
//! a stack of the prefixes around it and no set of active ones: an address is judged by the
//! innermost prefix that holds it, and that by the prefix around it and by who named it.

use sg_common::addr::{Family, Prefix};

/// An address of one family as a number.
pub(super) trait Address: Copy + Ord {
    const LAST: Self;
    const FAMILY: Family;
    fn first_of(prefix: Prefix) -> Self;
    /// The highest address of the prefix of `length` bits that starts here.
    fn last(self, length: u8) -> Self;
    fn before(self) -> Option<Self>;
}

impl Address for u32 {
    const LAST: Self = Self::MAX;
    const FAMILY: Family = Family::V4;

    fn first_of(prefix: Prefix) -> Self {
        prefix.first().v4_bits()
    }

    fn last(self, length: u8) -> Self {
        self | Self::MAX.checked_shr(length.into()).unwrap_or(0)
    }

    fn before(self) -> Option<Self> {
        self.checked_sub(1)
    }
}

impl Address for u128 {
    const LAST: Self = Self::MAX;
    const FAMILY: Family = Family::V6;

    fn first_of(prefix: Prefix) -> Self {
        prefix.first().to_bits()
    }

    fn last(self, length: u8) -> Self {
        self | Self::MAX.checked_shr(length.into()).unwrap_or(0)
    }

    fn before(self) -> Option<Self> {
        self.checked_sub(1)
    }
}

/// A prefix and who names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Claim<A> {
    first: A,
    length: u8,
    claimant: u32,
}

impl<A: Address> Claim<A> {
    pub(super) fn new(prefix: Prefix, claimant: u32) -> Self {
        Self { first: A::first_of(prefix), length: prefix.length(), claimant }
    }
}

/// Addresses of one class: up to and including `end`, from where the interval before ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Interval<A> {
    pub(super) end: A,
    pub(super) class: u32,
}

/// A prefix as the walk enters it.
pub(super) struct Entered<'a> {
    /// How many prefixes are around it: those entered last at each lower depth.
    pub(super) depth: usize,
    /// Whether it is the whole family.
    pub(super) is_any: bool,
    /// Who names it, sorted, each once.
    pub(super) claimants: &'a [u32],
}

/// What a walk came to.
#[derive(Debug)]
pub(super) struct Swept<A> {
    /// The whole family in order; neighbours have different classes.
    pub(super) intervals: Vec<Interval<A>>,
    /// How many different prefixes were claimed.
    pub(super) prefixes: usize,
}

/// Walks `claims`, asking `enter` for the class inside of each prefix. Outside of all it is 0.
pub(super) fn sweep<A: Address, E>(
    mut claims: Vec<Claim<A>>,
    mut enter: impl FnMut(Entered<'_>) -> Result<u32, E>,
) -> Result<Swept<A>, E> {
    // Stable, because that is quick where most is in order: each list is.
    claims.sort();
    claims.dedup();
    let mut walk = Walk { intervals: Vec::with_capacity(claims.len() * 2 + 1), around: Vec::new() };
    let mut claimants = Vec::new();
    let mut prefixes = 0;
    for claims in claims.chunk_by(|a, b| (a.first, a.length) == (b.first, b.length)) {
        let Claim { first, length, .. } = claims[0];
        claimants.clear();
        claimants.extend(claims.iter().map(|claim| claim.claimant));
        walk.leave_before(first);
        let depth = walk.around.len();
        let class = enter(Entered { depth, is_any: length == 0, claimants: &claimants })?;
        walk.around.push(Interval { end: first.last(length), class });
        prefixes += 1;
    }
    while let Some(prefix) = walk.around.pop() {
        walk.emit(prefix);
    }
    walk.emit(Interval { end: A::LAST, class: 0 });
    Ok(Swept { intervals: walk.intervals, prefixes })
}

struct Walk<A> {
    intervals: Vec<Interval<A>>,
    /// The prefixes around the walk's place, innermost last.
    around: Vec<Interval<A>>,
}

impl<A: Address> Walk<A> {
    /// Goes on to `first`: leaves the prefixes that end before it.
    fn leave_before(&mut self, first: A) {
        while let Some(prefix) = self.around.pop_if(|prefix| prefix.end < first) {
            self.emit(prefix);
        }
        if let Some(end) = first.before() {
            let class = self.around.last().map_or(0, |prefix| prefix.class);
            self.emit(Interval { end, class });
        }
    }

    /// Everything up to the interval's end that is not yet in an interval is of its class.
    fn emit(&mut self, interval: Interval<A>) {
        match self.intervals.last_mut() {
            Some(last) if last.end >= interval.end => {}
            Some(last) if last.class == interval.class => last.end = interval.end,
            _ => self.intervals.push(interval),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_and_adjacent_prefixes_cut_where_the_answer_changes() {
        let claims = [
            ("10.0.0.0/8", 1),
            ("10.0.0.0/9", 2),
            ("10.255.255.255", 3),
            ("11.0.0.0/8", 4),
            ("255.255.255.255", 5),
            ("0.0.0.0", 6),
        ];
        let claims = claims.map(|(prefix, by)| Claim::<u32>::new(prefix.parse().unwrap(), by)).to_vec();
        let swept = sweep(claims, |entered| Ok::<_, ()>(entered.claimants[0])).unwrap();
        assert_eq!(swept.prefixes, 6);
        let intervals: Vec<_> =
            swept.intervals.iter().map(|interval| (interval.end, interval.class)).collect();
        let wanted = [
            (0, 6),
            (0x09ff_ffff, 0),
            (0x0a7f_ffff, 2),
            (0x0aff_fffe, 1),
            (0x0aff_ffff, 3),
            (0x0bff_ffff, 4),
            (0xffff_fffe, 0),
            (0xffff_ffff, 5),
        ];
        assert_eq!(intervals, wanted);
    }

    #[test]
    fn neighbours_of_one_class_are_one_interval() {
        let claims = ["10.0.0.0/9", "10.128.0.0/9", "10.0.0.0/8"];
        let claims = claims.map(|prefix| Claim::<u32>::new(prefix.parse().unwrap(), 0)).to_vec();
        let swept = sweep(claims, |_| Ok::<_, ()>(7)).unwrap();
        assert_eq!(swept.intervals.len(), 3);
        let any = vec![Claim::<u128>::new(Prefix::ANY_V6, 0)];
        let swept = sweep(any, |entered| Ok::<_, ()>(u32::from(entered.is_any))).unwrap();
        assert_eq!(swept.intervals, [Interval { end: u128::MAX, class: 1 }]);
    }
}
