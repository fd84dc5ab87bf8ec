//! What a valid policy says that was perhaps not meant. Nothing here changes the policy.

use sg_common::{
    addr::{Family, Prefix},
    tuple::{Direction, Selector, Table},
};

use super::{
    covering,
    diagnostic::quote,
    report::{Mark, Report},
    resolve::{Resolved, RulePlaces},
};
use crate::policy::{GroupIndex, Peer, Policy, Rule, RuleIndex, Service, matching::Pattern};

/// Looks for everything that deserves a warning.
pub(super) fn look(resolved: &Resolved, report: &mut Report) {
    empty_lists(resolved, report);
    groups(resolved, report);
    for (index, places) in &resolved.rules {
        if let Some(rule) = resolved.policy.rule(*index) {
            open_ssh(&resolved.policy, *index, rule, places.at, report);
        }
        other_family(&resolved.policy, places, report);
    }
    covered_rules(resolved, report);
    interfaces(resolved, report);
}

fn empty_lists(resolved: &Resolved, report: &mut Report) {
    for (list, at) in resolved.policy.prefix_lists.iter().zip(&resolved.prefix_lists) {
        if list.entries.is_empty() {
            report.warn(*at, format!("prefix list {} is empty: it matches nothing", quote(&list.name)));
        }
    }
}

/// Groups that nothing uses, and references to groups that nobody carries.
fn groups(resolved: &Resolved, report: &mut Report) {
    let policy = &resolved.policy;
    let mut carried = vec![false; policy.groups.len()];
    for group in policy.interfaces.iter().flat_map(|entry| &entry.groups) {
        if let Some(carried) = carried.get_mut(group.0) {
            *carried = true;
        }
    }
    let mut used = carried.clone();
    for (index, places) in &resolved.rules {
        for (peer, at) in &places.peers {
            let Peer::Group(group) = *peer else { continue };
            if let Some(used) = used.get_mut(group.0).filter(|_| group != index.group) {
                *used = true;
            }
            let Some(of) = policy.groups.get(group.0) else { continue };
            if of.members.is_empty() && carried.get(group.0) == Some(&false) {
                let message = format!(
                    "group {} has no members, and no interface carries it: this matches nothing",
                    quote(&of.name)
                );
                report.warn(*at, message);
            }
        }
    }
    for ((group, at), used) in policy.groups.iter().zip(&resolved.groups).zip(used) {
        if !used {
            let message = format!(
                "nothing uses group {}: no interface carries it, and no other group's rule names it",
                quote(&group.name)
            );
            report.warn(*at, message);
        }
    }
}

/// SSH, open to everybody of a family.
fn open_ssh(policy: &Policy, index: RuleIndex, rule: &Rule, at: Mark, report: &mut Report) {
    if index.direction != Direction::Inbound {
        return;
    }
    let ssh = Selector { table: Table::Tcp, value: 22 };
    if !rule.services.iter().any(|service| service.matches(Family::V4, ssh)) {
        return;
    }
    let open: Vec<_> = Family::ALL
        .into_iter()
        .filter(|family| {
            let any = Prefix::any(*family);
            rule.peers.iter().any(|peer| match peer {
                Peer::Prefix(prefix) => *prefix == any,
                Peer::PrefixList(list) => policy
                    .prefix_lists
                    .get(list.0)
                    .is_some_and(|list| list.entries.binary_search(&any).is_ok()),
                Peer::Group(_) => false,
            })
        })
        .map(|family| Prefix::any(family).to_string())
        .collect();
    if !open.is_empty() {
        let message = format!("this opens SSH (tcp/22) to anywhere ({})", open.join(" and "));
        report.warn(at, message);
    }
}

/// ICMP of one family from addresses of the other alone.
fn other_family(policy: &Policy, places: &RulePlaces, report: &mut Report) {
    let has = |family: Family| {
        places.peers.iter().any(|(peer, _)| match peer {
            Peer::Prefix(prefix) => prefix.family() == family,
            Peer::PrefixList(list) => policy
                .prefix_lists
                .get(list.0)
                .is_some_and(|list| list.entries.iter().any(|entry| entry.family() == family)),
            Peer::Group(_) => true,
        })
    };
    for family in Family::ALL {
        let other = match family {
            Family::V4 => Family::V6,
            Family::V6 => Family::V4,
        };
        let items = || {
            places
                .services
                .iter()
                .filter(|(service, _)| matches!(service, Service::Icmp(of, _) if *of == family))
        };
        // Without any address at all, the empty list has a warning of its own.
        if items().next().is_none() || has(family) || !has(other) {
            continue;
        }
        let (protocol, right) = match family {
            Family::V4 => ("icmp", "icmpv6"),
            Family::V6 => ("icmpv6", "icmp"),
        };
        for (_, at) in items() {
            let message = format!(
                "{protocol} is of {family}, and all addresses here are of {other}: it can never match; {other} has {right}"
            );
            report.warn(*at, message);
        }
    }
}

fn covered_rules(resolved: &Resolved, report: &mut Report) {
    let mut left = report.limits.comparisons;
    let lists = covering::Lists::new(&resolved.policy);
    for (group, at) in resolved.groups.iter().enumerate() {
        let group = GroupIndex(group);
        for direction in Direction::ALL {
            let Some(of) = resolved.policy.groups.get(group.0) else { continue };
            for (index, by) in covering::covered(of.rules(direction), &lists, &mut left) {
                let name = |index| RuleIndex { group, direction, index };
                let (Some(places), Some(by_places)) =
                    (resolved.places(name(index)), resolved.places(name(by)))
                else {
                    continue;
                };
                let message = format!(
                    "{} at {} covers this rule whole: it opens nothing more",
                    resolved.policy.rule_name(name(by)),
                    report.position(by_places.at)
                );
                report.warn(places.at, message);
            }
        }
        if left == 0 {
            let message = "there are too many rules to look for all that others cover; from here on it was not looked for";
            report.warn(*at, message.to_owned());
            return;
        }
    }
}

/// Entries that no interface can ever get.
fn interfaces(resolved: &Resolved, report: &mut Report) {
    let mut left = report.limits.comparisons;
    let mut exact = std::collections::HashMap::new();
    let mut globs: Vec<(Pattern, usize)> = Vec::new();
    for (index, (entry, at)) in resolved.policy.interfaces.iter().zip(&resolved.interfaces).enumerate() {
        let Ok(pattern) = Pattern::parse(&entry.pattern) else { continue };
        if let Some(why) = pattern.impossible() {
            report.warn(*at, format!("{} can never match: {why}", quote(&entry.pattern)));
            continue;
        }
        let earlier = match pattern.literal() {
            Some(name) => match exact.get(&name) {
                Some(earlier) => Some(*earlier),
                None => {
                    exact.insert(name, index);
                    None
                }
            },
            None => {
                // A cover takes some thousand steps at the worst.
                left = left.saturating_sub(globs.len().saturating_mul(1000));
                let earlier =
                    globs.iter().find(|(glob, _)| left > 0 && glob.covers(&pattern)).map(|(_, index)| *index);
                globs.push((pattern, index));
                earlier
            }
        };
        let earlier = earlier.and_then(|earlier| {
            resolved.policy.interfaces.get(earlier).zip(resolved.interfaces.get(earlier))
        });
        if let Some((first, place)) = earlier {
            let message = format!(
                "{} can never match: {} at {} comes first",
                quote(&entry.pattern),
                quote(&first.pattern),
                report.position(*place)
            );
            report.warn(*at, message);
        }
    }
}
