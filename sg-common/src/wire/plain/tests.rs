//! Whatever is read as a plain frame, the parser of all frames reads in the same way.

extern crate std;

use std::{vec, vec::Vec};

use proptest::prelude::*;

use crate::wire::{LinkLayer, Packet, Payload, Slice, parse_headers, parse_plain, tcp_flag};

/// What both make of a frame: `None` where it is not plain.
fn both(frame: &[u8]) -> (Option<Packet>, Result<Payload, crate::wire::Unreadable>, Packet) {
    let cursor = Slice { frame, is_gso: false };
    let mut packet = Packet::default();
    let reading = parse_headers(&cursor, LinkLayer::Ethernet, 0, &mut packet);
    (parse_plain(&cursor), reading, packet)
}

fn agree(frame: &[u8]) -> bool {
    let (plain, reading, packet) = both(frame);
    if let Some(plain) = plain {
        assert_eq!((reading, packet), (Ok(Payload::IP), plain), "{frame:02x?}");
    }
    plain.is_some()
}

/// A frame of either family with a transport header of either protocol, plain in all respects.
fn frame(is_v6: bool, is_tcp: bool) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    let transport = if is_tcp { 20 } else { 8 };
    let protocol = if is_tcp { 6 } else { 17 };
    let data = 4;
    if is_v6 {
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, transport + data, protocol, 64]);
        frame.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        frame.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
    } else {
        frame.extend([8, 0, 0x45, 0, 0, 20 + transport + data, 0x12, 0x34, 0x40, 0, 64, protocol, 0, 0]);
        frame.extend([192, 0, 2, 1, 192, 0, 2, 2]);
    }
    frame.extend([0x9c, 0x40, 0x01, 0xbb]);
    if is_tcp {
        frame.extend([0, 0, 0, 7, 0, 0, 0, 9, 0x50, tcp_flag::SYN, 0xff, 0xff, 0, 0, 0, 0]);
    } else {
        frame.extend([0, transport + data, 0, 0]);
    }
    frame.extend([1, 2, 3, 4]);
    frame
}

#[test]
fn most_frames_are_plain() {
    for is_v6 in [false, true] {
        for is_tcp in [false, true] {
            let mut frame = frame(is_v6, is_tcp);
            assert!(agree(&frame), "IPv6: {is_v6}, TCP: {is_tcp}");
            // Padding behind the packet is no part of it.
            frame.extend([0; 20]);
            assert!(agree(&frame));
        }
    }
}

#[test]
fn what_is_not_plain_is_left_to_the_other() {
    // (what, IPv6, TCP, where, which octet)
    for (what, is_v6, is_tcp, at, octet) in [
        ("a VLAN tag", false, true, 12, 0x81),
        ("options", false, true, 14, 0x46),
        ("another version", false, true, 14, 0x55),
        ("another version", true, true, 14, 0x50),
        ("longer than the frame", false, true, 16, 0xff),
        ("longer than the frame", true, true, 18, 0xff),
        ("shorter than its header", false, true, 17, 19),
        ("shorter than the transport header", false, true, 17, 39),
        ("shorter than the transport header", true, true, 19, 19),
        ("shorter than the transport header", false, false, 17, 27),
        ("more fragments", false, true, 20, 0x20),
        ("a later fragment", false, true, 21, 1),
        ("ICMP", false, true, 23, 1),
        ("an extension header", true, true, 20, 60),
        ("from loopback", false, true, 26, 127),
        ("from a multicast address", false, true, 26, 0xe0),
        ("to loopback", false, true, 30, 127),
        ("from a multicast address", true, true, 22, 0xff),
        ("a TCP header that is too short", false, true, 46, 0x40),
        ("a TCP header that is too long", false, true, 46, 0x70),
        ("a reset", false, true, 47, tcp_flag::RST),
        ("a UDP length that is too short", false, false, 39, 7),
        ("a UDP length that is too long", false, false, 39, 13),
    ] {
        let mut frame = frame(is_v6, is_tcp);
        assert!(agree(&frame));
        frame[at] = octet;
        assert!(!agree(&frame), "{what}");
    }
    let whole = frame(false, true);
    for length in 0..whole.len() {
        assert!(!agree(&whole[..length]), "{length} octets of it");
    }
    for (is_v6, addresses) in [(false, 26..30), (false, 30..34), (true, 22..38)] {
        let mut frame = frame(is_v6, true);
        frame[addresses.clone()].fill(0);
        assert!(!agree(&frame), "an unspecified address");
    }
}

#[test]
fn no_octet_makes_them_differ() {
    for (is_v6, is_tcp) in [(false, false), (false, true), (true, false), (true, true)] {
        let whole = frame(is_v6, is_tcp);
        for padding in [0, 6] {
            for at in 0..whole.len() {
                let mut frame = whole.clone();
                frame.resize(whole.len() + padding, 0);
                for octet in 0..=u8::MAX {
                    frame[at] = octet;
                    agree(&frame);
                }
            }
        }
    }
}

/// Lengths that are each possible by itself, and lie about one another.
#[test]
fn no_lengths_make_them_differ() {
    for (is_v6, is_tcp) in [(false, false), (false, true), (true, false), (true, true)] {
        let whole = frame(is_v6, is_tcp);
        let (ip_at, transport_at) = if is_v6 { (19, 54) } else { (17, 34) };
        let mut plain = 0;
        for ip in 0..=u8::try_from(whole.len()).unwrap() {
            for transport in 0..=0xff {
                let mut frame = whole.clone();
                frame[ip_at] = ip;
                frame[if is_tcp { transport_at + 12 } else { transport_at + 5 }] = transport;
                for length in transport_at..=frame.len() + 4 {
                    let mut frame = frame.clone();
                    frame.resize(length, 0);
                    plain += usize::from(agree(&frame));
                }
            }
        }
        assert!(plain > 100, "IPv6: {is_v6}, TCP: {is_tcp}: {plain} of them are plain");
    }
}

#[test]
fn no_addresses_make_them_differ() {
    let v4 = [
        "0.0.0.0",
        "0.0.0.1",
        "127.0.0.1",
        "169.254.0.1",
        "223.255.255.255",
        "224.0.0.1",
        "239.1.1.1",
        "240.0.0.1",
        "255.255.255.255",
        "192.0.2.1",
    ];
    let v6 = [
        "::",
        "::1",
        "::2",
        "::ffff:192.0.2.1",
        "::192.0.2.1",
        "64:ff9b::1",
        "fe80::1",
        "fd00::1",
        "ff02::1",
        "feff::1",
        "2001:db8::1",
    ];
    let v4 = v4.map(|text| text.parse::<std::net::Ipv4Addr>().unwrap().octets().to_vec());
    let v6 = v6.map(|text| text.parse::<std::net::Ipv6Addr>().unwrap().octets().to_vec());
    for (is_v6, addresses, at) in [(false, v4.as_slice(), 26), (true, v6.as_slice(), 22)] {
        let mut plain = 0;
        for source in addresses {
            for destination in addresses {
                for is_tcp in [false, true] {
                    let mut frame = frame(is_v6, is_tcp);
                    let both = [source.as_slice(), destination].concat();
                    frame[at..at + both.len()].copy_from_slice(&both);
                    plain += usize::from(agree(&frame));
                    // The ports of a DHCP client, who may have no address yet.
                    let ports = at + both.len();
                    frame[ports..ports + 4].copy_from_slice(&[0, 68, 0, 67]);
                    agree(&frame);
                }
            }
        }
        assert!(plain > 20, "{plain} of them are plain");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn both_say_the_same_of_a_plain_frame(
        is_v6: bool,
        is_tcp: bool,
        changes in prop::collection::vec((0_usize..90, any::<u8>()), 0..6),
        cut in 0_usize..100,
    ) {
        let mut frame = frame(is_v6, is_tcp);
        for (at, octet) in changes {
            if let Some(place) = frame.get_mut(at) {
                *place = octet;
            }
        }
        frame.truncate(cut.max(30));
        agree(&frame);
    }
}
