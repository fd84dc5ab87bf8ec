//! Quotations written octet by octet, whole and cut short.

extern crate std;

use std::{vec, vec::Vec};

use super::*;
use crate::wire::{LinkLayer, Payload, Slice};

const HOST: u32 = 0xc000_0201;
const TARGET: u32 = 0xc633_6402;
const ROUTER: u32 = 0x6440_0001;

fn v4(source: u32, destination: u32, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let length = (20 + payload.len() as u16).to_be_bytes();
    let mut packet = vec![0x45, 0, length[0], length[1], 0, 0, 0, 0, 64, protocol, 0, 0];
    packet.extend(source.to_be_bytes());
    packet.extend(destination.to_be_bytes());
    packet.extend(payload);
    packet
}

fn v6(source: u8, destination: u8, next: u8, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u16).to_be_bytes();
    let mut packet = vec![0x60, 0, 0, 0, length[0], length[1], next, 64];
    for last in [source, destination] {
        packet.extend([0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
    }
    packet.extend(payload);
    packet
}

fn read(ethertype: u16, frame: &[u8]) -> Packet {
    let mut packet = Packet { quote: QuoteBits(u64::MAX), ..Packet::default() };
    let cursor = Slice { frame, is_gso: false };
    let link = LinkLayer::BareIp { ethertype };
    assert_eq!(crate::wire::parse(&cursor, link, 0, &mut packet), Ok(Payload::IP));
    assert!(!packet.quote.is_unread());
    packet
}

/// An ICMP error from a router to the host, and what it quotes.
fn error_v4(quoted: &[u8]) -> Packet {
    let message = [&[3, 4, 0, 0, 0, 0, 5, 0][..], quoted].concat();
    read(0x0800, &v4(ROUTER, HOST, 1, &message))
}

fn error_v6(quoted: &[u8]) -> Packet {
    let message = [&[2, 0, 0, 0, 0, 0, 5, 0][..], quoted].concat();
    read(0x86dd, &v6(9, 1, 58, &message))
}

/// Protocol, source, destination: what a quotation is known by.
fn told(quote: QuoteBits) -> Option<(u8, u16, u16)> {
    quote.is_some().then(|| (quote.protocol().0, quote.source(), quote.destination()))
}

const PORTS: [u8; 8] = [0x9c, 0x40, 0x01, 0xbb, 1, 2, 3, 4];
const PING: [u8; 8] = [8, 0, 0xaa, 0xbb, 0x12, 0x34, 0, 1];

#[test]
fn bits_are_where_the_layout_says() {
    let quote = QuoteBits::new(Protocol(0xfe), 0x1234, 0xabcd);
    assert_eq!(quote.0, 0x01fe_1234_abcd);
    assert_eq!(told(quote), Some((0xfe, 0x1234, 0xabcd)));
    assert_eq!(told(QuoteBits::new(Protocol(0), 0, 0)), Some((0, 0, 0)), "there is such a packet");
    assert_eq!(told(QuoteBits::NONE), None);
    assert!(!quote.is_unread() && !QuoteBits::NONE.is_unread());
    let unread = QuoteBits::unread(0x1_2345_6789);
    assert!(unread.is_unread());
    assert_eq!(unread.0, 0x0200_2345_6789);
}

#[test]
fn a_quoted_packet_is_known_by_what_names_its_flow() {
    for (what, protocol, octets, expected) in [
        ("TCP", 6, PORTS, (6, 40_000, 443)),
        ("UDP", 17, PORTS, (17, 40_000, 443)),
        ("ping", 1, PING, (1, 0x1234, 8 << 8)),
        ("an error", 1, [3, 1, 0, 0, 0, 0, 0, 0], (1, 0, 0x0301)),
        ("GRE", 47, PORTS, (47, 0, 0)),
        ("ICMPv6's number", 58, PING, (58, 0, 0)),
    ] {
        let packet = error_v4(&v4(HOST, TARGET, protocol, &octets));
        assert_eq!(told(packet.quote), Some(expected), "{what}");
        assert_eq!(packet.subject, Addr::v4(TARGET), "{what}");
    }
    for (what, next, octets, expected) in [
        ("TCP", 6, PORTS, (6, 40_000, 443)),
        ("UDP", 17, PORTS, (17, 40_000, 443)),
        ("ping", 58, [128, 0, 0, 0, 0x12, 0x34, 0, 1], (58, 0x1234, 128 << 8)),
        ("ESP", 50, PORTS, (50, 0, 0)),
        ("ICMP's number", 1, PING, (1, 0, 0)),
    ] {
        let packet = error_v6(&v6(1, 2, next, &octets));
        assert_eq!(told(packet.quote), Some(expected), "{what}");
        assert_eq!(packet.subject, Addr::v6(0x2001_0db8 << 32, 2), "{what}");
    }
}

#[test]
fn only_what_the_receiver_has_sent_is_quoted() {
    let from_another = v4(HOST + 1, TARGET, 6, &PORTS);
    assert_eq!(told(error_v4(&from_another).quote), None);
    assert_eq!(error_v4(&from_another).subject, Addr::default(), "and its target is nobody's business");
    assert_eq!(told(error_v6(&v6(3, 2, 6, &PORTS)).quote), None);
}

#[test]
fn eight_octets_of_the_transport_must_be_there() {
    let quoted = v4(HOST, TARGET, 6, &PORTS);
    for length in 0..quoted.len() {
        assert_eq!(told(error_v4(&quoted[..length]).quote), None, "{length} octets");
    }
    let quoted = v6(1, 2, 6, &PORTS);
    for length in 0..quoted.len() {
        assert_eq!(told(error_v6(&quoted[..length]).quote), None, "{length} octets of IPv6");
    }
    let mut with_options = v4(HOST, TARGET, 6, &[&[1, 1, 1, 1][..], &PORTS].concat());
    with_options[0] = 0x46;
    assert_eq!(told(error_v4(&with_options).quote), Some((6, 40_000, 443)), "options come before");
    assert_eq!(told(error_v4(&with_options[..31]).quote), None);
    let destination_options = [&[6, 0, 0, 0, 0, 0, 0, 0][..], &PORTS].concat();
    let extended = v6(1, 2, 60, &destination_options);
    assert_eq!(told(error_v6(&extended).quote), Some((6, 40_000, 443)), "and so do extension headers");
    assert_eq!(told(error_v6(&extended[..55]).quote), None);
    assert_eq!(told(error_v6(&extended[..48]).quote), None);
}

#[test]
fn what_is_behind_the_end_of_the_error_is_not_quoted() {
    let message = [&[3, 4, 0, 0, 0, 0, 5, 0][..], &v4(HOST, TARGET, 6, &PORTS)].concat();
    let mut frame = v4(ROUTER, HOST, 1, &message[..message.len() - 1]);
    frame.extend(&message[message.len() - 1..]);
    assert_eq!(told(read(0x0800, &frame).quote), None, "the last octet is padding");
    let message =
        [&[2, 0, 0, 0, 0, 0, 5, 0][..], &v6(1, 2, 60, &[&[6, 0, 0, 0, 0, 0, 0, 0][..], &PORTS].concat())]
            .concat();
    let mut frame = v6(9, 1, 58, &message[..message.len() - 1]);
    frame.extend(&message[message.len() - 1..]);
    assert_eq!(told(read(0x86dd, &frame).quote), None, "of IPv6 too");
}

#[test]
fn later_fragments_and_headers_that_lie_quote_nothing() {
    let changed = |at: usize, octet: u8| {
        let mut quoted = v4(HOST, TARGET, 6, &PORTS);
        quoted[at] = octet;
        told(error_v4(&quoted).quote)
    };
    for (what, at, octet, is_quoted) in [
        ("do not fragment", 6, 0x40, true),
        ("first of several", 6, 0x20, true),
        ("a later one", 7, 1, false),
        ("a later one, far", 6, 0x10, false),
        ("IPv6's version", 0, 0x65, false),
        ("a header too short", 0, 0x44, false),
        ("a header longer than what is there", 0, 0x46, false),
    ] {
        assert_eq!(changed(at, octet).is_some(), is_quoted, "{what}");
    }
    let fragment = |place: u8| {
        let header = [6, 0, 0, place, 0, 0, 0, 9];
        told(error_v6(&v6(1, 2, 44, &[&header[..], &PORTS].concat())).quote)
    };
    assert_eq!(fragment(1), Some((6, 40_000, 443)), "first of several");
    assert_eq!(fragment(0), Some((6, 40_000, 443)), "the only one");
    assert_eq!(fragment(8), None, "a later one");
    let mut another_version = v6(1, 2, 6, &PORTS);
    another_version[0] = 0x40;
    assert_eq!(told(error_v6(&another_version).quote), None);
    let nine = (0..9).flat_map(|number| [if number == 8 { 6 } else { 60 }, 0, 0, 0, 0, 0, 0, 0]);
    let nine: Vec<u8> = nine.chain(PORTS).collect();
    assert_eq!(told(error_v6(&v6(1, 2, 60, &nine)).quote), None, "too many extension headers");
}

#[test]
fn only_errors_quote() {
    let message = |kind: u8, quoted: &[u8]| [&[kind, 0, 0, 0, 0, 0, 0, 0][..], quoted].concat();
    for kind in 0..=u8::MAX {
        let packet = read(0x0800, &v4(ROUTER, HOST, 1, &message(kind, &v4(HOST, TARGET, 6, &PORTS))));
        assert_eq!(packet.quote.is_some(), [3, 4, 11, 12].contains(&kind), "type {kind}");
        let packet = read(0x86dd, &v6(9, 1, 58, &message(kind, &v6(1, 2, 6, &PORTS))));
        assert_eq!(packet.quote.is_some(), (1..=4).contains(&kind), "type {kind} of ICMPv6");
    }
}

/// A frame of which only the first octets are at hand.
struct FirstBuffer<'a>(Slice<'a>, usize);

impl<'a> Cursor for FirstBuffer<'a> {
    type Bytes = &'a [u8];

    fn look(&self, offset: usize, length: usize) -> Option<&'a [u8]> {
        if offset + length > self.1 { None } else { self.0.look(offset, length) }
    }

    fn has(&self, length: usize) -> bool {
        self.0.has(length)
    }

    fn length(&self) -> usize {
        self.0.length()
    }

    fn is_gso(&self) -> bool {
        false
    }
}

#[test]
fn a_quotation_that_is_not_at_hand_is_asked_for() {
    for (ethertype, frame) in [
        (
            0x0800,
            v4(ROUTER, HOST, 1, &[&[3, 4, 0, 0, 0, 0, 5, 0][..], &v4(HOST, TARGET, 6, &PORTS)].concat()),
        ),
        (0x86dd, v6(9, 1, 58, &[&[2, 0, 0, 0, 0, 0, 5, 0][..], &v6(1, 2, 6, &PORTS)].concat())),
    ] {
        for at_hand in 0..=frame.len() {
            let cursor = FirstBuffer(Slice { frame: &frame, is_gso: false }, at_hand);
            let mut packet = Packet::default();
            let reading = crate::wire::parse(&cursor, LinkLayer::BareIp { ethertype }, 0, &mut packet);
            let expected = if at_hand < frame.len() { Err(Unreadable::SHORT) } else { Ok(Payload::IP) };
            assert_eq!(reading, expected, "{at_hand} of {} octets", frame.len());
        }
    }
}
