//! The packet that an ICMP error quotes: only as much as names its flow.
//!
//! A quotation is cut short, so that lengths are not compared: what matters must be there. Whoever
//! makes up an error can make up the quotation too; that it names a live flow is all that is asked.

use super::{Bytes, Cursor, Packet, Unreadable, ipv6};
use crate::{addr::Addr, tuple::Protocol};

const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
/// Octets of a transport header that every quotation has (RFC 792).
const QUOTED: usize = 8;

/// What a quoted packet was, in one register.
///
/// Bits 0–15: destination port, or ICMP type and code; 16–31: source port, or ICMP identifier;
/// 32–39: protocol; 40: there is such a packet. 0 stands for what cannot be read, a later fragment
/// among it. While bit 41 is set it is yet to be read, and bits 0–31 tell from where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct QuoteBits(pub u64);

impl QuoteBits {
    /// No packet that could belong to a flow.
    pub const NONE: Self = Self(0);

    /// A quotation that begins at `at`.
    #[inline(always)]
    pub(super) const fn unread(at: usize) -> Self {
        Self(1 << 41 | at as u64 & 0xffff_ffff)
    }

    /// Whether there is a quotation that was not read yet.
    #[inline(always)]
    #[must_use]
    pub const fn is_unread(self) -> bool {
        self.0 >> 41 & 1 != 0
    }

    #[inline(always)]
    const fn new(protocol: Protocol, source: u16, destination: u16) -> Self {
        Self(1 << 40 | (protocol.0 as u64) << 32 | (source as u64) << 16 | destination as u64)
    }

    /// Whether there is a packet.
    #[inline(always)]
    #[must_use]
    pub const fn is_some(self) -> bool {
        self.0 != 0
    }

    /// The protocol.
    #[inline(always)]
    #[must_use]
    pub const fn protocol(self) -> Protocol {
        Protocol((self.0 >> 32) as u8)
    }

    /// The source port, or the identifier of an ICMP query.
    #[inline(always)]
    #[must_use]
    pub const fn source(self) -> u16 {
        (self.0 >> 16) as u16
    }

    /// The destination port, or type and code of an ICMP message.
    #[inline(always)]
    #[must_use]
    pub const fn destination(self) -> u16 {
        self.0 as u16
    }
}

/// Reads the quotation of an error. One that is too short, or that the error is not sent back to the
/// sender of, quotes nothing.
#[inline(always)]
pub(super) fn parse<C: Cursor>(cursor: &C, packet: &mut Packet) -> Result<(), Unreadable> {
    let at = (packet.quote.0 & 0xffff_ffff) as usize;
    let end = packet.end as usize;
    packet.quote = QuoteBits::NONE;
    let is_v4 = packet.source.is_v4();
    let shortest = QUOTED + if is_v4 { IPV4_HEADER } else { IPV6_HEADER };
    if at + shortest > end {
        return Ok(());
    }
    let (sender, destination) = if is_v4 {
        let header = cursor.look(at, IPV4_HEADER + QUOTED).ok_or(Unreadable::SHORT)?;
        (Addr::v4(header.u32(12)), Addr::v4(header.u32(16)))
    } else {
        let header = cursor.look(at, IPV6_HEADER + QUOTED).ok_or(Unreadable::SHORT)?;
        (Addr::v6(header.u64(8), header.u64(16)), Addr::v6(header.u64(24), header.u64(32)))
    };
    if sender == packet.destination {
        packet.subject = destination;
        packet.quote = transport(cursor, at, end, is_v4)?;
    }
    Ok(())
}

/// Reads what lies behind the quoted IP header.
#[inline(always)]
fn transport<C: Cursor>(cursor: &C, at: usize, end: usize, is_v4: bool) -> Result<QuoteBits, Unreadable> {
    let found = if is_v4 { ipv4(cursor, at)? } else { ipv6::quoted(cursor, at, end)? };
    let Some((protocol, at)) = found else { return Ok(QuoteBits::NONE) };
    if at + QUOTED > end {
        return Ok(QuoteBits::NONE);
    }
    let header = cursor.look(at, QUOTED).ok_or(Unreadable::SHORT)?;
    let protocol = Protocol(protocol);
    Ok(match protocol {
        Protocol::TCP | Protocol::UDP => QuoteBits::new(protocol, header.u16(0), header.u16(2)),
        Protocol::ICMP if is_v4 => QuoteBits::new(protocol, header.u16(4), header.u16(0)),
        Protocol::ICMPV6 if !is_v4 => QuoteBits::new(protocol, header.u16(4), header.u16(0)),
        _ => QuoteBits::new(protocol, 0, 0),
    })
}

/// The protocol of a quoted IPv4 packet, and where its transport header is.
#[inline(always)]
fn ipv4<C: Cursor>(cursor: &C, at: usize) -> Result<Option<(u8, usize)>, Unreadable> {
    let header = cursor.look(at, IPV4_HEADER).ok_or(Unreadable::SHORT)?;
    let first = header.u8(0);
    let length = usize::from(first & 0xf) * 4;
    let is_later = header.u16(6) & 0x1fff != 0;
    let is_whole = first >> 4 == 4 && length >= IPV4_HEADER && !is_later;
    Ok(if is_whole { Some((header.u8(9), at + length)) } else { None })
}

#[cfg(test)]
mod tests;
