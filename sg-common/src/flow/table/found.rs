//! A flow that a lookup has found: what is read of it, and how it is changed and counted.

use super::{Context, Memory, Place};
use crate::{
    flow::{Count, Entry, FlowState, Life, Origin, Tail},
    shared::Word,
    tuple::{Direction, Selector},
};

/// A flow as a lookup found it.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    /// Where it lies.
    pub place: Place,
    /// The entry.
    pub entry: &'a Entry,
    /// What its life was.
    pub life: Life,
    /// What its origin was.
    pub origin: Origin,
    /// The state, as in `life`.
    pub state: FlowState,
    /// What the rules were asked for when the flow was opened.
    pub selector: Selector,
}

impl<'a> Found<'a> {
    /// The flow at `place`, while it is the one that was seen there.
    #[inline(always)]
    pub fn at<M: Memory + ?Sized>(memory: &'a M, place: Place) -> Option<Self> {
        let (entry, life) = place.entry(memory)?;
        let origin = Origin(entry.origin.load());
        let selector = Selector::from_bits((entry.opening.load() >> 32) as u32);
        let state = life.state()?;
        // All was read between two looks at the version; a slot that changed hands meanwhile is a miss.
        let is_same = origin.belongs_to(life) && Life(entry.life.load()).version() == life.version();
        is_same.then_some(Self { place, entry, life, origin, state, selector })
    }

    /// Makes the slot busy for another flow in its place: a port is reused. [`Place::NOWHERE`] means
    /// that another CPU was faster.
    #[inline(always)]
    #[must_use]
    pub fn retake(&self) -> Place {
        let busy = self.life.busy_after();
        if !self.entry.life.exchange(self.life.0, busy.0) {
            return Place::NOWHERE;
        }
        Place(self.place.0 & 0xffff_ffff | (busy.version() as u64) << 32)
    }

    /// Moves the flow to `state`, seen now. A change that loses to another CPU's is dropped: the
    /// other packet's view is as good, and a slot that changed hands must not be touched. Tells whether
    /// it was made.
    #[inline(always)]
    pub fn change(&self, state: FlowState, now: u32) -> bool {
        self.entry.life.exchange(self.life.0, self.life.with(state, now).0)
    }

    /// Records the packet's time when the flow has been idle for long enough to matter: a shared
    /// line that every packet writes is what keeps flows from scaling over CPUs. `false`: another CPU's
    /// change was faster.
    #[inline(always)]
    pub fn touch(&self, state: FlowState, context: &Context<'_>) -> bool {
        const COARSE: u32 = 8;
        let now = context.now;
        let idle = now.wrapping_sub(self.life.seen());
        let enough = COARSE.min(context.timeouts[state.timeout() as usize] / 4);
        let is_due = state != self.state || (idle > enough && idle < u32::MAX / 2);
        !is_due || self.change(state, now)
    }

    /// Records that `generation` admits the flow too, by `rule`.
    #[inline(always)]
    pub fn admit(&self, generation: u64, rule: u32) {
        self.entry.origin.exchange(self.origin.0, Origin::new(self.life.version(), generation, rule).0);
    }

    /// Whether a packet has gone in `direction`.
    #[inline(always)]
    #[must_use]
    pub fn has_sent(&self, direction: Direction) -> bool {
        self.counted(direction).load() != 0
    }

    /// Counts one packet of `bytes` in `direction`.
    #[inline(always)]
    pub fn count<M: Memory + ?Sized>(&self, memory: &M, direction: Direction, bytes: u64) {
        let word = self.counted(direction);
        let count = Count(word.load());
        let next = count.after(bytes);
        if count.is_due(next) {
            self.sum_up(memory, direction, bytes);
        } else {
            word.store(next.0);
        }
    }

    /// The same, once in a million packets or in some hundred gigabytes.
    #[inline(always)]
    fn sum_up<M: Memory + ?Sized>(&self, memory: &M, direction: Direction, bytes: u64) {
        let word = self.counted(direction);
        let count = Count(word.load());
        let next = count.turned(bytes);
        let Some(tail) = memory.tail(self.place.index()) else { return };
        let (packets, total) = (of(&tail.packets, direction), of(&tail.bytes, direction));
        // Without sums, what lies there is an earlier flow's.
        let sum = |word: &Word| if count.has_sums() { word.load() } else { 0 };
        packets.store(next.whole_packets(sum(packets)));
        total.store(next.whole_bytes(sum(total)));
        word.store(next.0);
    }

    /// The [`Count`] of `direction`.
    #[inline(always)]
    const fn counted(&self, direction: Direction) -> &Word {
        of(&self.entry.counts, direction)
    }
}

/// Packets and bytes of each direction, inbound and outbound.
#[must_use]
pub fn counted(entry: &Entry, tail: &Tail) -> [(u64, u64); 2] {
    Direction::ALL.map(|direction| {
        let count = Count(of(&entry.counts, direction).load());
        let sum = |words: &[Word; 2]| if count.has_sums() { of(words, direction).load() } else { 0 };
        (count.whole_packets(sum(&tail.packets)), count.whole_bytes(sum(&tail.bytes)))
    })
}

/// The one that `direction` has.
#[inline(always)]
const fn of<T>([inbound, outbound]: &[T; 2], direction: Direction) -> &T {
    match direction {
        Direction::Inbound => inbound,
        Direction::Outbound => outbound,
    }
}
