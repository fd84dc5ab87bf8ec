//! What the first fragment of a datagram told, kept for the later ones: sets of four places, shared
//! by all CPUs without a lock, of a size that no traffic changes.
//!
//! A later fragment of a first that was dropped is dropped for the same reason. One of a first that
//! passed is judged as a packet of the transport header that it had, so that it follows the policy and
//! the flow table as they change. A place changes
//! hands as a slot of the flow [`table`](super::table) does: by a compare-exchange of its life
//! to *busy* with the next version, which a reader compares before and after.
//!
//! # When there is no room
//!
//! A set takes a datagram into a place that is free or has expired, else over the oldest of those
//! whose first fragment was dropped, else over the oldest. One that was dropped never takes the place
//! of one that passed, nor does it replace what is known of the same datagram: so what no rule allows
//! can neither fill the sets nor end a datagram that is on its way.

use super::{
    FlowKey, Timeout,
    table::{Context, Memory},
};
use crate::{
    addr::Addr,
    shared::Word,
    verdict::DropReason,
    wire::{Packet, Payload, ReadingBits, Transport, Unreadable},
};

/// Sets of places: a power of two.
pub const SETS: u32 = 4096;
/// Places in a set.
pub const WAYS: u32 = 4;
/// Places in all.
pub const DATAGRAMS: u32 = SETS * WAYS;

/// One datagram: a cache line.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Datagram {
    /// A `Life`.
    pub life: Word,
    /// The words of a key from [`key`].
    pub key: [Word; 5],
    /// What the first fragment told, as `Told` packs it.
    pub told: [Word; 2],
}

const _: () = assert!(size_of::<Datagram>() == 64);

impl Datagram {
    /// Frees the place if it holds a datagram of `zone`.
    pub fn forget_zone(&self, zone: u32) {
        let life = Life(self.life.load());
        let key = FlowKey(self.key.each_ref().map(Word::load));
        if life.kind() >= Life::DROPPED && key.zone() == zone {
            // Should the place change hands at this moment, this does nothing to the new datagram.
            self.life.exchange(life.0, life.freed().0);
        }
    }
}

/// What is known of a first fragment: its transport header, the generation that judged it, and why it
/// was dropped, if it was.
///
/// As words: those of [`Transport::to_words`], and in the second one bits 32–39 the reason's number or
/// 0, and bits 40–63 the generation's low bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Told {
    transport: Transport,
    generation: u32,
    reason: u8,
}

impl Told {
    #[inline(always)]
    const fn to_words(self) -> [u64; 2] {
        let [first, second] = self.transport.to_words();
        [first, second | (self.reason as u64) << 32 | (self.generation as u64) << 40]
    }

    #[inline(always)]
    const fn from_words([first, second]: [u64; 2]) -> Self {
        Self {
            transport: Transport::from_words([first, second & 0xffff_ffff]),
            generation: (second >> 40) as u32,
            reason: (second >> 32) as u8,
        }
    }
}

/// What became of a first fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judged {
    /// Why it was dropped, as a number; 0 when it passed.
    pub reason: u8,
    /// The generation that judged it.
    pub generation: u64,
}

impl Judged {
    #[inline(always)]
    const fn low_generation(self) -> u32 {
        (self.generation & 0x00ff_ffff) as u32
    }
}

/// The key of a datagram. Source and destination, not local and remote: the two directions choose
/// their identifications without knowing of each other.
#[inline(always)]
#[must_use]
pub const fn key(zone: u32, protocol: u8, source: Addr, destination: Addr, id: u32) -> FlowKey {
    let last = (zone as u64) << 40 | (protocol as u64) << 32 | id as u64;
    FlowKey([source.hi(), source.lo(), destination.hi(), destination.lo(), last])
}

/// Whether a place holds a datagram, whether it passed, and when it began.
///
/// Bits 0–31: the tick of the first fragment; 32–33: 0 free, 1 being written, 2 dropped, 3 passed;
/// 48–63: version, one more for each datagram that the place held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Life(u64);

impl Life {
    const BUSY: u64 = 1;
    const DROPPED: u64 = 2;
    const PASSED: u64 = 3;

    #[inline(always)]
    const fn kind(self) -> u64 {
        self.0 >> 32 & 3
    }

    #[inline(always)]
    const fn version(self) -> u16 {
        (self.0 >> 48) as u16
    }

    #[inline(always)]
    const fn age(self, now: u32) -> u32 {
        let age = now.wrapping_sub(self.0 as u32);
        // Another CPU's clock may be a tick ahead: that is no age.
        if age > u32::MAX - 64 { 0 } else { age }
    }

    #[inline(always)]
    const fn is_live(self, context: &Context<'_>) -> bool {
        let limit = context.timeouts[Timeout::Fragment as usize];
        self.kind() >= Self::DROPPED && self.age(context.now) <= limit
    }

    #[inline(always)]
    const fn busy_after(self) -> Self {
        Self::busy(self.version().wrapping_add(1))
    }

    #[inline(always)]
    const fn busy(version: u16) -> Self {
        Self((version as u64) << 48 | Self::BUSY << 32)
    }

    const fn freed(self) -> Self {
        Self((self.version() as u64) << 48)
    }

    #[inline(always)]
    const fn begun(self, passed: bool, now: u32) -> Self {
        let kind = if passed { Self::PASSED } else { Self::DROPPED };
        Self((self.version() as u64) << 48 | kind << 32 | now as u64)
    }
}

#[inline(always)]
const fn first_of_set(key: &FlowKey, context: &Context<'_>) -> u32 {
    (key.hash(context.hash_keys) as u32 & (SETS - 1)) * WAYS
}

#[inline(always)]
fn has_key(place: &Datagram, key: &FlowKey) -> bool {
    let mut difference = 0;
    for (stored, wanted) in place.key.iter().zip(key.0) {
        difference |= stored.load() ^ wanted;
    }
    difference == 0
}

/// The key of a fragment's datagram in a zone.
#[inline(always)]
#[must_use]
pub const fn key_of(zone: u32, packet: &Packet) -> FlowKey {
    let Packet { source, destination, fragment_protocol, fragment_id, .. } = *packet;
    key(zone, fragment_protocol, source, destination, fragment_id)
}

/// Section 3 of `docs/semantics.md`: fills into a later fragment what the first one told.
#[inline(always)]
pub fn rejoin<M: Memory + ?Sized>(
    memory: &M,
    context: &Context<'_>,
    zone: u32,
    packet: &mut Packet,
) -> ReadingBits {
    let Some(Told { transport, reason, .. }) = recall(memory, context, &key_of(zone, packet)) else {
        return ReadingBits::pack(Err(Unreadable::drop(DropReason::FragmentWithoutFirst)));
    };
    if let Some(reason) = DropReason::from_number(reason) {
        return ReadingBits::pack(Err(Unreadable::drop(reason)));
    }
    // It begins inside of the headers that were judged, to replace them.
    if u32::from(packet.fragment_offset) * 8 < u32::from(transport.headers) {
        return ReadingBits::pack(Err(Unreadable::drop(DropReason::Malformed)));
    }
    packet.transport = transport;
    ReadingBits::pack(Ok(Payload::IP))
}

/// What the first fragment of the datagram told, if it was seen.
#[inline(always)]
fn recall<M: Memory + ?Sized>(memory: &M, context: &Context<'_>, key: &FlowKey) -> Option<Told> {
    let first = first_of_set(key, context);
    for way in 0..WAYS {
        let place = memory.datagram(first + way)?;
        let life = Life(place.life.load());
        if !life.is_live(context) || !has_key(place, key) {
            continue;
        }
        let told = Told::from_words(place.told.each_ref().map(Word::load));
        // All was read between two looks at the life; a place that changed hands meanwhile is a miss.
        // The second look is an exchange, which orders what was read before it on every machine.
        if place.life.exchange(life.0, life.0) {
            return Some(told);
        }
    }
    None
}

/// Keeps what a first fragment told, and what became of it. Where there is no room nothing happens:
/// its later fragments are then dropped.
#[inline(always)]
pub fn keep<M: Memory + ?Sized>(
    memory: &M,
    context: &Context<'_>,
    zone: u32,
    packet: &Packet,
    judged: Judged,
) {
    let claimed = memory.claim_datagram(context, zone, packet, judged);
    if claimed != Claimed::NOTHING {
        memory.write_datagram(context, claimed, zone, packet, judged);
    }
}

/// A place that is being written, as a number that a BPF function can return.
///
/// Bits 0–31: its index; 32–47: its version; 48: what is written must not be followed. All ones for
/// none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Claimed(pub u64);

impl Claimed {
    /// No place.
    pub const NOTHING: Self = Self(u64::MAX);
    const DEAD: u64 = 1 << 48;
}

/// Makes a place busy for what a first fragment told.
#[inline(always)]
pub fn claim<M: Memory + ?Sized>(
    memory: &M,
    context: &Context<'_>,
    zone: u32,
    packet: &Packet,
    judged: Judged,
) -> Claimed {
    const SAME: u64 = u64::MAX;
    const FREE: u64 = 1 << 40;
    const DROPPED: u64 = 1 << 36;
    let key = &key_of(zone, packet);
    let has_passed = judged.reason == 0;
    let first = first_of_set(key, context);
    let mut best = first;
    let mut best_rank = 0;
    let mut best_life = Life(0);
    let mut dead = 0;
    for way in 0..WAYS {
        let index = first + way;
        let Some(place) = memory.datagram(index) else { return Claimed::NOTHING };
        let life = Life(place.life.load());
        let age = u64::from(life.age(context.now)) + 1;
        let rank = if life.kind() == Life::BUSY {
            0
        } else if !life.is_live(context) {
            FREE
        } else if has_key(place, key) {
            if life.kind() == Life::PASSED {
                if !has_passed {
                    return Claimed::NOTHING;
                }
                // Its receiver may still have the one that another policy let pass: what comes later
                // would complete that, whatever this one says.
                let known = Told::from_words(place.told.each_ref().map(Word::load));
                if known.generation != judged.low_generation() && known.transport != packet.transport {
                    dead = Claimed::DEAD;
                }
            }
            SAME
        } else if life.kind() == Life::DROPPED {
            DROPPED + age
        } else if has_passed {
            age
        } else {
            0
        };
        if rank > best_rank {
            best_rank = rank;
            best = index;
            best_life = life;
        }
    }
    if best_rank == 0 {
        return Claimed::NOTHING;
    }
    let Some(place) = memory.datagram(best) else { return Claimed::NOTHING };
    let busy = best_life.busy_after();
    // What another CPU took since it was ranked is left to it.
    if !place.life.exchange(best_life.0, busy.0) {
        return Claimed::NOTHING;
    }
    Claimed(u64::from(busy.version()) << 32 | u64::from(best) | dead)
}

/// Writes what a first fragment told into a busy place, and publishes it.
#[inline(always)]
pub fn write<M: Memory + ?Sized>(
    memory: &M,
    context: &Context<'_>,
    claimed: Claimed,
    zone: u32,
    packet: &Packet,
    judged: Judged,
) {
    let Some(place) = memory.datagram(claimed.0 as u32) else { return };
    let busy = Life::busy((claimed.0 >> 32) as u16);
    let is_dead = claimed.0 & Claimed::DEAD != 0;
    let reason = if is_dead { DropReason::FragmentWithoutFirst.number() } else { judged.reason };
    let told = Told { transport: packet.transport, generation: judged.low_generation(), reason };
    for (stored, word) in place.key.iter().zip(key_of(zone, packet).0) {
        stored.store(word);
    }
    for (stored, word) in place.told.iter().zip(told.to_words()) {
        stored.store(word);
    }
    place.life.exchange(busy.0, busy.begun(reason == 0, context.now).0);
}

#[cfg(test)]
mod tests;
