//! Counting, and telling of drops to whoever asked.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use sg_common::{
    abi::DropEvent,
    tuple::Direction,
    verdict::{DropReason, RuleNumber},
    wire::{Packet, Transport},
};

use crate::maps::{COUNTERS, EVENTS, RULE_COUNTERS};

/// Counts one packet.
#[inline(always)]
pub(crate) fn count(index: u32, bytes: u64) {
    if let Some(counter) = COUNTERS.get_ptr_mut(index) {
        // SAFETY: the element belongs to this CPU, and no other program of ours interrupts this
        // one on it.
        unsafe {
            (*counter).packets += 1;
            (*counter).bytes += bytes;
        }
    }
}

/// Counts one packet of a rule.
#[inline(always)]
pub(crate) fn count_rule(rule: RuleNumber, bytes: u64, opened: bool, now: u32) {
    if let Some(counter) = RULE_COUNTERS.get_ptr_mut(rule.0) {
        // SAFETY: as in `count`.
        unsafe {
            (*counter).flows += u64::from(opened);
            (*counter).packets += 1;
            (*counter).bytes += bytes;
            (*counter).last_hit = u64::from(now);
        }
    }
}

/// What [`event`] tells besides the packet, in one register.
#[derive(Clone, Copy)]
pub(crate) struct Drop(u32);

impl Drop {
    /// A drop in `direction`.
    #[inline(always)]
    pub(crate) const fn new(reason: DropReason, direction: Direction, is_audited: bool) -> Self {
        Self(reason.number() as u32 | (direction as u32) << 8 | (is_audited as u32) << 16)
    }
}

/// Tells of a drop. When the ring is full the event is lost, and the counters still have it.
///
/// A function of its own, with few and plain arguments: it is off the common path, and the stack
/// is small.
#[inline(never)]
pub(crate) fn event(packet: &Packet, drop: Drop, ifindex: u32, bytes: u64) {
    let Some(mut slot) = EVENTS.reserve::<DropEvent>(0) else { return };
    let Drop(bits) = drop;
    let Transport { icmp, source_port, destination_port, protocol, .. } = packet.transport;
    slot.write(DropEvent {
        // SAFETY: the helper takes no arguments and has no preconditions.
        time: unsafe { bpf_ktime_get_ns() },
        source: packet.source,
        destination: packet.destination,
        ifindex,
        length: bytes as u32,
        source_port: if icmp != 0 { icmp } else { source_port },
        destination_port,
        protocol,
        reason: bits as u8,
        direction: (bits >> 8) as u8,
        audited: (bits >> 16) as u8,
    });
    slot.submit(0);
}
