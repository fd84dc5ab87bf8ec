//! Which slot is taken, and which never.

extern crate std;

use std::vec::Vec;

use super::*;
use crate::{flow::tests::Heap, tuple::Direction};

const TIMEOUTS: [u32; 8] = [100; 8];

fn at(now: u32) -> Context<'static> {
    Context { hash_keys: &[1; 6], bucket_mask: 3, timeouts: &TIMEOUTS, now }
}

const fn life(state: FlowState, seen: u32) -> Life {
    Life::new(3, state, Direction::Inbound, seen)
}

/// A table in which every slot has a tag and an established flow.
fn full() -> Heap {
    let heap = Heap::new(4);
    for bucket in &heap.buckets {
        bucket.tags.iter().for_each(|word| word.store(0x1111_2222_3333_4444));
    }
    for entry in &heap.entries {
        entry.life.store(life(FlowState::Established, 0).0);
    }
    heap
}

#[test]
fn flows_give_way_by_what_they_are_and_for_how_long_they_were_idle() {
    use FlowState::*;
    const SOONER: u64 = 1 << 33;
    for (what, life, packets, rank) in [
        ("free", Life(0), [0, 0], 1 << 34),
        ("freed", life(Icmp, 0).freed(), [0, 0], 1 << 34),
        ("being written", life(Icmp, 0).busy_after(), [0, 0], 0),
        ("expired", life(Established, 899), [1, 1], 1 << 34),
        ("established, at its end", life(Established, 900), [1, 1], 0),
        ("half closed", life(FinOpener, 990), [1, 1], 0),
        ("half closed by the other", life(FinReplier, 990), [1, 1], 0),
        ("half open", life(Opening, 990), [1, 0], SOONER + 11),
        ("seen just now", life(Opening, 1000), [1, 0], SOONER + 1),
        ("a clock that is behind", life(Opening, 1064), [1, 0], SOONER + 1),
        ("revoked, a clock that is behind", life(Revoked, 1064), [1, 0], 1),
        ("revoked, a clock that is as far behind as one may be", life(Revoked, 1065), [1, 0], 1),
        ("answered", life(Answered, 990), [1, 1], SOONER + 11),
        ("closed", life(Closing, 990), [1, 1], SOONER + 11),
        ("UDP one way", life(UdpOneWay, 990), [1, 0], SOONER + 11),
        ("UDP exchange", life(UdpExchange, 990), [1, 1], 0),
        ("UDP stream", life(UdpStream, 990), [1, 1], 0),
        ("ping out", life(Icmp, 990), [0, 1], SOONER + 11),
        ("ping in", life(Icmp, 990), [1, 0], SOONER + 11),
        ("ping answered", life(Icmp, 990), [1, 1], 0),
        ("GRE one way", life(Other, 990), [2, 0], SOONER + 11),
        ("GRE both ways", life(Other, 990), [2, 2], 0),
        ("UDP stream, one way by now", life(UdpStream, 990), [1, 0], 0),
        ("revoked", life(Revoked, 990), [1, 1], 11),
        ("revoked TCP", life(RevokedTcp, 990), [1, 0], 11),
    ] {
        let heap = Heap::new(4);
        let entry = heap.entry_of(5);
        entry.life.store(life.0);
        entry.counts.iter().zip(packets).for_each(|(count, packets)| count.store(packets << 40));
        assert_eq!(super::rank(&heap, &at(1000), 5), rank, "{what}");
    }
    let patient = Context { timeouts: &[1 << 30; 8], ..at(1 << 29) };
    let heap = Heap::new(4);
    heap.entry_of(5).life.store(life(Revoked, 0).0);
    assert_eq!(super::rank(&heap, &patient, 5), (1 << 29) + 1, "revoked, long ago");
    assert_eq!(AT_ONCE, 1 << 34);
    assert_eq!(super::rank(&Heap::new(4), &at(1000), 79), 0, "there is no such entry");
}

#[test]
fn a_free_slot_of_the_emptier_bucket_is_taken() {
    let choice = Choice { first: 1, second: 3, tag: 7 };
    for (what, free_in_first, free_in_second, expected) in [
        ("none", &[][..], &[][..], NOWHERE),
        ("one in the first", &[5], &[], 16 + 5),
        ("one in the second", &[], &[9], 48 + 9),
        ("as many in both", &[15], &[2], 16 + 15),
        ("more in the first", &[3, 4], &[2], 16 + 4),
        ("more in the second", &[3], &[2, 6], 48 + 2),
    ] {
        let heap = full();
        for (bucket, free) in [(1, free_in_first), (3, free_in_second)] {
            for slot in free {
                let word = &heap.buckets[bucket].tags[slot / 4];
                word.store(word.load() & !(0xffff << (16 * (slot % 4))));
            }
        }
        let found = emptier(&heap, &choice);
        // Of several free slots any will do.
        let free = if expected / 16 == 1 { free_in_first } else { free_in_second };
        let any = free.iter().any(|slot| found == expected / 16 * 16 + *slot as u32);
        assert!(found == expected || any, "{what}: {found}");
    }
    for missing in [Choice { first: 4, ..choice }, Choice { second: 4, ..choice }] {
        assert_eq!(emptier(&Heap::new(4), &missing), NOWHERE);
    }
}

#[test]
fn where_there_is_room_the_first_bucket_is_taken_and_else_nothing_is_done() {
    // (first bucket's tags, second's, entries' state, whether it is done at once)
    const FREE: u64 = 0;
    const TAKEN: u64 = 0x1111_2222_3333_4444;
    let key = FlowKey([1, 2, 3, 4, 5]);
    let context = at(1000);
    let place = Choice::of(key.short(context.hash_keys), &context);
    let mine = place.tag.wrapping_mul(0x0001_0001_0001_0001);
    for (what, first, second, is_done) in [
        ("both are free", [FREE; 4], [FREE; 4], true),
        ("the second is full", [FREE; 4], [TAKEN; 4], true),
        ("the first is a quarter free", [TAKEN, TAKEN, TAKEN, FREE], [FREE; 4], true),
        ("the first is less than that free", [TAKEN, TAKEN, TAKEN, TAKEN >> 16], [FREE; 4], false),
        ("the first is full", [TAKEN; 4], [FREE; 4], false),
        ("the first may hold its flow", [mine, FREE, FREE, FREE], [FREE; 4], false),
        ("the second may hold its flow", [FREE; 4], [FREE, FREE, FREE, mine], false),
    ] {
        let heap = Heap::new(4);
        for (bucket, tags) in [(place.first, first), (place.second, second)] {
            for (word, tags) in heap.buckets[bucket as usize].tags.iter().zip(tags) {
                word.store(tags);
            }
        }
        let settled = settle(&heap, &context, &key);
        assert_eq!(settled != Place::NOWHERE, is_done, "{what}");
        let busy: Vec<_> =
            heap.entries.iter().enumerate().filter(|(_, entry)| entry.life.load() != 0).collect();
        assert_eq!(busy.len(), usize::from(is_done), "{what}");
        if let Some((index, entry)) = busy.first() {
            assert_eq!(*index as u32 % 4, place.first, "{what}");
            assert!(Life(entry.life.load()).is_busy(), "{what}");
        }
    }
}

#[test]
fn every_slot_of_both_buckets_is_asked_whether_it_gives_way() {
    let heap = full();
    assert_eq!(oldest(&heap, &at(50), 1, 3), NOWHERE, "an established flow never does");
    for index in 0..64 {
        let heap = full();
        heap.entry_of(index).life.store(life(FlowState::Closing, 40).0);
        let expected = if matches!(index / 16, 1 | 3) { index as u32 } else { NOWHERE };
        assert_eq!(oldest(&heap, &at(50), 1, 3), expected, "slot {index}");
    }
}

#[test]
fn what_is_over_goes_first_then_the_longest_idle_and_revoked_flows_last() {
    use FlowState::*;
    let heap = full();
    for entry in &heap.entries {
        entry.life.store(life(Established, 940).0);
    }
    for (index, state, seen) in [
        (17, RevokedTcp, 949),
        (18, Revoked, 930),
        (20, Opening, 948),
        (60, Closing, 947),
        (31, UdpOneWay, 945),
        (48, Opening, 890),
    ] {
        heap.entry_of(index).life.store(life(state, seen).0);
    }
    let mut order = Vec::new();
    while let index @ 0..64 = oldest(&heap, &at(1000), 1, 3) {
        order.push(index);
        heap.entry_of(index as usize).life.store(life(Established, 940).0);
    }
    assert_eq!(order, [48, 31, 60, 20, 18, 17], "the first has expired");
}

#[test]
fn a_claim_makes_one_slot_busy_and_sets_its_tag_alone() {
    for index in 0..64_u32 {
        let heap = full();
        heap.entry_of(index as usize).life.store(life(FlowState::Closing, 0).0);
        let place = claim(&heap, &at(50), index, 0xabcd);
        let number = u64::from(index % 16 * 4 + index / 16);
        assert_eq!(place.0, 4 << 32 | number, "the next version of slot {index}");
        for other in 0..64 {
            let entry = heap.entry_of(other);
            let expected = if other as u32 == index {
                life(FlowState::Closing, 0).busy_after()
            } else {
                life(FlowState::Established, 0)
            };
            assert_eq!(entry.life.load(), expected.0);
        }
        for (bucket, tags) in heap.buckets.iter().enumerate() {
            for slot in 0..16 {
                let tag = tags.tags[slot / 4].load() >> (16 * (slot % 4)) & 0xffff;
                let before = [0x4444, 0x3333, 0x2222, 0x1111][slot % 4];
                let expected = if bucket * 16 + slot == index as usize { 0xabcd } else { before };
                assert_eq!(tag, expected, "bucket {bucket} slot {slot} of {index}");
            }
        }
    }
}

#[test]
fn what_does_not_give_way_cannot_be_claimed() {
    let heap = full();
    assert_eq!(claim(&heap, &at(50), 5, 7), Place::NOWHERE);
    heap.entry_of(5).life.store(life(FlowState::Closing, 0).busy_after().0);
    assert_eq!(claim(&heap, &at(50), 5, 7), Place::NOWHERE, "another CPU writes there");
    assert_eq!(heap.buckets[0].tags[1].load(), 0x1111_2222_3333_4444);
    assert_eq!(claim(&heap, &at(50), 64, 7), Place::NOWHERE, "there is no such slot");
}

/// Memory in which other CPUs take the slots that are chosen, this often.
struct Contended(Heap, core::cell::Cell<u32>);

impl Memory for Contended {
    fn bucket(&self, index: u32) -> Option<&crate::flow::Bucket> {
        self.0.bucket(index)
    }

    fn entry(&self, index: u32) -> Option<&Entry> {
        self.0.entry(index)
    }

    fn tail(&self, index: u32) -> Option<&crate::flow::Tail> {
        self.0.tail(index)
    }

    fn claim(&self, context: &Context<'_>, slot: u32, tag: u64) -> Place {
        let left = self.1.get();
        self.1.set(left.saturating_sub(1));
        if left > 0 { Place::NOWHERE } else { claim(self, context, slot, tag) }
    }
}

#[test]
fn it_is_tried_again_so_often_when_another_cpu_was_faster() {
    for (times, reserved) in [(0, true), (3, true), (4, false)] {
        let memory = Contended(Heap::new(4), times.into());
        let place = reserve(&memory, &at(50), &FlowKey([1; 5]));
        assert_eq!(place != Place::NOWHERE, reserved, "{times} times");
    }
}

#[test]
fn what_is_over_of_the_same_tag_goes_first() {
    let choice = Choice { first: 1, second: 3, tag: 7 };
    assert_eq!(former(&full(), &at(50), &choice), NOWHERE, "another tag");
    let tagged = |heap: &Heap, index: usize| {
        let word = &heap.buckets[index / 16].tags[index % 16 / 4];
        word.store(word.load() & !(0xffff << (16 * (index % 4))) | 7 << (16 * (index % 4)));
    };
    for index in 0..64 {
        let heap = full();
        tagged(&heap, index);
        assert_eq!(former(&heap, &at(50), &choice), NOWHERE, "slot {index} is alive");
        heap.entry_of(index).life.store(life(FlowState::Opening, 40).0);
        assert_eq!(former(&heap, &at(50), &choice), NOWHERE, "slot {index} may go, but is not over");
        heap.entry_of(index).life.store(life(FlowState::Opening, 0).freed().0);
        let expected = if matches!(index / 16, 1 | 3) { index as u32 } else { NOWHERE };
        assert_eq!(former(&heap, &at(50), &choice), expected, "slot {index}");
    }
    // Behind others of the same tag that live.
    let heap = full();
    (16..20).for_each(|index| tagged(&heap, index));
    heap.entry_of(17).life.store(0);
    assert_eq!(former(&heap, &at(50), &choice), 17);
    heap.entry_of(17).life.store(life(FlowState::Established, 0).0);
    tagged(&heap, 50);
    heap.entry_of(50).life.store(0);
    assert_eq!(former(&heap, &at(50), &choice), 50, "in the second bucket");
    for missing in [Choice { first: 4, ..choice }, Choice { first: 0, second: 4, ..choice }] {
        assert_eq!(former(&heap, &at(50), &missing), NOWHERE);
    }
}
