//! Section 3 of `docs/semantics.md`: later fragments follow what the first one told.

use super::*;

/// The first fragment of a datagram, of which a packet told all.
pub(super) fn first(packet: Packet) -> Packet {
    let transport = Transport { headers: 8, ..packet.transport };
    Packet { is_first_fragment: true, is_wrapped: true, fragment_id: 77, transport, ..packet }
}

/// A later one, as the parser leaves it.
pub(super) fn later(packet: Packet) -> Packet {
    let transport = Transport { protocol: packet.transport.protocol, ..Transport::default() };
    Packet {
        fragment_offset: 3,
        is_wrapped: true,
        is_first_fragment: false,
        tcp_flags: 0,
        fragment_id: 77,
        transport,
        ..packet
    }
}

#[test]
fn later_fragments_pass_as_part_of_the_flow() {
    for (what, direction, packet, rules) in [
        ("UDP", Inbound, udp(Inbound, 53, 40_000), vec![peer(Inbound, Table::Udp, 53)]),
        ("UDP out", Outbound, udp(Outbound, 40_000, 53), vec![peer(Outbound, Table::Udp, 53)]),
        ("TCP", Inbound, tcp(Inbound, 443, 40_000, SYN), vec![peer(Inbound, Table::Tcp, 443)]),
        ("ping", Inbound, icmp(Inbound, 8, 0, 7), vec![peer(Inbound, Table::Icmp, 8 << 8)]),
    ] {
        let world = World::remembering(&rules[..]);
        assert_eq!(world.judge(direction, later(packet)), "fragment_without_first", "{what}");
        assert_eq!(world.judge(direction, first(packet)), "rule 1, opened", "{what}");
        let before = world.flow();
        assert_eq!(world.judge(direction, later(packet)), "flow 1", "{what}");
        let flow = world.flow();
        assert_eq!(flow.state, before.state, "{what}: it changes nothing");
        let packets = if direction == Inbound { [2, 0] } else { [0, 2] };
        assert_eq!(flow.packets, packets, "{what}: but is counted");
        for (what, other) in [
            ("id", Packet { fragment_id: 78, ..later(packet) }),
            ("source", Packet { source: STRANGER, ..later(packet) }),
            ("protocol", Packet { fragment_protocol: 47, ..later(packet) }),
        ] {
            assert_eq!(world.judge(direction, other), "fragment_without_first", "another {what}");
        }
    }
}

#[test]
fn the_answer_in_fragments_passes_too() {
    let world = World::remembering(&[peer(Outbound, Table::Udp, 53)][..]);
    assert_eq!(world.judge(Outbound, udp(Outbound, 40_000, 53)), "rule 1, opened");
    let answer = udp(Inbound, 40_000, 53);
    assert_eq!(world.judge(Inbound, first(answer)), "flow 1");
    assert_eq!(world.judge(Inbound, later(answer)), "flow 1");
    assert_eq!(world.flow().state, FlowState::UdpExchange);
}

#[test]
fn what_was_denied_keeps_its_reason() {
    let policy = Policy { flags: flag::SOURCE_CHECK, ..Policy::default() };
    let foreign = Packet { source: STRANGER, ..udp(Outbound, 1, 2) };
    for (what, direction, packet, expected) in [
        ("no rule", Inbound, udp(Inbound, 53, 40_000), "no_rule"),
        ("source check", Outbound, foreign, "source_check"),
        ("error", Inbound, icmp(Inbound, 3, 1, 0), "icmp_error_without_flow"),
    ] {
        let world = World::remembering(policy.clone());
        assert_eq!(world.judge(direction, first(packet)), expected, "{what}");
        assert_eq!(world.judge(direction, later(packet)), expected, "{what}");
    }
}

#[test]
fn later_fragments_open_no_flow_and_pass_by_the_rule_where_none_is_needed() {
    let open_out = anyone(Outbound, Table::Udp, 0).every_value().numbered(2);
    let world = World::remembering(&[open_out, anyone(Inbound, Table::Udp, 53)][..]);
    let packet = udp(Inbound, 53, 40_000);
    assert_eq!(world.judge(Inbound, first(packet)), "rule 1");
    assert_eq!(world.judge(Inbound, later(packet)), "rule 1");
    assert!(world.heap.flows().is_empty());
    let mut world = World::remembering(&[peer(Inbound, Table::Udp, 53)][..]);
    assert_eq!(world.judge(Inbound, first(packet)), "rule 1, opened");
    world.heap.entries.iter().for_each(|entry| entry.life.store(0));
    assert_eq!(world.judge(Inbound, later(packet)), "rule 1");
    assert!(world.heap.flows().is_empty(), "the first did that");
    world.now += 34;
    assert_eq!(world.judge(Inbound, later(packet)), "fragment_without_first", "after its time");
}

#[test]
fn a_change_of_policy_between_them_counts() {
    let mut world = World::remembering(&[peer(Inbound, Table::Udp, 53)][..]);
    let packet = udp(Inbound, 53, 40_000);
    assert_eq!(world.judge(Inbound, first(packet)), "rule 1, opened");
    world.apply(Policy::default());
    assert_eq!(world.judge(Inbound, later(packet)), "revoked");
}

#[test]
fn only_first_fragments_are_kept() {
    let world = World::remembering(&[peer(Inbound, Table::Udp, 53)][..]);
    let packet = udp(Inbound, 53, 40_000);
    let whole = Packet { is_first_fragment: false, ..first(packet) };
    assert_eq!(world.judge(Inbound, whole), "rule 1, opened");
    assert_eq!(world.judge(Inbound, later(packet)), "fragment_without_first");
    let said =
        world.outcome(Hook::Ingress, Err(Unreadable::drop(DropReason::Malformed)), first(packet), BYTES);
    assert_eq!(told(&said), "malformed");
    assert_eq!(world.judge(Inbound, later(packet)), "fragment_without_first");
}

#[test]
fn a_first_fragment_that_is_denied_changes_nothing_for_one_that_passed() {
    let world = World::remembering(&[peer(Inbound, Table::Udp, 53)][..]);
    let packet = udp(Inbound, 53, 40_000);
    assert_eq!(world.judge(Inbound, first(packet)), "rule 1, opened");
    assert_eq!(world.judge(Inbound, first(udp(Inbound, 22, 40_000))), "no_rule");
    assert_eq!(world.judge(Inbound, later(packet)), "flow 1");
    let denied_first = World::remembering(&[peer(Inbound, Table::Udp, 53)][..]);
    assert_eq!(denied_first.judge(Inbound, first(udp(Inbound, 22, 40_000))), "no_rule");
    assert_eq!(denied_first.judge(Inbound, later(packet)), "no_rule");
    assert_eq!(denied_first.judge(Inbound, first(packet)), "rule 1, opened");
    assert_eq!(denied_first.judge(Inbound, later(packet)), "flow 1");
}

#[test]
fn one_that_begins_inside_of_the_headers_is_malformed() {
    let world = World::remembering(&[peer(Inbound, Table::Udp, 53)][..]);
    let packet = udp(Inbound, 53, 40_000);
    let long = first(packet);
    let long = Packet { transport: Transport { headers: 25, ..long.transport }, ..long };
    assert_eq!(world.judge(Inbound, long), "rule 1, opened");
    assert_eq!(world.judge(Inbound, later(packet)), "malformed", "24 is below 25");
    let behind = Packet { fragment_offset: 4, ..later(packet) };
    assert_eq!(world.judge(Inbound, behind), "flow 1");
}

#[test]
fn datagrams_are_told_apart_by_zone() {
    let mut world = World::remembering(&[peer(Inbound, Table::Udp, 53)][..]);
    let packet = udp(Inbound, 53, 40_000);
    assert_eq!(world.judge(Inbound, first(packet)), "rule 1, opened");
    world.nodes[2 + ZONE as usize] = world.nodes[1 + ZONE as usize];
    world.nodes[2 + ZONE as usize].words[zone_word::MARK] = zone_mark(ZONE + 1);
    let tables = Tables {
        nodes: Some(&world.nodes[..]),
        memory: &world.heap,
        control: &world.control,
        generation: world.generation,
        jiffies: crate::abi::jiffies(world.now),
        is_guest: false,
    };
    let payload = Ok(Payload::LATER_FRAGMENT);
    let outcome = decide(&tables, ZONE + 1, Hook::Ingress, payload, &mut later(packet), BYTES);
    assert_eq!(told(&outcome), "fragment_without_first");
}

#[test]
fn what_was_denied_for_its_flags_its_syn_or_want_of_room_is_not_let_in_piecemeal() {
    let https = [peer(Inbound, Table::Tcp, 443)];
    let world = World::remembering(&https[..]);
    let odd = tcp(Inbound, 443, 40_000, SYN | FIN);
    assert_eq!(world.judge(Inbound, first(odd)), "invalid_tcp_flags");
    assert_eq!(world.judge(Inbound, later(odd)), "invalid_tcp_flags");

    let world = World::remembering(&[peer(Outbound, Table::Tcp, 443)][..]);
    world.connect(Outbound, 40_000, 443, 1);
    let syn = tcp(Inbound, 40_000, 443, SYN);
    assert_eq!(world.judge(Inbound, first(syn)), "no_rule");
    assert_eq!(world.judge(Inbound, later(syn)), "no_rule", "although there is a flow");

    let mut world = World::remembering(&https[..]);
    world.control.bucket_mask = 0;
    for remote_port in 0..16 {
        world.connect(Inbound, 443, 50_000 + remote_port, 1);
    }
    let late = tcp(Inbound, 443, 40_000, SYN);
    assert_eq!(world.judge(Inbound, first(late)), "flow_table_full");
    assert_eq!(world.judge(Inbound, later(late)), "flow_table_full");
}

#[test]
fn a_datagram_of_another_policy_is_not_completed() {
    let mut world = World::remembering(&[peer(Inbound, Table::Udp, 53), peer(Inbound, Table::Udp, 54)][..]);
    assert_eq!(world.judge(Inbound, first(udp(Inbound, 53, 40_000))), "rule 1, opened");
    world.apply(&[peer(Inbound, Table::Udp, 54)][..]);
    assert_eq!(world.judge(Inbound, first(udp(Inbound, 54, 40_000))), "rule 1, opened");
    assert_eq!(world.judge(Inbound, later(udp(Inbound, 54, 40_000))), "fragment_without_first");
}
