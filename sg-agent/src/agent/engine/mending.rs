//! Keeps what the kernel holds as it was left, and remembers what others took from it.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use tracing::{error, info, warn};

use super::Engine;
use crate::{
    kernel::{Kernel, Look, thread_time},
    view::{self, Repairs, Status, timestamp},
};

/// How long after a look the next one follows, at the soonest.
const PAUSE: Duration = Duration::from_millis(400);
/// A look may take one part in so many of the time.
const SHARE: u32 = 50;
/// After something was mended this many times the time that it took: whoever takes it again and again
/// must not keep the agent from all else.
const REST: u32 = 2;

/// What became of what others took.
#[derive(Debug, Default)]
pub(super) struct Mending {
    repairs: Repairs,
    /// What could not be mended.
    problems: Vec<String>,
}

impl Mending {
    fn note(&mut self, look: Look) {
        for repair in look.repairs {
            let interface = repair.interface.as_deref().unwrap_or("-");
            warn!(interface, "mended: {}", repair.what);
            self.repairs.count += 1;
            *self.repairs.by_kind.entry(repair.kind.name().to_owned()).or_default() += 1;
            self.repairs.last = Some(view::Repair {
                time: timestamp(Timestamp::now()),
                interface: repair.interface,
                what: repair.what,
            });
        }
        for problem in look.problems.iter().filter(|problem| !self.problems.contains(problem)) {
            error!("{problem}");
        }
        if look.problems.is_empty() && !self.problems.is_empty() {
            info!("what could not be mended is mended");
        }
        self.problems = look.problems;
    }
}

impl Engine {
    /// Looks whether all is as it was left, and mends what is not. Tells when to look again.
    pub fn look(&mut self) -> Duration {
        let Some(kernel) = &mut self.kernel else { return PAUSE };
        let (begin, used) = (Instant::now(), thread_time());
        let look = kernel.look();
        let is_idle = look == Look::default();
        self.mending.note(look);
        if is_idle {
            PAUSE.max((thread_time().saturating_sub(used)) * SHARE)
        } else {
            PAUSE.max(begin.elapsed() * REST)
        }
    }

    /// Sees to it that pins can be written.
    pub(super) fn keep_pins(&mut self) {
        let look = self.kernel.as_mut().map(Kernel::keep_pins).filter(|look| *look != Look::default());
        if let Some(look) = look {
            self.mending.note(look);
        }
    }

    /// Adds what is not as the policy says, what cannot be mended, and what was.
    pub fn tell(&self, status: &mut Status) {
        status.generation = self.generation();
        for problem in self.problems.iter().chain(&self.mending.problems) {
            if !status.problems.contains(problem) {
                status.problems.push(problem.clone());
            }
        }
        status.repairs = self.mending.repairs.clone();
    }
}
