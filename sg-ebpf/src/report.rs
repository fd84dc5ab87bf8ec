//! Counting, telling of drops to whoever asked, and remembering what audit mode let pass.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use sg_common::{
    abi::{self, DropEvent},
    audited::{Key, Seen},
    flow::identity::Way,
    tuple::Direction,
    verdict::{DropReason, RuleNumber},
    wire::{Packet, Transport},
};

use crate::maps::{AUDITED, COUNTERS, EVENTS, RULE_COUNTERS, jiffies};

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

/// Remembers a packet that audit mode lets pass. Where there is no room the longest unseen is forgotten;
/// the counters have them all.
#[inline(always)]
pub(crate) fn remember(packet: &Packet, way: Way, reason: DropReason, is_ip: bool, bytes: u64) {
    let reason_and_kind = u32::from(reason.number()) | u32::from(is_ip) << 8;
    audited_remember(packet, way.to_bits(), reason_and_kind, bytes);
}

/// A global function: the verifier judges it by itself, and no packet but an audited one comes here.
#[unsafe(no_mangle)]
#[inline(never)]
#[expect(clippy::needless_borrows_for_generic_args, reason = "a copy of the key would lie on the stack")]
extern "C" fn audited_remember(packet: *const Packet, way: u32, reason_and_kind: u32, bytes: u64) -> u32 {
    // SAFETY: callers pass a reference. The verifier takes it for a pointer that may be null.
    let (Some(packet), Some(reason)) =
        (unsafe { packet.as_ref() }, DropReason::from_number(reason_and_kind as u8))
    else {
        return 0;
    };
    let way = Way::from_bits(way);
    let is_ip = reason_and_kind >> 8 != 0;
    let key = if is_ip { Key::of(packet, way, reason) } else { Key::unread(way, reason) };
    let now = u64::from(abi::tick(jiffies()));
    if let Some(seen) = AUDITED.get_ptr_mut(&key) {
        // SAFETY: the element is there, and each of its words is written as one. Two CPUs at once may
        // count one packet less: the counters are exact, and this is an outline.
        unsafe {
            (*seen).packets += 1;
            (*seen).bytes += bytes;
            (*seen).last = now;
        }
        return 0;
    }
    // Another CPU may have been faster; then this packet goes under.
    let _ = AUDITED.insert(&key, &Seen { packets: 1, bytes, first: now, last: now }, 1);
    0
}
