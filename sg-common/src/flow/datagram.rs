//! What the first fragment of a datagram told, kept for the later ones: sets of four places, shared
//! by all CPUs without a lock, of a size that no traffic changes.
//!
//! A later fragment is judged as a packet of the transport header that its first one had, so that it
//! follows the first one's verdict, and the policy and the flow table as they change. A place changes
//! hands as a slot of the flow [`table`](super::table) does: by a compare-exchange of its [`Life`]
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
    /// A [`Life`].
    pub life: Word,
    /// The words of a key from [`key`].
    pub key: [Word; 5],
    /// The first fragment's [`Transport`], as [`Transport::to_words`] packs it.
    pub transport: [Word; 2],
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
        now.wrapping_sub(self.0 as u32)
    }

    #[inline(always)]
    const fn is_live(self, context: &Context<'_>) -> bool {
        // Another CPU's clock may be a tick ahead: that is no age.
        let age = self.age(context.now);
        let limit = context.timeouts[Timeout::Fragment as usize];
        self.kind() >= Self::DROPPED && (age <= limit || age > u32::MAX - 64)
    }

    #[inline(always)]
    const fn busy_after(self) -> Self {
        Self((self.version().wrapping_add(1) as u64) << 48 | Self::BUSY << 32)
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
    let Some(transport) = recall(memory, context, &key_of(zone, packet)) else {
        return ReadingBits::pack(Err(Unreadable::drop(DropReason::FragmentWithoutFirst)));
    };
    // It begins inside of the headers that were judged, to replace them.
    if u32::from(packet.fragment_offset) * 8 < u32::from(transport.headers) {
        return ReadingBits::pack(Err(Unreadable::drop(DropReason::Malformed)));
    }
    packet.transport = transport;
    ReadingBits::pack(Ok(Payload::IP))
}

/// What the first fragment of the datagram told, if it was seen.
#[inline(always)]
fn recall<M: Memory + ?Sized>(memory: &M, context: &Context<'_>, key: &FlowKey) -> Option<Transport> {
    let first = first_of_set(key, context);
    for way in 0..WAYS {
        let place = memory.datagram(first + way)?;
        let life = Life(place.life.load());
        if !life.is_live(context) || !has_key(place, key) {
            continue;
        }
        let [ports, rest] = &place.transport;
        let transport = Transport::from_words([ports.load(), rest.load()]);
        // All was read between two looks at the life; a place that changed hands meanwhile is a miss.
        if place.life.load() == life.0 {
            return Some(transport);
        }
    }
    None
}

/// Keeps what a first fragment told, and whether it passed. Where there is no room nothing happens:
/// its later fragments are then dropped.
#[inline(always)]
pub fn keep<M: Memory + ?Sized>(memory: &M, context: &Context<'_>, zone: u32, packet: &Packet, passed: bool) {
    let key = &key_of(zone, packet);
    const SAME: u64 = u64::MAX;
    const FREE: u64 = 1 << 40;
    const DROPPED: u64 = 1 << 36;
    let first = first_of_set(key, context);
    let mut best = first;
    let mut best_rank = 0;
    for way in 0..WAYS {
        let Some(place) = memory.datagram(first + way) else { return };
        let life = Life(place.life.load());
        let age = u64::from(life.age(context.now)) + 1;
        let has_passed = life.kind() == Life::PASSED;
        let rank = if life.kind() == Life::BUSY {
            0
        } else if !life.is_live(context) {
            FREE
        } else if has_key(place, key) {
            if has_passed && !passed {
                return;
            }
            SAME
        } else if !has_passed {
            DROPPED + age
        } else if passed {
            age
        } else {
            0
        };
        if rank > best_rank {
            best_rank = rank;
            best = first + way;
        }
    }
    if best_rank == 0 {
        return;
    }
    let Some(place) = memory.datagram(best) else { return };
    let life = Life(place.life.load());
    let busy = life.busy_after();
    // A place that is being written belongs to another CPU, and so does one that it took just now.
    if life.kind() == Life::BUSY || !place.life.exchange(life.0, busy.0) {
        return;
    }
    for (stored, word) in place.key.iter().zip(key.0) {
        stored.store(word);
    }
    for (stored, word) in place.transport.iter().zip(packet.transport.to_words()) {
        stored.store(word);
    }
    place.life.exchange(busy.0, busy.begun(passed, context.now).0);
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use super::*;
    use crate::flow::{Bucket, Entry};

    const ZERO: [u64; 6] = [0; 6];
    const KEYS: [u64; 6] = [0x9e37_79b9_7f4a_7c15, 0xbf58_476d_1ce4_e5b9, 0x94d0_49bb_1331_11eb, 3, 5, 7];
    const TIMEOUTS: [u32; 8] = [100; 8];

    struct Heap(Vec<Datagram>);

    impl Heap {
        fn new() -> Self {
            Self((0..DATAGRAMS).map(|_| Datagram::default()).collect())
        }

        fn ports(&self, context: &Context<'_>, id: u32) -> Option<u16> {
            let mut later = Packet { fragment_offset: 1, ..fragment(id) };
            let reading = rejoin(self, context, 3, &mut later).unpack();
            assert!(reading == Ok(Payload::IP) || reading == Err(MISSED));
            reading.is_ok().then_some(later.transport.destination_port)
        }

        fn keep(&self, context: &Context<'_>, id: u32, port: u16, passed: bool) {
            let transport = Transport { destination_port: port, ..Transport::default() };
            keep(self, context, 3, &Packet { transport, ..fragment(id) }, passed);
        }
    }

    impl Memory for Heap {
        fn bucket(&self, _: u32) -> Option<&Bucket> {
            None
        }

        fn entry(&self, _: u32) -> Option<&Entry> {
            None
        }

        fn datagram(&self, index: u32) -> Option<&Datagram> {
            self.0.get(index as usize)
        }
    }

    const MISSED: Unreadable = Unreadable::drop(DropReason::FragmentWithoutFirst);

    fn fragment(id: u32) -> Packet {
        let (source, destination) = (Addr::v4(1), Addr::v4(2));
        Packet { source, destination, fragment_protocol: 17, fragment_id: id, ..Packet::default() }
    }

    /// With these keys every datagram falls into one set.
    const fn crowded(now: u32) -> Context<'static> {
        Context { hash_keys: &ZERO, bucket_mask: 0, timeouts: &TIMEOUTS, now }
    }

    #[test]
    fn what_was_told_comes_back_until_it_expires() {
        let heap = Heap::new();
        let at = |now| Context { hash_keys: &KEYS, ..crowded(now) };
        let told = Transport {
            source_port: 0x1234,
            destination_port: 0x5678,
            icmp: 0x9abc,
            icmp_id: 0xdef0,
            headers: 0x0fed,
            protocol: 0xcb,
        };
        let zone = 0x00ff_ffff;
        let first = Packet {
            source: Addr::v4(1),
            destination: Addr::v6(7, 8),
            fragment_protocol: 17,
            fragment_id: u32::MAX,
            transport: told,
            ..Packet::default()
        };
        let recalled = |now, zone, packet: Packet| {
            let transport = Transport { protocol: 17, ..Transport::default() };
            let mut packet = Packet { transport, fragment_offset: 0x1fff, ..packet };
            let reading = rejoin(&heap, &at(now), zone, &mut packet).unpack();
            (reading, packet.transport)
        };
        let missed = (Err(MISSED), Transport { protocol: 17, ..Transport::default() });
        assert_eq!(recalled(5, zone, first), missed);
        keep(&heap, &at(5), zone, &first, true);
        let known = (Ok(Payload::IP), told);
        assert_eq!(recalled(5, zone, first), known);
        assert_eq!(recalled(4, zone, first), known, "a clock that is a tick behind");
        assert_eq!(recalled(105, zone, first), known);
        assert_eq!(recalled(106, zone, first), missed);
        assert_eq!(recalled(5, zone - 1, first), missed, "another zone");
        for (what, other) in [
            ("source", Packet { source: Addr::v4(3), ..first }),
            ("destination", Packet { destination: Addr::v6(7, 9), ..first }),
            ("protocol", Packet { fragment_protocol: 6, ..first }),
            ("identification", Packet { fragment_id: 7, ..first }),
            ("direction", Packet { source: first.destination, destination: first.source, ..first }),
        ] {
            assert_eq!(recalled(5, zone, other), missed, "{what}");
        }
    }

    #[test]
    fn what_begins_inside_of_the_headers_is_not_let_in() {
        let heap = Heap::new();
        for (headers, offset, expected) in [
            (20, 2, Err(Unreadable::drop(DropReason::Malformed))),
            (20, 3, Ok(Payload::IP)),
            (24, 3, Ok(Payload::IP)),
            (25, 3, Err(Unreadable::drop(DropReason::Malformed))),
            (8, 1, Ok(Payload::IP)),
            (0, 1, Ok(Payload::IP)),
        ] {
            let transport = Transport { headers, ..Transport::default() };
            let first = Packet { transport, ..fragment(1) };
            keep(&heap, &crowded(10), 3, &first, true);
            let mut later = Packet { fragment_offset: offset, ..first };
            let reading = rejoin(&heap, &crowded(10), 3, &mut later).unpack();
            assert_eq!(reading, expected, "{headers} octets of headers, offset {offset}");
        }
    }

    #[test]
    fn the_oldest_gives_way_and_what_passed_never_to_what_did_not() {
        let heap = Heap::new();
        for id in 0..4 {
            heap.keep(&crowded(10 + id), id, 7, true);
        }
        heap.keep(&crowded(20), 9, 7, false);
        assert_eq!(heap.ports(&crowded(20), 9), None, "no room for what was dropped");
        heap.keep(&crowded(20), 5, 7, true);
        let known = |context: &Context<'_>| (0..8).filter(|id| heap.ports(context, *id).is_some()).collect();
        let ids: Vec<u32> = known(&crowded(20));
        assert_eq!(ids, [1, 2, 3, 5]);
        // Number 1 expires at 111: its place is free then, for anything.
        heap.keep(&crowded(112), 6, 7, false);
        let ids: Vec<u32> = known(&crowded(112));
        assert_eq!(ids, [2, 3, 5, 6]);
        heap.keep(&crowded(112), 7, 7, true);
        let ids: Vec<u32> = known(&crowded(112));
        assert_eq!(ids, [2, 3, 5, 7], "what was dropped goes before what is older and passed");
    }

    #[test]
    fn a_first_fragment_again_replaces_only_what_is_no_better() {
        for (before, after, port) in [(true, true, 2), (true, false, 1), (false, true, 2), (false, false, 2)]
        {
            let heap = Heap::new();
            heap.keep(&crowded(10), 1, 1, before);
            heap.keep(&crowded(11), 1, 2, after);
            assert_eq!(heap.ports(&crowded(11), 1), Some(port), "{before} then {after}");
            let places = heap.0.iter().filter(|place| place.life.load() != 0).count();
            assert_eq!(places, 1, "one datagram, one place");
        }
    }

    #[test]
    fn a_zone_is_forgotten_alone() {
        let heap = Heap::new();
        let known = |zone, packet: &Packet| {
            let mut later = Packet { fragment_offset: 1, ..*packet };
            rejoin(&heap, &crowded(10), zone, &mut later).unpack().is_ok()
        };
        let first = fragment(1);
        for zone in [3, 4] {
            keep(&heap, &crowded(10), zone, &first, true);
        }
        heap.0.iter().for_each(|place| place.forget_zone(3));
        assert_eq!((known(3, &first), known(4, &first)), (false, true));
        keep(&heap, &crowded(10), 3, &first, true);
        assert!(known(3, &first));
    }

    #[test]
    fn a_place_that_is_being_written_belongs_to_its_writer() {
        let heap = Heap::new();
        for place in &heap.0[..WAYS as usize] {
            place.life.store(Life::BUSY << 32);
        }
        heap.keep(&crowded(10), 1, 1, true);
        assert!(heap.0.iter().all(|place| place.key[0].load() == 0 && place.transport[0].load() == 0));
        assert_eq!(heap.ports(&crowded(10), 1), None);
    }
}
