//! Section 7 of `docs/semantics.md`: errors belong to the flow whose packet they quote. Frames are
//! written octet by octet here and read by the parser.

use super::*;
use crate::wire::{LinkLayer, Slice, parse};

/// A router on the way.
const ROUTER: Addr = Addr::v4(0x6440_0001);
const ROUTER_V6: Addr = Addr::v6(0x2001_0db8_0000_00aa, 1);

fn octets(address: Addr) -> Vec<u8> {
    if address.is_v4() {
        address.v4_bits().to_be_bytes().to_vec()
    } else {
        address.to_bits().to_be_bytes().to_vec()
    }
}

/// An IP packet around `payload`.
fn ip(source: Addr, destination: Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = if source.is_v4() {
        let length = (20 + payload.len() as u16).to_be_bytes();
        vec![0x45, 0, length[0], length[1], 0, 0, 0, 0, 64, protocol, 0, 0]
    } else {
        let length = (payload.len() as u16).to_be_bytes();
        vec![0x60, 0, 0, 0, length[0], length[1], protocol, 64]
    };
    packet.extend(octets(source));
    packet.extend(octets(destination));
    packet.extend(payload);
    packet
}

/// Eight octets of a transport header with these ports.
fn ports(source: u16, destination: u16) -> Vec<u8> {
    let mut header = source.to_be_bytes().to_vec();
    header.extend(destination.to_be_bytes());
    header.extend([0, 0, 0, 0]);
    header
}

/// Eight octets of an ICMP query.
fn query(kind: u8, code: u8, id: u16) -> Vec<u8> {
    let mut header = vec![kind, code, 0, 0];
    header.extend(id.to_be_bytes());
    header.extend([0, 0]);
    header
}

/// An ICMP message of this type about `quoted`.
fn error(source: Addr, destination: Addr, kind: u8, quoted: &[u8]) -> Packet {
    let mut payload = vec![kind, 1, 0, 0, 0, 0, 0, 0];
    payload.extend(quoted);
    let (protocol, ethertype) = if source.is_v4() { (1, 0x0800) } else { (58, 0x86dd) };
    let bytes = ip(source, destination, protocol, &payload);
    let mut packet = Packet::default();
    let cursor = Slice { frame: &bytes, is_gso: false };
    assert_eq!(parse(&cursor, LinkLayer::BareIp { ethertype }, 0, &mut packet), Ok(Payload::IP));
    packet
}

/// A world in which the instance has sent a SYN to port 443 of the peer, by rule 1.
fn calling() -> World {
    let world = World::new(&[peer(Outbound, Table::Tcp, 443)][..]);
    assert_eq!(world.judge(Outbound, tcp(Outbound, 40_000, 443, SYN)), "rule 1, opened");
    world
}

/// The SYN of [`calling`], as an error quotes it.
fn call() -> Vec<u8> {
    ip(LOCAL, PEER, 6, &ports(40_000, 443))
}

#[test]
fn an_error_about_a_packet_of_a_flow_reaches_its_sender() {
    let world = calling();
    let before = world.flow();
    for kind in 0..=u8::MAX {
        for router in [ROUTER, PEER] {
            let expected = match kind {
                3 | 4 | 11 | 12 => "flow 1",
                5 => "icmp_error_without_flow",
                _ => "no_rule",
            };
            let said = world.judge(Inbound, error(router, LOCAL, kind, &call()));
            assert_eq!(said, expected, "type {kind} from {router}");
        }
    }
    assert_eq!(world.flow(), before, "an error neither counts nor keeps a flow alive");
}

#[test]
fn an_error_over_ipv6_reaches_its_sender() {
    let world = World::new(&[rule(Outbound, V6, Remote::Peer, Table::Udp, 443)][..]);
    let packet = with_ports(Outbound, 40_000, 443, between(Outbound, LOCAL_V6, PEER_V6, Protocol::UDP));
    assert_eq!(world.judge(Outbound, packet), "rule 1, opened");
    let quoted = ip(LOCAL_V6, PEER_V6, 17, &ports(40_000, 443));
    for kind in 0..=127 {
        let expected = if matches!(kind, 1..=4) { "flow 1" } else { "no_rule" };
        assert_eq!(world.judge(Inbound, error(ROUTER_V6, LOCAL_V6, kind, &quoted)), expected, "type {kind}");
    }
    let mut redirect = error(ROUTER_V6, LOCAL_V6, 137, &quoted);
    assert_eq!(world.judge(Inbound, redirect), "malformed", "it came from afar");
    redirect =
        Packet { hop_limit: 255, transport: Transport { icmp: 137 << 8, ..redirect.transport }, ..redirect };
    let said = world.judge(Inbound, redirect);
    assert_eq!(said, "icmp_error_without_flow", "a redirect is never related");
}

#[test]
fn an_error_that_the_instance_sends_goes_to_whoever_it_answers() {
    let world = World::new(&[peer(Inbound, Table::Udp, 53)][..]);
    assert_eq!(world.judge(Inbound, udp(Inbound, 53, 40_000)), "rule 1, opened");
    let quoted = ip(PEER, LOCAL, 17, &ports(40_000, 53));
    assert_eq!(world.judge(Outbound, error(LOCAL, PEER, 3, &quoted)), "flow 1");
    // The instance has sent nothing that the peer could complain about.
    let answer = ip(LOCAL, PEER, 17, &ports(53, 40_000));
    assert_eq!(world.judge(Inbound, error(PEER, LOCAL, 3, &answer)), "icmp_error_without_flow");
    assert_eq!(world.judge(Outbound, udp(Outbound, 53, 40_000)), "flow 1");
    assert_eq!(world.judge(Inbound, error(PEER, LOCAL, 3, &answer)), "flow 1", "now it has");
}

#[test]
fn what_quotes_nothing_of_a_flow_is_dropped() {
    let quotes = |source, destination, protocol, ports: &[u8]| ip(source, destination, protocol, ports);
    let mut later = call();
    later[7] = 1;
    let mut another_version = call();
    another_version[0] = 0x65;
    let mut short_header = call();
    short_header[0] = 0x44;
    let nested = error_octets(&call());
    for (what, quoted) in [
        ("another port of the peer", quotes(LOCAL, PEER, 6, &ports(40_000, 444))),
        ("another port of the instance", quotes(LOCAL, PEER, 6, &ports(40_001, 443))),
        ("another peer", quotes(LOCAL, STRANGER, 6, &ports(40_000, 443))),
        ("another protocol", quotes(LOCAL, PEER, 17, &ports(40_000, 443))),
        ("the other direction", quotes(PEER, LOCAL, 6, &ports(443, 40_000))),
        ("from another", quotes(STRANGER, PEER, 6, &ports(40_000, 443))),
        ("nothing", Vec::new()),
        ("seven octets of the header", call()[..27].to_vec()),
        ("a later fragment", later),
        ("another version", another_version),
        ("a header too short", short_header),
        ("an error", nested),
    ] {
        assert_eq!(
            calling().judge(Inbound, error(ROUTER, LOCAL, 3, &quoted)),
            "icmp_error_without_flow",
            "{what}"
        );
    }
    let world = calling();
    assert_eq!(world.judge(Outbound, error(LOCAL, PEER, 3, &call())), "icmp_error_without_flow", "sent out");
}

/// An ICMP error of the instance about `quoted`, as octets.
fn error_octets(quoted: &[u8]) -> Vec<u8> {
    let mut payload = vec![3, 1, 0, 0, 0, 0, 0, 0];
    payload.extend(quoted);
    ip(LOCAL, PEER, 1, &payload)
}

#[test]
fn quoted_pings_belong_to_their_flow() {
    let world = World::new(&[peer(Outbound, Table::Icmp, 8 << 8), peer(Inbound, Table::Icmp, 8 << 8)][..]);
    assert_eq!(world.judge(Outbound, icmp(Outbound, 8, 0, 7)), "rule 1, opened");
    let about = |source, destination, octets: &[u8]| ip(source, destination, 1, octets);
    let inbound = |octets: &[u8]| error(ROUTER, LOCAL, 11, &about(LOCAL, PEER, octets));
    for (what, packet, expected) in [
        ("the query", inbound(&query(8, 0, 7)), "flow 1"),
        ("another id", inbound(&query(8, 0, 8)), "icmp_error_without_flow"),
        ("another type", inbound(&query(13, 0, 7)), "icmp_error_without_flow"),
        ("a code", inbound(&query(8, 1, 7)), "icmp_error_without_flow"),
        ("a reply that nobody sent", inbound(&query(0, 0, 7)), "icmp_error_without_flow"),
    ] {
        assert_eq!(world.judge(Inbound, packet), expected, "{what}");
    }
    // The peer pings, the instance answers, and the answer does not arrive.
    assert_eq!(world.judge(Inbound, icmp(Inbound, 8, 0, 9)), "rule 1, opened");
    assert_eq!(world.judge(Inbound, inbound(&query(0, 0, 9))), "icmp_error_without_flow");
    assert_eq!(world.judge(Outbound, icmp(Outbound, 0, 0, 9)), "flow 1");
    assert_eq!(world.judge(Inbound, inbound(&query(0, 0, 9))), "flow 1");
}

#[test]
fn quoted_pings_over_ipv6_and_other_protocols_belong_to_their_flow() {
    let ping = rule(Outbound, V6, Remote::Peer, Table::Icmp, 128 << 8);
    let world = World::new(&[ping, rule(Outbound, V6, Remote::Peer, Table::Other, 50).numbered(2)][..]);
    let about =
        |protocol, octets: &[u8]| error(ROUTER_V6, LOCAL_V6, 2, &ip(LOCAL_V6, PEER_V6, protocol, octets));
    let esp = about(50, &[1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(world.judge(Inbound, esp), "icmp_error_without_flow");
    assert_eq!(world.judge(Inbound, about(58, &query(128, 0, 7))), "icmp_error_without_flow");
    assert_eq!(world.judge(Outbound, icmp_v6(Outbound, 128, 0, 7)), "rule 1, opened");
    assert_eq!(world.judge(Inbound, about(58, &query(128, 0, 7))), "flow 1");
    assert_eq!(world.judge(Inbound, about(58, &query(128, 0, 8))), "icmp_error_without_flow");
    assert_eq!(world.judge(Outbound, between(Outbound, LOCAL_V6, PEER_V6, Protocol(50))), "rule 2, opened");
    assert_eq!(world.judge(Inbound, esp), "flow 2");
}

#[test]
fn a_rule_lets_errors_and_redirects_pass_without_a_flow() {
    let types = |first, last| Rule { first, last, ..anyone(Inbound, Table::Icmp, 0).numbered(8) };
    let world = World::new(&[types(3 << 8, 5 << 8 | 255), peer(Outbound, Table::Tcp, 443)][..]);
    let unrelated = ip(LOCAL, PEER, 6, &ports(50_000, 443));
    for (kind, expected) in [(3, "rule 8"), (5, "rule 8"), (11, "icmp_error_without_flow")] {
        assert_eq!(world.judge(Inbound, error(ROUTER, LOCAL, kind, &unrelated)), expected, "type {kind}");
    }
    assert!(world.heap.flows().is_empty(), "it opens nothing");
    assert_eq!(world.judge(Outbound, tcp(Outbound, 40_000, 443, SYN)), "rule 1, opened");
    assert_eq!(world.judge(Inbound, error(ROUTER, LOCAL, 3, &call())), "flow 1", "the flow comes first");
    // The peer has sent nothing: what the instance says about it needs the rule.
    let world = World::new(
        &[anyone(Outbound, Table::Icmp, 3 << 8 | 1).numbered(8), peer(Outbound, Table::Tcp, 443)][..],
    );
    assert_eq!(world.judge(Outbound, tcp(Outbound, 40_000, 443, SYN)), "rule 1, opened");
    let about_nothing = ip(PEER, LOCAL, 6, &ports(443, 40_000));
    assert_eq!(world.judge(Outbound, error(LOCAL, PEER, 3, &about_nothing)), "rule 8");
}

#[test]
fn an_error_follows_its_flow_through_a_change_of_policy() {
    let mut world = calling();
    world.apply(&[peer(Outbound, Table::Tcp, 443).numbered(2)][..]);
    // It comes from a router, but the rules are asked for the peer.
    assert_eq!(world.judge(Inbound, error(ROUTER, LOCAL, 3, &call())), "flow 2");
    world.apply(Policy::default());
    assert_eq!(world.judge(Inbound, error(ROUTER, LOCAL, 3, &call())), "icmp_error_without_flow");
    assert_eq!(world.judge(Outbound, tcp(Outbound, 40_000, 443, ACK)), "revoked");
    assert_eq!(world.judge(Inbound, error(ROUTER, LOCAL, 3, &call())), "icmp_error_without_flow");
    world.apply(&[anyone(Inbound, Table::Icmp, 3 << 8 | 1).numbered(8)][..]);
    assert_eq!(world.judge(Inbound, error(ROUTER, LOCAL, 3, &call())), "rule 8", "unless a rule allows it");
}

#[test]
fn an_outbound_error_is_judged_by_the_peer_it_goes_to() {
    let mut world = World::new(&[anyone(Inbound, Table::Udp, 53)][..]);
    assert_eq!(world.judge(Inbound, udp(Inbound, 53, 40_000)), "rule 1, opened");
    world.apply(&[peer(Inbound, Table::Udp, 53).numbered(2)][..]);
    let quoted = ip(PEER, LOCAL, 17, &ports(40_000, 53));
    assert_eq!(world.judge(Outbound, error(LOCAL, PEER, 3, &quoted)), "flow 2");
}

#[test]
fn an_error_to_a_dead_flow_is_dropped() {
    let mut world = calling();
    world.now += 30;
    assert_eq!(world.judge(Inbound, error(ROUTER, LOCAL, 3, &call())), "flow 1");
    world.now += 1;
    assert_eq!(world.judge(Inbound, error(ROUTER, LOCAL, 3, &call())), "icmp_error_without_flow");
}

#[test]
fn errors_about_what_needs_no_entry_pass_as_its_answer_would() {
    let open_out = anyone(Outbound, Table::Tcp, 0).every_value().numbered(2);
    let open_in = anyone(Inbound, Table::Tcp, 0).every_value().numbered(3);
    let https_in = anyone(Inbound, Table::Tcp, 443);
    let https_out = anyone(Outbound, Table::Tcp, 443);
    let from_peer = peer(Inbound, Table::Tcp, 443);
    // What the instance has sent, and what the peer has.
    let sent = |source, destination| ip(LOCAL, PEER, 6, &ports(source, destination));
    let got = |source, destination| ip(PEER, LOCAL, 6, &ports(source, destination));
    let inbound = |quoted: &[u8]| (Inbound, error(ROUTER, LOCAL, 3, quoted));
    let outbound = |quoted: &[u8]| (Outbound, error(LOCAL, PEER, 3, quoted));
    for (what, rules, (direction, packet), passes) in [
        ("an answer of a service", &[open_out, https_in][..], inbound(&sent(443, 40_000)), true),
        ("of another port", &[open_out, https_in], inbound(&sent(444, 40_000)), false),
        ("a request to it", &[open_out, https_in], outbound(&got(40_000, 443)), true),
        ("to another port", &[open_out, https_in], outbound(&got(40_000, 444)), false),
        ("an answer to the instance", &[open_in, https_out], outbound(&got(443, 40_000)), true),
        ("a request of the instance", &[open_in, https_out], inbound(&sent(40_000, 443)), true),
        ("to a port that is not open", &[open_in, https_out], inbound(&sent(40_000, 444)), false),
        ("of a service for one peer", &[open_out, from_peer], inbound(&sent(443, 40_000)), false),
        ("open one way alone", &[https_in], inbound(&sent(443, 40_000)), false),
        ("of no service", &[open_out], inbound(&sent(443, 40_000)), false),
    ] {
        let world = World::new(rules);
        let expected = if passes { "flow" } else { "icmp_error_without_flow" };
        assert_eq!(world.judge(direction, packet), expected, "{what}");
        assert!(world.heap.flows().is_empty(), "{what}");
    }
    let world = World::new(&[open_out, https_in][..]);
    let over_udp = ip(LOCAL, PEER, 17, &ports(443, 40_000));
    assert_eq!(world.judge(Inbound, error(ROUTER, LOCAL, 3, &over_udp)), "icmp_error_without_flow");
    let redirect = error(ROUTER, LOCAL, 5, &sent(443, 40_000));
    assert_eq!(world.judge(Inbound, redirect), "icmp_error_without_flow");
    let ping = ip(LOCAL, PEER, 1, &query(8, 0, 7));
    assert_eq!(world.judge(Inbound, error(ROUTER, LOCAL, 3, &ping)), "icmp_error_without_flow");
}
