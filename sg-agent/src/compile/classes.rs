//! Tells which class the addresses inside of a prefix belong to.
//!
//! A class is what its addresses may do, not who named them: prefixes that open the same selectors
//! by the same rules have the same class. What a prefix opens is what the prefix around it opens,
//! joined with what its own claimants open; so equal pairs of the two are worked out once.

use std::collections::HashMap;

use sg_common::{addr::Family, tuple::Table, verdict::RuleNumber};

use super::{
    arena::{Arena, Full, Half},
    selector_tree,
    sweep::Entered,
    table::Tables,
    union::{Claimant, Union},
};

/// Whoever gives numbers to classes.
pub(super) trait Register {
    /// Why one may get none.
    type Error;
    /// Whether classes differ that open the same by different rules.
    const BY_RULE: bool;

    /// The number of the class that `tables` make, whose ranks index `numbers`; 0 for one that
    /// opens nothing.
    fn class(&mut self, tables: &Tables, numbers: &[RuleNumber]) -> Result<u32, Self::Error>;
}

impl Register for Arena {
    type Error = Full;
    const BY_RULE: bool = true;

    fn class(&mut self, tables: &Tables, numbers: &[RuleNumber]) -> Result<u32, Full> {
        let mut half = Half::default();
        for (words, table) in half.chunks_exact_mut(2).zip(&tables.0) {
            words.copy_from_slice(&selector_tree::plant(self, table, numbers)?);
        }
        // The arena's own, of a half that is written.
        Self::class(self, half)
    }
}

/// Follows a [`super::sweep`] and names classes.
pub(super) struct Classes<'a, 'p, R> {
    union: &'a Union<'p>,
    family: Family,
    register: &'a mut R,
    nothing: Tables,
    /// The prefixes around the walk's place, innermost last.
    around: Vec<Around>,
    /// From the class around a prefix and its owner to the class inside.
    known: HashMap<(u32, u32), u32>,
    /// The last of these: the prefixes of one list mostly follow each other.
    last: Option<((u32, u32), u32)>,
    owners: Owners,
    remembered: Remembered,
    /// TCP and UDP: whether every port is open to any address.
    pub(super) opens_all: [bool; 2],
}

/// A prefix that the walk is in.
struct Around {
    class: u32,
    owner: u32,
    /// What its addresses may do, once that was asked for.
    tables: Option<Tables>,
}

impl<'a, 'p, R: Register> Classes<'a, 'p, R> {
    pub(super) fn new(union: &'a Union<'p>, family: Family, register: &'a mut R) -> Self {
        Self {
            union,
            family,
            register,
            nothing: Tables::nothing(),
            around: Vec::new(),
            known: HashMap::new(),
            last: None,
            owners: Owners::default(),
            remembered: Remembered::default(),
            opens_all: [false; 2],
        }
    }

    /// The class inside of the prefix that the walk enters.
    pub(super) fn enter(&mut self, entered: &Entered<'_>) -> Result<u32, R::Error> {
        self.around.truncate(entered.depth);
        let outer = self.around.last().map_or(0, |around| around.class);
        let owner = self.owners.number(entered.claimants);
        let last = self.last.filter(|(key, _)| *key == (outer, owner)).map(|(_, class)| class);
        if let Some(class) = last.or_else(|| self.known.get(&(outer, owner)).copied()) {
            self.last = Some(((outer, owner), class));
            self.around.push(Around { class, owner, tables: None });
            return Ok(class);
        }
        let own = self.of_owner(owner);
        let tables = if entered.is_any {
            let tables = own.to_anywhere();
            self.opens_all = [Table::Tcp, Table::Udp].map(|table| tables.0[table as usize].is_whole());
            tables
        } else {
            self.around(entered.depth).join(&own)
        };
        let class = self.register.class(&tables, &self.union.numbers)?;
        self.known.insert((outer, owner), class);
        self.around.push(Around { class, owner, tables: Some(tables) });
        Ok(class)
    }

    /// What the innermost of the first `depth` prefixes around the walk opens.
    fn around(&mut self, depth: usize) -> Tables {
        let Some(at) = depth.checked_sub(1) else { return self.nothing.clone() };
        let Around { class, owner, ref tables } = self.around[at];
        if let Some(tables) = tables {
            return tables.clone();
        }
        let tables = match self.remembered.get(Memory::Class(class)) {
            Some(tables) => tables,
            None => {
                let tables = self.around(at).join(&self.of_owner(owner));
                self.remembered.put(Memory::Class(class), &tables);
                tables
            }
        };
        self.around[at].tables = Some(tables.clone());
        tables
    }

    /// What an owner or claimant opens by itself.
    fn of_owner(&mut self, owner: u32) -> Tables {
        if let Some(tables) = self.remembered.get(Memory::Owner(owner)) {
            return tables;
        }
        let tables = if let Some(claimants) = self.owners.claimants(owner) {
            self.joined(&claimants, Self::of_owner)
        } else {
            match self.union.ranks(owner) {
                // As quick to make again as to find.
                Claimant::Rule(rank) => return self.of_rule(rank),
                Claimant::Shared(ranks) => self.joined(ranks, Self::of_rule),
            }
        };
        self.remembered.put(Memory::Owner(owner), &tables);
        tables
    }

    fn of_rule(&mut self, rank: u32) -> Tables {
        let rule = self.union.rules[rank as usize];
        let rank = if R::BY_RULE { rank } else { 0 };
        Tables::of_rule(rule, rank, self.family, &self.nothing)
    }

    /// Joins halves of halves, so that many small parts take no quadratic time.
    fn joined(&mut self, parts: &[u32], of: fn(&mut Self, u32) -> Tables) -> Tables {
        match parts {
            [] => self.nothing.clone(),
            [only] => of(self, *only),
            _ => {
                let (left, right) = parts.split_at(parts.len() / 2);
                let left = self.joined(left, of);
                left.join(&self.joined(right, of))
            }
        }
    }
}

/// Numbers for sets of claimants. One claimant is its own number; sets count down from the top.
#[derive(Default)]
struct Owners {
    numbers: HashMap<Vec<u32>, u32>,
    sets: Vec<Vec<u32>>,
}

impl Owners {
    fn number(&mut self, claimants: &[u32]) -> u32 {
        if let [only] = claimants {
            return *only;
        }
        if let Some(number) = self.numbers.get(claimants) {
            return *number;
        }
        let number = u32::MAX - self.sets.len() as u32;
        self.numbers.insert(claimants.to_vec(), number);
        self.sets.push(claimants.to_vec());
        number
    }

    fn claimants(&self, owner: u32) -> Option<Vec<u32>> {
        self.sets.get((u32::MAX - owner) as usize).cloned()
    }
}

/// Whose tables are remembered.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Memory {
    Class(u32),
    Owner(u32),
}

/// Tables that were worked out before, as long as they take little memory.
#[derive(Default)]
struct Remembered {
    tables: HashMap<Memory, Tables>,
    pieces: usize,
}

impl Remembered {
    /// Everything is forgotten beyond this many pieces of eight bytes.
    const PIECES: usize = 1 << 20;

    fn get(&self, of: Memory) -> Option<Tables> {
        self.tables.get(&of).cloned()
    }

    fn put(&mut self, of: Memory, tables: &Tables) {
        if self.pieces > Self::PIECES {
            *self = Self::default();
        }
        self.pieces += tables.pieces();
        self.tables.insert(of, tables.clone());
    }
}
