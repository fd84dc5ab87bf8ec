//! Rules that come, go, or say something else.
//!
//! Which rule of one policy is which of the other is told by their numbers, and those are
//! [`crate::agent::numbering`]'s: a rule with an `id` is itself whatever it says, one without is what
//! it says.

use std::collections::{HashMap, HashSet};

use sg_common::tuple::Direction;

use crate::{
    explain::words,
    policy::{Policy, Rule, RuleIndex},
    view::{PlannedRule, RuleChanges},
};

/// A policy whose rules are numbered.
#[derive(Clone, Debug)]
pub struct Numbered<'a> {
    /// The policy.
    pub policy: &'a Policy,
    /// Its rules in its order, and the number of each.
    pub rules: Vec<(RuleIndex, u32)>,
}

impl<'a> Numbered<'a> {
    fn rules(&self) -> impl Iterator<Item = (u32, Said<'a>)> {
        let policy = self.policy;
        self.rules.iter().filter_map(move |(index, number)| {
            Some((*number, Said { policy, index: *index, rule: policy.rule(*index)? }))
        })
    }
}

/// A rule where it stands.
#[derive(Clone, Copy)]
struct Said<'a> {
    policy: &'a Policy,
    index: RuleIndex,
    rule: &'a Rule,
}

impl Said<'_> {
    fn group(&self) -> Option<&str> {
        self.policy.groups.get(self.index.group.0).map(|group| group.name.as_str())
    }

    /// Whether the other says the same of the same group.
    fn is_as(&self, other: &Self) -> bool {
        let peers = |said: &Self| -> Vec<String> {
            said.rule.peers.iter().map(|peer| words::peer(said.policy, *peer)).collect()
        };
        self.group() == other.group()
            && self.index.direction == other.index.direction
            && self.rule.services == other.rule.services
            && peers(self) == peers(other)
    }

    /// `allow tcp/443 from anywhere`.
    fn sentence(&self) -> String {
        let preposition = match self.index.direction {
            Direction::Inbound => "from",
            Direction::Outbound => "to",
        };
        let Self { policy, rule, .. } = self;
        format!("allow {} {preposition} {}", words::services(rule), words::peers(policy, rule))
    }

    fn planned(&self, was: Option<String>) -> PlannedRule {
        PlannedRule {
            rule: self.policy.rule_name(self.index),
            id: self.rule.id.clone(),
            source: words::source(self.rule),
            says: self.sentence(),
            was,
        }
    }
}

/// What becomes of the rules of `before`, and what is new. Each list is in its policy's order.
#[must_use]
pub fn rules(before: &Numbered<'_>, after: &Numbered<'_>) -> RuleChanges {
    let old: HashMap<u32, Said<'_>> = before.rules().collect();
    let new: HashSet<u32> = after.rules.iter().map(|(_, number)| *number).collect();
    let mut changes = RuleChanges::default();
    for (number, said) in after.rules() {
        match old.get(&number) {
            None => changes.added.push(said.planned(None)),
            Some(same) if same.is_as(&said) => {}
            Some(other) => changes.changed.push(said.planned(Some(other.sentence()))),
        }
    }
    let gone = before.rules().filter(|(number, _)| !new.contains(number));
    changes.removed.extend(gone.map(|(_, said)| said.planned(None)));
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        agent::numbering::Numbering,
        document::{Limits, parse_str},
    };

    fn policy(groups: &str) -> Policy {
        let loaded = parse_str("p.yaml", &format!("version: 1\ngroups:\n{groups}"), &Limits::default());
        assert_eq!(loaded.errors, []);
        loaded.policy.unwrap()
    }

    #[test]
    fn rules_come_go_and_say_something_else() {
        let before = policy(
            "  a:\n    outbound: []\n    inbound:\n      - {allow: ssh, from: 192.0.2.1}\n      - {allow: https, from: anywhere}\n      \
             - {id: x, allow: dns, from: group:a}\n      - {id: y, allow: ntp, from: anywhere}\n",
        );
        let after = policy(
            "  a:\n    outbound: []\n    inbound:\n      - {allow: https, from: anywhere}\n      - {id: x, allow: dns, from: group:b}\n      \
             - {allow: http, from: anywhere-ipv4}\n  b:\n    inbound:\n      - {id: y, allow: ntp, from: anywhere}\n",
        );
        let first = Numbering::default().renumber(&before, 100);
        let second = first.numbering.renumber(&after, 100);
        let numbered = |policy, renumbered: &crate::agent::numbering::Renumbered| Numbered {
            policy,
            rules: renumbered.rules.iter().map(|(index, number, _)| (*index, number.0)).collect(),
        };
        let changes = rules(&numbered(&before, &first), &numbered(&after, &second));
        let told = |rules: &[PlannedRule]| -> Vec<String> {
            rules
                .iter()
                .map(|rule| {
                    let was = rule.was.as_ref().map_or_else(String::new, |was| format!(", was {was}"));
                    format!("{} {} {}{was}", rule.rule, rule.source, rule.says)
                })
                .collect()
        };
        assert_eq!(
            told(&changes.added),
            [
                "a/inbound/2 p.yaml:8 allow tcp/80 from anywhere-ipv4",
                "b/outbound/default p.yaml:9 allow all to anywhere"
            ]
        );
        assert_eq!(told(&changes.removed), ["a/inbound/0 p.yaml:6 allow tcp/22 from 192.0.2.1/32"]);
        assert_eq!(
            told(&changes.changed),
            [
                "a/inbound/1 p.yaml:7 allow tcp/53, udp/53 from group:b, was allow tcp/53, udp/53 from group:a",
                "b/inbound/0 p.yaml:11 allow udp/123 from anywhere, was allow udp/123 from anywhere"
            ]
        );
        assert_eq!(changes.changed[0].id.as_deref(), Some("x"));
        let same = rules(&numbered(&after, &second), &numbered(&after, &second));
        assert_eq!(same, RuleChanges::default());
    }
}
