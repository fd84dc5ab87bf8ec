//! The reference answer: slow, obvious, and what the compiled image is tested against.
//!
//! Every question walks all the rules and all their peers; nothing is prepared or remembered.
//! Only rules are judged here: flows, `source_check` and the infrastructure set are not.

use sg_common::{
    addr::Addr,
    tuple::{Direction, Tuple},
};

use super::{GroupIndex, Membership, Peer, Policy, Rule, RuleIndex};

/// Why a rule does not allow a tuple.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mismatch {
    /// The rule opens other services; its peers were not looked at.
    Service,
    /// The rule opens the service, but to other addresses.
    Peer,
}

impl Mismatch {
    /// The stable lower-case name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Peer => "peer",
        }
    }
}

/// The first rule of the union of `groups` that allows `tuple`, in policy order: groups in name
/// order, then rules in the order written. `None`: no rule allows it.
#[must_use]
pub fn eval(
    policy: &Policy,
    members: &Membership,
    groups: &[GroupIndex],
    direction: Direction,
    tuple: &Tuple,
) -> Option<RuleIndex> {
    explain(policy, members, groups, direction, tuple)
        .into_iter()
        .find(|(_, mismatch)| mismatch.is_none())
        .map(|(index, _)| index)
}

/// For every rule of the union of `groups`, in policy order, why it does not allow `tuple`;
/// `None`: it does.
#[must_use]
pub fn explain(
    policy: &Policy,
    members: &Membership,
    groups: &[GroupIndex],
    direction: Direction,
    tuple: &Tuple,
) -> Vec<(RuleIndex, Option<Mismatch>)> {
    policy
        .rules()
        .filter(|(index, _)| index.direction == direction && groups.contains(&index.group))
        .map(|(index, rule)| (index, mismatch(policy, members, rule, tuple)))
        .collect()
}

fn mismatch(policy: &Policy, members: &Membership, rule: &Rule, tuple: &Tuple) -> Option<Mismatch> {
    let family = tuple.remote.family();
    if !rule.services.iter().any(|service| service.matches(family, tuple.selector)) {
        return Some(Mismatch::Service);
    }
    if !rule.peers.iter().any(|peer| holds(policy, members, *peer, tuple.remote)) {
        return Some(Mismatch::Peer);
    }
    None
}

fn holds(policy: &Policy, members: &Membership, peer: Peer, remote: Addr) -> bool {
    match peer {
        Peer::Prefix(prefix) => prefix.contains(remote),
        Peer::PrefixList(list) => policy
            .prefix_lists
            .get(list.0)
            .is_some_and(|list| list.entries.iter().any(|entry| entry.contains(remote))),
        Peer::Group(group) => members.of(group).iter().any(|member| member.contains(remote)),
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use sg_common::tuple::{Protocol, Selector, Table};

    use super::*;
    use crate::document::{Limits, parse_str};

    const POLICY: &str = "
version: 1
prefix_lists:
  office: {entries: [203.0.113.0/24, 2001:db8:40::/48]}
groups:
  a:
    members: [10.1.0.0/24]
    inbound:
      - {allow: [tcp/443, udp/443], from: 0.0.0.0/0}
      - {allow: icmp/echo-request, from: list:office}
      - {allow: icmpv6/2, from: anywhere}
    outbound: []
  b:
    inbound:
      - {allow: tcp/443, from: anywhere-ipv6}
      - {allow: all, from: group:a}
      - {allow: gre, from: 192.0.2.1}
";

    fn tuple(remote: &str, protocol: u8, table: Table, value: u16) -> Tuple {
        let remote = Addr::from(remote.parse::<IpAddr>().unwrap());
        Tuple { local: remote, remote, protocol: Protocol(protocol), selector: Selector { table, value } }
    }

    #[test]
    fn the_first_rule_in_policy_order_answers() {
        let policy = parse_str("p.yaml", POLICY, &Limits::default()).policy.unwrap();
        let members = Membership::written(&policy);
        let (a, b) = (GroupIndex(0), GroupIndex(1));
        let inbound = |group, index| Some(RuleIndex { group, direction: Direction::Inbound, index });
        // (groups, tuple, rule)
        let rows = [
            (vec![a, b], tuple("198.51.100.1", 6, Table::Tcp, 443), inbound(a, 0)),
            (vec![b, a], tuple("10.1.0.9", 6, Table::Tcp, 443), inbound(a, 0)),
            (vec![b], tuple("10.1.0.9", 6, Table::Tcp, 443), inbound(b, 1)),
            (vec![a], tuple("198.51.100.1", 6, Table::Tcp, 444), None),
            // 0.0.0.0/0 never covers IPv6.
            (vec![a], tuple("2001:db8::1", 6, Table::Tcp, 443), None),
            (vec![a, b], tuple("2001:db8::1", 6, Table::Tcp, 443), inbound(b, 0)),
            (vec![a], tuple("203.0.113.7", 1, Table::Icmp, 8 << 8), inbound(a, 1)),
            (vec![a], tuple("2001:db8:40::7", 58, Table::Icmp, 8 << 8), None),
            (vec![a], tuple("2001:db8:40::7", 58, Table::Icmp, 2 << 8), inbound(a, 2)),
            (vec![a], tuple("203.0.113.7", 1, Table::Icmp, 2 << 8), None),
            (vec![b], tuple("192.0.2.1", 47, Table::Other, 47), inbound(b, 2)),
            (vec![b], tuple("192.0.2.2", 47, Table::Other, 47), None),
            (vec![b], tuple("10.1.0.255", 99, Table::Other, 99), inbound(b, 1)),
            (vec![], tuple("10.1.0.255", 6, Table::Tcp, 443), None),
        ];
        for (groups, tuple, expected) in rows {
            assert_eq!(eval(&policy, &members, &groups, Direction::Inbound, &tuple), expected, "{tuple:?}");
        }
    }

    #[test]
    fn a_missing_outbound_opens_and_an_empty_one_closes() {
        let policy = parse_str("p.yaml", POLICY, &Limits::default()).policy.unwrap();
        let members = Membership::written(&policy);
        for remote in ["198.51.100.1", "2001:db8::1"] {
            let tuple = tuple(remote, 99, Table::Other, 99);
            let answer =
                |group| eval(&policy, &members, &[GroupIndex(group)], Direction::Outbound, &tuple).is_some();
            assert!(!answer(0), "{remote}");
            assert!(answer(1), "{remote}");
        }
    }

    #[test]
    fn every_rule_tells_why_it_does_not_match() {
        let policy = parse_str("p.yaml", POLICY, &Limits::default()).policy.unwrap();
        let members = Membership::written(&policy);
        let both = [GroupIndex(0), GroupIndex(1)];
        let told: Vec<_> =
            explain(&policy, &members, &both, Direction::Inbound, &tuple("2001:db8::1", 6, Table::Tcp, 443))
                .into_iter()
                .map(|(index, mismatch)| (index.group.0, index.index, mismatch))
                .collect();
        assert_eq!(
            told,
            [
                (0, 0, Some(Mismatch::Peer)),
                (0, 1, Some(Mismatch::Service)),
                (0, 2, Some(Mismatch::Service)),
                (1, 0, None),
                (1, 1, Some(Mismatch::Peer)),
                (1, 2, Some(Mismatch::Service)),
            ]
        );
    }
}
