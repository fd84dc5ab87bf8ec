//! An array map's memory, shared with the programs.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
    ptr::NonNull,
};

use sg_common::shared::Word;

/// The words of an array map that was made with `BPF_F_MMAPABLE`.
#[derive(Debug)]
pub struct Mapping {
    start: NonNull<Word>,
    count: usize,
}

// SAFETY: the mapping belongs to the process, not to the thread that made it, and its words are atomic
// integers.
unsafe impl Send for Mapping {}
// SAFETY: as above: all that can be reached through a shared `Mapping` are atomic integers.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the first `count` words of `map`.
    ///
    /// # Errors
    /// The kernel refuses: the map is smaller, or cannot be mapped.
    pub fn open(map: BorrowedFd<'_>, count: usize) -> io::Result<Self> {
        let length = count.checked_mul(size_of::<Word>()).ok_or(io::ErrorKind::InvalidInput)?;
        // SAFETY: a new mapping at an address that the kernel chooses touches no memory of ours.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                map.as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self { start, count })
    }

    /// Every word.
    #[must_use]
    pub const fn words(&self) -> &[Word] {
        // SAFETY: the mapping is page-aligned and holds `count` words until `self` is dropped; a
        // word is an atomic integer, so that any content is valid and others may write it.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.count) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: what `open` mapped, once; every borrow of it has ended. That it cannot fail for
        // such a range is all that could be said of its result.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.count * size_of::<Word>()) };
    }
}
