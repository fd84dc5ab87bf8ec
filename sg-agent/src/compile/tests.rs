//! The compiled image against a slow, obvious reading of the policy.

use std::collections::BTreeMap;

use sg_common::{
    addr::{Addr, Family, Prefix},
    image::{self as lookup, Nodes as _, RuleWord, flag, rule_set_slot, zone_word},
    tuple::{Direction, Protocol, Selector, Table},
    verdict::RuleNumber,
};

use super::*;
use crate::policy::{Group, Peer, Position, PrefixList, PrefixListIndex, Rule, Service};

mod agreement;
mod scale;
mod sharing;
mod whole;
mod zones;

fn nowhere() -> Position {
    Position { file: "test.yaml".into(), line: 1, column: 1 }
}

fn rule(services: Vec<Service>, peers: Vec<Peer>) -> Rule {
    Rule { id: None, description: None, services, peers, position: nowhere(), is_default: false }
}

fn group(name: &str, inbound: Vec<Rule>, outbound: Vec<Rule>) -> Group {
    Group {
        name: name.to_owned(),
        description: None,
        tags: BTreeMap::new(),
        members: Vec::new(),
        mode: Mode::Enforce,
        inbound,
        outbound,
        position: nowhere(),
    }
}

fn list(name: &str, mut entries: Vec<Prefix>) -> PrefixList {
    entries.sort_unstable();
    entries.dedup();
    PrefixList { name: name.to_owned(), description: None, entries, position: nowhere() }
}

fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

fn peer(text: &str) -> Peer {
    Peer::Prefix(prefix(text))
}

fn address(text: &str) -> Addr {
    text.parse::<std::net::IpAddr>().unwrap().into()
}

fn tcp(port: u16) -> Selector {
    Selector { table: Table::Tcp, value: port }
}

fn zone(groups: &[usize]) -> Option<Zone> {
    Some(Zone {
        groups: groups.iter().copied().map(GroupIndex).collect(),
        side: Side::Guest,
        mode: Mode::Enforce,
        source_check: false,
        infrastructure: Infrastructure::default(),
        own: Vec::new(),
        macs: Vec::new(),
        ethertypes: Vec::new(),
    })
}

const ROOMY: Limits = Limits { nodes: 1 << 22 };

/// Compiles with the members written and the rules numbered in order.
fn compiled(policy: &Policy, zones: &[Option<Zone>], limits: Limits) -> Result<Image, CompileError> {
    let members = Membership::written(policy);
    let numbers = RuleNumbers::in_order(policy);
    compile(&Input { policy, members: &members, zones, numbers: &numbers }, &limits)
}

fn ask(image: &Image, zone: u32, direction: Direction, remote: Addr, selector: Selector) -> RuleWord {
    let zone = lookup::zone(image, zone).unwrap();
    lookup::rule(image, zone, direction, remote, selector).unwrap()
}
