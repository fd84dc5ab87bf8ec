//! Keys of packets and of what errors quote, told octet by octet of what they are made of.

extern crate std;

use super::*;
use crate::wire::QuoteBits;
use Direction::{Inbound, Outbound};

const LOCAL: Addr = Addr::v4(7);
const REMOTE: Addr = Addr::v4(5);
const ROUTER: Addr = Addr::v4(3);
const LOCAL_V6: Addr = Addr::v6(0x2001_0db8 << 32, 7);
const REMOTE_V6: Addr = Addr::v6(0x2001_0db8 << 32, 5);
const ZONE: u32 = 0x00ab_cdef;

fn packet(direction: Direction, local: Addr, remote: Addr, transport: Transport) -> Packet {
    let (source, destination) = match direction {
        Inbound => (remote, local),
        Outbound => (local, remote),
    };
    Packet { source, destination, transport, ..Packet::default() }
}

const fn ports(protocol: u8, source_port: u16, destination_port: u16) -> Transport {
    Transport { source_port, destination_port, icmp: 0, icmp_id: 0, headers: 0, protocol }
}

const fn message(protocol: u8, kind: u8, code: u8, icmp_id: u16) -> Transport {
    Transport { icmp: (kind as u16) << 8 | code as u16, icmp_id, ..ports(protocol, 0, 0) }
}

/// A quotation as `QuoteBits` documents it.
fn quote(protocol: u8, source: u16, destination: u16) -> QuoteBits {
    QuoteBits(1 << 40 | u64::from(protocol) << 32 | u64::from(source) << 16 | u64::from(destination))
}

/// Protocol, local port, remote port of a key, once its zone and addresses are right.
fn numbers(key: FlowKey, local: Addr, remote: Addr) -> (u8, u16, u16) {
    assert_eq!((key.zone(), key.local(), key.remote()), (ZONE, local, remote));
    (key.protocol().0, key.local_port(), key.remote_port())
}

#[test]
fn ways_survive_their_bits() {
    for zone in [0, 1, 0x00ff_ffff] {
        for direction in Direction::ALL {
            let way = Way { zone, direction };
            assert_eq!(Way::from_bits(way.to_bits()), way);
        }
    }
    assert_eq!(Way { zone: 0x0100_0003, direction: Inbound }.to_bits(), 3, "a zone is below 2^24");
    assert_eq!(Way { zone: 3, direction: Outbound }.to_bits(), 0x0100_0003);
    assert_eq!(Way::from_bits(0xfe00_0003), Way { zone: 3, direction: Inbound }, "and so it is read");
}

#[test]
fn icmp_messages_ask_answer_or_tell() {
    for kind in 0..=u8::MAX {
        let v4 = match kind {
            8 | 13 | 15 | 17 => IcmpKind::Query,
            0 | 14 | 16 | 18 => IcmpKind::Reply,
            3 | 4 | 11 | 12 => IcmpKind::Error,
            5 => IcmpKind::Redirect,
            _ => IcmpKind::Other,
        };
        let v6 = match kind {
            128 => IcmpKind::Query,
            129 => IcmpKind::Reply,
            1..=4 => IcmpKind::Error,
            137 => IcmpKind::Redirect,
            _ => IcmpKind::Other,
        };
        for (family, expected) in [(Family::V4, v4), (Family::V6, v6)] {
            let message = u16::from(kind) << 8;
            assert_eq!(IcmpKind::of(family, message), expected, "{family} type {kind}");
            let is_tracked = matches!(expected, IcmpKind::Query | IcmpKind::Reply);
            assert_eq!(expected.is_tracked(), is_tracked);
            // Queries and replies have no codes; of errors all belong.
            let with_code = if is_tracked { IcmpKind::Other } else { expected };
            for code in [1, 128, 255] {
                assert_eq!(IcmpKind::of(family, message | code), with_code, "{family} {kind}/{code}");
            }
        }
    }
}

#[test]
fn both_directions_of_an_exchange_have_one_key() {
    for (local, remote) in [(LOCAL, REMOTE), (LOCAL_V6, REMOTE_V6)] {
        for (direction, source, destination) in [(Inbound, 40_000, 443), (Outbound, 443, 40_000)] {
            let way = Way { zone: ZONE, direction };
            for protocol in [6, 17] {
                let key = way.key(&packet(direction, local, remote, ports(protocol, source, destination)));
                assert_eq!(numbers(key, local, remote), (protocol, 443, 40_000));
            }
            let key = way.key(&packet(direction, local, remote, ports(50, 0, 0)));
            assert_eq!(numbers(key, local, remote), (50, 0, 0));
        }
    }
}

#[test]
fn a_reply_has_the_key_of_its_query() {
    let v4 = [(8, 0), (13, 14), (15, 16), (17, 18)].map(|pair| (1, LOCAL, REMOTE, pair));
    let v6 = [(58, LOCAL_V6, REMOTE_V6, (128, 129))];
    for (protocol, local, remote, (query, reply)) in v4.into_iter().chain(v6) {
        for asking in Direction::ALL {
            let key = |direction, kind| {
                let message = message(protocol, kind, 0, 0x1234);
                numbers(
                    Way { zone: ZONE, direction }.key(&packet(direction, local, remote, message)),
                    local,
                    remote,
                )
            };
            let expected = (protocol, 0x1234, u16::from(query) << 8 | asking as u16);
            assert_eq!(key(asking, query), expected, "type {query} {asking}");
            assert_eq!(key(asking.reverse(), reply), expected, "type {reply}");
            assert_ne!(key(asking.reverse(), query), expected, "both may ask with one id");
            assert_ne!(key(asking, reply), expected);
        }
    }
}

#[test]
fn protocol_numbers_of_the_other_family_are_plain_protocols() {
    let way = Way { zone: ZONE, direction: Inbound };
    let key = way.key(&packet(Inbound, LOCAL, REMOTE, message(58, 128, 0, 7)));
    assert_eq!(numbers(key, LOCAL, REMOTE), (58, 0, 0));
    let key = way.key(&packet(Inbound, LOCAL_V6, REMOTE_V6, message(1, 8, 0, 7)));
    assert_eq!(numbers(key, LOCAL_V6, REMOTE_V6), (1, 0, 0));
}

#[test]
fn an_error_has_the_key_of_the_packet_that_it_quotes() {
    for (what, quote, expected) in [
        ("TCP", quote(6, 443, 40_000), (6, 443, 40_000)),
        ("UDP", quote(17, 443, 40_000), (17, 443, 40_000)),
        ("another protocol", quote(47, 0, 0), (47, 0, 0)),
        ("ICMPv6 in IPv4", quote(58, 0, 0), (58, 0, 0)),
        ("timestamp request", quote(1, 9, 13 << 8), (1, 9, 13 << 8 | 1)),
        ("ping", quote(1, 9, 8 << 8), (1, 9, 8 << 8 | 1)),
        ("its reply", quote(1, 9, 0), (1, 9, 8 << 8)),
    ] {
        // The instance has sent it, and hears of it from somewhere on the way.
        let transport = message(1, 3, 1, 0);
        let error = Packet { subject: REMOTE, quote, ..packet(Inbound, LOCAL, ROUTER, transport) };
        let key = Way { zone: ZONE, direction: Inbound }.key(&error);
        assert_eq!(numbers(key, LOCAL, REMOTE), expected, "{what}");
        assert!(quotes_a_flow(&error), "{what}");
        // The remote side has sent it, and the instance complains; ports and queries turn round.
        let error = Packet { subject: LOCAL, quote, ..packet(Outbound, LOCAL, REMOTE, transport) };
        let (protocol, local, remote) = expected;
        let expected = if protocol == 1 { (1, local, remote ^ 1) } else { (protocol, remote, local) };
        let key = Way { zone: ZONE, direction: Outbound }.key(&error);
        assert_eq!(numbers(key, LOCAL, REMOTE), expected, "{what}, outbound");
    }
}

#[test]
fn an_error_over_ipv6_has_the_key_of_the_packet_that_it_quotes() {
    for (what, quote, expected) in [
        ("TCP", quote(6, 443, 40_000), (6, 443, 40_000)),
        ("ping", quote(58, 9, 128 << 8), (58, 9, 128 << 8 | 1)),
        ("its reply", quote(58, 9, 129 << 8), (58, 9, 128 << 8)),
    ] {
        let transport = message(58, 3, 1, 0);
        let router = Addr::v6(1 << 60, 1);
        let error = Packet { subject: REMOTE_V6, quote, ..packet(Inbound, LOCAL_V6, router, transport) };
        let key = Way { zone: ZONE, direction: Inbound }.key(&error);
        assert_eq!(numbers(key, LOCAL_V6, REMOTE_V6), expected, "{what}");
        assert!(quotes_a_flow(&error), "{what}");
    }
}

#[test]
fn not_every_quotation_can_belong_to_a_flow() {
    for (what, source, quote, expected) in [
        ("none", ROUTER, QuoteBits::NONE, false),
        ("none, IPv6", REMOTE_V6, QuoteBits::NONE, false),
        ("TCP", ROUTER, quote(6, 1, 2), true),
        ("hop-by-hop's number", ROUTER, quote(0, 0, 0), true),
        ("a query", ROUTER, quote(1, 9, 8 << 8), true),
        ("an error", ROUTER, quote(1, 9, 3 << 8), false),
        ("a redirect", ROUTER, quote(1, 9, 5 << 8), false),
        ("a query with a code", ROUTER, quote(1, 9, 8 << 8 | 1), false),
        ("a query, IPv6", REMOTE_V6, quote(58, 9, 128 << 8), true),
        ("an error, IPv6", REMOTE_V6, quote(58, 9, 1 << 8), false),
        ("neighbour discovery", REMOTE_V6, quote(58, 0, 135 << 8), false),
    ] {
        let error = Packet { source, quote, ..Packet::default() };
        assert_eq!(quotes_a_flow(&error), expected, "{what}");
    }
}

#[test]
fn rules_are_asked_for_port_type_or_protocol() {
    for (what, local, remote, transport, expected) in [
        ("TCP", LOCAL, REMOTE, ports(6, 1, 443), (Table::Tcp, 443)),
        ("UDP", LOCAL_V6, REMOTE_V6, ports(17, 1, 53), (Table::Udp, 53)),
        ("ICMP", LOCAL, REMOTE, message(1, 3, 4, 9), (Table::Icmp, 3 << 8 | 4)),
        ("ICMPv6", LOCAL_V6, REMOTE_V6, message(58, 2, 0, 9), (Table::Icmp, 2 << 8)),
        ("ICMP in IPv6", LOCAL_V6, REMOTE_V6, message(1, 3, 4, 9), (Table::Other, 1)),
        ("ICMPv6 in IPv4", LOCAL, REMOTE, message(58, 3, 4, 9), (Table::Other, 58)),
        ("ESP", LOCAL, REMOTE, ports(50, 0, 0), (Table::Other, 50)),
    ] {
        let Selector { table, value } = selector(&packet(Inbound, local, remote, transport));
        assert_eq!((table, value), expected, "{what}");
    }
}
