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
    let header = cursor.look(offset, HEADER).ok_or(Unreadable::Short)?;
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
        return Err(Unreadable::Drop(DropReason::Martian));
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
        if !matches!(next, HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION_OPTIONS | MOBILITY)
        {
            packet.protocol = next;
            return Ok((at, is_partial));
        }
        if number == EXTENSIONS {
            break;
        }
        if at + 8 > end {
            return Err(MALFORMED);
        }
        packet.is_wrapped = true;
        let header = cursor.look(at, 8).ok_or(Unreadable::Short)?;
        let length = match next {
            HOP_BY_HOP if number > 0 => return Err(MALFORMED),
            ROUTING if header.u8(2) == 0 || header.u8(3) != 0 => {
                return Err(Unreadable::Drop(DropReason::Martian));
            }
            FRAGMENT => {
                if is_fragment {
                    return Err(MALFORMED);
                }
                is_fragment = true;
                let place = header.u16(2);
                if place & 0xfff8 != 0 {
                    return Err(Unreadable::Drop(DropReason::FragmentWithoutFirst));
                }
                is_partial = place & 1 != 0;
                8
            }
            // Counted in units of 4 octets, the first two not included; all others in units of 8,
            // the first not included.
            AUTHENTICATION => (usize::from(header.u8(1)) + 2) * 4,
            _ => (usize::from(header.u8(1)) + 1) * 8,
        };
        next = header.u8(0);
        at += length;
        if at > end {
            return Err(MALFORMED);
        }
    }
    Err(Unreadable::Drop(DropReason::ExtensionChainTooLong))
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
