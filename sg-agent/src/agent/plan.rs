//! From a policy, the interfaces that are there and what is in force: the next generation, whole
//! and in memory. Pure, but for the time that compiling takes.

use std::{collections::BTreeSet, sync::Arc, time::Instant};

use jiff::Timestamp;
use sg_common::addr::Prefix;

use super::{
    desired::{self, Matched},
    numbering::{Numbering, Renumbered},
    order::Order,
    zones::{Slot, ZoneTable},
};
use crate::{
    compile::{self, CompileError, Zone},
    document::{Counts, Diagnostic, Loaded},
    image::Image,
    kernel::{self, AttachRequest, Attached, links::Interface},
    policy::{Infrastructure, InterfaceEntry, Membership, Policy},
    state::{FORMAT, Record, RuleRecord, Submission, ZoneRecord, hex},
    view::timestamp,
};

/// A valid policy and where it came from. A copy shares both.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The policy.
    pub policy: Arc<Policy>,
    /// The texts that it was read from.
    pub submission: Arc<Submission>,
    /// The digest of the texts.
    pub digest: String,
    /// How much it holds.
    pub counts: Counts,
    /// What looks wrong with it.
    pub warnings: Vec<Diagnostic>,
}

impl Candidate {
    /// The policy of `loaded`, or every error in it.
    ///
    /// # Errors
    ///
    /// The diagnostics, errors before warnings, when the policy is not valid.
    pub fn of(loaded: Loaded) -> Result<Self, Vec<Diagnostic>> {
        let Loaded { policy, errors, warnings, counts, sources, documents } = loaded;
        match policy {
            Some(policy) => {
                Ok(Self { counts, warnings, ..Self::new(policy, Submission::of(sources, documents)) })
            }
            None => Err(errors.into_iter().chain(warnings).collect()),
        }
    }

    /// A policy that holds nothing that is worth a word, and its texts.
    pub(super) fn new(policy: Policy, submission: Submission) -> Self {
        let digest = submission.digest();
        let (policy, submission) = (Arc::new(policy), Arc::new(submission));
        Self { policy, submission, digest, counts: Counts::default(), warnings: Vec::new() }
    }
}

/// What the next generation starts from.
#[derive(Clone, Debug, Default)]
pub struct Before {
    /// Rule numbers in force.
    pub numbering: Numbering,
    /// Zone numbers in force.
    pub zones: ZoneTable,
    /// Something is in force and nobody remembers what its numbers mean.
    pub is_forgotten: bool,
}

/// What an image says besides its policy: equal inputs and an equal policy give an equal image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inputs {
    /// The addresses that carry each group.
    pub members: Membership,
    /// The zones by number.
    pub zones: Vec<Option<Zone>>,
}

/// Interfaces put in relation to a policy.
#[derive(Clone, Debug)]
pub struct Placement {
    /// What the image says of it.
    pub inputs: Inputs,
    /// Zone numbers.
    pub table: ZoneTable,
    /// Zone numbers that change hands: to be cleared before the generation comes into force.
    pub given: Vec<u32>,
    /// What is to be attached.
    pub requests: Vec<AttachRequest>,
    /// The zones for the record.
    pub zones: Vec<ZoneRecord>,
    /// Interfaces that cannot be enforced on, and why.
    pub problems: Vec<String>,
}

/// Places `interfaces`, but those named in `excluded`, under `policy`.
#[must_use]
pub fn place(
    policy: &Policy,
    interfaces: &[Interface],
    excluded: &BTreeSet<String>,
    attached: &[Attached],
    before: &ZoneTable,
) -> Placement {
    let (matched, unreadable): (Vec<_>, Vec<_>) = desired::matched(policy, interfaces)
        .into_iter()
        .filter(|matched| !excluded.contains(&matched.interface.name))
        .partition(|matched| matched.interface.is_supported);
    let problems = unreadable.iter().map(|matched| {
        let Interface { name, arphrd, .. } = matched.interface;
        format!("{name}: carries neither Ethernet frames nor bare IP (ARPHRD {arphrd}), so nothing is enforced on it")
    });

    // An interface that has left may have been made anew under its old index.
    let mut before = before.clone();
    for dead in attached.iter().filter(|attached| attached.is_gone) {
        before.0.retain(|_, slot| {
            let (Slot::Used(ifindex) | Slot::Retired(ifindex)) = *slot;
            ifindex != dead.ifindex
        });
    }
    let indices: Vec<u32> = matched.iter().map(|matched| matched.interface.ifindex).collect();
    let present = interfaces.iter().map(|interface| interface.ifindex).collect();
    let attached = attached.iter().map(|attached| (attached.ifindex, attached.zone)).collect();
    let (table, given) = before.assign(&indices, &present, &attached);

    let requests = matched.iter().filter_map(|matched| {
        Some(AttachRequest {
            ifindex: matched.interface.ifindex,
            name: matched.interface.name.clone(),
            zone: table.zone_of(matched.interface.ifindex)?,
            side: matched.entry.side.into(),
            hook: matched.entry.hook.into(),
            bare_ip: matched.interface.bare_ip,
        })
    });
    Placement {
        inputs: Inputs {
            members: desired::membership(policy, &matched),
            zones: desired::zones(policy, &table, &matched),
        },
        requests: requests.collect(),
        zones: zone_records(policy, &table, &matched, interfaces),
        problems: problems.collect(),
        table,
        given,
    }
}

impl Placement {
    /// The same, with the programs also on each interface that `other` has and this one has not. Everything
    /// passes there.
    #[must_use]
    pub fn beside(mut self, other: &Self) -> Self {
        for (zone, slot) in &other.table.0 {
            let (Slot::Used(ifindex) | Slot::Retired(ifindex)) = *slot;
            if self.table.zone_of(ifindex).is_some() || self.table.0.contains_key(zone) {
                continue;
            }
            self.table.0.insert(*zone, Slot::Retired(ifindex));
            let named = other.zones.iter().find(|record| record.zone == *zone);
            self.zones.extend(named.map(|record| ZoneRecord {
                zone: *zone,
                ifindex,
                name: record.name.clone(),
                is_retired: true,
                ..ZoneRecord::default()
            }));
        }
        self.zones.sort_by_key(|record| record.zone);
        self.inputs.zones = desired::with_retired(&self.table, &self.inputs.zones);
        let is_new =
            |request: &&AttachRequest| self.requests.iter().all(|own| own.ifindex != request.ifindex);
        let more: Vec<_> = other.requests.iter().filter(is_new).cloned().collect();
        self.requests.extend(more);
        let given: Vec<_> = other.given.iter().filter(|zone| !self.given.contains(zone)).copied().collect();
        self.given.extend(given);
        self
    }
}

/// The next generation.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The compiled policy.
    pub image: Image,
    /// Its rules' numbers.
    pub renumbered: Renumbered,
    /// Milliseconds that compiling took.
    pub compile_ms: f64,
}

/// Compiles `policy` as placed by `inputs`.
///
/// # Errors
///
/// [`CompileError`], when it does not fit `limits`.
pub fn compile(
    policy: &Policy,
    inputs: &Inputs,
    numbering: &Numbering,
    rule_capacity: u32,
    limits: &compile::Limits,
) -> Result<Plan, CompileError> {
    let start = Instant::now();
    let renumbered = numbering.renumber(policy, rule_capacity);
    let input = compile::Input {
        policy,
        members: &inputs.members,
        zones: &inputs.zones,
        numbers: &renumbered.numbers,
    };
    let image = compile::compile(&input, limits)?;
    Ok(Plan { image, renumbered, compile_ms: start.elapsed().as_secs_f64() * 1000.0 })
}

/// Which generation a record is of, and how it came to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number.
    pub generation: u64,
    /// When it was applied.
    pub applied: String,
    /// By whom.
    pub author: String,
    /// What for.
    pub cause: String,
}

impl Entry {
    /// One that comes to be now.
    #[must_use]
    pub fn new(generation: u64, order: &Order) -> Self {
        let Order { author, cause, .. } = order.clone();
        Self { generation, applied: timestamp(Timestamp::now()), author, cause }
    }

    /// That of a record.
    #[must_use]
    pub fn of(record: &Record) -> Self {
        let Record { generation, applied, author, cause, .. } = record.clone();
        Self { generation, applied, author, cause }
    }
}

/// The record of a generation.
#[must_use]
pub fn record(candidate: &Candidate, placement: &Placement, plan: &Plan, entry: Entry) -> Record {
    let Candidate { policy, digest, .. } = candidate;
    let rules = plan.renumbered.rules.iter().filter_map(|(index, number, key)| {
        let rule = policy.rule(*index)?;
        Some(RuleRecord {
            number: number.0,
            key: key.to_string(),
            rule: policy.rule_name(*index),
            id: rule.id.clone(),
            group: policy.groups.get(index.group.0)?.name.clone(),
            direction: index.direction.name().to_owned(),
            source: format!("{}:{}", rule.position.file, rule.position.line),
        })
    });
    Record {
        format: FORMAT,
        generation: entry.generation,
        applied: entry.applied,
        author: entry.author,
        cause: entry.cause,
        policy: digest.clone(),
        image: hex(&plan.image.digest()),
        next_number: plan.renumbered.numbering.next(),
        freed_numbers: plan.renumbered.numbering.freed().collect(),
        rules: rules.collect(),
        zones: placement.zones.clone(),
    }
}

fn zone_records(
    policy: &Policy,
    table: &ZoneTable,
    matched: &[Matched<'_>],
    interfaces: &[Interface],
) -> Vec<ZoneRecord> {
    table
        .0
        .iter()
        .filter_map(|(zone, slot)| match *slot {
            Slot::Used(ifindex) => {
                let matched = matched.iter().find(|matched| matched.interface.ifindex == ifindex)?;
                Some(zone_record(policy, *zone, matched.interface, matched.entry, &matched.addresses))
            }
            Slot::Retired(ifindex) => {
                let interface = interfaces.iter().find(|interface| interface.ifindex == ifindex)?;
                Some(ZoneRecord {
                    zone: *zone,
                    ifindex,
                    name: interface.name.clone(),
                    is_retired: true,
                    ..ZoneRecord::default()
                })
            }
        })
        .collect()
}

fn zone_record(
    policy: &Policy,
    zone: u32,
    interface: &Interface,
    entry: &InterfaceEntry,
    addresses: &[Prefix],
) -> ZoneRecord {
    let group = |index: &crate::policy::GroupIndex| Some(policy.groups.get(index.0)?.name.clone());
    let macs = entry.macs.iter().map(ToString::to_string);
    ZoneRecord {
        zone,
        ifindex: interface.ifindex,
        name: interface.name.clone(),
        is_retired: false,
        entry: entry.pattern.clone(),
        groups: entry.groups.iter().filter_map(group).collect(),
        side: entry.side.name().to_owned(),
        mode: policy.mode_of(entry).name().to_owned(),
        audit_groups: policy.audit_groups(entry).map(|group| group.name.clone()).collect(),
        source_check: entry.source_check,
        infrastructure: infrastructure(entry.infrastructure),
        permit_ethertypes: entry.permit_ethertypes.clone(),
        addresses: addresses.iter().map(ToString::to_string).chain(macs).collect(),
    }
}

/// The names of the parts that pass.
#[must_use]
pub fn infrastructure(Infrastructure { arp, ndp, dhcp, mld }: Infrastructure) -> Vec<String> {
    [(arp, "arp"), (ndp, "ndp"), (dhcp, "dhcp"), (mld, "mld")]
        .into_iter()
        .filter(|(is_on, _)| *is_on)
        .map(|(_, name)| name.to_owned())
        .collect()
}

impl From<crate::policy::Side> for kernel::Side {
    fn from(side: crate::policy::Side) -> Self {
        match side {
            crate::policy::Side::Host => Self::Host,
            crate::policy::Side::Guest => Self::Guest,
        }
    }
}

impl From<crate::policy::Hook> for kernel::HookChoice {
    fn from(hook: crate::policy::Hook) -> Self {
        match hook {
            crate::policy::Hook::Auto => Self::Auto,
            crate::policy::Hook::Xdp => Self::Xdp,
            crate::policy::Hook::Tc => Self::Tc,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        agent::{desired::tests::interface, steps::tests::attached},
        document::{Limits, parse_str},
    };

    const POLICY: &str = "version: 1
groups:
  web: {inbound: [{allow: https, from: anywhere}, {allow: all, from: group:web}]}
interfaces:
  - {match: eth2, groups: [web]}
  - {match: 'tap*', side: guest, groups: [web], addresses: [10.0.2.7], hook: tc}
";

    fn candidate() -> Candidate {
        let loaded = parse_str("p.yaml", POLICY, &Limits::default());
        assert_eq!(loaded.errors, []);
        Candidate::of(loaded).unwrap()
    }

    fn plan(candidate: &Candidate, placement: &Placement, before: &Before) -> Plan {
        let limits = compile::Limits::MAX;
        compile(&candidate.policy, &placement.inputs, &before.numbering, 1000, &limits).unwrap()
    }

    #[test]
    fn the_same_again_is_the_same_image_and_an_address_more_is_not() {
        let candidate = candidate();
        let interfaces = [interface(2, "eth2", &["10.0.0.1"]), interface(3, "eth3", &["10.0.9.1"])];
        let none = BTreeSet::new();
        let first = place(&candidate.policy, &interfaces, &none, &[], &ZoneTable::default());
        let first_plan = plan(&candidate, &first, &Before::default());
        let before = Before {
            numbering: first_plan.renumbered.numbering.clone(),
            zones: first.table.clone(),
            is_forgotten: false,
        };

        let again = place(&candidate.policy, &interfaces, &none, &[attached(2, 0)], &before.zones);
        assert_eq!(again.inputs, first.inputs);
        assert!(again.given.is_empty());
        assert_eq!(plan(&candidate, &again, &before).image, first_plan.image);

        let moved = [interface(2, "eth2", &["10.0.0.2"]), interface(3, "eth3", &["10.0.9.1"])];
        let other = place(&candidate.policy, &moved, &none, &[attached(2, 0)], &before.zones);
        assert_ne!(other.inputs, first.inputs);
        assert_ne!(plan(&candidate, &other, &before).image, first_plan.image);
        // What no entry matches changes nothing.
        let unrelated = [interface(2, "eth2", &["10.0.0.1"]), interface(3, "eth3", &["10.0.9.7"])];
        let same = place(&candidate.policy, &unrelated, &none, &[attached(2, 0)], &before.zones);
        assert_eq!(same.inputs, first.inputs);
    }

    #[test]
    fn an_interface_made_anew_under_its_old_index_gets_another_zone() {
        let candidate = candidate();
        let interfaces = [interface(2, "eth2", &[])];
        let before = ZoneTable([(0, Slot::Used(2))].into());
        let none = BTreeSet::new();
        let alive = place(&candidate.policy, &interfaces, &none, &[attached(2, 0)], &before);
        assert_eq!(alive.requests[0].zone, 0);
        let mut dead = attached(2, 0);
        for hook in &mut dead.hooks {
            hook.is_alive = false;
        }
        // Somebody took the links from an interface that is still the same.
        let severed = place(&candidate.policy, &interfaces, &none, &[dead.clone()], &before);
        assert_eq!((severed.requests[0].zone, severed.given), (0, vec![]));
        dead.is_gone = true;
        let anew = place(&candidate.policy, &interfaces, &none, &[dead], &before);
        assert_eq!((anew.requests[0].zone, anew.given), (1, vec![1]));
    }

    #[test]
    fn what_is_excluded_or_unreadable_is_left_alone() {
        let candidate = candidate();
        let mut can_bus = interface(4, "tap0", &[]);
        can_bus.is_supported = false;
        let interfaces = [interface(2, "eth2", &[]), can_bus];
        let excluded = BTreeSet::from(["eth2".to_owned()]);
        let before = ZoneTable([(0, Slot::Used(2))].into());
        let placed = place(&candidate.policy, &interfaces, &excluded, &[attached(2, 0)], &before);
        assert_eq!(placed.requests, []);
        assert!(placed.problems[0].starts_with("tap0: carries neither"), "{:?}", placed.problems);
        assert!(placed.zones[0].is_retired);
    }

    #[test]
    fn the_record_names_every_number() {
        let candidate = candidate();
        let interfaces = [interface(2, "eth2", &["10.0.0.1"]), interface(7, "tap0", &[])];
        let placement = place(&candidate.policy, &interfaces, &BTreeSet::new(), &[], &ZoneTable::default());
        let plan = plan(&candidate, &placement, &Before::default());
        let record = record(&candidate, &placement, &plan, Entry::new(3, &Order::event("a test")));
        let rules: Vec<_> =
            record.rules.iter().map(|rule| (rule.number, rule.rule.as_str(), rule.source.as_str())).collect();
        assert_eq!(
            rules,
            [
                (0, "web/inbound/0", "p.yaml:3"),
                (1, "web/inbound/1", "p.yaml:3"),
                (2, "web/outbound/default", "p.yaml:3")
            ]
        );
        let zones: Vec<_> = record
            .zones
            .iter()
            .map(|zone| (zone.zone, zone.name.as_str(), zone.side.as_str(), zone.addresses.join(",")))
            .collect();
        assert_eq!(
            zones,
            [(0, "eth2", "host", "10.0.0.1/32".to_owned()), (1, "tap0", "guest", "10.0.2.7/32".to_owned())]
        );
        assert_eq!(Numbering::of(&record), plan.renumbered.numbering);
        assert_eq!(ZoneTable::of(&record), placement.table);
    }
}
