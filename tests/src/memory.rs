//! The tables in this process's memory: what the kernel holds in maps.

use sg_agent::image::Image;
use sg_common::{
    abi::Control,
    decide::{Hook, Outcome, Tables, decide},
    flow::{
        Bucket, Datagram, Entry, SLOTS,
        datagram::DATAGRAMS,
        table::{Context, Memory},
    },
    wire::{LinkLayer, Packet, Slice, parse},
};

use crate::programs::HASH_KEYS;

/// Flow buckets and entries, and what first fragments told, on the heap.
pub struct Heap {
    buckets: Vec<Bucket>,
    entries: Vec<Entry>,
    datagrams: Vec<Datagram>,
}

impl Heap {
    /// An empty table of this many buckets: a power of two.
    #[must_use]
    pub fn new(buckets: u32) -> Self {
        Self {
            buckets: (0..buckets).map(|_| Bucket::default()).collect(),
            entries: (0..buckets * SLOTS).map(|_| Entry::default()).collect(),
            datagrams: (0..DATAGRAMS).map(|_| Datagram::default()).collect(),
        }
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
}

/// The decision in user space, with zone 0 alone and a clock that stands.
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

    /// Judges one Ethernet frame.
    pub fn judge(&self, image: &Image, hook: Hook, frame: &[u8]) -> Outcome {
        let mut packet = Packet::default();
        let cursor = Slice { frame, is_gso: false };
        let payload = parse(&cursor, LinkLayer::Ethernet, 0, &mut packet);
        let tables = Tables {
            nodes: image,
            memory: &self.memory,
            control: &self.control,
            generation: self.generation,
            now: 1,
        };
        decide(&tables, 0, hook, payload, &mut packet, frame.len() as u64)
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
