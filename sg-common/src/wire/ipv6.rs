//! IPv6, with a bounded walk over its extension headers.

use super::{Bytes, Cursor, MALFORMED, Packet, Payload, Unreadable, l4};
use crate::{addr::Addr, verdict::DropReason};

/// Octets of the fixed header.
const HEADER: usize = 40;
/// Octets of a fragment header.
const FRAGMENT_HEADER: usize = 8;
/// Extension headers that are followed.
const EXTENSIONS: u32 = 8;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;
const MOBILITY: u8 = 135;

#[inline(always)]
pub(super) fn parse<C: Cursor>(
    cursor: &C,
    offset: usize,
    packet: &mut Packet,
) -> Result<Payload, Unreadable> {
    let header = cursor.look(offset, HEADER).ok_or(Unreadable::SHORT)?;
    if header.u8(0) >> 4 != 6 {
        return Err(MALFORMED);
    }
    let mut length = usize::from(header.u16(4));
    if length == 0 && cursor.is_gso() {
        // Longer than 16 bits can say: all that is there.
        length = cursor.length() - offset - HEADER;
    }
    let end = offset + HEADER + length;
    if !cursor.has(end) {
        return Err(MALFORMED);
    }
    packet.source = Addr::v6(header.u64(8), header.u64(16));
    packet.destination = Addr::v6(header.u64(24), header.u64(32));
    packet.hop_limit = header.u8(7);
    packet.end = end as u32;
    if is_martian(packet.source, packet.destination) {
        return Err(Unreadable::drop(DropReason::Martian));
    }
    let Chain { protocol, at, fragment_at } = chain(cursor, header.u8(6), offset + HEADER, end)?;
    packet.transport.protocol = protocol;
    packet.is_wrapped = at != offset + HEADER;
    packet.is_first_fragment = false;
    packet.fragment_offset = 0;
    if fragment_at != 0 {
        let fragment = cursor.look(fragment_at, FRAGMENT_HEADER).ok_or(Unreadable::SHORT)?;
        let place = fragment.u16(2);
        packet.fragment_protocol = fragment.u8(0);
        packet.fragment_id = fragment.u32(4);
        packet.fragment_offset = place >> 3;
        if packet.fragment_offset != 0 {
            return l4::later_fragment(end - at, packet);
        }
        packet.is_first_fragment = place & 1 != 0;
    }
    l4::parse(cursor, at, end, packet)?;
    if fragment_at != 0 {
        packet.transport.headers += (at - fragment_at - FRAGMENT_HEADER) as u16;
    }
    Ok(Payload::IP)
}

/// The protocol of a packet that an error quotes, and where its transport header is.
#[inline(always)]
pub(super) fn quoted<C: Cursor>(
    cursor: &C,
    at: usize,
    end: usize,
) -> Result<Option<(u8, usize)>, Unreadable> {
    let header = cursor.look(at, HEADER).ok_or(Unreadable::SHORT)?;
    if header.u8(0) >> 4 != 6 {
        return Ok(None);
    }
    let Chain { protocol, at, fragment_at } = match chain(cursor, header.u8(6), at + HEADER, end) {
        Ok(chain) => chain,
        Err(Unreadable::SHORT) => return Err(Unreadable::SHORT),
        // What is wrong with the quoted packet is no fault of the error's.
        Err(_) => return Ok(None),
    };
    if fragment_at != 0 {
        let fragment = cursor.look(fragment_at, FRAGMENT_HEADER).ok_or(Unreadable::SHORT)?;
        if fragment.u16(2) >> 3 != 0 {
            return Ok(None);
        }
    }
    Ok(Some((protocol, at)))
}

/// Where a chain of extension headers leads.
struct Chain {
    /// The protocol behind it.
    protocol: u8,
    /// Where that begins.
    at: usize,
    /// Where the fragment header is, or 0.
    fragment_at: usize,
}

/// Walks the chain: up to the transport header, or up to the fragment header of a later fragment.
#[inline(always)]
fn chain<C: Cursor>(cursor: &C, first: u8, start: usize, end: usize) -> Result<Chain, Unreadable> {
    let mut protocol = first;
    let mut at = start;
    let mut fragment_at = 0;
    for number in 0..=EXTENSIONS {
        if !is_extension(protocol) {
            return Ok(Chain { protocol, at, fragment_at });
        }
        if number == EXTENSIONS {
            break;
        }
        let is_fragment = protocol == FRAGMENT;
        if at + 8 > end || (protocol == HOP_BY_HOP && number > 0) || (is_fragment && fragment_at != 0) {
            return Err(MALFORMED);
        }
        let extension = cursor.ipv6_extension(protocol, at);
        if extension.length() == 0 {
            return Err(extension.why());
        }
        if is_fragment {
            fragment_at = at;
        }
        protocol = extension.next();
        at += extension.length();
        if at > end {
            return Err(MALFORMED);
        }
        if extension.is_last() {
            return Ok(Chain { protocol, at, fragment_at });
        }
    }
    Err(Unreadable::drop(DropReason::ExtensionChainTooLong))
}

#[inline(always)]
const fn is_extension(next: u8) -> bool {
    matches!(next, HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION_OPTIONS | MOBILITY)
}

/// An extension header, or why there is none, in one register.
///
/// Bits 0–15: why there is none, 16–31: octets of the header, from 8 to 2 048; 0 when there is none;
/// 32–39: what comes behind it; 40: what that is cannot be read from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct ExtensionBits(pub u64);

impl ExtensionBits {
    #[inline(always)]
    const fn new(next: u8, length: usize, is_last: bool) -> Self {
        Self((length as u64) << 16 | (next as u64) << 32 | (is_last as u64) << 40)
    }

    #[inline(always)]
    const fn none(why: Unreadable) -> Self {
        Self(why.0 as u64)
    }

    #[inline(always)]
    const fn length(self) -> usize {
        (self.0 >> 16) as usize & 0xffff
    }

    #[inline(always)]
    const fn why(self) -> Unreadable {
        Unreadable(self.0 as u16)
    }

    #[inline(always)]
    const fn next(self) -> u8 {
        (self.0 >> 32) as u8
    }

    #[inline(always)]
    const fn is_last(self) -> bool {
        self.0 >> 40 & 1 != 0
    }
}

/// Reads the extension header of kind `kind` at `at`.
#[inline(always)]
pub fn extension<C: Cursor>(cursor: &C, kind: u8, at: usize) -> ExtensionBits {
    let Some(header) = cursor.look(at, 8) else { return ExtensionBits::none(Unreadable::SHORT) };
    let next = header.u8(0);
    let units = usize::from(header.u8(1));
    match kind {
        ROUTING if header.u8(2) == 0 || header.u8(3) != 0 => {
            ExtensionBits::none(Unreadable::drop(DropReason::Martian))
        }
        FRAGMENT => ExtensionBits::new(next, FRAGMENT_HEADER, header.u16(2) >> 3 != 0),
        // Counted in units of 4 octets, the first two not included; all others in units of 8, the
        // first not included.
        AUTHENTICATION => ExtensionBits::new(next, (units + 2) * 4, false),
        _ => ExtensionBits::new(next, (units + 1) * 8, false),
    }
}

/// Whether no host may send from, or to, such an address. `::` as a source is left to the
/// transport, which knows whether it is address detection or listener discovery.
#[inline(always)]
pub(super) const fn is_martian(source: Addr, destination: Addr) -> bool {
    source.hi() >> 56 == 0xff
        || source.is_v4()
        || (source.hi() == 0 && source.lo() == 1)
        || destination.is_v4()
        || (destination.hi() == 0 && destination.lo() <= 1)
}
