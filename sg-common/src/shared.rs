//! A 64-bit word of memory that several CPUs, and both sides, read and write.
//!
//! On the host it is an [`AtomicU64`]. The BPF target declares no compare-and-exchange, and its
//! first instruction sets no atomic loads and stores, although an aligned 64-bit access is single
//! on every architecture that runs it; there the word is reached by volatile accesses and the
//! `cmpxchg` instruction, which kernels have since 5.12.
//! <https://docs.kernel.org/bpf/standardization/instruction-set.html#atomic-operations>

use core::sync::atomic::AtomicU64;

/// A shared word.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct Word(AtomicU64);

impl Word {
    /// A word of this value.
    #[must_use]
    pub const fn new(value: u64) -> Self {
        Self(AtomicU64::new(value))
    }
}

/// A shared half of a word, for two numbers that different CPUs keep.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct Half(HalfCell);

#[cfg(not(target_arch = "bpf"))]
type HalfCell = core::sync::atomic::AtomicU32;
/// The target has no name for an atomic of this size, and needs none: loads and stores are single.
#[cfg(target_arch = "bpf")]
type HalfCell = core::cell::UnsafeCell<u32>;

#[cfg(not(target_arch = "bpf"))]
mod host {
    use core::sync::atomic::Ordering::{Relaxed, SeqCst};

    use super::{Half, Word};

    impl Half {
        /// The value now. Orders nothing.
        #[inline(always)]
        #[must_use]
        pub fn load(&self) -> u32 {
            self.0.load(Relaxed)
        }

        /// Sets the value. Orders nothing.
        #[inline(always)]
        pub fn store(&self, value: u32) {
            self.0.store(value, Relaxed);
        }
    }

    impl Word {
        /// The value now. Orders nothing.
        #[inline(always)]
        #[must_use]
        pub fn load(&self) -> u64 {
            self.0.load(Relaxed)
        }

        /// Sets the value. Orders nothing.
        #[inline(always)]
        pub fn store(&self, value: u64) {
            self.0.store(value, Relaxed);
        }

        /// Stores `new` if the word is `old`, and tells whether it did. A full barrier.
        #[inline(always)]
        pub fn exchange(&self, old: u64, new: u64) -> bool {
            self.0.compare_exchange(old, new, SeqCst, SeqCst).is_ok()
        }
    }
}

#[cfg(target_arch = "bpf")]
#[expect(unsafe_code, reason = "the target's atomics have no safe form")]
mod bpf {
    use super::{Half, Word};

    // SAFETY: it is read and written by single accesses alone.
    unsafe impl Sync for Half {}

    impl Half {
        /// The value now. Orders nothing.
        #[inline(always)]
        #[must_use]
        pub fn load(&self) -> u32 {
            // SAFETY: a reference is a valid, aligned pointer.
            unsafe { core::ptr::read_volatile(self.0.get()) }
        }

        /// Sets the value. Orders nothing.
        #[inline(always)]
        pub fn store(&self, value: u32) {
            // SAFETY: a reference is a valid, aligned pointer, and the half is shared on purpose.
            unsafe { core::ptr::write_volatile(self.0.get(), value) }
        }
    }

    impl Word {
        /// The value now. Orders nothing.
        #[inline(always)]
        #[must_use]
        pub fn load(&self) -> u64 {
            // SAFETY: a reference is a valid, aligned pointer.
            unsafe { core::ptr::read_volatile(self.0.as_ptr()) }
        }

        /// Sets the value. Orders nothing.
        #[inline(always)]
        pub fn store(&self, value: u64) {
            // SAFETY: a reference is a valid, aligned pointer, and the word is shared on purpose.
            unsafe { core::ptr::write_volatile(self.0.as_ptr(), value) }
        }

        /// Stores `new` if the word is `old`, and tells whether it did. A full barrier.
        #[inline(always)]
        pub fn exchange(&self, old: u64, new: u64) -> bool {
            let found: u64;
            // SAFETY: the pointer comes from a reference to a word that is shared on purpose; the
            // instruction reads and writes these eight bytes and register 0 only.
            unsafe {
                core::arch::asm!(
                    "r0 = cmpxchg_64({word} + 0x0, r0, {new})",
                    word = in(reg) self.0.as_ptr(),
                    new = in(reg) new,
                    inout("r0") old => found,
                );
            }
            found == old
        }
    }
}
