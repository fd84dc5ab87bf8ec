//! What is enforced now: the kernel's maps, read together with the record that says what their
//! numbers mean. Works with the daemon dead, and changes nothing.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use sg_common::{
    abi::{RuleCounter, counter_slot},
    tuple::Direction,
    verdict::{AllowReason, Verdict},
};

use crate::{
    document,
    failure::{Exit, Failure},
    kernel::{Attached, HookState, KernelError, Paths, Reader, links::Interfaces},
    state::{Record, RuleRecord, Store, ZoneRecord},
    view::{
        Amount, AttachmentStatus, ByGroup, ByInterface, ByReason, ByRule, Counters, DirectionCounters, Fill,
        Flow, FlowList, Grouping, HookStatus, InterfaceCounters, MapFill, RuleCounters, Status, Uncovered,
        UnlockedPort, timestamp,
    },
};

/// What is enforced.
pub struct Enforced {
    reader: Reader,
    generation: u64,
    /// None where nothing is published, or nobody remembers.
    record: Option<Record>,
    store: Store,
}

/// One attachment and what is remembered of it.
pub struct Attachment {
    /// As the kernel has it.
    pub attached: Attached,
    /// The interface's present name.
    pub name: String,
    /// What the record says, where it speaks of this attachment.
    pub zone: Option<ZoneRecord>,
}

impl Attachment {
    /// The groups that the interface carries.
    #[must_use]
    pub fn groups(&self) -> Vec<String> {
        self.zone.as_ref().map_or_else(Vec::new, |zone| zone.groups.clone())
    }

    /// `enforce` or `audit`.
    #[must_use]
    pub fn mode(&self) -> String {
        self.zone.as_ref().map_or_else(|| "unknown".to_owned(), |zone| zone.mode.clone())
    }

    fn side(&self) -> String {
        match self.attached.side {
            crate::kernel::Side::Host => "host".to_owned(),
            crate::kernel::Side::Guest => "guest".to_owned(),
        }
    }
}

impl Enforced {
    /// Reads the pins and the record; `None` when nothing is pinned.
    ///
    /// # Errors
    ///
    /// They cannot be read.
    pub fn open(paths: &Paths, store: Store) -> Result<Option<Self>, Failure> {
        match Reader::open(paths).map_err(|error| Failure::kernel("read what is enforced", &error))? {
            Some(reader) => Self::of(reader, store).map(Some),
            None => Ok(None),
        }
    }

    /// Reads the record that belongs to what `reader` reads.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub fn of(reader: Reader, store: Store) -> Result<Self, Failure> {
        let (generation, _) = reader.state();
        let record = store.record(generation).map_err(Failure::state)?;
        Ok(Self { reader, generation, record, store })
    }

    /// The generation in force.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// What is remembered of it.
    #[must_use]
    pub fn record(&self) -> Option<&Record> {
        self.record.as_ref()
    }

    /// The kernel's maps.
    #[must_use]
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// The policy in force, read again from its documents.
    ///
    /// # Errors
    ///
    /// They are not kept any more, or cannot be read.
    pub fn policy(&self) -> Result<crate::policy::Policy, Failure> {
        let what = format!("read the policy of generation {}", self.generation);
        let remembered = self
            .record
            .as_ref()
            .and_then(|record| self.store.submission(&record.policy).map_err(Failure::state).transpose());
        let submission = remembered.unwrap_or_else(|| {
            let failure =
                Failure::new(Exit::Failed, what.clone(), "its documents are not in the state folder");
            Err(failure.with_remedy("name the folder of the agent that applied it with --state-dir"))
        })?;
        submission
            .load(&document::Limits::default())
            .policy
            .ok_or_else(|| Failure::new(Exit::Failed, what, "it is not valid for this version of the agent"))
    }

    /// Every attachment, in name order. One that died with its interface is left out.
    ///
    /// # Errors
    ///
    /// They cannot be read.
    pub fn attachments(&self) -> Result<Vec<Attachment>, Failure> {
        let failed = |error: KernelError| Failure::kernel("read the attachments", &error);
        let interfaces = Interfaces::snapshot().map_err(failed)?;
        let mut all: Vec<Attachment> = self
            .reader
            .attachments()
            .map_err(failed)?
            .into_iter()
            .filter_map(|attached| {
                let present = interfaces.iter().find(|found| found.ifindex == attached.ifindex);
                let is_alive = attached.hooks.iter().any(|hook| hook.is_alive);
                if present.is_none() && !is_alive {
                    return None;
                }
                let zone = self.record.as_ref().and_then(|record| {
                    let belongs = |zone: &&ZoneRecord| {
                        zone.zone == attached.zone && zone.ifindex == attached.ifindex && !zone.is_retired
                    };
                    record.zones.iter().find(belongs).cloned()
                });
                let name = present.map_or_else(|| attached.name.clone(), |found| found.name.clone());
                Some(Attachment { attached, name, zone })
            })
            .collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    /// The attachment of one interface.
    ///
    /// # Errors
    ///
    /// There is none.
    pub fn attachment(&self, name: &str) -> Result<Attachment, Failure> {
        self.attachments()?.into_iter().find(|attachment| attachment.name == name).ok_or_else(|| {
            Failure::new(
                Exit::Failed,
                format!("find {name}"),
                "nothing is enforced on an interface of this name",
            )
            .with_remedy("`sg-agent status` lists them")
        })
    }

    /// The counters in one grouping, of one interface or all.
    ///
    /// # Errors
    ///
    /// They cannot be read, or nothing is enforced on that interface.
    pub fn counters(&self, by: Grouping, interface: Option<&str>) -> Result<Counters, Failure> {
        Ok(match by {
            Grouping::Interface => Counters::Interfaces(self.by_interface(interface)?),
            Grouping::Reason => Counters::Reasons(ByReason::from(&self.by_interface(interface)?)),
            Grouping::Rule => Counters::Rules(self.by_rule(interface)?),
            Grouping::Group => Counters::Groups(ByGroup::from(&self.by_rule(interface)?)),
        })
    }

    /// The counters of one interface or all.
    ///
    /// # Errors
    ///
    /// As [`Self::counters`].
    pub fn by_interface(&self, interface: Option<&str>) -> Result<ByInterface, Failure> {
        let attachments = match interface {
            Some(name) => vec![self.attachment(name)?],
            None => self.attachments()?,
        };
        let interfaces = attachments.into_iter().map(|attachment| {
            let counters = self
                .reader
                .zone_counters(attachment.attached.zone)
                .map_err(|error| Failure::kernel("read the counters", &error))?;
            Ok(InterfaceCounters {
                ifindex: attachment.attached.ifindex,
                side: attachment.side(),
                mode: attachment.mode(),
                groups: attachment.groups(),
                inbound: DirectionCounters::of(&counters[Direction::Inbound as usize]),
                outbound: DirectionCounters::of(&counters[Direction::Outbound as usize]),
                name: attachment.name,
            })
        });
        Ok(ByInterface { generation: self.generation, interfaces: interfaces.collect::<Result<_, _>>()? })
    }

    /// Rules of the groups that `interface` carries: rules are counted over all interfaces.
    fn by_rule(&self, interface: Option<&str>) -> Result<ByRule, Failure> {
        let groups = interface.map(|name| Ok(self.attachment(name)?.groups())).transpose()?;
        let Some(record) = &self.record else {
            return Ok(ByRule { generation: self.generation, rules: Vec::new() });
        };
        let counters = self
            .reader
            .rule_counters(record.next_number)
            .map_err(|error| Failure::kernel("read the counters", &error))?;
        let clock = Clock::read(&self.reader);
        let is_asked = |rule: &&RuleRecord| groups.as_ref().is_none_or(|groups| groups.contains(&rule.group));
        let rules = record.rules.iter().filter(is_asked).map(|rule| {
            let RuleCounter { flows, packets, bytes, last_hit } =
                counters.get(rule.number as usize).copied().unwrap_or_default();
            RuleCounters {
                rule: rule.rule.clone(),
                id: rule.id.clone(),
                group: rule.group.clone(),
                direction: rule.direction.clone(),
                source: rule.source.clone(),
                flows,
                packets,
                bytes,
                last_hit: (last_hit != 0).then(|| clock.time(last_hit as u32)),
            }
        });
        Ok(ByRule { generation: self.generation, rules: rules.collect() })
    }

    /// All that is known without the daemon.
    ///
    /// # Errors
    ///
    /// Something cannot be read.
    pub fn status(&self) -> Result<Status, Failure> {
        let attachments = self.attachments()?;
        let mut status = Status { generation: self.generation, ..Status::default() };
        if let Some(record) = &self.record {
            status.applied = Some(record.applied.clone());
            status.digest = Some(record.policy.clone());
            status.rules = record.rules.len();
            status.documents = match self.store.submission(&record.policy) {
                Ok(submission) => submission.map_or_else(Vec::new, |submission| submission.names()),
                Err(error) => {
                    status.problems.push(error.to_string());
                    Vec::new()
                }
            };
        } else if self.generation > 0 {
            status.problems.push(format!(
                "generation {} is in force, and the state folder does not know it",
                self.generation
            ));
        }
        status.not_covered = uncovered(self.record.as_ref(), &attachments)?;
        status.maps = Some(self.fill()?);
        (status.unlocked, status.passed_unlocked) = self.unlocked(&attachments)?;
        for attachment in attachments {
            status
                .problems
                .extend(attachment.attached.hooks.iter().flat_map(|hook| troubles(&attachment, hook)));
            status.problems.extend(attachment.attached.lacks_xdp());
            status.attachments.push(attachment_status(attachment));
        }
        Ok(status)
    }

    /// What is open past the policy, and what passed by that.
    fn unlocked(&self, attachments: &[Attachment]) -> Result<(Vec<UnlockedPort>, Amount), Failure> {
        let failed = |error: KernelError| Failure::kernel("read what is unlocked", &error);
        let name = |zone| {
            let found = attachments.iter().find(|attachment| attachment.attached.zone == zone);
            found.map_or_else(|| format!("zone {zone}"), |attachment| attachment.name.clone())
        };
        let now = Timestamp::now();
        let unlocked = self.reader.unlocked(name).map_err(failed)?;
        let mut passed = Amount::default();
        let slot = counter_slot(Verdict::Allow(AllowReason::Unlock, None), false) as usize;
        for attachment in attachments {
            let counters = self.reader.zone_counters(attachment.attached.zone).map_err(failed)?;
            counters.iter().for_each(|direction| passed += direction[slot].into());
        }
        Ok((unlocked.iter().map(|one| UnlockedPort::of(one, now)).collect(), passed))
    }

    fn fill(&self) -> Result<MapFill, Failure> {
        let failed = |error: KernelError| Failure::kernel("read the maps", &error);
        let capacities = self.reader.capacities();
        let nodes = match self.generation {
            0 => 0,
            _ => self.reader.image().map_err(failed)?.nodes().len(),
        };
        let (used, capacity) = self.reader.flow_usage();
        let zones = self.record.as_ref().map_or(0, |record| record.zones.len());
        let rules = self.record.as_ref().map_or(0, |record| record.rules.len());
        let fill = |used: usize, capacity: u32| Fill { used: used as u64, capacity: capacity.into() };
        Ok(MapFill {
            flows: fill(used as usize, capacity),
            image_nodes: fill(nodes, capacities.image_nodes),
            rules: fill(rules, capacities.rules),
            zones: fill(zones, capacities.zones),
        })
    }

    /// The flow table, of one interface or all, and of one state or all.
    ///
    /// # Errors
    ///
    /// It cannot be read, or nothing is enforced on that interface.
    pub fn flows(&self, interface: Option<&str>, state: Option<&str>) -> Result<FlowList, Failure> {
        let attachments = match interface {
            Some(name) => vec![self.attachment(name)?],
            None => self.attachments()?,
        };
        let names: BTreeMap<u32, &str> = attachments
            .iter()
            .map(|attachment| (attachment.attached.zone, attachment.name.as_str()))
            .collect();
        let rules: BTreeMap<u32, &str> = self.record.as_ref().map_or_else(BTreeMap::new, |record| {
            record.rules.iter().map(|rule| (rule.number, rule.rule.as_str())).collect()
        });
        let clock = Clock::read(&self.reader);
        let flows = self.reader.flows().filter(|flow| state.is_none_or(|state| flow.state.name() == state));
        let mut list: Vec<Flow> = flows
            .filter_map(|flow| {
                Some(Flow {
                    interface: (*names.get(&flow.key.zone())?).to_owned(),
                    direction: flow.opener.name().to_owned(),
                    protocol: document::protocol_name(flow.key.protocol()),
                    local: flow.key.local().to_string(),
                    local_port: flow.key.local_port(),
                    remote: flow.key.remote().to_string(),
                    // For ICMP the key holds the query's direction there.
                    remote_port: if has_ports(flow.key.protocol()) { flow.key.remote_port() } else { 0 },
                    state: flow.state.name().to_owned(),
                    rule: flow.rule.and_then(|number| Some((*rules.get(&number)?).to_owned())),
                    generation: flow.generation,
                    idle_seconds: clock.seconds_since(flow.seen),
                    age_seconds: clock.seconds_since(flow.opened),
                    inbound_packets: flow.packets[Direction::Inbound as usize],
                    inbound_bytes: flow.bytes[Direction::Inbound as usize],
                    outbound_packets: flow.packets[Direction::Outbound as usize],
                    outbound_bytes: flow.bytes[Direction::Outbound as usize],
                })
            })
            .collect();
        list.sort_by(|a, b| {
            (&a.interface, &a.protocol, &a.remote, a.remote_port, a.local_port).cmp(&(
                &b.interface,
                &b.protocol,
                &b.remote,
                b.remote_port,
                b.local_port,
            ))
        });
        Ok(FlowList { generation: self.generation, flows: list })
    }
}

fn has_ports(protocol: sg_common::tuple::Protocol) -> bool {
    use sg_common::tuple::Protocol;
    protocol == Protocol::TCP || protocol == Protocol::UDP
}

/// Turns ticks into times of day.
struct Clock<'a> {
    now: Timestamp,
    reader: &'a Reader,
}

impl<'a> Clock<'a> {
    fn read(reader: &'a Reader) -> Self {
        Self { now: Timestamp::now(), reader }
    }

    fn seconds_since(&self, tick: u32) -> u64 {
        self.reader.since(tick).as_secs()
    }

    fn time(&self, tick: u32) -> String {
        let since = SignedDuration::try_from(self.reader.since(tick)).unwrap_or_default();
        timestamp(self.now.checked_sub(since).unwrap_or(self.now))
    }
}

fn attachment_status(attachment: Attachment) -> AttachmentStatus {
    let (side, mode) = (attachment.side(), attachment.mode());
    let Attachment { attached, name, zone } = attachment;
    let zone = zone.unwrap_or_default();
    let hooks = attached.hooks.into_iter().filter(|hook| hook.is_alive).map(|hook| HookStatus {
        direction: hook.direction.name().to_owned(),
        hook: hook.hook.name().to_owned(),
        mode: hook.mode.to_owned(),
        why: hook.why,
        other_programs: hook.other_programs,
    });
    AttachmentStatus {
        name,
        ifindex: attached.ifindex,
        zone: attached.zone,
        entry: zone.entry,
        side,
        mode,
        audit_groups: zone.audit_groups,
        groups: zone.groups,
        addresses: zone.addresses,
        source_check: zone.source_check,
        infrastructure: zone.infrastructure,
        permit_ethertypes: zone.permit_ethertypes.iter().map(|number| format!("0x{number:04x}")).collect(),
        hooks: hooks.collect(),
    }
}

fn troubles(attachment: &Attachment, hook: &HookState) -> Vec<String> {
    let name = &attachment.name;
    let mut troubles = Vec::new();
    if !hook.is_alive {
        troubles.push(format!(
            "{name}: {} is not enforced: the program is gone from {}",
            hook.direction, hook.hook
        ));
    }
    if !hook.programs_before.is_empty() {
        troubles.push(format!(
            "{name}: {} run before this agent at {}, and what they let pass for good is not judged",
            hook.programs_before.join(", "),
            hook.hook
        ));
    }
    troubles
}

/// Interfaces that nothing is enforced on, and why.
fn uncovered(record: Option<&Record>, attachments: &[Attachment]) -> Result<Vec<Uncovered>, Failure> {
    let interfaces = Interfaces::snapshot().map_err(|error| Failure::kernel("list interfaces", &error))?;
    let is_attached = |ifindex| {
        attachments.iter().any(|attachment| {
            attachment.attached.ifindex == ifindex
                && attachment.attached.hooks.iter().any(|hook| hook.is_alive)
        })
    };
    let is_matched = |ifindex| {
        record
            .is_some_and(|record| record.zones.iter().any(|zone| zone.ifindex == ifindex && !zone.is_retired))
    };
    let why = |name: &str, ifindex| {
        if name == "lo" {
            "loopback is never filtered"
        } else if is_matched(ifindex) {
            "an entry matches it, and it is not attached"
        } else {
            "no entry of the policy matches it"
        }
    };
    Ok(interfaces
        .iter()
        .filter(|interface| !is_attached(interface.ifindex))
        .map(|interface| Uncovered {
            name: interface.name.clone(),
            why: why(&interface.name, interface.ifindex).to_owned(),
            is_wanted: is_matched(interface.ifindex),
        })
        .collect())
}
