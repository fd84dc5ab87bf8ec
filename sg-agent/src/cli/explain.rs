//! `explain`: of a document, or of what is in force.

use std::{collections::HashMap, path::PathBuf};

use clap::Args;
use sg_common::{addr::Prefix, tuple::Direction, verdict::RuleNumber};

use super::{Error, Global};
use crate::{
    agent::read,
    compile::{self, Limits, RuleNumbers, Zone},
    document,
    enforced::{Attachment, Enforced},
    explain::{Asked, End, Live, LiveFlow, Question, What, explain, flow_key, left_alone},
    failure::{Exit, Failure},
    kernel::links::Interfaces,
    policy::{GroupIndex, Membership, Mode, Policy, RuleIndex, Side, matching::entry_for},
    view::Explanation,
};

/// Words of `explain`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Ask this policy, a document or a folder of documents, rather than what is in force
    #[arg(long, value_name = "PATH")]
    policy: Option<PathBuf>,
    /// The interface
    #[arg(long, value_name = "IF")]
    interface: String,
    /// Which way the packet goes, told from the protected side
    #[arg(value_enum, value_name = "in|out")]
    direction: Way,
    /// tcp, udp, icmp/echo-request, icmpv6, another protocol's name or number
    #[arg(value_name = "PROTO")]
    protocol: What,
    /// Who sends it; for IPv6 with a port: `[2001:db8::1]:443`
    #[arg(value_name = "SRC[:PORT]")]
    source: End,
    /// To whom
    #[arg(value_name = "DST[:PORT]")]
    destination: End,
}

/// A direction as it is typed.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Way {
    /// Towards the protected side
    #[value(alias = "inbound")]
    In,
    /// From the protected side
    #[value(alias = "outbound")]
    Out,
}

pub(super) fn run(global: &Global, arguments: Arguments) -> Result<Exit, Error> {
    let direction = match arguments.direction {
        Way::In => Direction::Inbound,
        Way::Out => Direction::Outbound,
    };
    let question = Question::new(
        arguments.interface,
        direction,
        arguments.protocol,
        arguments.source,
        arguments.destination,
    )
    .map_err(|error| Failure::new(Exit::Invalid, "read the question", error))?;
    let explanation = match arguments.policy {
        Some(path) => of_document(&question, path)?,
        None => of_what_is_in_force(&question, &global.enforced("explain what is in force")?)?,
    };
    global.print(&explanation)?;
    Ok(if explanation.verdict == "allow" { Exit::Done } else { Exit::Denied })
}

fn of_document(question: &Question, path: PathBuf) -> Result<Explanation, Failure> {
    let what = format!("explain {}", path.display());
    let loaded = document::load(&[path], &document::Limits::default());
    let policy = read(loaded, &what)?.policy;
    let Some(entry) = entry_for(&policy, &question.interface).and_then(|index| policy.interfaces.get(index))
    else {
        return Ok(left_alone(
            question,
            "no entry of the policy matches the interface, so it is left alone".to_owned(),
        ));
    };
    let addresses = match &entry.addresses {
        Some(addresses) => addresses.clone(),
        None => own_addresses(&question.interface),
    };
    let carried = policy
        .interfaces
        .iter()
        .map(|entry| (&entry.groups[..], entry.addresses.as_deref().unwrap_or(&[])))
        .chain([(&entry.groups[..], &addresses[..])]);
    let members = Membership::carried(&policy, carried);
    let numbers = RuleNumbers::in_order(&policy);
    let zones = [Some(Zone::of(&policy, entry, &addresses, false))];
    let input = compile::Input { policy: &policy, members: &members, zones: &zones, numbers: &numbers };
    let image =
        compile::compile(&input, &Limits::MAX).map_err(|error| Failure::new(Exit::Invalid, what, error))?;
    let asked = Asked {
        policy: &policy,
        members: &members,
        image: &image,
        zone: 0,
        groups: &entry.groups,
        side: entry.side,
        mode: policy.mode_of(entry),
        entry: &entry.pattern,
        rules: numbers.iter().map(|(index, number)| (number, index)).collect(),
        live: None,
    };
    Ok(explain(question, &asked))
}

/// The addresses that an interface of this host has now; none where there is no such interface, or
/// nobody may ask.
fn own_addresses(name: &str) -> Vec<Prefix> {
    let interfaces = Interfaces::snapshot().unwrap_or_default();
    interfaces
        .into_iter()
        .find(|interface| interface.name == name)
        .map_or_else(Vec::new, |found| found.addresses)
}

fn of_what_is_in_force(question: &Question, enforced: &Enforced) -> Result<Explanation, Failure> {
    const WHAT: &str = "explain what is in force";
    let attachments = enforced.attachments()?;
    let Some(attachment) = attachments.iter().find(|attachment| attachment.name == question.interface) else {
        return Ok(left_alone(question, "nothing is enforced on an interface of this name".to_owned()));
    };
    let policy = enforced.policy()?;
    let Attachment { attached, zone: Some(zone), .. } = attachment else {
        let why = "the state folder does not know the interface's zone";
        return Err(Failure::new(Exit::Failed, WHAT, why).with_remedy("is it that agent's --state-dir?"));
    };
    let image = enforced.reader().image().map_err(|error| Failure::kernel(WHAT, &error))?;
    let unlocked = enforced.reader().unlocks().map_err(|error| Failure::kernel(WHAT, &error))?;
    let groups = indices(&policy, &zone.groups);
    let flow = flow_key(question, attached.zone).and_then(|key| enforced.reader().find_flow(&key));
    let asked = Asked {
        policy: &policy,
        members: &members(&policy, enforced),
        image: &image,
        zone: attached.zone,
        groups: &groups,
        side: match attached.side {
            crate::kernel::Side::Host => Side::Host,
            crate::kernel::Side::Guest => Side::Guest,
        },
        mode: if zone.mode == Mode::Audit.name() { Mode::Audit } else { Mode::Enforce },
        entry: &zone.entry,
        rules: numbers(&policy, enforced),
        live: Some(Live {
            generation: enforced.generation(),
            flow: flow.map(|flow| LiveFlow {
                state: flow.state,
                opener: flow.opener,
                generation: flow.generation,
                rule: flow.rule,
                selector: flow.selector,
            }),
            keep_flows: enforced.reader().keeps_flows(),
            unlocked: unlocked.into_iter().map(|(unlock, _)| unlock).collect(),
        }),
    };
    Ok(explain(question, &asked))
}

fn indices(policy: &Policy, names: &[String]) -> Vec<GroupIndex> {
    names.iter().filter_map(|name| policy.group(name)).collect()
}

/// The addresses that carried each group when the generation was made.
fn members(policy: &Policy, enforced: &Enforced) -> Membership {
    let zones = enforced.record().map_or(&[][..], |record| &record.zones);
    let carried: Vec<(Vec<GroupIndex>, Vec<Prefix>)> = zones
        .iter()
        .map(|zone| {
            let addresses =
                zone.addresses.iter().filter_map(|text| Some(Prefix::parse(text).ok()?.0)).collect();
            (indices(policy, &zone.groups), addresses)
        })
        .collect();
    Membership::carried(policy, carried.iter().map(|(groups, addresses)| (&groups[..], &addresses[..])))
}

fn numbers(policy: &Policy, enforced: &Enforced) -> HashMap<RuleNumber, RuleIndex> {
    let named: HashMap<String, RuleIndex> =
        policy.rules().map(|(index, _)| (policy.rule_name(index), index)).collect();
    let rules = enforced.record().map_or(&[][..], |record| &record.rules);
    rules.iter().filter_map(|rule| Some((RuleNumber(rule.number), *named.get(&rule.rule)?))).collect()
}
