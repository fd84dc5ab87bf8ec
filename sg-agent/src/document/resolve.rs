//! Drafts to a policy: merging, names, defaults. What a name stands for is decided here and
//! nowhere else.

use std::collections::{HashMap, HashSet};

use super::{
    diagnostic::quote,
    draft::{Draft, DraftRule, ListContent, NamedGroup, NamedList},
    files::Files,
    lists,
    report::{Mark, Report, Spanned},
};
use crate::policy::{
    Group, GroupIndex, InterfaceEntry, Peer, Policy, PrefixList, Rule, RuleIndex, Service, Side,
};

mod names;

use names::Names;

/// A policy and the places in it that warnings need.
#[derive(Debug, Default)]
pub(super) struct Resolved {
    pub policy: Policy,
    /// As [`Policy::groups`].
    pub groups: Vec<Mark>,
    /// As [`Policy::prefix_lists`].
    pub prefix_lists: Vec<Mark>,
    /// As [`Policy::interfaces`].
    pub interfaces: Vec<Mark>,
    /// Every rule that a document states, in the order of [`Policy::rules`].
    pub rules: Vec<(RuleIndex, RulePlaces)>,
}

impl Resolved {
    /// The places of a rule that a document states.
    pub(super) fn places(&self, rule: RuleIndex) -> Option<&RulePlaces> {
        let found = self.rules.binary_search_by_key(&rule, |(index, _)| *index).ok()?;
        self.rules.get(found).map(|(_, places)| places)
    }
}

/// A rule's place, and which item gave which service and peer.
#[derive(Debug)]
pub(super) struct RulePlaces {
    pub at: Mark,
    pub services: Vec<(Service, Mark)>,
    pub peers: Vec<(Peer, Mark)>,
}

/// Merges what the documents say. The policy is only worth something when the report has no
/// errors.
pub(super) fn policy(draft: Draft, files: &dyn Files, report: &mut Report) -> Resolved {
    let Draft { services, mut prefix_lists, mut groups, interfaces } = draft;
    let services = names::services(services, report);
    unique(&mut prefix_lists, "prefix list", |list| &list.name, report);
    unique(&mut groups, "group", |group| &group.name, report);
    ids(&groups, report);

    let mut resolved = Resolved::default();
    for NamedList { name, description, content } in prefix_lists {
        let mut entries = match content {
            ListContent::Entries(entries) => entries,
            ListContent::File(file) => lists::read(&file, files, report),
            ListContent::Invalid => Vec::new(),
        };
        entries.sort_unstable();
        entries.dedup();
        resolved.prefix_lists.push(name.at);
        let position = report.position(name.at);
        resolved.policy.prefix_lists.push(PrefixList { name: name.value, description, entries, position });
    }
    let names = Names::new(services, &groups, &resolved.policy.prefix_lists);
    for (index, group) in groups.into_iter().enumerate() {
        add_group(GroupIndex(index), group, &names, &mut resolved, report);
    }
    for interface in interfaces {
        let mut groups = Vec::new();
        for group in &interface.groups {
            if let Some(index) = names.group(group, report).filter(|index| !groups.contains(index)) {
                groups.push(index);
            }
        }
        let is_guest = interface.side == Side::Guest;
        let has_addresses = interface.addresses.is_some();
        resolved.interfaces.push(interface.pattern.at);
        resolved.policy.interfaces.push(InterfaceEntry {
            position: report.position(interface.pattern.at),
            pattern: interface.pattern.value,
            groups,
            side: interface.side,
            addresses: interface.addresses.or(is_guest.then(Vec::new)),
            macs: interface.macs,
            source_check: interface.source_check.unwrap_or(is_guest && has_addresses),
            mode: interface.mode,
            hook: interface.hook,
            infrastructure: interface.infrastructure,
            permit_ethertypes: interface.permit_ethertypes,
        });
    }
    resolved
}

fn add_group(
    group: GroupIndex,
    draft: NamedGroup,
    names: &Names,
    resolved: &mut Resolved,
    report: &mut Report,
) {
    let position = report.position(draft.name.at);
    let mut add = |rules: Vec<DraftRule>| -> Vec<Rule> {
        let resolve = |(index, draft): (usize, DraftRule)| {
            let direction = draft.direction;
            let (rule, places) = rule(draft, names, report);
            resolved.rules.push((RuleIndex { group, direction, index }, places));
            rule
        };
        rules.into_iter().enumerate().map(resolve).collect()
    };
    let inbound = add(draft.inbound);
    let outbound = match draft.outbound {
        Some(rules) => add(rules),
        None => vec![Rule::default_outbound(position.clone())],
    };
    let mut members = draft.members;
    members.sort_unstable();
    members.dedup();
    resolved.groups.push(draft.name.at);
    resolved.policy.groups.push(Group {
        name: draft.name.value,
        description: draft.description,
        tags: draft.tags,
        members,
        mode: draft.mode,
        inbound,
        outbound,
        position,
    });
}

fn rule(draft: DraftRule, names: &Names, report: &mut Report) -> (Rule, RulePlaces) {
    let mut places = RulePlaces {
        at: draft.at,
        services: Vec::with_capacity(draft.allow.len()),
        peers: Vec::with_capacity(draft.peers.len()),
    };
    for item in &draft.allow {
        names.allowed(item, report, |service| places.services.push((service, item.at)));
    }
    for item in &draft.peers {
        names.peer(item, report, |peer| places.peers.push((peer, item.at)));
    }
    let rule = Rule {
        id: draft.id.map(|id| id.value),
        description: draft.description,
        services: without_repetition(places.services.iter().map(|(service, _)| *service)),
        peers: without_repetition(places.peers.iter().map(|(peer, _)| *peer)),
        position: report.position(draft.at),
        is_default: false,
    };
    (rule, places)
}

/// The values in the order written, each once.
fn without_repetition<T: Copy + Eq + std::hash::Hash>(
    values: impl ExactSizeIterator<Item = T> + Clone,
) -> Vec<T> {
    /// Most rules name few things: comparing them is quicker than hashing.
    const FEW: usize = 8;
    if values.len() > FEW {
        let mut seen = HashSet::with_capacity(values.len());
        return values.filter(|value| seen.insert(*value)).collect();
    }
    let mut kept = Vec::with_capacity(values.len());
    for value in values {
        if !kept.contains(&value) {
            kept.push(value);
        }
    }
    kept
}

/// Puts definitions in name order, and keeps the first of those with one name.
fn unique<T>(of: &mut Vec<T>, what: &str, name: fn(&T) -> &Spanned<String>, report: &mut Report) {
    // Stable: definitions with one name stay in the order read.
    of.sort_by(|a, b| name(a).value.cmp(&name(b).value));
    of.dedup_by(|later, first| {
        let (later, first) = (name(later), name(first));
        let same = later.value == first.value;
        if same {
            twice(what, later, first.at, report);
        }
        same
    });
}

fn twice(what: &str, later: &Spanned<String>, first: Mark, report: &mut Report) {
    let first = report.position(first);
    report
        .error(later.at, format!("{what} {} is defined twice; the first is at {first}", quote(&later.value)));
}

/// Refuses two rules with one id.
fn ids(groups: &[NamedGroup], report: &mut Report) {
    let mut rules: Vec<&Spanned<String>> = groups
        .iter()
        .flat_map(|group| group.inbound.iter().chain(group.outbound.iter().flatten()))
        .filter_map(|rule| rule.id.as_ref())
        .collect();
    rules.sort_by_key(|id| id.at);
    let mut first: HashMap<&str, Mark> = HashMap::new();
    for id in rules {
        match first.get(id.value.as_str()) {
            Some(first) => twice("rule id", id, *first, report),
            None => drop(first.insert(&id.value, id.at)),
        }
    }
}
