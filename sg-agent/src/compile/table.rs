//! What a set of rules opens, apart from addresses: for each of the four selector tables, which
//! rule answers for which values. Knows rules by rank only; the image's form is made elsewhere.

use std::{cell::OnceCell, rc::Rc};

use sg_common::addr::Family;

use crate::policy::Rule;

/// What one selector value gets: nothing, or the rank of the first rule that opens it and whether
/// some rule opens it to every address.
///
/// Packed as [`sg_common::image::RuleWord`] is, with the rank in place of the rule number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Opening(u32);

impl Opening {
    const ANYWHERE: u32 = 1 << 31;
    /// No rule.
    pub(super) const NONE: Self = Self(0);

    const fn new(rank: u32) -> Self {
        Self(rank + 1)
    }

    /// The rank of the first rule, if there is one.
    pub(super) const fn rank(self) -> Option<u32> {
        (self.0 & !Self::ANYWHERE).checked_sub(1)
    }

    pub(super) const fn is_anywhere(self) -> bool {
        self.0 & Self::ANYWHERE != 0
    }

    /// The lower rank, and openness to any address if either has it.
    fn join(self, other: Self) -> Self {
        // Nothing wraps to the highest rank of all, so that the minimum ignores it.
        let rank = |of: Self| (of.0 & !Self::ANYWHERE).wrapping_sub(1);
        let first = rank(self).min(rank(other)).wrapping_add(1);
        Self(first | (self.0 | other.0) & Self::ANYWHERE)
    }
}

/// A run of values with one answer: up to and including `end`, from where the piece before ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) end: u16,
    pub(super) opening: Opening,
}

/// All 65 536 values of a selector table, cut into pieces. Neighbours differ.
#[derive(Debug)]
pub(super) struct Table {
    pieces: Vec<Piece>,
    /// The tag and payload that the image has for it, once asked for.
    pub(super) entry: OnceCell<[u32; 2]>,
}

impl Table {
    fn new(pieces: Vec<Piece>) -> Self {
        Self { pieces, entry: OnceCell::new() }
    }

    fn nothing() -> Self {
        Self::new(vec![Piece { end: u16::MAX, opening: Opening::NONE }])
    }

    /// One range of values opened by one rule.
    fn range(first: u16, last: u16, opening: Opening) -> Self {
        let mut pieces = Vec::with_capacity(3);
        if let Some(end) = first.checked_sub(1) {
            pieces.push(Piece { end, opening: Opening::NONE });
        }
        pieces.push(Piece { end: last, opening });
        if last < u16::MAX {
            pieces.push(Piece { end: u16::MAX, opening: Opening::NONE });
        }
        Self::new(pieces)
    }

    pub(super) fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    fn is_nothing(&self) -> bool {
        matches!(self.pieces[..], [Piece { opening: Opening::NONE, .. }])
    }

    /// Whether every value is open.
    pub(super) fn is_whole(&self) -> bool {
        self.pieces.iter().all(|piece| piece.opening != Opening::NONE)
    }

    /// Whether joining `other` would change this table. Costs what `other` overlaps, not more.
    fn gains_from(&self, other: &Self) -> bool {
        let mut start = 0;
        for piece in &other.pieces {
            if piece.opening != Opening::NONE {
                let first = self.pieces.partition_point(|own| own.end < start);
                for own in &self.pieces[first..] {
                    if own.opening.join(piece.opening) != own.opening {
                        return true;
                    }
                    if own.end >= piece.end {
                        break;
                    }
                }
            }
            start = piece.end.saturating_add(1);
        }
        false
    }

    /// Value by value, what both open.
    fn join(&self, other: &Self) -> Self {
        let mut pieces: Vec<Piece> = Vec::with_capacity(self.pieces.len() + other.pieces.len());
        let (mut left, mut right) = (self.pieces.iter().peekable(), other.pieces.iter().peekable());
        while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
            let piece = Piece { end: a.end.min(b.end), opening: a.opening.join(b.opening) };
            let (a_ends, b_ends) = (a.end == piece.end, b.end == piece.end);
            left.next_if(|_| a_ends);
            right.next_if(|_| b_ends);
            match pieces.last_mut() {
                Some(last) if last.opening == piece.opening => last.end = piece.end,
                _ => pieces.push(piece),
            }
        }
        Self::new(pieces)
    }
}

/// The four tables of a set of rules in one family, in the order of
/// [`sg_common::tuple::Table::ALL`]. Equal tables are shared where that costs nothing to see.
#[derive(Clone, Debug)]
pub(super) struct Tables(pub(super) [Rc<Table>; 4]);

impl Tables {
    pub(super) fn nothing() -> Self {
        let nothing = Rc::new(Table::nothing());
        Self([0; 4].map(|_| Rc::clone(&nothing)))
    }

    /// What `rule`, of the given rank, opens in `family`.
    pub(super) fn of_rule(rule: &Rule, rank: u32, family: Family, nothing: &Self) -> Self {
        let mut ranges: [Vec<(u16, u16)>; 4] = Default::default();
        for service in &rule.services {
            for (table, first, last) in service.ranges(family) {
                ranges[table as usize].push((first, last));
            }
        }
        let mut tables = nothing.clone();
        for (table, ranges) in tables.0.iter_mut().zip(&ranges) {
            if !ranges.is_empty() {
                *table = Rc::new(of_ranges(ranges, Opening::new(rank)));
            }
        }
        tables
    }

    /// Table by table, what both open.
    pub(super) fn join(&self, other: &Self) -> Self {
        let mut joined = self.clone();
        for (own, other) in joined.0.iter_mut().zip(&other.0) {
            if own.is_nothing() {
                *own = Rc::clone(other);
            } else if own.gains_from(other) {
                *own = Rc::new(own.join(other));
            }
        }
        joined
    }

    /// The same, marked as open to every address.
    pub(super) fn to_anywhere(&self) -> Self {
        let mut marked = self.clone();
        for table in marked.0.iter_mut().filter(|table| !table.is_nothing()) {
            let pieces = table.pieces.iter().map(|piece| match piece.opening {
                Opening::NONE => *piece,
                Opening(word) => Piece { opening: Opening(word | Opening::ANYWHERE), ..*piece },
            });
            *table = Rc::new(Table::new(pieces.collect()));
        }
        marked
    }

    /// How much memory these hold, in pieces.
    pub(super) fn pieces(&self) -> usize {
        self.0.iter().map(|table| table.pieces.len()).sum()
    }
}

/// Joins halves of halves, so that many ranges take no quadratic time.
fn of_ranges(ranges: &[(u16, u16)], opening: Opening) -> Table {
    match ranges {
        [] => Table::nothing(),
        [(first, last)] => Table::range(*first, *last, opening),
        _ => {
            let (left, right) = ranges.split_at(ranges.len() / 2);
            of_ranges(left, opening).join(&of_ranges(right, opening))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(table: &Table, value: u16) -> Opening {
        table.pieces.iter().find(|piece| value <= piece.end).unwrap().opening
    }

    proptest! {
        #[test]
        fn a_join_answers_as_the_first_of_its_ranges(
            ranges in proptest::collection::vec((0_u16..40, 0_u16..40, any::<bool>()), 1..12)
        ) {
            let ranges: Vec<_> = ranges
                .into_iter()
                .map(|(a, b, high)| {
                    let shift = if high { u16::MAX - 40 } else { 0 };
                    (a.min(b) + shift, a.max(b) + shift)
                })
                .collect();
            let mut table = Table::nothing();
            for (rank, (first, last)) in ranges.iter().enumerate() {
                let one = Table::range(*first, *last, Opening::new(rank as u32));
                let joined = table.join(&one);
                prop_assert_eq!(table.gains_from(&one), joined.pieces != table.pieces);
                prop_assert_eq!(&one.join(&table).pieces, &joined.pieces);
                table = joined;
            }
            let cut = |pair: &[Piece]| pair[0].end < pair[1].end && pair[0].opening != pair[1].opening;
            prop_assert!(table.pieces.windows(2).all(cut));
            for value in (0..50).chain(u16::MAX - 50..=u16::MAX) {
                let first = ranges.iter().position(|(first, last)| (first..=last).contains(&&value));
                prop_assert_eq!(at(&table, value).rank(), first.map(|rank| rank as u32));
            }
        }
    }
}
