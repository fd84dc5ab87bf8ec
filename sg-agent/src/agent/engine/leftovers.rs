//! What a change leaves to be done once whoever waits for it has the answer: what was in force is freed, old
//! generations are removed from the disk, and memory is given back. None of it is needed for what is enforced.

use std::time::{Duration, Instant};

use tracing::warn;

use super::{Engine, InForce};
use crate::agent::memory;

/// How long nothing has changed when memory is given back: one change seldom comes alone, and to get
/// memory anew is a good part of what it costs.
const QUIET: Duration = Duration::from_secs(1);

/// What was in force, to be freed; when memory is to be given back; and whether generations are to be
/// removed from the disk.
#[derive(Default)]
pub(super) struct Leftovers {
    former: Vec<InForce>,
    give_back_at: Option<Instant>,
    has_generations: bool,
}

impl Leftovers {
    /// Something else is in force now: to free it takes a while.
    pub(super) fn free_later(&mut self, former: InForce) {
        self.former.push(former);
    }

    /// Much memory was taken for a moment.
    pub(super) fn took_memory(&mut self) {
        self.give_back_at = Some(Instant::now() + QUIET);
    }

    /// The disk has one generation more.
    pub(super) const fn added_generation(&mut self) {
        self.has_generations = true;
    }
}

impl Engine {
    /// Does what can wait until the answer to a change is on its way: removes old generations from the
    /// disk and, when no other change has come for a while, gives back memory. To be called now and then.
    pub fn tidy(&mut self) {
        self.leftovers.former.clear();
        if self.leftovers.give_back_at.is_some_and(|at| at <= Instant::now()) {
            self.leftovers.give_back_at = None;
            memory::give_back();
        }
        let has_generations = std::mem::take(&mut self.leftovers.has_generations);
        if let Some(in_force) = &self.in_force
            && has_generations
            // What could not be written down is not what is on the disk.
            && self.writing.problem().is_none()
            && let Err(error) = self.store.prune(in_force.record.generation)
        {
            warn!("old generations stay on disk: {error}");
        }
    }
}
