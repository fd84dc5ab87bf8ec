//! Section 5 of `docs/semantics.md`: what is open to any address both ways needs no entry.

use super::*;

#[test]
fn what_is_open_both_ways_needs_no_entry_and_gets_none() {
    let open_out = [
        anyone(Outbound, Table::Tcp, 0).every_value().numbered(2),
        anyone(Outbound, Table::Udp, 0).every_value().numbered(3),
    ];
    let https = anyone(Inbound, Table::Tcp, 443).numbered(1);
    let dns = anyone(Inbound, Table::Udp, 53).numbered(4);
    let from_peer = peer(Inbound, Table::Tcp, 22).numbered(5);
    let rules = [&open_out[..], &[https, dns, from_peer]].concat();
    let out_of_tcp_only = [&open_out[..1], &[https, dns]].concat();
    let out_to_peer = [peer(Outbound, Table::Tcp, 0).every_value().numbered(2), https];
    let most_ports = [Rule { first: 1, ..open_out[0] }, https];
    for (what, rules, direction, packet, expected) in [
        ("asked", &rules[..], Inbound, tcp(Inbound, 443, 40_000, SYN), "rule 1"),
        ("in the middle", &rules, Inbound, tcp(Inbound, 443, 40_000, ACK), "rule 1"),
        ("answered", &rules, Outbound, tcp(Outbound, 443, 40_000, SYN | ACK), "rule 2"),
        ("answered with data", &rules, Outbound, tcp(Outbound, 443, 40_000, ACK), "rule 2"),
        ("UDP", &rules, Inbound, udp(Inbound, 53, 40_000), "rule 4"),
        ("UDP answered", &rules, Outbound, udp(Outbound, 53, 40_000), "rule 3"),
        ("for one peer", &rules, Inbound, tcp(Inbound, 22, 40_000, SYN), "rule 5, opened"),
        ("asked by the instance itself", &rules, Outbound, tcp(Outbound, 443, 40_000, SYN), "rule 2, opened"),
        ("to elsewhere", &rules, Outbound, tcp(Outbound, 40_000, 80, SYN), "rule 2, opened"),
        ("no answer, from its port", &rules, Outbound, tcp(Outbound, 50_000, 80, ACK), "rule 2, opened"),
        ("UDP to elsewhere", &rules, Outbound, udp(Outbound, 40_000, 123), "rule 3, opened"),
        ("the other protocol is open", &out_of_tcp_only, Inbound, udp(Inbound, 53, 40_000), "rule 4, opened"),
        ("this one is", &out_of_tcp_only, Inbound, tcp(Inbound, 443, 40_000, SYN), "rule 1"),
        ("open for one peer", &out_to_peer, Inbound, tcp(Inbound, 443, 40_000, SYN), "rule 1, opened"),
        ("not every port", &most_ports, Inbound, tcp(Inbound, 443, 40_000, SYN), "rule 1, opened"),
    ] {
        let world = World::new(rules);
        assert_eq!(world.judge(direction, packet), expected, "{what}");
        assert_eq!(world.heap.flows().len(), usize::from(expected.ends_with("opened")), "{what}");
    }
}

#[test]
fn openness_is_of_one_direction_and_one_family() {
    let https = |family| rule(Inbound, family, Remote::Anyone, Table::Tcp, 443);
    let whole =
        |direction, family| rule(direction, family, Remote::Anyone, Table::Tcp, 0).every_value().numbered(2);
    let v4 = tcp(Inbound, 443, 40_000, SYN);
    let v6 = Packet { source: PEER_V6, destination: LOCAL_V6, ..v4 };
    let out = tcp(Outbound, 40_000, 80, SYN);
    for (what, rules, direction, packet, expected) in [
        ("IPv4 out, IPv4 in", &[https(V4), whole(Outbound, V4)][..], Inbound, v4, "rule 1"),
        ("IPv6 out, IPv4 in", &[https(V4), whole(Outbound, V6)], Inbound, v4, "rule 1, opened"),
        ("IPv6 out, IPv6 in", &[https(V6), whole(Outbound, V6)], Inbound, v6, "rule 1"),
        ("IPv4 out, IPv6 in", &[https(V6), whole(Outbound, V4)], Inbound, v6, "rule 1, opened"),
        ("in alone", &[whole(Inbound, V4)], Inbound, v4, "rule 2, opened"),
        ("out, open in", &[whole(Inbound, V4), anyone(Outbound, Table::Tcp, 80)], Outbound, out, "rule 1"),
    ] {
        let world = World::new(rules);
        assert_eq!(world.judge(direction, packet), expected, "{what}");
    }
}

#[test]
fn icmp_and_other_protocols_are_always_tracked() {
    let whole = |direction, table| rule(direction, V4, Remote::Anyone, table, 0).every_value();
    for (what, table, packet) in [
        ("ping", Table::Icmp, icmp(Inbound, 8, 0, 7)),
        ("GRE", Table::Other, between(Inbound, LOCAL, PEER, Protocol(47))),
    ] {
        let mut rules = Direction::ALL.map(|direction| whole(direction, table)).to_vec();
        rules.extend(Direction::ALL.map(|direction| whole(direction, Table::Tcp)));
        rules.extend(Direction::ALL.map(|direction| whole(direction, Table::Udp)));
        let world = World::new(&rules[..]);
        assert_eq!(world.judge(Inbound, packet), "rule 1, opened", "{what}");
    }
}

#[test]
fn untracked_traffic_ends_with_its_rule() {
    let open_out = anyone(Outbound, Table::Tcp, 0).every_value().numbered(2);
    let mut world = World::new(&[open_out, anyone(Inbound, Table::Tcp, 443)][..]);
    let data = tcp(Inbound, 443, 40_000, ACK);
    assert_eq!(world.judge(Inbound, data), "rule 1");
    world.apply(&[open_out][..]);
    assert_eq!(world.judge(Inbound, data), "no_rule");
    // The instance's next word passes by its own rule and does not carry the connection on.
    assert_eq!(world.judge(Outbound, tcp(Outbound, 443, 40_000, ACK)), "rule 2");
    assert_eq!(world.judge(Inbound, data), "no_rule");
}
