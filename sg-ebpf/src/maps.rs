//! Every map, and the typed ways to read them.

use crate::cursor::opaque;
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
    addr::Addr,
    audited::{self, ENTRIES, Seen},
    decide::network::{self, AnswerBits, Network},
    flow::{
        Bucket, Datagram, Entry,
        datagram::{self, Claimed, DATAGRAMS as PLACES, Judged},
        follow::{self, Step},
        identity::Way,
        open::{self, Admission},
        table::{self, Context, Memory, Place},
        track::{self, Terms, Tracked},
    },
    image::{self, CHUNK_NODES, Chunk, Node, Nodes},
    unlock::{self, Unlocks},
    verdict::DropReason,
    wire::{Packet, Payload, ReadingBits, Unreadable},
};

// Sizes are the smallest that make sense; the loader sets the ones that are wanted.

#[map]
static CONTROL: Array<Control> = Array::with_max_entries(1, BPF_F_MMAPABLE);

#[map]
static ATTACHMENTS: Array<Attachment> = Array::with_max_entries(ATTACHMENT_SLOTS, 0);

#[map]
static IMAGE: Array<Chunk> = Array::with_max_entries(2, BPF_F_MMAPABLE);

#[map]
static FLOW_BUCKETS: Array<Bucket> = Array::with_max_entries(1, BPF_F_MMAPABLE);

#[map]
static FLOW_ENTRIES: Array<Entry> = Array::with_max_entries(16, BPF_F_MMAPABLE);

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

/// The buffer of the image map that is in force. Its first chunk is looked up once, and the nodes in
/// it, which are all of most images, are then only an offset away.
#[derive(Clone, Copy)]
pub(crate) struct Image {
    chunk: u32,
    first: &'static Chunk,
}

impl Image {
    #[inline(always)]
    pub(crate) fn new(control: &Control, state: u64) -> Option<Self> {
        /// No map is so large: the image cannot be read, since there is none.
        const NOWHERE: u32 = 1 << 31;
        let chunk = if Control::buffer(state) == 0 { 0 } else { control.buffer_nodes / CHUNK_NODES };
        Self::at(if state == 0 { NOWHERE } else { chunk })
    }

    #[inline(always)]
    fn at(chunk: u32) -> Option<Self> {
        IMAGE.get(chunk).map(|first| Self { chunk, first })
    }
}

impl Image {
    /// A node of the first chunk.
    #[inline(always)]
    fn near(&self, index: u32) -> Option<&'static Node> {
        // Compared as it is used: the verifier bounds the register that it sees compared.
        let index = opaque(index as usize);
        if index < CHUNK_NODES as usize { self.first.get(index) } else { None }
    }
}

/// An image as the functions see it that search it.
struct Whole(Image);

impl Nodes for Whole {
    #[inline(always)]
    fn node(&self, index: u32) -> Option<&Node> {
        let Self(image) = self;
        if let Some(node) = image.near(index) {
            return Some(node);
        }
        let chunk = IMAGE.get(image.chunk.wrapping_add(index / CHUNK_NODES))?;
        chunk.get((index % CHUNK_NODES) as usize)
    }

    #[inline(always)]
    fn class_of(&self, set: u32, address: Addr) -> u64 {
        image_class(self.0.chunk, set, address.hi(), address.lo())
    }

    #[inline(always)]
    fn key_v6(&self, keys: u32, key_nodes: u32, half: u64) -> u32 {
        image_key_v6(self.0.chunk, keys, key_nodes, half)
    }
}

impl Nodes for Image {
    /// The programs themselves read the records of zones alone, which lie at the beginning.
    #[inline(always)]
    fn node(&self, index: u32) -> Option<&Node> {
        self.near(index)
    }

    #[inline(always)]
    fn class_of(&self, set: u32, address: Addr) -> u64 {
        image_class(self.chunk, set, address.hi(), address.lo())
    }

    #[inline(always)]
    fn answer(&self, set: u32, address: Addr, selector: u32) -> u64 {
        image_answer(self.chunk, set, address.hi(), address.lo(), selector)
    }
}

impl Network for Image {
    #[inline(always)]
    fn network(&self, packet: &Packet, payload: Payload, way: Way) -> AnswerBits {
        AnswerBits(image_network(packet, self.chunk, payload.0.into(), way.to_bits()))
    }
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
        let Admission { rule, generation } = admission;
        let way_and_rule = u64::from(way.to_bits()) | u64::from(rule) << 32;
        flow_enter(packet, way_and_rule, generation, bytes) != 0
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
        let Admission { rule, generation } = admission;
        let way_and_rule = u64::from(way.to_bits()) | u64::from(rule) << 32;
        flow_write(place.0, packet, way_and_rule, generation, bytes) != 0
    }

    #[inline(always)]
    fn rank(&self, _context: &Context<'_>, index: u32) -> u64 {
        flow_rank(index)
    }

    #[inline(always)]
    fn claim(&self, _context: &Context<'_>, index: u32, tag: u64) -> Place {
        Place(flow_claim(index, tag))
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

// Global functions of plain numbers, or of a packet besides: the verifier judges each once, by itself, whatever the state
// in which it is called. As part of their callers they would be judged anew on every path.

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn image_class(chunk: u32, set: u32, high: u64, low: u64) -> u64 {
    match Image::at(chunk) {
        Some(image) => image::class_of(&Whole(image), set, Addr::v6(high, low)),
        None => image::CORRUPT,
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn image_answer(chunk: u32, set: u32, high: u64, low: u64, selector: u32) -> u64 {
    match Image::at(chunk) {
        Some(image) => image::answer(&Whole(image), set, Addr::v6(high, low), selector),
        None => image::CORRUPT,
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn image_key_v6(chunk: u32, keys: u32, key_nodes: u32, half: u64) -> u32 {
    match Image::at(chunk) {
        Some(image) => image::key_v6(&Whole(image), keys, key_nodes, half),
        None => image::NO_KEY,
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn image_network(packet: *const Packet, chunk: u32, payload: u32, way: u32) -> u32 {
    // SAFETY: callers pass a reference. The verifier takes it for a pointer that may be null.
    let (Some(packet), Some(image)) = (unsafe { packet.as_ref() }, Image::at(chunk)) else {
        return AnswerBits::pack(Err(DropReason::PolicyUnavailable)).0;
    };
    network::answer(&Whole(image), packet, Payload(payload as u16), Way::from_bits(way)).0
}

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
    let way = Way::from_bits(way_and_rule as u32);
    let admission = Admission { rule: (way_and_rule >> 32) as u32, generation };
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
    let way = Way::from_bits(way_and_rule as u32);
    let admission = Admission { rule: (way_and_rule >> 32) as u32, generation };
    open::write(&Flows, &context(control), Place(place), packet, way, admission, bytes).into()
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn flow_rank(index: u32) -> u64 {
    let Some(control) = control() else { return 0 };
    table::rank(&Flows, &context(control), index)
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn flow_claim(index: u32, tag: u64) -> u64 {
    let Some(control) = control() else { return Place::NOWHERE.0 };
    table::claim(&Flows, &context(control), index, tag).0
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
