//! How a command ends: the exit status that scripts rely on, and the error that people read.
//!
//! Every boundary has an error enum of its own; where one reaches the user it becomes a
//! [`Failure`], which says what failed, why, and what to do. Nothing here prints.

use std::{fmt, io, process::ExitCode};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{kernel::KernelError, state::StateError};

/// Exit statuses, as the command line's contract numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Exit {
    /// Done; for `explain`: allowed.
    Done = 0,
    /// Failed.
    Failed = 1,
    /// Bad usage or an invalid policy.
    Invalid = 2,
    /// `explain`: denied; `plan`: there are changes.
    Denied = 3,
    /// The daemon is not running.
    NotRunning = 4,
    /// Permission.
    Permission = 5,
    /// The kernel lacks what is needed.
    Unsupported = 7,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// What failed, why, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Failure {
    /// What was attempted, as in "apply policy.yaml".
    pub what: String,
    /// Why it failed.
    pub why: String,
    /// What to do, where something can be done.
    pub remedy: Option<String>,
    /// The exit status that it means.
    pub exit: Exit,
    /// For an invalid policy: every error and warning as people read them.
    #[serde(default)]
    pub diagnostics: Vec<String>,
}

impl Failure {
    /// A failure with no remedy to tell.
    pub fn new(exit: Exit, what: impl Into<String>, why: impl fmt::Display) -> Self {
        Self { what: what.into(), why: why.to_string(), remedy: None, exit, diagnostics: Vec::new() }
    }

    /// The same failure, with what to do about it.
    #[must_use]
    pub fn with_remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// The same failure, with the diagnostics of a document.
    #[must_use]
    pub fn with_diagnostics(mut self, diagnostics: Vec<String>) -> Self {
        self.diagnostics = diagnostics;
        self
    }

    /// A failed system call or file operation; a lack of permission is told as such.
    pub fn io(what: impl Into<String>, error: &io::Error) -> Self {
        let exit = match error.kind() {
            io::ErrorKind::PermissionDenied => Exit::Permission,
            _ => Exit::Failed,
        };
        let failure = Self::new(exit, what, error);
        if exit == Exit::Permission { failure.with_remedy(AS_ROOT) } else { failure }
    }

    /// What the kernel refused.
    pub fn kernel(what: impl Into<String>, error: &KernelError) -> Self {
        let exit = if error.is_permission() {
            Exit::Permission
        } else if error.is_unsupported() {
            Exit::Unsupported
        } else {
            Exit::Failed
        };
        Self { remedy: error.remedy(), ..Self::new(exit, what, error) }
    }

    /// What the state folder refused.
    pub fn state(error: StateError) -> Self {
        match error {
            StateError::Io { operation, path, source } => {
                Self::io(format!("{operation} {}", path.display()), &source)
            }
            other @ (StateError::Locked { .. } | StateError::Damaged { .. } | StateError::Format { .. }) => {
                Self::new(Exit::Failed, "use the state folder", other)
            }
        }
    }

    /// The operation needs root.
    pub fn needs_root(what: impl Into<String>) -> Self {
        Self::new(Exit::Permission, what, "this needs root").with_remedy(AS_ROOT)
    }
}

/// The remedy for a lack of permission.
pub const AS_ROOT: &str = "run it as root";

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.why)?;
        match &self.remedy {
            Some(remedy) => write!(f, "; {remedy}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_statuses_are_those_of_the_contract() {
        let rows = [
            (Exit::Done, 0),
            (Exit::Failed, 1),
            (Exit::Invalid, 2),
            (Exit::Denied, 3),
            (Exit::NotRunning, 4),
            (Exit::Permission, 5),
            (Exit::Unsupported, 7),
        ];
        for (exit, number) in rows {
            assert_eq!(exit as u8, number, "{exit:?}");
        }
    }

    #[test]
    fn a_failure_reads_what_why_and_what_to_do() {
        let failure = Failure::new(Exit::Failed, "apply p.yaml", "the disk is full");
        assert_eq!(failure.to_string(), "apply p.yaml: the disk is full");
        let failure = failure.with_remedy("make room");
        assert_eq!(failure.to_string(), "apply p.yaml: the disk is full; make room");
        let denied = Failure::io("open x", &io::Error::from(io::ErrorKind::PermissionDenied));
        assert_eq!(denied.exit, Exit::Permission);
    }
}
