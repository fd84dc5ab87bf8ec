//! The answers of `counters`, one shape for each grouping.

use std::{collections::BTreeMap, ops::AddAssign};

use serde::{Deserialize, Serialize};
use sg_common::{
    abi::{COUNTER_SLOTS, Counter, counter_slot},
    verdict::{AllowReason, DropReason, Verdict},
};
use utoipa::ToSchema;

/// The counters in one of their four groupings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum Counters {
    /// By interface.
    Interfaces(ByInterface),
    /// By rule.
    Rules(ByRule),
    /// By group.
    Groups(ByGroup),
    /// By drop reason.
    Reasons(ByReason),
}

/// Packets and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Amount {
    /// Packets.
    pub packets: u64,
    /// Bytes of whole frames.
    pub bytes: u64,
}

impl AddAssign for Amount {
    fn add_assign(&mut self, Self { packets, bytes }: Self) {
        self.packets += packets;
        self.bytes += bytes;
    }
}

impl From<Counter> for Amount {
    fn from(Counter { packets, bytes }: Counter) -> Self {
        Self { packets, bytes }
    }
}

/// The counters of every attached interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ByInterface {
    /// The generation in force.
    pub generation: u64,
    /// One for each interface, in name order.
    pub interfaces: Vec<InterfaceCounters>,
}

/// The counters of one interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InterfaceCounters {
    /// The interface.
    pub name: String,
    /// The kernel's index of it.
    pub ifindex: u32,
    /// `host` or `guest`.
    pub side: String,
    /// `enforce` or `audit`.
    pub mode: String,
    /// The groups that it carries.
    pub groups: Vec<String>,
    /// Towards the instance.
    pub inbound: DirectionCounters,
    /// From the instance.
    pub outbound: DirectionCounters,
}

/// What passed and what was dropped in one direction. Every packet is counted once: in `allowed`
/// or in `dropped`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DirectionCounters {
    /// All that passed, audited drops among it.
    pub allowed: Amount,
    /// All that was dropped.
    pub dropped: Amount,
    /// What was dropped, by reason; those that never happened are left out.
    pub reasons: BTreeMap<String, Amount>,
    /// What passed, by what let it pass; what never happened is left out.
    pub allowed_by: BTreeMap<String, Amount>,
    /// What would have been dropped, had the interface not been in audit mode.
    pub audited: Amount,
    /// The same by reason.
    pub audited_reasons: BTreeMap<String, Amount>,
}

impl DirectionCounters {
    /// Names the slots of one zone and direction.
    #[must_use]
    pub fn of(slots: &[Counter; COUNTER_SLOTS as usize]) -> Self {
        let amount = |verdict, is_audited| Amount::from(slots[counter_slot(verdict, is_audited) as usize]);
        let mut counters = Self::default();
        for reason in AllowReason::ALL {
            let passed = amount(Verdict::Allow(reason, None), false);
            counters.allowed += passed;
            insert(&mut counters.allowed_by, reason.name(), passed);
        }
        for reason in DropReason::ALL {
            let dropped = amount(Verdict::Drop(reason), false);
            counters.dropped += dropped;
            insert(&mut counters.reasons, reason.name(), dropped);
            let audited = amount(Verdict::Drop(reason), true);
            counters.allowed += audited;
            counters.audited += audited;
            insert(&mut counters.audited_reasons, reason.name(), audited);
        }
        counters
    }
}

fn insert(amounts: &mut BTreeMap<String, Amount>, name: &str, amount: Amount) {
    if amount.packets > 0 {
        amounts.insert(name.to_owned(), amount);
    }
}

/// What each rule admitted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ByRule {
    /// The generation in force.
    pub generation: u64,
    /// Every rule, in the policy's order.
    pub rules: Vec<RuleCounters>,
}

/// What one rule admitted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RuleCounters {
    /// `GROUP/DIRECTION/INDEX`.
    pub rule: String,
    /// The user's name for it.
    pub id: Option<String>,
    /// The group that holds it.
    pub group: String,
    /// `inbound` or `outbound`.
    pub direction: String,
    /// `FILE:LINE`.
    pub source: String,
    /// Flows opened.
    pub flows: u64,
    /// Packets, both directions of its flows.
    pub packets: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// When it last admitted a packet: RFC 3339, UTC.
    pub last_hit: Option<String>,
}

/// What the rules of each group admitted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ByGroup {
    /// The generation in force.
    pub generation: u64,
    /// Every group that has a rule, in name order.
    pub groups: Vec<GroupAmounts>,
}

/// What the rules of one group admitted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GroupAmounts {
    /// The group.
    pub group: String,
    /// Its inbound rules together.
    pub inbound: RuleAmount,
    /// Its outbound rules together.
    pub outbound: RuleAmount,
}

/// What several rules admitted together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RuleAmount {
    /// How many rules.
    pub rules: u64,
    /// Flows opened.
    pub flows: u64,
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
    /// When one of them last admitted a packet.
    pub last_hit: Option<String>,
}

impl From<&ByRule> for ByGroup {
    fn from(by_rule: &ByRule) -> Self {
        let mut groups: BTreeMap<&str, GroupAmounts> = BTreeMap::new();
        for rule in &by_rule.rules {
            let group = groups
                .entry(&rule.group)
                .or_insert_with(|| GroupAmounts { group: rule.group.clone(), ..GroupAmounts::default() });
            let amount = match rule.direction.as_str() {
                "outbound" => &mut group.outbound,
                _ => &mut group.inbound,
            };
            amount.rules += 1;
            amount.flows += rule.flows;
            amount.packets += rule.packets;
            amount.bytes += rule.bytes;
            // The texts have one form, so that their order is that of time.
            amount.last_hit = amount.last_hit.take().max(rule.last_hit.clone());
        }
        Self { generation: by_rule.generation, groups: groups.into_values().collect() }
    }
}

/// What was dropped, by reason, over all interfaces.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ByReason {
    /// The generation in force.
    pub generation: u64,
    /// Every reason that happened, in numeric order.
    pub reasons: Vec<ReasonCounters>,
}

/// What was dropped for one reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReasonCounters {
    /// The drop reason.
    pub reason: String,
    /// What it means.
    pub summary: String,
    /// Towards the instances.
    pub inbound: Amount,
    /// From the instances.
    pub outbound: Amount,
    /// What would have been dropped in audit mode, both directions.
    pub audited: Amount,
}

impl From<&ByInterface> for ByReason {
    fn from(by_interface: &ByInterface) -> Self {
        let reasons = DropReason::ALL.into_iter().map(|reason| {
            let mut counters = ReasonCounters {
                reason: reason.name().to_owned(),
                summary: reason.summary().to_owned(),
                ..ReasonCounters::default()
            };
            for interface in &by_interface.interfaces {
                for (from, to) in [
                    (&interface.inbound, &mut counters.inbound),
                    (&interface.outbound, &mut counters.outbound),
                ] {
                    *to += from.reasons.get(reason.name()).copied().unwrap_or_default();
                    counters.audited += from.audited_reasons.get(reason.name()).copied().unwrap_or_default();
                }
            }
            counters
        });
        let happened = |counters: &ReasonCounters| {
            counters.inbound.packets + counters.outbound.packets + counters.audited.packets > 0
        };
        Self { generation: by_interface.generation, reasons: reasons.filter(happened).collect() }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn slots(filled: &[(Verdict, bool, u64)]) -> [Counter; COUNTER_SLOTS as usize] {
        let mut slots = [Counter::default(); COUNTER_SLOTS as usize];
        for (verdict, is_audited, packets) in filled {
            slots[counter_slot(*verdict, *is_audited) as usize] =
                Counter { packets: *packets, bytes: packets * 60 };
        }
        slots
    }

    #[test]
    fn every_slot_is_in_allowed_or_in_dropped_and_named() {
        let slots = slots(&[
            (Verdict::Allow(AllowReason::Rule, None), false, 1),
            (Verdict::Allow(AllowReason::Flow, None), false, 2),
            (Verdict::Drop(DropReason::NoRule), false, 4),
            (Verdict::Drop(DropReason::Martian), false, 8),
            (Verdict::Drop(DropReason::NoRule), true, 16),
        ]);
        let counters = DirectionCounters::of(&slots);
        assert_eq!(
            serde_json::to_value(&counters).unwrap(),
            json!({
                "allowed": {"packets": 19, "bytes": 1140},
                "dropped": {"packets": 12, "bytes": 720},
                "reasons": {
                    "no_rule": {"packets": 4, "bytes": 240},
                    "martian": {"packets": 8, "bytes": 480},
                },
                "allowed_by": {
                    "rule": {"packets": 1, "bytes": 60},
                    "flow": {"packets": 2, "bytes": 120},
                },
                "audited": {"packets": 16, "bytes": 960},
                "audited_reasons": {"no_rule": {"packets": 16, "bytes": 960}},
            })
        );
        let total: u64 = slots.iter().map(|slot| slot.packets).sum();
        assert_eq!(counters.allowed.packets + counters.dropped.packets, total);
    }

    #[test]
    fn groups_and_reasons_add_up_what_rules_and_interfaces_say() {
        let rule = |group: &str, direction: &str, flows, last_hit: Option<&str>| RuleCounters {
            group: group.to_owned(),
            direction: direction.to_owned(),
            flows,
            packets: flows * 10,
            bytes: flows * 100,
            last_hit: last_hit.map(ToOwned::to_owned),
            ..RuleCounters::default()
        };
        let by_rule = ByRule {
            generation: 7,
            rules: vec![
                rule("web", "inbound", 1, Some("2026-11-23T14:00:00Z")),
                rule("web", "inbound", 2, None),
                rule("web", "outbound", 4, None),
                rule("db", "inbound", 0, None),
            ],
        };
        let by_group = ByGroup::from(&by_rule);
        let shown: Vec<_> = by_group
            .groups
            .iter()
            .map(|group| {
                (group.group.as_str(), group.inbound.rules, group.inbound.flows, group.outbound.flows)
            })
            .collect();
        assert_eq!(shown, [("db", 1, 0, 0), ("web", 2, 3, 4)]);
        assert_eq!(by_group.groups[1].inbound.last_hit.as_deref(), Some("2026-11-23T14:00:00Z"));

        let no_rule = slots(&[(Verdict::Drop(DropReason::NoRule), false, 3)]);
        let audited = slots(&[(Verdict::Drop(DropReason::NoRule), true, 5)]);
        let interface = |inbound, outbound| InterfaceCounters {
            inbound: DirectionCounters::of(inbound),
            outbound: DirectionCounters::of(outbound),
            ..InterfaceCounters::default()
        };
        let by_interface = ByInterface {
            generation: 7,
            interfaces: vec![interface(&no_rule, &no_rule), interface(&no_rule, &audited)],
        };
        let by_reason = ByReason::from(&by_interface);
        assert_eq!(by_reason.reasons.len(), 1);
        let ReasonCounters { reason, inbound, outbound, audited, .. } = &by_reason.reasons[0];
        assert_eq!(
            (reason.as_str(), inbound.packets, outbound.packets, audited.packets),
            ("no_rule", 6, 3, 5)
        );
    }
}
