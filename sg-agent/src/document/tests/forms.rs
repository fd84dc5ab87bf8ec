//! What valid documents mean.

use sg_common::{
    addr::{Family, Prefix},
    tuple::{Direction, Protocol},
};

use super::*;
use crate::policy::{
    GroupIndex, Hook, Infrastructure, Mode, PrefixListIndex, RuleIndex, Service, Side, matching::entry_for,
};

fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

/// The document that spec and README show first.
const SHOWN: &str = "
version: 1
services:
  metrics: [tcp/9090, tcp/9100-9110]
prefix_lists:
  office:
    description: Office egress addresses
    entries: [203.0.113.0/24, 2001:db8:40::/48]
groups:
  web:
    description: Public web tier
    tags: {team: platform}
    members: [10.0.1.5]
    inbound:
      - allow: [https, tcp/8080-8090]
        from: anywhere
        description: The site
      - allow: icmp/echo-request
        from: list:office
      - allow: all
        from: group:web
    outbound:
      - allow: [dns]
        to: [10.0.0.2, 2001:db8::2]
      - allow: tcp/5432
        to: group:db
  db:
    inbound:
      - {allow: postgres, from: group:web}
interfaces:
  - match: eth0
    groups: [web]
  - match: \"tap*\"
    side: guest
    groups: [web, db]
    addresses: [10.0.2.7, 2001:db8:2::7]
    source_check: true
";

#[test]
fn the_first_example_means_what_it_says() {
    let loaded = parse_str("p.yaml", SHOWN, &Limits::default());
    assert_eq!((loaded.errors.as_slice(), loaded.warnings.as_slice()), (&[][..], &[][..]));
    assert_eq!(loaded.counts, Counts { groups: 2, rules: 6, prefixes: 7 });
    let policy = loaded.policy.unwrap();
    let [db, web] = policy.groups.as_slice() else { panic!("{:?}", policy.groups) };
    assert_eq!((db.name.as_str(), web.name.as_str()), ("db", "web"));
    assert_eq!(web.tags["team"], "platform");
    assert_eq!(web.members, [prefix("10.0.1.5")]);
    assert_eq!(web.inbound[0].services, [Service::Tcp(443, 443), Service::Tcp(8080, 8090)]);
    assert_eq!(web.inbound[0].peers, [Peer::Prefix(Prefix::ANY_V4), Peer::Prefix(Prefix::ANY_V6)]);
    assert_eq!(web.inbound[0].description.as_deref(), Some("The site"));
    assert_eq!(web.inbound[0].position.to_string(), "p.yaml:15:9");
    assert_eq!(web.inbound[1].services, [Service::Icmp(Family::V4, Some((8, None)))]);
    assert_eq!(web.inbound[1].peers, [Peer::PrefixList(PrefixListIndex(0))]);
    assert_eq!(web.inbound[2].services, [Service::All]);
    assert_eq!(web.inbound[2].peers, [Peer::Group(GroupIndex(1))]);
    assert_eq!(web.outbound[0].services, [Service::Tcp(53, 53), Service::Udp(53, 53)]);
    assert_eq!(web.outbound[1].peers, [Peer::Group(GroupIndex(0))]);
    assert_eq!(db.outbound, [crate::policy::Rule::default_outbound(db.position.clone())]);
    assert_eq!(
        policy.rule_name(RuleIndex { group: GroupIndex(0), direction: Direction::Outbound, index: 0 }),
        "db/outbound/default"
    );
    let [eth0, tap] = policy.interfaces.as_slice() else { panic!("{:?}", policy.interfaces) };
    assert_eq!((eth0.side, eth0.addresses.as_deref(), eth0.source_check), (Side::Host, None, false));
    assert_eq!((tap.side, tap.source_check), (Side::Guest, true));
    assert_eq!(tap.groups, [GroupIndex(1), GroupIndex(0)]);
    assert_eq!(entry_for(&policy, "tap12"), Some(1));
}

#[test]
fn outbound_missing_and_empty_differ() {
    let policy = policy("version: 1\ngroups:\n  a: {}\n  b: {outbound: []}\n  c: {inbound: }");
    let counts = |group: usize| (policy.groups[group].inbound.len(), policy.groups[group].outbound.len());
    assert_eq!([counts(0), counts(1), counts(2)], [(0, 1), (0, 0), (0, 1)]);
    assert!(policy.groups[0].outbound[0].is_default);
}

#[test]
fn a_service_of_the_users_own_comes_before_the_built_in_one() {
    let policy = policy("version: 1\nservices: {https: [https, udp/443], http: tcp/8080}\ngroups: {g: {inbound: [{allow: [http, gre, 6], from: 10.0.0.1}]}}".replace("https: [https, udp/443]", "https: [tcp/443, udp/443]").as_str());
    assert_eq!(
        policy.groups[0].inbound[0].services,
        [Service::Tcp(8080, 8080), Service::Protocol(Protocol(47)), Service::Tcp(0, 65535)]
    );
}

#[test]
fn interface_defaults_follow_side_and_addresses() {
    let policy = policy(
        "version: 1
groups: {g: {}}
interfaces:
  - {match: a, groups: g}
  - {match: b, groups: g, addresses: 10.0.0.1}
  - {match: c, groups: g, side: guest}
  - {match: d, groups: g, side: guest, addresses: [10.0.0.1, '2001:db8::/64']}
  - {match: e, groups: [g, g], side: guest, addresses: [10.0.0.1], source_check: false}
  - {match: f, groups: g, source_check: true, mode: audit, hook: xdp, infrastructure: {arp: false}, permit_ethertypes: [0x88cc, '0x8892', 35020]}
",
    );
    let one = vec![prefix("10.0.0.1")];
    let of =
        |entry: usize| (policy.interfaces[entry].addresses.clone(), policy.interfaces[entry].source_check);
    assert_eq!(of(0), (None, false));
    assert_eq!(of(1), (Some(one.clone()), false));
    assert_eq!(of(2), (Some(vec![]), false));
    assert_eq!(of(3), (Some(vec![one[0], prefix("2001:db8::/64")]), true));
    assert_eq!(of(4), (Some(one), false));
    assert_eq!(of(5), (None, true));
    assert_eq!(policy.interfaces[4].groups, [GroupIndex(0)]);
    let last = &policy.interfaces[5];
    assert_eq!((last.mode, last.hook), (Mode::Audit, Hook::Xdp));
    assert_eq!(last.infrastructure, Infrastructure { arp: false, ..Infrastructure::default() });
    assert_eq!(last.permit_ethertypes, [0x8892, 0x88cc]);
}

#[test]
fn json_is_the_same_shape() {
    let yaml = "version: 1\ngroups: {g: {inbound: [{allow: 47, from: '::1', id: x}]}}\n";
    let json = "{\n\t\"version\":1,\"groups\":{\"g\":{\"inbound\":[{\"allow\":47,\"from\":\"::1\",\"\\u0069d\":\"x\"}]}}\n}\n";
    let strip = |mut policy: Policy| {
        let nowhere = crate::policy::Position { file: "".into(), line: 0, column: 0 };
        for group in &mut policy.groups {
            group.position = nowhere.clone();
            for rule in group.inbound.iter_mut().chain(&mut group.outbound) {
                rule.position = nowhere.clone();
            }
        }
        policy
    };
    assert_eq!(strip(policy(yaml)), strip(policy(json)));
}

#[test]
fn ten_thousand_rules_over_a_hundred_thousand_prefixes_are_read() {
    use std::fmt::Write as _;
    let mut text =
        String::from("version: 1\ninterfaces: [{match: eth0, groups: g}]\ngroups:\n  g:\n    inbound:\n");
    for rule in 0..10_000_u32 {
        write!(text, "      - {{allow: [https, tcp/{}], from: [", 8000 + rule % 100).unwrap();
        for prefix in rule * 10..rule * 10 + 10 {
            write!(text, "10.{}.{}.{}, ", prefix >> 16, prefix >> 8 & 255, prefix & 255).unwrap();
        }
        text.push_str("]}\n");
    }
    let loaded = parse_str("p.yaml", &text, &Limits::default());
    assert_eq!((loaded.errors.as_slice(), loaded.warnings.as_slice()), (&[][..], &[][..]));
    assert_eq!(loaded.counts, Counts { groups: 1, rules: 10_000, prefixes: 100_000 });
}

#[test]
fn aliases_repeat_values() {
    let policy = policy(
        "version: 1\ngroups:\n  a: {inbound: &rules [{allow: ssh, from: 10.0.0.1}], outbound: []}\n  b: {inbound: *rules}",
    );
    assert_eq!(policy.groups[0].inbound, policy.groups[1].inbound);
}

#[test]
fn a_byte_order_mark_comments_and_a_document_start_are_fine() {
    policy("\u{feff}# a policy\n---\nversion: 1 # the form\n...\n");
}
