//! Frames written octet by octet, and what the parser must make of them.

extern crate std;

mod addresses;
mod fragments;
mod lengths;
mod link;

use std::{vec, vec::Vec};

use super::*;

const REASONS: [(&str, DropReason); 3] = [
    ("malformed", DropReason::Malformed),
    ("martian", DropReason::Martian),
    ("extension_chain_too_long", DropReason::ExtensionChainTooLong),
];

fn read(frame: &[u8]) -> (Result<Payload, Unreadable>, Packet) {
    let mut packet = Packet::default();
    let cursor = Slice { frame, is_gso: false };
    (parse(&cursor, LinkLayer::Ethernet, 0, &mut packet), packet)
}

fn outcome(frame: &[u8]) -> &'static str {
    match read(frame).0 {
        Ok(Payload::IP) => "ip",
        Ok(Payload::ARP) => "arp",
        Ok(Payload::LATER_FRAGMENT) => "later fragment",
        Ok(_) => "foreign",
        Err(unreadable) => {
            let reason = unreadable.reason();
            REASONS.iter().find(|(_, known)| *known == reason).map_or("another", |(name, _)| name)
        }
    }
}

/// An Ethernet header with the EtherTypes of some VLAN tags before the last one.
fn ethernet(types: &[u16]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    for (index, ethertype) in types.iter().enumerate() {
        if index > 0 {
            frame.extend([0, 0]);
        }
        frame.extend(ethertype.to_be_bytes());
    }
    frame
}

fn tcp(destination_port: u16) -> Vec<u8> {
    let mut header = vec![0x9c, 0x40];
    header.extend(destination_port.to_be_bytes());
    header.extend([0, 0, 0, 7, 0, 0, 0, 9, 0x50, tcp_flag::SYN, 0xff, 0xff, 0, 0, 0, 0]);
    header
}

fn udp(length: u16) -> Vec<u8> {
    let mut header = vec![0x9c, 0x40, 0, 53];
    header.extend(length.to_be_bytes());
    header.extend([0, 0]);
    header
}

/// An IPv4 packet from 192.0.2.1 to 192.0.2.2.
struct V4<'a> {
    protocol: u8,
    options: &'a [u8],
    fragment: u16,
    source: [u8; 4],
    destination: [u8; 4],
    payload: Vec<u8>,
}

impl V4<'_> {
    fn new(protocol: u8, payload: Vec<u8>) -> Self {
        Self {
            protocol,
            options: &[],
            fragment: 0,
            source: [192, 0, 2, 1],
            destination: [192, 0, 2, 2],
            payload,
        }
    }

    fn frame(&self) -> Vec<u8> {
        let header = 20 + self.options.len();
        let mut frame = ethernet(&[0x0800]);
        frame.extend([0x40 | (header / 4) as u8, 0]);
        frame.extend(((header + self.payload.len()) as u16).to_be_bytes());
        frame.extend([0x12, 0x34]);
        frame.extend(self.fragment.to_be_bytes());
        frame.extend([64, self.protocol, 0, 0]);
        frame.extend(self.source);
        frame.extend(self.destination);
        frame.extend(self.options);
        frame.extend(&self.payload);
        frame
    }
}

/// An IPv6 packet from 2001:db8::1 to 2001:db8::2.
fn v6(next: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = ethernet(&[0x86dd]);
    frame.extend([0x60, 0, 0, 0]);
    frame.extend((payload.len() as u16).to_be_bytes());
    frame.extend([next, 255]);
    for last in [1, 2] {
        frame.extend([0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
    }
    frame.extend(payload);
    frame
}

/// `count` extension headers of kind `kind` and eight octets, then `last` before `payload`.
fn chain(kind: u8, count: usize, last: u8, payload: &[u8]) -> Vec<u8> {
    let mut octets = Vec::new();
    for number in 0..count {
        octets.extend([if number + 1 == count { last } else { kind }, 0, 0, 0, 0, 0, 0, 0]);
    }
    octets.extend(payload);
    octets
}

#[test]
fn a_tcp_packet_gives_all_its_fields() {
    let mut payload = tcp(443);
    payload.extend([1, 2, 3]);
    let (read, packet) = read(&V4::new(6, payload).frame());
    assert_eq!(read, Ok(Payload::IP));
    assert_eq!((packet.source, packet.destination), (Addr::v4(0xc000_0201), Addr::v4(0xc000_0202)));
    assert_eq!((packet.transport.source_port, packet.transport.destination_port), (40_000, 443));
    assert_eq!((packet.sequence, packet.acknowledgement, packet.payload), (7, 9, 3));
    assert_eq!((packet.tcp_flags, packet.hop_limit, packet.is_wrapped), (tcp_flag::SYN, 64, false));
}

#[test]
fn an_icmpv6_packet_gives_type_code_and_identifier() {
    let (read, packet) = read(&v6(58, &[128, 0, 0, 0, 0x12, 0x34, 0, 1]));
    assert_eq!(read, Ok(Payload::IP));
    assert_eq!((packet.transport.icmp, packet.transport.icmp_id), (128 << 8, 0x1234));
    assert_eq!(packet.source, Addr::v6(0x2001_0db8 << 32, 1));
}

#[test]
fn link_headers_are_read_or_foreign() {
    let inside = V4::new(6, tcp(22)).frame().split_off(14);
    for (what, types, expected) in [
        ("untagged", &[0x0800][..], "ip"),
        ("one tag", &[0x8100, 0x0800], "ip"),
        ("two tags, mixed", &[0x88a8, 0x8100, 0x0800], "ip"),
        ("three tags", &[0x8100, 0x8100, 0x8100, 0x0800], "foreign"),
        ("ten tags", &[0x8100; 10], "foreign"),
        ("MPLS", &[0x8847], "foreign"),
        ("PPPoE", &[0x8864], "foreign"),
        ("MACsec", &[0x88e5], "foreign"),
        ("802.3 with a length", &[0x0040], "foreign"),
        ("ARP", &[0x0806], "arp"),
        ("IPv4 called IPv6", &[0x86dd], "malformed"),
    ] {
        let mut frame = ethernet(types);
        frame.extend(&inside);
        assert_eq!(outcome(&frame), expected, "{what}");
    }
    let mut frame = ethernet(&[0x0800]);
    frame.extend(v6(6, &tcp(22)).split_off(14));
    assert_eq!(outcome(&frame), "malformed", "IPv6 called IPv4");
}

#[test]
fn tags_taken_out_of_the_frame_count() {
    for (out, types, expected) in
        [(1, &[0x8100, 0x0800][..], Ok(Payload::IP)), (1, &[0x8100, 0x8100, 0x0800], Ok(Payload::NONE))]
    {
        let mut frame = ethernet(types);
        frame.extend(V4::new(6, tcp(22)).frame().split_off(14));
        let cursor = Slice { frame: &frame, is_gso: false };
        assert_eq!(parse(&cursor, LinkLayer::Ethernet, out, &mut Packet::default()), expected);
    }
}

#[test]
fn every_truncation_of_a_packet_is_malformed() {
    for frame in [
        V4::new(6, tcp(443)).frame(),
        V4::new(17, udp(8)).frame(),
        V4::new(1, vec![8, 0, 0, 0, 0, 1, 0, 1]).frame(),
        v6(6, &tcp(443)),
        v6(60, &chain(60, 3, 17, &udp(8))),
    ] {
        assert_eq!(outcome(&frame), "ip");
        for length in 0..frame.len() {
            assert_eq!(outcome(&frame[..length]), "malformed", "{length} of {frame:?}");
        }
    }
}

#[test]
fn transport_headers_end_where_the_ip_length_says() {
    let mut frame = V4::new(6, vec![]).frame();
    frame.extend(tcp(443));
    assert_eq!(outcome(&frame), "malformed", "a TCP header in the Ethernet padding");
    let mut padded = V4::new(17, udp(8)).frame();
    padded.extend([0; 18]);
    assert_eq!(outcome(&padded), "ip", "padding behind a whole packet");
}

#[test]
fn ipv4_headers_that_lie() {
    let good = V4::new(6, tcp(443)).frame();
    for (what, at, octet) in [
        ("header length 4", 14, 0x44),
        ("header length past the packet", 14, 0x4f),
        ("version 6", 14, 0x65),
        ("total length below the header", 17, 19),
        ("total length past the frame", 17, 200),
        ("TCP data offset 4", 46, 0x40),
        ("TCP data offset past the packet", 46, 0x60),
    ] {
        let mut frame = good.clone();
        frame[at] = octet;
        assert_eq!(outcome(&frame), "malformed", "{what}");
    }
}

#[test]
fn options_shift_the_ports_and_may_not_route() {
    let route = [131, 7, 4, 10, 0, 0, 1, 0];
    for (what, options, expected) in [
        ("no-ops that look like ports", &[1, 1, 1, 0xbb, 4, 0, 0, 0][..], "ip"),
        ("no-ops", &[1, 1, 1, 1], "ip"),
        ("router alert", &[148, 4, 0, 0], "ip"),
        ("end of list, then anything", &[0, 131, 3, 4], "ip"),
        ("loose source route", &route, "malformed"),
        ("strict source route behind a no-op", &[1, 137, 3, 4], "malformed"),
        ("length 1", &[148, 1, 0, 0], "malformed"),
        ("length past the header", &[148, 5, 0, 0], "malformed"),
        ("kind without a length", &[1, 1, 1, 148], "malformed"),
    ] {
        let frame = V4 { options, ..V4::new(6, tcp(22)) }.frame();
        assert_eq!(outcome(&frame), expected, "{what}");
        if expected == "ip" {
            assert_eq!(read(&frame).1.transport.destination_port, 22, "{what}");
        }
    }
}

#[test]
fn the_first_fragment_is_read_and_later_ones_are_not() {
    for (what, fragment, payload, expected) in [
        ("whole", 0x0000, tcp(443), "ip"),
        ("do not fragment", 0x4000, tcp(443), "ip"),
        ("first of several", 0x2000, tcp(443), "ip"),
        ("first of several, eight octets of TCP", 0x2000, vec![0; 8], "malformed"),
        ("offset 1", 0x0001, tcp(443), "malformed"),
        ("offset 2", 0x2002, tcp(443), "malformed"),
        ("offset 3", 0x2003, tcp(443), "later fragment"),
        ("last of several", 0x00b9, vec![0; 8], "later fragment"),
        ("as far as a datagram reaches", 0x1ffe, vec![0; 15], "later fragment"),
        ("further than a datagram reaches", 0x1ffe, vec![0; 16], "malformed"),
    ] {
        let frame = V4 { fragment, ..V4::new(6, payload) }.frame();
        assert_eq!(outcome(&frame), expected, "{what}");
    }
    let frame = V4 { fragment: 0x2000, ..V4::new(17, udp(3000)) }.frame();
    assert_eq!(outcome(&frame), "ip", "a datagram longer than its first fragment");
    assert_eq!(outcome(&V4::new(17, udp(3000)).frame()), "malformed", "but not one that is whole");
    assert_eq!(outcome(&V4::new(17, udp(7)).frame()), "malformed", "UDP length 7");
}

#[test]
fn extension_headers_are_followed_so_far() {
    let fragment = |place: u16| {
        let mut header = vec![6, 0];
        header.extend(place.to_be_bytes());
        header.extend([0, 0, 0, 9]);
        header
    };
    let with = |mut header: Vec<u8>, payload: &[u8]| {
        header.extend(payload);
        header
    };
    for (what, next, payload, expected) in [
        ("none", 6, tcp(22), "ip"),
        ("one", 60, chain(60, 1, 6, &tcp(22)), "ip"),
        ("eight", 60, chain(60, 8, 6, &tcp(22)), "ip"),
        ("nine", 60, chain(60, 9, 6, &tcp(22)), "extension_chain_too_long"),
        ("sixty-four", 60, chain(60, 64, 6, &tcp(22)), "extension_chain_too_long"),
        ("hop-by-hop first", 0, chain(0, 1, 6, &tcp(22)), "ip"),
        ("hop-by-hop second", 60, chain(60, 1, 0, &chain(0, 1, 6, &tcp(22))), "malformed"),
        ("routing type 0", 43, with(vec![6, 0, 0, 0, 0, 0, 0, 0], &tcp(22)), "martian"),
        ("routing type 2, segments left", 43, with(vec![6, 0, 2, 1, 0, 0, 0, 0], &tcp(22)), "martian"),
        ("routing type 2, done", 43, with(vec![6, 0, 2, 0, 0, 0, 0, 0], &tcp(22)), "ip"),
        (
            "authentication, in units of four",
            51,
            with(vec![6, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], &tcp(22)),
            "ip",
        ),
        ("atomic fragment", 44, with(fragment(0), &tcp(22)), "ip"),
        ("first fragment", 44, with(fragment(1), &tcp(22)), "ip"),
        ("TCP, offset 1", 44, with(fragment(8), &tcp(22)), "malformed"),
        ("later fragment", 44, with(fragment(24), &tcp(22)), "later fragment"),
        (
            "two fragment headers",
            44,
            with(vec![44, 0, 0, 0, 0, 0, 0, 9], &with(fragment(0), &tcp(22))),
            "malformed",
        ),
        ("first fragment that ends in the chain", 44, vec![60, 0, 0, 1, 0, 0, 0, 9], "malformed"),
        ("length past the packet", 60, with(vec![6, 9, 0, 0, 0, 0, 0, 0], &tcp(22)), "malformed"),
        ("ESP is a protocol of its own", 50, vec![0; 8], "ip"),
    ] {
        let frame = v6(next, &payload);
        assert_eq!(outcome(&frame), expected, "{what}");
        let packet = read(&frame).1;
        if expected == "ip" && next != 50 {
            assert_eq!((packet.transport.protocol, packet.transport.destination_port), (6, 22), "{what}");
            assert_eq!(packet.is_wrapped, next != 6, "{what}");
        }
    }
}

#[test]
fn addresses_that_no_host_uses_are_martian() {
    for (source, destination, expected) in [
        ([192, 0, 2, 1], [192, 0, 2, 2], "ip"),
        ([192, 0, 2, 1], [255, 255, 255, 255], "ip"),
        ([192, 0, 2, 1], [224, 0, 0, 1], "ip"),
        ([127, 0, 0, 1], [192, 0, 2, 2], "martian"),
        ([224, 0, 0, 1], [192, 0, 2, 2], "martian"),
        ([255, 255, 255, 255], [192, 0, 2, 2], "martian"),
        ([0, 0, 0, 0], [192, 0, 2, 2], "martian"),
        ([192, 0, 2, 1], [127, 0, 0, 1], "martian"),
        ([192, 0, 2, 1], [0, 0, 0, 0], "martian"),
    ] {
        let frame = V4 { source, destination, ..V4::new(6, tcp(443)) }.frame();
        assert_eq!(outcome(&frame), expected, "{source:?} to {destination:?}");
    }
    let mut discover = udp(8);
    discover[..4].copy_from_slice(&[0, 68, 0, 67]);
    let frame = V4 { source: [0; 4], destination: [255; 4], ..V4::new(17, discover) }.frame();
    assert_eq!(outcome(&frame), "ip", "a DHCP client has no address yet");

    let mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1];
    let loopback = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    let multicast = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    let unspecified = [0; 16];
    for (what, at, address, expected) in [
        ("mapped source", 22, mapped, "martian"),
        ("loopback source", 22, loopback, "martian"),
        ("multicast source", 22, multicast, "martian"),
        ("unspecified source", 22, unspecified, "martian"),
        ("mapped destination", 38, mapped, "martian"),
        ("loopback destination", 38, loopback, "martian"),
        ("unspecified destination", 38, unspecified, "martian"),
        ("multicast destination", 38, multicast, "ip"),
    ] {
        let mut frame = v6(6, &tcp(443));
        frame[at..at + 16].copy_from_slice(&address);
        assert_eq!(outcome(&frame), expected, "{what}");
    }
    let mut frame = v6(58, &[135, 0, 0, 0, 0, 0, 0, 0]);
    frame[22..38].copy_from_slice(&unspecified);
    assert_eq!(outcome(&frame), "ip", "address detection has no address yet");
}

#[test]
fn a_reading_survives_its_bits() {
    let readings = [Ok(Payload::IP), Ok(Payload::ARP), Ok(Payload::NONE), Ok(Payload(0x88cc))];
    let reasons = DropReason::ALL.map(|reason| Err(Unreadable::drop(reason)));
    for reading in readings.into_iter().chain(reasons).chain([Err(Unreadable::SHORT)]) {
        assert_eq!(ReadingBits::pack(reading).unpack(), reading);
    }
}

proptest::proptest! {
    #[test]
    fn no_frame_makes_the_parser_panic(frame: Vec<u8>, is_gso: bool, tags in 0_u32..4, kind in 0_u8..3) {
        let mut frame = frame;
        if frame.len() >= 14 {
            let ethertype: [u8; 2] = [[0x08, 0x00], [0x86, 0xdd], [0x81, 0x00]][usize::from(kind)];
            frame[12..14].copy_from_slice(&ethertype);
        }
        let _ = parse(&Slice { frame: &frame, is_gso }, LinkLayer::Ethernet, tags, &mut Packet::default());
    }
}
