//! What a change does that somebody asks for is told with its answer: what `plan` tells, of the moment
//! before.

use super::{Agent, plan::Candidate};
use crate::{failure::Failure, view::Applied};

/// Prefixes that the answer to a change lists; further ones are counted. Who waits for it wants to know what
/// it is about, and to write a million takes longer than all else.
const LISTED: usize = 1 << 12;

impl Agent {
    /// Plans `candidate`, which is what `change` puts in force, and has the answer tell it.
    ///
    /// What cannot be planned is for `change` to refuse, or to put in force all the same: then a warning
    /// says that nobody knows what it changes.
    pub(super) fn foretold(
        &mut self,
        candidate: &Candidate,
        change: impl FnOnce(&mut Self) -> Result<Applied, Failure>,
    ) -> Result<Applied, Failure> {
        let plan = self.engine.foretell(candidate, LISTED);
        let changed = change(self);
        self.engine.drop_prepared();
        let mut applied = changed?;
        match plan {
            Ok(plan) => applied.plan = Some(plan),
            Err(failure) => applied.warnings.push(format!("what has changed cannot be told: {failure}")),
        }
        Ok(applied)
    }
}
