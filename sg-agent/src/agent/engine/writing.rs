//! Has records and policies written down, and remembers what could not be: a disk that takes nothing
//! must not keep what is known to be good from being enforced.

use tracing::{error, info};

use super::Engine;
use crate::{
    agent::{order::Order, plan::Candidate},
    failure::Failure,
    state::Record,
};

/// What could not be written down.
#[derive(Debug, Default)]
pub(super) struct Writing {
    /// Why the record of what is in force could not be.
    unwritten: Option<Failure>,
    /// The latest policy was refused because it could not be.
    is_refused: bool,
}

impl Writing {
    /// That the policy in force is not written down, and why.
    pub(super) fn problem(&self) -> Option<String> {
        self.unwritten.as_ref().map(unwritten)
    }
}

impl Engine {
    pub(in crate::agent) fn write(&self, record: &Record, candidate: &Candidate) -> Result<(), Failure> {
        self.store.write(record, &candidate.submission).map_err(Failure::state)
    }

    /// Writes a record, or notes why that cannot be done where the policy is to be in force all the same.
    pub(super) fn write_for(
        &mut self,
        order: &Order,
        record: &Record,
        candidate: &Candidate,
    ) -> Result<(), Failure> {
        match self.write(record, candidate) {
            Ok(()) => self.writing = Writing::default(),
            Err(failure) if order.goes_unwritten => {
                error!("{}", unwritten(&failure));
                self.writing.unwritten = Some(failure);
            }
            Err(failure) => {
                self.writing.is_refused = true;
                return Err(failure);
            }
        }
        Ok(())
    }

    /// Whether the folder, which was out of reach, has later generations than the one in force: then that
    /// gets a number of its own.
    pub(super) fn is_outnumbered(&self) -> bool {
        let number = self.in_force.as_ref().map(|in_force| in_force.record.generation);
        self.writing.unwritten.is_some()
            && number.is_some_and(|number| self.store().highest().is_ok_and(|highest| highest > number))
    }

    /// Writes down what is in force and could not be written before.
    pub(super) fn write_down(&mut self) {
        let Some(in_force) = self.in_force.as_ref().filter(|_| self.writing.unwritten.is_some()) else {
            return;
        };
        match self.write(&in_force.record, &in_force.candidate) {
            Ok(()) => {
                info!("what is in force is written down");
                self.writing.unwritten = None;
            }
            Err(failure) => self.writing.unwritten = Some(failure),
        }
    }

    /// Another policy is asked for: whether it is refused by the disk is to be seen.
    pub(super) const fn expect_writing(&mut self) {
        self.writing.is_refused = false;
    }

    /// Whether the latest policy that was refused could not be written down, and may be another time.
    #[must_use]
    pub const fn is_refused_by_disk(&self) -> bool {
        self.writing.is_refused
    }
}

/// What people are told.
fn unwritten(failure: &Failure) -> String {
    format!("the policy in force cannot be written down, and is enforced all the same: {failure}")
}
