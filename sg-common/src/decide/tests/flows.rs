//! Section 5 of `docs/semantics.md`: what opens a flow, what belongs to one, and what becomes of it.

use super::*;

fn https_in() -> World {
    World::new(&[peer(Inbound, Table::Tcp, 443).numbered(9)][..])
}

#[test]
fn a_flow_remembers_who_opened_it_when_and_by_which_rule() {
    for (what, direction, packet, state, ports) in [
        ("TCP in", Inbound, tcp(Inbound, 443, 40_000, SYN), FlowState::Opening, [443, 40_000]),
        ("TCP out", Outbound, tcp(Outbound, 40_000, 443, SYN), FlowState::Opening, [40_000, 443]),
        ("UDP in", Inbound, udp(Inbound, 443, 40_000), FlowState::UdpOneWay, [443, 40_000]),
        ("UDP out", Outbound, udp(Outbound, 40_000, 443), FlowState::UdpOneWay, [40_000, 443]),
        ("ping in", Inbound, icmp(Inbound, 8, 0, 77), FlowState::Icmp, [77, 0x0800]),
        ("ping out", Outbound, icmp(Outbound, 8, 0, 77), FlowState::Icmp, [77, 0x0801]),
        ("GRE", Inbound, between(Inbound, LOCAL, PEER, Protocol(47)), FlowState::Other, [0, 0]),
    ] {
        let rules: Vec<Rule> = Direction::ALL
            .into_iter()
            .flat_map(|direction| Table::ALL.map(|table| peer(direction, table, 0).every_value().numbered(6)))
            .collect();
        let world = World::new(&rules[..]);
        assert_eq!(world.judge(direction, packet), "rule 6, opened", "{what}");
        let flow = world.flow();
        assert_eq!((flow.state, flow.opener, flow.seen), (state, direction, 100), "{what}");
        assert_eq!((flow.rule, flow.generation), (6, 0x0023_4567), "{what}");
        let counts = if direction == Inbound { [1, 0] } else { [0, 1] };
        assert_eq!((flow.packets, flow.bytes), (counts, counts.map(|count| count * BYTES)), "{what}");
        assert_eq!([flow.key.local_port(), flow.key.remote_port()], ports, "{what}");
        assert_eq!((flow.key.local(), flow.key.remote(), flow.key.zone()), (LOCAL, PEER, ZONE), "{what}");
        assert_eq!(flow.key.protocol().0, packet.transport.protocol, "{what}");
    }
}

#[test]
fn replies_pass_without_a_rule_and_are_counted() {
    let world = https_in();
    world.connect(Inbound, 443, 40_000, 9);
    let flow = world.flow();
    assert_eq!((flow.state, flow.packets, flow.bytes), (FlowState::Established, [2, 1], [200, 100]));
    let data =
        Packet { sequence: 5000, acknowledgement: 1000, payload: 10, ..tcp(Outbound, 443, 40_000, ACK) };
    assert_eq!(
        world.outcome(Hook::Egress, Ok(Payload::IP), data, 4321).verdict,
        allowed(AllowReason::Flow, 9)
    );
    let flow = world.flow();
    assert_eq!((flow.packets, flow.bytes, flow.next), ([2, 2], [200, 4421], [1000, 5010]));
    for (what, direction, packet) in [
        ("another remote port", Outbound, tcp(Outbound, 443, 40_001, ACK)),
        ("another local port", Outbound, tcp(Outbound, 444, 40_000, ACK)),
        ("ports the other way", Inbound, tcp(Inbound, 40_000, 443, ACK)),
        ("another address", Outbound, Packet { destination: STRANGER, ..tcp(Outbound, 443, 40_000, ACK) }),
        ("another protocol", Outbound, udp(Outbound, 443, 40_000)),
    ] {
        assert_eq!(world.judge(direction, packet), "no_rule", "{what}");
    }
}

const fn allowed(reason: AllowReason, rule: u32) -> Verdict {
    Verdict::Allow(reason, Some(RuleNumber(rule)))
}

#[test]
fn a_bare_syn_is_a_new_connection_whatever_is_known() {
    let world = World::new(&[peer(Outbound, Table::Tcp, 443)][..]);
    world.connect(Outbound, 40_000, 443, 1);
    let before = world.flow();
    assert_eq!(world.judge(Inbound, tcp(Inbound, 40_000, 443, SYN)), "no_rule");
    assert_eq!(world.judge(Inbound, tcp(Inbound, 40_000, 443, SYN | PSH | URG)), "no_rule");
    assert_eq!(world.flow(), before);
    assert_eq!(world.judge(Inbound, tcp(Inbound, 40_000, 443, SYN | ACK)), "flow 1");
    assert_eq!(
        world.judge(Outbound, tcp(Outbound, 40_000, 443, SYN)),
        "rule 1",
        "a rule allows it, none begins"
    );
    assert_eq!(world.flow().state, FlowState::Established, "and a live one goes on");
}

#[test]
fn a_port_that_is_used_again_is_judged_afresh() {
    let mut world = https_in();
    world.connect(Inbound, 443, 40_000, 9);
    let reset = Packet { sequence: 1000, ..tcp(Inbound, 443, 40_000, RST) };
    assert_eq!(world.judge(Inbound, reset), "flow 9");
    assert_eq!(world.flow().state, FlowState::Closing);
    assert_eq!(world.judge(Inbound, tcp(Inbound, 443, 40_000, ACK)), "flow 9", "the last words pass");
    world.now += 1;
    world.apply(&[peer(Inbound, Table::Tcp, 443).numbered(4)][..]);
    assert_eq!(world.judge(Inbound, tcp(Inbound, 443, 40_000, SYN)), "rule 4, opened");
    let flow = world.flow();
    assert_eq!((flow.state, flow.rule, flow.seen), (FlowState::Opening, 4, 101));
    assert_eq!((flow.packets, flow.generation), ([1, 0], 0x0023_4568));
}

#[test]
fn what_is_idle_for_too_long_is_no_flow() {
    for (what, packets, timeout) in [
        ("TCP, one SYN", &[(Inbound, tcp(Inbound, 443, 40_000, SYN))][..], 30),
        ("UDP, one way", &[(Inbound, udp(Inbound, 443, 40_000))], 31),
        (
            "UDP, one exchange",
            &[(Inbound, udp(Inbound, 443, 40_000)), (Outbound, udp(Outbound, 443, 40_000))],
            31,
        ),
        (
            "UDP, more",
            &[
                (Inbound, udp(Inbound, 443, 40_000)),
                (Outbound, udp(Outbound, 443, 40_000)),
                (Inbound, udp(Inbound, 443, 40_000)),
            ],
            180,
        ),
        ("ping", &[(Inbound, icmp(Inbound, 8, 0, 1))], 32),
        ("GRE", &[(Inbound, between(Inbound, LOCAL, PEER, Protocol(47)))], 600),
    ] {
        let back = match packets[0].1.transport.protocol {
            1 => icmp(Outbound, 0, 0, 1),
            6 => tcp(Outbound, 443, 40_000, SYN | ACK),
            17 => udp(Outbound, 443, 40_000),
            _ => between(Outbound, LOCAL, PEER, Protocol(47)),
        };
        for (late, expected) in [(0, "flow 6"), (1, "no_rule")] {
            let rules = Table::ALL.map(|table| peer(Inbound, table, 0).every_value().numbered(6));
            let mut world = World::new(&rules[..]);
            for (direction, packet) in packets {
                assert!(world.judge(*direction, *packet).contains('6'), "{what}");
            }
            world.now += timeout + late;
            assert_eq!(world.judge(Outbound, back), expected, "{what}, {late} past its time");
        }
    }
}

#[test]
fn a_ping_admits_its_reply_and_nothing_else() {
    let world = World::new(&[peer(Outbound, Table::Icmp, 8 << 8)][..]);
    assert_eq!(world.judge(Outbound, icmp(Outbound, 8, 0, 7)), "rule 1, opened");
    let before = world.flow();
    for (what, packet, expected) in [
        ("another id", icmp(Inbound, 0, 0, 8), "no_rule"),
        ("a request", icmp(Inbound, 8, 0, 7), "no_rule"),
        ("a timestamp reply", icmp(Inbound, 14, 0, 7), "no_rule"),
        ("a reply with a code", icmp(Inbound, 0, 1, 7), "no_rule"),
        ("an unreachable", icmp(Inbound, 3, 1, 7), "icmp_error_without_flow"),
        ("a redirect", icmp(Inbound, 5, 1, 7), "icmp_error_without_flow"),
        ("a router advertisement", icmp(Inbound, 9, 0, 7), "no_rule"),
    ] {
        assert_eq!(world.judge(Inbound, packet), expected, "{what}");
        assert_eq!(world.flow(), before, "{what}");
    }
    assert_eq!(world.judge(Outbound, icmp(Outbound, 0, 0, 7)), "no_rule", "nobody has asked");
    assert_eq!(world.judge(Inbound, icmp(Inbound, 0, 0, 7)), "flow 1");
    assert_eq!(world.judge(Outbound, icmp(Outbound, 8, 0, 7)), "flow 1", "the next of them");
    assert_eq!(world.flow().packets, [1, 2]);
}

#[test]
fn a_ping_over_ipv6_admits_its_reply() {
    let world = World::new(&[rule(Outbound, V6, Remote::Peer, Table::Icmp, 128 << 8)][..]);
    assert_eq!(world.judge(Outbound, icmp_v6(Outbound, 128, 0, 7)), "rule 1, opened");
    assert_eq!(world.judge(Inbound, icmp_v6(Inbound, 129, 0, 8)), "no_rule");
    assert_eq!(world.judge(Inbound, icmp_v6(Inbound, 128, 0, 7)), "no_rule");
    assert_eq!(world.judge(Inbound, icmp_v6(Inbound, 129, 0, 7)), "flow 1");
}

#[test]
fn what_only_answers_or_tells_opens_nothing() {
    let rules = [peer(Inbound, Table::Icmp, 0).every_value()];
    for (what, packet) in [
        ("echo reply", icmp(Inbound, 0, 0, 7)),
        ("unreachable", icmp(Inbound, 3, 0, 0)),
        ("redirect", icmp(Inbound, 5, 0, 0)),
        ("router advertisement", icmp(Inbound, 9, 0, 0)),
        ("echo request with a code", icmp(Inbound, 8, 1, 0)),
    ] {
        let world = World::new(&rules[..]);
        assert_eq!(world.judge(Inbound, packet), "rule 1", "{what}");
        assert_eq!(world.judge(Inbound, packet), "rule 1", "{what} again");
        assert!(world.heap.flows().is_empty(), "{what}");
    }
}

#[test]
fn only_what_looks_like_the_opener_picks_a_connection_up() {
    for (what, direction, source_port, flags, opens) in [
        ("in, lowest", Inbound, 1024, ACK, true),
        ("in, from a privileged port", Inbound, 1023, ACK, false),
        ("out, lowest", Outbound, 32_768, ACK, true),
        ("out, from below the ephemeral range", Outbound, 32_767, ACK, false),
        ("in, data", Inbound, 40_000, ACK | PSH, true),
        ("in, FIN", Inbound, 40_000, ACK | FIN, true),
        ("in, RST", Inbound, 40_000, RST, false),
        ("in, RST and ACK", Inbound, 40_000, RST | ACK, false),
        ("in, an answered SYN", Inbound, 40_000, SYN | ACK, false),
        ("in, a SYN", Inbound, 80, SYN, true),
        ("out, a SYN", Outbound, 80, SYN, true),
    ] {
        let rules = Direction::ALL.map(|direction| peer(direction, Table::Tcp, 443));
        let world = World::new(&rules[..]);
        let packet = match direction {
            Inbound => tcp(Inbound, 443, source_port, flags),
            Outbound => tcp(Outbound, source_port, 443, flags),
        };
        let expected = if opens { "rule 1, opened" } else { "rule 1" };
        assert_eq!(world.judge(direction, packet), expected, "{what}");
        assert_eq!(world.heap.flows().len(), usize::from(opens), "{what}");
    }
    let rules = [peer(Inbound, Table::Udp, 53), peer(Outbound, Table::Udp, 53)];
    let world = World::new(&rules[..]);
    assert_eq!(world.judge(Inbound, udp(Inbound, 53, 53)), "rule 1, opened", "UDP has no such mark");
}

#[test]
fn a_full_table_refuses_new_flows_and_carries_the_old_ones() {
    let mut world = https_in();
    world.control.bucket_mask = 0;
    for remote_port in 0..16 {
        world.connect(Inbound, 443, 40_000 + remote_port, 9);
    }
    assert_eq!(world.judge(Inbound, tcp(Inbound, 443, 50_000, SYN)), "flow_table_full");
    assert_eq!(world.judge(Inbound, tcp(Inbound, 443, 50_000, ACK)), "flow_table_full");
    for remote_port in 0..16 {
        let later = tcp(Outbound, 443, 40_000 + remote_port, ACK);
        assert_eq!(world.judge(Outbound, later), "flow 9");
    }
    assert_eq!(world.states(), [FlowState::Established; 16]);
    assert_eq!(world.judge(Inbound, tcp(Inbound, 443, 50_000, RST)), "rule 9", "it needs no room");
    let half_open = World { control: Control { bucket_mask: 0, ..world.control }, ..https_in() };
    for remote_port in 0..1000 {
        let said = half_open.judge(Inbound, tcp(Inbound, 443, 40_000 + remote_port, SYN));
        assert_eq!(said, "rule 9, opened");
    }
}

#[test]
fn zones_never_see_each_others_flows() {
    let mut world = https_in();
    world.connect(Inbound, 443, 40_000, 9);
    let elsewhere = ZONE + 1;
    let record = &mut world.nodes[1 + elsewhere as usize];
    *record = Node::ZERO;
    record.words[zone_word::MARK] = zone_mark(elsewhere);
    let tables = Tables {
        nodes: Some(&world.nodes[..]),
        memory: &world.heap,
        control: &world.control,
        generation: world.generation,
        jiffies: crate::abi::jiffies(world.now),
        is_guest: false,
    };
    let mut packet = tcp(Outbound, 443, 40_000, ACK);
    let outcome = decide(&tables, elsewhere, Hook::Egress, Ok(Payload::IP), &mut packet, BYTES);
    assert_eq!(told(&outcome), "no_rule");
}

#[test]
fn a_flow_that_no_rule_admitted_passes_without_one() {
    let world = https_in();
    world.connect(Inbound, 443, 40_000, 9);
    let entry = world.heap.entries.iter().find(|entry| entry.life.load() != 0).unwrap();
    let version = crate::flow::Life(entry.life.load()).version();
    entry.origin.store(Origin::new(version, world.generation, Origin::NO_RULE).0);
    assert_eq!(world.judge(Inbound, tcp(Inbound, 443, 40_000, ACK)), "flow");
}

/// Memory that tells how often, and with how many octets, a flow was moved on.
struct Counted(Heap, bool, core::cell::RefCell<Vec<u64>>);

impl Memory for Counted {
    fn bucket(&self, index: u32) -> Option<&crate::flow::Bucket> {
        self.0.bucket(index)
    }

    fn entry(&self, index: u32) -> Option<&crate::flow::Entry> {
        self.0.entry(index)
    }

    fn tail(&self, index: u32) -> Option<&crate::flow::Tail> {
        self.0.tail(index)
    }

    fn follow(&self, _: &Context<'_>, _: crate::flow::table::Place, _: &Packet, _: Step, bytes: u64) -> bool {
        self.2.borrow_mut().push(bytes);
        self.1
    }
}

#[test]
fn a_packet_moves_its_flow_on_once_and_again_where_another_cpu_was_faster() {
    for (is_first, expected) in [(true, &[BYTES][..]), (false, &[BYTES, 0])] {
        let world = https_in();
        world.connect(Inbound, 443, 40_000, 9);
        let World { nodes, heap, control, generation, now, .. } = world;
        let memory = Counted(heap, is_first, core::cell::RefCell::default());
        let tables = Tables {
            nodes: Some(&nodes[..]),
            memory: &memory,
            control: &control,
            // Of an older generation, so that it is judged and then moved on.
            generation: generation + 1,
            jiffies: crate::abi::jiffies(now),
            is_guest: false,
        };
        let mut packet = tcp(Outbound, 443, 40_000, ACK);
        let outcome = decide(&tables, ZONE, Hook::Egress, Ok(Payload::IP), &mut packet, BYTES);
        assert_eq!(told(&outcome), "flow 9");
        assert_eq!(memory.2.borrow()[..], *expected);
    }
}
