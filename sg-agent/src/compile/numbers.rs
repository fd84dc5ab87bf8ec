//! Which number, and so which counter, a rule has in the image.

use sg_common::{tuple::Direction, verdict::RuleNumber};

use crate::policy::{GroupIndex, Policy, RuleIndex};

/// The number of every rule of one policy. Different rules have different numbers.
///
/// Whoever keeps counters over a change of the policy gives a rule the number it had before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleNumbers {
    /// For each group, for each direction, the numbers of the rules in the order written.
    groups: Vec<[Vec<RuleNumber>; 2]>,
}

impl RuleNumbers {
    /// Numbers the rules from 0 in the policy's own order.
    #[must_use]
    pub fn in_order(policy: &Policy) -> Self {
        let mut next = 0;
        Self::from_fn(policy, |_| {
            next += 1;
            RuleNumber(next - 1)
        })
    }

    /// Asks `number` for each rule, in the policy's order.
    #[must_use]
    pub fn from_fn(policy: &Policy, mut number: impl FnMut(RuleIndex) -> RuleNumber) -> Self {
        let groups = policy.groups.iter().enumerate().map(|(group, of)| {
            Direction::ALL.map(|direction| {
                (0..of.rules(direction).len())
                    .map(|index| number(RuleIndex { group: GroupIndex(group), direction, index }))
                    .collect()
            })
        });
        Self { groups: groups.collect() }
    }

    /// The number of a rule, if the policy has it.
    #[must_use]
    pub fn get(&self, rule: RuleIndex) -> Option<RuleNumber> {
        self.groups.get(rule.group.0)?[rule.direction as usize].get(rule.index).copied()
    }

    /// Every rule with its number, in the policy's order.
    pub fn iter(&self) -> impl Iterator<Item = (RuleIndex, RuleNumber)> {
        self.groups.iter().enumerate().flat_map(|(group, lists)| {
            Direction::ALL.into_iter().flat_map(move |direction| {
                lists[direction as usize].iter().enumerate().map(move |(index, number)| {
                    (RuleIndex { group: GroupIndex(group), direction, index }, *number)
                })
            })
        })
    }
}
