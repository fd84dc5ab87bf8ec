//! What the traffic that audit mode remembers would lose if a policy were enforced: each kind judged by
//! the rules as the programs would judge its next packet.
//!
//! What is remembered is an outline: the other side's address, the service and the reason. Where a
//! drop is no matter of rules, it is lost under every policy.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::{SignedDuration, Timestamp};
use sg_common::{
    addr::{Addr, Family},
    audited::{ENTRIES, Key, Seen},
    image,
    tuple::{Direction, Selector, Table},
    verdict::DropReason,
};

use super::WHAT;
use crate::{
    agent::{
        engine::Engine,
        memory, nothing_enforced,
        plan::{self, Candidate},
    },
    document,
    explain::words,
    failure::{Exit, Failure},
    image::Image,
    kernel::{Kernel, KernelError, Reader, links::Interfaces},
    policy::{Service, Side},
    view::{Amount, Audited, AuditedTraffic, timestamp},
};

/// Addresses of a line that an answer lists; beyond that they are counted.
const LISTED: usize = 1000;

/// What the traffic of one zone is judged by.
struct Court<'a> {
    interface: String,
    /// None: the policy does not cover the interface, so that everything passes.
    zone: Option<u32>,
    image: &'a Image,
    has_source_check: bool,
    /// Whether the side that is protected is another than the one that the traffic was seen from.
    is_reversed: bool,
}

/// What lines are told apart by, in the order in which they are shown.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Line {
    interface: String,
    direction: Direction,
    service: Option<String>,
    reason: DropReason,
}

/// What a line adds up.
#[derive(Default)]
struct Sum {
    amount: Amount,
    remotes: BTreeSet<Addr>,
    /// Since when and until when, back from now.
    first: std::time::Duration,
    last: Option<std::time::Duration>,
}

impl Engine {
    /// What the traffic seen under audit would lose if `candidate`, or the policy in force, were
    /// enforced now.
    ///
    /// # Errors
    ///
    /// Nothing is enforced, `apply` would refuse the policy, or something cannot be read.
    pub fn audited(&self, candidate: Option<&Candidate>) -> Result<Audited, Failure> {
        let failed = |error: KernelError| Failure::kernel("read what audit mode has seen", &error);
        let (Some(in_force), Some(reader)) = (&self.in_force, self.reader().map_err(failed)?) else {
            return Err(nothing_enforced(WHAT));
        };
        let seen = reader.audited().map_err(failed)?;
        let mut answer = Audited {
            generation: self.generation(),
            remembered: seen.len() as u64,
            // The kernel keeps some places free on each CPU.
            is_full: seen.len() > ENTRIES as usize * 9 / 10,
            ..Audited::default()
        };
        let now: Vec<_> = in_force.record.zones.iter().filter(|zone| !zone.is_retired).collect();
        let (image, inputs, records) = match candidate {
            None => {
                answer.digest = in_force.candidate.digest.clone();
                (reader.image().map_err(failed)?, in_force.inputs.clone(), in_force.record.zones.clone())
            }
            Some(candidate) => {
                answer.digest = candidate.digest.clone();
                answer.warnings = candidate.warnings.iter().map(ToString::to_string).collect();
                let interfaces = Interfaces::snapshot().map_err(failed)?;
                let attached = self.kernel.as_ref().map_or_else(Vec::new, Kernel::attached);
                let placement = plan::place(
                    &candidate.policy,
                    &interfaces,
                    &BTreeSet::new(),
                    &attached,
                    &self.before.zones,
                );
                let numbering = &self.before.numbering;
                let limit = memory::limit();
                let next =
                    plan::compile(&candidate.policy, &placement.inputs, numbering, self.sizes.rules, &limit)
                        .map_err(|error| Failure::new(Exit::Invalid, WHAT, error))?;
                answer.problems.extend(placement.problems);
                (next.image, placement.inputs, placement.zones)
            }
        };
        let mut courts: HashMap<u32, Court<'_>> = HashMap::new();
        for record in now {
            let then = records.iter().find(|then| then.ifindex == record.ifindex && !then.is_retired);
            let zone = then.and_then(|then| inputs.zones.get(then.zone as usize)?.as_ref());
            let court = Court {
                interface: record.name.clone(),
                zone: then.map(|then| then.zone),
                image: &image,
                has_source_check: zone.is_some_and(|zone| zone.source_check),
                is_reversed: zone.is_some_and(|zone| (zone.side == Side::Guest) != (record.side == "guest")),
            };
            if court.is_reversed {
                answer.problems.push(format!(
                    "{}: what was seen was told from the other side of it, and is not judged",
                    court.interface
                ));
            }
            courts.insert(record.zone, court);
        }
        sum_up(&mut answer, &seen, &courts, &reader);
        answer.loses = !answer.lost.is_empty();
        Ok(answer)
    }
}

/// Judges what was seen, and adds up what has a line in common.
fn sum_up(
    answer: &mut Audited,
    seen: &HashMap<Key, Seen>,
    courts: &HashMap<u32, Court<'_>>,
    reader: &Reader,
) {
    let mut lines: BTreeMap<Line, Sum> = BTreeMap::new();
    for (key, seen) in seen {
        // What a zone met that is nobody's now is of no interest.
        let Some(court) = courts.get(&key.way().zone).filter(|court| !court.is_reversed) else { continue };
        let amount = Amount { packets: seen.packets, bytes: seen.bytes };
        let Some(reason) = court.still_drops(key) else {
            answer.passes += amount;
            continue;
        };
        let direction = asking(key);
        let service = key.selector().map(|selector| service(key.remote.family(), selector));
        let line = Line { interface: court.interface.clone(), direction, service, reason };
        let sum = lines.entry(line).or_default();
        sum.amount += amount;
        if key.version != 0 {
            sum.remotes.insert(key.remote);
        }
        let [first, last] = [seen.first, seen.last].map(|tick| reader.since(tick as u32));
        sum.first = sum.first.max(first);
        sum.last = Some(sum.last.map_or(last, |known| known.min(last)));
    }
    let now = Timestamp::now();
    let told = |ago: std::time::Duration| {
        let ago = SignedDuration::try_from(ago).unwrap_or_default();
        timestamp(now.checked_sub(ago).unwrap_or(now))
    };
    answer.lost = lines
        .into_iter()
        .map(|(Line { interface, direction, service, reason }, sum)| AuditedTraffic {
            interface,
            direction: direction.name().to_owned(),
            service,
            reason: reason.name().to_owned(),
            remotes: sum.remotes.iter().take(LISTED).map(ToString::to_string).collect(),
            remote_count: sum.remotes.len() as u64,
            packets: sum.amount.packets,
            bytes: sum.amount.bytes,
            first_seen: told(sum.first),
            last_seen: told(sum.last.unwrap_or_default()),
        })
        .collect();
    answer.lost.sort_by(|a, b| {
        let place = |of: &AuditedTraffic| (of.interface.clone(), of.direction.clone());
        place(a).cmp(&place(b)).then(b.packets.cmp(&a.packets))
    });
}

/// The direction in which the service is asked for.
const fn asking(key: &Key) -> Direction {
    let direction = key.way().direction;
    if key.is_answer() { direction.reverse() } else { direction }
}

impl Court<'_> {
    /// Why the policy, enforced, would drop such packets; `None`: it would not.
    fn still_drops(&self, key: &Key) -> Option<DropReason> {
        let zone = self.zone?;
        // What the programs count, they name.
        let reason = key.reason().unwrap_or(DropReason::PolicyUnavailable);
        match reason {
            DropReason::NoRule
            | DropReason::Revoked
            | DropReason::PolicyUnavailable
            | DropReason::IcmpErrorWithoutFlow => (!self.opens(zone, key)).then_some(reason),
            // Whose an address is, was not kept.
            DropReason::SourceCheck if self.has_source_check => Some(reason),
            DropReason::SourceCheck => (!self.opens(zone, key)).then_some(DropReason::NoRule),
            DropReason::Malformed
            | DropReason::UnsupportedEthertype
            | DropReason::ExtensionChainTooLong
            | DropReason::Martian
            | DropReason::FragmentWithoutFirst
            | DropReason::RouterAdvertisementFromGuest
            | DropReason::DhcpServerFromGuest
            | DropReason::InvalidTcpFlags
            | DropReason::FlowTableFull => Some(reason),
        }
    }

    /// Whether a rule lets the question pass; its answers then do.
    fn opens(&self, number: u32, key: &Key) -> bool {
        let Some(selector) = key.selector() else { return false };
        let zone = image::zone(self.image, number);
        let word = zone.and_then(|zone| image::rule(self.image, zone, asking(key), key.remote, selector));
        word.is_ok_and(|word| word.rule().is_some())
    }
}

/// A selector in the policy's language.
fn service(family: Family, Selector { table, value }: Selector) -> String {
    match table {
        Table::Tcp => words::service(Service::Tcp(value, value)),
        Table::Udp => words::service(Service::Udp(value, value)),
        Table::Icmp => {
            let [kind, code] = value.to_be_bytes();
            words::service(Service::Icmp(family, Some((kind, (code != 0).then_some(code)))))
        }
        Table::Other => document::protocol_name(sg_common::tuple::Protocol(value as u8)),
    }
}
