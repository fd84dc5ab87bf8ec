//! The rules of several groups in one direction, and which prefixes name them as peers.

use std::collections::HashMap;

use sg_common::{
    addr::{Family, Prefix},
    tuple::Direction,
    verdict::RuleNumber,
};

use super::{
    Input,
    sweep::{Address, Claim},
};
use crate::policy::{GroupIndex, Peer, PrefixListIndex, Rule, RuleIndex};

/// The union of rules that one rule set answers from.
///
/// A rule's *rank* is its place here, which is the policy's order. A *claimant* stands for the
/// rules that name one peer: number *r* is the rule of rank *r* alone; those past the rules are the
/// sets that several rules make by naming the same list or group. So a list that a thousand rules
/// name is walked once.
pub(super) struct Union<'a> {
    pub(super) rules: Vec<&'a Rule>,
    /// By rank.
    pub(super) numbers: Vec<RuleNumber>,
    /// Claimants past the single rules: their ranks, ascending.
    shared: Vec<Vec<u32>>,
    prefixes: Vec<(&'a [Prefix], u32)>,
    singles: Vec<(Prefix, u32)>,
}

impl<'a> Union<'a> {
    /// Collects the rules of `groups`, which are sorted. A rule without a number is returned.
    pub(super) fn of(
        input: &Input<'a>,
        groups: &[GroupIndex],
        direction: Direction,
    ) -> Result<Self, RuleIndex> {
        let mut union = Self {
            rules: Vec::new(),
            numbers: Vec::new(),
            shared: Vec::new(),
            prefixes: Vec::new(),
            singles: Vec::new(),
        };
        let mut lists: HashMap<PrefixListIndex, Vec<u32>> = HashMap::new();
        let mut members: HashMap<GroupIndex, Vec<u32>> = HashMap::new();
        for group in groups {
            let rules = input.policy.groups.get(group.0).map_or(&[][..], |group| group.rules(direction));
            for (index, rule) in rules.iter().enumerate() {
                let rank = union.rules.len() as u32;
                let rule_index = RuleIndex { group: *group, direction, index };
                union.numbers.push(input.numbers.get(rule_index).ok_or(rule_index)?);
                union.rules.push(rule);
                for peer in &rule.peers {
                    match peer {
                        Peer::Prefix(prefix) => union.singles.push((*prefix, rank)),
                        Peer::PrefixList(list) => lists.entry(*list).or_default().push(rank),
                        Peer::Group(group) => members.entry(*group).or_default().push(rank),
                    }
                }
            }
        }
        union.share(input, lists, members);
        Ok(union)
    }

    fn share(
        &mut self,
        input: &Input<'a>,
        lists: HashMap<PrefixListIndex, Vec<u32>>,
        members: HashMap<GroupIndex, Vec<u32>>,
    ) {
        let lists = lists.into_iter().map(|(list, ranks)| {
            (input.policy.prefix_lists.get(list.0).map_or(&[][..], |list| &list.entries), ranks)
        });
        let members = members.into_iter().map(|(group, ranks)| (input.members.of(group), ranks));
        let mut named: Vec<_> = lists.chain(members).filter(|(entries, _)| !entries.is_empty()).collect();
        for (_, ranks) in &mut named {
            ranks.dedup();
        }
        // By ranks: equal ones become one claimant, and the numbers do not depend on the maps.
        named.sort_unstable_by(|(_, a), (_, b)| a.cmp(b));
        for (entries, ranks) in named {
            let claimant = match (&ranks[..], self.shared.last()) {
                ([rank], _) => *rank,
                (_, Some(last)) if *last == ranks => (self.rules.len() + self.shared.len() - 1) as u32,
                _ => {
                    self.shared.push(ranks);
                    (self.rules.len() + self.shared.len() - 1) as u32
                }
            };
            self.prefixes.push((entries, claimant));
        }
    }

    /// The ranks that `claimant` stands for; a single rule's is in `single`.
    pub(super) fn ranks(&self, claimant: u32) -> Claimant<'_> {
        match (claimant as usize).checked_sub(self.rules.len()).and_then(|at| self.shared.get(at)) {
            Some(ranks) => Claimant::Shared(ranks),
            None => Claimant::Rule(claimant),
        }
    }

    /// Every prefix of one family that a rule names, with its claimant.
    pub(super) fn claims<A: Address>(&self) -> Vec<Claim<A>> {
        let family: Family = A::FAMILY;
        let listed = self
            .prefixes
            .iter()
            .flat_map(|(entries, claimant)| entries.iter().map(move |prefix| (*prefix, *claimant)));
        self.singles
            .iter()
            .copied()
            .chain(listed)
            .filter(|(prefix, _)| prefix.family() == family)
            .map(|(prefix, claimant)| Claim::new(prefix, claimant))
            .collect()
    }
}

/// Whom a claimant stands for.
pub(super) enum Claimant<'a> {
    /// The rule of this rank.
    Rule(u32),
    /// The rules of these ranks, ascending.
    Shared(&'a [u32]),
}
