//! `explain`: the verdict for a packet that nobody sent, and what every rule says of it.
//!
//! The verdict is [`sg_common::decide`]'s, over a compiled image and a packet that is made for the
//! question: the same code over the same bytes as in the kernel. What the other rules say is
//! [`crate::policy::eval`]'s. Nothing here reads maps or files, and no live flow is touched: one
//! that the question names is copied into a table of its own first.

use std::collections::HashMap;

use sg_common::{
    abi::{self, Control},
    decide::{Hook, Tables, decide},
    flow::{
        Bucket, Entry, FlowKey, FlowState, Origin, SLOTS, Tail,
        table::{Context, Memory, Opening, insert},
    },
    image,
    tuple::{Direction, Protocol, Selector, Table, Tuple},
    unlock::{Unlock, Unlocks},
    verdict::{AllowReason, RuleNumber, Verdict},
    wire::{LinkLayer, Packet, Slice, parse},
};

mod frame;
mod question;
pub(crate) mod words;

pub use self::question::{End, InvalidQuestion, Question, What};
use crate::{
    image::Image,
    policy::{
        GroupIndex, Membership, Mode, Policy, RuleIndex, Side,
        eval::{self, Mismatch},
    },
    view::{Explanation, RuleAnswer},
};

/// The policy that is asked, whole.
pub struct Asked<'a> {
    /// The rules.
    pub policy: &'a Policy,
    /// The addresses that carry each group.
    pub members: &'a Membership,
    /// The compiled policy.
    pub image: &'a Image,
    /// The zone of the interface.
    pub zone: u32,
    /// The interface's groups.
    pub groups: &'a [GroupIndex],
    /// Which side of it is protected.
    pub side: Side,
    /// Whether drops are carried out there.
    pub mode: Mode,
    /// The `match` of its entry.
    pub entry: &'a str,
    /// What each rule number means.
    pub rules: HashMap<RuleNumber, RuleIndex>,
    /// What is in force, where that is asked.
    pub live: Option<Live>,
}

/// What is in force.
pub struct Live {
    /// The generation.
    pub generation: u64,
    /// The live flow that the question names.
    pub flow: Option<LiveFlow>,
    /// Whether flows keep the verdict of the generation that admitted them.
    pub keep_flows: bool,
    /// What is open past the policy.
    pub unlocked: Vec<Unlock>,
}

/// A live flow.
#[derive(Clone, Copy, Debug)]
pub struct LiveFlow {
    /// Its state.
    pub state: FlowState,
    /// The direction that opened it.
    pub opener: Direction,
    /// Low bits of the generation that admitted it.
    pub generation: u32,
    /// The rule that admitted it.
    pub rule: Option<u32>,
    /// What the opening packet asked for.
    pub selector: Selector,
}

/// The key under which a flow of the question's tuple would be kept. ICMP flows are told apart by
/// an id that no question has.
#[must_use]
pub fn flow_key(question: &Question, zone: u32) -> Option<FlowKey> {
    let tuple = question.tuple();
    let (local, remote) = question.local_and_remote();
    match tuple.selector.table {
        Table::Icmp => None,
        Table::Other => Some(FlowKey::new(zone, tuple.protocol, tuple.local, 0, tuple.remote, 0)),
        Table::Tcp | Table::Udp => {
            Some(FlowKey::new(zone, tuple.protocol, tuple.local, local.port?, tuple.remote, remote.port?))
        }
    }
}

/// Answers `question`.
#[must_use]
pub fn explain(question: &Question, asked: &Asked<'_>) -> Explanation {
    let tuple = question.tuple();
    let verdict = judge(question, asked);
    let mut explanation = Explanation {
        interface: question.interface.clone(),
        direction: question.direction.name().to_owned(),
        tuple: question.to_string(),
        entry: Some(asked.entry.to_owned()),
        mode: Some(asked.mode.name().to_owned()),
        groups: asked
            .groups
            .iter()
            .filter_map(|group| Some(asked.policy.groups.get(group.0)?.name.clone()))
            .collect(),
        generation: asked.live.as_ref().map(|live| live.generation),
        rules: answers(asked, question.direction, &tuple),
        ..Explanation::default()
    };
    match verdict {
        Verdict::Allow(reason, rule) => {
            explanation.verdict = "allow".to_owned();
            explanation.via = Some(reason.name().to_owned());
            if let Some(index) = rule.and_then(|number| asked.rules.get(&number)) {
                explanation.rule = Some(asked.policy.rule_name(*index));
                if let Some(rule) = asked.policy.rule(*index) {
                    explanation.source = Some(words::source(rule));
                    explanation.rule_id.clone_from(&rule.id);
                }
            }
            explanation.note = note(question, asked, reason, rule);
        }
        Verdict::Drop(reason) => {
            explanation.verdict = "drop".to_owned();
            explanation.reason = Some(reason.name().to_owned());
            let passes =
                if asked.mode == Mode::Audit { "; audit mode lets it pass and counts it" } else { "" };
            explanation.note = Some(format!("{}{passes}", reason.summary()));
        }
    }
    explanation
}

/// The answer for an interface that nothing is enforced on.
#[must_use]
pub fn left_alone(question: &Question, why: String) -> Explanation {
    Explanation {
        verdict: "allow".to_owned(),
        note: Some(why),
        interface: question.interface.clone(),
        direction: question.direction.name().to_owned(),
        tuple: question.to_string(),
        ..Explanation::default()
    }
}

fn note(
    question: &Question,
    asked: &Asked<'_>,
    reason: AllowReason,
    rule: Option<RuleNumber>,
) -> Option<String> {
    match reason {
        AllowReason::Rule if question.is_icmp_error() => Some(
            "this is the answer of the rules: an error that quotes a live flow passes with that flow"
                .to_owned(),
        ),
        AllowReason::Rule => None,
        AllowReason::Unlock => Some(
            "the operator has unlocked it, whatever the policy says; `sg-agent status` says until when"
                .to_owned(),
        ),
        AllowReason::Infrastructure => Some("part of the infrastructure set".to_owned()),
        AllowReason::Flow => {
            let flow = asked.live.as_ref()?.flow?;
            let opener = flow.opener;
            Some(match rule.is_some_and(|number| asked.rules.contains_key(&number)) {
                true => format!(
                    "it belongs to a live {opener} flow ({}), which that rule admitted",
                    flow.state.name()
                ),
                false => format!(
                    "it belongs to a live {opener} flow ({}), which no rule admitted: it was open before",
                    flow.state.name()
                ),
            })
        }
    }
}

/// What every rule of the interface's groups says.
fn answers(asked: &Asked<'_>, direction: Direction, tuple: &Tuple) -> Vec<RuleAnswer> {
    eval::explain(asked.policy, asked.members, asked.groups, direction, tuple)
        .into_iter()
        .filter_map(|(index, mismatch)| {
            let rule = asked.policy.rule(index)?;
            Some(RuleAnswer {
                rule: asked.policy.rule_name(index),
                source: words::source(rule),
                allows: mismatch.is_none(),
                mismatch: mismatch.map(|mismatch| mismatch.name().to_owned()),
                why: match mismatch {
                    None => "allows it".to_owned(),
                    Some(Mismatch::Service) => format!("opens {}", words::services(rule)),
                    Some(Mismatch::Peer) => {
                        let towards = if direction == Direction::Inbound { "from" } else { "to" };
                        format!("opens it {towards} {}", words::peers(asked.policy, rule))
                    }
                },
            })
        })
        .collect()
}

fn judge(question: &Question, asked: &Asked<'_>) -> Verdict {
    let flow = asked.live.as_ref().and_then(|live| live.flow);
    let frame = frame::frame(question, flow.is_some());
    let mut packet = Packet::default();
    let payload = parse(&Slice { frame: &frame, is_gso: false }, LinkLayer::Ethernet, 0, &mut packet);
    // The question is about addresses and services; whoever sends such a packet honestly has the right
    // Ethernet address. An image that cannot be read is told of below.
    let zone = image::zone(asked.image, asked.zone);
    if let Ok(mac) = zone.and_then(|zone| image::honest_mac(asked.image, zone)) {
        packet.source_mac = mac;
    }

    let scratch = Scratch::default();
    let unlocked = asked.live.as_ref().map_or(&[][..], |live| &live.unlocked);
    for (place, unlock) in scratch.unlocks.places.iter().zip(unlocked) {
        place.prepare(unlock);
        place.until.store(Control::NEVER);
    }
    let control = Control {
        state: 0,
        fallback: 0,
        fallback_at: Control::NEVER,
        unlocked_until: if unlocked.is_empty() { 0 } else { Control::NEVER },
        hash_keys: [1; 6],
        buffer_nodes: 0,
        bucket_mask: 0,
        timeouts: [u32::MAX / 2; 8],
        events: 0,
        keep_flows: asked.live.as_ref().is_some_and(|live| live.keep_flows).into(),
    };
    let generation = asked.live.as_ref().map_or(1, |live| live.generation);
    if let (Some(flow), Some(key)) = (flow, flow_key(question, asked.zone)) {
        let context = Context {
            hash_keys: &control.hash_keys,
            bucket_mask: control.bucket_mask,
            timeouts: &control.timeouts,
            now: NOW,
        };
        let opening = Opening {
            state: flow.state,
            opener: flow.opener,
            generation: flow.generation.into(),
            rule: flow.rule.unwrap_or(Origin::NO_RULE),
            selector: flow.selector,
            bytes: 0,
            next_sequence: 1,
        };
        insert(&scratch, &context, &key, &opening);
    }
    let tables = Tables {
        nodes: Some(asked.image),
        memory: &scratch,
        control: &control,
        generation,
        jiffies: abi::jiffies(NOW),
        is_guest: asked.side == Side::Guest,
    };
    let is_ingress = (question.direction == Direction::Inbound) == (asked.side == Side::Host);
    let hook = if is_ingress { Hook::Ingress } else { Hook::Egress };
    decide(&tables, asked.zone, hook, payload, &mut packet, frame.len() as u64).verdict
}

/// The moment at which everything happens.
const NOW: u32 = 1000;

/// A flow table of one bucket, and what is unlocked.
#[derive(Default)]
struct Scratch {
    bucket: Bucket,
    entries: [Entry; SLOTS as usize],
    tails: [Tail; SLOTS as usize],
    unlocks: Unlocks,
}

impl Memory for Scratch {
    fn bucket(&self, index: u32) -> Option<&Bucket> {
        (index == 0).then_some(&self.bucket)
    }

    fn entry(&self, index: u32) -> Option<&Entry> {
        self.entries.get(index as usize)
    }

    fn tail(&self, index: u32) -> Option<&Tail> {
        self.tails.get(index as usize)
    }

    fn unlocks(&self) -> Option<&Unlocks> {
        Some(&self.unlocks)
    }
}

/// The selector of a packet of `protocol`.
fn selector(family: sg_common::addr::Family, protocol: Protocol, port: u16, icmp: (u8, u8)) -> Selector {
    let table = image::table(family, protocol.0);
    let value = match table {
        Table::Tcp | Table::Udp => port,
        Table::Icmp => u16::from(icmp.0) << 8 | u16::from(icmp.1),
        Table::Other => protocol.0.into(),
    };
    Selector { table, value }
}

#[cfg(test)]
mod tests;
