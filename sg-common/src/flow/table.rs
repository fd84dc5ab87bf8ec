//! The flow table: two-choice buckets of sixteen tagged slots, shared by all CPUs without a lock.
//!
//! A key hashes to two buckets and a 16-bit tag. A miss reads two half cache lines of tags and
//! usually nothing else; a hit reads one entry more.
//!
//! # How CPUs share it
//!
//! * A slot changes hands only by a compare-exchange of its entry's [`Life`] to *busy* with the
//!   next version. Whoever made it busy alone writes the rest, and publishes with the final life.
//! * Later changes of a flow (state, time, generation) are compare-exchanges of the one word that
//!   a packet has read before. The word carries the slot's version, so that such a change fails
//!   once the slot has changed hands.
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

use core::sync::atomic::{AtomicU64, Ordering};

use super::{Bucket, Entry, FlowKey, FlowState, Life, Origin, SLOTS};
use crate::tuple::Direction;

/// Whoever holds the buckets and entries: maps in the kernel, slices in memory.
pub trait Memory {
    /// Bucket number `index`.
    fn bucket(&self, index: u32) -> Option<&Bucket>;
    /// Entry number `index`: entry `16 * b + s` belongs to slot `s` of bucket `b`.
    fn entry(&self, index: u32) -> Option<&Entry>;
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

/// A flow as a lookup found it.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    /// The entry.
    pub entry: &'a Entry,
    /// What its life was.
    pub life: Life,
    /// What its origin was.
    pub origin: Origin,
    /// The state, as in `life`.
    pub state: FlowState,
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
    /// Table and value that were judged: `table << 16 | value`.
    pub selector: u32,
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
/// How often an insert tries again when another CPU was faster.
const ATTEMPTS: u32 = 4;

/// The two buckets and the tag of a key.
#[derive(Clone, Copy)]
struct Place {
    first: u32,
    second: u32,
    tag: u64,
}

impl Place {
    #[inline(always)]
    const fn of(key: FlowKey, context: &Context<'_>) -> Self {
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
    zero_lanes(load(a) ^ pattern)
        | zero_lanes(load(b) ^ pattern) << 1
        | zero_lanes(load(c) ^ pattern) << 2
        | zero_lanes(load(d) ^ pattern) << 3
}

/// The slot of the lowest bit of a mask from [`matches`].
#[inline(always)]
const fn lowest_slot(mask: u64) -> u32 {
    let bit = mask & mask.wrapping_neg();
    let lane = ((bit >> 16 != 0) as u32) + ((bit >> 32 != 0) as u32) + ((bit >> 48 != 0) as u32);
    let word = (bit >> (16 * lane)) as u32;
    // `word` is 1, 2, 4 or 8.
    ((word >> 1) - (word >> 3)) * 4 + lane
}

#[inline(always)]
fn load(word: &AtomicU64) -> u64 {
    word.load(Ordering::Relaxed)
}

#[inline(always)]
fn exchange(word: &AtomicU64, old: u64, new: u64) -> bool {
    // Full barriers on every architecture: a successful exchange both claims and publishes.
    word.compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst).is_ok()
}

/// The live flow of `key`, if there is one.
#[inline(always)]
pub fn find<'a, M: Memory + ?Sized>(memory: &'a M, context: &Context<'_>, key: FlowKey) -> Option<Found<'a>> {
    let place = Place::of(key, context);
    let mut bucket = place.first;
    for choice in 0..2 {
        if choice == 1 {
            bucket = place.second;
        }
        let mut mask = matches(memory.bucket(bucket)?, place.tag);
        for _ in 0..CANDIDATES {
            if mask == 0 {
                break;
            }
            let slot = lowest_slot(mask) & (SLOTS - 1);
            if let Some(found) = examine(memory.entry(bucket * SLOTS + slot)?, context, key) {
                return Some(found);
            }
            mask &= mask.wrapping_sub(1);
        }
    }
    None
}

/// The entry as a live flow of `key`, or `None`.
#[inline(always)]
fn examine<'a>(entry: &'a Entry, context: &Context<'_>, key: FlowKey) -> Option<Found<'a>> {
    let life = Life(load(&entry.life));
    let state = life.state()?;
    let FlowKey(words) = key;
    let mut difference = 0;
    for (stored, wanted) in entry.key.iter().zip(words) {
        difference |= load(stored) ^ wanted;
    }
    let origin = Origin(load(&entry.origin));
    if difference != 0 || !origin.belongs_to(life) || life.is_expired(state, context.now, context.timeouts) {
        return None;
    }
    // The key and the origin were read between two looks at the version.
    (Life(load(&entry.life)).version() == life.version()).then_some(Found { entry, life, origin, state })
}

impl Found<'_> {
    /// Moves the flow to `state`, seen now. A change that loses to another CPU's is dropped: the
    /// other packet's view is as good, and a slot that changed hands must not be touched.
    #[inline(always)]
    pub fn change(&self, state: FlowState, now: u32) {
        exchange(&self.entry.life, self.life.0, self.life.with(state, now).0);
    }

    /// Records the packet's time when the flow has been idle for long enough to matter: a shared
    /// line that every packet writes is what keeps flows from scaling over CPUs.
    #[inline(always)]
    pub fn touch(&self, state: FlowState, now: u32) {
        const COARSE: u32 = 8;
        let idle = now.wrapping_sub(self.life.seen());
        if state != self.state || (idle > COARSE && idle < u32::MAX / 2) {
            self.change(state, now);
        }
    }

    /// Records that `generation` admits the flow too, by `rule`.
    #[inline(always)]
    pub fn admit(&self, generation: u64, rule: u32) {
        exchange(&self.entry.origin, self.origin.0, Origin::new(self.life.version(), generation, rule).0);
    }

    /// Counts one packet of `bytes` in `direction`.
    #[inline(always)]
    pub fn count(&self, direction: Direction, bytes: u64) {
        let [inbound_packets, outbound_packets] = &self.entry.packets;
        let [inbound_bytes, outbound_bytes] = &self.entry.bytes;
        let (packets, total) = match direction {
            Direction::Inbound => (inbound_packets, inbound_bytes),
            Direction::Outbound => (outbound_packets, outbound_bytes),
        };
        packets.store(load(packets) + 1, Ordering::Relaxed);
        total.store(load(total) + bytes, Ordering::Relaxed);
    }
}

/// Enters a flow of `key`. `false` means that there is no room.
///
/// The caller has looked the key up and found nothing live.
#[inline(always)]
pub fn insert<M: Memory + ?Sized>(
    memory: &M,
    context: &Context<'_>,
    key: FlowKey,
    opening: &Opening,
) -> bool {
    let place = Place::of(key, context);
    for _ in 0..ATTEMPTS {
        let Some((index, life)) = choose(memory, context, &place) else { return false };
        if claim(memory, index, life, place.tag) {
            let Some(entry) = memory.entry(index) else { return false };
            write(entry, life.busy_after(), context.now, key, opening);
            return true;
        }
    }
    false
}

/// Starts the flow of an entry afresh, in its place: a port is reused.
///
/// `false` means that another CPU was faster; the packet's own verdict does not depend on it.
#[inline(always)]
pub fn restart(found: &Found<'_>, now: u32, key: FlowKey, opening: &Opening) -> bool {
    let busy = found.life.busy_after();
    if !exchange(&found.entry.life, found.life.0, busy.0) {
        return false;
    }
    write(found.entry, busy, now, key, opening);
    true
}

/// The slot that a new flow should take, and its life as seen: a free one in the emptier bucket,
/// else the best of both.
#[inline(always)]
fn choose<M: Memory + ?Sized>(memory: &M, context: &Context<'_>, place: &Place) -> Option<(u32, Life)> {
    let first = matches(memory.bucket(place.first)?, 0);
    let second = matches(memory.bucket(place.second)?, 0);
    let (bucket, free) =
        if first.count_ones() >= second.count_ones() { (place.first, first) } else { (place.second, second) };
    if free != 0 {
        let index = bucket * SLOTS + (lowest_slot(free) & (SLOTS - 1));
        let life = Life(load(&memory.entry(index)?.life));
        if life.state().is_none() && !life.is_busy() {
            return Some((index, life));
        }
    }
    oldest(memory, context, place)
}

/// A slot whose flow is gone or expired, else that of the longest idle expendable flow.
#[inline(always)]
fn oldest<M: Memory + ?Sized>(memory: &M, context: &Context<'_>, place: &Place) -> Option<(u32, Life)> {
    let mut best = None;
    let mut best_rank = 0;
    for number in 0..2 * SLOTS {
        let bucket = if number < SLOTS { place.first } else { place.second };
        let index = bucket * SLOTS + (number & (SLOTS - 1));
        let life = Life(load(&memory.entry(index)?.life));
        let rank = match life.state() {
            None if life.is_busy() => 0,
            None => u64::MAX,
            Some(state) if life.is_expired(state, context.now, context.timeouts) => u64::MAX,
            Some(state) if state.is_expendable() => u64::from(context.now.wrapping_sub(life.seen())) + 1,
            Some(_) => 0,
        };
        if rank > best_rank {
            best_rank = rank;
            best = Some((index, life));
        }
    }
    best
}

/// Makes the slot busy and sets its tag. `false` means that another CPU was faster.
#[inline(always)]
fn claim<M: Memory + ?Sized>(memory: &M, index: u32, life: Life, tag: u64) -> bool {
    let Some(entry) = memory.entry(index) else { return false };
    if !exchange(&entry.life, life.0, life.busy_after().0) {
        return false;
    }
    let slot = index & (SLOTS - 1);
    let shift = 16 * (slot & 3);
    let Some(word) = memory.bucket(index / SLOTS).and_then(|bucket| bucket.tags.get((slot >> 2) as usize))
    else {
        return false;
    };
    for _ in 0..ATTEMPTS {
        let old = load(word);
        if exchange(word, old, old & !(0xffff << shift) | tag << shift) {
            return true;
        }
    }
    // The slot stays usable: it is free, whatever its tag says.
    entry.life.store(life.busy_after().freed().0, Ordering::Relaxed);
    false
}

/// Writes a flow into a busy slot and publishes it.
#[inline(always)]
fn write(entry: &Entry, busy: Life, now: u32, key: FlowKey, opening: &Opening) {
    let Opening { state, opener, generation, rule, selector, bytes, next_sequence } = *opening;
    let version = busy.version();
    for (stored, word) in entry.key.iter().zip(key.0) {
        stored.store(word, Ordering::Relaxed);
    }
    entry.origin.store(Origin::new(version, generation, rule).0, Ordering::Relaxed);
    entry.selector.store(selector, Ordering::Relaxed);
    entry.opened.store(now, Ordering::Relaxed);
    let inbound = matches!(opener, Direction::Inbound);
    let pick = |value: u64, mine: bool| if mine { value } else { 0 };
    entry.packets[0].store(pick(1, inbound), Ordering::Relaxed);
    entry.packets[1].store(pick(1, !inbound), Ordering::Relaxed);
    entry.bytes[0].store(pick(bytes, inbound), Ordering::Relaxed);
    entry.bytes[1].store(pick(bytes, !inbound), Ordering::Relaxed);
    entry.next_sequence[0].store(if inbound { next_sequence } else { 0 }, Ordering::Relaxed);
    entry.next_sequence[1].store(if inbound { 0 } else { next_sequence }, Ordering::Relaxed);
    exchange(&entry.life, busy.0, Life::new(version, state, opener, now).0);
}
