//! IPv4, with options and fragments.

use super::{Bytes, Cursor, MALFORMED, Packet, Unreadable, l4};
use crate::{addr::Addr, verdict::DropReason};

/// Octets of the header without options.
const HEADER: usize = 20;
/// Octets of the longest header.
const HEADER_MAX: usize = 60;
/// Option: end of the list.
const OPTION_END: u8 = 0;
/// Option: one octet of padding.
const OPTION_NOP: u8 = 1;
/// Option: loose source route.
const OPTION_LSRR: u8 = 131;
/// Option: strict source route.
const OPTION_SSRR: u8 = 137;

#[inline(always)]
pub(super) fn parse<C: Cursor>(cursor: &C, offset: usize, packet: &mut Packet) -> Result<(), Unreadable> {
    let header = cursor.look(offset, HEADER).ok_or(Unreadable::Short)?;
    let first = header.u8(0);
    let header_length = usize::from(first & 0xf) * 4;
    if first >> 4 != 4 || header_length < HEADER {
        return Err(MALFORMED);
    }
    let mut length = usize::from(header.u16(2));
    if length == 0 && cursor.is_gso() {
        // Longer than 16 bits can say: all that is there.
        length = cursor.length() - offset;
    }
    if length < header_length || !cursor.has(offset + length) {
        return Err(MALFORMED);
    }
    let fragment = header.u16(6);
    packet.source = Addr::v4(header.u32(12));
    packet.destination = Addr::v4(header.u32(16));
    packet.protocol = header.u8(9);
    packet.hop_limit = header.u8(8);
    packet.is_wrapped = fragment & 0x3fff != 0;
    if is_martian(packet) {
        return Err(Unreadable::Drop(DropReason::Martian));
    }
    if header_length > HEADER {
        options(cursor, offset + HEADER, offset + header_length)?;
    }
    if fragment & 0x1fff != 0 {
        return Err(Unreadable::Drop(DropReason::FragmentWithoutFirst));
    }
    let is_partial = fragment & 0x2000 != 0;
    l4::parse(cursor, offset + header_length, offset + length, is_partial, packet)
}

/// Refuses source routes, and options that lie about their length.
#[inline(always)]
fn options<C: Cursor>(cursor: &C, start: usize, end: usize) -> Result<(), Unreadable> {
    let mut at = start;
    for _ in 0..HEADER_MAX - HEADER {
        if at >= end {
            break;
        }
        let kind = cursor.look(at, 1).ok_or(Unreadable::Short)?.u8(0);
        match kind {
            OPTION_END => break,
            OPTION_NOP => at += 1,
            OPTION_LSRR | OPTION_SSRR => return Err(MALFORMED),
            _ => {
                let length = usize::from(cursor.look(at, 2).ok_or(Unreadable::Short)?.u8(1));
                if length < 2 || at + length > end {
                    return Err(MALFORMED);
                }
                at += length;
            }
        }
    }
    Ok(())
}

/// Whether no host may send from, or to, such an address. `0.0.0.0` as a source is left to the
/// transport, which knows whether it is DHCP.
#[inline(always)]
const fn is_martian(packet: &Packet) -> bool {
    const LOOPBACK: u32 = 127;
    const MULTICAST: u32 = 0xe;
    let source = packet.source.v4_bits();
    let destination = packet.destination.v4_bits();
    source >> 24 == LOOPBACK
        || source >> 28 == MULTICAST
        || source == u32::MAX
        || destination >> 24 == LOOPBACK
        || destination == 0
}
