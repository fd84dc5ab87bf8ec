//! Keys, and memory on the heap for the tests of all that works on flows.

extern crate std;

use std::vec::Vec;

use super::{
    table::{Memory, counted},
    *,
};
use crate::unlock::Unlocks;
use datagram::DATAGRAMS;

/// A flow table on the heap, where fragments are remembered, and what is unlocked.
pub(crate) struct Heap {
    pub(crate) buckets: Vec<Bucket>,
    pub(crate) entries: Vec<Entry>,
    pub(crate) tails: Vec<Tail>,
    pub(crate) datagrams: Vec<Datagram>,
    pub(crate) unlocks: Unlocks,
}

impl Heap {
    /// A table without places for fragments.
    pub(crate) fn new(buckets: usize) -> Self {
        Self {
            buckets: (0..buckets).map(|_| Bucket::default()).collect(),
            entries: (0..buckets * SLOTS as usize).map(|_| Entry::default()).collect(),
            tails: (0..buckets * SLOTS as usize).map(|_| Tail::default()).collect(),
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
        self.entries.iter().zip(&self.tails).filter_map(|(entry, tail)| Seen::of(entry, tail)).collect()
    }

    /// The entry of slot `slot % 16` of bucket `slot / 16`.
    pub(crate) fn entry_of(&self, slot: usize) -> &Entry {
        &self.entries[slot % 16 * self.buckets.len() + slot / 16]
    }
}

impl Memory for Heap {
    fn bucket(&self, index: u32) -> Option<&Bucket> {
        self.buckets.get(index as usize)
    }

    fn entry(&self, index: u32) -> Option<&Entry> {
        self.entries.get(index as usize)
    }

    fn tail(&self, index: u32) -> Option<&Tail> {
        self.tails.get(index as usize)
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
    fn of(entry: &Entry, tail: &Tail) -> Option<Self> {
        let (life, origin) = (Life(entry.life.load()), Origin(entry.origin.load()));
        let counted = counted(entry, tail);
        Some(Self {
            key: FlowKey::of(entry, tail),
            state: life.state()?,
            opener: life.opener(),
            seen: life.seen(),
            rule: origin.rule(),
            generation: origin.generation(),
            packets: counted.map(|(packets, _)| packets),
            bytes: counted.map(|(_, bytes)| bytes),
            next: entry.next_sequence.each_ref().map(|next| next.load().into()),
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

const KEYS: [u64; 6] = [
    0x9e37_79b9_7f4a_7c15,
    0xbf58_476d_1ce4_e5b9,
    0x94d0_49bb_1331_11eb,
    0xd6e8_feb8_6659_fd93,
    0xa076_1d64_78bd_642f,
    0xe703_7ed1_a0b4_28db,
];

fn hash(key: FlowKey) -> u64 {
    key.hash(&KEYS)
}

/// Keys of both families, and the bits of each that tell flows apart.
fn keys_and_their_bits() -> [(FlowKey, Vec<(usize, u32)>); 2] {
    let v4 = FlowKey::new(1, Protocol::TCP, Addr::v4(0x0a00_0105), 443, Addr::v4(0xc000_0207), 40_000);
    let all = |words: &[usize], bits: u32| {
        words.iter().flat_map(|word| (0..bits).map(|bit| (*word, bit))).collect::<Vec<_>>()
    };
    let v4_bits = [all(&[1, 3], 32), all(&[4], 64)].concat();
    [(v4, v4_bits), (FlowKey([1, 2, 3, 4, 5]), all(&[0, 1, 2, 3, 4], 64))]
}

#[test]
fn hash_and_short_key_depend_on_every_bit_of_the_key() {
    for (base, bits) in keys_and_their_bits() {
        let short = base.short(&KEYS);
        for (word, bit) in bits {
            let mut other = base;
            other.0[word] ^= 1 << bit;
            assert_ne!(hash(other), hash(base), "word {word} bit {bit}");
            let ShortKey { ports, addresses, family, .. } = other.short(&KEYS);
            assert_ne!((ports, addresses), (short.ports, short.addresses), "word {word} bit {bit}");
            assert_eq!(family, short.family);
        }
    }
}

#[test]
fn every_bit_of_the_key_reaches_the_bits_that_choose_a_bucket_and_the_tag() {
    for (base, bits) in keys_and_their_bits() {
        for (word, bit) in bits {
            let mut other = base;
            other.0[word] ^= 1 << bit;
            let difference = hash(other) ^ hash(base);
            assert_ne!(difference & 0xffff, 0, "word {word} bit {bit}");
            assert_ne!(difference >> 48, 0, "word {word} bit {bit}");
        }
    }
}

#[test]
fn hash_depends_on_every_key() {
    let keys = KEYS;
    let [(v4, _), (v6, _)] = keys_and_their_bits();
    for (flow, used) in [(v4, &[0, 4, 5][..]), (v6, &[0, 1, 2, 3, 4, 5])] {
        let base = flow.hash(&keys);
        for place in used {
            let mut other = keys;
            other[*place] += 2;
            assert_ne!(flow.hash(&other), base, "key {place}");
        }
    }
}

#[test]
fn addresses_of_ipv6_cannot_be_chosen_to_mix_alike() {
    // Changes of two words that cancel each other out in a sum of the products of whole words.
    let base = [0x2600_1234_5678_9abc_u64, 0x1111_2222_3333_4444, 0x2001_0db8_0000_0001, 9];
    for seed in 1..=64_u64 {
        let keys: [u64; 6] =
            core::array::from_fn(|at| (seed * 6 + at as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let short = |words: [u64; 4]| {
            let [a, b, c, d] = words;
            FlowKey([a, b, c, d, 5]).short(&keys).addresses
        };
        for one in 0..4 {
            for other in 0..one {
                for (bits, factors) in [(63, 1), (62, 4), (57, 64_u64)] {
                    for factor in 0..factors {
                        let mut words = base;
                        words[one] ^= 1 << bits;
                        words[other] = words[other].wrapping_add((2 * factor + 1) << bits);
                        assert_ne!(short(words), short(base), "{one} {other} {bits} {factor} {keys:x?}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_short_key_has_all_of_an_ipv4_flow_and_only_that_is_one() {
    let (local, remote) = (Addr::v4(0x0a00_0105), Addr::v4(0xc000_0207));
    let v6 = Addr::v6(0x2001_0db8 << 32, 9);
    let short = |local, remote| FlowKey::new(3, Protocol::UDP, local, 53, remote, 40_000).short(&KEYS);
    let ShortKey { ports, addresses, family, .. } = short(local, remote);
    assert_eq!(
        (ports, addresses, family),
        (3 << 40 | 17 << 32 | 53 << 16 | 40_000, 0x0a00_0105_c000_0207, 0)
    );
    for (local, remote) in [(v6, remote), (local, v6), (v6, v6)] {
        let short = short(local, remote);
        assert_eq!((short.ports, short.family), (ports, 1 << 37), "{local:?} {remote:?}");
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
    assert_eq!(FLOW_LAYOUT, 2);
    let [(v4, _), (v6, _)] = keys_and_their_bits();
    assert_eq!(hash(v4), 0xd3a4_3728_dff3_4e9f);
    assert_eq!((hash(v6), v6.short(&KEYS).addresses), (0x013f_77c7_1e41_3b47, 0xc558_a965_c61f_cce7));
    assert_eq!([0, 1, 15, 16, 127].map(|slot| table::entry_of(7, slot)), [0, 8, 120, 1, 127]);
    assert_eq!((SLOTS, DATAGRAMS, crate::abi::TICK_SHIFT), (16, 16_384, 4));
    assert_eq!((size_of::<Bucket>(), size_of::<Entry>(), size_of::<Tail>()), (32, 64, 64));
    assert_eq!(size_of::<Datagram>(), 64);
    let life = Life::new(2, FlowState::Established, Direction::Outbound, 3);
    let origin = Origin::new(2, 5, 7);
    assert_eq!((life.0, origin.0), (2 << 48 | 1 << 36 | 4 << 32 | 3, 2 << 52 | 5 << 28 | 7));
}
