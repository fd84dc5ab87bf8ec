//! The flow table, from user space: the very memory and code that the programs use.

use std::collections::BTreeSet;

use sg_common::{
    abi::Control,
    flow::{
        Bucket, Datagram, Entry, FlowKey, FlowState, Life, Origin, SLOTS, Tail,
        table::{Context, Memory, Opening, counted, entry_of, find, insert},
    },
    tuple::{Direction, Protocol, Selector, Table},
};

use super::{memory::Mapping, set::Set, sockets::Socket};

/// A flow of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowView {
    /// Zone, protocol, addresses and ports.
    pub key: FlowKey,
    /// Its state.
    pub state: FlowState,
    /// The direction that opened it.
    pub opener: Direction,
    /// Low 24 bits of the generation that admitted it.
    pub generation: u32,
    /// The rule that admitted it.
    pub rule: Option<u32>,
    /// What the opening packet asked for.
    pub selector: Selector,
    /// The tick at which it was opened.
    pub opened: u32,
    /// The tick of a recent packet.
    pub seen: u32,
    /// Packets, by [`Direction`].
    pub packets: [u64; 2],
    /// Bytes, by [`Direction`].
    pub bytes: [u64; 2],
}

/// Where the flows of a set lie.
pub(crate) struct Entries {
    entries: Mapping<Entry>,
    tails: Mapping<Tail>,
}

impl Entries {
    /// As many tails as entries.
    pub(super) const fn new(entries: Mapping<Entry>, tails: Mapping<Tail>) -> Self {
        Self { entries, tails }
    }

    fn iter(&self) -> impl Iterator<Item = (&Entry, &Tail)> {
        self.entries.all().iter().zip(self.tails.all())
    }
}

/// The table of a set.
pub(crate) struct Flows<'a> {
    buckets: &'a Mapping<Bucket>,
    entries: &'a Entries,
    datagrams: &'a Mapping<Datagram>,
    control: Control,
}

impl Memory for Flows<'_> {
    fn bucket(&self, index: u32) -> Option<&Bucket> {
        self.buckets.get(index)
    }

    fn entry(&self, index: u32) -> Option<&Entry> {
        self.entries.entries.get(index)
    }

    fn tail(&self, index: u32) -> Option<&Tail> {
        self.entries.tails.get(index)
    }
}

impl Set {
    /// The flow table, by its [entries](Self::entries).
    pub(crate) fn flows<'a>(&'a self, entries: &'a Entries) -> Flows<'a> {
        let Self { buckets, datagrams, .. } = self;
        Flows { buckets, entries, datagrams, control: self.control().load() }
    }
}

impl<'a> Flows<'a> {
    fn context(&self, now: u32) -> Context<'_> {
        Context {
            hash_keys: &self.control.hash_keys,
            bucket_mask: self.control.bucket_mask,
            timeouts: &self.control.timeouts,
            now,
        }
    }

    /// Every live flow. A slot without a tag has none: of a table with few flows little but the tags is read,
    /// which are a part in sixty-four of it.
    pub(crate) fn iter(&self, now: u32) -> impl Iterator<Item = FlowView> + use<'a> {
        let timeouts = self.control.timeouts;
        let (buckets, entries, mask) = (self.buckets.all(), self.entries, self.control.bucket_mask);
        let tagged = (0_u32..).zip(buckets).flat_map(|(number, bucket)| {
            let slots = slots(bucket);
            (0..SLOTS).filter(move |slot| slots >> slot & 1 == 1).map(move |slot| number * SLOTS + slot)
        });
        tagged.filter_map(move |slot| {
            let index = entry_of(mask, slot);
            view(entries.entries.get(index)?, entries.tails.get(index)?, now, &timeouts)
        })
    }

    /// The live flow of a key.
    pub(crate) fn find(&self, key: &FlowKey, now: u32) -> Option<FlowView> {
        let found = find(self, &self.context(now), key)?;
        view(found.entry, self.tail(found.place.index())?, now, &self.control.timeouts)
    }

    /// Enters an open socket's flow, unless it is there. Tells whether it went in.
    pub(crate) fn seed(&self, zone: u32, socket: &Socket, now: u32) -> bool {
        let Socket { protocol, local, local_port, remote, remote_port, state, opener } = *socket;
        let key = FlowKey::new(zone, protocol, local, local_port, remote, remote_port);
        let table = if protocol == Protocol::TCP { Table::Tcp } else { Table::Udp };
        let value = match opener {
            Direction::Inbound => local_port,
            Direction::Outbound => remote_port,
        };
        let opening = Opening {
            state,
            opener,
            generation: Control::generation(self.control.state),
            rule: Origin::NO_RULE,
            selector: Selector { table, value },
            bytes: 0,
            next_sequence: 0,
        };
        let context = self.context(now);
        find(self, &context, &key).is_none() && insert(self, &context, &key, &opening)
    }

    /// Forgets every flow of these zones.
    ///
    /// The tags stay: a free slot with a tag costs a lookup one look more, and is taken once its
    /// bucket has none without.
    pub(crate) fn forget_zones(&self, zones: &BTreeSet<u32>) {
        for (entry, tail) in self.entries.iter() {
            let life = Life(entry.life.load());
            if life.state().is_some() && zones.contains(&FlowKey::of(entry, tail).zone()) {
                // Should the slot change hands at this moment, this does nothing to the new flow.
                entry.life.exchange(life.0, life.freed().0);
            }
        }
        for datagram in self.datagrams.all() {
            zones.iter().for_each(|zone| datagram.forget_zone(*zone));
        }
    }
}

/// The slots of a bucket that have a tag, as bits.
fn slots(bucket: &Bucket) -> u32 {
    const LANES: u32 = 4;
    let words = bucket.tags.iter().zip((0..).step_by(LANES as usize));
    words.fold(0, |slots, (word, first)| {
        let word = word.load();
        let tagged = (0..LANES).filter(|lane| (word >> (16 * lane)) as u16 != 0);
        tagged.fold(slots, |slots, lane| slots | 1 << (first + lane))
    })
}

/// An entry as a live flow, or `None` if it is none or changes hands while it is read.
fn view(entry: &Entry, tail: &Tail, now: u32, timeouts: &[u32; 8]) -> Option<FlowView> {
    let life = Life(entry.life.load());
    let state = life.state()?;
    if life.is_expired(state, now, timeouts) {
        return None;
    }
    let key = FlowKey::of(entry, tail);
    let counted = counted(entry, tail);
    let origin = Origin(entry.origin.load());
    let opening = entry.opening.load();
    let view = FlowView {
        key,
        state,
        opener: life.opener(),
        generation: origin.generation(),
        rule: Some(origin.rule()).filter(|rule| *rule != Origin::NO_RULE),
        selector: Selector::from_bits((opening >> 32) as u32),
        opened: opening as u32,
        seen: life.seen(),
        packets: counted.map(|(packets, _)| packets),
        bytes: counted.map(|(_, bytes)| bytes),
    };
    let is_same = origin.belongs_to(life) && Life(entry.life.load()).version() == life.version();
    is_same.then_some(view)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_with_a_tag_are_told_from_free_ones() {
        let rows: [([u64; 4], &[u32]); 4] = [
            ([0; 4], &[]),
            ([1, 0, 0, 0x8000 << 48], &[0, 15]),
            ([0x0001_0000_ff00_0000, 1 << 16, 0, 1 << 32], &[1, 3, 5, 14]),
            ([u64::MAX; 4], &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]),
        ];
        for (tags, expected) in rows {
            let bucket = Bucket::default();
            bucket.tags.iter().zip(tags).for_each(|(word, tag)| word.store(tag));
            let slots = slots(&bucket);
            let found: Vec<u32> = (0..SLOTS).filter(|slot| slots >> slot & 1 == 1).collect();
            assert_eq!((found.as_slice(), slots >> SLOTS), (expected, 0), "{tags:x?}");
        }
    }
}
