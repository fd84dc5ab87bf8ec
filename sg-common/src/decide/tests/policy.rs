//! Section 6 of `docs/semantics.md`: flows when the policy changes.

use super::*;

const GENERATION: u32 = 0x0023_4567;

/// A world with an established connection from the peer to port 443 by rule 9.
fn connected() -> World {
    let world = World::new(&[peer(Inbound, Table::Tcp, 443).numbered(9)][..]);
    world.connect(Inbound, 443, 40_000, 9);
    world
}

const DATA: fn(Direction) -> Packet = |direction| tcp(direction, 443, 40_000, ACK);

#[test]
fn an_older_flow_goes_on_if_it_is_still_allowed() {
    for direction in Direction::ALL {
        let mut world = connected();
        world.apply(&[peer(Inbound, Table::Tcp, 443).numbered(4)][..]);
        assert_eq!(world.judge(direction, DATA(direction)), "flow 4", "the rule that admits it now");
        let flow = world.flow();
        assert_eq!((flow.state, flow.rule, flow.generation), (FlowState::Established, 4, GENERATION + 1));
        world.nodes = Policy::from(&[peer(Inbound, Table::Tcp, 443).numbered(3)][..]).image();
        assert_eq!(world.judge(direction, DATA(direction)), "flow 4", "asked once a generation");
    }
}

#[test]
fn it_is_judged_in_the_direction_in_which_it_was_opened() {
    for direction in Direction::ALL {
        let mut world = connected();
        world.apply(&[peer(Outbound, Table::Tcp, 0).every_value()][..]);
        assert_eq!(world.judge(direction, DATA(direction)), "revoked");
        let mut world = World::new(&[peer(Outbound, Table::Tcp, 443)][..]);
        world.connect(Outbound, 40_000, 443, 1);
        world.apply(&[peer(Outbound, Table::Tcp, 443).numbered(2)][..]);
        assert_eq!(world.judge(direction, tcp(direction, 40_000, 443, ACK)), "flow 2");
        world.apply(&[peer(Inbound, Table::Tcp, 0).every_value()][..]);
        assert_eq!(world.judge(direction, tcp(direction, 40_000, 443, ACK)), "revoked");
    }
}

#[test]
fn it_is_judged_by_its_remote_address() {
    let https = |remote| rule(Inbound, V4, remote, Table::Tcp, 443).numbered(9);
    let from = |direction, remote| match direction {
        Inbound => Packet { source: remote, ..DATA(Inbound) },
        Outbound => Packet { destination: remote, ..DATA(Outbound) },
    };
    for (remote, expected) in [(PEER, "flow 9"), (STRANGER, "revoked")] {
        for direction in Direction::ALL {
            let mut world = World::new(&[https(Remote::Anyone)][..]);
            assert_eq!(world.judge(Inbound, from(Inbound, remote)), "rule 9, opened");
            world.apply(&[https(Remote::Peer)][..]);
            assert_eq!(world.judge(direction, from(direction, remote)), expected, "{remote} {direction}");
        }
    }
}

#[test]
fn a_revoked_connection_stays_so_until_a_new_syn() {
    let mut world = connected();
    let mut both = [peer(Outbound, Table::Tcp, 0).every_value().numbered(2)].to_vec();
    world.apply(&both[..]);
    assert_eq!(world.judge(Outbound, DATA(Outbound)), "revoked", "although rules let the instance speak");
    assert_eq!(world.flow().state, FlowState::RevokedTcp);
    assert_eq!(world.judge(Inbound, DATA(Inbound)), "revoked");
    let counts = world.flow().packets;
    assert_eq!(counts, [2, 1], "what is dropped is not counted with the flow");
    world.now += 1000;
    assert_eq!(world.judge(Outbound, DATA(Outbound)), "revoked", "for as long as a connection lives");
    assert_eq!(world.flow().seen, 1100, "and its packets keep it so");
    assert_eq!(world.judge(Inbound, tcp(Inbound, 443, 40_000, SYN)), "no_rule");
    assert_eq!(world.flow().state, FlowState::RevokedTcp);
    both.push(peer(Inbound, Table::Tcp, 443).numbered(7));
    world.apply(&both[..]);
    assert_eq!(world.judge(Inbound, tcp(Inbound, 443, 40_000, SYN)), "rule 7, opened");
    let flow = world.flow();
    assert_eq!((flow.state, flow.rule, flow.packets), (FlowState::Opening, 7, [1, 0]));
}

#[test]
fn a_revoked_exchange_stays_so_while_packets_come() {
    let rules = [peer(Inbound, Table::Udp, 53).numbered(9), peer(Outbound, Table::Udp, 0).every_value()];
    let mut world = World::new(&rules[..]);
    assert_eq!(world.judge(Inbound, udp(Inbound, 53, 40_000)), "rule 9, opened");
    world.apply(&rules[1..]);
    for _ in 0..3 {
        assert_eq!(world.judge(Outbound, udp(Outbound, 53, 40_000)), "revoked");
        assert_eq!(world.flow().state, FlowState::Revoked);
        world.now += 180;
    }
    world.now += 1;
    assert_eq!(
        world.judge(Outbound, udp(Outbound, 53, 40_000)),
        "rule 1, opened",
        "three minutes of silence"
    );
}

#[test]
fn a_flow_that_is_allowed_again_goes_on() {
    let others = |direction| between(direction, LOCAL, PEER, Protocol(47));
    let whole = |table| peer(Inbound, table, 0).every_value().numbered(9);
    let world = |table| World::new(&[whole(table)][..]);
    let opened = |packet| {
        let world = world(identity::selector(&packet).table);
        assert_eq!(world.judge(Inbound, packet), "rule 9, opened");
        world
    };
    let half_open = opened(tcp(Inbound, 443, 40_000, SYN));
    for (what, mut world, packet, state) in [
        ("TCP that both have spoken on", connected(), DATA(Inbound), FlowState::Established),
        ("TCP that answers", connected(), DATA(Outbound), FlowState::Established),
        ("TCP that one has", half_open, tcp(Inbound, 443, 40_000, ACK), FlowState::Opening),
        ("UDP", opened(udp(Inbound, 53, 40_000)), udp(Inbound, 53, 40_000), FlowState::UdpStream),
        ("UDP answered", opened(udp(Inbound, 53, 40_000)), udp(Outbound, 53, 40_000), FlowState::UdpExchange),
        ("ping", opened(icmp(Inbound, 8, 0, 7)), icmp(Outbound, 0, 0, 7), FlowState::Icmp),
        ("GRE", opened(others(Inbound)), others(Outbound), FlowState::Other),
    ] {
        let direction = if packet.source == LOCAL { Outbound } else { Inbound };
        let table = identity::selector(&packet).table;
        world.apply(Policy::default());
        assert_eq!(world.judge(direction, packet), "revoked", "{what}");
        let is_tcp = packet.transport.protocol == 6;
        let revoked = if is_tcp { FlowState::RevokedTcp } else { FlowState::Revoked };
        assert_eq!(world.flow().state, revoked, "{what}");
        world.apply(&[whole(table).numbered(5)][..]);
        assert_eq!(world.judge(direction, packet), "flow 5", "{what}");
        let flow = world.flow();
        assert_eq!((flow.state, flow.rule, flow.generation), (state, 5, GENERATION + 2), "{what}");
        assert_eq!(world.judge(direction, packet), "flow 5", "{what}, again");
    }
}

#[test]
fn a_ping_over_ipv6_that_is_allowed_again_goes_on() {
    let ping = rule(Outbound, V6, Remote::Peer, Table::Icmp, 128 << 8);
    let mut world = World::new(&[ping][..]);
    assert_eq!(world.judge(Outbound, icmp_v6(Outbound, 128, 0, 7)), "rule 1, opened");
    world.apply(Policy::default());
    assert_eq!(world.judge(Inbound, icmp_v6(Inbound, 129, 0, 7)), "revoked");
    world.apply(&[ping.numbered(2)][..]);
    assert_eq!(world.judge(Inbound, icmp_v6(Inbound, 129, 0, 7)), "flow 2");
    assert_eq!(world.flow().state, FlowState::Icmp);
}

#[test]
fn one_side_alone_does_not_make_a_connection() {
    for opener in Direction::ALL {
        let rules = [peer(opener, Table::Tcp, 443)];
        let mut world = World::new(&rules[..]);
        let syn = |direction| match opener {
            Inbound => tcp(direction, 443, 40_000, SYN),
            Outbound => tcp(direction, 40_000, 443, SYN),
        };
        assert_eq!(world.judge(opener, syn(opener)), "rule 1, opened");
        world.apply(Policy::default());
        let repeated = Packet { tcp_flags: ACK, ..syn(opener) };
        assert_eq!(world.judge(opener, repeated), "revoked");
        world.apply(&rules[..]);
        assert_eq!(world.judge(opener, repeated), "flow 1");
        assert_eq!(world.flow().state, FlowState::Opening, "opened {opener}");
    }
}

#[test]
fn flows_live_on_where_they_are_kept() {
    let mut world = connected();
    world.control.keep_flows = 1;
    world.apply(Policy::default());
    assert_eq!(world.judge(Outbound, DATA(Outbound)), "flow 9");
    assert_eq!(world.judge(Inbound, DATA(Inbound)), "flow 9");
    assert_eq!(world.judge(Inbound, tcp(Inbound, 443, 40_001, SYN)), "no_rule", "but no new ones begin");
    assert_eq!(world.flow().state, FlowState::Established);
    world.control.keep_flows = 0;
    assert_eq!(world.judge(Outbound, DATA(Outbound)), "revoked");
    world.control.keep_flows = 1;
    assert_eq!(world.judge(Outbound, DATA(Outbound)), "revoked", "what has ended has ended");
    world.apply(&[peer(Inbound, Table::Tcp, 443).numbered(4)][..]);
    assert_eq!(world.judge(Outbound, DATA(Outbound)), "flow 4", "until it is allowed again");
}

#[test]
fn generations_are_compared_as_far_as_a_flow_carries_them() {
    let mut world = connected();
    world.nodes = Policy::default().image();
    world.generation += 1 << 24;
    assert_eq!(world.judge(Inbound, DATA(Inbound)), "flow 9", "24 bits");
    for bit in [0, 12, 23] {
        let mut world = connected();
        world.nodes = Policy::default().image();
        world.generation ^= 1 << bit;
        assert_eq!(world.judge(Inbound, DATA(Inbound)), "revoked", "bit {bit}");
    }
}

#[test]
fn a_flow_is_judged_by_what_its_opener_asked_for() {
    let rules = [peer(Inbound, Table::Icmp, 8 << 8).numbered(9), peer(Inbound, Table::Icmp, 13 << 8)];
    let mut world = World::new(&rules[..]);
    assert_eq!(world.judge(Inbound, icmp(Inbound, 8, 0, 7)), "rule 9, opened");
    world.apply(&[peer(Inbound, Table::Icmp, 8 << 8).numbered(2)][..]);
    assert_eq!(world.judge(Outbound, icmp(Outbound, 0, 0, 7)), "flow 2");
    world.apply(&[peer(Inbound, Table::Icmp, 13 << 8)][..]);
    assert_eq!(world.judge(Outbound, icmp(Outbound, 0, 0, 7)), "revoked");
}

#[test]
fn a_policy_that_cannot_be_read_ends_no_flow_and_lets_none_pass() {
    let mut world = connected();
    world.apply(&[peer(Inbound, Table::Tcp, 443)][..]);
    let broken = world.nodes[1 + ZONE as usize];
    world.nodes[1 + ZONE as usize].words[zone_word::RULE_SETS] = 100_000;
    assert_eq!(world.judge(Inbound, DATA(Inbound)), "policy_unavailable");
    world.nodes[1 + ZONE as usize] = broken;
    assert_eq!(world.judge(Inbound, DATA(Inbound)), "flow 1");
}
