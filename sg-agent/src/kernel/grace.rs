//! A grace period that runs beside: whoever needs it later finds it over, most of the time.

use std::thread::JoinHandle;

use super::syscall;

/// Whether programs may still read what was in force before the last change.
#[derive(Debug, Default)]
pub(crate) enum Grace {
    /// None does.
    #[default]
    Over,
    /// A thread waits for those that might.
    Running(JoinHandle<()>),
    /// Some may, and nobody waits for them yet.
    Due,
}

impl Grace {
    /// Waits, beside, for every program that runs now, if some is to be waited for. Not while
    /// interfaces wait to be attached: a link is made in a grace period of its own, which begins when
    /// one that is under way has ended.
    pub(crate) fn begin(&mut self) {
        if !matches!(self, Self::Due) {
            return;
        }
        let waiter = std::thread::Builder::new().name("grace".to_owned()).spawn(syscall::grace_period);
        *self = waiter.map_or(Self::Due, Self::Running);
    }

    /// Waits until the grace period is over.
    pub(crate) fn wait(&mut self) {
        let is_over = match std::mem::take(self) {
            Self::Over => true,
            Self::Running(waiter) => waiter.join().is_ok(),
            Self::Due => false,
        };
        if !is_over {
            syscall::grace_period();
        }
    }
}
