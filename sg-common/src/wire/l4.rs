//! TCP, UDP, ICMP and ICMPv6.

use super::{Bytes, Cursor, MALFORMED, Packet, Payload, QuoteBits, Transport, Unreadable, tcp_flag};
use crate::{addr::Addr, tuple::Protocol, verdict::DropReason};

/// Octets of a TCP header without options.
pub(super) const TCP_HEADER: usize = 20;
/// Octets of a UDP header, and of an ICMP header with its identifier.
pub(super) const SHORT_HEADER: usize = 8;
/// ICMP multicast listener reports: from an address that is not yet assigned they come from `::`.
const LISTENER_DISCOVERY: [u8; 4] = [130, 131, 132, 143];
const ROUTER_SOLICITATION: u8 = 133;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
const ADDRESS_V6: usize = 16;
/// Fragments count their place in these.
const FRAGMENT_UNIT: usize = 8;
/// The longest datagram that fragments make.
const DATAGRAM_MAX: usize = 65_535;
/// Octets of the longest TCP segment whose checksum is looked at: every reset without data.
pub const SUM_MAX: usize = 60;
const DHCP_CLIENT: u16 = 68;
const DHCP_SERVER: u16 = 67;

/// Reads the transport header at `at`; the packet ends at `end`.
#[inline(always)]
pub(super) fn parse<C: Cursor>(
    cursor: &C,
    at: usize,
    end: usize,
    packet: &mut Packet,
) -> Result<(), Unreadable> {
    let is_v4 = packet.source.is_v4();
    packet.transport = Transport { protocol: packet.transport.protocol, ..Transport::default() };
    packet.quote = QuoteBits::NONE;
    packet.tcp_flags = 0;
    let length = end - at;
    match Protocol(packet.transport.protocol) {
        Protocol::TCP => tcp(cursor, at, length, packet)?,
        Protocol::UDP => udp(cursor, at, length, packet)?,
        Protocol::ICMP if is_v4 => icmp(cursor, at, length, packet)?,
        Protocol::ICMPV6 if !is_v4 => icmp(cursor, at, length, packet)?,
        _ => {}
    }
    if is_unspecified(packet.source) && !may_be_unspecified(packet) {
        return Err(Unreadable::drop(DropReason::Martian));
    }
    Ok(())
}

/// Judges what there is of a later fragment, of `length` octets.
///
/// The first fragment holds the whole transport header, so that one which begins inside of it wants
/// to change what was judged (RFC 1858). For TCP that can be told without knowing the first.
#[inline(always)]
pub(super) fn later_fragment(length: usize, packet: &mut Packet) -> Result<Payload, Unreadable> {
    packet.transport = Transport { protocol: packet.transport.protocol, ..Transport::default() };
    packet.quote = QuoteBits::NONE;
    packet.tcp_flags = 0;
    let start = usize::from(packet.fragment_offset) * FRAGMENT_UNIT;
    let is_overlap = packet.transport.protocol == Protocol::TCP.0 && start < TCP_HEADER;
    if is_overlap || start + length > DATAGRAM_MAX {
        return Err(MALFORMED);
    }
    if is_unspecified(packet.source) {
        return Err(Unreadable::drop(DropReason::Martian));
    }
    Ok(Payload::LATER_FRAGMENT)
}

#[inline(always)]
fn tcp<C: Cursor>(cursor: &C, at: usize, length: usize, packet: &mut Packet) -> Result<(), Unreadable> {
    if length < TCP_HEADER {
        return Err(MALFORMED);
    }
    let header = cursor.look(at, TCP_HEADER).ok_or(Unreadable::SHORT)?;
    let header_length = usize::from(header.u8(12) >> 4) * 4;
    if header_length < TCP_HEADER || header_length > length {
        return Err(MALFORMED);
    }
    packet.transport.source_port = header.u16(0);
    packet.transport.destination_port = header.u16(2);
    packet.transport.headers = header_length as u16;
    packet.sequence = header.u32(4);
    packet.acknowledgement = header.u32(8);
    packet.tcp_flags = header.u8(13);
    packet.payload = (length - header_length) as u32;
    packet.is_sum_right = false;
    let is_whole = !packet.is_first_fragment && length <= SUM_MAX;
    if packet.tcp_flags & tcp_flag::RST != 0 && is_whole {
        let sum = cursor.sum(at, length).ok_or(Unreadable::SHORT)?;
        packet.is_sum_right = is_sum_right(packet, length, header.u16(16), sum);
    }
    Ok(())
}

/// Whether a TCP checksum is right, `sum` being that of the whole segment: complete, or begun as the
/// kernel leaves it to the hardware of a packet that has not left this machine.
#[inline(always)]
const fn is_sum_right(packet: &Packet, length: usize, stated: u16, sum: u32) -> bool {
    let pseudo = sum_of(packet.source) + sum_of(packet.destination) + Protocol::TCP.0 as u32 + length as u32;
    fold(pseudo + sum) == 0xffff || fold(pseudo) == stated as u32
}

/// The sum of an address's 16-bit numbers.
#[inline(always)]
const fn sum_of(address: Addr) -> u32 {
    let bits = if address.is_v4() { address.v4_bits() as u64 } else { address.lo() };
    let high = if address.is_v4() { 0 } else { address.hi() };
    sum_of_half(bits) + sum_of_half(high)
}

#[inline(always)]
const fn sum_of_half(half: u64) -> u32 {
    ((half >> 48) + (half >> 32 & 0xffff) + (half >> 16 & 0xffff) + (half & 0xffff)) as u32
}

/// Adds the carries back, as ones' complement wants it. Sums here have less than 24 bits.
#[inline(always)]
const fn fold(sum: u32) -> u32 {
    let once = (sum >> 16) + (sum & 0xffff);
    (once >> 16) + (once & 0xffff)
}

/// [`Cursor::sum`] as it is by default.
#[inline(always)]
pub fn sum<C: Cursor>(cursor: &C, at: usize, length: usize) -> Option<u32> {
    let mut sum = 0;
    let mut done = 0;
    while done < SUM_MAX {
        if done + 1 < length {
            sum += u32::from(cursor.look(at + done, 2)?.u16(0));
        } else if done < length {
            sum += u32::from(cursor.look(at + done, 1)?.u8(0)) << 8;
        }
        done += 2;
    }
    Some(sum)
}

#[inline(always)]
fn udp<C: Cursor>(cursor: &C, at: usize, length: usize, packet: &mut Packet) -> Result<(), Unreadable> {
    if length < SHORT_HEADER {
        return Err(MALFORMED);
    }
    let header = cursor.look(at, SHORT_HEADER).ok_or(Unreadable::SHORT)?;
    let stated = usize::from(header.u16(4));
    // The length of the first of several fragments is that of the whole datagram.
    let is_lie = stated < SHORT_HEADER || (stated > length && !packet.is_first_fragment);
    if is_lie && !(stated == 0 && cursor.is_gso()) {
        return Err(MALFORMED);
    }
    packet.transport.source_port = header.u16(0);
    packet.transport.destination_port = header.u16(2);
    packet.transport.headers = SHORT_HEADER as u16;
    Ok(())
}

#[inline(always)]
fn icmp<C: Cursor>(cursor: &C, at: usize, length: usize, packet: &mut Packet) -> Result<(), Unreadable> {
    if length < SHORT_HEADER {
        return Err(MALFORMED);
    }
    let header = cursor.look(at, SHORT_HEADER).ok_or(Unreadable::SHORT)?;
    packet.transport.icmp = header.u16(0);
    packet.transport.icmp_id = header.u16(4);
    packet.transport.headers = SHORT_HEADER as u16;
    let kind = header.u8(0);
    let behind = at + SHORT_HEADER;
    let end = at + length;
    let is_v4 = packet.source.is_v4();
    if is_error(kind, is_v4) {
        packet.quote = QuoteBits::unread(behind);
    } else if !is_v4 && (kind == NEIGHBOUR_SOLICITATION || kind == NEIGHBOUR_ADVERTISEMENT) {
        packet.subject = Addr::UNSPECIFIED_V6;
        // Without a target it is about nobody, and no receiver takes it (RFC 4861).
        if behind + ADDRESS_V6 <= end {
            let target = cursor.look(behind, ADDRESS_V6).ok_or(Unreadable::SHORT)?;
            packet.subject = Addr::v6(target.u64(0), target.u64(8));
        }
    }
    Ok(())
}

/// Whether an ICMP message of type `kind` tells of trouble with the packet that it quotes:
/// unreachable, source quench, time exceeded, parameter problem; too big.
#[inline(always)]
const fn is_error(kind: u8, is_v4: bool) -> bool {
    if is_v4 { matches!(kind, 3 | 4 | 11 | 12) } else { matches!(kind, 1..=4) }
}

#[inline(always)]
const fn is_unspecified(address: Addr) -> bool {
    if address.is_v4() { address.v4_bits() == 0 } else { address.hi() == 0 && address.lo() == 0 }
}

/// Whether a packet may come from the unspecified address: a DHCP client's, address detection,
/// router solicitation and listener discovery.
#[inline(always)]
const fn may_be_unspecified(packet: &Packet) -> bool {
    let Transport { source_port, destination_port, icmp, protocol, .. } = packet.transport;
    if packet.source.is_v4() {
        return protocol == Protocol::UDP.0 && source_port == DHCP_CLIENT && destination_port == DHCP_SERVER;
    }
    let kind = (icmp >> 8) as u8;
    let [query, report, done, report_2] = LISTENER_DISCOVERY;
    protocol == Protocol::ICMPV6.0
        && (kind == NEIGHBOUR_SOLICITATION
            || kind == ROUTER_SOLICITATION
            || kind == query
            || kind == report
            || kind == done
            || kind == report_2)
}

#[cfg(test)]
mod tests;
