//! Which number each rule of the next generation gets, so that counters follow rules over changes.
//!
//! A rule with an `id` is the same rule wherever it stands and whatever it says. One without is the
//! same if its group, direction and content are; where several are alike, the place decides. A
//! number whose rule is gone is left unused for as long as the counters have room: a flow that was
//! admitted under it may live on. When it is given to another rule, its counters must be cleared.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    fmt::Write as _,
    sync::Arc,
};

use sg_common::verdict::RuleNumber;
use sha2::{Digest as _, Sha256};

use crate::{
    compile::RuleNumbers,
    policy::{Peer, Policy, Rule, RuleIndex},
    state::{Record, hex},
};

/// The numbers in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Numbering {
    next: u32,
    freed: VecDeque<u32>,
    by_key: HashMap<Arc<str>, u32>,
}

/// The numbers of the next generation.
#[derive(Clone, Debug)]
pub struct Renumbered {
    /// As the compiler takes them.
    pub numbers: RuleNumbers,
    /// The same, with each rule's key, in the policy's order.
    pub rules: Vec<(RuleIndex, RuleNumber, Arc<str>)>,
    /// What is in force once the generation is.
    pub numbering: Numbering,
    /// Numbers that change hands: their counters are to be cleared before the generation comes
    /// into force.
    pub reused: Vec<u32>,
}

impl Numbering {
    /// The numbers that a record remembers.
    #[must_use]
    pub fn of(record: &Record) -> Self {
        Self {
            next: record.next_number,
            freed: record.freed_numbers.iter().copied().collect(),
            by_key: record.rules.iter().map(|rule| (rule.key.as_str().into(), rule.number)).collect(),
        }
    }

    /// The lowest number that was never used.
    #[must_use]
    pub fn next(&self) -> u32 {
        self.next
    }

    /// Unused numbers below that, the longest unused first.
    pub fn freed(&self) -> impl Iterator<Item = u32> {
        self.freed.iter().copied()
    }

    /// The same, with the rules of `other` as well: none of theirs gets another number, and no other rule
    /// gets theirs.
    #[must_use]
    pub fn with(mut self, other: &Self) -> Self {
        self.next = self.next.max(other.next);
        let mut taken: HashSet<u32> = self.by_key.values().copied().collect();
        for (key, number) in &other.by_key {
            if !self.by_key.contains_key(key) && taken.insert(*number) {
                self.by_key.insert(key.clone(), *number);
            }
        }
        self.freed.retain(|number| !taken.contains(number));
        self
    }

    /// Numbers the rules of `policy`. Numbers from `capacity` on are given only when no other is
    /// left.
    #[must_use]
    pub fn renumber(&self, policy: &Policy, capacity: u32) -> Renumbered {
        let mut text = String::new();
        let keyed: Vec<(RuleIndex, Key)> =
            policy.rules().map(|(index, rule)| (index, Key::of(policy, index, rule, &mut text))).collect();
        let mut left: HashMap<&str, u32> =
            self.by_key.iter().map(|(key, number)| (&**key, *number)).collect();
        let mut given: Vec<Option<u32>> = keyed.iter().map(|(_, key)| left.remove(&*key.text)).collect();

        let mut moved: HashMap<&str, Vec<(&str, u32)>> = HashMap::new();
        for (key, number) in &left {
            if let Some((stem, _)) = key.rsplit_once(PLACE) {
                moved.entry(stem).or_default().push((key, *number));
            }
        }
        for alike in moved.values_mut() {
            alike.sort_unstable_by_key(|(_, number)| std::cmp::Reverse(*number));
        }
        for ((_, key), number) in keyed.iter().zip(&mut given) {
            if number.is_none()
                && let Some(alike) = key.stem().and_then(|stem| moved.get_mut(stem))
                && let Some((old, found)) = alike.pop()
            {
                *number = Some(found);
                left.remove(old);
            }
        }

        let mut next = self.next;
        let mut freed = self.freed.clone();
        let mut reused = Vec::new();
        let rules: Vec<_> = keyed
            .into_iter()
            .zip(given)
            .map(|((index, key), number)| {
                let number = number.unwrap_or_else(|| {
                    if next >= capacity
                        && let Some(number) = freed.pop_front()
                    {
                        reused.push(number);
                        return number;
                    }
                    next += 1;
                    next - 1
                });
                (index, RuleNumber(number), key.text)
            })
            .collect();
        // What this change frees is in use until it is done, so it is not given away by it.
        let mut gone: Vec<u32> = left.into_values().collect();
        gone.sort_unstable();
        freed.extend(gone);

        let by_key = rules.iter().map(|(_, number, key)| (Arc::clone(key), number.0)).collect();
        // In the policy's order, as they are asked for.
        let mut numbers = rules.iter().map(|(_, number, _)| *number);
        Renumbered {
            numbers: RuleNumbers::from_fn(policy, |_| numbers.next().unwrap_or(RuleNumber(u32::MAX))),
            rules,
            numbering: Self { next, freed, by_key },
            reused,
        }
    }
}

/// What makes a rule the same rule: an id, or a stem and a place.
struct Key {
    text: Arc<str>,
    has_place: bool,
}

/// Between stem and place: no name, and so no stem, has it.
const PLACE: char = '#';

impl Key {
    /// The key of a rule. `text` is room for it.
    fn of(policy: &Policy, index: RuleIndex, rule: &Rule, text: &mut String) -> Self {
        text.clear();
        // Writing to a string does not fail.
        if let Some(id) = &rule.id {
            let _ = write!(text, "id:{id}");
            return Self { text: text.as_str().into(), has_place: false };
        }
        content(policy, rule, text);
        let content = hex(&Sha256::digest(&*text)[..8]);
        let group = policy.groups.get(index.group.0).map_or("", |group| group.name.as_str());
        text.clear();
        let _ = write!(text, "{group}/{}/{content}{PLACE}{}", index.direction, index.index);
        Self { text: text.as_str().into(), has_place: true }
    }

    /// What comes before the place, of one that has a place.
    fn stem(&self) -> Option<&str> {
        self.text.rsplit_once(PLACE).filter(|_| self.has_place).map(|(stem, _)| stem)
    }
}

/// Writes what a rule says, with lists and groups by name: indices move when others come and go.
fn content(policy: &Policy, rule: &Rule, text: &mut String) {
    // Writing to a string does not fail.
    let _ = write!(text, "{:?}", rule.services);
    for peer in &rule.peers {
        let _ = match peer {
            Peer::Prefix(prefix) => write!(text, " {prefix}"),
            Peer::PrefixList(list) => {
                write!(text, " list:{}", policy.prefix_lists.get(list.0).map_or("", |list| &list.name))
            }
            Peer::Group(group) => {
                write!(text, " group:{}", policy.groups.get(group.0).map_or("", |group| &group.name))
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::{Limits, parse_str};

    fn policy(rules: &[&str]) -> Policy {
        let mut text = "version: 1\ngroups:\n  g:\n    outbound: []\n    inbound:\n".to_owned();
        for rule in rules {
            writeln!(text, "      - {{{rule}}}").unwrap();
        }
        let loaded = parse_str("p.yaml", &text, &Limits::default());
        assert_eq!(loaded.errors, []);
        loaded.policy.unwrap()
    }

    fn numbers(renumbered: &Renumbered) -> Vec<u32> {
        renumbered.rules.iter().map(|(_, number, _)| number.0).collect()
    }

    const SSH: &str = "allow: ssh, from: 192.0.2.1";
    const WEB: &str = "allow: https, from: anywhere";
    const DNS: &str = "allow: dns, from: anywhere";

    #[test]
    fn numbers_follow_content_when_rules_move() {
        let first = Numbering::default().renumber(&policy(&[SSH, WEB, SSH]), 100);
        assert_eq!(numbers(&first), [0, 1, 2]);
        // (rules, numbers, numbers freed)
        let rows: [(&[&str], &[u32], &[u32]); 5] = [
            (&[SSH, WEB, SSH], &[0, 1, 2], &[]),
            (&[WEB, SSH, SSH], &[1, 0, 2], &[]),
            (&[WEB], &[1], &[0, 2]),
            (&[DNS, WEB, SSH], &[3, 1, 2], &[0]),
            (&[SSH, SSH, SSH], &[0, 3, 2], &[1]),
        ];
        for (rules, expected, freed) in rows {
            let again = first.numbering.renumber(&policy(rules), 100);
            assert_eq!(numbers(&again), expected, "{rules:?}");
            assert_eq!(again.numbering.freed().collect::<Vec<_>>(), freed, "{rules:?}");
            assert!(again.reused.is_empty(), "{rules:?}");
        }
    }

    #[test]
    fn a_rule_with_an_id_stays_itself_whatever_it_says() {
        let first = Numbering::default().renumber(&policy(&[WEB, "id: a, allow: ssh, from: 192.0.2.1"]), 100);
        let again = first.numbering.renumber(&policy(&["id: a, allow: rdp, from: anywhere", WEB]), 100);
        assert_eq!(numbers(&again), [1, 0]);
    }

    #[test]
    fn a_freed_number_changes_hands_only_when_there_is_no_other_and_never_at_once() {
        let first = Numbering::default().renumber(&policy(&[SSH, WEB]), 2);
        let second = first.numbering.renumber(&policy(&[WEB, DNS]), 2);
        // Number 0 is freed by this very change: the new rule gets one past the capacity.
        assert_eq!((numbers(&second), &second.reused), (vec![1, 2], &vec![]));
        let third = second.numbering.renumber(&policy(&[WEB, DNS, SSH]), 2);
        assert_eq!((numbers(&third), &third.reused), (vec![1, 2, 0], &vec![0]));
        let roomy = second.numbering.renumber(&policy(&[WEB, DNS, SSH]), 100);
        assert_eq!((numbers(&roomy), &roomy.reused), (vec![1, 2, 3], &vec![]));
    }

    #[test]
    fn the_compiler_gets_the_same_numbers() {
        let policy = policy(&[SSH, WEB]);
        let renumbered = Numbering { next: 7, ..Numbering::default() }.renumber(&policy, 100);
        for (index, number, _) in &renumbered.rules {
            assert_eq!(renumbered.numbers.get(*index), Some(*number));
        }
        assert_eq!(numbers(&renumbered), [7, 8]);
    }
}
