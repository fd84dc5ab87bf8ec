//! Finds a slot for a new flow: a free one, else one whose flow is over, else that of the flow which
//! is missed least. An established flow never gives way.

use super::{CANDIDATES, Choice, Context, Memory, Place, lowest_slot, matches};
use crate::{
    branchless::{below, pick},
    flow::{Entry, FlowKey, FlowState, Life, SLOTS},
};

/// How often it is tried again when another CPU was faster.
const ATTEMPTS: u32 = 4;

/// Makes a slot busy for a flow of `key`.
#[inline(always)]
pub fn reserve<M: Memory + ?Sized>(memory: &M, context: &Context<'_>, key: &FlowKey) -> Place {
    let place = Choice::of(key.short(context.hash_keys), context);
    for _ in 0..ATTEMPTS {
        let mut slot = former(memory, context, &place);
        if slot == NOWHERE {
            slot = emptier(memory, &place);
        }
        if slot == NOWHERE {
            slot = oldest(memory, context, place.first, place.second);
        }
        if slot == NOWHERE {
            break;
        }
        let claimed = memory.claim(context, slot, place.tag);
        if claimed != Place::NOWHERE {
            return claimed;
        }
    }
    Place::NOWHERE
}

/// Makes a slot busy for a flow of `key` where that is done at once: no slot of its two buckets has the
/// key's tag, so that none holds its flow, and the first has room. Else [`Place::NOWHERE`], and
/// [`reserve`] finds one.
///
/// Where there is room, the first bucket is taken, so that most lookups read no other. It is left a
/// quarter free, as long as the second may be emptier.
#[inline(always)]
pub fn settle<M: Memory + ?Sized>(memory: &M, context: &Context<'_>, key: &FlowKey) -> Place {
    let place = Choice::of(key.short(context.hash_keys), context);
    let (Some(first), Some(second)) = (memory.bucket(place.first), memory.bucket(place.second)) else {
        return Place::NOWHERE;
    };
    let mut free = matches(first, 0);
    if matches(first, place.tag) | matches(second, place.tag) != 0 {
        return Place::NOWHERE;
    }
    let slot = lowest_slot(free) & (SLOTS - 1);
    for _ in 0..SLOTS / 4 - 1 {
        free &= free.wrapping_sub(1);
    }
    if free == 0 { Place::NOWHERE } else { claim(memory, context, place.first * SLOTS + slot, place.tag) }
}

/// What stands for no slot.
const NOWHERE: u32 = u32::MAX;

/// A slot whose flow is over and has the tag of the new one, or [`NOWHERE`]: what is over of the same
/// key goes first, so that it never hides what follows it from a search.
#[inline(always)]
fn former<M: Memory + ?Sized>(memory: &M, context: &Context<'_>, place: &Choice) -> u32 {
    let mut bucket = place.first;
    for choice in 0..2 {
        if choice == 1 {
            bucket = place.second;
        }
        let Some(tags) = memory.bucket(bucket) else { return NOWHERE };
        let mut mask = matches(tags, place.tag);
        for _ in 0..CANDIDATES {
            if mask == 0 {
                break;
            }
            let slot = bucket * SLOTS + (lowest_slot(mask) & (SLOTS - 1));
            if memory.rank(context, slot) == AT_ONCE {
                return slot;
            }
            mask &= mask.wrapping_sub(1);
        }
    }
    NOWHERE
}

/// A free slot in the emptier of the two buckets, or [`NOWHERE`].
#[inline(always)]
fn emptier<M: Memory + ?Sized>(memory: &M, place: &Choice) -> u32 {
    let Some(first) = memory.bucket(place.first) else { return NOWHERE };
    let Some(second) = memory.bucket(place.second) else { return NOWHERE };
    let first = matches(first, 0);
    let second = matches(second, 0);
    let is_first = first.count_ones() >= second.count_ones();
    let free = if is_first { first } else { second };
    let bucket = if is_first { place.first } else { place.second };
    if free == 0 { NOWHERE } else { bucket * SLOTS + (lowest_slot(free) & (SLOTS - 1)) }
}

/// A slot whose flow is gone or expired, else that of the longest idle expendable flow, else
/// [`NOWHERE`]. Off the common path: both buckets are full.
#[inline(never)]
fn oldest<M: Memory + ?Sized>(memory: &M, context: &Context<'_>, first: u32, second: u32) -> u32 {
    let mut best = u64::from(NOWHERE);
    let mut best_rank = 0_u64;
    for number in 0..2 * SLOTS {
        let bucket = if number < SLOTS { first } else { second };
        let slot = bucket * SLOTS + (number & (SLOTS - 1));
        let rank = memory.rank(context, slot);
        if rank == AT_ONCE {
            return slot;
        }
        // Without a branch, which the verifier would have to follow both ways at each slot.
        let is_better = below(best_rank, rank);
        best_rank = pick(is_better, rank, best_rank);
        best = pick(is_better, slot.into(), best);
    }
    best as u32
}

/// How readily a slot's flow gives way: 0 not at all, [`AT_ONCE`] at once, between them by idleness.
#[inline(always)]
pub fn rank<M: Memory + ?Sized>(memory: &M, context: &Context<'_>, slot: u32) -> u64 {
    match memory.entry(context.entry_of(slot)) {
        Some(entry) => rank_of(entry, Life(entry.life.load()), context),
        None => 0,
    }
}

/// The rank of an entry that holds no live flow.
pub const AT_ONCE: u64 = 1 << 34;
/// Added to the rank of what goes before revoked flows: a flow that is forgotten too early could be
/// opened again from within.
const SOONER: u64 = 1 << 33;

#[inline(always)]
fn rank_of(entry: &Entry, life: Life, context: &Context<'_>) -> u64 {
    let Some(state) = life.state() else {
        return if life.is_busy() { 0 } else { AT_ONCE };
    };
    if life.is_expired(state, context.now, context.timeouts) {
        return AT_ONCE;
    }
    let idle = context.now.wrapping_sub(life.seen());
    // Another CPU's clock may be a tick ahead: that is not idleness.
    let idle = if idle >= u32::MAX - 64 { 1 } else { u64::from(idle) + 1 };
    if state.is_revoked() {
        return idle;
    }
    // Queries and protocols without a state of their own are answered when both sides have spoken.
    let is_unanswered = matches!(state, FlowState::Icmp | FlowState::Other)
        && (entry.counts[0].load() == 0 || entry.counts[1].load() == 0);
    if state.is_expendable() || is_unanswered { SOONER + idle } else { 0 }
}

/// Makes a slot busy and sets its tag; [`Place::NOWHERE`] means that another CPU was faster.
#[inline(always)]
pub fn claim<M: Memory + ?Sized>(memory: &M, context: &Context<'_>, slot: u32, tag: u64) -> Place {
    let index = context.entry_of(slot);
    let Some(entry) = memory.entry(index) else { return Place::NOWHERE };
    let life = Life(entry.life.load());
    // What was free or expendable a moment ago may have been taken since.
    if rank_of(entry, life, context) == 0 {
        return Place::NOWHERE;
    }
    let number = slot & (SLOTS - 1);
    let shift = 16 * (number & 3);
    let Some(bucket) = memory.bucket(slot / SLOTS) else { return Place::NOWHERE };
    let Some(word) = bucket.tags.get((number >> 2) as usize) else { return Place::NOWHERE };
    let busy = life.busy_after();
    if !entry.life.exchange(life.0, busy.0) {
        return Place::NOWHERE;
    }
    for _ in 0..ATTEMPTS {
        let old = word.load();
        if word.exchange(old, old & !(0xffff << shift) | tag << shift) {
            return Place::new(index, busy);
        }
    }
    // The slot stays usable: it is free, whatever its tag says.
    entry.life.store(busy.freed().0);
    Place::NOWHERE
}

#[cfg(test)]
mod tests;
