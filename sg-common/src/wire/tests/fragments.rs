//! What fragments tell of themselves.

use super::*;

#[test]
fn fragments_of_ipv4_tell_their_place() {
    // Identification, place: offset, whether it is wrapped, whether it is the first of several.
    for (what, fragment, offset, is_wrapped, is_first) in [
        ("whole", 0x0000, 0, false, false),
        ("do not fragment", 0x4000, 0, false, false),
        ("the evil bit", 0x8000, 0, false, false),
        ("the first", 0x2000, 0, true, true),
        ("in between", 0x2003, 3, true, false),
        ("the last", 0x0003, 3, true, false),
        ("far behind", 0x1000, 0x1000, true, false),
        ("the lowest bit", 0x0001, 1, true, false),
    ] {
        let (reading, packet) = read(&V4 { fragment, ..V4::new(17, udp(8)) }.frame());
        let expected = if offset == 0 { Payload::IP } else { Payload::LATER_FRAGMENT };
        assert_eq!(reading, Ok(expected), "{what}");
        assert_eq!(packet.fragment_offset, offset, "{what}");
        assert_eq!((packet.is_wrapped, packet.is_first_fragment), (is_wrapped, is_first), "{what}");
        let identity = if is_wrapped { (0x1234, 17) } else { (0, 0) };
        assert_eq!((packet.fragment_id, packet.fragment_protocol), identity, "{what}");
        assert_eq!((packet.hop_limit, packet.end), (64, 42), "{what}");
    }
}

/// A fragment header and what is behind it.
fn fragment(next: u8, place: u16, payload: &[u8]) -> Vec<u8> {
    let mut octets = vec![next, 0xff];
    octets.extend(place.to_be_bytes());
    octets.extend([0x12, 0x34, 0x56, 0x78]);
    octets.extend(payload);
    octets
}

#[test]
fn fragments_of_ipv6_tell_their_place() {
    for (what, place, offset, is_first) in [
        ("the only one", 0, 0, false),
        ("reserved bits", 0b110, 0, false),
        ("the first", 1, 0, true),
        ("in between", 3 << 3 | 1, 3, false),
        ("the last", 3 << 3, 3, false),
        ("far behind", 0x1000 << 3, 0x1000, false),
        ("the lowest bit", 1 << 3, 1, false),
    ] {
        let (reading, packet) = read(&v6(44, &fragment(17, place, &udp(8))));
        let expected = if offset == 0 { Payload::IP } else { Payload::LATER_FRAGMENT };
        assert_eq!(reading, Ok(expected), "{what}");
        assert_eq!(packet.fragment_offset, offset, "{what}");
        assert_eq!((packet.is_wrapped, packet.is_first_fragment), (true, is_first), "{what}");
        assert_eq!((packet.fragment_id, packet.fragment_protocol), (0x1234_5678, 17), "{what}");
        assert_eq!((packet.hop_limit, packet.end), (255, 70), "{what}");
    }
}

#[test]
fn headers_behind_the_fragment_header_count_and_those_before_do_not() {
    let option = |next: u8| vec![next, 0, 0, 0, 0, 0, 0, 0];
    for (what, next, octets, headers) in [
        ("no extension", 17, udp(8), 8),
        ("not fragmented", 60, [option(17), udp(8)].concat(), 8),
        ("none behind", 44, fragment(17, 1, &udp(8)), 8),
        ("one behind", 44, fragment(60, 1, &[option(17), udp(8)].concat()), 16),
        ("two behind", 44, fragment(60, 1, &[option(60), option(17), udp(8)].concat()), 24),
        ("one before", 60, [option(44), fragment(17, 1, &udp(8))].concat(), 8),
        (
            "one before, one behind",
            60,
            [option(44), fragment(60, 1, &[option(17), udp(8)].concat())].concat(),
            16,
        ),
    ] {
        let (reading, packet) = read(&v6(next, &octets));
        assert_eq!(reading, Ok(Payload::IP), "{what}");
        assert_eq!(packet.transport.headers, headers, "{what}");
        let protocol = if next == 44 {
            octets[0]
        } else if next == 60 && octets[0] == 44 {
            octets[8]
        } else {
            0
        };
        assert_eq!(packet.fragment_protocol, protocol, "{what}: what later ones have too");
    }
}

#[test]
fn a_later_fragment_may_begin_anywhere_but_in_a_tcp_header_and_ends_in_the_datagram() {
    for (what, protocol, offset, length, expected) in [
        ("UDP", 17, 1, 8, "later fragment"),
        ("another protocol", 47, 1, 8, "later fragment"),
        ("TCP, in the header", 6, 1, 8, "malformed"),
        ("TCP, at octet 16", 6, 2, 8, "malformed"),
        ("TCP, behind the header", 6, 3, 8, "later fragment"),
        ("up to the end", 17, 0x1ffe, 15, "later fragment"),
        ("one octet further", 17, 0x1ffe, 16, "malformed"),
        ("at the last place", 17, 0x1fff, 7, "later fragment"),
        ("one octet further", 17, 0x1fff, 8, "malformed"),
        ("empty", 17, 0x1000, 0, "later fragment"),
    ] {
        let frame = V4 { fragment: offset, ..V4::new(protocol, vec![0; length]) }.frame();
        assert_eq!(outcome(&frame), expected, "{what}");
        let with_options = V4 { fragment: offset, options: &[1; 4], ..V4::new(protocol, vec![0; length]) };
        assert_eq!(outcome(&with_options.frame()), expected, "{what}, with options");
        let frame = v6(44, &fragment(protocol, offset << 3, &vec![0; length]));
        assert_eq!(outcome(&frame), expected, "{what}, IPv6");
    }
}

#[test]
fn the_chain_of_a_later_fragment_is_not_followed() {
    // What looks like an extension header there is data, and not even eight octets.
    assert_eq!(outcome(&v6(44, &fragment(60, 24, &[0; 3]))), "later fragment");
    assert_eq!(outcome(&v6(44, &fragment(60, 1, &[0; 3]))), "malformed");
}

#[test]
fn no_fragment_comes_from_nowhere() {
    let frame = V4 { fragment: 3, source: [0; 4], ..V4::new(17, vec![0; 8]) }.frame();
    assert_eq!(outcome(&frame), "martian");
    let mut frame = v6(44, &fragment(58, 24, &[135, 0, 0, 0, 0, 0, 0, 0]));
    frame[22..38].fill(0);
    assert_eq!(outcome(&frame), "martian");
}
