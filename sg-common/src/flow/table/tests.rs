extern crate std;

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    vec::Vec,
};

use super::*;
use crate::{
    addr::Addr,
    flow::tests::Heap,
    shared::Word,
    tuple::{Protocol, Table},
};

const KEYS: [u64; 6] = [
    0x9e37_79b9_7f4a_7c15,
    0xbf58_476d_1ce4_e5b9,
    0x94d0_49bb_1331_11eb,
    0xd6e8_feb8_6659_fd93,
    0xa076_1d64_78bd_642f,
    0xe703_7ed1_a0b4_28db,
];

const TIMEOUTS: [u32; 8] = [100; 8];

fn at(heap: &Heap, now: u32) -> Context<'static> {
    Context { hash_keys: &KEYS, bucket_mask: heap.buckets.len() as u32 - 1, timeouts: &TIMEOUTS, now }
}

fn key(number: u32) -> FlowKey {
    FlowKey::new(1, Protocol::TCP, Addr::v4(1), 443, Addr::v4(number), 40_000)
}

fn opening(state: FlowState, rule: u32) -> Opening {
    Opening {
        state,
        opener: Direction::Inbound,
        generation: 7,
        rule,
        selector: Selector { table: Table::Tcp, value: 443 },
        bytes: 60,
        next_sequence: 1,
    }
}

#[test]
fn a_flow_is_found_with_what_was_entered() {
    let heap = Heap::new(4);
    let context = at(&heap, 5);
    assert!(find(&heap, &context, &key(1)).is_none());
    assert!(insert(&heap, &context, &key(1), &opening(FlowState::Opening, 9)));
    let found = find(&heap, &context, &key(1)).unwrap();
    assert_eq!(
        (found.state, found.life.opener(), found.life.seen()),
        (FlowState::Opening, Direction::Inbound, 5)
    );
    assert_eq!((found.origin.rule(), found.origin.generation()), (9, 7));
    assert_eq!(found.selector, Selector { table: Table::Tcp, value: 443 });
    assert_eq!(heap.flows()[0].packets, [1, 0]);
    assert_eq!(heap.flows()[0].bytes, [60, 0]);
    assert!(find(&heap, &context, &key(2)).is_none());
    let mut other_zone = key(1);
    other_zone.0[4] ^= 1 << 40;
    assert!(find(&heap, &context, &other_zone).is_none(), "zones never see each other's flows");
}

#[test]
fn an_idle_flow_is_dead_without_a_sweeper() {
    let heap = Heap::new(1);
    assert!(insert(&heap, &at(&heap, 0), &key(1), &opening(FlowState::Established, 0)));
    assert!(find(&heap, &at(&heap, 100), &key(1)).is_some());
    assert!(find(&heap, &at(&heap, 101), &key(1)).is_none());
    for number in 2..=16 {
        assert!(insert(&heap, &at(&heap, 101), &key(number), &opening(FlowState::Established, 0)));
    }
    assert!(
        insert(&heap, &at(&heap, 101), &key(17), &opening(FlowState::Established, 0)),
        "its slot is free"
    );
    assert!(
        !insert(&heap, &at(&heap, 101), &key(18), &opening(FlowState::Established, 0)),
        "and now none is"
    );
}

#[test]
fn a_full_table_takes_expendable_flows_and_no_others() {
    let heap = Heap::new(1);
    for number in 0..8 {
        assert!(insert(&heap, &at(&heap, 0), &key(number), &opening(FlowState::Established, 0)));
    }
    for number in 8..16 {
        assert!(insert(&heap, &at(&heap, number), &key(number), &opening(FlowState::Opening, 0)));
    }
    for number in 100..1100 {
        assert!(insert(&heap, &at(&heap, 50), &key(number), &opening(FlowState::Opening, 0)));
    }
    let context = at(&heap, 50);
    for number in 0..8 {
        assert!(find(&heap, &context, &key(number)).is_some(), "established flow {number} has survived");
    }
    assert!(find(&heap, &context, &key(8)).is_none(), "the oldest half-open one has not");
    assert!(find(&heap, &context, &key(1099)).is_some(), "the newest is there");
}

#[test]
fn established_flows_fill_most_of_the_table_before_one_is_refused() {
    let heap = Heap::new(256);
    let context = at(&heap, 0);
    let mut entered = 0;
    let capacity = heap.capacity() as u32;
    while entered <= capacity && insert(&heap, &context, &key(entered), &opening(FlowState::Established, 0)) {
        entered += 1;
    }
    assert!(entered <= capacity, "none has given way");
    assert!(entered > capacity * 4 / 5, "{entered} of {capacity}");
    for number in 0..entered {
        assert!(find(&heap, &context, &key(number)).is_some(), "flow {number} of {entered}");
    }
}

#[test]
fn a_change_never_lands_on_the_next_flow_of_a_slot() {
    let heap = Heap::new(1);
    assert!(insert(&heap, &at(&heap, 0), &key(1), &opening(FlowState::Opening, 3)));
    let stale = find(&heap, &at(&heap, 0), &key(1)).unwrap();
    for number in 2..40 {
        assert!(insert(&heap, &at(&heap, number), &key(number), &opening(FlowState::Opening, 4)));
    }
    let before: Vec<_> = heap.entries.iter().map(|entry| (entry.life.load(), entry.origin.load())).collect();
    stale.change(FlowState::Established, 60);
    stale.admit(8, 5);
    let after: Vec<_> = heap.entries.iter().map(|entry| (entry.life.load(), entry.origin.load())).collect();
    assert_eq!(before, after);
}

#[test]
fn a_flow_begins_afresh_in_its_place() {
    let heap = Heap::new(1);
    assert!(insert(&heap, &at(&heap, 0), &key(1), &opening(FlowState::Closing, 3)));
    let found = find(&heap, &at(&heap, 0), &key(1)).unwrap();
    let place = found.retake();
    assert!(write(&heap, &at(&heap, 9), place, &key(1), &opening(FlowState::Opening, 4)));
    let again = find(&heap, &at(&heap, 9), &key(1)).unwrap();
    assert_eq!((again.state, again.origin.rule(), again.life.seen()), (FlowState::Opening, 4, 9));
    assert_eq!(found.retake(), Place::NOWHERE, "what was found is no more");
    assert!(!write(&heap, &at(&heap, 9), found.retake(), &key(1), &opening(FlowState::Opening, 5)));
}

#[test]
fn what_is_over_never_hides_what_follows_it() {
    let heap = Heap::new(4);
    // Each time the flow before it has expired, and other slots are free.
    for round in 1..=20 {
        let now = round * 1000;
        assert!(insert(&heap, &at(&heap, now), &key(1), &opening(FlowState::Opening, round)));
        let found = find(&heap, &at(&heap, now), &key(1)).map(|found| found.origin.rule());
        assert_eq!(found, Some(round));
    }
    let used = heap.entries.iter().filter(|entry| entry.life.load() != 0).count();
    assert_eq!(used, 1, "the same key, the same slot");
}

#[test]
fn slots_are_named_by_the_lowest_bit_of_a_mask() {
    let bucket = Bucket::default();
    for slot in 0..SLOTS {
        bucket.tags[(slot / 4) as usize].store(0xabcd << (16 * (slot % 4)));
        let mask = matches(&bucket, 0xabcd);
        assert_eq!((mask.count_ones(), lowest_slot(mask)), (1, slot));
        bucket.tags[(slot / 4) as usize].store(0);
    }
    assert_eq!(matches(&bucket, 0).count_ones(), 16, "all are free");
}

#[test]
fn the_lowest_lane_that_is_marked_is_the_lowest_that_is_zero() {
    const LANES: [u64; 6] = [0, 1, 2, 0x7fff, 0x8000, 0xffff];
    for a in LANES {
        for b in LANES {
            for c in LANES {
                for d in LANES {
                    let lanes = [a, b, c, d];
                    let lowest = lanes.iter().position(|lane| *lane == 0);
                    let marks = zero_lanes(a | b << 16 | c << 32 | d << 48);
                    let marked = (marks != 0).then(|| marks.trailing_zeros() as usize / 16);
                    assert_eq!(marked, lowest, "{lanes:x?}");
                    assert_eq!(marks & !LANE_LOW, 0, "a mark is the lowest bit of its lane");
                }
            }
        }
    }
}

#[test]
fn of_several_slots_the_lowest_bit_names_one() {
    for one in 0..SLOTS {
        for other in 0..SLOTS {
            let bucket = Bucket::default();
            bucket.tags.iter().for_each(|word| word.store(0x8000_7fff_ffff_0001));
            for slot in [one, other] {
                let word = &bucket.tags[(slot / 4) as usize];
                word.store(word.load() & !(0xffff << (16 * (slot % 4))) | 0xabcd << (16 * (slot % 4)));
            }
            let found = lowest_slot(matches(&bucket, 0xabcd));
            assert!(found == one || found == other, "{found} of {one} and {other}");
        }
    }
}

#[test]
fn flows_whose_tags_and_buckets_agree_are_told_apart() {
    let heap = Heap::new(2);
    let context = Context { hash_keys: &[0; 6], ..at(&heap, 5) };
    for number in 0..4 {
        assert!(insert(&heap, &context, &key(number), &opening(FlowState::Established, number)));
    }
    for number in 0..4 {
        let found = find(&heap, &context, &key(number)).unwrap();
        assert_eq!(found.origin.rule(), number);
    }
    assert!(find(&heap, &context, &key(4)).is_none());
}

#[test]
fn a_key_has_two_buckets_unless_there_is_one_and_a_tag_that_is_not_free() {
    for mask in [1, 3, 0xff] {
        let context = Context { hash_keys: &KEYS, bucket_mask: mask, timeouts: &TIMEOUTS, now: 0 };
        let mut pairs = std::collections::BTreeSet::new();
        for number in 0..2000 {
            let Choice { first, second, tag } = Choice::of(key(number).short(context.hash_keys), &context);
            assert!(first <= mask && second <= mask && first != second);
            assert!((1..=0xffff).contains(&tag));
            pairs.insert((first, second));
        }
        let all = (mask * (mask + 1)) as usize;
        assert!(pairs.len() >= all.min(1900), "{} pairs of {all}", pairs.len());
    }
    let one = Context { hash_keys: &KEYS, bucket_mask: 0, timeouts: &TIMEOUTS, now: 0 };
    let Choice { first, second, .. } = Choice::of(key(1).short(one.hash_keys), &one);
    assert_eq!((first, second), (0, 0));
    let zero = Context { hash_keys: &[0; 6], bucket_mask: 7, ..one };
    let Choice { first, second, tag } = Choice::of(key(1).short(zero.hash_keys), &zero);
    assert_eq!((first, second, tag), (0, 1, 1), "tag 0 means that a slot is free");
}

#[test]
fn what_does_not_belong_to_the_slots_life_is_no_flow() {
    let heap = Heap::new(1);
    let context = at(&heap, 5);
    assert!(insert(&heap, &context, &key(1), &opening(FlowState::Established, 9)));
    let place = search(&heap, &context, &key(1));
    let found = Found::at(&heap, place).unwrap();
    let version = found.life.version();
    assert_eq!(place.0 >> 32, u64::from(version));
    found.entry.origin.store(Origin::new(version + 1, 7, 9).0);
    assert!(Found::at(&heap, place).is_none(), "a rule that is of another flow");
    found.entry.origin.store(found.origin.0);
    assert!(Found::at(&heap, place).is_some());
    found.entry.life.store(Life::new(version + 1, FlowState::Established, Direction::Inbound, 5).0);
    assert!(Found::at(&heap, place).is_none(), "another flow");
    found.entry.life.store(found.life.freed().0);
    assert!(Found::at(&heap, place).is_none(), "none");
    assert!(Found::at(&heap, Place(1000)).is_none() && Found::at(&heap, Place::NOWHERE).is_none());
}

#[test]
fn a_packets_time_is_recorded_when_it_matters() {
    const SECONDS: [u32; 8] = [100, 100, 12, 100, 100, 100, 100, 100];
    let seen = 1000_u32;
    for (what, state, later, expected) in [
        ("at once", FlowState::Established, 0, false),
        ("soon", FlowState::Established, 8, false),
        ("later", FlowState::Established, 9, true),
        ("soon, of a short life", FlowState::Closing, 3, false),
        ("later, of a short life", FlowState::Closing, 4, true),
        ("a clock that is behind", FlowState::Established, u32::MAX, false),
        ("the past", FlowState::Established, u32::MAX / 2, false),
        ("the future", FlowState::Established, u32::MAX / 2 - 1, true),
    ] {
        let heap = Heap::new(1);
        assert!(insert(&heap, &at(&heap, seen), &key(1), &opening(state, 9)));
        let found = find(&heap, &at(&heap, seen), &key(1)).unwrap();
        let now = seen.wrapping_add(later);
        let context = Context { now, timeouts: &SECONDS, ..at(&heap, 0) };
        found.touch(state, &context);
        let life = Life(found.entry.life.load());
        assert_eq!((life.state(), life.seen()), (Some(state), if expected { now } else { seen }), "{what}");
        found.entry.life.store(found.life.0);
        found.touch(FlowState::Answered, &context);
        let life = Life(found.entry.life.load());
        assert_eq!((life.state(), life.seen()), (Some(FlowState::Answered), now), "{what}, another state");
    }
}

#[test]
fn who_has_sent_is_told_by_the_counts() {
    let heap = Heap::new(1);
    let context = at(&heap, 5);
    assert!(insert(&heap, &context, &key(1), &opening(FlowState::Established, 9)));
    let found = find(&heap, &context, &key(1)).unwrap();
    assert!(found.has_sent(Direction::Inbound) && !found.has_sent(Direction::Outbound));
    found.count(&heap, Direction::Outbound, 7);
    found.count(&heap, Direction::Outbound, 8);
    assert!(found.has_sent(Direction::Outbound));
    assert_eq!(counted(found.entry, &heap.tails[0]), [(1, 60), (2, 15)]);
    found.admit(8, 5);
    let again = find(&heap, &context, &key(1)).unwrap();
    assert_eq!((again.origin.rule(), again.origin.generation()), (5, 8));
}

#[test]
fn long_sums_are_kept_in_the_tail_before_a_count_turns_over() {
    for (direction, other) in [(Direction::Inbound, 1), (Direction::Outbound, 0)] {
        let heap = Heap::new(1);
        // What an earlier flow has left.
        heap.tails[0].packets.iter().chain(&heap.tails[0].bytes).for_each(|word| word.store(u64::MAX));
        let context = at(&heap, 5);
        let opening = Opening { opener: direction, ..opening(FlowState::Established, 9) };
        assert!(insert(&heap, &context, &key(1), &opening));
        let found = find(&heap, &context, &key(1)).unwrap();
        let mine = direction as usize;
        let whole = || counted(found.entry, &heap.tails[0]);
        let kept = |words: &[Word; 2]| words.each_ref().map(Word::load);
        const LONG: u64 = 1 << 37;
        for number in 1..=9 {
            found.count(&heap, direction, LONG);
            assert_eq!(whole()[mine], (number + 1, 60 + number * LONG));
            assert_eq!(whole()[other], (0, 0));
        }
        assert_eq!(kept(&heap.tails[0].bytes)[mine], 60 + 8 * LONG, "brought up to date at each second");
        assert_eq!(kept(&heap.tails[0].packets)[mine], 9);
        assert_eq!(kept(&heap.tails[0].bytes)[other], u64::MAX, "the other direction's is left alone");
        assert!(found.has_sent(direction));
    }
}

#[test]
fn flows_of_ipv6_are_told_apart_by_their_whole_addresses() {
    let heap = Heap::new(2);
    let context = at(&heap, 5);
    let key = |hi, lo| FlowKey::new(1, Protocol::TCP, Addr::v6(9, 9), 443, Addr::v6(hi, lo), 40_000);
    assert!(insert(&heap, &context, &key(1, 2), &opening(FlowState::Established, 9)));
    assert_eq!(heap.flows()[0].key, key(1, 2));
    assert!(find(&heap, &context, &key(1, 2)).is_some());
    for other in [key(1, 3), key(0, 2), key(2, 1)] {
        assert!(find(&heap, &context, &other).is_none());
    }
    // Another key of the same mixture, which one would have to know the hash's keys for.
    let place = search(&heap, &context, &key(1, 2));
    for word in 0..4 {
        let words = &heap.tails[place.0 as usize & 0xffff].addresses;
        words[word].store(words[word].load() ^ 1 << 63);
        assert!(find(&heap, &context, &key(1, 2)).is_none(), "word {word}");
        words[word].store(words[word].load() ^ 1 << 63);
    }
    assert!(find(&heap, &context, &key(1, 2)).is_some());
    // An IPv4 flow of that very mixture.
    let entry = &heap.entries[place.0 as usize & 0xffff];
    entry.life.store(entry.life.load() ^ Life::IPV6);
    assert!(find(&heap, &context, &key(1, 2)).is_none());
}

#[test]
fn flows_of_ipv6_whose_addresses_mix_alike_do_not_hide_each_other() {
    let heap = Heap::new(2);
    // Under these keys, words whose high halves are zero do not count.
    let context = Context { hash_keys: &[0; 6], ..at(&heap, 5) };
    let key = |hi, lo| FlowKey::new(1, Protocol::TCP, Addr::v6(9, 9), 443, Addr::v6(hi, lo), 40_000);
    let all = [key(1, 2), key(1, 3), key(2, 1), key(2, 2)];
    for (number, key) in (0..).zip(&all) {
        assert_eq!(key.short(&[0; 6]), all[0].short(&[0; 6]));
        assert!(insert(&heap, &context, key, &opening(FlowState::Established, number)));
    }
    for (number, key) in (0..).zip(&all) {
        assert_eq!(find(&heap, &context, key).map(|found| found.origin.rule()), Some(number), "{number}");
    }
    assert!(find(&heap, &context, &key(3, 3)).is_none());
}

/// What flow `number` was entered with; a reader that sees another rule has read a torn entry.
const fn rule_of(number: u32) -> u32 {
    number & 0xffff
}

#[test]
fn threads_never_see_a_torn_flow_nor_lose_an_established_one() {
    const KEPT: u32 = 64;
    let heap = Heap::new(8);
    let context = at(&heap, 1);
    for number in 0..KEPT {
        assert!(insert(&heap, &context, &key(number), &opening(FlowState::Established, rule_of(number))));
    }
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for worker in 0..2_u32 {
            let (heap, done) = (&heap, &done);
            scope.spawn(move || {
                let mut number = KEPT + worker;
                for _ in 0..60_000 {
                    number += 2;
                    insert(heap, &context, &key(number), &opening(FlowState::Opening, rule_of(number)));
                    if let Some(found) = find(heap, &context, &key(number)) {
                        assert_eq!(found.origin.rule(), rule_of(number), "flow {number}");
                        found.change(FlowState::Answered, 2);
                    }
                }
                done.store(true, Ordering::Relaxed);
            });
        }
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                for number in 0..KEPT {
                    let found = find(&heap, &context, &key(number));
                    let found = found.unwrap_or_else(|| panic!("established flow {number} is lost"));
                    assert_eq!((found.origin.rule(), found.state), (rule_of(number), FlowState::Established));
                }
            }
        });
    });
}
