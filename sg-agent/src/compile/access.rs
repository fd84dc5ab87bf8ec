//! What a union of groups opens, address by address: the same cut into intervals as an image's, and
//! for each class what it opens, whichever rule does so. For whoever compares policies.

use std::{collections::HashMap, convert::Infallible};

use sg_common::{
    addr::Family,
    tuple::{Direction, Table},
    verdict::RuleNumber,
};

use super::{
    CompileError, Input, RuleNumbers,
    classes::{Classes, Register},
    sweep::{Address, sweep},
    table::{self, Opening, Tables},
    union::Union,
};
use crate::policy::{GroupIndex, Membership, Policy};

/// A range of selector values, first and last inclusive.
pub(crate) type Ports = (u16, u16);

/// What is open: for each table, in the order of [`Table::ALL`], ranges that ascend and do not touch.
///
/// Of [`Table::Other`] only the 256 protocol numbers that there are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Opened(pub(crate) [Vec<Ports>; 4]);

impl Opened {
    /// The highest value of a table.
    pub(crate) const fn last(table: Table) -> u16 {
        match table {
            Table::Tcp | Table::Udp | Table::Icmp => u16::MAX,
            Table::Other => u8::MAX as u16,
        }
    }

    /// Everything.
    pub(crate) fn everything() -> Self {
        Self(Table::ALL.map(|table| vec![(0, Self::last(table))]))
    }

    fn of(tables: &Tables) -> Self {
        let mut opened = Self::default();
        for ((ranges, of), table) in opened.0.iter_mut().zip(&tables.0).zip(Table::ALL) {
            *ranges = open_ranges(of, Self::last(table));
        }
        opened
    }
}

fn open_ranges(of: &table::Table, last: u16) -> Vec<Ports> {
    let mut ranges: Vec<Ports> = Vec::new();
    let mut start = 0;
    for piece in of.pieces() {
        if start > last {
            break;
        }
        let end = piece.end.min(last);
        if piece.opening != Opening::NONE {
            match ranges.last_mut() {
                Some(before) if before.1.checked_add(1) == Some(start) => before.1 = end,
                _ => ranges.push((start, end)),
            }
        }
        start = piece.end.saturating_add(1);
    }
    ranges
}

/// What is open to the addresses of one family.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    /// The whole family in order: the last address of each run as a number, and its class.
    pub(crate) runs: Vec<(u128, usize)>,
    /// What each class opens. Class 0 opens nothing, no other does, and all differ.
    pub(crate) classes: Vec<Opened>,
}

impl Access {
    /// Everything passes.
    pub(crate) fn everything(family: Family) -> Self {
        let last = u128::MAX >> (128 - u32::from(family.bits()));
        Self { runs: vec![(last, 1)], classes: vec![Opened::default(), Opened::everything()] }
    }

    fn of<A: Address + Into<u128>>(union: &Union<'_>) -> Self {
        let mut listed = Listed::default();
        let mut classes = Classes::new(union, A::FAMILY, &mut listed);
        let Ok(swept) = sweep(union.claims::<A>(), |entered| classes.enter(&entered));
        let runs = swept.intervals.iter().map(|interval| (interval.end.into(), interval.class as usize));
        Self { runs: runs.collect(), classes: listed.classes }
    }
}

/// What the rules of `groups` open in one direction, by family.
///
/// # Errors
///
/// [`CompileError::RuleNumber`], if a group has more rules than the policy says it has.
pub(crate) fn access(
    policy: &Policy,
    members: &Membership,
    groups: &[GroupIndex],
    direction: Direction,
) -> Result<[Access; 2], CompileError> {
    let numbers = RuleNumbers::in_order(policy);
    let input = Input { policy, members, zones: &[], numbers: &numbers };
    let mut groups = groups.to_vec();
    groups.sort_unstable();
    groups.dedup();
    let union = Union::of(&input, &groups, direction)
        .map_err(|rule| CompileError::RuleNumber { rule: policy.rule_name(rule) })?;
    Ok([Access::of::<u32>(&union), Access::of::<u128>(&union)])
}

/// Classes by what they open.
struct Listed {
    classes: Vec<Opened>,
    index: HashMap<Opened, u32>,
}

impl Default for Listed {
    fn default() -> Self {
        Self { classes: vec![Opened::default()], index: HashMap::from([(Opened::default(), 0)]) }
    }
}

impl Register for Listed {
    type Error = Infallible;
    const BY_RULE: bool = false;

    fn class(&mut self, tables: &Tables, _: &[RuleNumber]) -> Result<u32, Infallible> {
        let opened = Opened::of(tables);
        if let Some(class) = self.index.get(&opened) {
            return Ok(*class);
        }
        let class = self.classes.len() as u32;
        self.classes.push(opened.clone());
        self.index.insert(opened, class);
        Ok(class)
    }
}
