//! Ethernet addresses, EtherTypes and ARP; and what a reading looks like in registers and words.

use super::*;

#[test]
fn the_source_address_of_a_frame_is_read() {
    let mut frame = V4::new(6, tcp(443)).frame();
    frame[6..12].copy_from_slice(&[0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc]);
    assert_eq!(read(&frame).1.source_mac, 0x1234_5678_9abc);
}

#[test]
fn ethertypes_begin_where_lengths_end() {
    for (ethertype, expected) in
        [(0x05ff, Payload::NONE), (0x0600, Payload(0x0600)), (0x88cc, Payload(0x88cc))]
    {
        let frame = ethernet(&[ethertype]);
        assert_eq!(read(&frame).0, Ok(expected), "{ethertype:#x}");
    }
    for ethertype in [0x0806, 0x88cc, 0x8100, 0] {
        let link = LinkLayer::BareIp { ethertype };
        let reading = parse(&Slice { frame: &[0; 60], is_gso: false }, link, 0, &mut Packet::default());
        assert_eq!(reading, Ok(Payload::NONE), "{ethertype:#x} without Ethernet");
    }
    for link_type in [0x0800, 0x86dd] {
        let link = LinkLayer::BareIp { ethertype: link_type };
        let frame = V4::new(6, tcp(443)).frame().split_off(14);
        let reading = parse(&Slice { frame: &frame, is_gso: false }, link, 0, &mut Packet::default());
        assert_eq!(reading.is_ok(), link_type == 0x0800);
    }
}

fn arp(changed: &[(usize, u8)]) -> Packet {
    let mut frame = ethernet(&[0x0806]);
    frame.extend([
        0, 1, 8, 0, 6, 4, 0, 1, 0x52, 0x54, 0, 0xaa, 0xbb, 0xcc, 192, 0, 2, 7, 0, 0, 0, 0, 0, 0, 192, 0, 2, 9,
    ]);
    for (at, octet) in changed {
        frame[14 + at] = *octet;
    }
    let (reading, packet) = read(&frame);
    assert_eq!(reading, Ok(Payload::ARP));
    for length in 14..frame.len() {
        assert_eq!(outcome(&frame[..length]), "malformed", "{length} octets");
    }
    packet
}

#[test]
fn arp_tells_who_its_sender_says_it_is() {
    let packet = arp(&[]);
    assert_eq!((packet.source, packet.destination), (Addr::v4(0xc000_0207), Addr::v4(0xc000_0209)));
    assert_eq!(packet.subject, Addr::v6(0, 0x5254_00aa_bbcc));
    for (what, changed) in [
        ("another protocol", &[(3, 1)][..]),
        ("longer Ethernet addresses", &[(4, 8)]),
        ("longer addresses", &[(5, 16)]),
    ] {
        assert_eq!(arp(changed).subject, Addr::v6(0, u64::MAX), "{what}");
    }
}

#[test]
fn a_transport_survives_its_words() {
    let transport = Transport {
        source_port: 0x1234,
        destination_port: 0x5678,
        icmp: 0x9abc,
        icmp_id: 0xdef0,
        headers: 0x0fed,
        protocol: 0xcb,
    };
    assert_eq!(transport.to_words(), [0x1234_5678_9abc_def0, 0x000f_edcb]);
    assert_eq!(Transport::from_words(transport.to_words()), transport);
}

#[test]
fn readings_in_a_register_are_where_the_layout_says() {
    assert_eq!(ReadingBits::pack(Ok(Payload(0xfedc))).0, 0xfedc);
    assert_eq!(ReadingBits::pack(Err(Unreadable::drop(DropReason::Martian))).0, 0x1_0005);
    assert_eq!(ReadingBits(0x1_0005).unpack(), Err(Unreadable::drop(DropReason::Martian)));
    assert_eq!(ReadingBits(0xfffe_0005).unpack(), Ok(Payload(5)), "higher bits are ignored");
}

#[test]
fn a_slice_is_a_frame_that_is_at_hand_whole() {
    let cursor = Slice { frame: &[1, 2, 3, 4, 5, 6, 7, 8, 9], is_gso: true };
    assert_eq!((cursor.length(), cursor.is_gso()), (9, true));
    assert!(!Slice { is_gso: false, ..cursor }.is_gso());
    assert!(cursor.has(0) && cursor.has(9) && !cursor.has(10));
    assert_eq!(cursor.look(7, 2), Some(&[8, 9][..]));
    assert_eq!((cursor.look(8, 2), cursor.look(usize::MAX, 2)), (None, None));
    let bytes = cursor.look(0, 9).unwrap();
    assert_eq!((bytes.u8(3), bytes.u16(1)), (4, 0x0203));
    assert_eq!((bytes.u32(5), bytes.u64(1)), (0x0607_0809, 0x0203_0405_0607_0809));
}

#[test]
fn only_an_error_quotes_even_of_a_packet_from_an_address_to_itself() {
    for payload in [tcp(443), udp(8)] {
        let protocol = if payload.len() == 8 { 17 } else { 6 };
        let land = V4 { destination: [192, 0, 2, 1], ..V4::new(protocol, payload) };
        let frame = land.frame().split_off(14);
        let mut packet = Packet { subject: Addr::v4(77), ..Packet::default() };
        let link = LinkLayer::BareIp { ethertype: 0x0800 };
        let reading = parse(&Slice { frame: &frame, is_gso: false }, link, 0, &mut packet);
        assert_eq!((reading, packet.quote), (Ok(Payload::IP), QuoteBits::NONE));
        assert_eq!(packet.subject, Addr::v4(77));
    }
    let mut frame = ethernet(&[0x0806]);
    frame.extend([0; 60]);
    let mut packet = Packet { quote: QuoteBits(1 << 41 | 14), end: 60, ..Packet::default() };
    assert_eq!(
        parse(&Slice { frame: &frame, is_gso: false }, LinkLayer::Ethernet, 0, &mut packet),
        Ok(Payload::ARP)
    );
    assert_eq!(packet.quote, QuoteBits(1 << 41 | 14), "ARP leaves what is not its own");
}
