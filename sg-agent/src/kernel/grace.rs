//! When the programs that were running at some moment have ended: only then what they may still read is
//! written. It is waited for beside, from the moment on, so that a change that comes later need not.

use std::thread::{self, JoinHandle};

use super::syscall;

/// What is known of the programs that ran at a moment.
#[derive(Debug, Default)]
pub(crate) enum Grace {
    /// All of them have ended.
    #[default]
    Over,
    /// A thread waits for them.
    Waiting(JoinHandle<()>),
    /// Nobody has waited for them yet.
    Due,
}

impl Grace {
    /// The moment is now.
    pub(crate) fn begin() -> Self {
        let waiting = thread::Builder::new().name("grace".to_owned()).spawn(syscall::grace_period);
        waiting.map_or(Self::Due, Self::Waiting)
    }

    /// Returns when they have ended.
    pub(crate) fn wait(&mut self) {
        match std::mem::take(self) {
            Self::Over => {}
            // A thread that panicked may not have waited to the end.
            Self::Waiting(waiting) => waiting.join().unwrap_or_else(|_| syscall::grace_period()),
            Self::Due => syscall::grace_period(),
        }
    }
}
