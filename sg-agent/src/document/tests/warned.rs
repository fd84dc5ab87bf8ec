//! Every warning, with its place.

use super::*;

/// A policy whose group `g` is carried by eth0 and has the inbound rules.
fn with_rules(rules: &[&str]) -> String {
    let mut text = String::from(
        "version: 1
interfaces: [{match: eth0, groups: g}]
prefix_lists:
  v4: {entries: [10.0.0.0/8]}
  world: {entries: [0.0.0.0/0]}
  halves: {entries: [10.0.0.0/25, 10.0.0.128/25]}
groups:
  other: {members: [192.0.2.1]}
  g:
    inbound:
",
    );
    // The first rule is on line 11. One that nobody else's coverage depends on keeps `other` used.
    for rule in rules {
        text.push_str(&format!("      - {{{rule}}}\n"));
    }
    text.push_str("    outbound: [{allow: dns, to: 'group:other'}]\n");
    text
}

fn check_rules(rows: &[(&[&str], &[&str])]) {
    for (rules, expected) in rows {
        let text = with_rules(rules);
        assert_eq!(told(&text), *expected, "\n{text}");
    }
}

#[test]
fn host_bits_that_are_cleared() {
    check_rules(&[
        (
            &["allow: https, from: 100.68.0.18/18"],
            &[
                "11:30: warning: `100.68.0.18/18` has host bits set; it means the network 100.68.0.0/18 → 100.68.0.0/18",
            ],
        ),
        (
            &["allow: https, from: '2001:db8::1/32'"],
            &[
                "11:30: warning: `2001:db8::1/32` has host bits set; it means the network 2001:db8::/32 → 2001:db8::/32",
            ],
        ),
    ]);
    // They are told beside errors as well.
    check(&[(
        "version: 1\nprefix_lists:\n  a: {entries: [10.0.0.1/8, 10.0.0]}",
        &[
            "3:29: error: `10.0.0`: not an IPv4 or IPv6 address or CIDR",
            "3:17: warning: `10.0.0.1/8` has host bits set; it means the network 10.0.0.0/8 → 10.0.0.0/8",
        ],
    )]);
}

#[test]
fn groups_that_nothing_uses_and_nobody_carries() {
    check(&[
        (
            "version: 1\ngroups:\n  a: {inbound: [{allow: all, from: 'group:a'}]}\n  b: {}\n  c: {members: [10.0.0.1]}\ninterfaces:\n  - {match: eth0, groups: b}\n",
            &[
                "3:3: warning: nothing uses group `a`: no interface carries it, and no other group's rule names it",
                "3:36: warning: group `a` has no members, and no interface carries it: this matches nothing",
                "5:3: warning: nothing uses group `c`: no interface carries it, and no other group's rule names it",
            ],
        ),
        (
            "version: 1\ngroups:\n  a: {inbound: [{allow: all, from: ['group:b', 'group:c']}]}\n  b: {}\n  c: {members: [10.0.0.1]}\ninterfaces:\n  - {match: eth0, groups: a}\n",
            &["3:37: warning: group `b` has no members, and no interface carries it: this matches nothing"],
        ),
    ]);
}

#[test]
fn empty_prefix_lists() {
    check(&[(
        "version: 1\nprefix_lists:\n  a: {entries: []}\n",
        &["3:3: warning: prefix list `a` is empty: it matches nothing"],
    )]);
}

#[test]
fn ssh_that_is_open_to_anywhere() {
    const V4: &str = "11:9: warning: this opens SSH (tcp/22) to anywhere (0.0.0.0/0)";
    const BOTH: &str = "11:9: warning: this opens SSH (tcp/22) to anywhere (0.0.0.0/0 and ::/0)";
    check_rules(&[
        (&["allow: ssh, from: anywhere"], &[BOTH]),
        (&["allow: ssh, from: 0.0.0.0/0"], &[V4]),
        (&["allow: tcp/20-30, from: anywhere-ipv4"], &[V4]),
        (&["allow: all, from: anywhere"], &[BOTH]),
        (&["allow: [https, tcp], from: 'list:world'"], &[V4]),
        (&["allow: ssh, from: 10.0.0.0/8"], &[]),
        (&["allow: https, from: anywhere"], &[]),
        (&["allow: udp/22, from: anywhere"], &[]),
    ]);
    // On the way out it opens nothing here.
    check(&[(
        "version: 1\ngroups: {g: {outbound: [{allow: ssh, to: anywhere}]}}\ninterfaces: [{match: a, groups: g}]",
        &[],
    )]);
}

#[test]
fn icmp_of_the_other_family() {
    const V4: &str =
        "icmp is of IPv4, and all addresses here are of IPv6: it can never match; IPv6 has icmpv6";
    const V6: &str =
        "icmpv6 is of IPv6, and all addresses here are of IPv4: it can never match; IPv4 has icmp";
    let at = |place: &str, text: &str| format!("{place}: warning: {text}");
    check_rules(&[
        (&["allow: icmp, from: anywhere-ipv6"], &[&at("11:17", V4)]),
        (&["allow: [icmp/8, https], from: '2001:db8::/32'"], &[&at("11:18", V4)]),
        (&["allow: icmpv6/echo-request, from: [10.0.0.1, 'list:v4']"], &[&at("11:17", V6)]),
        (&["allow: icmpv6, from: [10.0.0.1, 'group:other']"], &[]),
        (&["allow: icmp, from: anywhere"], &[]),
        (&["allow: all, from: '2001:db8::/32'"], &[]),
    ]);
}

#[test]
fn numbers_that_look_like_ports() {
    check_rules(&[
        (
            &["allow: 22, from: 10.0.0.1"],
            &[
                "11:17: warning: 22 is the IP protocol 22 (`xns-idp`), not a port; a port is written `tcp/22` → tcp/22",
            ],
        ),
        (&["allow: 47, from: 10.0.0.1"], &[]),
    ]);
}

#[test]
fn rules_that_another_covers() {
    let covered = |line: usize, by: usize| {
        format!(
            "{line}:9: warning: g/inbound/{} at p.yaml:{by}:9 covers this rule whole: it opens nothing more",
            by - 11
        )
    };
    let (second_by_first, first_by_second) = (covered(12, 11), covered(11, 12));
    let second: &[&str] = &[&second_by_first];
    let first: &[&str] = &[&first_by_second];
    let none: &[&str] = &[];
    for (one, other, expected) in [
        ("allow: https, from: 10.0.0.0/8", "allow: https, from: 10.1.0.0/16", second),
        ("allow: https, from: 10.1.0.0/16", "allow: https, from: 10.0.0.0/8", first),
        ("allow: https, from: 10.0.0.0/8", "allow: tcp/443, from: 10.0.0.0/8", second),
        ("allow: tcp/400-500, from: anywhere", "allow: https, from: 'group:other'", second),
        ("allow: tcp/400-500, from: anywhere-ipv4", "allow: https, from: 'group:other'", none),
        ("allow: https, from: 'group:other'", "allow: https, from: 192.0.2.1", none),
        ("allow: https, from: 'group:other'", "allow: [https], from: ['group:other']", second),
        ("allow: [https, http], from: 'list:v4'", "allow: http, from: 10.2.3.4", second),
        ("allow: [https, http], from: 10.0.0.0/8", "allow: http, from: 'list:v4'", second),
        ("allow: http, from: 10.0.0.0/9", "allow: http, from: 'list:v4'", first),
        ("allow: http, from: 10.0.0.0/24", "allow: http, from: 'list:halves'", second),
        ("allow: http, from: 'list:halves'", "allow: http, from: 10.0.0.0/24", second),
        ("allow: http, from: [10.0.0.0/25, 10.0.0.128/25]", "allow: http, from: 10.0.0.0/24", second),
        ("allow: [tcp/80, tcp/81], from: 10.0.0.1", "allow: tcp/80-81, from: 10.0.0.1", second),
        ("allow: icmp, from: 10.0.0.1", "allow: icmp/3/4, from: 10.0.0.1", second),
        ("allow: all, from: 10.0.0.1", "allow: icmpv6, from: 10.0.0.0/31", none),
        ("allow: http, from: anywhere-ipv4", "allow: http, from: anywhere", first),
        ("allow: http, from: 10.0.0.0/8", "allow: https, from: 10.0.0.0/8", none),
        ("allow: http, from: [10.0.0.1, 10.0.0.3]", "allow: http, from: [10.0.0.1, 10.0.0.2]", none),
        ("allow: gre, from: 10.0.0.0/8", "allow: 47, from: 10.0.0.1", second),
    ] {
        let text = with_rules(&[one, other]);
        let found: Vec<_> = told(&text).into_iter().filter(|line| line.contains("covers")).collect();
        assert_eq!(found, expected, "{one} / {other}");
    }
}

#[test]
fn rules_of_other_groups_and_directions_cover_nothing() {
    check(&[(
        "version: 1
groups:
  a: {inbound: [{allow: http, from: 10.0.0.1}], outbound: [{allow: http, to: 10.0.0.1}]}
  b: {inbound: [{allow: http, from: 10.0.0.1}]}
interfaces: [{match: eth0, groups: [a, b]}]",
        &[],
    )]);
}

#[test]
fn interface_entries_that_can_never_match() {
    check(&[(
        "version: 1
groups: {g: {}}
interfaces:
  - {match: 'tap*', groups: g}
  - {match: tap0, groups: g}
  - {match: tap0, groups: g}
  - {match: 'tap[0-9]', groups: g}
  - {match: averylonginterfacename, groups: g}
  - {match: a/b, groups: g}
  - {match: '*', groups: g}
  - {match: eth0, groups: g}
  - {match: 'eth?', groups: g}
",
        &[
            "6:13: warning: `tap0` can never match: `tap0` at p.yaml:5:13 comes first",
            "7:13: warning: `tap[0-9]` can never match: `tap*` at p.yaml:4:13 comes first",
            "8:13: warning: `averylonginterfacename` can never match: an interface name has at most 15 bytes",
            "9:13: warning: `a/b` can never match: an interface name has no `/`, no `:` and no spaces",
            "12:13: warning: `eth?` can never match: `*` at p.yaml:10:13 comes first",
        ],
    )]);
}
