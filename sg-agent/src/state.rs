//! What the agent keeps on disk: which generation is what, and the policies they came from.
//!
//! One folder belongs to one agent at a time, by a lock. A generation's record is written whole
//! before the kernel switches to it, so whatever generation is in force can be read about, with the
//! agent dead too. Nothing here knows the kernel, or decides what is in force: it only remembers.
//!
//! ```text
//! lock                      held by the running agent
//! generations/0000000007.json   one record a generation; the newest few are kept
//! policies/DIGEST.json      the documents and list files of a policy, by their digest
//! trial.json                a policy that waits for its confirmation, and the one before it
//! ```

use std::{
    cell::RefCell,
    collections::BTreeMap,
    ffi::OsStr,
    fs::{self, File, TryLockError},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};

mod record;
mod submission;
mod trial;

pub use self::{
    record::{FORMAT, Record, RuleRecord, ZoneRecord},
    submission::{Submission, Text, hex},
    trial::TrialRecord,
};

/// How many generations are kept.
const KEPT: usize = 16;

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
    /// The policies of records that were read or written: records are long, and many are pruned.
    policies: RefCell<BTreeMap<u64, String>>,
    _lock: File,
}

impl Store {
    /// The folder at `root`, which need not exist.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Makes the folder if need be and locks it.
    ///
    /// # Errors
    ///
    /// The folder cannot be made, or another agent holds it.
    pub fn lock(self) -> Result<LockedStore, StateError> {
        for folder in [self.root.clone(), self.generations(), self.policies()] {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&folder)
                .map_err(|source| StateError::Io { operation: "make", path: folder, source })?;
        }
        let path = self.root.join("lock");
        let lock = fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(|source| StateError::Io { operation: "open", path: path.clone(), source })?;
        match lock.try_lock() {
            Ok(()) => Ok(LockedStore { store: self, policies: RefCell::default(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(StateError::Locked { path: self.root }),
            Err(TryLockError::Error(source)) => Err(StateError::Io { operation: "lock", path, source }),
        }
    }

    fn generations(&self) -> PathBuf {
        self.root.join("generations")
    }

    fn policies(&self) -> PathBuf {
        self.root.join("policies")
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

    /// The record with the highest generation that can be read. Damaged ones are skipped: an older
    /// policy that is whole is better than none.
    ///
    /// # Errors
    ///
    /// The folder cannot be read.
    pub fn newest(&self) -> Result<Option<Record>, StateError> {
        for generation in self.recorded()?.into_iter().rev() {
            if let Ok(Some(record)) = self.record(generation) {
                return Ok(Some(record));
            }
        }
        Ok(None)
    }

    /// The generations that have a record, in ascending order.
    ///
    /// # Errors
    ///
    /// The folder cannot be read.
    pub fn recorded(&self) -> Result<Vec<u64>, StateError> {
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
            if name.extension() == Some(OsStr::new("json"))
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
    /// They cannot be read.
    pub fn submission(&self, digest: &str) -> Result<Option<Submission>, StateError> {
        read(&self.policy_path(digest))
    }
}

impl LockedStore {
    /// The same folder, to read from.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Writes a record and the policy that it came from. When this returns they are on disk.
    ///
    /// # Errors
    ///
    /// They cannot be written; an older record of the same generation is then still whole.
    pub fn write(&self, record: &Record, submission: &Submission) -> Result<(), StateError> {
        let policy = self.store.policy_path(&record.policy);
        if !policy.exists() {
            replace(&policy, submission)?;
        }
        self.policies.borrow_mut().insert(record.generation, record.policy.clone());
        replace(&self.store.record_path(record.generation), record)
    }

    /// The policy of a generation that is recorded.
    fn policy_of(&self, generation: u64) -> Option<String> {
        if let Some(policy) = self.policies.borrow().get(&generation) {
            return Some(policy.clone());
        }
        let policy = self.store.record(generation).ok()??.policy;
        self.policies.borrow_mut().insert(generation, policy.clone());
        Some(policy)
    }

    /// Notes that a policy waits for its confirmation. Its former one must be kept.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub fn begin_trial(&self, trial: &TrialRecord, submission: &Submission) -> Result<(), StateError> {
        let policy = self.store.policy_path(&trial.policy);
        if !policy.exists() {
            replace(&policy, submission)?;
        }
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

    /// Forgets a generation that never came into force.
    ///
    /// # Errors
    ///
    /// The record cannot be removed.
    pub fn forget(&self, generation: u64) -> Result<(), StateError> {
        remove(&self.store.record_path(generation))
    }

    /// Removes all but the newest generations up to `in_force`, and the policies that none of the
    /// rest came from.
    ///
    /// # Errors
    ///
    /// Something cannot be removed; what is in force is never touched.
    pub fn prune(&self, in_force: u64) -> Result<(), StateError> {
        let recorded = self.store.recorded()?;
        let (old, rest) = recorded.split_at(recorded.len().saturating_sub(KEPT));
        let mut policies = match self.store.trial() {
            Ok(Some(trial)) => trial.former.into_iter().chain([trial.policy]).collect(),
            _ => Vec::new(),
        };
        for generation in old.iter().chain(rest) {
            if *generation != in_force && old.contains(generation) {
                remove(&self.store.record_path(*generation))?;
            } else {
                policies.extend(self.policy_of(*generation));
            }
        }
        self.policies.borrow_mut().retain(|generation, _| recorded.contains(generation));
        let path = self.store.policies();
        let entries = fs::read_dir(&path).map_err(|source| StateError::Io {
            operation: "read",
            path: path.clone(),
            source,
        })?;
        for entry in entries.flatten() {
            let path = entry.path();
            let digest = path.file_stem().and_then(OsStr::to_str).unwrap_or_default();
            if !policies.iter().any(|kept| kept == digest) {
                remove(&path)?;
            }
        }
        Ok(())
    }
}

fn remove(path: &Path) -> Result<(), StateError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(StateError::Io { operation: "remove", path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, StateError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(StateError::Io { operation: "read", path: path.to_owned(), source }),
    };
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|error| StateError::Damaged { path: path.to_owned(), message: error.to_string() })
}

/// Writes a file beside, has it reach the disk, and renames it over `path`.
fn replace<T: Serialize>(path: &Path, value: &T) -> Result<(), StateError> {
    let failed = |operation| {
        let path = path.to_owned();
        move |source| StateError::Io { operation, path, source }
    };
    let bytes = serde_json::to_vec(value).map_err(|error| failed("write")(error.into()))?;
    let temporary = path.with_extension("tmp");
    let mut file = fs::OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&temporary)
        .map_err(failed("write"))?;
    file.write_all(&bytes).and_then(|()| file.sync_all()).map_err(failed("write"))?;
    fs::rename(&temporary, path).map_err(failed("rename"))?;
    if let Some(folder) = path.parent() {
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed("sync"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(generation: u64, submission: &Submission) -> Record {
        Record {
            format: FORMAT,
            generation,
            applied: "2026-11-23T14:00:00Z".to_owned(),
            author: "root".to_owned(),
            cause: "a test".to_owned(),
            policy: submission.digest(),
            image: "00".repeat(32),
            next_number: 0,
            freed_numbers: vec![],
            rules: vec![],
            zones: vec![],
        }
    }

    fn submission(text: &str) -> Submission {
        Submission {
            documents: vec![Text { name: "p.yaml".to_owned(), text: text.to_owned() }],
            files: vec![],
        }
    }

    #[test]
    fn a_second_agent_is_refused_until_the_first_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let first = Store::new(folder.path()).lock().unwrap();
        let refused = Store::new(folder.path()).lock().unwrap_err();
        assert!(matches!(refused, StateError::Locked { .. }), "{refused}");
        assert!(refused.to_string().contains("another agent runs on"), "{refused}");
        drop(first);
        Store::new(folder.path()).lock().unwrap();
    }

    #[test]
    fn what_is_written_is_read_again_and_the_newest_whole_record_counts() {
        let folder = tempfile::tempdir().unwrap();
        let locked = Store::new(folder.path()).lock().unwrap();
        let (a, b) = (submission("a"), submission("b"));
        locked.write(&record(3, &a), &a).unwrap();
        locked.write(&record(4, &b), &b).unwrap();
        let store = Store::new(folder.path());
        assert_eq!(store.record(3).unwrap(), Some(record(3, &a)));
        assert_eq!(store.record(5).unwrap(), None);
        assert_eq!(store.submission(&b.digest()).unwrap(), Some(b.clone()));
        assert_eq!(store.newest().unwrap().unwrap().generation, 4);
        fs::write(store.record_path(4), "{").unwrap();
        assert!(matches!(store.record(4), Err(StateError::Damaged { .. })));
        assert_eq!(store.newest().unwrap().unwrap().generation, 3);
        locked.forget(3).unwrap();
        assert_eq!(store.record(3).unwrap(), None);
    }

    #[test]
    fn a_record_of_another_format_is_not_guessed_at() {
        let folder = tempfile::tempdir().unwrap();
        let locked = Store::new(folder.path()).lock().unwrap();
        let a = submission("a");
        locked.write(&Record { format: FORMAT + 1, ..record(1, &a) }, &a).unwrap();
        assert!(matches!(locked.store().record(1), Err(StateError::Format { .. })));
    }

    #[test]
    fn pruning_keeps_the_newest_what_is_in_force_and_their_policies() {
        let folder = tempfile::tempdir().unwrap();
        let locked = Store::new(folder.path()).lock().unwrap();
        let (a, b) = (submission("a"), submission("b"));
        locked.write(&record(1, &a), &a).unwrap();
        for generation in 2..=30 {
            locked.write(&record(generation, &b), &b).unwrap();
        }
        locked.prune(1).unwrap();
        let expected: Vec<u64> = [1].into_iter().chain(15..=30).collect();
        assert_eq!(locked.store().recorded().unwrap(), expected);
        assert!(locked.store().submission(&a.digest()).unwrap().is_some());
        locked.prune(30).unwrap();
        assert_eq!(locked.store().recorded().unwrap(), (15..=30).collect::<Vec<_>>());
        assert!(locked.store().submission(&a.digest()).unwrap().is_none());
        assert!(locked.store().submission(&b.digest()).unwrap().is_some());
    }
}
