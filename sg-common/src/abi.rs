//! The layout of every map, and the names of maps and programs.
//!
//! Both sides build on these types; whatever changes here changes [`ABI_VERSION`], which is part
//! of the pin path, so that two versions read none of each other's maps but those of flows. All numbers are in host
//! order. Sizes and padding are asserted beside each type: a key or value with hidden padding
//! would compare unequal to itself.

use crate::{
    addr::Addr,
    image::{Chunk, Node},
    tuple::Direction,
    verdict::{AllowReason, DropReason, Verdict},
};

/// The version of everything in this module, of [`crate::flow`], [`crate::image`], [`crate::unlock`]
/// and [`crate::audited`]. Flows have a version of their own beside it, [`crate::flow::FLOW_LAYOUT`], and
/// outlive a change of this one alone.
pub const ABI_VERSION: u32 = 6;

/// Map names, as in the object and as pinned.
pub mod map {
    /// One [`super::Control`].
    pub const CONTROL: &str = "CONTROL";
    /// [`super::Attachment`] by [`super::attachment_slot`].
    pub const ATTACHMENTS: &str = "ATTACHMENTS";
    /// Two buffers of [`super::Node`], one behind the other, each of so many [`super::Chunk`]s.
    pub const IMAGE: &str = "IMAGE";
    /// [`crate::flow::Bucket`] by bucket number.
    pub const FLOW_BUCKETS: &str = "FLOW_BUCKETS";
    /// [`crate::flow::Entry`]: sixteen for each bucket.
    pub const FLOW_ENTRIES: &str = "FLOW_ENTRIES";
    /// [`crate::flow::Tail`]: one for each entry.
    pub const FLOW_TAILS: &str = "FLOW_TAILS";
    /// [`crate::flow::Datagram`]: [`crate::flow::datagram::DATAGRAMS`] places.
    pub const DATAGRAMS: &str = "DATAGRAMS";
    /// [`super::Counter`] per CPU, by [`super::counter_index`].
    pub const COUNTERS: &str = "COUNTERS";
    /// [`super::RuleCounter`] per CPU, by rule number.
    pub const RULE_COUNTERS: &str = "RULE_COUNTERS";
    /// A ring of [`super::DropEvent`].
    pub const EVENTS: &str = "EVENTS";
    /// One [`crate::wire::Packet`] per CPU: what is read of the packet that is judged there.
    pub const PACKET: &str = "PACKET";
    /// One [`crate::unlock::Unlocks`].
    pub const UNLOCKS: &str = "UNLOCKS";
    /// [`crate::audited::Seen`] by [`crate::audited::Key`]: what audit mode let pass, the longest
    /// unseen giving way.
    pub const AUDITED: &str = "AUDITED";

    /// Every map.
    pub const ALL: [&str; 13] = [
        CONTROL,
        ATTACHMENTS,
        IMAGE,
        FLOW_BUCKETS,
        FLOW_ENTRIES,
        FLOW_TAILS,
        DATAGRAMS,
        COUNTERS,
        RULE_COUNTERS,
        EVENTS,
        UNLOCKS,
        AUDITED,
        PACKET,
    ];
}

/// Program names, as in the object and as pinned.
pub mod program {
    /// XDP on a host's own interface or a guest's: the ingress hook.
    pub const XDP: &str = "sg_xdp";
    /// TC ingress.
    pub const TC_INGRESS: &str = "sg_tc_ingress";
    /// TC egress.
    pub const TC_EGRESS: &str = "sg_tc_egress";
    /// Returns the tick clock, for calibration by test-run: the low 32 bits of jiffies.
    pub const CLOCK: &str = "sg_clock";

    /// Every program.
    pub const ALL: [&str; 4] = [XDP, TC_INGRESS, TC_EGRESS, CLOCK];
}

/// Right shift from jiffies to the ticks that flows count in: sixteen jiffies are a tick.
pub const TICK_SHIFT: u32 = 4;

/// The tick of a moment in jiffies.
#[inline(always)]
#[must_use]
pub const fn tick(jiffies: u64) -> u32 {
    (jiffies >> TICK_SHIFT) as u32
}

/// The moment in jiffies at which a tick begins, of those before the ticks first wrapped.
#[must_use]
pub const fn jiffies(tick: u32) -> u64 {
    (tick as u64) << TICK_SHIFT
}

/// What every packet reads first. One element, in a map that the agent also maps into memory.
///
/// `state` changes while programs run, by one aligned 64-bit store: the flip from one image to the
/// other. So does `fallback_at`: from that moment on the programs themselves go by `fallback`, with
/// nobody alive to tell them; and `unlocked_until`, which whoever unlocks a port stores. All else is set before the first program is attached, or is a tuning
/// value that may be seen late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Control {
    /// `generation << 1 | buffer`: which generation is in force and which buffer holds its image.
    /// 0 means that none is: every packet of an attached interface is dropped.
    pub state: u64,
    /// The state word in force from [`Self::fallback_at`] on; its image lies in the other buffer.
    pub fallback: u64,
    /// When, in jiffies as `bpf_jiffies64` tells them; [`Self::NEVER`] while nothing is to be undone.
    pub fallback_at: u64,
    /// Until when, in jiffies, something may be open past the policy: see [`crate::unlock`]. Only what
    /// is about to be dropped asks for it. 0: nothing is.
    pub unlocked_until: u64,
    /// Secret keys of the flow hash, random for each load; the first five are made odd.
    pub hash_keys: [u64; 6],
    /// Number of nodes in one buffer, in whole [`Chunk`]s: buffer 1 begins at this node.
    pub buffer_nodes: u32,
    /// Number of flow buckets less one; the number is a power of two.
    pub bucket_mask: u32,
    /// Idle timeouts in ticks, by [`crate::flow::Timeout`].
    pub timeouts: [u32; 8],
    /// Nonzero while somebody wants drop events.
    pub events: u32,
    /// Nonzero when flows keep the verdict of the generation that admitted them.
    pub keep_flows: u32,
}

const _: () = assert!(size_of::<Control>() == 32 + 48 + 8 + 32 + 8, "Control has no hidden padding");

impl Control {
    /// Generations wrap at 24 bits, which is what a flow carries.
    pub const GENERATION_BITS: u32 = 24;

    /// The moment that never comes.
    pub const NEVER: u64 = u64::MAX;

    /// The state word of a generation whose image lies in `buffer` 0 or 1.
    #[must_use]
    pub const fn state_of(generation: u64, buffer: u32) -> u64 {
        generation << 1 | (buffer & 1) as u64
    }

    /// The generation of a state word.
    #[inline(always)]
    #[must_use]
    pub const fn generation(state: u64) -> u64 {
        state >> 1
    }

    /// The buffer of a state word.
    #[inline(always)]
    #[must_use]
    pub const fn buffer(state: u64) -> u32 {
        (state & 1) as u32
    }
}

/// Number of slots in the attachments map.
pub const ATTACHMENT_SLOTS: u32 = 16_384;
/// How many consecutive slots, wrapping, an interface may lie in.
pub const ATTACHMENT_PROBES: u32 = 4;

/// Binds an interface to a zone. A slot whose `ifindex` is 0 is empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Attachment {
    /// The kernel's interface index.
    pub ifindex: u32,
    /// Bits 0–23: the zone; bits 24–31: [`Attachment::BARE_IP`] and [`Attachment::GUEST`].
    pub zone_and_flags: u32,
}

const _: () = assert!(size_of::<Attachment>() == 8, "written and read as one 64-bit word");

impl Attachment {
    /// The interface carries bare IP, without an Ethernet header.
    pub const BARE_IP: u32 = 1 << 24;
    /// The instance is behind the interface: what its zone says too, where the image can be read.
    pub const GUEST: u32 = 1 << 25;

    /// The zone number.
    #[inline(always)]
    #[must_use]
    pub const fn zone(self) -> u32 {
        self.zone_and_flags & 0x00ff_ffff
    }

    /// Whether the interface carries bare IP.
    #[inline(always)]
    #[must_use]
    pub const fn is_bare_ip(self) -> bool {
        self.zone_and_flags & Self::BARE_IP != 0
    }

    /// Whether the instance is behind the interface.
    #[inline(always)]
    #[must_use]
    pub const fn is_guest(self) -> bool {
        self.zone_and_flags & Self::GUEST != 0
    }
}

/// The slot at which the search for an interface begins.
#[inline(always)]
#[must_use]
pub const fn attachment_slot(ifindex: u32, probe: u32) -> u32 {
    ifindex.wrapping_add(probe) & (ATTACHMENT_SLOTS - 1)
}

/// Packets and bytes. Bytes are whole frames as the hook sees them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Counter {
    /// Packets.
    pub packets: u64,
    /// Bytes, link header included.
    pub bytes: u64,
}

/// Counters of one zone and direction.
pub const COUNTER_SLOTS: u32 = 64;
/// Where drops that audit mode let pass begin, within [`COUNTER_SLOTS`].
pub const AUDITED: u32 = 32;
const DROPS: u32 = 4;

const _: () = assert!(
    DROPS as usize + DropReason::LIMIT <= AUDITED as usize && AllowReason::ALL.len() <= DROPS as usize,
    "slots: 0–3 allowed, 4–31 dropped, 36–63 audited"
);

/// The place of a verdict among a zone and direction's [`COUNTER_SLOTS`].
#[inline(always)]
#[must_use]
pub const fn counter_slot(verdict: Verdict, is_audited: bool) -> u32 {
    match verdict {
        Verdict::Allow(reason, _) => reason as u32,
        Verdict::Drop(reason) => DROPS + reason as u32 + if is_audited { AUDITED } else { 0 },
    }
}

/// The index of a counter in the counters map.
#[inline(always)]
#[must_use]
pub const fn counter_index(zone: u32, direction: Direction, slot: u32) -> u32 {
    (zone * 2 + direction as u32) * COUNTER_SLOTS + slot
}

/// What one rule admitted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct RuleCounter {
    /// Flows opened; for untracked traffic, nothing.
    pub flows: u64,
    /// Packets, both directions of its flows.
    pub packets: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// The tick of the latest packet, as [`program::CLOCK`] counts; 0 means never.
    pub last_hit: u64,
}

/// A dropped packet, as reported to whoever follows drops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct DropEvent {
    /// Nanoseconds of the monotonic clock.
    pub time: u64,
    /// Source, as on the wire; zero when the packet could not be parsed.
    pub source: Addr,
    /// Destination, as on the wire.
    pub destination: Addr,
    /// The interface.
    pub ifindex: u32,
    /// Length of the frame in bytes.
    pub length: u32,
    /// Source port, or ICMP type and code; 0 where there is none.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// IP protocol; 0 with zero addresses when the packet could not be parsed.
    pub protocol: u8,
    /// [`Direction`] as a number.
    pub direction: u8,
    /// [`DropReason`] as a number.
    pub reason: u8,
    /// 1 when audit mode let it pass.
    pub audited: u8,
}

const _: () = assert!(size_of::<DropEvent>() == 8 + 32 + 8 + 8, "DropEvent has no hidden padding");
const _: () = assert!(size_of::<Node>() == 64 && size_of::<Chunk>() == 4 << 20);
const _: () = assert!(size_of::<Counter>() == 16 && size_of::<RuleCounter>() == 32);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verdict_has_a_counter_of_its_own() {
        let mut seen = [false; COUNTER_SLOTS as usize];
        let allows = AllowReason::ALL.into_iter().map(|reason| (Verdict::Allow(reason, None), false));
        let drops = DropReason::ALL.into_iter().map(|reason| (Verdict::Drop(reason), false));
        let audited = DropReason::ALL.into_iter().map(|reason| (Verdict::Drop(reason), true));
        for (verdict, is_audited) in allows.chain(drops).chain(audited) {
            let slot = &mut seen[counter_slot(verdict, is_audited) as usize];
            assert!(!*slot, "{verdict:?} shares its counter");
            *slot = true;
        }
        assert_eq!(counter_index(1, Direction::Outbound, 5), 3 * 64 + 5);
    }
}
