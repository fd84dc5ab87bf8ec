//! Ethernet II, with up to two VLAN tags.

use super::{Bytes, Cursor, Unreadable};

/// EtherType of IPv4.
pub(super) const IPV4: u16 = 0x0800;
/// EtherType of IPv6.
pub(super) const IPV6: u16 = 0x86dd;
/// EtherType of a customer VLAN tag, 802.1Q.
const VLAN: u16 = 0x8100;
/// EtherType of a service VLAN tag, 802.1ad.
const SERVICE_VLAN: u16 = 0x88a8;
/// The lowest EtherType; what is below is the length of an 802.3 frame.
const LOWEST: u16 = 0x0600;

/// Octets of the header, tags not counted.
const HEADER: usize = 14;
/// Octets of a tag.
const TAG: usize = 4;
/// VLAN tags that are looked behind.
const TAGS: u32 = 2;

/// The EtherType behind the tags, and the offset of what it tells of. 0 stands for 802.3 frames
/// and for more tags than are looked behind.
#[inline(always)]
pub(super) fn parse<C: Cursor>(cursor: &C, tags_out: u32) -> Result<(u16, usize), Unreadable> {
    let mut ethertype = cursor.look(0, HEADER).ok_or(Unreadable::SHORT)?.u16(12);
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
