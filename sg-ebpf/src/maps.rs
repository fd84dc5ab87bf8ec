//! The maps but for the image, and the typed ways to read them.

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    helpers::bpf_jiffies64,
    macros::map,
    maps::{Array, LruHashMap, PerCpuArray, RingBuf},
};
use sg_common::{
    abi::{
        self, ATTACHMENT_PROBES, ATTACHMENT_SLOTS, Attachment, Control, Counter, RuleCounter, attachment_slot,
    },
    audited::{self, ENTRIES, Seen},
    flow::{
        Bucket, Datagram, Entry, Tail,
        datagram::{self, Claimed, DATAGRAMS as PLACES, Judged},
        follow::{self, Step},
        identity::Way,
        open::{self, Admission},
        table::{self, Context, Memory, Place},
        track::{self, Terms, Tracked},
    },
    unlock::{self, Unlocks},
    wire::{Packet, ReadingBits, Unreadable},
};

// Sizes are the smallest that make sense; the loader sets the ones that are wanted.

#[map]
static CONTROL: Array<Control> = Array::with_max_entries(1, BPF_F_MMAPABLE);

#[map]
static ATTACHMENTS: Array<Attachment> = Array::with_max_entries(ATTACHMENT_SLOTS, 0);

#[map]
static FLOW_BUCKETS: Array<Bucket> = Array::with_max_entries(1, BPF_F_MMAPABLE);

#[map]
static FLOW_ENTRIES: Array<Entry> = Array::with_max_entries(16, BPF_F_MMAPABLE);

#[map]
static FLOW_TAILS: Array<Tail> = Array::with_max_entries(16, BPF_F_MMAPABLE);

#[map]
static DATAGRAMS: Array<Datagram> = Array::with_max_entries(PLACES, BPF_F_MMAPABLE);

#[map]
pub(crate) static COUNTERS: PerCpuArray<Counter> = PerCpuArray::with_max_entries(1, 0);

#[map]
pub(crate) static RULE_COUNTERS: PerCpuArray<RuleCounter> = PerCpuArray::with_max_entries(1, 0);

#[map]
pub(crate) static EVENTS: RingBuf = RingBuf::with_byte_size(4096, 0);

#[map]
static UNLOCKS: Array<Unlocks> = Array::with_max_entries(1, BPF_F_MMAPABLE);

#[map]
pub(crate) static AUDITED: LruHashMap<audited::Key, Seen> = LruHashMap::with_max_entries(ENTRIES, 0);

/// What was read of the packet that this CPU judges. On the stack it would take a quarter of it, and the
/// verifier would tell apart all the ways in which a packet can be read.
#[map]
static PACKET: PerCpuArray<Packet> = PerCpuArray::with_max_entries(1, 0);

#[inline(always)]
pub(crate) fn packet() -> Option<&'static mut Packet> {
    // SAFETY: the element belongs to this CPU, and no other program of ours interrupts this one on it.
    PACKET.get_ptr_mut(0).map(|packet| unsafe { &mut *packet })
}

/// Keys, timeouts and the state word.
#[inline(always)]
pub(crate) fn control() -> Option<&'static Control> {
    CONTROL.get(0)
}

/// The state word that is in force at `jiffies`, read once: it changes under running programs.
#[inline(always)]
pub(crate) fn state(control: &Control, jiffies: u64) -> u64 {
    let word = if jiffies < read(&raw const control.fallback_at) {
        &raw const control.state
    } else {
        &raw const control.fallback
    };
    read(word)
}

/// A word that others store.
#[inline(always)]
fn read(word: *const u64) -> u64 {
    // SAFETY: both callers have it from a reference; the load is aligned and as wide as the store.
    unsafe { core::ptr::read_volatile(word) }
}

/// What the interface is bound to.
#[inline(always)]
pub(crate) fn attachment(ifindex: u32) -> Option<Attachment> {
    let mut probe = 0;
    while probe < ATTACHMENT_PROBES {
        let found = *ATTACHMENTS.get(attachment_slot(ifindex, probe))?;
        if found.ifindex == ifindex {
            return Some(found);
        }
        probe += 1;
    }
    None
}

/// The flow maps.
pub(crate) struct Flows;

impl Memory for Flows {
    #[inline(always)]
    fn bucket(&self, index: u32) -> Option<&Bucket> {
        FLOW_BUCKETS.get(index)
    }

    #[inline(always)]
    fn entry(&self, index: u32) -> Option<&Entry> {
        FLOW_ENTRIES.get(index)
    }

    #[inline(always)]
    fn tail(&self, index: u32) -> Option<&Tail> {
        FLOW_TAILS.get(index)
    }

    #[inline(always)]
    fn datagram(&self, index: u32) -> Option<&Datagram> {
        DATAGRAMS.get(index)
    }

    #[inline(always)]
    fn unlocks(&self) -> Option<&Unlocks> {
        UNLOCKS.get(0)
    }

    #[inline(always)]
    fn is_unlocked(&self, packet: &Packet, way: Way, jiffies: u64) -> bool {
        unlock_opens(packet, way.to_bits(), jiffies) != 0
    }

    #[inline(always)]
    fn lookup(&self, _context: &Context<'_>, packet: &Packet, way: Way) -> Place {
        Place(flow_lookup(packet, way.to_bits()))
    }

    #[inline(always)]
    fn track(&self, _context: &Context<'_>, packet: &Packet, way: Way, terms: Terms, bytes: u64) -> Tracked {
        Tracked(flow_track(packet, way.to_bits(), terms.0, bytes))
    }

    #[inline(always)]
    fn enter(
        &self,
        _context: &Context<'_>,
        packet: &Packet,
        way: Way,
        admission: Admission,
        bytes: u64,
    ) -> bool {
        flow_enter(packet, way_and_rule(way, admission), admission.generation, bytes) != 0
    }

    #[inline(always)]
    fn reserve(&self, _context: &Context<'_>, packet: &Packet, way: Way) -> Place {
        Place(flow_reserve(packet, way.to_bits()))
    }

    #[inline(always)]
    fn write(
        &self,
        _context: &Context<'_>,
        place: Place,
        packet: &Packet,
        way: Way,
        admission: Admission,
        bytes: u64,
    ) -> bool {
        flow_write(place.0, packet, way_and_rule(way, admission), admission.generation, bytes) != 0
    }

    #[inline(always)]
    fn rank(&self, _context: &Context<'_>, slot: u32) -> u64 {
        flow_rank(slot)
    }

    #[inline(always)]
    fn claim(&self, _context: &Context<'_>, slot: u32, tag: u64) -> Place {
        Place(flow_claim(slot, tag))
    }

    #[inline(always)]
    fn follow(&self, _context: &Context<'_>, place: Place, packet: &Packet, step: Step, bytes: u64) -> bool {
        flow_follow(place.0, packet, step.to_bits(), bytes) != 0
    }

    #[inline(always)]
    fn rejoin(&self, _context: &Context<'_>, zone: u32, packet: &mut Packet) -> ReadingBits {
        ReadingBits(datagram_rejoin(packet, zone))
    }

    #[inline(always)]
    fn claim_datagram(&self, _context: &Context<'_>, zone: u32, packet: &Packet, judged: Judged) -> Claimed {
        Claimed(datagram_claim(packet, zone, judged.reason.into(), judged.generation))
    }

    #[inline(always)]
    fn write_datagram(
        &self,
        _context: &Context<'_>,
        claimed: Claimed,
        zone: u32,
        packet: &Packet,
        judged: Judged,
    ) {
        datagram_write(claimed.0, packet, zone, judged.reason.into(), judged.generation);
    }
}

/// A way and the rule that admits what goes it, in one register.
#[inline(always)]
fn way_and_rule(way: Way, admission: Admission) -> u64 {
    u64::from(way.to_bits()) | u64::from(admission.rule) << 32
}

/// What [`way_and_rule`] was made of.
#[inline(always)]
fn admitted(way_and_rule: u64, generation: u64) -> (Way, Admission) {
    (Way::from_bits(way_and_rule as u32), Admission { rule: (way_and_rule >> 32) as u32, generation })
}

// Global functions of plain numbers, or of a packet besides: the verifier judges each once, by itself, whatever the state
// in which it is called. As part of their callers they would be judged anew on every path.

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn flow_lookup(packet: *const Packet, way: u32) -> u64 {
    // SAFETY: callers pass a reference. The verifier takes it for a pointer that may be null.
    let (Some(control), Some(packet)) = (control(), unsafe { packet.as_ref() }) else {
        return Place::NOWHERE.0;
    };
    table::search(&Flows, &context(control), &Way::from_bits(way).key(packet)).0
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn flow_track(packet: *const Packet, way: u32, terms: u64, bytes: u64) -> u64 {
    // SAFETY: as in `flow_lookup`.
    let (Some(control), Some(packet)) = (control(), unsafe { packet.as_ref() }) else {
        return Tracked::NOTHING.0;
    };
    track::track(&Flows, &context(control), packet, Way::from_bits(way), Terms(terms), bytes).0
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn flow_enter(packet: *const Packet, way_and_rule: u64, generation: u64, bytes: u64) -> u32 {
    // SAFETY: as in `flow_lookup`.
    let (Some(control), Some(packet)) = (control(), unsafe { packet.as_ref() }) else {
        return 0;
    };
    let (way, admission) = admitted(way_and_rule, generation);
    open::enter(&Flows, &context(control), packet, way, admission, bytes).into()
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn flow_reserve(packet: *const Packet, way: u32) -> u64 {
    // SAFETY: as in `flow_lookup`.
    let (Some(control), Some(packet)) = (control(), unsafe { packet.as_ref() }) else {
        return Place::NOWHERE.0;
    };
    table::reserve(&Flows, &context(control), &Way::from_bits(way).key(packet)).0
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn flow_write(
    place: u64,
    packet: *const Packet,
    way_and_rule: u64,
    generation: u64,
    bytes: u64,
) -> u32 {
    // SAFETY: as in `flow_lookup`.
    let (Some(control), Some(packet)) = (control(), unsafe { packet.as_ref() }) else {
        return 0;
    };
    let (way, admission) = admitted(way_and_rule, generation);
    open::write(&Flows, &context(control), Place(place), packet, way, admission, bytes).into()
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn flow_rank(slot: u32) -> u64 {
    let Some(control) = control() else { return 0 };
    table::rank(&Flows, &context(control), slot)
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn flow_claim(slot: u32, tag: u64) -> u64 {
    let Some(control) = control() else { return Place::NOWHERE.0 };
    table::claim(&Flows, &context(control), slot, tag).0
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn flow_follow(place: u64, packet: *const Packet, step: u32, bytes: u64) -> u32 {
    // SAFETY: as in `flow_lookup`.
    let packet = unsafe { packet.as_ref() };
    let (Some(control), Some(packet), Some(step)) = (control(), packet, Step::from_bits(step)) else {
        return 1;
    };
    follow::follow(&Flows, &context(control), Place(place), packet, step, bytes).into()
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn datagram_rejoin(packet: *mut Packet, zone: u32) -> u32 {
    // SAFETY: as in `flow_lookup`.
    let (Some(control), Some(packet)) = (control(), unsafe { packet.as_mut() }) else {
        return ReadingBits::pack(Err(Unreadable::SHORT)).0;
    };
    datagram::rejoin(&Flows, &context(control), zone, packet).0
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn datagram_claim(packet: *const Packet, zone: u32, reason: u32, generation: u64) -> u64 {
    // SAFETY: as in `flow_lookup`.
    let (Some(control), Some(packet)) = (control(), unsafe { packet.as_ref() }) else {
        return Claimed::NOTHING.0;
    };
    let judged = Judged { reason: reason as u8, generation };
    datagram::claim(&Flows, &context(control), zone, packet, judged).0
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn datagram_write(
    claimed: u64,
    packet: *const Packet,
    zone: u32,
    reason: u32,
    generation: u64,
) -> u32 {
    // SAFETY: as in `flow_lookup`.
    if let (Some(control), Some(packet)) = (control(), unsafe { packet.as_ref() }) {
        let judged = Judged { reason: reason as u8, generation };
        datagram::write(&Flows, &context(control), Claimed(claimed), zone, packet, judged);
    }
    0
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn unlock_opens(packet: *const Packet, way: u32, jiffies: u64) -> u32 {
    // SAFETY: as in `flow_lookup`.
    let (Some(unlocks), Some(packet)) = (UNLOCKS.get(0), unsafe { packet.as_ref() }) else {
        return 0;
    };
    unlock::opens(unlocks, packet, Way::from_bits(way), jiffies).into()
}

#[inline(always)]
fn context(control: &Control) -> Context<'_> {
    Context {
        hash_keys: &control.hash_keys,
        bucket_mask: control.bucket_mask,
        timeouts: &control.timeouts,
        now: abi::tick(jiffies()),
    }
}

/// Jiffies since about the boot.
#[inline(always)]
pub(crate) fn jiffies() -> u64 {
    // SAFETY: the helper takes no arguments and has no preconditions.
    unsafe { bpf_jiffies64() }
}
