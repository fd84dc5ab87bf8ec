//! The frames that most are: TCP or UDP, IP without options, extension headers or fragments, nothing
//! in front of it but an Ethernet header, and nothing wrong with it.
//!
//! All that is read lies at a constant place and is looked for once, so that the programs read such a
//! frame in a third of the time. Whatever is not so plain is left to the parser of all frames, and it
//! alone says what is wrong with one; of a plain one both say the same.

use super::{Bytes, Cursor, Packet, QuoteBits, Transport, eth, ipv4, ipv6, l4, tcp_flag};
use crate::{addr::Addr, tuple::Protocol};

/// Octets of the Ethernet header.
const ETHERNET: usize = 14;
/// Version and length of an IPv4 header without options.
const IPV4_PLAIN: u8 = 0x45;
/// Octets of such a header.
const IPV4: usize = 20;
/// Octets of an IPv6 header.
const IPV6: usize = 40;
/// All but the bit that forbids fragments.
const FRAGMENTED: u16 = 0x3fff;

/// Reads a plain frame. `None`: it is not, and nothing has been read.
#[inline(always)]
pub(super) fn parse<C: Cursor>(cursor: &C) -> Option<Packet> {
    let ethernet = cursor.look_at_start(ETHERNET)?;
    match ethernet.u16(12) {
        eth::IPV4 => ipv4(cursor),
        eth::IPV6 => ipv6(cursor),
        _ => None,
    }
}

#[inline(always)]
fn ipv4<C: Cursor>(cursor: &C) -> Option<Packet> {
    let frame = cursor.look_at_start(ETHERNET + IPV4)?;
    let length = usize::from(frame.u16(16));
    let is_plain = frame.u8(14) == IPV4_PLAIN && frame.u16(20) & FRAGMENTED == 0;
    let (source, destination) = (Addr::v4(frame.u32(26)), Addr::v4(frame.u32(30)));
    if !is_plain || ipv4::is_martian(source, destination) || source.v4_bits() == 0 || length < IPV4 {
        return None;
    }
    let ends = Ends { source, destination, hop_limit: frame.u8(22), protocol_at: 23 };
    transport(cursor, ETHERNET + IPV4, length - IPV4, ends)
}

#[inline(always)]
fn ipv6<C: Cursor>(cursor: &C) -> Option<Packet> {
    let frame = cursor.look_at_start(ETHERNET + IPV6)?;
    let source = Addr::v6(frame.u64(22), frame.u64(30));
    let destination = Addr::v6(frame.u64(38), frame.u64(46));
    let is_plain = frame.u8(14) >> 4 == 6 && source != Addr::UNSPECIFIED_V6;
    if !is_plain || ipv6::is_martian(source, destination) {
        return None;
    }
    let ends = Ends { source, destination, hop_limit: frame.u8(21), protocol_at: 20 };
    transport(cursor, ETHERNET + IPV6, frame.u16(18).into(), ends)
}

/// What the IP header tells.
#[derive(Clone, Copy)]
struct Ends {
    source: Addr,
    destination: Addr,
    hop_limit: u8,
    /// Where the protocol stands.
    protocol_at: usize,
}

/// Reads the transport header at `at`, `length` octets before the packet's end.
#[inline(always)]
fn transport<C: Cursor>(cursor: &C, at: usize, length: usize, ends: Ends) -> Option<Packet> {
    if !cursor.has(at + length) {
        return None;
    }
    let Ends { source, destination, hop_limit, protocol_at } = ends;
    let start = cursor.look_at_start(ETHERNET + IPV4)?;
    let protocol = start.u8_anew(protocol_at);
    let mut packet = Packet {
        source,
        destination,
        source_mac: eth::mac(start, 6),
        quote: QuoteBits::NONE,
        hop_limit,
        end: (at + length) as u32,
        ..Packet::default()
    };
    match Protocol(start.u8(protocol_at)) {
        Protocol::TCP if length >= l4::TCP_HEADER => {
            let frame = cursor.look_at_start(at + l4::TCP_HEADER)?;
            let headers = usize::from(frame.u8(at + 12) >> 4) * 4;
            let flags = frame.u8(at + 13);
            // The checksum of a reset is looked at elsewhere.
            if headers < l4::TCP_HEADER || headers > length || flags & tcp_flag::RST != 0 {
                return None;
            }
            packet.transport = Transport {
                source_port: frame.u16(at),
                destination_port: frame.u16(at + 2),
                headers: headers as u16,
                protocol,
                ..Transport::default()
            };
            packet.sequence = frame.u32(at + 4);
            packet.acknowledgement = frame.u32(at + 8);
            packet.payload = (length - headers) as u32;
            packet.tcp_flags = flags;
        }
        Protocol::UDP if length >= l4::SHORT_HEADER => {
            let frame = cursor.look_at_start(at + l4::SHORT_HEADER)?;
            let stated = usize::from(frame.u16(at + 4));
            if stated < l4::SHORT_HEADER || stated > length {
                return None;
            }
            packet.transport = Transport {
                source_port: frame.u16(at),
                destination_port: frame.u16(at + 2),
                headers: l4::SHORT_HEADER as u16,
                protocol,
                ..Transport::default()
            };
        }
        _ => return None,
    }
    Some(packet)
}

#[cfg(test)]
mod tests;
