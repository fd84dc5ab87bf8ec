use std::collections::HashMap;

use super::*;
use crate::{
    compile::{self, Input, Limits, RuleNumbers, Zone},
    document::{self, parse_str},
};

const POLICY: &str = "version: 1
prefix_lists:
  office: {entries: [203.0.113.0/24]}
groups:
  a:
    members: [10.1.0.1]
    inbound:
      - {allow: [https, tcp/8080-8090], from: anywhere}
      - {id: ping, allow: icmp/echo-request, from: list:office}
    outbound: []
  b:
    inbound:
      - {allow: all, from: group:a}
interfaces:
  - {match: eth0, groups: [a, b]}
  - {match: 'tap*', side: guest, groups: [b], addresses: [10.0.2.7]}
  - {match: quiet, groups: [b], mode: audit}
";

/// Asks a document, or a generation with one live flow.
fn ask(interface: &str, direction: Direction, words: [&str; 3], live: Option<Live>) -> Explanation {
    let loaded = parse_str("p.yaml", POLICY, &document::Limits::default());
    assert_eq!(loaded.errors, []);
    let policy = loaded.policy.unwrap();
    let question = Question::new(
        interface.to_owned(),
        direction,
        words[0].parse().unwrap(),
        words[1].parse().unwrap(),
        words[2].parse().unwrap(),
    )
    .unwrap();
    let entry = &policy.interfaces[crate::policy::matching::entry_for(&policy, interface).unwrap()];
    let members = Membership::stated(&policy);
    let numbers = RuleNumbers::in_order(&policy);
    let zones = [Some(Zone::of(&policy, entry, entry.addresses.as_deref().unwrap_or(&[]), false))];
    let input = Input { policy: &policy, members: &members, zones: &zones, numbers: &numbers };
    let image = compile::compile(&input, &Limits::MAX).unwrap();
    let rules: HashMap<_, _> = numbers.iter().map(|(index, number)| (number, index)).collect();
    explain(
        &question,
        &Asked {
            policy: &policy,
            members: &members,
            image: &image,
            zone: 0,
            groups: &entry.groups,
            side: entry.side,
            mode: policy.mode_of(entry),
            entry: &entry.pattern,
            rules,
            live,
        },
    )
}

fn short(explanation: &Explanation) -> [&str; 4] {
    let text = |field: &'_ Option<String>| field.as_deref().unwrap_or("-").to_owned();
    let [via, rule, reason] = [&explanation.via, &explanation.rule, &explanation.reason].map(text);
    // Leaked: rows compare literals.
    let leak = |text: String| &*text.leak();
    [leak(explanation.verdict.clone()), leak(via), leak(rule), leak(reason)]
}

#[test]
fn the_verdict_is_that_of_the_datapath() {
    use Direction::{Inbound, Outbound};
    let rows = [
        (
            "eth0",
            Inbound,
            ["tcp", "198.51.100.1:40000", "10.0.0.1:443"],
            ["allow", "rule", "a/inbound/0", "-"],
        ),
        (
            "eth0",
            Inbound,
            ["tcp", "2001:db8::1", "[2001:db8::2]:8085"],
            ["allow", "rule", "a/inbound/0", "-"],
        ),
        ("eth0", Inbound, ["tcp", "198.51.100.1", "10.0.0.1:22"], ["drop", "-", "-", "no_rule"]),
        ("eth0", Inbound, ["icmp", "203.0.113.9", "10.0.0.1"], ["allow", "rule", "a/inbound/1", "-"]),
        (
            "eth0",
            Inbound,
            ["icmp/3/1", "203.0.113.9", "10.0.0.1"],
            ["drop", "-", "-", "icmp_error_without_flow"],
        ),
        ("eth0", Inbound, ["gre", "10.1.0.1", "10.0.0.1"], ["allow", "rule", "b/inbound/0", "-"]),
        ("eth0", Outbound, ["gre", "10.0.0.1", "10.1.0.1"], ["allow", "rule", "b/outbound/default", "-"]),
        ("eth0", Inbound, ["tcp", "127.0.0.1", "10.0.0.1:443"], ["drop", "-", "-", "martian"]),
        ("eth0", Inbound, ["icmpv6/136", "fe80::2", "fe80::1"], ["allow", "infrastructure", "-", "-"]),
        (
            "eth0",
            Outbound,
            ["udp", "0.0.0.0:68", "255.255.255.255:67"],
            ["allow", "infrastructure", "-", "-"],
        ),
        ("tap0", Outbound, ["tcp", "10.0.2.8:1", "10.9.9.9:80"], ["drop", "-", "-", "source_check"]),
        (
            "tap0",
            Outbound,
            ["tcp", "10.0.2.7:1", "10.9.9.9:80"],
            ["allow", "rule", "b/outbound/default", "-"],
        ),
        (
            "tap0",
            Outbound,
            ["icmpv6/134", "fe80::2", "ff02::1"],
            ["drop", "-", "-", "router_advertisement_from_guest"],
        ),
    ];
    for (interface, direction, words, expected) in rows {
        assert_eq!(short(&ask(interface, direction, words, None)), expected, "{words:?}");
    }
}

#[test]
fn every_rule_of_the_groups_says_why() {
    let answer = ask("eth0", Direction::Inbound, ["tcp", "198.51.100.1", "10.0.0.1:22"], None);
    let told: Vec<_> = answer
        .rules
        .iter()
        .map(|rule| (rule.rule.as_str(), rule.source.as_str(), rule.allows, rule.why.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            ("a/inbound/0", "p.yaml:8", false, "opens tcp/443, tcp/8080-8090"),
            ("a/inbound/1", "p.yaml:9", false, "opens icmp/echo-request"),
            ("b/inbound/0", "p.yaml:13", false, "opens it from group:a"),
        ]
    );
    assert_eq!(answer.groups, ["a", "b"]);
    let allowed = ask("eth0", Direction::Inbound, ["icmp", "203.0.113.9", "10.0.0.1"], None);
    assert_eq!((allowed.source.as_deref(), allowed.rule_id.as_deref()), (Some("p.yaml:9"), Some("ping")));
}

#[test]
fn audit_mode_is_told() {
    let answer = ask("quiet", Direction::Inbound, ["tcp", "198.51.100.1", "10.0.0.1:22"], None);
    assert_eq!((answer.verdict.as_str(), answer.mode.as_deref()), ("drop", Some("audit")));
    assert!(answer.note.unwrap().contains("audit mode lets it pass"));
}

#[test]
fn a_live_flow_answers_before_the_rules_and_a_revoked_one_too() {
    let live = |rule, generation, port| {
        let selector = Selector { table: Table::Tcp, value: port };
        let (state, opener) = (FlowState::Established, Direction::Outbound);
        let flow = LiveFlow { state, opener, generation, rule, selector };
        Some(Live { generation: 7, flow: Some(flow), keep_flows: false, unlocked: vec![] })
    };
    let words = ["tcp", "10.1.0.1:5432", "10.0.0.1:40000"];
    // Rule 3 is b/outbound/default: see the order of the policy.
    let answer = ask("eth0", Direction::Inbound, words, live(Some(3), 7, 5432));
    assert_eq!(short(&answer), ["allow", "flow", "b/outbound/default", "-"]);
    assert!(answer.note.unwrap().contains("live outbound flow"));
    let older = ask("eth0", Direction::Inbound, words, live(Some(99), 6, 5432));
    assert_eq!(short(&older), ["allow", "flow", "b/outbound/default", "-"]);
    let seeded = ask("eth0", Direction::Inbound, words, live(None, 7, 5432));
    assert_eq!(short(&seeded), ["allow", "flow", "-", "-"]);
}
