//! TCP, UDP, ICMP and ICMPv6.

use super::{Bytes, Cursor, MALFORMED, Packet, Unreadable};
use crate::{tuple::Protocol, verdict::DropReason};

/// Octets of a TCP header without options.
const TCP_HEADER: usize = 20;
/// Octets of a UDP header, and of an ICMP header with its identifier.
const SHORT_HEADER: usize = 8;
/// ICMP multicast listener reports: from an address that is not yet assigned they come from `::`.
const LISTENER_DISCOVERY: [u8; 4] = [130, 131, 132, 143];
const ROUTER_SOLICITATION: u8 = 133;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const DHCP_CLIENT: u16 = 68;
const DHCP_SERVER: u16 = 67;

/// Reads the transport header at `at`; the packet ends at `end`. `is_partial` tells that the packet
/// is the first of several fragments, so that a UDP length may reach past it.
#[inline(always)]
pub(super) fn parse<C: Cursor>(
    cursor: &C,
    at: usize,
    end: usize,
    is_partial: bool,
    packet: &mut Packet,
) -> Result<(), Unreadable> {
    let is_v4 = packet.source.is_v4();
    packet.source_port = 0;
    packet.destination_port = 0;
    packet.icmp = 0;
    packet.icmp_id = 0;
    packet.tcp_flags = 0;
    let length = end - at;
    match Protocol(packet.protocol) {
        Protocol::TCP => tcp(cursor, at, length, packet)?,
        Protocol::UDP => udp(cursor, at, length, is_partial, packet)?,
        Protocol::ICMP if is_v4 => icmp(cursor, at, length, packet)?,
        Protocol::ICMPV6 if !is_v4 => icmp(cursor, at, length, packet)?,
        _ => {}
    }
    if is_unspecified(packet) && !may_be_unspecified(packet) {
        return Err(Unreadable::drop(DropReason::Martian));
    }
    Ok(())
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
    packet.source_port = header.u16(0);
    packet.destination_port = header.u16(2);
    packet.sequence = header.u32(4);
    packet.acknowledgement = header.u32(8);
    packet.tcp_flags = header.u8(13);
    packet.payload = (length - header_length) as u32;
    Ok(())
}

#[inline(always)]
fn udp<C: Cursor>(
    cursor: &C,
    at: usize,
    length: usize,
    is_partial: bool,
    packet: &mut Packet,
) -> Result<(), Unreadable> {
    if length < SHORT_HEADER {
        return Err(MALFORMED);
    }
    let header = cursor.look(at, SHORT_HEADER).ok_or(Unreadable::SHORT)?;
    let stated = usize::from(header.u16(4));
    let is_lie = stated < SHORT_HEADER || (stated > length && !is_partial);
    if is_lie && !(stated == 0 && cursor.is_gso()) {
        return Err(MALFORMED);
    }
    packet.source_port = header.u16(0);
    packet.destination_port = header.u16(2);
    Ok(())
}

#[inline(always)]
fn icmp<C: Cursor>(cursor: &C, at: usize, length: usize, packet: &mut Packet) -> Result<(), Unreadable> {
    if length < SHORT_HEADER {
        return Err(MALFORMED);
    }
    let header = cursor.look(at, SHORT_HEADER).ok_or(Unreadable::SHORT)?;
    packet.icmp = header.u16(0);
    packet.icmp_id = header.u16(4);
    Ok(())
}

#[inline(always)]
const fn is_unspecified(packet: &Packet) -> bool {
    if packet.source.is_v4() {
        packet.source.v4_bits() == 0
    } else {
        packet.source.hi() == 0 && packet.source.lo() == 0
    }
}

/// Whether a packet may come from the unspecified address: a DHCP client's, address detection,
/// router solicitation and listener discovery.
#[inline(always)]
const fn may_be_unspecified(packet: &Packet) -> bool {
    if packet.source.is_v4() {
        return packet.protocol == Protocol::UDP.0
            && packet.source_port == DHCP_CLIENT
            && packet.destination_port == DHCP_SERVER;
    }
    let kind = (packet.icmp >> 8) as u8;
    let [query, report, done, report_2] = LISTENER_DISCOVERY;
    packet.protocol == Protocol::ICMPV6.0
        && (kind == NEIGHBOUR_SOLICITATION
            || kind == ROUTER_SOLICITATION
            || kind == query
            || kind == report
            || kind == done
            || kind == report_2)
}
