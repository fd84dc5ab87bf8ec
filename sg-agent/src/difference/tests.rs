//! Rows: two sets of rules, and who gains and loses what.

use sg_common::tuple::Direction;

use super::*;
use crate::document::{Limits, parse_str};

mod oracle;
mod scale;

fn policy(text: &str) -> Policy {
    let loaded = parse_str("p.yaml", &format!("version: 1\n{text}"), &Limits::default());
    assert_eq!(loaded.errors, []);
    loaded.policy.unwrap()
}

/// The policy whose group `g` has these rules; `l` and `m` are a list and a group to name.
fn rules_of(inbound: &str) -> Policy {
    policy(&format!(
        "prefix_lists: {{l: {{entries: [192.0.2.0/25, \"2001:db8::/32\"]}}}}\ngroups:\n  g: {{inbound: [{inbound}], \
         outbound: []}}\n  m: {{members: [10.0.0.1, 10.0.0.2], inbound: [], outbound: []}}\n"
    ))
}

/// `+` and `-` lines of a change, as people read them.
fn told(change: &Change) -> Vec<String> {
    let lines =
        change.gains.iter().map(|line| ('+', line)).chain(change.losses.iter().map(|line| ('-', line)));
    lines
        .map(|(sign, line)| {
            let (addresses, more) = line.addresses(usize::MAX);
            assert_eq!(more, 0);
            format!("{sign} {} from {}", line.services().join(", "), addresses.join(", "))
        })
        .collect()
}

fn reach<'a>(policy: &'a Policy, members: &'a Membership) -> Reach<'a> {
    const G: [GroupIndex; 1] = [GroupIndex(0)];
    assert_eq!(policy.group("g"), Some(G[0]));
    Reach::Rules { policy, members, groups: &G }
}

fn compared(before: &Policy, after: &Policy) -> Vec<String> {
    let (old, new) = (Membership::written(before), Membership::written(after));
    told(&change(reach(before, &old), reach(after, &new), Direction::Inbound).unwrap())
}

#[test]
fn who_gains_and_who_loses_is_told_merged() {
    // (what, before, after, lines)
    let rows: [(&str, &str, &str, &[&str]); 17] = [
        ("nothing", "", "", &[]),
        ("gained", "", "{allow: https, from: anywhere}", &["+ tcp/443 from anywhere"]),
        ("lost", "{allow: https, from: anywhere}", "", &["- tcp/443 from anywhere"]),
        (
            "both",
            "{allow: https, from: anywhere}",
            "{allow: http, from: 0.0.0.0/0}",
            &["+ tcp/80 from anywhere-ipv4", "- tcp/443 from anywhere"],
        ),
        (
            "the same in other words",
            "{allow: [tcp/80-90, tcp/85-99], from: [10.0.0.0/9, 10.128.0.0/9]}",
            "{allow: tcp/80-99, from: 10.0.0.0/8}, {allow: tcp/81, from: 10.1.2.3}",
            &[],
        ),
        (
            "a narrower range",
            "{allow: tcp/8000-8099, from: 10.0.0.0/8}",
            "{allow: tcp/8010-8019, from: 10.0.0.0/8}",
            &["- tcp/8000-8009, tcp/8020-8099 from 10.0.0.0/8"],
        ),
        (
            "a narrower prefix",
            "{allow: ssh, from: 10.0.0.0/8}",
            "{allow: ssh, from: 10.0.0.0/9}",
            &["- tcp/22 from 10.128.0.0/9"],
        ),
        (
            "a hole",
            "{allow: ssh, from: 10.0.0.0/30}",
            "{allow: ssh, from: [10.0.0.0, 10.0.0.2/31]}",
            &["- tcp/22 from 10.0.0.1/32"],
        ),
        (
            "neighbours that gain the same",
            "",
            "{allow: ssh, from: 10.0.0.0/25}, {allow: tcp/22, from: 10.0.0.128/25}",
            &["+ tcp/22 from 10.0.0.0/24"],
        ),
        (
            "services that open for the same addresses",
            "",
            "{allow: dns, from: 10.0.0.0/8}, {allow: https, from: 10.0.0.0/8}, {allow: ssh, from: 10.1.0.0/16}",
            &[
                "+ tcp/22, tcp/53, tcp/443, udp/53 from 10.1.0.0/16",
                "+ tcp/53, tcp/443, udp/53 from 10.0.0.0/16, 10.2.0.0/15, 10.4.0.0/14, 10.8.0.0/13, 10.16.0.0/12, \
                 10.32.0.0/11, 10.64.0.0/10, 10.128.0.0/9",
            ],
        ),
        (
            "both families in one line",
            "",
            "{allow: ssh, from: list:l}",
            &["+ tcp/22 from 192.0.2.0/25, 2001:db8::/32"],
        ),
        (
            "ICMP by the names of either family",
            "",
            "{allow: [icmp/echo-request, icmpv6/echo-request], from: anywhere}",
            &["+ icmp/echo-request, icmpv6/echo-request from anywhere"],
        ),
        (
            "ICMP of one family",
            "{allow: [http, icmp], from: anywhere}",
            "",
            &["- tcp/80, icmp from anywhere-ipv4", "- tcp/80 from anywhere-ipv6"],
        ),
        (
            "all but something",
            "{allow: all, from: \"2001:db8::1\"}",
            "{allow: [tcp, gre], from: \"2001:db8::1\"}",
            &["- udp, icmpv6, other/0-46, other/48-255 from 2001:db8::1/128"],
        ),
        ("all", "{allow: all, from: anywhere}", "", &["- all from anywhere"]),
        (
            "all but ICMP",
            "{allow: [icmp, icmpv6], from: anywhere}",
            "{allow: all, from: anywhere}",
            &["+ tcp, udp, other from anywhere"],
        ),
        (
            "members of a group",
            "{allow: postgres, from: 10.0.0.0/31}",
            "{allow: postgres, from: group:m}",
            &["+ tcp/5432 from 10.0.0.2/32", "- tcp/5432 from 10.0.0.0/32"],
        ),
    ];
    for (what, before, after, lines) in rows {
        assert_eq!(compared(&rules_of(before), &rules_of(after)), lines, "{what}");
    }
}

#[test]
fn a_member_more_gains_what_its_group_is_allowed() {
    let policy = rules_of("{allow: ssh, from: group:m}");
    let before = Membership::written(&policy);
    let mut after = before.clone();
    after.0[1].push("2001:db8::7".parse().unwrap());
    let change = change(reach(&policy, &before), reach(&policy, &after), Direction::Inbound).unwrap();
    assert_eq!(told(&change), ["+ tcp/22 from 2001:db8::7/128"]);
}

#[test]
fn what_is_not_enforced_passes_everything() {
    let shut = rules_of("");
    let open = rules_of("{allow: tcp, from: 0.0.0.0/0}");
    let members = Membership::written(&shut);
    let rules = |policy| Reach::Rules { policy, members: &members, groups: &[GroupIndex(0)] };
    // (before, after, lines)
    let rows = [
        (Reach::Everything, Reach::Everything, vec![]),
        (Reach::Everything, rules(&shut), vec!["- all from anywhere"]),
        (
            Reach::Everything,
            rules(&open),
            vec!["- all from anywhere-ipv6", "- udp, icmp, other from anywhere-ipv4"],
        ),
        (rules(&shut), Reach::Everything, vec!["+ all from anywhere"]),
    ];
    for (before, after, mut lines) in rows {
        let mut found = told(&change(before, after, Direction::Inbound).unwrap());
        found.sort();
        lines.sort_unstable();
        assert_eq!(found, lines);
    }
}

#[test]
fn the_two_directions_are_told_apart() {
    let before = policy("groups: {g: {inbound: [], outbound: []}}\n");
    let after = policy("groups: {g: {inbound: [{allow: http, from: anywhere}]}}\n");
    let members = Membership::written(&before);
    let told_in =
        |direction| told(&change(reach(&before, &members), reach(&after, &members), direction).unwrap());
    assert_eq!(told_in(Direction::Inbound), ["+ tcp/80 from anywhere"]);
    // A group without `outbound` may reach anything.
    assert_eq!(told_in(Direction::Outbound), ["+ all from anywhere"]);
}

#[test]
fn addresses_beyond_the_limit_are_counted() {
    let (before, after) = (rules_of(""), rules_of("{allow: ssh, from: [10.0.0.0, 10.0.0.2, 10.0.0.4]}"));
    let members = Membership::written(&before);
    let change = change(reach(&before, &members), reach(&after, &members), Direction::Inbound).unwrap();
    let [line] = &change.gains[..] else { panic!("{change:?}") };
    assert_eq!(line.addresses(2), (vec!["10.0.0.0/32".to_owned(), "10.0.0.2/32".to_owned()], 1));
    assert_eq!(line.addresses(0), (vec![], 3));
}
