//! Addresses that nobody uses, and who may have none yet.

use super::*;

fn from_nowhere(protocol: u8, payload: Vec<u8>) -> &'static str {
    outcome(&V4 { source: [0; 4], destination: [255; 4], ..V4::new(protocol, payload) }.frame())
}

fn from_nowhere_v6(next: u8, payload: &[u8]) -> &'static str {
    let mut frame = v6(next, payload);
    frame[22..38].fill(0);
    outcome(&frame)
}

#[test]
fn without_an_address_only_dhcp_clients_speak() {
    let ports = |mut header: Vec<u8>, source: u8, destination: u8| {
        header[..4].copy_from_slice(&[0, source, 0, destination]);
        header
    };
    for (what, protocol, payload, expected) in [
        ("client to server", 17, ports(udp(8), 68, 67), "ip"),
        ("server to client", 17, ports(udp(8), 67, 68), "martian"),
        ("to another port", 17, ports(udp(8), 68, 53), "martian"),
        ("from another port", 17, ports(udp(8), 53, 67), "martian"),
        ("TCP", 6, ports(tcp(0), 68, 67), "martian"),
        ("ICMP", 1, vec![8, 0, 0, 0, 0, 0, 0, 0], "martian"),
        ("IGMP", 2, vec![0; 8], "martian"),
    ] {
        assert_eq!(from_nowhere(protocol, payload), expected, "{what}");
    }
    assert_eq!(from_nowhere_v6(17, &ports(udp(8), 68, 67)), "martian", "DHCPv6 has link-local addresses");
    assert_eq!(from_nowhere_v6(6, &tcp(443)), "martian");
}

#[test]
fn without_an_address_ipv6_looks_for_neighbours_routers_and_listeners() {
    for kind in 0..=u8::MAX {
        let payload = [&[kind, 0, 0, 0, 0, 0, 0, 0][..], &[1; 16]].concat();
        let expected = if [130, 131, 132, 133, 135, 143].contains(&kind) { "ip" } else { "martian" };
        assert_eq!(from_nowhere_v6(58, &payload), expected, "type {kind}");
    }
}

#[test]
fn addresses_near_those_that_nobody_uses_are_fine() {
    for (source, destination, expected) in [
        ([126, 255, 255, 255], [192, 0, 2, 2], "ip"),
        ([127, 255, 255, 255], [192, 0, 2, 2], "martian"),
        ([128, 0, 0, 0], [192, 0, 2, 2], "ip"),
        ([223, 255, 255, 255], [192, 0, 2, 2], "ip"),
        ([239, 255, 255, 255], [192, 0, 2, 2], "martian"),
        ([240, 0, 0, 0], [192, 0, 2, 2], "ip"),
        ([255, 255, 255, 254], [192, 0, 2, 2], "ip"),
        ([0, 0, 0, 1], [192, 0, 2, 2], "ip"),
        ([192, 0, 2, 1], [126, 0, 0, 1], "ip"),
        ([192, 0, 2, 1], [127, 9, 9, 9], "martian"),
        ([192, 0, 2, 1], [0, 0, 0, 1], "ip"),
    ] {
        let frame = V4 { source, destination, ..V4::new(6, tcp(443)) }.frame();
        assert_eq!(outcome(&frame), expected, "{source:?} to {destination:?}");
    }
    for (what, hi, lo, as_source, as_destination) in [
        ("::", 0, 0, "martian", "martian"),
        ("::1", 0, 1, "martian", "martian"),
        ("::2", 0, 2, "ip", "ip"),
        ("2001:db8::", 0x2001_0db8_u64 << 32, 0, "ip", "ip"),
        ("2001:db8::1", 0x2001_0db8 << 32, 1, "ip", "ip"),
        ("0:0:0:1::1", 1, 1, "ip", "ip"),
        ("ff02::1", 0xff02 << 48, 1, "martian", "ip"),
        ("ff00::", 0xff00 << 48, 0, "martian", "ip"),
        ("feff::", 0xfeff << 48, 0, "ip", "ip"),
        ("::ffff:0.0.0.0", 0, 0xffff_0000_0000, "martian", "martian"),
        ("::fffe:ffff:ffff", 0, 0xfffe_ffff_ffff, "ip", "ip"),
        ("1::ffff:1.2.3.4", 1 << 48, 0xffff_0102_0304_u64, "ip", "ip"),
    ] {
        for (at, expected) in [(22, as_source), (38, as_destination)] {
            let mut frame = v6(6, &tcp(443));
            frame[at..at + 8].copy_from_slice(&hi.to_be_bytes());
            frame[at + 8..at + 16].copy_from_slice(&u64::to_be_bytes(lo));
            assert_eq!(outcome(&frame), expected, "{what} at {at}");
        }
    }
}

#[test]
fn neighbour_discovery_names_its_target() {
    let target = [0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9];
    let named = Addr::v6(0x2001_0db8_0000_0001, 9);
    let message = |kind: u8, length: usize| [&[kind, 0, 0, 0, 0, 0, 0, 0][..], &target[..length]].concat();
    let subject = |frame: &[u8]| {
        let mut packet = Packet { subject: Addr::v4(77), ..Packet::default() };
        let cursor = Slice { frame, is_gso: false };
        assert_eq!(parse(&cursor, LinkLayer::Ethernet, 0, &mut packet), Ok(Payload::IP));
        packet.subject
    };
    for kind in 128..=u8::MAX {
        let expected = if matches!(kind, 135 | 136) { named } else { Addr::v4(77) };
        assert_eq!(subject(&v6(58, &message(kind, 16))), expected, "type {kind}");
        assert_eq!(subject(&V4::new(1, message(kind, 16)).frame()), Addr::v4(77), "type {kind} of ICMP");
    }
    for length in 0..16 {
        let mut frame = v6(58, &message(135, length));
        frame.extend(&target);
        assert_eq!(subject(&frame), Addr::UNSPECIFIED_V6, "{length} octets and padding");
    }
}
