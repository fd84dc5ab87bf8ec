//! What is kept of first fragments, for how long, and what gives way.

extern crate std;

use std::vec::Vec;

use super::*;
use crate::flow::{Bucket, Entry, Tail};

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
        reading.is_ok().then_some(later.transport.destination_port)
    }

    fn keep(&self, context: &Context<'_>, id: u32, port: u16, passed: bool) {
        let transport = Transport { destination_port: port, ..Transport::default() };
        keep(self, context, 3, &Packet { transport, ..fragment(id) }, judged(passed));
    }

    fn ids(&self, context: &Context<'_>) -> Vec<u32> {
        (0..8).filter(|id| self.verdict(context, *id) != Err(MISSED)).collect()
    }

    fn verdict(&self, context: &Context<'_>, id: u32) -> Result<Payload, Unreadable> {
        rejoin(self, context, 3, &mut Packet { fragment_offset: 1, ..fragment(id) }).unpack()
    }
}

impl Memory for Heap {
    fn bucket(&self, _: u32) -> Option<&Bucket> {
        None
    }

    fn entry(&self, _: u32) -> Option<&Entry> {
        None
    }

    fn tail(&self, _: u32) -> Option<&Tail> {
        None
    }

    fn datagram(&self, index: u32) -> Option<&Datagram> {
        self.0.get(index as usize)
    }
}

const MISSED: Unreadable = Unreadable::drop(DropReason::FragmentWithoutFirst);

const fn judged(passed: bool) -> Judged {
    let reason = if passed { 0 } else { DropReason::NoRule.number() };
    Judged { reason, generation: 7 }
}

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
    keep(&heap, &at(5), zone, &first, judged(true));
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
        keep(&heap, &crowded(10), 3, &first, judged(true));
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
    assert_eq!(heap.verdict(&crowded(20), 9), Err(MISSED), "no room for what was dropped");
    heap.keep(&crowded(20), 5, 7, true);
    assert_eq!(heap.ids(&crowded(20)), [1, 2, 3, 5]);
    // Number 1 expires at 111: its place is free then, for anything.
    heap.keep(&crowded(112), 6, 7, false);
    assert_eq!(heap.ids(&crowded(112)), [2, 3, 5, 6]);
    heap.keep(&crowded(112), 7, 7, true);
    assert_eq!(
        heap.ids(&crowded(112)),
        [2, 3, 5, 7],
        "what was dropped goes before what is older and passed"
    );
}

#[test]
fn a_first_fragment_again_replaces_only_what_is_no_better() {
    let dropped = Err(Unreadable::drop(DropReason::NoRule));
    for (before, after, expected, port) in [
        (true, true, Ok(Payload::IP), Some(2)),
        (true, false, Ok(Payload::IP), Some(1)),
        (false, true, Ok(Payload::IP), Some(2)),
        (false, false, dropped, None),
    ] {
        let heap = Heap::new();
        heap.keep(&crowded(10), 1, 1, before);
        heap.keep(&crowded(11), 1, 2, after);
        assert_eq!(heap.verdict(&crowded(11), 1), expected, "{before} then {after}");
        assert_eq!(heap.ports(&crowded(11), 1), port, "{before} then {after}");
        let places = heap.0.iter().filter(|place| place.life.load() != 0).count();
        assert_eq!(places, 1, "one datagram, one place");
    }
}

#[test]
fn what_another_policy_let_pass_is_not_completed_under_a_new_first() {
    let (same, other) = (Transport::default(), Transport { destination_port: 80, ..Transport::default() });
    for (generation, transport, expected) in
        [(7, other, Ok(Payload::IP)), (8, same, Ok(Payload::IP)), (8, other, Err(MISSED))]
    {
        let heap = Heap::new();
        keep(&heap, &crowded(10), 3, &Packet { transport: same, ..fragment(1) }, judged(true));
        let again = Packet { transport, ..fragment(1) };
        keep(&heap, &crowded(11), 3, &again, Judged { reason: 0, generation });
        assert_eq!(heap.verdict(&crowded(12), 1), expected, "{generation} {transport:?}");
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
        keep(&heap, &crowded(10), zone, &first, judged(true));
    }
    heap.0.iter().for_each(|place| place.forget_zone(3));
    assert_eq!((known(3, &first), known(4, &first)), (false, true));
    keep(&heap, &crowded(10), 3, &first, judged(true));
    assert!(known(3, &first));
}

#[test]
fn a_place_that_is_being_written_belongs_to_its_writer() {
    let heap = Heap::new();
    for place in &heap.0[..WAYS as usize] {
        place.life.store(Life::BUSY << 32);
    }
    heap.keep(&crowded(10), 1, 1, true);
    assert!(heap.0.iter().all(|place| place.key[0].load() == 0 && place.told[0].load() == 0));
    assert_eq!(heap.ports(&crowded(10), 1), None);
}

#[test]
fn a_life_gives_back_what_it_was_made_of() {
    let life = Life(0xfffe << 48 | Life::PASSED << 32 | 77);
    assert_eq!((life.version(), life.kind(), life.age(80)), (0xfffe, Life::PASSED, 3));
    assert_eq!(life.age(77_u32.wrapping_sub(64)), 0, "a clock that is behind");
    assert_eq!(life.age(77_u32.wrapping_sub(65)), u32::MAX - 64, "ticks wrap");
    let busy = life.busy_after();
    assert_eq!(busy.0, 0xffff << 48 | 1 << 32);
    assert_eq!(busy.busy_after().0, 1 << 32, "versions wrap");
    assert_eq!(busy.begun(true, 9).0, 0xffff << 48 | 3 << 32 | 9);
    assert_eq!(busy.begun(false, u32::MAX).0, 0xffff << 48 | 2 << 32 | 0xffff_ffff);
    assert_eq!(life.freed().0, 0xfffe << 48);
}

#[test]
fn a_key_has_every_field_in_a_place_of_its_own() {
    let key = key(0x00ab_cdef, 0x11, Addr::v6(1, 2), Addr::v6(3, 4), 0x1234_5678);
    assert_eq!(key.0, [1, 2, 3, 4, 0xabcd_ef11_1234_5678]);
}

#[test]
fn every_datagram_has_a_set_and_sets_do_not_overlap() {
    let context = Context { hash_keys: &KEYS, ..crowded(0) };
    let mut seen = std::vec![0_u32; SETS as usize];
    for id in 0..200_000 {
        let first = first_of_set(&key_of(3, &fragment(id)), &context);
        assert_eq!(first % WAYS, 0);
        seen[(first / WAYS) as usize] += 1;
    }
    assert_eq!(DATAGRAMS, 16_384);
    let (least, most) = (seen.iter().min().unwrap(), seen.iter().max().unwrap());
    assert!(*least > 10 && *most < 150, "from {least} to {most} of 49 on average");
}

#[test]
fn each_place_of_a_set_is_taken_once() {
    let heap = Heap::new();
    for id in 0..4 {
        heap.keep(&crowded(10), id, 7, true);
    }
    for (place, datagram) in heap.0.iter().enumerate() {
        let expected = if place < 4 { 1 << 48 | 3 << 32 | 10 } else { 0 };
        assert_eq!(datagram.life.load(), expected, "place {place}");
    }
    heap.keep(&crowded(10), 4, 7, true);
    let versions: Vec<_> = heap.0[..4].iter().map(|place| place.life.load() >> 48).collect();
    assert_eq!(versions.iter().sum::<u64>(), 5, "one gave way although all are as old");
    assert_eq!(heap.ports(&crowded(10), 4), Some(7));
}

#[test]
fn what_was_dropped_gives_way_by_age_and_behind_what_has_expired() {
    let heap = Heap::new();
    for (id, now, passed) in [(0, 100, true), (1, 50, false), (2, 40, false), (3, 60, false)] {
        heap.keep(&crowded(now), id, 7, passed);
    }
    let known = |now| heap.ids(&crowded(now));
    heap.keep(&crowded(100), 5, 7, false);
    assert_eq!(known(100), [0, 1, 3, 5], "the oldest of those that were dropped");
    heap.keep(&crowded(100), 6, 7, true);
    assert_eq!(known(100), [0, 3, 5, 6]);
    // At 161 number 3 has expired; 5 was dropped, and is old, but is not over.
    heap.keep(&crowded(161), 7, 7, true);
    assert_eq!(known(161), [0, 5, 6, 7]);
}

#[test]
fn a_zone_is_forgotten_wholly_and_nothing_else_is_touched() {
    let heap = Heap::new();
    heap.keep(&crowded(10), 1, 7, true);
    heap.keep(&crowded(10), 2, 7, false);
    for (place, life) in [(2, 0), (3, 9 << 48 | Life::BUSY << 32)] {
        heap.0[place].life.store(life);
        heap.0[place].key[4].store(3 << 40);
    }
    heap.0.iter().for_each(|place| place.forget_zone(3));
    let lives: Vec<_> = heap.0[..4].iter().map(|place| place.life.load()).collect();
    assert_eq!(lives, [1 << 48, 1 << 48, 0, 9 << 48 | Life::BUSY << 32], "who writes there goes on");
}

#[test]
fn what_was_told_survives_its_words() {
    let transport = Transport {
        source_port: 0x1234,
        destination_port: 0x5678,
        icmp: 0x9abc,
        icmp_id: 0xdef0,
        headers: 0x0fed,
        protocol: 0xcb,
    };
    let told = Told { transport, generation: 0x00ab_cdef, reason: 0x7e };
    assert_eq!(told.to_words(), [0x1234_5678_9abc_def0, 0xabcd_ef7e_000f_edcb]);
    assert_eq!(Told::from_words(told.to_words()), told);
    assert_eq!(Judged { reason: 1, generation: 0xffab_cdef }.low_generation(), 0x00ab_cdef);
}

#[test]
fn every_reason_is_kept() {
    for reason in DropReason::ALL {
        let heap = Heap::new();
        let judged = Judged { reason: reason.number(), generation: 7 };
        keep(&heap, &crowded(10), 3, &fragment(1), judged);
        assert_eq!(heap.verdict(&crowded(10), 1), Err(Unreadable::drop(reason)));
    }
}

#[test]
fn a_claim_names_the_place_its_version_and_whether_it_is_to_be_followed() {
    let heap = Heap::new();
    let first = fragment(1);
    let claimed = claim(&heap, &crowded(10), 3, &first, judged(true));
    assert_eq!(claimed.0, 1 << 32);
    assert_eq!(heap.0[0].life.load(), 1 << 48 | Life::BUSY << 32);
    write(&heap, &crowded(10), claimed, 3, &first, judged(true));
    assert_eq!(heap.0[0].life.load(), 1 << 48 | Life::PASSED << 32 | 10);
    assert_eq!(claim(&heap, &crowded(10), 3, &first, judged(false)), Claimed::NOTHING);
    let other = Packet { transport: Transport { protocol: 9, ..Transport::default() }, ..first };
    let later = Judged { generation: 8, ..judged(true) };
    let claimed = claim(&heap, &crowded(10), 3, &other, later);
    assert_eq!(claimed.0, 1 << 48 | 2 << 32, "what is written must not be followed");
    write(&heap, &crowded(10), claimed, 3, &other, later);
    assert_eq!(heap.0[0].life.load(), 2 << 48 | Life::DROPPED << 32 | 10);
    // Whoever was slower writes nothing over it.
    write(&heap, &crowded(20), Claimed(1 << 32), 3, &first, judged(true));
    assert_eq!(heap.0[0].life.load(), 2 << 48 | Life::DROPPED << 32 | 10);
    assert_eq!(claim(&Heap(Vec::new()), &crowded(10), 3, &first, judged(true)), Claimed::NOTHING);
}

#[test]
fn generations_are_compared_as_far_as_they_are_kept() {
    let heap = Heap::new();
    keep(&heap, &crowded(10), 3, &fragment(1), judged(true));
    let transport = Transport { destination_port: 80, ..Transport::default() };
    let again = Packet { transport, ..fragment(1) };
    keep(&heap, &crowded(10), 3, &again, Judged { reason: 0, generation: 7 + (1 << 24) });
    assert_eq!(heap.ports(&crowded(10), 1), Some(80));
}
