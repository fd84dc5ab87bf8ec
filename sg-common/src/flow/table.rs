//! The flow table: two-choice buckets of sixteen tagged slots, shared by all CPUs without a lock.
//!
//! A key hashes to two buckets and a 16-bit tag. A miss reads two half cache lines of tags and
//! usually nothing else; a hit reads one entry more, which is a cache line, and an IPv6 flow's tail.
//!
//! Entries do not lie bucket by bucket but by the slot's number in its bucket: as slots of low numbers are taken
//! first, the entries of a table that is not full lie close together, and need fewer pages.
//!
//! # How CPUs share it
//!
//! * A slot changes hands only by a compare-exchange of its entry's [`Life`] to *busy* with the
//!   next version. Whoever made it busy alone writes the rest, and publishes with the final life.
//! * Later changes of a flow (state, time, generation) are compare-exchanges of the one word that
//!   a packet has read before. The word carries the slot's version, so that such a change fails
//!   once the slot has changed hands.
//! * Counts and TCP's sequence numbers are plain stores. One that comes late, after its slot has changed hands, lands on
//!   the next flow: that may be counted wrong by a packet or ignore what ends it, and passes nothing that the
//!   rules do not.
//! * A reader takes the life, compares the key, takes the origin and the life again: if the version
//!   moved meanwhile it is a miss. The packet is then judged by the rules, which is always safe.
//! * Two CPUs that insert one key at once may make two entries. Lookups then find the first, and
//!   the other dies of idleness.
//!
//! # When there is no room
//!
//! An insert takes a free or expired slot of its two buckets, else the flow longest idle among the
//! [expendable](FlowState::is_expendable); else it fails. No established flow ever gives way, and
//! none of this waits for a sweeper.

mod found;
mod room;

use super::{
    Bucket, Count, Entry, FlowKey, FlowState, Life, Origin, SLOTS, ShortKey, Tail,
    datagram::{self, Claimed, Datagram, Judged},
    follow::{self, Step},
    identity::Way,
    open::{self, Admission},
    track::{self, Terms, Tracked},
};
use crate::{
    tuple::{Direction, Selector},
    unlock::{self, Unlocks},
    wire::{Packet, ReadingBits},
};

pub use found::{Found, counted};
pub use room::{AT_ONCE, claim, rank, reserve, settle};

/// Whoever holds the buckets and entries: maps in the kernel, slices in memory.
pub trait Memory {
    /// Bucket number `index`.
    fn bucket(&self, index: u32) -> Option<&Bucket>;
    /// Entry number `index`: see [`entry_of`].
    fn entry(&self, index: u32) -> Option<&Entry>;
    /// What goes with entry number `index`.
    fn tail(&self, index: u32) -> Option<&Tail>;
    /// Place number `index` for what a first fragment told. Memory without places keeps nothing,
    /// and every later fragment is dropped.
    #[inline(always)]
    fn datagram(&self, index: u32) -> Option<&Datagram> {
        let _ = index;
        None
    }

    /// What is open past the policy. Memory without it opens nothing.
    #[inline(always)]
    fn unlocks(&self) -> Option<&Unlocks> {
        None
    }

    /// Whether a packet that is about to be dropped passes by [`Self::unlocks`]. A function of its own
    /// in the programs, as the next ones are.
    #[inline(always)]
    fn is_unlocked(&self, packet: &Packet, way: Way, jiffies: u64) -> bool {
        self.unlocks().is_some_and(|unlocks| unlock::opens(unlocks, packet, way, jiffies))
    }

    /// Where the flow of a packet lies. The programs make this and the others functions of their own,
    /// which the verifier then judges once instead of on every path to them, and each of which has its
    /// own part of the small stack.
    #[inline(always)]
    fn lookup(&self, context: &Context<'_>, packet: &Packet, way: Way) -> Place {
        search(self, context, &way.key(packet))
    }

    /// [`track::track`] in this memory, likewise.
    #[inline(always)]
    fn track(&self, context: &Context<'_>, packet: &Packet, way: Way, terms: Terms, bytes: u64) -> Tracked {
        track::track(self, context, packet, way, terms, bytes)
    }

    /// [`open::enter`] in this memory, likewise.
    #[inline(always)]
    fn enter(
        &self,
        context: &Context<'_>,
        packet: &Packet,
        way: Way,
        admission: Admission,
        bytes: u64,
    ) -> bool {
        open::enter(self, context, packet, way, admission, bytes)
    }

    /// A busy slot for the flow of a packet, likewise.
    #[inline(always)]
    fn reserve(&self, context: &Context<'_>, packet: &Packet, way: Way) -> Place {
        reserve(self, context, &way.key(packet))
    }

    /// [`open::write`] in this memory, likewise.
    #[inline(always)]
    fn write(
        &self,
        context: &Context<'_>,
        place: Place,
        packet: &Packet,
        way: Way,
        admission: Admission,
        bytes: u64,
    ) -> bool {
        open::write(self, context, place, packet, way, admission, bytes)
    }

    /// [`rank`] in this memory, likewise.
    #[inline(always)]
    fn rank(&self, context: &Context<'_>, slot: u32) -> u64 {
        rank(self, context, slot)
    }

    /// [`claim`] in this memory, likewise.
    #[inline(always)]
    fn claim(&self, context: &Context<'_>, slot: u32, tag: u64) -> Place {
        claim(self, context, slot, tag)
    }

    /// [`follow::follow`] in this memory, likewise.
    #[inline(always)]
    fn follow(&self, context: &Context<'_>, place: Place, packet: &Packet, step: Step, bytes: u64) -> bool {
        follow::follow(self, context, place, packet, step, bytes)
    }

    /// [`datagram::rejoin`] in this memory, likewise.
    #[inline(always)]
    fn rejoin(&self, context: &Context<'_>, zone: u32, packet: &mut Packet) -> ReadingBits {
        datagram::rejoin(self, context, zone, packet)
    }

    /// [`datagram::claim`] in this memory, likewise.
    #[inline(always)]
    fn claim_datagram(&self, context: &Context<'_>, zone: u32, packet: &Packet, judged: Judged) -> Claimed {
        datagram::claim(self, context, zone, packet, judged)
    }

    /// [`datagram::write`] in this memory, likewise.
    #[inline(always)]
    fn write_datagram(
        &self,
        context: &Context<'_>,
        claimed: Claimed,
        zone: u32,
        packet: &Packet,
        judged: Judged,
    ) {
        datagram::write(self, context, claimed, zone, packet, judged);
    }
}

/// An entry and the incarnation that was seen in it, in one register.
///
/// Bits 0–31: entry number; 32–47: version. All ones stand for no entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Place(pub u64);

impl Place {
    /// No entry.
    pub const NOWHERE: Self = Self(u64::MAX);

    #[inline(always)]
    const fn new(index: u32, life: Life) -> Self {
        Self((life.version() as u64) << 32 | index as u64)
    }

    /// The entry's number.
    #[inline(always)]
    #[must_use]
    pub const fn index(self) -> u32 {
        self.0 as u32
    }

    /// The entry and its life, while it is still the incarnation that was seen.
    #[inline(always)]
    fn entry<M: Memory + ?Sized>(self, memory: &M) -> Option<(&Entry, Life)> {
        if self == Self::NOWHERE {
            return None;
        }
        let entry = memory.entry(self.index())?;
        let life = Life(entry.life.load());
        (life.version() == (self.0 >> 32) as u16).then_some((entry, life))
    }
}

/// The table's constant parameters and the present tick.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// Secret keys of the hash.
    pub hash_keys: &'a [u64; 6],
    /// Number of buckets less one.
    pub bucket_mask: u32,
    /// Idle timeouts in ticks.
    pub timeouts: &'a [u32; 8],
    /// The present tick.
    pub now: u32,
}

impl Context<'_> {
    #[inline(always)]
    const fn entry_of(&self, slot: u32) -> u32 {
        entry_of(self.bucket_mask, slot)
    }
}

/// The number of the entry of slot number `slot`, which is slot `slot % 16` of bucket `slot / 16`, in a table of
/// `bucket_mask + 1` buckets.
#[inline(always)]
#[must_use]
pub const fn entry_of(bucket_mask: u32, slot: u32) -> u32 {
    (slot & (SLOTS - 1)).wrapping_mul(bucket_mask.wrapping_add(1)).wrapping_add(slot / SLOTS)
}

/// A flow to be inserted.
#[derive(Clone, Copy, Debug)]
pub struct Opening {
    /// The state it begins in.
    pub state: FlowState,
    /// The direction of the packet that opens it.
    pub opener: Direction,
    /// The generation that admitted it.
    pub generation: u64,
    /// The rule that admitted it, or [`Origin::NO_RULE`].
    pub rule: u32,
    /// What the rules were asked for.
    pub selector: Selector,
    /// Length of the opening packet.
    pub bytes: u64,
    /// TCP: the sequence number that follows the opening packet.
    pub next_sequence: u32,
}

const LANE_LOW: u64 = 0x0001_0001_0001_0001;
const LANE_HIGH: u64 = 0x8000_8000_8000_8000;
/// Entries whose tag agrees that a lookup examines in a bucket. Tags agree by chance once in
/// 65 536, so that a flow hides behind four of them once in 10^15.
const CANDIDATES: u32 = 4;

/// The two buckets and the tag of a key.
#[derive(Clone, Copy)]
struct Choice {
    first: u32,
    second: u32,
    tag: u64,
}

impl Choice {
    #[inline(always)]
    const fn of(key: ShortKey, context: &Context<'_>) -> Self {
        let hash = key.hash(context.hash_keys);
        let first = hash as u32 & context.bucket_mask;
        let second = (hash >> 24) as u32 & context.bucket_mask;
        // Two keys with one tag and one first bucket may still differ in the second; the second
        // never equals the first unless there is one bucket only.
        let second = if second == first { (first + 1) & context.bucket_mask } else { second };
        let tag = hash >> 48;
        Self { first, second, tag: if tag == 0 { 1 } else { tag } }
    }
}

/// Marks, at the lowest bit of its lane, each lane of `word` that is zero: exact for the lowest
/// such lane, which is all that its users look at before they check again.
#[inline(always)]
const fn zero_lanes(word: u64) -> u64 {
    (word.wrapping_sub(LANE_LOW) & !word & LANE_HIGH) >> 15
}

/// One bit for each slot whose tag is `tag`: bit `16 * lane + word`.
#[inline(always)]
fn matches(bucket: &Bucket, tag: u64) -> u64 {
    let pattern = tag.wrapping_mul(LANE_LOW);
    let [a, b, c, d] = &bucket.tags;
    zero_lanes(a.load() ^ pattern)
        | zero_lanes(b.load() ^ pattern) << 1
        | zero_lanes(c.load() ^ pattern) << 2
        | zero_lanes(d.load() ^ pattern) << 3
}

/// The slot of the lowest bit of a mask from [`matches()`].
#[inline(always)]
const fn lowest_slot(mask: u64) -> u32 {
    let bit = mask & mask.wrapping_neg();
    let lane = ((bit >> 16 != 0) as u32) + ((bit >> 32 != 0) as u32) + ((bit >> 48 != 0) as u32);
    let word = (bit >> (16 * lane)) as u32;
    // `word` is 1, 2, 4 or 8.
    ((word >> 1) - (word >> 3)) * 4 + lane
}

/// The live flow of `key`, if there is one.
#[inline(always)]
pub fn find<'a, M: Memory + ?Sized>(
    memory: &'a M,
    context: &Context<'_>,
    key: &FlowKey,
) -> Option<Found<'a>> {
    Found::at(memory, search(memory, context, key))
}

/// Where the live flow of `key` lies.
#[inline(always)]
pub fn search<M: Memory + ?Sized>(memory: &M, context: &Context<'_>, key: &FlowKey) -> Place {
    let short = key.short(context.hash_keys);
    let place = Choice::of(short, context);
    let mut bucket = place.first;
    for choice in 0..2 {
        if choice == 1 {
            bucket = place.second;
        }
        let Some(tags) = memory.bucket(bucket) else { return Place::NOWHERE };
        let mut mask = matches(tags, place.tag);
        for _ in 0..CANDIDATES {
            if mask == 0 {
                break;
            }
            let index = context.entry_of(bucket * SLOTS + (lowest_slot(mask) & (SLOTS - 1)));
            let Some(entry) = memory.entry(index) else { return Place::NOWHERE };
            let life = Life(entry.life.load());
            if is_live(entry, life, context, short) {
                let found = Place::new(index, life);
                if short.family == 0 || has_addresses(memory, found, key) {
                    return found;
                }
            }
            mask &= mask.wrapping_sub(1);
        }
    }
    Place::NOWHERE
}

/// Whether the entry is a live flow that agrees with `key`, `life` being what was read before all else.
#[inline(always)]
fn is_live(entry: &Entry, life: Life, context: &Context<'_>, key: ShortKey) -> bool {
    let Some(state) = life.state() else { return false };
    let difference = (entry.ports.load() ^ key.ports)
        | (entry.addresses.load() ^ key.addresses)
        | (life.family() ^ key.family);
    // The key was read between two looks at the version.
    difference == 0
        && !life.is_expired(state, context.now, context.timeouts)
        && Life(entry.life.load()).version() == life.version()
}

/// Whether the IPv6 flow at `place` has the addresses of `key`.
#[inline(always)]
fn has_addresses<M: Memory + ?Sized>(memory: &M, place: Place, key: &FlowKey) -> bool {
    let Some(tail) = memory.tail(place.index()) else { return false };
    let mut difference = 0;
    for (stored, wanted) in tail.addresses.iter().zip(key.addresses()) {
        difference |= stored.load() ^ wanted;
    }
    // They were read between two looks at the version.
    difference == 0 && place.entry(memory).is_some()
}

/// Enters a flow of `key`. `false` means that there is no room.
///
/// The caller has looked the key up and found nothing live.
#[inline(always)]
pub fn insert<M: Memory + ?Sized>(
    memory: &M,
    context: &Context<'_>,
    key: &FlowKey,
    opening: &Opening,
) -> bool {
    write(memory, context, reserve(memory, context, key), key, opening)
}

/// Writes a flow into the busy slot at `place` and publishes it. `false`: there is no such slot.
#[inline(always)]
pub(super) fn write<M: Memory + ?Sized>(
    memory: &M,
    context: &Context<'_>,
    place: Place,
    key: &FlowKey,
    opening: &Opening,
) -> bool {
    let Some((entry, busy)) = place.entry(memory) else { return false };
    let Opening { state, opener, generation, rule, selector, bytes, next_sequence } = *opening;
    let version = busy.version();
    let short = key.short(context.hash_keys);
    if short.family != 0 {
        let Some(tail) = memory.tail(place.index()) else { return false };
        for (stored, word) in tail.addresses.iter().zip(key.addresses()) {
            stored.store(word);
        }
    }
    entry.ports.store(short.ports);
    entry.addresses.store(short.addresses);
    entry.origin.store(Origin::new(version, generation, rule).0);
    entry.opening.store(u64::from(selector.to_bits()) << 32 | u64::from(context.now));
    let inbound = matches!(opener, Direction::Inbound);
    let first = Count::default().after(bytes).0;
    entry.counts[0].store(if inbound { first } else { 0 });
    entry.counts[1].store(if inbound { 0 } else { first });
    entry.next_sequence[0].store(if inbound { next_sequence } else { 0 });
    entry.next_sequence[1].store(if inbound { 0 } else { next_sequence });
    let life = Life::new(version, state, opener, context.now).of_family(short.family);
    entry.life.exchange(busy.0, life.0);
    true
}

#[cfg(test)]
mod tests;
