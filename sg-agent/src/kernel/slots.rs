//! The attachments map: which interface is bound to which zone.

use aya::maps::{Array, MapData};
use sg_common::abi::{ATTACHMENT_PROBES, ATTACHMENT_SLOTS, Attachment, attachment_slot, map};

use super::KernelError;

/// The map, as aya knows it: a slot is one word, and is written as one.
pub(crate) type Attachments = Array<MapData, u64>;

fn to_word(attachment: Attachment) -> u64 {
    let [a, b, c, d] = attachment.ifindex.to_ne_bytes();
    let [e, f, g, h] = attachment.zone_and_flags.to_ne_bytes();
    u64::from_ne_bytes([a, b, c, d, e, f, g, h])
}

fn from_word(word: u64) -> Attachment {
    let [a, b, c, d, e, f, g, h] = word.to_ne_bytes();
    Attachment { ifindex: u32::from_ne_bytes([a, b, c, d]), zone_and_flags: u32::from_ne_bytes([e, f, g, h]) }
}

/// The slots that an interface may lie in, with what lies there.
fn probe(map: &Attachments, ifindex: u32) -> Result<Vec<(u32, Attachment)>, KernelError> {
    (0..ATTACHMENT_PROBES)
        .map(|probe| {
            let slot = attachment_slot(ifindex, probe);
            let word =
                map.get(&slot, 0).map_err(|error| KernelError::map("read", map::ATTACHMENTS, error))?;
            Ok((slot, from_word(word)))
        })
        .collect()
}

/// Binds an interface, or binds it otherwise, between two packets.
pub(crate) fn put(map: &mut Attachments, attachment: Attachment) -> Result<(), KernelError> {
    let slots = probe(map, attachment.ifindex)?;
    let is = |ifindex| move |(_, found): &&(u32, Attachment)| found.ifindex == ifindex;
    let slot = slots.iter().find(is(attachment.ifindex)).or_else(|| slots.iter().find(is(0)));
    let Some((slot, _)) = slot else {
        return Err(KernelError::NoSlot { ifindex: attachment.ifindex, limit: ATTACHMENT_PROBES });
    };
    write(map, *slot, attachment)
}

/// What an interface is bound to.
pub(crate) fn find(map: &Attachments, ifindex: u32) -> Result<Option<Attachment>, KernelError> {
    let slots = probe(map, ifindex)?;
    Ok(slots.into_iter().map(|(_, found)| found).find(|found| found.ifindex == ifindex))
}

/// Unbinds an interface. Unbound already: nothing to do.
pub(crate) fn clear(map: &mut Attachments, ifindex: u32) -> Result<(), KernelError> {
    for (slot, found) in probe(map, ifindex)? {
        if found.ifindex == ifindex {
            write(map, slot, Attachment::default())?;
        }
    }
    Ok(())
}

fn write(map: &mut Attachments, slot: u32, attachment: Attachment) -> Result<(), KernelError> {
    map.set(slot, to_word(attachment), 0).map_err(|error| KernelError::map("write", map::ATTACHMENTS, error))
}

const _: () = assert!(ATTACHMENT_SLOTS.is_power_of_two(), "slots are found by a mask");
