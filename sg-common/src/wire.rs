//! Reads a frame: what it is, who sent it to whom, and what a rule or a flow needs of it.
//!
//! One parser serves the programs, the agent, the tests and the fuzzers; they differ in the
//! [`Cursor`] that they read through. It judges structure only: what cannot be read is a
//! [`DropReason`], never a pass. Whether a readable packet may pass is [`crate::decide`]'s business.
//!
//! Every length that came off the wire is compared with what is there before it is used, and the
//! transport header is bounded by the IP length, never by the frame: bytes in the Ethernet
//! padding are not part of a packet.

use crate::{addr::Addr, verdict::DropReason};

mod eth;
mod ipv4;
mod ipv6;
mod l4;
mod plain;
mod quote;

pub use ipv6::{ExtensionBits, extension as ipv6_extension};
pub use l4::{SUM_MAX, sum};
pub use quote::QuoteBits;

/// Reads a frame's bytes. Offsets count from the start of the frame.
pub trait Cursor {
    /// What a successful look returns.
    type Bytes: Bytes;

    /// The `length` bytes at `offset`, or `None` where they are not at hand: past the frame, or
    /// past the part of it that lies in the first buffer.
    fn look(&self, offset: usize, length: usize) -> Option<Self::Bytes>;

    /// [`Self::look`] at the start of the frame.
    #[inline(always)]
    fn look_at_start(&self, length: usize) -> Option<Self::Bytes> {
        self.look(0, length)
    }

    /// Whether the whole frame, all buffers counted, has at least `length` bytes.
    fn has(&self, length: usize) -> bool;

    /// Length of the frame in bytes, as far as it is known without cost.
    fn length(&self) -> usize;

    /// Whether the frame stands for several packets that the hardware will cut or has joined: its
    /// IP length may then be 0 because the true one does not fit into 16 bits.
    fn is_gso(&self) -> bool;

    /// What is wrong with the IPv4 options from `start` to `end`, if anything is.
    ///
    /// This and the next are functions of their own in the programs, which the verifier then judges
    /// once, and beyond which it does not tell one chain of headers from another.
    #[inline(always)]
    fn ipv4_options(&self, start: usize, end: usize) -> ReadingBits
    where
        Self: Sized,
    {
        ipv4_options(self, start, end)
    }

    /// The IPv6 extension header of kind `kind` at `at`.
    #[inline(always)]
    fn ipv6_extension(&self, kind: u8, at: usize) -> ExtensionBits
    where
        Self: Sized,
    {
        ipv6_extension(self, kind, at)
    }

    /// The sum of the `length` octets at `at` as big-endian 16-bit numbers, for the Internet
    /// checksum; `None` where they are not at hand. No octet past [`SUM_MAX`] is added: the caller
    /// does not ask for more.
    #[inline(always)]
    fn sum(&self, at: usize, length: usize) -> Option<u32>
    where
        Self: Sized,
    {
        sum(self, at, length)
    }
}

/// Bytes that a [`Cursor`] has found. Offsets count from the start of what was found, and stay
/// within it; numbers are big-endian on the wire and in host order here.
pub trait Bytes: Copy {
    /// One octet.
    fn u8(self, at: usize) -> u8;
    /// One octet, read anew: the verifier does not know that it is what [`Self::u8`] has read, and
    /// tells apart no packets by it.
    #[inline(always)]
    fn u8_anew(self, at: usize) -> u8 {
        self.u8(at)
    }
    /// Two octets.
    fn u16(self, at: usize) -> u16;
    /// Four octets.
    fn u32(self, at: usize) -> u32;
    /// Eight octets.
    fn u64(self, at: usize) -> u64;
}

/// What lies on the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkLayer {
    /// Ethernet frames.
    Ethernet,
    /// Bare IP packets, with the EtherType that the kernel gives them.
    BareIp {
        /// `0x0800` or `0x86dd`; anything else is dropped.
        ethertype: u16,
    },
}

/// What the frame carries, by its EtherType. IPv6 counts as [`Payload::IP`] too.
///
/// This and [`Unreadable`] are plain numbers, not enums: a variant without a payload leaves a
/// register undefined, and the verifier refuses to see such a register copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Payload(pub u16);

impl Payload {
    /// IP of either version: the [`Packet`] has been filled in.
    pub const IP: Self = Self(0x0800);
    /// ARP.
    pub const ARP: Self = Self(0x0806);
    /// A later fragment of an IP packet: the [`Packet`] lacks all that only the first one tells. No
    /// EtherType is this small.
    pub const LATER_FRAGMENT: Self = Self(1);
    /// 802.3 frames, and what lies behind too many VLAN tags.
    pub const NONE: Self = Self(0);
}

/// Why a frame could not be read: the number of a [`DropReason`], or 0 for [`Unreadable::SHORT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Unreadable(u16);

impl Unreadable {
    /// A header is not in the first buffer. Whoever can make more of the frame contiguous tries
    /// again; else the frame is malformed.
    pub const SHORT: Self = Self(0);

    /// The frame is to be dropped.
    #[inline(always)]
    #[must_use]
    pub const fn drop(reason: DropReason) -> Self {
        Self(reason as u16)
    }

    /// The reason for the drop.
    #[inline(always)]
    #[must_use]
    pub const fn reason(self) -> DropReason {
        match DropReason::from_number(self.0 as u8) {
            Some(reason) => reason,
            None => DropReason::Malformed,
        }
    }
}

/// A reading in one register, as a BPF function can return it.
///
/// Bits 0–15: the payload, or why there is none; bit 16: there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct ReadingBits(pub u32);

impl ReadingBits {
    const UNREADABLE: u32 = 1 << 16;

    /// Packs a reading.
    #[inline(always)]
    #[must_use]
    pub const fn pack(reading: Result<Payload, Unreadable>) -> Self {
        match reading {
            Ok(Payload(ethertype)) => Self(ethertype as u32),
            Err(Unreadable(reason)) => Self(Self::UNREADABLE | reason as u32),
        }
    }

    /// Unpacks a reading.
    ///
    /// # Errors
    ///
    /// What was packed as one.
    #[inline(always)]
    pub const fn unpack(self) -> Result<Payload, Unreadable> {
        let number = self.0 as u16;
        if self.0 & Self::UNREADABLE == 0 { Ok(Payload(number)) } else { Err(Unreadable(number)) }
    }
}

/// A malformed frame, as an error to return.
const MALFORMED: Unreadable = Unreadable::drop(DropReason::Malformed);

/// TCP flag bits, as in octet 13 of the header.
pub mod tcp_flag {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset the connection.
    pub const RST: u8 = 0x04;
    /// Push.
    pub const PSH: u8 = 0x08;
    /// The acknowledgement number counts.
    pub const ACK: u8 = 0x10;
    /// The urgent pointer counts.
    pub const URG: u8 = 0x20;

    /// Whether an endpoint sends these flags together: a SYN alone or with ACK, a RST alone or with
    /// ACK, or an ACK with or without FIN. PSH, URG and the congestion bits do not matter.
    #[inline(always)]
    #[must_use]
    pub const fn are_sane(flags: u8) -> bool {
        let bits = flags & (FIN | SYN | RST | ACK);
        bits == SYN
            || bits == SYN | ACK
            || bits == RST
            || bits == RST | ACK
            || bits == ACK
            || bits == FIN | ACK
    }
}

/// What the decision needs of an IP packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packet {
    /// Source address; of ARP the sender's.
    pub source: Addr,
    /// Destination address.
    pub destination: Addr,
    /// The frame's Ethernet source address in the low 48 bits; 0 on interfaces without Ethernet.
    pub source_mac: u64,
    /// ICMP errors: the destination of the packet that they quote; neighbour solicitations and
    /// advertisements: their target; ARP: in the low 48 bits, the Ethernet address that the sender
    /// claims.
    pub subject: Addr,
    /// ICMP errors: what else the quoted packet was.
    pub quote: QuoteBits,
    /// What a later fragment of the same datagram has in common with this one.
    pub transport: Transport,
    /// Fragments: the datagram's identification; that of IPv4 has 16 bits.
    pub fragment_id: u32,
    /// TCP: sequence number.
    pub sequence: u32,
    /// TCP: acknowledgement number.
    pub acknowledgement: u32,
    /// Octets behind the TCP header.
    pub payload: u32,
    /// Octets of the frame up to the end of the IP packet.
    pub end: u32,
    /// Fragments: where its octets lie in the datagram, in units of 8.
    pub fragment_offset: u16,
    /// Fragments: the protocol that the IP header or the fragment header tells, which is all that a
    /// later one has.
    pub fragment_protocol: u8,
    /// TCP: bits of [`tcp_flag`]; 0 in later fragments.
    pub tcp_flags: u8,
    /// Time to live or hop limit.
    pub hop_limit: u8,
    /// Whether the packet is a fragment, or lies behind IPv6 extension headers.
    pub is_wrapped: bool,
    /// Whether it is the first of several fragments.
    pub is_first_fragment: bool,
    /// TCP: whether a reset's checksum is right. Of other packets nobody asks.
    pub is_sum_right: bool,
}

/// What rules and flows are asked for, and only the first fragment of a datagram tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transport {
    /// Source port of TCP and UDP; else 0.
    pub source_port: u16,
    /// Destination port of TCP and UDP; else 0.
    pub destination_port: u16,
    /// ICMP and ICMPv6: type in the high octet, code in the low.
    pub icmp: u16,
    /// ICMP queries: the identifier.
    pub icmp_id: u16,
    /// Octets from where the datagram can be cut up to the end of the transport header.
    pub headers: u16,
    /// The protocol behind all extension headers.
    pub protocol: u8,
}

impl Transport {
    /// As two words, for shared memory.
    #[inline(always)]
    #[must_use]
    pub const fn to_words(self) -> [u64; 2] {
        let Self { source_port, destination_port, icmp, icmp_id, headers, protocol } = self;
        let first = (source_port as u64) << 48
            | (destination_port as u64) << 32
            | (icmp as u64) << 16
            | icmp_id as u64;
        [first, (headers as u64) << 8 | protocol as u64]
    }

    /// What such words say.
    #[inline(always)]
    #[must_use]
    pub const fn from_words([first, second]: [u64; 2]) -> Self {
        Self {
            source_port: (first >> 48) as u16,
            destination_port: (first >> 32) as u16,
            icmp: (first >> 16) as u16,
            icmp_id: first as u16,
            headers: (second >> 8) as u16,
            protocol: second as u8,
        }
    }
}

/// Reads the frame behind `cursor` into `packet`.
///
/// `tags_out` is the number of VLAN tags that were taken out of the frame before it came here:
/// they count as if they were in it.
///
/// # Errors
///
/// [`Unreadable`]; `packet` then holds nothing of use.
#[inline(always)]
pub fn parse<C: Cursor>(
    cursor: &C,
    link: LinkLayer,
    tags_out: u32,
    packet: &mut Packet,
) -> Result<Payload, Unreadable> {
    if link == LinkLayer::Ethernet
        && let Some(plain) = parse_plain(cursor)
    {
        *packet = plain;
        return Ok(Payload::IP);
    }
    let payload = parse_headers(cursor, link, tags_out, packet)?;
    if payload == Payload::IP && packet.quote.is_unread() {
        parse_quote(cursor, packet)?;
    }
    Ok(payload)
}

/// The first step of [`parse`], which for most Ethernet frames is the last.
#[inline(always)]
#[must_use]
pub fn parse_plain<C: Cursor>(cursor: &C) -> Option<Packet> {
    plain::parse(cursor)
}

/// The second step of [`parse`]: all but what an ICMP error quotes.
///
/// # Errors
///
/// As [`parse`].
#[inline(always)]
pub fn parse_headers<C: Cursor>(
    cursor: &C,
    link: LinkLayer,
    tags_out: u32,
    packet: &mut Packet,
) -> Result<Payload, Unreadable> {
    let (ethertype, offset) = match link {
        LinkLayer::Ethernet => eth::parse(cursor, tags_out, packet)?,
        LinkLayer::BareIp { ethertype } => (ethertype, 0),
    };
    let is_bare = matches!(link, LinkLayer::BareIp { .. });
    match ethertype {
        eth::IPV4 => ipv4::parse(cursor, offset, packet),
        eth::IPV6 => ipv6::parse(cursor, offset, packet),
        _ if is_bare => Ok(Payload::NONE),
        eth::ARP => eth::arp(cursor, offset, packet),
        other => Ok(Payload(other)),
    }
}

/// The third step of [`parse`], after which [`Packet::quote`] is no longer unread.
///
/// # Errors
///
/// As [`parse`].
#[inline(always)]
pub fn parse_quote<C: Cursor>(cursor: &C, packet: &mut Packet) -> Result<(), Unreadable> {
    quote::parse(cursor, packet)
}

/// A frame in memory, whole.
#[derive(Clone, Copy, Debug)]
pub struct Slice<'a> {
    /// The frame.
    pub frame: &'a [u8],
    /// What [`Cursor::is_gso`] answers.
    pub is_gso: bool,
}

impl<'a> Cursor for Slice<'a> {
    type Bytes = &'a [u8];

    fn look(&self, offset: usize, length: usize) -> Option<&'a [u8]> {
        self.frame.get(offset..offset.checked_add(length)?)
    }

    fn has(&self, length: usize) -> bool {
        self.frame.len() >= length
    }

    fn length(&self) -> usize {
        self.frame.len()
    }

    fn is_gso(&self) -> bool {
        self.is_gso
    }
}

/// [`Cursor::ipv4_options`] as it is by default.
#[inline(always)]
pub fn ipv4_options<C: Cursor>(cursor: &C, start: usize, end: usize) -> ReadingBits {
    ReadingBits::pack(ipv4::options(cursor, start, end).map(|()| Payload::IP))
}

/// The big-endian number in `N` octets at `at`. Every caller looks for what it reads, so that the
/// octets are there; were they not, zeros would be read and no memory touched.
fn octets<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    debug_assert!(at + N <= bytes.len(), "a field at {at} was not looked for");
    let mut octets = [0; N];
    if let Some(found) = bytes.get(at..at + N) {
        octets.copy_from_slice(found);
    }
    octets
}

impl Bytes for &[u8] {
    fn u8(self, at: usize) -> u8 {
        octets::<1>(self, at)[0]
    }

    fn u16(self, at: usize) -> u16 {
        u16::from_be_bytes(octets(self, at))
    }

    fn u32(self, at: usize) -> u32 {
        u32::from_be_bytes(octets(self, at))
    }

    fn u64(self, at: usize) -> u64 {
        u64::from_be_bytes(octets(self, at))
    }
}

#[cfg(test)]
mod tests;
