//! The checksum of resets, and what only some packets tell.

extern crate std;

use std::{vec, vec::Vec};

use super::*;
use crate::wire::{LinkLayer, Slice};

/// The Internet checksum of RFC 1071, word by word.
fn checksum(octets: &[u8]) -> u16 {
    let mut sum = 0_u64;
    for pair in octets.chunks(2) {
        sum += u64::from(pair[0]) << 8 | u64::from(pair.get(1).copied().unwrap_or(0));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// What comes before a segment in its checksum.
fn pseudo(addresses: &[u8], length: usize) -> Vec<u8> {
    let mut octets = addresses.to_vec();
    octets.extend((length as u32).to_be_bytes());
    octets.extend([0, 0, 0, 6]);
    octets
}

/// A segment with its checksum right.
fn segment(addresses: &[u8], flags: u8, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let header_length = 20 + options.len();
    let mut segment = vec![0x9c, 0x40, 0x01, 0xbb, 0xfe, 0xdc, 0xba, 0x98, 0x76, 0x54, 0x32, 0x10];
    segment.extend([(header_length * 4) as u8, flags, 0xff, 0xff, 0, 0, 0, 0]);
    segment.extend(options);
    segment.extend(payload);
    let sum = checksum(&[pseudo(addresses, segment.len()), segment.clone()].concat());
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    segment
}

const V4: [u8; 8] = [192, 0, 2, 1, 198, 51, 100, 255];
const V6: [u8; 32] = [
    0x20, 0x01, 0x0d, 0xb8, 0xff, 0xff, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0x20, 0x01, 0x0d, 0xb8, 0, 0, 0xab,
    0xcd, 0xff, 0xfe, 0xfd, 0xfc, 0xfb, 0xfa, 0xf9, 0xf8,
];

/// An IP packet around a segment.
fn packet(addresses: &[u8], segment: &[u8]) -> (u16, Vec<u8>) {
    let (ethertype, mut packet) = if addresses.len() == 8 {
        let length = (20 + segment.len() as u16).to_be_bytes();
        (0x0800, vec![0x45, 0, length[0], length[1], 0, 0, 0, 0, 64, 6, 0, 0])
    } else {
        let length = (segment.len() as u16).to_be_bytes();
        (0x86dd, vec![0x60, 0, 0, 0, length[0], length[1], 6, 64])
    };
    packet.extend(addresses);
    packet.extend(segment);
    (ethertype, packet)
}

fn is_right(addresses: &[u8], segment: &[u8]) -> bool {
    let (ethertype, frame) = packet(addresses, segment);
    let mut packet = Packet { is_sum_right: true, ..Packet::default() };
    let cursor = Slice { frame: &frame, is_gso: false };
    let reading = crate::wire::parse(&cursor, LinkLayer::BareIp { ethertype }, 0, &mut packet);
    assert_eq!(reading, Ok(Payload::IP));
    packet.is_sum_right
}

#[test]
fn the_checksum_of_a_reset_is_looked_at() {
    let long: Vec<u8> = (0_u8..41).map(|octet| octet.wrapping_mul(37) ^ 0xa5).collect();
    for addresses in [&V4[..], &V6] {
        for length in 0..=40 {
            let right = segment(addresses, tcp_flag::RST, &[], &long[..length]);
            assert!(is_right(addresses, &right), "{length} octets of data");
            for at in 0..right.len() {
                // The octet that tells the header's length and the flags are read as such.
                if at != 12 && at != 13 {
                    let mut wrong = right.clone();
                    wrong[at] ^= 0x40;
                    assert!(!is_right(addresses, &wrong), "octet {at} of {length} octets of data");
                }
            }
        }
        let with_ack = segment(addresses, tcp_flag::RST | tcp_flag::ACK, &[], &[]);
        assert!(is_right(addresses, &with_ack));
        let longest = segment(addresses, tcp_flag::RST, &[1; 40], &[]);
        assert!(is_right(addresses, &longest), "with every option");
        let too_long = segment(addresses, tcp_flag::RST, &[], &long);
        assert!(!is_right(addresses, &too_long), "61 octets");
        assert!(!is_right(addresses, &segment(addresses, tcp_flag::ACK, &[], &[])), "nobody asks");
    }
}

#[test]
fn addresses_are_part_of_the_checksum() {
    for addresses in [&V4[..], &V6] {
        let right = segment(addresses, tcp_flag::RST, &[], &[]);
        for at in 0..addresses.len() {
            let mut others = addresses.to_vec();
            others[at] ^= 0x10;
            assert!(!is_right(&others, &right), "octet {at}");
        }
    }
}

#[test]
fn a_checksum_that_the_hardware_is_to_complete_is_right() {
    for addresses in [&V4[..], &V6] {
        let mut begun = segment(addresses, tcp_flag::RST, &[], &[]);
        let sum = !checksum(&pseudo(addresses, begun.len()));
        begun[16..18].copy_from_slice(&sum.to_be_bytes());
        assert!(is_right(addresses, &begun));
        begun[17] ^= 1;
        assert!(!is_right(addresses, &begun));
    }
}

#[test]
fn carries_are_added_back_until_there_are_none() {
    for (sum, folded) in [
        (0, 0),
        (0xffff, 0xffff),
        (0x1_0000, 1),
        (0x1_ffff, 1),
        (0xff_ffff, 0xff),
        (0x12_3456, 0x3468),
        (0x1_fffe, 0xffff),
        (0x02_fffe, 1),
    ] {
        assert_eq!(fold(sum), folded, "{sum:#x}");
    }
}

#[test]
fn sums_are_of_big_endian_pairs_and_bounded() {
    let frame: Vec<u8> = (1..=70).collect();
    let cursor = Slice { frame: &frame, is_gso: false };
    for (at, length, expected) in [
        (0, 0, Some(0)),
        (0, 1, Some(0x0100)),
        (0, 2, Some(0x0102)),
        (1, 3, Some(0x0203 + 0x0400)),
        (0, 4, Some(0x0102 + 0x0304)),
        (68, 2, Some(0x4546)),
        (69, 1, Some(0x4600)),
        (69, 2, None),
        (70, 1, None),
    ] {
        assert_eq!(sum(&cursor, at, length), expected, "{length} octets at {at}");
        assert_eq!(cursor.sum(at, length), expected);
    }
    let all: u32 = (0..30).map(|pair| (2 * pair + 1) << 8 | (2 * pair + 2)).sum();
    assert_eq!(sum(&cursor, 0, SUM_MAX), Some(all));
}

#[test]
fn the_checksum_of_a_fragment_is_not_known() {
    let (_, mut frame) = packet(&V4, &segment(&V4, tcp_flag::RST, &[], &[]));
    for (place, expected) in [(0, true), (0x40, true), (0x20, false)] {
        frame[6] = place;
        let mut packet = Packet::default();
        let cursor = Slice { frame: &frame, is_gso: false };
        let reading = crate::wire::parse(&cursor, LinkLayer::BareIp { ethertype: 0x0800 }, 0, &mut packet);
        assert_eq!((reading, packet.is_sum_right), (Ok(Payload::IP), expected), "{place:#x}");
    }
}
