//! What the agent keeps on disk: which generation is what, and the policies they came from.
//!
//! One folder belongs to one agent at a time, by a lock. A generation's record is written whole
//! before the kernel switches to it, so whatever generation is in force can be read about, with the
//! agent dead too. Nothing here knows the kernel, or decides what is in force: it only remembers.
//!
//! ```text
//! .                         the folder itself is locked by the running agent, which needs no writing
//! lock                      locked too, for agents that know of this one alone
//! generations/0000000007.json   one record a generation; those of the newest policies are kept
//! policies/DIGEST.json      the documents and list files of a policy, by their digest
//! trial.json                a policy that waits for its confirmation, and the one before it
//! unlocks/TIME-PROCESS.json     the latest uses of `unlock`, written without the lock
//! refused.json              the digest of the last one that waited in vain
//! ```

use std::{
    cell::RefCell,
    collections::BTreeMap,
    ffi::OsStr,
    fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    thread,
};

mod file;
mod locks;
mod record;
mod submission;
mod trial;
mod unlocks;

use self::{
    file::{prepare, read, remove, rename, replace, sync_folder},
    locks::Locks,
};
pub use self::{
    record::{FORMAT, Record, RuleRecord, ZoneRecord},
    submission::{Submission, Text, hex},
    trial::TrialRecord,
    unlocks::UnlockRecord,
};

/// How many policies are kept.
const KEPT: usize = 16;
/// How many generations of one policy are.
const KEPT_OF_ONE: usize = 4;
/// How the names of records end.
const RECORD: &str = "json";
/// How those of records end that are nothing to return to.
const FORGOTTEN: &str = "forgotten";

/// Why the state folder is of no use. Whatever was on disk before is still there.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A file operation failed.
    #[error("{operation} {path}: {source}", path = path.display())]
    Io {
        /// What was attempted.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Another agent holds the folder.
    #[error("another agent runs on {path}; stop it, or give this one a --state-dir of its own", path = path.display())]
    Locked {
        /// The folder.
        path: PathBuf,
    },
    /// A record cannot be read.
    #[error("{path} is damaged: {message}; remove it", path = path.display())]
    Damaged {
        /// The record.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// A record was written by another version.
    #[error("{path} has format {found}, expected {FORMAT}: another version of the agent wrote it", path = path.display())]
    Format {
        /// The record.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
}

/// The state folder, to read from.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
}

/// The state folder of the running agent, to write to. Dropping it unlocks the folder.
#[derive(Debug)]
pub struct LockedStore {
    store: Store,
    /// The policy that was last seen to be whole: it is not read again for each generation of it.
    whole: RefCell<String>,
    /// The policy of each generation whose record was written or read by this process.
    policies: RefCell<BTreeMap<u64, String>>,
    /// None while the folder is not there: nobody can hold it, nor keep anything in it.
    locks: RefCell<Option<Locks>>,
}

/// Makes a folder that only its owner may enter; one that is there is left alone.
fn make(folder: &Path) -> Result<(), StateError> {
    if folder.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|source| StateError::Io {
        operation: "make",
        path: folder.to_owned(),
        source,
    })?;
    // Else a loss of power takes it away, with what was brought to the disk in it.
    sync_folder(folder)
}

impl Store {
    /// The folder at `root`, which need not exist.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Makes the folder if need be and locks it: where nothing can be written as well, so that what is
    /// kept can be put in force from a disk that is full or read-only. One that is not there and cannot be
    /// made keeps nothing, and each write tries again.
    ///
    /// # Errors
    ///
    /// Another agent holds the folder.
    pub fn lock(self) -> Result<LockedStore, StateError> {
        let locks = match self.hold() {
            Err(error @ StateError::Locked { .. }) => return Err(error),
            held => held.ok(),
        };
        Ok(LockedStore {
            store: self,
            whole: RefCell::default(),
            policies: RefCell::default(),
            locks: RefCell::new(locks),
        })
    }

    /// Makes the folder if need be and locks it.
    fn hold(&self) -> Result<Locks, StateError> {
        make(&self.root)?;
        let locks = Locks::of(&self.root)?;
        // Whoever writes into them says what is wrong with them.
        let _ = self.make_folders();
        Ok(locks)
    }

    /// Makes the folders of records and policies.
    fn make_folders(&self) -> Result<(), StateError> {
        make(&self.generations())?;
        make(&self.policies())
    }

    fn generations(&self) -> PathBuf {
        self.root.join("generations")
    }

    fn policies(&self) -> PathBuf {
        self.root.join("policies")
    }

    fn refused_path(&self) -> PathBuf {
        self.root.join("refused.json")
    }

    /// The digest of the content of the last policy that was tried and not confirmed.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub fn refused(&self) -> Result<Option<String>, StateError> {
        read(&self.refused_path())
    }

    fn trial_path(&self) -> PathBuf {
        self.root.join("trial.json")
    }

    /// The policy that waits for its confirmation, if one does.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub fn trial(&self) -> Result<Option<TrialRecord>, StateError> {
        read(&self.trial_path())
    }

    fn record_path(&self, generation: u64) -> PathBuf {
        self.generations().join(format!("{generation:010}.json"))
    }

    fn policy_path(&self, digest: &str) -> PathBuf {
        self.policies().join(format!("{digest}.json"))
    }

    /// The record of a generation, if there is one.
    ///
    /// # Errors
    ///
    /// It cannot be read, or another version wrote it.
    pub fn record(&self, generation: u64) -> Result<Option<Record>, StateError> {
        let path = self.record_path(generation);
        let Some(record) = read::<Record>(&path)? else { return Ok(None) };
        if record.format != FORMAT {
            return Err(StateError::Format { path, found: record.format });
        }
        Ok(Some(record))
    }

    /// The policies that were in force, the one of `generation` first and then from the newest on. Damaged
    /// ones are skipped: an older policy that is whole is better than none.
    ///
    /// # Errors
    ///
    /// The folder cannot be read.
    pub fn policies_since(&self, generation: u64) -> Result<impl Iterator<Item = Submission>, StateError> {
        let mut generations = self.recorded()?;
        // Stable: false comes before true.
        generations.reverse();
        generations.sort_by_key(|recorded| *recorded != generation);
        Ok(generations.into_iter().filter_map(|recorded| {
            let record = self.record(recorded).ok()??;
            // Without a document it says that there was no policy.
            self.submission(&record.policy).ok()?.filter(|submission| !submission.documents.is_empty())
        }))
    }

    /// The generations that have a record, in ascending order.
    ///
    /// # Errors
    ///
    /// The folder cannot be read.
    pub fn recorded(&self) -> Result<Vec<u64>, StateError> {
        self.numbered(RECORD)
    }

    /// The highest generation that ever had a record, forgotten ones included: flows of it may live on,
    /// and no other may have its number.
    ///
    /// # Errors
    ///
    /// The folder cannot be read.
    pub fn highest(&self) -> Result<u64, StateError> {
        let last = |extension| Ok(self.numbered(extension)?.last().copied().unwrap_or(0));
        Ok(last(RECORD)?.max(last(FORGOTTEN)?))
    }

    fn numbered(&self, extension: &str) -> Result<Vec<u64>, StateError> {
        let path = self.generations();
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(StateError::Io { operation: "read", path, source }),
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry =
                entry.map_err(|source| StateError::Io { operation: "read", path: path.clone(), source })?;
            let name = PathBuf::from(entry.file_name());
            if name.extension() == Some(OsStr::new(extension))
                && let Some(number) = name.file_stem().and_then(OsStr::to_str)
                && let Ok(number) = number.parse()
            {
                found.push(number);
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    /// The documents of the policy with this digest, if they are kept.
    ///
    /// # Errors
    ///
    /// They cannot be read, or are not those of this digest.
    pub fn submission(&self, digest: &str) -> Result<Option<Submission>, StateError> {
        let path = self.policy_path(digest);
        match read::<Submission>(&path)? {
            Some(submission) if submission.digest() != digest => {
                let message = "it holds another policy than its name says".to_owned();
                Err(StateError::Damaged { path, message })
            }
            found => Ok(found),
        }
    }
}

impl LockedStore {
    /// The same folder, to read from.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Whether the folder is there: what is not in it was put away, and not out of reach.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.locks.borrow().is_some()
    }

    /// Holds the folder from now on, if it was not there before.
    fn hold(&self) -> Result<(), StateError> {
        let mut locks = self.locks.borrow_mut();
        if locks.is_none() {
            *locks = Some(self.store.hold()?);
        }
        Ok(())
    }

    /// Writes a record and the policy that it came from. When this returns they are on disk.
    ///
    /// # Errors
    ///
    /// They cannot be written; an older record of the same generation is then still whole.
    pub fn write(&self, record: &Record, submission: &Submission) -> Result<(), StateError> {
        self.hold()?;
        self.store.make_folders()?;
        let path = self.store.record_path(record.generation);
        if self.is_kept(&record.policy) {
            replace(&path, record)?;
        } else {
            // Disks take their time: both are on their way at once, and a record takes its place when
            // its policy is there.
            let store = &self.store;
            let keep = || keep(store, &record.policy, submission);
            thread::scope(|scope| {
                let beside = thread::Builder::new().spawn_scoped(scope, keep);
                let prepared = prepare(&path, record);
                match beside {
                    Ok(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?,
                    // Where there is no room for another thread, one after the other.
                    Err(_) => keep()?,
                }
                prepared?.put_in_place()
            })?;
            self.whole.replace(record.policy.clone());
        }
        self.policies.borrow_mut().insert(record.generation, record.policy.clone());
        Ok(())
    }

    /// The policy of a generation, if its record can be read.
    fn policy_of(&self, generation: u64) -> Option<String> {
        let mut known = self.policies.borrow_mut();
        if let Some(policy) = known.get(&generation) {
            return Some(policy.clone());
        }
        let policy = self.store.record(generation).ok()??.policy;
        known.insert(generation, policy.clone());
        Some(policy)
    }

    /// Whether the texts of a policy are known to be there, and whole.
    fn is_kept(&self, digest: &str) -> bool {
        *self.whole.borrow() == digest && self.store.policy_path(digest).exists()
    }

    /// Keeps the texts of a policy.
    fn keep(&self, digest: &str, submission: &Submission) -> Result<(), StateError> {
        if !self.is_kept(digest) {
            keep(&self.store, digest, submission)?;
            digest.clone_into(&mut self.whole.borrow_mut());
        }
        Ok(())
    }

    /// Notes that a policy waits for its confirmation. Its former one must be kept.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub fn begin_trial(&self, trial: &TrialRecord, submission: &Submission) -> Result<(), StateError> {
        self.hold()?;
        self.keep(&trial.policy, submission)?;
        replace(&self.store.trial_path(), trial)
    }

    /// Notes that none does any more.
    ///
    /// # Errors
    ///
    /// The note cannot be removed.
    pub fn end_trial(&self) -> Result<(), StateError> {
        remove(&self.store.trial_path())
    }

    /// Forgets a generation that is nothing to return to: it was not confirmed, or never came into force.
    /// Its number stays used.
    ///
    /// # Errors
    ///
    /// The record cannot be put away.
    pub fn forget(&self, generation: u64) -> Result<(), StateError> {
        self.policies.borrow_mut().remove(&generation);
        let record = self.store.record_path(generation);
        rename(&record, &record.with_extension(FORGOTTEN))
    }

    /// Forgets the generations above `lowest` for which `is_to_go` holds.
    ///
    /// # Errors
    ///
    /// As [`Self::forget`]; the others are forgotten all the same.
    pub fn forget_above(&self, lowest: u64, is_to_go: impl Fn(u64) -> bool) -> Result<(), StateError> {
        let recorded = self.store.recorded()?;
        let above = recorded.into_iter().filter(|generation| *generation > lowest && is_to_go(*generation));
        above.map(|generation| self.forget(generation)).fold(Ok(()), Result::and)
    }

    /// Notes the policy that was not confirmed, by the digest of its content: nobody but who asks for it gets
    /// it again. `None` where there is none.
    ///
    /// # Errors
    ///
    /// The note cannot be written.
    pub fn refuse(&self, digest: Option<&str>) -> Result<(), StateError> {
        let path = self.store.refused_path();
        match digest {
            Some(digest) => replace(&path, &digest),
            None => remove(&path),
        }
    }

    /// Removes all but the newest generations up to `in_force`, and the policies that none of the
    /// rest came from.
    ///
    /// # Errors
    ///
    /// Something cannot be removed; what is in force is never touched.
    pub fn prune(&self, in_force: u64) -> Result<(), StateError> {
        let mut kept = match self.store.trial() {
            Ok(Some(trial)) => trial.former.into_iter().chain([trial.policy]).collect(),
            _ => Vec::new(),
        };
        kept.extend(self.policy_of(in_force));
        // Each change of an interface is a generation: what is worth keeping are policies.
        let mut seen = BTreeMap::new();
        for generation in self.store.recorded()?.into_iter().rev() {
            let policy = self.policy_of(generation).unwrap_or_default();
            let is_kept = match seen.get(&policy) {
                Some(times) => *times < KEPT_OF_ONE,
                None => seen.len() < KEPT,
            };
            if is_kept {
                *seen.entry(policy.clone()).or_insert(0) += 1;
            }
            if is_kept || generation == in_force {
                kept.push(policy);
            } else {
                remove(&self.store.record_path(generation))?;
                self.policies.borrow_mut().remove(&generation);
            }
        }
        for forgotten in self.store.numbered(FORGOTTEN)?.into_iter().rev().skip(1) {
            remove(&self.store.record_path(forgotten).with_extension(FORGOTTEN))?;
        }
        let path = self.store.policies();
        let entries = fs::read_dir(&path).map_err(|source| StateError::Io {
            operation: "read",
            path: path.clone(),
            source,
        })?;
        for entry in entries.flatten() {
            let path = entry.path();
            let digest = path.file_stem().and_then(OsStr::to_str).unwrap_or_default();
            if !kept.iter().any(|kept| kept == digest) {
                remove(&path)?;
            }
        }
        Ok(())
    }
}

/// Writes the texts of a policy. Those that are there and whole stay as they are.
fn keep(store: &Store, digest: &str, submission: &Submission) -> Result<(), StateError> {
    match store.submission(digest) {
        Ok(Some(kept)) if kept == *submission => Ok(()),
        _ => replace(&store.policy_path(digest), submission),
    }
}

#[cfg(test)]
mod tests;
