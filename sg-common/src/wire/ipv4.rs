//! IPv4, with options and fragments.

use super::{Bytes, Cursor, MALFORMED, Packet, Payload, Unreadable, l4};
use crate::{addr::Addr, verdict::DropReason};

/// Octets of the header without options.
const HEADER: usize = 20;
/// Octets of the longest header.
const HEADER_MAX: usize = 60;
/// Flag: more fragments follow.
const MORE_FRAGMENTS: u16 = 0x2000;
/// Option: end of the list.
const OPTION_END: u8 = 0;
/// Option: one octet of padding.
const OPTION_NOP: u8 = 1;
/// Option: loose source route.
const OPTION_LSRR: u8 = 131;
/// Option: strict source route.
const OPTION_SSRR: u8 = 137;

#[inline(always)]
pub(super) fn parse<C: Cursor>(
    cursor: &C,
    offset: usize,
    packet: &mut Packet,
) -> Result<Payload, Unreadable> {
    let header = cursor.look(offset, HEADER).ok_or(Unreadable::SHORT)?;
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
    packet.hop_limit = header.u8(8);
    packet.end = (offset + length) as u32;
    packet.transport.protocol = header.u8(9);
    packet.fragment_offset = fragment & 0x1fff;
    packet.is_wrapped = fragment & 0x3fff != 0;
    if packet.is_wrapped {
        packet.fragment_protocol = packet.transport.protocol;
        packet.fragment_id = header.u16(4).into();
    }
    packet.is_first_fragment = fragment & 0x3fff == MORE_FRAGMENTS;
    if is_martian(packet.source, packet.destination) {
        return Err(Unreadable::drop(DropReason::Martian));
    }
    if header_length > HEADER {
        cursor.ipv4_options(offset + HEADER, offset + header_length).unpack()?;
    }
    if packet.fragment_offset != 0 {
        return l4::later_fragment(length - header_length, packet);
    }
    l4::parse(cursor, offset + header_length, offset + length, packet)?;
    Ok(Payload::IP)
}

/// What is wrong with the options from `start` to `end`: source routes, and lengths that lie.
///
/// Goes octet by octet at constant distances, which the verifier follows with ease; where an option
/// ends is data to it.
#[inline(always)]
pub(super) fn options<C: Cursor>(cursor: &C, start: usize, end: usize) -> Result<(), Unreadable> {
    let mut left = 0;
    let mut wants_length = false;
    for distance in 0..HEADER_MAX - HEADER {
        let at = start + distance;
        if at >= end {
            break;
        }
        let octet = cursor.look(at, 1).ok_or(Unreadable::SHORT)?.u8(0);
        if wants_length {
            wants_length = false;
            if octet < 2 {
                return Err(MALFORMED);
            }
            left = octet - 2;
        } else if left > 0 {
            left -= 1;
        } else {
            match octet {
                OPTION_END => return Ok(()),
                OPTION_NOP => {}
                OPTION_LSRR | OPTION_SSRR => return Err(MALFORMED),
                _ => wants_length = true,
            }
        }
    }
    if wants_length || left > 0 { Err(MALFORMED) } else { Ok(()) }
}

/// Whether no host may send from, or to, such an address. `0.0.0.0` as a source is left to the
/// transport, which knows whether it is DHCP.
#[inline(always)]
pub(super) const fn is_martian(source: Addr, destination: Addr) -> bool {
    const LOOPBACK: u32 = 127;
    const MULTICAST: u32 = 0xe;
    let (source, destination) = (source.v4_bits(), destination.v4_bits());
    source >> 24 == LOOPBACK
        || source >> 28 == MULTICAST
        || source == u32::MAX
        || destination >> 24 == LOOPBACK
        || destination == 0
}
