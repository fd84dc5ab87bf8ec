//! Lengths that are told, that are left out, and that lie.

use super::*;

fn read_gso(frame: &[u8]) -> (Result<Payload, Unreadable>, Packet) {
    let mut packet = Packet::default();
    (parse(&Slice { frame, is_gso: true }, LinkLayer::Ethernet, 0, &mut packet), packet)
}

const MALFORMED: Result<Payload, Unreadable> = Err(super::super::MALFORMED);

#[test]
fn a_length_of_zero_is_the_whole_frame_where_the_hardware_cuts_it() {
    let mut payload = tcp(443);
    payload.extend([7; 100]);
    let mut in_v4 = V4::new(6, payload.clone()).frame();
    in_v4[16..18].fill(0);
    let mut in_v6 = v6(6, &payload);
    in_v6[18..20].fill(0);
    for (frame, headers) in [(in_v4, 34), (in_v6, 54)] {
        assert_eq!(read(&frame).0, MALFORMED, "otherwise it is a lie");
        let (reading, packet) = read_gso(&frame);
        assert_eq!(reading, Ok(Payload::IP));
        assert_eq!((packet.payload, packet.end), (100, headers + 120));
        assert_eq!(packet.end as usize, frame.len());
        let link = LinkLayer::BareIp { ethertype: if headers == 34 { 0x0800 } else { 0x86dd } };
        let mut packet = Packet::default();
        let cursor = Slice { frame: &frame[14..], is_gso: true };
        assert_eq!(parse(&cursor, link, 0, &mut packet), Ok(Payload::IP));
        assert_eq!((packet.payload, packet.end), (100, headers + 106));
    }
}

#[test]
fn a_length_that_is_told_is_meant_even_there() {
    for mut frame in [V4::new(6, tcp(443)).frame(), v6(6, &tcp(443))] {
        let end = frame.len();
        frame.extend([0; 30]);
        let (reading, packet) = read_gso(&frame);
        assert_eq!(reading, Ok(Payload::IP));
        assert_eq!((packet.payload, packet.end as usize), (0, end), "behind it is padding");
    }
}

#[test]
fn the_length_of_udp_may_be_left_out_where_the_hardware_cuts_it() {
    let frame = |length| {
        let mut payload = udp(length);
        payload.extend([0; 20]);
        V4::new(17, payload).frame()
    };
    for (length, whole, cut) in [
        (0, MALFORMED, Ok(Payload::IP)),
        (1, MALFORMED, MALFORMED),
        (7, MALFORMED, MALFORMED),
        (8, Ok(Payload::IP), Ok(Payload::IP)),
        (28, Ok(Payload::IP), Ok(Payload::IP)),
        (29, MALFORMED, MALFORMED),
        (3000, MALFORMED, MALFORMED),
    ] {
        assert_eq!(read(&frame(length)).0, whole, "{length}");
        assert_eq!(read_gso(&frame(length)).0, cut, "{length}, cut by the hardware");
    }
}

#[test]
fn ip_lengths_hold_at_least_their_header() {
    let with_length = |length: u16, options| {
        let mut frame = V4 { options, ..V4::new(47, vec![0; 8]) }.frame();
        frame[16..18].copy_from_slice(&length.to_be_bytes());
        outcome(&frame)
    };
    for (what, length, options, expected) in [
        ("nothing behind the header", 20, &[][..], "ip"),
        ("less than the header", 19, &[], "malformed"),
        ("none", 0, &[], "malformed"),
        ("all", 28, &[], "ip"),
        ("more than there is", 29, &[], "malformed"),
        ("nothing behind the options", 24, &[1; 4], "ip"),
        ("less than the options", 23, &[1; 4], "malformed"),
        ("less than the options by all of them", 20, &[1; 4], "malformed"),
    ] {
        assert_eq!(with_length(length, options), expected, "{what}");
    }
    assert_eq!(outcome(&v6(59, &[])), "ip", "IPv6 with nothing behind the header");
}

#[test]
fn tcp_headers_lie_within_the_packet() {
    let header = |words: u8, more: usize| {
        let mut payload = tcp(443);
        payload[12] = words << 4;
        payload.extend(std::iter::repeat_n(1, more));
        read(&V4::new(6, payload).frame())
    };
    for (what, words, more, expected) in [
        ("as short as it may be", 5, 0, Some((20, 0))),
        ("too short", 4, 0, None),
        ("none", 0, 40, None),
        ("longer than the packet", 6, 0, None),
        ("longer by one octet", 6, 3, None),
        ("all of the packet", 6, 4, Some((24, 0))),
        ("one octet of data", 6, 5, Some((24, 1))),
        ("as long as it may be", 15, 40, Some((60, 0))),
    ] {
        let (reading, packet) = header(words, more);
        let found = reading.is_ok().then_some((packet.transport.headers, packet.payload));
        assert_eq!(found, expected, "{what}");
        assert!(reading.is_ok() || reading == MALFORMED, "{what}");
    }
}

#[test]
fn other_protocols_need_no_header_and_have_no_ports() {
    for (what, frame) in [
        ("GRE", V4::new(47, vec![1, 2, 3]).frame()),
        ("ICMPv6's number in IPv4", V4::new(58, vec![8, 0, 3, 4]).frame()),
        ("ICMP's number in IPv6", v6(1, &[8, 0, 3, 4])),
        ("ICMP's number in IPv6, longer", v6(1, &[8, 0, 3, 4, 5, 6, 7, 8])),
        ("ICMPv6's number in IPv4, longer", V4::new(58, vec![8, 0, 3, 4, 5, 6, 7, 8]).frame()),
        ("nothing", V4::new(47, vec![]).frame()),
    ] {
        let (reading, packet) = read(&frame);
        assert_eq!(reading, Ok(Payload::IP), "{what}");
        let protocol = packet.transport.protocol;
        assert_eq!(packet.transport, Transport { protocol, ..Transport::default() }, "{what}");
    }
}

#[test]
fn what_was_read_before_is_forgotten() {
    let dirty = || Packet {
        transport: Transport {
            source_port: 1,
            destination_port: 2,
            icmp: 3,
            icmp_id: 4,
            headers: 5,
            protocol: 6,
        },
        quote: QuoteBits(1 << 40),
        tcp_flags: 0xff,
        is_sum_right: true,
        is_first_fragment: true,
        is_wrapped: true,
        fragment_offset: 9,
        ..Packet::default()
    };
    let later = V4 { fragment: 3, ..V4::new(47, vec![0; 8]) }.frame();
    let v6_later = v6(44, &[47, 0, 0, 24, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0]);
    for (what, frame, protocol) in [
        ("IPv4", V4::new(47, vec![]).frame(), 47),
        ("IPv6", v6(59, &[]), 59),
        ("a later fragment", later, 47),
        ("a later fragment of IPv6", v6_later, 47),
    ] {
        let mut packet = dirty();
        let reading = parse(&Slice { frame: &frame, is_gso: false }, LinkLayer::Ethernet, 0, &mut packet);
        assert!(reading.is_ok(), "{what}");
        assert_eq!(packet.transport, Transport { protocol, ..Transport::default() }, "{what}");
        assert_eq!(
            (packet.quote, packet.tcp_flags, packet.is_first_fragment),
            (QuoteBits::NONE, 0, false),
            "{what}"
        );
    }
    let mut packet = dirty();
    let frame = V4::new(6, tcp(443)).frame();
    assert!(parse(&Slice { frame: &frame, is_gso: false }, LinkLayer::Ethernet, 0, &mut packet).is_ok());
    assert!(!packet.is_sum_right && packet.fragment_offset == 0 && !packet.is_wrapped);
}

#[test]
fn icmp_has_eight_octets_and_an_identifier() {
    for length in 0..12 {
        let payload: Vec<u8> = [8, 0, 1, 2, 0x12, 0x34, 5, 6, 7, 8, 9, 10][..length].to_vec();
        let (reading, packet) = read(&V4::new(1, payload).frame());
        assert_eq!(reading.is_ok(), length >= 8, "{length} octets");
        if length >= 8 {
            let Transport { icmp, icmp_id, headers, .. } = packet.transport;
            assert_eq!((icmp, icmp_id, headers), (8 << 8, 0x1234, 8));
        }
    }
}

#[test]
fn options_are_followed_to_their_end() {
    let at = |place: usize, option: &[u8]| {
        let mut options = vec![1; 40];
        options[place..place + option.len()].copy_from_slice(option);
        options
    };
    for (what, options, expected) in [
        ("none of them routes", at(0, &[]), "ip"),
        ("the last octet begins one", at(39, &[148]), "malformed"),
        ("a source route late", at(36, &[131, 3, 4]), "malformed"),
        ("a strict one at the end", at(37, &[137, 3, 4]), "malformed"),
        ("its octet within another option", at(8, &[148, 4, 131, 137]), "ip"),
        ("behind the end of the list", at(8, &[0, 131]), "ip"),
        ("of two octets", at(8, &[148, 2]), "ip"),
        ("of one octet", at(8, &[148, 1]), "malformed"),
        ("of none", at(8, &[148, 0]), "malformed"),
        ("a route behind an option of two octets", at(8, &[148, 2, 131]), "malformed"),
        ("a route behind an option of three octets", at(8, &[148, 3, 0, 131]), "malformed"),
        ("up to the end", at(30, &[148, 10]), "ip"),
        ("one octet further", at(30, &[148, 11]), "malformed"),
        ("as long as can be said", at(0, &[148, 255]), "malformed"),
        ("all of them one", at(0, &[148, 40]), "ip"),
    ] {
        let frame = V4 { options: &options, ..V4::new(6, tcp(22)) }.frame();
        assert_eq!(outcome(&frame), expected, "{what}");
    }
}

#[test]
fn extension_headers_have_their_lengths() {
    let header = |length: usize, next: u8, units: u8| {
        let mut octets = vec![0; length];
        octets[..4].copy_from_slice(&[next, units, 2, 0]);
        octets
    };
    let routed = |octets: Vec<u8>| [octets, tcp(22)].concat();
    for (what, kind, octets, expected) in [
        ("destination options of 16", 60, routed(header(16, 6, 1)), "ip"),
        ("destination options of 24", 60, routed(header(24, 6, 2)), "ip"),
        ("destination options of 2048", 60, routed(header(2048, 6, 255)), "ip"),
        ("routing of 24", 43, routed(header(24, 6, 2)), "ip"),
        ("mobility of 16", 135, routed(header(16, 6, 1)), "ip"),
        ("hop-by-hop of 16", 0, routed(header(16, 6, 1)), "ip"),
        ("authentication of 16", 51, routed(header(16, 6, 2)), "ip"),
        ("authentication of 8", 51, routed(header(8, 6, 0)), "ip"),
        ("authentication of 24", 51, routed(header(24, 6, 4)), "ip"),
        ("nothing behind", 60, header(8, 59, 0), "ip"),
        ("less than eight octets", 60, vec![59, 0, 0, 0, 0, 0, 0], "malformed"),
        ("one octet too long", 60, header(15, 59, 1), "malformed"),
        ("a fragment header has no length", 44, routed(vec![6, 9, 0, 0, 0, 0, 0, 9]), "ip"),
    ] {
        let frame = v6(kind, &octets);
        assert_eq!(outcome(&frame), expected, "{what}");
        let packet = read(&frame).1;
        if octets.len() > 20 && expected == "ip" {
            assert_eq!((packet.transport.protocol, packet.transport.destination_port), (6, 22), "{what}");
        }
    }
    // The packet ends within the header, but the frame goes on.
    let mut frame = v6(60, &[59, 0, 0, 0, 0, 0, 0]);
    frame.extend([0; 30]);
    assert_eq!(outcome(&frame), "malformed");
}

/// A frame of which only the first octets are at hand.
struct FirstBuffer<'a>(&'a [u8], usize);

impl<'a> Cursor for FirstBuffer<'a> {
    type Bytes = &'a [u8];

    fn look(&self, offset: usize, length: usize) -> Option<&'a [u8]> {
        if offset + length > self.1 { None } else { self.0.get(offset..offset + length) }
    }

    fn has(&self, length: usize) -> bool {
        self.0.len() >= length
    }

    fn length(&self) -> usize {
        self.0.len()
    }

    fn is_gso(&self) -> bool {
        false
    }
}

#[test]
fn a_header_that_is_not_at_hand_is_asked_for_and_never_guessed() {
    let reset = |mut payload: Vec<u8>| {
        payload[13] = tcp_flag::RST;
        payload
    };
    let solicitation = [vec![135, 0, 0, 0, 0, 0, 0, 0], vec![1; 16]].concat();
    for (what, frame, needed) in [
        ("TCP", V4::new(6, [tcp(443), vec![0; 50]].concat()).frame(), 54),
        ("UDP", V4::new(17, [udp(58), vec![0; 50]].concat()).frame(), 42),
        ("options", V4 { options: &[1; 8], ..V4::new(47, vec![0; 50]) }.frame(), 42),
        ("ping", V4::new(1, [vec![8, 0, 0, 0, 0, 0, 0, 0], vec![0; 50]].concat()).frame(), 42),
        ("a reset, for its checksum", V4::new(6, reset(tcp(443))).frame(), 54),
        ("a reset with data", V4::new(6, reset([tcp(443), vec![0; 9]].concat())).frame(), 63),
        ("neighbour solicitation", v6(58, &solicitation), 78),
        ("extension headers", v6(60, &chain(60, 3, 59, &[])), 78),
        ("a fragment", v6(44, &[47, 0, 0, 24, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0]), 62),
    ] {
        for at_hand in 0..=frame.len() {
            let cursor = FirstBuffer(&frame, at_hand);
            let reading = parse(&cursor, LinkLayer::Ethernet, 0, &mut Packet::default());
            let expected = if at_hand < needed { Err(Unreadable::SHORT) } else { read(&frame).0 };
            assert_eq!(reading, expected, "{what}: {at_hand} of {}", frame.len());
        }
    }
}
