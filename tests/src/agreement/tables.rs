//! Flow tables, compared word by word and with the reference's list.

use std::collections::HashMap;

use anyhow::{Context as _, Result, bail, ensure};
use sg_common::{
    addr::Addr,
    flow::{Bucket, Entry, FlowKey, Life, Origin, Tail, table::counted},
    shared::{Half, Word},
    tuple::{Protocol, Selector},
};

pub(super) use super::compiled::compiled;
use crate::{
    memory::{Heap, UserSpace, words_of, words_of_datagram, words_of_tail, write_entry},
    programs::tables::{BUCKET_WORDS, DATAGRAM_WORDS, ENTRY_WORDS, FlowMaps},
    reference::flow::{Flow, Identity, Mark},
};

/// Moves an entry's times back.
pub(super) fn age(life: &Word, opening: &Word, ticks: u32) {
    let was = Life(life.load());
    if let Some(state) = was.state() {
        life.store(was.with(state, was.seen().wrapping_sub(ticks)).0);
    }
    opening.store(aged(opening.load(), ticks));
}

/// Moves the time of what is kept of a datagram back.
pub(super) fn age_datagram(life: &Word, ticks: u32) {
    if life.load() != 0 {
        life.store(aged(life.load(), ticks));
    }
}

/// A word whose low half is a tick, moved back.
fn aged(word: u64, ticks: u32) -> u64 {
    let high = word & !u64::from(u32::MAX);
    high | u64::from((word as u32).wrapping_sub(ticks))
}

/// Moves all times in user space back.
pub(super) fn age_all(user_space: &UserSpace, ticks: u32) {
    for entry in user_space.heap().entries() {
        age(&entry.life, &entry.opening, ticks);
    }
    for place in user_space.heap().datagrams() {
        age_datagram(&place.life, ticks);
    }
}

/// Every word of the tables in user space.
pub(super) fn snapshot(heap: &Heap) -> Vec<u64> {
    let tags = heap.buckets().iter().flat_map(|Bucket { tags }| tags);
    let entries = heap.entries().iter().flat_map(words_of);
    let tails = heap.tails().iter().flat_map(words_of_tail);
    let datagrams = heap.datagrams().iter().flat_map(words_of_datagram);
    entries.chain(tags.chain(tails).chain(datagrams).map(Word::load)).collect()
}

/// Writes every word of the tables in user space.
pub(super) fn restore(heap: &Heap, words: &[u64]) {
    let (entries, words) = words.split_at(heap.entries().len() * ENTRY_WORDS);
    let (entries, _) = entries.as_chunks();
    heap.entries().iter().zip(entries).for_each(|(entry, words)| write_entry(entry, *words));
    let tags = heap.buckets().iter().flat_map(|Bucket { tags }| tags);
    let tails = heap.tails().iter().flat_map(words_of_tail);
    let datagrams = heap.datagrams().iter().flat_map(words_of_datagram);
    for (word, value) in tags.chain(tails).chain(datagrams).zip(words) {
        word.store(*value);
    }
}

/// Compares the kernel's table with that in user space.
pub(super) fn same(maps: &FlowMaps, heap: &Heap) -> Result<()> {
    for (number, (found, bucket)) in
        maps.buckets.words().chunks_exact(BUCKET_WORDS).zip(heap.buckets()).enumerate()
    {
        let is_same = found.iter().zip(&bucket.tags).all(|(one, other)| one.load() == other.load());
        ensure!(is_same, "bucket {number} holds other tags in the kernel than in user space");
    }
    for (number, (found, entry)) in
        maps.entries.words().chunks_exact(ENTRY_WORDS).zip(heap.entries()).enumerate()
    {
        let expected = words_of(entry);
        if found.iter().map(Word::load).ne(expected) {
            let found: Vec<_> = found.iter().map(Word::load).collect();
            bail!("entry {number} is {found:x?} in the kernel and {expected:x?} in user space");
        }
    }
    let tails = maps.tails.words().chunks_exact(ENTRY_WORDS).zip(heap.tails());
    for (number, (found, tail)) in tails.enumerate() {
        let is_same = found.iter().zip(words_of_tail(tail)).all(|(one, other)| one.load() == other.load());
        ensure!(is_same, "tail {number} holds other words in the kernel than in user space");
    }
    Ok(())
}

/// Compares what is kept of datagrams in the kernel with that in user space.
pub(super) fn same_datagrams(maps: &FlowMaps, heap: &Heap) -> Result<()> {
    for (found, place) in maps.datagrams.words().chunks_exact(DATAGRAM_WORDS).zip(heap.datagrams()) {
        let expected = words_of_datagram(place);
        if found[0].load() == 0 && expected[0].load() == 0 {
            continue;
        }
        let (found, expected): (Vec<_>, Vec<_>) =
            found.iter().zip(expected).map(|(found, expected)| (found.load(), expected.load())).unzip();
        ensure!(
            found == expected,
            "of a datagram {found:x?} is kept in the kernel and {expected:x?} in user space"
        );
    }
    Ok(())
}

/// The key of a flow in the table.
fn key(identity: &Identity) -> FlowKey {
    let Identity { protocol, local, remote, mark } = identity;
    let (protocol, local, remote) = (Protocol(*protocol), Addr::from(*local), Addr::from(*remote));
    match *mark {
        Mark::Ports(here, there) => FlowKey::new(0, protocol, local, here, remote, there),
        Mark::Query(kind, id, direction) => FlowKey::icmp(0, protocol, local, remote, id, kind, direction),
        Mark::Nothing => FlowKey::new(0, protocol, local, 0, remote, 0),
    }
}

/// Flows that live, by their keys.
pub(super) type Live<'a> = HashMap<FlowKey, (Life, &'a Entry, &'a Tail)>;

/// The flows of a table that live at tick `now`.
pub(super) fn live<'a>(user_space: &'a UserSpace, timeouts: &[u32; 8], now: u32) -> Live<'a> {
    let heap = user_space.heap();
    let flows = heap.entries().iter().zip(heap.tails()).filter_map(|(entry, tail)| {
        let life = Life(entry.life.load());
        let is_alive = !life.is_expired(life.state()?, now, timeouts);
        is_alive.then(|| (FlowKey::of(entry, tail), (life, entry, tail)))
    });
    flows.collect()
}

/// Whether a table holds a flow of the reference.
pub(super) fn holds(live: &Live<'_>, flow: &Flow) -> bool {
    live.contains_key(&key(&flow.identity))
}

/// Compares a table with the reference's flows.
pub(super) fn agrees<'a>(live: &Live<'_>, flows: impl Iterator<Item = &'a Flow>) -> Result<()> {
    let mut count = 0;
    for flow in flows {
        count += 1;
        let (life, entry, tail) =
            live.get(&key(&flow.identity)).with_context(|| format!("the table has no {flow:?}"))?;
        let origin = Origin(entry.origin.load());
        let state = life.state().map_or("none", sg_common::flow::FlowState::name);
        let selector = Selector::from_bits((entry.opening.load() >> 32) as u32);
        let sent = flow.sent.map(Option::unwrap_or_default);
        let next = entry.next_sequence.each_ref().map(Half::load);
        let counted = counted(entry, tail);
        let is_same = (state, life.opener(), life.seen()) == (flow.state.name(), flow.opener, flow.seen)
            && (u64::from(origin.generation()), origin.rule()) == (flow.generation, flow.rule)
            && selector == flow.selector
            && counted.map(|(packets, _)| packets) == flow.packets
            && counted.map(|(_, bytes)| bytes) == flow.bytes
            && next == sent;
        ensure!(
            is_same,
            "the table has {state} {:?} seen {} {origin:?} {selector:?} {counted:?} {next:?} for {flow:?}",
            life.opener(),
            life.seen(),
        );
    }
    ensure!(live.len() == count, "the table has {} flows, the reference {count}", live.len());
    Ok(())
}
