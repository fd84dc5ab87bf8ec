//! The flow table, from user space: the very memory and code that the programs use.

use std::collections::BTreeSet;

use sg_common::{
    abi::Control,
    flow::{
        Bucket, Datagram, Entry, FlowKey, FlowState, Life, Origin, Tail,
        table::{Context, Memory, Opening, counted, find, insert},
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

    /// Every live flow.
    pub(crate) fn iter(&self, now: u32) -> impl Iterator<Item = FlowView> + use<'a> {
        let timeouts = self.control.timeouts;
        self.entries.iter().filter_map(move |(entry, tail)| view(entry, tail, now, &timeouts))
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
