//! What the policy's files say is put in force: when the agent is told to, and when they change.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
};

use tokio::time::Instant;
use tracing::info;

use super::{Agent, DEFAULT_POLICY, Options, RETRY, Terms, plan::Candidate};
use crate::{
    document::Loaded,
    failure::{Exit, Failure},
    view::Applied,
};

/// What `history` says of a change of files.
const CHANGED: &str = "the policy's files changed";

impl Agent {
    /// Puts in force what the files say now, whatever they said before.
    pub(super) fn reload(&mut self) -> Result<Applied, Failure> {
        const WHAT: &str = "reload the policy";
        // Else the files would count as looked at.
        if let Err(failure) = self.engine.not_on_trial(WHAT) {
            return self.told(Err(failure));
        }
        let Some(loaded) = self.watch.read() else {
            let failure = Failure::new(Exit::Failed, WHAT, "the agent was started without one");
            return Err(failure.with_remedy("use `sg-agent apply`, or start it with --policy"));
        };
        let read = self.read_files(loaded);
        self.change_to_files(read, "reload", "root")
    }

    /// Puts in force what the policy's files say now, if they say something else than before. What came
    /// otherwise meanwhile, by `apply` or `rollback`, is not undone by files that stay as they are.
    pub(super) fn follow_files(&mut self) {
        if let Some(loaded) = self.watch.look() {
            let read = self.read_files(loaded).and_then(|candidate| self.wanted(candidate));
            // Nobody waits for it: it is logged, and kept for `status`.
            let _ = self.change_to_files(read, CHANGED, "agent");
        }
    }

    /// What the disk had no room for, or refused to take, is tried again. Until then the last good policy
    /// is in force.
    pub(super) fn await_disk(&mut self) {
        self.rewrite = self.engine.is_refused_by_disk().then(|| Instant::now() + RETRY);
    }

    /// Puts in force what the files say and could not be written down.
    pub(super) fn try_files_again(&mut self) {
        // Nothing takes the place of a policy on trial.
        self.rewrite = self.engine.confirm_by().map(|_| Instant::now() + RETRY);
        if self.rewrite.is_none()
            && let Some(loaded) = self.watch.read()
        {
            let read = self.read_files(loaded).and_then(|candidate| self.wanted(candidate));
            if self.change_to_files(read, CHANGED, "agent").is_ok() {
                info!("the policy that could not be written down is in force");
            }
        }
    }

    fn change_to_files(
        &mut self,
        read: Result<Candidate, Failure>,
        cause: &str,
        author: &str,
    ) -> Result<Applied, Failure> {
        let terms = Terms { author: author.to_owned(), ..Terms::default() };
        let result = match read {
            Ok(candidate) => {
                let result = self.change(candidate, cause, terms);
                if result.is_err() {
                    self.await_disk();
                }
                result
            }
            Err(failure) => self.told(Err(failure)),
        };
        self.are_files_refused = result.is_err();
        result
    }

    /// The policy that its files say, or all that is wrong with it.
    pub(super) fn read_files(&self, loaded: Loaded) -> Result<Candidate, Failure> {
        let path = self.watch.policy().unwrap_or(Path::new(DEFAULT_POLICY));
        super::read(loaded, &format!("read the policy {}", path.display()))
    }
}

/// The policy that the agent reads: what the command line names, else the settings, else the default
/// folder if there is one. Settings that cannot be read may have named another one: then there is none.
pub(super) fn policy_path(options: &Options) -> Option<PathBuf> {
    let named = options.policy.clone().or_else(|| options.config.policy.clone());
    named.or_else(|| {
        let default = Path::new(DEFAULT_POLICY);
        (options.unreadable.is_none() && default.is_dir()).then(|| default.to_owned())
    })
}

/// Whether `path` is a folder that waits for its first document.
pub(super) fn is_empty(path: &Path) -> bool {
    let is_hidden = |name: &OsStr| name.as_encoded_bytes().starts_with(b".");
    path.read_dir()
        .is_ok_and(|mut entries| entries.all(|entry| entry.is_ok_and(|entry| is_hidden(&entry.file_name()))))
}
