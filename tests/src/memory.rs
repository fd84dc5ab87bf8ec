//! The tables in this process's memory: what the kernel holds in maps.

use sg_agent::image::Image;
use sg_common::{
    abi::{self, Control},
    decide::{Hook, Outcome, Tables, decide},
    flow::{
        Bucket, Datagram, Entry, SLOTS, Tail,
        datagram::DATAGRAMS,
        table::{Context, Memory},
    },
    shared::Word,
    unlock::{Unlock, Unlocks},
    wire::{LinkLayer, Packet, Slice, parse},
};

/// Keys of the flow hash; what they are does not matter here.
pub const HASH_KEYS: [u64; 6] = [
    0x9e37_79b9_7f4a_7c15,
    0xbf58_476d_1ce4_e5b9,
    0x94d0_49bb_1331_11eb,
    0xd6e8_feb8_6659_fd93,
    0xa076_1d64_78bd_642f,
    0xe703_7ed1_a0b4_28db,
];

/// Words of an entry, and of its tail.
pub const ENTRY_WORDS: usize = size_of::<Entry>() / 8;

/// Flow buckets and entries, and what first fragments told, on the heap.
#[derive(Debug)]
pub struct Heap {
    buckets: Vec<Bucket>,
    entries: Vec<Entry>,
    tails: Vec<Tail>,
    datagrams: Vec<Datagram>,
    unlocks: Unlocks,
}

impl Heap {
    /// An empty table of this many buckets: a power of two.
    #[must_use]
    pub fn new(buckets: u32) -> Self {
        Self {
            buckets: (0..buckets).map(|_| Bucket::default()).collect(),
            entries: (0..buckets * SLOTS).map(|_| Entry::default()).collect(),
            tails: (0..buckets * SLOTS).map(|_| Tail::default()).collect(),
            datagrams: (0..DATAGRAMS).map(|_| Datagram::default()).collect(),
            unlocks: Unlocks::default(),
        }
    }
}

impl Heap {
    /// Every bucket.
    #[must_use]
    pub fn buckets(&self) -> &[Bucket] {
        &self.buckets
    }

    /// Every entry: sixteen for each bucket.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// What goes with each entry.
    #[must_use]
    pub fn tails(&self) -> &[Tail] {
        &self.tails
    }

    /// Every place for what a first fragment told.
    #[must_use]
    pub fn datagrams(&self) -> &[Datagram] {
        &self.datagrams
    }
}

/// The words of an entry, in the order in memory.
#[must_use]
pub fn words_of(entry: &Entry) -> [u64; ENTRY_WORDS] {
    let Entry { life, origin, ports, addresses, opening, next_sequence, counts } = entry;
    let [sent, heard] = next_sequence.each_ref().map(|half| u64::from(half.load()));
    let [first, second] = counts;
    let [life, origin, ports, addresses, opening, first, second] =
        [life, origin, ports, addresses, opening, first, second].map(Word::load);
    [life, origin, ports, addresses, opening, heard << 32 | sent, first, second]
}

/// Writes the words of an entry.
pub fn write_entry(entry: &Entry, words: [u64; ENTRY_WORDS]) {
    let [life, origin, ports, addresses, opening, sequences, first, second] = words;
    entry.life.store(life);
    entry.origin.store(origin);
    entry.ports.store(ports);
    entry.addresses.store(addresses);
    entry.opening.store(opening);
    entry.next_sequence[0].store(sequences as u32);
    entry.next_sequence[1].store((sequences >> 32) as u32);
    entry.counts[0].store(first);
    entry.counts[1].store(second);
}

/// The words of an entry's tail, in the order in memory.
#[must_use]
pub const fn words_of_tail(tail: &Tail) -> [&Word; ENTRY_WORDS] {
    let Tail { addresses: [a0, a1, a2, a3], packets: [p0, p1], bytes: [b0, b1] } = tail;
    [a0, a1, a2, a3, p0, p1, b0, b1]
}

/// The words of a datagram's place, in the order in memory.
#[must_use]
pub const fn words_of_datagram(place: &Datagram) -> [&Word; 8] {
    let Datagram { life, key: [k0, k1, k2, k3, k4], told: [t0, t1] } = place;
    [life, k0, k1, k2, k3, k4, t0, t1]
}

/// Writes these ports alone, each until its tick. Gives the moment until which one is open.
pub fn written(unlocks: &Unlocks, unlocked: &[(Unlock, u32)]) -> u64 {
    for place in &unlocks.places {
        place.until.store(0);
    }
    for (place, (unlock, tick)) in unlocks.places.iter().zip(unlocked) {
        place.prepare(unlock);
        place.until.store(abi::jiffies(*tick));
    }
    unlocked.iter().map(|(_, tick)| abi::jiffies(*tick)).max().unwrap_or(0)
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

/// The decision in user space, with zone 0 alone and a clock that the caller sets.
#[derive(Debug)]
pub struct UserSpace {
    memory: Heap,
    control: Control,
    generation: u64,
}

impl UserSpace {
    /// With an empty flow table of this many buckets.
    #[must_use]
    pub fn new(buckets: u32) -> Self {
        let control = Control {
            state: 0,
            fallback: 0,
            fallback_at: Control::NEVER,
            unlocked_until: 0,
            hash_keys: HASH_KEYS,
            buffer_nodes: 0,
            bucket_mask: buckets - 1,
            timeouts: [1 << 24; 8],
            events: 0,
            keep_flows: 0,
        };
        Self { memory: Heap::new(buckets), control, generation: 1 }
    }

    /// Another generation is in force from here on.
    pub fn set_generation(&mut self, generation: u64) {
        self.generation = generation;
    }

    /// These ports are open past the policy, each until its tick, and no others.
    pub fn unlock(&mut self, unlocked: &[(Unlock, u32)]) {
        self.control.unlocked_until = written(&self.memory.unlocks, unlocked);
    }

    /// With an empty table, these timeouts in ticks, and flows that live on or not when a policy no
    /// longer allows them.
    #[must_use]
    pub fn tuned(buckets: u32, timeouts: [u32; 8], keeps_flows: bool) -> Self {
        let mut made = Self::new(buckets);
        made.control.timeouts = timeouts;
        made.control.keep_flows = keeps_flows.into();
        made
    }

    /// Judges one Ethernet frame at tick 1.
    pub fn judge(&self, image: &Image, hook: Hook, frame: &[u8]) -> Outcome {
        self.judge_at(image, hook, Slice { frame, is_gso: false }, 1)
    }

    /// Judges one Ethernet frame at tick `now`.
    pub fn judge_at(&self, image: &Image, hook: Hook, cursor: Slice<'_>, now: u32) -> Outcome {
        let mut packet = Packet::default();
        let payload = parse(&cursor, LinkLayer::Ethernet, 0, &mut packet);
        let tables = Tables {
            nodes: Some(image),
            memory: &self.memory,
            control: &self.control,
            generation: self.generation,
            jiffies: abi::jiffies(now),
            is_guest: false,
        };
        decide(&tables, 0, hook, payload, &mut packet, cursor.frame.len() as u64)
    }

    /// The flow table.
    #[must_use]
    pub const fn heap(&self) -> &Heap {
        &self.memory
    }

    /// What the flow table is asked with.
    #[must_use]
    pub fn context(&self) -> Context<'_> {
        Context {
            hash_keys: &self.control.hash_keys,
            bucket_mask: self.control.bucket_mask,
            timeouts: &self.control.timeouts,
            now: 1,
        }
    }
}
