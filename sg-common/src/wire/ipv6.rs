//! IPv6, with a bounded walk over its extension headers.

use super::{Bytes, Cursor, MALFORMED, Packet, Unreadable, l4};
use crate::{addr::Addr, verdict::DropReason};

/// Octets of the fixed header.
const HEADER: usize = 40;
/// Extension headers that are followed.
const EXTENSIONS: u32 = 8;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;
const MOBILITY: u8 = 135;

#[inline(always)]
pub(super) fn parse<C: Cursor>(cursor: &C, offset: usize, packet: &mut Packet) -> Result<(), Unreadable> {
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
    if is_martian(packet) {
        return Err(Unreadable::drop(DropReason::Martian));
    }
    let (at, is_partial) = extensions(cursor, header.u8(6), offset + HEADER, end, packet)?;
    l4::parse(cursor, at, end, is_partial, packet)
}

/// Walks the chain. Gives the offset of the transport header and whether the packet is the first
/// of several fragments.
#[inline(always)]
fn extensions<C: Cursor>(
    cursor: &C,
    first: u8,
    start: usize,
    end: usize,
    packet: &mut Packet,
) -> Result<(usize, bool), Unreadable> {
    let mut next = first;
    let mut at = start;
    let mut is_partial = false;
    let mut is_fragment = false;
    packet.is_wrapped = false;
    for number in 0..=EXTENSIONS {
        if !is_extension(next) {
            packet.protocol = next;
            return Ok((at, is_partial));
        }
        if number == EXTENSIONS {
            break;
        }
        if at + 8 > end || (next == HOP_BY_HOP && number > 0) || (next == FRAGMENT && is_fragment) {
            return Err(MALFORMED);
        }
        packet.is_wrapped = true;
        is_fragment |= next == FRAGMENT;
        let extension = cursor.ipv6_extension(next, at);
        if extension.length() == 0 {
            return Err(extension.why());
        }
        is_partial |= extension.is_partial();
        next = extension.next();
        at += extension.length();
        if at > end {
            return Err(MALFORMED);
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
/// 32–39: what comes behind it; 40: more fragments follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct ExtensionBits(pub u64);

impl ExtensionBits {
    #[inline(always)]
    const fn new(next: u8, length: usize, is_partial: bool) -> Self {
        Self((length as u64) << 16 | (next as u64) << 32 | (is_partial as u64) << 40)
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
    const fn is_partial(self) -> bool {
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
        FRAGMENT => {
            let place = header.u16(2);
            if place & 0xfff8 == 0 {
                ExtensionBits::new(next, 8, place & 1 != 0)
            } else {
                ExtensionBits::none(Unreadable::drop(DropReason::FragmentWithoutFirst))
            }
        }
        // Counted in units of 4 octets, the first two not included; all others in units of 8, the
        // first not included.
        AUTHENTICATION => ExtensionBits::new(next, (units + 2) * 4, false),
        _ => ExtensionBits::new(next, (units + 1) * 8, false),
    }
}

/// Whether no host may send from, or to, such an address. `::` as a source is left to the
/// transport, which knows whether it is address detection or listener discovery.
#[inline(always)]
const fn is_martian(packet: &Packet) -> bool {
    let (source, destination) = (packet.source, packet.destination);
    source.hi() >> 56 == 0xff
        || source.is_v4()
        || (source.hi() == 0 && source.lo() == 1)
        || destination.is_v4()
        || (destination.hi() == 0 && destination.lo() <= 1)
}
