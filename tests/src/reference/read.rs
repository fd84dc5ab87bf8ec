//! Frames, read by hand: section 3 of `docs/semantics.md` in the order of the headers.
//!
//! Whatever is wrong is told of the outermost header that is wrong. Nothing is judged here but
//! structure and martians; what an ICMP error quotes is [`quote`]'s to read.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use sg_common::verdict::DropReason;

use super::quote::{self, Quote};
use crate::packet::checksum;

/// What a frame carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// An IP packet.
    Ip(Packet),
    /// An ARP message.
    Arp(Arp),
    /// Something else, by its EtherType; 0 for 802.3 and for what lies behind too many tags.
    Foreign(u16),
}

/// Who the sender of an ARP message says it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arp {
    /// Its Ethernet address; none where the message is not of IPv4 over Ethernet.
    pub hardware: Option<[u8; 6]>,
    /// Its IPv4 address.
    pub sender: IpAddr,
    /// The IPv4 address that it asks for.
    pub target: IpAddr,
}

/// An IP packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Who sends it.
    pub source: IpAddr,
    /// To whom.
    pub destination: IpAddr,
    /// Time to live or hop limit.
    pub hop_limit: u8,
    /// Whether it is a fragment or lies behind extension headers.
    pub is_wrapped: bool,
    /// The protocol behind all extension headers.
    pub protocol: u8,
    /// What that protocol tells; of a later fragment nothing.
    pub body: Body,
    /// What makes it a fragment of several.
    pub fragment: Option<Fragment>,
    /// Octets from where it can be cut up to the end of the transport header.
    pub headers: usize,
}

/// A part of a datagram that was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// What all of its parts share.
    pub id: u32,
    /// The protocol that the header tells which is in every part.
    pub protocol: u8,
    /// Where it begins, in octets.
    pub offset: usize,
}

impl Packet {
    /// Whether it is a fragment, but not the first.
    #[must_use]
    pub fn is_later(&self) -> bool {
        self.fragment.is_some_and(|fragment| fragment.offset > 0)
    }
}

/// A transport header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// TCP.
    Tcp(Segment),
    /// UDP: source and destination port.
    Udp(u16, u16),
    /// The family's own ICMP.
    Icmp(Message),
    /// A protocol without ports.
    Opaque,
}

/// A TCP header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Source and destination port.
    pub ports: (u16, u16),
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgement number.
    pub acknowledgement: u32,
    /// Flags from FIN (bit 0) to CWR (bit 7).
    pub flags: u8,
    /// Octets behind the header.
    pub payload: u32,
    /// Whether a receiver would believe its checksum. That of more than 60 octets nobody adds up.
    pub is_sum_right: bool,
}

/// An ICMP header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// The identifier of a query or reply.
    pub id: u16,
    /// Neighbour solicitations and advertisements: the address that they are about.
    pub target: Option<Ipv6Addr>,
    /// Errors: the packet that they quote, sent by whom they go to.
    pub quote: Option<Quote>,
}

const MALFORMED: DropReason = DropReason::Malformed;

/// Who sends a frame.
#[must_use]
pub fn source_mac(frame: &[u8]) -> [u8; 6] {
    let mut mac = [0; 6];
    mac.copy_from_slice(&frame[6..12]);
    mac
}

/// Reads an Ethernet frame. `is_gso`: it stands for several packets, and a length of 0 for one that
/// 16 bits cannot say.
///
/// # Errors
/// Why it is dropped.
pub fn frame(frame: &[u8], is_gso: bool) -> Result<Frame, DropReason> {
    let mut ethertype = number(frame, 12, 2)?;
    let mut at = 14;
    let mut tags = 0;
    while ethertype == 0x8100 || ethertype == 0x88a8 {
        tags += 1;
        if tags > 2 {
            return Ok(Frame::Foreign(0));
        }
        ethertype = number(frame, at + 2, 2)?;
        at += 4;
    }
    let packet = frame.get(at..).ok_or(MALFORMED)?;
    match ethertype {
        0x0800 => ipv4(packet, is_gso).map(Frame::Ip),
        0x86dd => ipv6(packet, is_gso).map(Frame::Ip),
        0x0806 => arp(packet).map(Frame::Arp),
        0..0x0600 => Ok(Frame::Foreign(0)),
        other => Ok(Frame::Foreign(other as u16)),
    }
}

/// RFC 826, for IPv4 over Ethernet.
fn arp(bytes: &[u8]) -> Result<Arp, DropReason> {
    let message = bytes.get(..28).ok_or(MALFORMED)?;
    let mut hardware = [0; 6];
    hardware.copy_from_slice(&message[8..14]);
    let address = |at| Ok::<IpAddr, DropReason>(Ipv4Addr::from(number(message, at, 4)?).into());
    let is_usual = message[2..6] == [0x08, 0x00, 6, 4];
    Ok(Arp { hardware: is_usual.then_some(hardware), sender: address(14)?, target: address(24)? })
}

/// The big-endian number of `length` octets at `at`.
pub(super) fn number(bytes: &[u8], at: usize, length: usize) -> Result<u32, DropReason> {
    let octets = bytes.get(at..at + length).ok_or(MALFORMED)?;
    Ok(octets.iter().fold(0, |number, octet| number << 8 | u32::from(*octet)))
}

pub(super) fn short(bytes: &[u8], at: usize) -> Result<u16, DropReason> {
    Ok(number(bytes, at, 2)? as u16)
}

pub(super) fn octet(bytes: &[u8], at: usize) -> Result<u8, DropReason> {
    bytes.get(at).copied().ok_or(MALFORMED)
}

fn ipv4(bytes: &[u8], is_gso: bool) -> Result<Packet, DropReason> {
    let first = octet(bytes, 0)?;
    let header = usize::from(first & 0x0f) * 4;
    number(bytes, 16, 4)?;
    if first >> 4 != 4 || header < 20 {
        return Err(MALFORMED);
    }
    let stated = usize::from(short(bytes, 2)?);
    let length = if stated == 0 && is_gso { bytes.len() } else { stated };
    if length < header || length > bytes.len() {
        return Err(MALFORMED);
    }
    let source = Ipv4Addr::from(number(bytes, 12, 4)?);
    let destination = Ipv4Addr::from(number(bytes, 16, 4)?);
    let no_source = source.is_loopback() || source.is_multicast() || source.is_broadcast();
    if no_source || destination.is_loopback() || destination.is_unspecified() {
        return Err(DropReason::Martian);
    }
    options(&bytes[20..header])?;
    let place = short(bytes, 6)?;
    let (has_more, offset) = (place & 0x2000 != 0, usize::from(place & 0x1fff) * 8);
    let protocol = octet(bytes, 9)?;
    let fragment = Fragment { id: short(bytes, 4)?.into(), protocol, offset };
    let packet = Packet {
        source: source.into(),
        destination: destination.into(),
        hop_limit: octet(bytes, 8)?,
        is_wrapped: has_more || offset > 0,
        protocol,
        body: Body::Opaque,
        fragment: (has_more || offset > 0).then_some(fragment),
        headers: 0,
    };
    transport(packet, &bytes[header..length], 0, is_gso)
}

/// RFC 791: one octet of padding, the end of the list, or a type, a length and data.
fn options(bytes: &[u8]) -> Result<(), DropReason> {
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            0 => return Ok(()),
            1 => at += 1,
            // Source routes, loose and strict.
            131 | 137 => return Err(MALFORMED),
            _ => {
                let length = usize::from(octet(bytes, at + 1)?);
                if length < 2 || at + length > bytes.len() {
                    return Err(MALFORMED);
                }
                at += length;
            }
        }
    }
    Ok(())
}

fn ipv6(bytes: &[u8], is_gso: bool) -> Result<Packet, DropReason> {
    number(bytes, 36, 4)?;
    if octet(bytes, 0)? >> 4 != 6 {
        return Err(MALFORMED);
    }
    let stated = usize::from(short(bytes, 4)?);
    let end = if stated == 0 && is_gso { bytes.len() } else { 40 + stated };
    let bytes = bytes.get(..end).ok_or(MALFORMED)?;
    let address = |at: usize| {
        let mut octets = [0; 16];
        octets.copy_from_slice(&bytes[at..at + 16]);
        Ipv6Addr::from(octets)
    };
    let (source, destination) = (address(8), address(24));
    let is_mapped = |address: Ipv6Addr| address.to_ipv4_mapped().is_some();
    let no_source = source.is_loopback() || source.is_multicast() || is_mapped(source);
    let no_destination = destination.is_loopback() || destination.is_unspecified() || is_mapped(destination);
    if no_source || no_destination {
        return Err(DropReason::Martian);
    }
    let Chain { protocol, at, cut, fragment } = chain(bytes)?;
    let packet = Packet {
        source: source.into(),
        destination: destination.into(),
        hop_limit: octet(bytes, 7)?,
        is_wrapped: at != 40,
        protocol,
        body: Body::Opaque,
        fragment,
        headers: 0,
    };
    transport(packet, &bytes[at..], cut.map_or(0, |cut| at - cut), is_gso)
}

/// Where the extension headers of an IPv6 packet lead.
pub(super) struct Chain {
    /// The protocol behind them.
    pub(super) protocol: u8,
    /// Where that begins.
    pub(super) at: usize,
    /// Where the part begins that can be cut: behind the fragment header.
    cut: Option<usize>,
    /// What the fragment header tells, where it says more than that there could have been several.
    pub(super) fragment: Option<Fragment>,
}

/// The extension headers of an IPv6 packet that ends where `bytes` end. Behind the fragment header of
/// a later fragment there are none.
pub(super) fn chain(bytes: &[u8]) -> Result<Chain, DropReason> {
    let mut chain = Chain { protocol: octet(bytes, 6)?, at: 40, cut: None, fragment: None };
    let mut headers = 0;
    let mut fragments = 0;
    loop {
        let kind = chain.protocol;
        if ![0, 43, 44, 51, 60, 135].contains(&kind) {
            return Ok(chain);
        }
        headers += 1;
        if headers > 8 {
            return Err(DropReason::ExtensionChainTooLong);
        }
        fragments += usize::from(kind == 44);
        let header = bytes.get(chain.at..chain.at + 8).ok_or(MALFORMED)?;
        // Hop-by-hop options come first or not at all, and nobody cuts a packet twice.
        if (kind == 0 && headers > 1) || fragments > 1 {
            return Err(MALFORMED);
        }
        let units = usize::from(header[1]);
        let length = match kind {
            44 => 8,
            51 => (units + 2) * 4,
            _ => (units + 1) * 8,
        };
        if kind == 43 && (header[2] == 0 || header[3] != 0) {
            return Err(DropReason::Martian);
        }
        chain.protocol = header[0];
        chain.at += length;
        if kind == 44 {
            let place = short(header, 2)?;
            let offset = usize::from(place >> 3) * 8;
            let fragment = Fragment { id: number(header, 4, 4)?, protocol: header[0], offset };
            chain.cut = Some(chain.at);
            chain.fragment = (offset > 0 || place & 1 != 0).then_some(fragment);
        }
        if chain.at > bytes.len() {
            return Err(MALFORMED);
        }
        if chain.fragment.is_some_and(|fragment| fragment.offset > 0) {
            return Ok(chain);
        }
    }
}

/// What lies behind the IP header and its extensions, of which `extended` octets can be cut off.
fn transport(packet: Packet, bytes: &[u8], extended: usize, is_gso: bool) -> Result<Packet, DropReason> {
    if let Some(Fragment { offset, .. }) = packet.fragment.filter(|fragment| fragment.offset > 0) {
        // The TCP header was in the first one (RFC 1858), and no datagram is longer than this.
        let replaces = packet.protocol == 6 && offset < 20;
        if replaces || offset + bytes.len() > 65_535 {
            return Err(MALFORMED);
        }
        return if packet.source.is_unspecified() { Err(DropReason::Martian) } else { Ok(packet) };
    }
    let (body, length) = body(&packet, bytes, is_gso)?;
    unspecified(Packet { body, headers: extended + length, ..packet })
}

/// The transport header at the start of `bytes`, which end with the IP packet, and its length.
fn body(packet: &Packet, bytes: &[u8], is_gso: bool) -> Result<(Body, usize), DropReason> {
    match (packet.protocol, packet.source.is_ipv6()) {
        (6, _) => {
            let header = usize::from(octet(bytes, 12)? >> 4) * 4;
            if bytes.len() < 20 || header < 20 || header > bytes.len() {
                return Err(MALFORMED);
            }
            let segment = Segment {
                ports: (short(bytes, 0)?, short(bytes, 2)?),
                sequence: number(bytes, 4, 4)?,
                acknowledgement: number(bytes, 8, 4)?,
                flags: octet(bytes, 13)?,
                payload: (bytes.len() - header) as u32,
                is_sum_right: is_sum_right(packet, bytes),
            };
            Ok((Body::Tcp(segment), header))
        }
        (17, _) => {
            let length = usize::from(short(bytes, 4)?);
            // What follows in later fragments counts too.
            let reaches_past = length > bytes.len() && packet.fragment.is_none();
            let is_unsaid = length == 0 && is_gso;
            if bytes.len() < 8 || ((length < 8 || reaches_past) && !is_unsaid) {
                return Err(MALFORMED);
            }
            Ok((Body::Udp(short(bytes, 0)?, short(bytes, 2)?), 8))
        }
        (1, false) | (58, true) => {
            number(bytes, 4, 4)?;
            let kind = octet(bytes, 0)?;
            let is_v6 = packet.source.is_ipv6();
            let target = match kind {
                // One that ends before its target is about nobody: no receiver takes it.
                135 | 136 if is_v6 => bytes.get(8..24).map(|target| {
                    let mut octets = [0; 16];
                    octets.copy_from_slice(target);
                    Ipv6Addr::from(octets)
                }),
                _ => None,
            };
            let is_error = if is_v6 { [1, 2, 3, 4].contains(&kind) } else { [3, 4, 11, 12].contains(&kind) };
            let quote = if is_error { quote::read(&bytes[8..], packet.destination) } else { None };
            let (code, id) = (octet(bytes, 1)?, short(bytes, 4)?);
            Ok((Body::Icmp(Message { kind, code, id, target, quote }), 8))
        }
        _ => Ok((Body::Opaque, 0)),
    }
}

/// Whether a whole TCP segment's checksum is right: complete, or that of the pseudo-header alone, as the
/// kernel leaves it to the hardware.
fn is_sum_right(packet: &Packet, segment: &[u8]) -> bool {
    let mut pseudo = vec![];
    for address in [packet.source, packet.destination] {
        match address {
            IpAddr::V4(address) => pseudo.extend(address.octets()),
            IpAddr::V6(address) => pseudo.extend(address.octets()),
        }
    }
    pseudo.extend((segment.len() as u32).to_be_bytes());
    pseudo.extend([0, 0, 0, 6]);
    let begun = !checksum(&[&pseudo]);
    let is_whole = packet.fragment.is_none() && segment.len() <= 60;
    is_whole && (checksum(&[&pseudo, segment]) == 0 || segment[16..18] == begun.to_be_bytes())
}

/// Nobody sends from the unspecified address but a DHCP client and, over IPv6, who has no address
/// yet: address detection, router solicitation, listener discovery.
fn unspecified(packet: Packet) -> Result<Packet, DropReason> {
    let may_be = match (&packet.body, packet.source.is_ipv6()) {
        (Body::Udp(source, destination), false) => (*source, *destination) == (68, 67),
        (Body::Icmp(message), true) => [130, 131, 132, 133, 135, 143].contains(&message.kind),
        _ => false,
    };
    if packet.source.is_unspecified() && !may_be { Err(DropReason::Martian) } else { Ok(packet) }
}
