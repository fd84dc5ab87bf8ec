//! Keys, and memory on the heap for the tests of all that works on flows.

extern crate std;

use std::vec::Vec;

use super::{table::Memory, *};
use crate::unlock::Unlocks;
use datagram::DATAGRAMS;

/// A flow table on the heap, where fragments are remembered, and what is unlocked.
pub(crate) struct Heap {
    pub(crate) buckets: Vec<Bucket>,
    pub(crate) entries: Vec<Entry>,
    pub(crate) datagrams: Vec<Datagram>,
    pub(crate) unlocks: Unlocks,
}

impl Heap {
    /// A table without places for fragments.
    pub(crate) fn new(buckets: usize) -> Self {
        Self {
            buckets: (0..buckets).map(|_| Bucket::default()).collect(),
            entries: (0..buckets * SLOTS as usize).map(|_| Entry::default()).collect(),
            datagrams: Vec::new(),
            unlocks: Unlocks::default(),
        }
    }

    /// The same with them.
    pub(crate) fn with_datagrams(buckets: usize) -> Self {
        Self { datagrams: (0..DATAGRAMS).map(|_| Datagram::default()).collect(), ..Self::new(buckets) }
    }

    pub(crate) fn capacity(&self) -> usize {
        self.entries.len()
    }

    /// Every flow that a slot holds, live or expired.
    pub(crate) fn flows(&self) -> Vec<Seen> {
        self.entries.iter().filter_map(Seen::of).collect()
    }
}

impl Memory for Heap {
    fn bucket(&self, index: u32) -> Option<&Bucket> {
        self.buckets.get(index as usize)
    }

    fn entry(&self, index: u32) -> Option<&Entry> {
        self.entries.get(index as usize)
    }

    fn datagram(&self, index: u32) -> Option<&Datagram> {
        self.datagrams.get(index as usize)
    }

    fn unlocks(&self) -> Option<&Unlocks> {
        Some(&self.unlocks)
    }
}

/// What an entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) key: FlowKey,
    pub(crate) state: FlowState,
    pub(crate) opener: Direction,
    pub(crate) seen: u32,
    pub(crate) rule: u32,
    pub(crate) generation: u32,
    pub(crate) packets: [u64; 2],
    pub(crate) bytes: [u64; 2],
    pub(crate) next: [u64; 2],
}

impl Seen {
    fn of(entry: &Entry) -> Option<Self> {
        let (life, origin) = (Life(entry.life.load()), Origin(entry.origin.load()));
        Some(Self {
            key: FlowKey(entry.key.each_ref().map(crate::shared::Word::load)),
            state: life.state()?,
            opener: life.opener(),
            seen: life.seen(),
            rule: origin.rule(),
            generation: origin.generation(),
            packets: entry.packets.each_ref().map(crate::shared::Word::load),
            bytes: entry.bytes.each_ref().map(crate::shared::Word::load),
            next: entry.next_sequence.each_ref().map(crate::shared::Word::load),
        })
    }
}

#[test]
fn a_key_gives_back_what_it_was_made_of() {
    let (local, remote) = (Addr::v4(0x0a00_0105), Addr::v6(0x2001_0db8 << 32, 9));
    let key = FlowKey::new(0x00ab_cdef, Protocol::UDP, local, 53, remote, 40_000);
    assert_eq!((key.zone(), key.protocol()), (0x00ab_cdef, Protocol::UDP));
    assert_eq!((key.local(), key.local_port()), (local, 53));
    assert_eq!((key.remote(), key.remote_port()), (remote, 40_000));
}

#[test]
fn hash_depends_on_every_bit_of_the_key() {
    let keys = [0x9e37_79b9_7f4a_7c15, 0xbf58_476d_1ce4_e5b9, 0x94d0_49bb_1331_11eb, 3, 5, 7];
    let base = FlowKey([1, 2, 3, 4, 5]);
    for word in 0..5 {
        for bit in 0..64 {
            let mut other = base;
            other.0[word] ^= 1 << bit;
            assert_ne!(other.hash(&keys), base.hash(&keys), "word {word} bit {bit}");
        }
    }
}

#[test]
fn every_bit_of_the_key_reaches_the_bits_that_choose_a_bucket_and_the_tag() {
    let keys = [0x9e37_79b9_7f4a_7c15, 0xbf58_476d_1ce4_e5b9, 0x94d0_49bb_1331_11eb, 3, 5, 7];
    let base = FlowKey([1, 2, 3, 4, 5]);
    for word in 0..5 {
        for bit in 0..64 {
            let mut other = base;
            other.0[word] ^= 1 << bit;
            let difference = other.hash(&keys) ^ base.hash(&keys);
            assert_ne!(difference & 0xffff, 0, "word {word} bit {bit}");
            assert_ne!(difference >> 48, 0, "word {word} bit {bit}");
        }
    }
}

#[test]
fn hash_depends_on_every_key() {
    let keys = [1, 3, 5, 7, 9, 11];
    let base = FlowKey([1, 2, 3, 4, 5]).hash(&keys);
    for place in 0..6 {
        let mut other = keys;
        other[place] += 2;
        assert_ne!(FlowKey([1, 2, 3, 4, 5]).hash(&other), base, "key {place}");
    }
}

#[test]
fn words_of_a_key_are_where_the_layout_says() {
    let key = FlowKey::new(0x00ab_cdef, Protocol(0x12), Addr::v6(3, 4), 0x3456, Addr::v6(1, 2), 0x789a);
    assert_eq!(key.0, [1, 2, 3, 4, 0xabcd_ef12_3456_789a]);
    let key = FlowKey::icmp(1, Protocol::ICMP, Addr::v4(1), Addr::v4(2), 0x3456, 0xfe, Direction::Outbound);
    assert_eq!(key.0[4], 1 << 40 | 1 << 32 | 0x3456_fe01);
}

#[test]
fn what_outlives_a_version_is_as_its_layout_says() {
    // Whoever changes one of these changes the layout's number, and writes the new ones here.
    assert_eq!(FLOW_LAYOUT, 1);
    let keys = [0x9e37_79b9_7f4a_7c15, 0xbf58_476d_1ce4_e5b9, 0x94d0_49bb_1331_11eb, 3, 5, 7];
    assert_eq!(FlowKey([1, 2, 3, 4, 5]).hash(&keys), 0x21c1_9c57_cd1b_0147);
    assert_eq!((SLOTS, DATAGRAMS, crate::abi::TICK_SHIFT), (16, 16_384, 4));
    assert_eq!((size_of::<Bucket>(), size_of::<Entry>(), size_of::<Datagram>()), (32, 128, 64));
    let life = Life::new(2, FlowState::Established, Direction::Outbound, 3);
    let origin = Origin::new(2, 5, 7);
    assert_eq!((life.0, origin.0), (2 << 48 | 1 << 36 | 4 << 32 | 3, 2 << 52 | 5 << 28 | 7));
}
