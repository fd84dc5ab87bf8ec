//! The packet parser over any octets: it neither panics nor believes what it reads.
//!
//! An input is an octet of circumstances and a frame. What the parser makes of
//! it is compared with what the [reference](read) does, and with what it makes of the same frame cut
//! short, padded, untagged, without its link header, and seen in part only.

use std::{cell::Cell, net::IpAddr};

use sg_common::{
    addr::Addr,
    wire::{Cursor, LinkLayer, Packet, Payload, ReadingBits, Slice, Transport, Unreadable, parse, tcp_flag},
};
use sg_tests::reference::{
    quote::Quote,
    read::{self, Body, Frame},
};

/// More looks than any frame can take: 3 at link headers, 40 at IPv4 options, 9 along a chain and as
/// many along a quoted one, 30 at a checksum, and what transports need.
const LOOKS: u32 = 128;
/// Frames up to this length are cut at every octet; longer ones around their headers only.
const CUT_EVERYWHERE: usize = 256;

/// How a frame comes in.
#[derive(Clone, Copy, Debug)]
struct Circumstances {
    link: LinkLayer,
    tags_out: u32,
    is_gso: bool,
}

impl Circumstances {
    /// Bit 0: segmentation offload; 1: a tag was taken out; 2–3: bare IPv4 or IPv6, else Ethernet.
    fn of(bits: u8) -> Self {
        let link = match bits >> 2 & 3 {
            2 => LinkLayer::BareIp { ethertype: 0x0800 },
            3 => LinkLayer::BareIp { ethertype: 0x86dd },
            _ => LinkLayer::Ethernet,
        };
        Self { link, tags_out: (bits >> 1 & 1).into(), is_gso: bits & 1 != 0 }
    }

    /// The frame as it is on the wire: with a link header, and with its tag in it.
    fn on_the_wire(self, frame: &[u8]) -> Option<Vec<u8>> {
        const MACS: [u8; 12] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        match self.link {
            LinkLayer::BareIp { ethertype } => Some([&MACS[..], &ethertype.to_be_bytes(), frame].concat()),
            LinkLayer::Ethernet if self.tags_out == 0 => Some(frame.to_vec()),
            LinkLayer::Ethernet => Some([frame.get(..12)?, &[0x81, 0, 0, 0], &frame[12..]].concat()),
        }
    }

    fn read(self, frame: &[u8]) -> Reading {
        self.read_through(&Slice { frame, is_gso: self.is_gso })
    }

    fn read_through(self, cursor: &impl Cursor) -> Reading {
        self.read_into(&mut Packet::default(), cursor)
    }

    fn read_into(self, packet: &mut Packet, cursor: &impl Cursor) -> Reading {
        let payload = parse(cursor, self.link, self.tags_out, packet);
        assert_eq!(ReadingBits::pack(payload).unpack(), payload, "a reading survives its register");
        let is_filled = matches!(payload, Ok(Payload::IP | Payload::LATER_FRAGMENT | Payload::ARP));
        Reading { payload, packet: is_filled.then_some(*packet) }
    }
}

/// What the parser said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Reading {
    payload: Result<Payload, Unreadable>,
    /// Filled in for IP and ARP only: else it is of no use.
    packet: Option<Packet>,
}

impl Reading {
    /// What does not depend on what lies before the IP header, `shift` octets of it.
    fn behind(mut self, shift: u32) -> Self {
        if let Some(packet) = &mut self.packet {
            packet.source_mac = 0;
            // Of ARP nobody asks where it ends.
            packet.end = packet.end.saturating_sub(shift);
        }
        self
    }
}

/// A frame of which only a part lies in the first buffer, and that remembers what was looked at.
struct Watched<'a> {
    whole: Slice<'a>,
    linear: usize,
    looks: Cell<u32>,
    reach: Cell<usize>,
}

impl<'a> Watched<'a> {
    fn new(frame: &'a [u8], is_gso: bool, linear: usize) -> Self {
        Self { whole: Slice { frame, is_gso }, linear, looks: Cell::new(0), reach: Cell::new(0) }
    }
}

impl<'a> Cursor for Watched<'a> {
    type Bytes = &'a [u8];

    fn look(&self, offset: usize, length: usize) -> Option<&'a [u8]> {
        self.looks.set(self.looks.get() + 1);
        let end = offset.checked_add(length).filter(|end| *end <= self.linear)?;
        let found = self.whole.look(offset, length)?;
        self.reach.set(self.reach.get().max(end));
        Some(found)
    }

    fn has(&self, length: usize) -> bool {
        self.whole.has(length)
    }

    fn length(&self) -> usize {
        self.whole.length()
    }

    fn is_gso(&self) -> bool {
        self.whole.is_gso()
    }
}

/// Reads one frame in every way.
///
/// # Panics
///
/// When the parser does, or says what it must not say.
pub fn run(input: &[u8]) {
    let Some((first, frame)) = input.split_first() else { return };
    let circumstances = Circumstances::of(*first);
    let watched = Watched::new(frame, circumstances.is_gso, frame.len());
    let reading = circumstances.read_through(&watched);
    assert_eq!(reading, circumstances.read(frame), "a reading depends on the frame alone");
    assert!(watched.looks.get() <= LOOKS, "{} looks at one frame", watched.looks.get());

    let expected = circumstances.on_the_wire(frame).map(|wire| read::frame(&wire, circumstances.is_gso));
    let end = end(circumstances, frame).unwrap_or(frame.len());
    match (reading.payload, &reading.packet, expected) {
        (Ok(payload), Some(packet), Some(Ok(Frame::Ip(expected)))) => {
            assert_eq!(payload == Payload::LATER_FRAGMENT, expected.is_later(), "{packet:?}");
            agrees(packet, &expected);
            assert_eq!(packet.end as usize, end);
            let reach = watched.reach.get();
            assert!(reach <= end, "octet {reach} was read of a packet that ends at {end}");
            padded(circumstances, &reading, &frame[..end]);
        }
        (Ok(Payload::ARP), Some(packet), Some(Ok(Frame::Arp(expected)))) => {
            assert_eq!(packet.source, Addr::from(expected.sender));
            // Of another kind of network, nobody here has such an address.
            let claimed = expected.hardware.map_or(u64::MAX.into(), |octets| bits(&octets));
            assert_eq!(packet.subject.to_bits(), claimed);
        }
        (Ok(Payload(ethertype)), None, Some(Ok(Frame::Foreign(expected)))) => assert_eq!(ethertype, expected),
        (Err(unreadable), None, Some(Err(expected))) => assert_eq!(unreadable.reason(), expected),
        // Too short for a tag to have been taken out of it.
        (Err(Unreadable::SHORT), None, None) => {}
        (payload, _, expected) => panic!("read as {payload:?}, by the reference as {expected:?}"),
    }
    cut(circumstances, &reading, frame, end);
    in_part(circumstances, &reading, frame);
    unwrapped(circumstances, &reading, frame);
}

fn bits(octets: &[u8]) -> u128 {
    octets.iter().fold(0, |bits, octet| bits << 8 | u128::from(*octet))
}

/// Every field is where the reference has it.
fn agrees(packet: &Packet, expected: &read::Packet) {
    assert_eq!(packet.source, Addr::from(expected.source));
    assert_eq!(packet.destination, Addr::from(expected.destination));
    assert_eq!(packet.hop_limit, expected.hop_limit);
    assert_eq!(packet.is_wrapped, expected.is_wrapped);
    match expected.fragment {
        Some(fragment) => {
            assert_eq!(packet.fragment_id, fragment.id);
            assert_eq!(packet.fragment_protocol, fragment.protocol);
            assert_eq!(usize::from(packet.fragment_offset) * 8, fragment.offset);
            assert_eq!(packet.is_first_fragment, fragment.offset == 0);
        }
        None => assert!(!packet.is_first_fragment && packet.fragment_offset == 0),
    }
    let mut transport = Transport { protocol: expected.protocol, ..Transport::default() };
    if !expected.is_later() {
        transport.headers = expected.headers as u16;
    }
    let (mut flags, mut quote) = (0, None);
    match &expected.body {
        Body::Tcp(segment) => {
            (transport.source_port, transport.destination_port) = segment.ports;
            assert_eq!(packet.sequence, segment.sequence);
            assert_eq!(packet.acknowledgement, segment.acknowledgement);
            assert_eq!(packet.payload, segment.payload);
            flags = segment.flags;
            if flags & tcp_flag::RST != 0 {
                assert_eq!(packet.is_sum_right, segment.is_sum_right);
            }
        }
        Body::Udp(source, destination) => {
            (transport.source_port, transport.destination_port) = (*source, *destination);
        }
        Body::Icmp(message) => {
            transport.icmp = u16::from_be_bytes([message.kind, message.code]);
            transport.icmp_id = message.id;
            if expected.source.is_ipv6() && matches!(message.kind, 135 | 136) {
                let target =
                    message.target.map_or(Addr::UNSPECIFIED_V6, |target| IpAddr::from(target).into());
                assert_eq!(packet.subject, target);
            }
            quote.clone_from(&message.quote);
        }
        Body::Opaque => {}
    }
    assert_eq!(packet.transport, transport);
    assert_eq!(packet.tcp_flags, flags);
    assert_eq!(packet.quote.is_some(), quote.is_some(), "{quote:?}");
    if let Some(quote) = quote {
        quotes(packet, &quote);
    }
}

/// An error quotes what the reference says that it does.
fn quotes(packet: &Packet, quote: &Quote) {
    assert_eq!(packet.destination, Addr::from(quote.source));
    assert_eq!(packet.subject, Addr::from(quote.destination));
    assert_eq!(packet.quote.protocol().0, quote.protocol);
    let number = |at: usize| u16::from_be_bytes([quote.head[at], quote.head[at + 1]]);
    let expected = match (quote.protocol, quote.source.is_ipv4()) {
        (6 | 17, _) => (number(0), number(2)),
        (1, true) | (58, false) => (number(4), number(0)),
        _ => (0, 0),
    };
    assert_eq!((packet.quote.source(), packet.quote.destination()), expected);
}

/// What lies behind the packet's end is not part of it.
fn padded(circumstances: Circumstances, reading: &Reading, packet: &[u8]) {
    if is_open(circumstances, packet) {
        // The packet is all that is there.
        return;
    }
    for octet in [0x00, 0xff, 0x45, 0x06] {
        let padded = [packet, &[octet; 46]].concat();
        assert_eq!(circumstances.read(&padded), *reading, "behind the packet: {octet:#04x}");
    }
}

/// Where the IP header begins, and whether it is IPv4's.
fn ip(circumstances: Circumstances, frame: &[u8]) -> Option<(usize, bool)> {
    let mut at = match circumstances.link {
        LinkLayer::BareIp { ethertype } => return Some((0, ethertype == 0x0800)),
        LinkLayer::Ethernet => 12,
    };
    loop {
        match u16::from_be_bytes([*frame.get(at)?, *frame.get(at + 1)?]) {
            0x8100 | 0x88a8 => at += 4,
            ethertype => return Some((at + 2, ethertype == 0x0800)),
        }
    }
}

/// What the IP header says of the packet's length, and how many octets that does not count.
fn stated(circumstances: Circumstances, frame: &[u8]) -> Option<(usize, usize)> {
    let (at, is_v4) = ip(circumstances, frame)?;
    let (field, not_counted) = if is_v4 { (at + 2, at) } else { (at + 4, at + 40) };
    let length = u16::from_be_bytes([*frame.get(field)?, *frame.get(field + 1)?]);
    Some((length.into(), not_counted))
}

/// Whether the packet's length is left open.
fn is_open(circumstances: Circumstances, frame: &[u8]) -> bool {
    circumstances.is_gso && stated(circumstances, frame).is_some_and(|(length, _)| length == 0)
}

/// Where the packet ends, if it is all there.
fn end(circumstances: Circumstances, frame: &[u8]) -> Option<usize> {
    let (length, not_counted) = stated(circumstances, frame)?;
    let end = not_counted + length;
    (!is_open(circumstances, frame) && end <= frame.len()).then_some(end)
}

/// A frame that was cut is unreadable, or reads as the whole one does.
fn cut(circumstances: Circumstances, reading: &Reading, frame: &[u8], end: usize) {
    let is_open = is_open(circumstances, frame);
    if is_open && reading.packet.is_none() {
        // Of two lengths that are left open, the shorter may well be the one that is right.
        return;
    }
    for length in (0..frame.len()).filter(|length| *length <= CUT_EVERYWHERE || length.abs_diff(end) < 4) {
        let short = circumstances.read(&frame[..length]);
        match short.payload {
            Err(_) => {}
            Ok(Payload::IP | Payload::LATER_FRAGMENT) => {
                assert_eq!(short.payload, reading.payload, "cut to {length} octets");
                let Some(mut packet) = short.packet else { panic!("IP without a packet") };
                assert!(length >= end || is_open, "{length} octets of {end} read as {packet:?}");
                if is_open && let Some(whole) = &reading.packet {
                    packet.payload = whole.payload;
                    packet.end = whole.end;
                    // Of a reset whose length is open, as of no other, the sum depends on it.
                    packet.is_sum_right = whole.is_sum_right;
                    (packet.quote, packet.subject) = (whole.quote, whole.subject);
                }
                assert_eq!(Some(packet), reading.packet, "cut to {length} octets");
            }
            Ok(_) => assert_eq!(short, *reading, "cut to {length} octets"),
        }
    }
}

/// A frame whose first buffer ends early is to be made contiguous, or reads as the whole one does.
fn in_part(circumstances: Circumstances, reading: &Reading, frame: &[u8]) {
    for linear in 0..frame.len().min(CUT_EVERYWHERE) {
        let mut packet = Packet::default();
        let first_buffer = Watched::new(frame, circumstances.is_gso, linear);
        let part = circumstances.read_into(&mut packet, &first_buffer);
        if part.payload == Err(Unreadable::SHORT) {
            // The programs then make more of it contiguous, and read it again.
            let whole = Slice { frame, is_gso: circumstances.is_gso };
            assert_eq!(circumstances.read_into(&mut packet, &whole), *reading, "after {linear} octets");
            continue;
        }
        assert_eq!(part, *reading, "with {linear} octets at hand");
    }
}

/// A tag in the frame is a tag out of it, and a link header says no more than its EtherType.
fn unwrapped(circumstances: Circumstances, reading: &Reading, frame: &[u8]) {
    if circumstances.link != LinkLayer::Ethernet || frame.len() < 18 {
        return;
    }
    let ethertype = u16::from_be_bytes([frame[12], frame[13]]);
    let tags_out = circumstances.tags_out;
    if matches!(ethertype, 0x8100 | 0x88a8) && tags_out < 2 {
        let without = [&frame[..12], &frame[16..]].concat();
        let out = Circumstances { tags_out: tags_out + 1, ..circumstances };
        assert_eq!(out.read(&without).behind(0), reading.behind(4), "with its tag taken out");
    }
    if matches!(ethertype, 0x0800 | 0x86dd) {
        let bare = Circumstances { link: LinkLayer::BareIp { ethertype }, ..circumstances };
        assert_eq!(bare.read(&frame[14..]), reading.behind(14), "without its link header");
    }
}
