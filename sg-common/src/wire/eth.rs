//! Ethernet II, with up to two VLAN tags, and ARP.

use super::{Bytes, Cursor, Packet, Payload, Unreadable};
use crate::addr::Addr;

/// EtherType of IPv4.
pub(super) const IPV4: u16 = 0x0800;
/// EtherType of IPv6.
pub(super) const IPV6: u16 = 0x86dd;
/// EtherType of ARP.
pub(super) const ARP: u16 = 0x0806;
/// EtherType of a customer VLAN tag, 802.1Q.
const VLAN: u16 = 0x8100;
/// EtherType of a service VLAN tag, 802.1ad.
const SERVICE_VLAN: u16 = 0x88a8;
/// The lowest EtherType; what is below is the length of an 802.3 frame.
const LOWEST: u16 = 0x0600;

/// Octets of the header, tags not counted.
const HEADER: usize = 14;
/// Octets of an ARP message for IPv4 over Ethernet.
const ARP_MESSAGE: usize = 28;
/// The lengths of both kinds of addresses, as such a message states them.
const ARP_LENGTHS: u16 = 0x0604;
/// Octets of a tag.
const TAG: usize = 4;
/// VLAN tags that are looked behind.
const TAGS: u32 = 2;

/// The EtherType behind the tags, and the offset of what it tells of. 0 stands for 802.3 frames
/// and for more tags than are looked behind.
#[inline(always)]
pub(super) fn parse<C: Cursor>(
    cursor: &C,
    tags_out: u32,
    packet: &mut Packet,
) -> Result<(u16, usize), Unreadable> {
    let header = cursor.look(0, HEADER).ok_or(Unreadable::SHORT)?;
    packet.source_mac = mac(header, 6);
    let mut ethertype = header.u16(12);
    let mut offset = HEADER;
    let mut tags = tags_out;
    while ethertype == VLAN || ethertype == SERVICE_VLAN {
        if tags >= TAGS {
            return Ok((0, offset));
        }
        ethertype = cursor.look(offset, TAG).ok_or(Unreadable::SHORT)?.u16(2);
        offset += TAG;
        tags += 1;
    }
    Ok((if ethertype < LOWEST { 0 } else { ethertype }, offset))
}

/// The Ethernet address at `at`, in the low 48 bits.
#[inline(always)]
pub(super) fn mac<B: Bytes>(bytes: B, at: usize) -> u64 {
    u64::from(bytes.u16(at)) << 32 | u64::from(bytes.u32(at + 2))
}

/// Reads an ARP message: who its sender says it is. One that is not for IPv4 over Ethernet claims an
/// Ethernet address that nobody has.
#[inline(always)]
pub(super) fn arp<C: Cursor>(cursor: &C, offset: usize, packet: &mut Packet) -> Result<Payload, Unreadable> {
    let message = cursor.look(offset, ARP_MESSAGE).ok_or(Unreadable::SHORT)?;
    let is_usual = message.u16(2) == IPV4 && message.u16(4) == ARP_LENGTHS;
    packet.subject = Addr::v6(0, if is_usual { mac(message, 8) } else { u64::MAX });
    packet.source = Addr::v4(message.u32(14));
    packet.destination = Addr::v4(message.u32(24));
    Ok(Payload::ARP)
}
