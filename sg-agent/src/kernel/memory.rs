//! Maps of BPF, mapped into memory: the only place that makes references into it.
//!
//! Everything in there changes under the reader's eyes, so that it is only ever seen as atomic
//! words: the types here mirror those of [`sg_common`] that are not made of such words already.
#![expect(unsafe_code, reason = "memory that the kernel shares is reached through a pointer")]

use std::{
    io,
    marker::PhantomData,
    os::fd::{AsRawFd as _, BorrowedFd},
    sync::atomic::{
        AtomicU32, AtomicU64,
        Ordering::{Acquire, Relaxed, Release},
    },
};

use memmap2::{MmapOptions, MmapRaw};
use sg_common::{
    abi::Control,
    flow::{Bucket, Datagram, Entry, Tail},
    image::Node,
    unlock::Unlocks,
};

/// Types that may lie in memory which others write at any time.
///
/// # Safety
///
/// Every octet belongs to an atomic integer, so that every bit pattern is valid and nothing is
/// read or written but atomically; alignment is at most a page's.
pub(crate) unsafe trait Shared {}

// SAFETY: it is made of atomic 64-bit words.
unsafe impl Shared for Bucket {}
// SAFETY: it is made of atomic 64-bit words and halves of them.
unsafe impl Shared for Entry {}
// SAFETY: it is made of atomic 64-bit words.
unsafe impl Shared for Tail {}
// SAFETY: it is made of atomic 64-bit words.
unsafe impl Shared for Datagram {}
// SAFETY: it is made of atomic 64-bit words.
unsafe impl Shared for Unlocks {}
// SAFETY: it is made of atomic integers, and has the size and padding, none, of what it mirrors.
unsafe impl Shared for SharedControl {}
// SAFETY: it is made of atomic 32-bit words.
unsafe impl Shared for SharedNode {}

/// The elements of an array map.
pub(crate) struct Mapping<T> {
    memory: MmapRaw,
    count: usize,
    of: PhantomData<T>,
}

impl<T: Shared> Mapping<T> {
    /// Maps the first `count` elements of a map, whose values are as large as a `T`. The kernel
    /// refuses to map more than the map has.
    pub(crate) fn open(map: BorrowedFd<'_>, count: u32) -> io::Result<Self> {
        Self::open_part(map, 0, count)
    }

    /// Maps `count` elements from number `first` on.
    pub(crate) fn open_part(map: BorrowedFd<'_>, first: u32, count: u32) -> io::Result<Self> {
        let count = count as usize;
        let size = size_of::<T>();
        let length = count.checked_mul(size).ok_or(io::ErrorKind::InvalidInput)?;
        let offset = u64::from(first) * size as u64;
        let memory = MmapOptions::new().offset(offset).len(length).map_raw(map.as_raw_fd())?;
        Ok(Self { memory, count, of: PhantomData })
    }

    /// Every element.
    pub(crate) fn all(&self) -> &[T] {
        // SAFETY: the mapping begins a multiple of the element's size behind a page's beginning, and so
        // is aligned; it holds `count` elements for as long as `self`
        // lives: a map's memory neither moves nor shrinks. `Shared` says that any content is valid
        // and that others may change it.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr().cast::<T>(), self.count) }
    }

    /// Element number `index`.
    pub(crate) fn get(&self, index: u32) -> Option<&T> {
        self.all().get(index as usize)
    }
}

/// A [`Control`], shared with the programs.
#[repr(C)]
pub(crate) struct SharedControl {
    state: AtomicU64,
    fallback: AtomicU64,
    fallback_at: AtomicU64,
    unlocked_until: AtomicU64,
    hash_keys: [AtomicU64; 6],
    buffer_nodes: AtomicU32,
    bucket_mask: AtomicU32,
    timeouts: [AtomicU32; 8],
    events: AtomicU32,
    keep_flows: AtomicU32,
}

const _: () = assert!(
    size_of::<SharedControl>() == size_of::<Control>()
        && std::mem::offset_of!(SharedControl, fallback_at) == std::mem::offset_of!(Control, fallback_at)
        && std::mem::offset_of!(SharedControl, unlocked_until)
            == std::mem::offset_of!(Control, unlocked_until)
        && std::mem::offset_of!(SharedControl, buffer_nodes) == std::mem::offset_of!(Control, buffer_nodes)
        && std::mem::offset_of!(SharedControl, timeouts) == std::mem::offset_of!(Control, timeouts)
        && std::mem::offset_of!(SharedControl, keep_flows) == std::mem::offset_of!(Control, keep_flows),
    "SharedControl mirrors Control"
);

impl SharedControl {
    /// What it says now.
    pub(crate) fn load(&self) -> Control {
        Control {
            state: self.state.load(Acquire),
            fallback: self.fallback.load(Acquire),
            fallback_at: self.fallback_at.load(Acquire),
            unlocked_until: self.unlocked_until(),
            hash_keys: std::array::from_fn(|index| self.hash_keys[index].load(Relaxed)),
            buffer_nodes: self.buffer_nodes.load(Relaxed),
            bucket_mask: self.bucket_mask.load(Relaxed),
            timeouts: std::array::from_fn(|index| self.timeouts[index].load(Relaxed)),
            events: self.events.load(Relaxed),
            keep_flows: self.keep_flows.load(Relaxed),
        }
    }

    /// Writes everything, the state last. For a control that no attached program reads.
    pub(crate) fn store(&self, control: &Control) {
        let Control {
            state,
            fallback,
            fallback_at,
            unlocked_until,
            hash_keys,
            buffer_nodes,
            bucket_mask,
            timeouts,
            events,
            keep_flows,
        } = *control;
        for (to, from) in self.hash_keys.iter().zip(hash_keys) {
            to.store(from, Relaxed);
        }
        self.buffer_nodes.store(buffer_nodes, Relaxed);
        self.bucket_mask.store(bucket_mask, Relaxed);
        self.tune(&timeouts, keep_flows != 0);
        self.events.store(events, Relaxed);
        self.fall_back(fallback, fallback_at);
        self.unlock_until(unlocked_until);
        self.flip(state);
    }

    /// Writes what may change at any time.
    pub(crate) fn tune(&self, timeouts: &[u32; 8], keep_flows: bool) {
        for (to, from) in self.timeouts.iter().zip(timeouts) {
            to.store(*from, Relaxed);
        }
        self.keep_flows.store(keep_flows.into(), Relaxed);
    }

    /// The state word that the agent has put in force.
    pub(crate) fn state(&self) -> u64 {
        self.state.load(Acquire)
    }

    /// The state word to fall back to, and when in jiffies; `None` where it is nothing to undo.
    pub(crate) fn fallback(&self) -> Option<(u64, u64)> {
        let at = self.fallback_at.load(Acquire);
        (at != Control::NEVER).then(|| (self.fallback.load(Acquire), at))
    }

    /// Has the programs go by another state from a moment on, after everything written before.
    pub(crate) fn fall_back(&self, state: u64, at: u64) {
        self.stay();
        self.fallback.store(state, Release);
        self.fallback_at.store(at, Release);
    }

    /// Has the programs go by the state word, whatever comes.
    pub(crate) fn stay(&self) {
        self.fallback_at.store(Control::NEVER, Release);
    }

    /// Until when, in jiffies, the programs ask what is unlocked.
    pub(crate) fn unlocked_until(&self) -> u64 {
        self.unlocked_until.load(Acquire)
    }

    /// Has the programs ask what is unlocked until then, after everything written before.
    pub(crate) fn unlock_until(&self, until: u64) {
        self.unlocked_until.store(until, Release);
    }

    /// Puts another state in force, after everything written before.
    pub(crate) fn flip(&self, state: u64) {
        self.state.store(state, Release);
    }

    /// Asks the programs to report drops, or to leave it.
    pub(crate) fn report_drops(&self, wanted: bool) {
        self.events.store(wanted.into(), Relaxed);
    }
}

/// A [`Node`], shared with the programs.
#[repr(C, align(8))]
pub(crate) struct SharedNode {
    words: [AtomicU32; 16],
}

const _: () = assert!(size_of::<SharedNode>() == size_of::<Node>(), "SharedNode mirrors Node");

impl SharedNode {
    /// What it says now.
    pub(crate) fn load(&self) -> Node {
        Node { words: std::array::from_fn(|index| self.words[index].load(Relaxed)) }
    }

    /// Overwrites it.
    pub(crate) fn store(&self, node: &Node) {
        for (to, from) in self.words.iter().zip(node.words) {
            to.store(from, Relaxed);
        }
    }
}
