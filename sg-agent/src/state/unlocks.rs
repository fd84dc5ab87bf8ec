//! What was unlocked, for `history`: written by whoever unlocks, beside the daemon and without its lock.
//! Each time is a file of its own, so that nobody waits for anybody and none is lost half-way.

use std::{fs, io, os::unix::fs::DirBuilderExt as _, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::{StateError, Store, file};

/// How many are kept.
const KEPT: usize = 64;

/// One use of `unlock`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnlockRecord {
    /// When: RFC 3339, UTC.
    pub time: String,
    /// By whom.
    pub author: String,
    /// `unlock`, `end` or `all`.
    pub what: String,
    /// The port, in the policy's language.
    pub service: Option<String>,
    /// The one address that it was opened to.
    pub address: Option<String>,
    /// The one interface; none: every one.
    pub interface: Option<String>,
    /// For how long.
    pub seconds: Option<u64>,
}

impl Store {
    fn unlocks_folder(&self) -> PathBuf {
        self.root.join("unlocks")
    }

    /// Keeps a use of `unlock`, and the latest before it. `process` is the writer's.
    ///
    /// # Errors
    ///
    /// It cannot be written; or what is older cannot be removed.
    pub fn note_unlock(&self, note: &UnlockRecord, process: u32) -> Result<(), StateError> {
        let folder = self.unlocks_folder();
        // Whoever is locked out makes no state folder.
        match fs::DirBuilder::new().mode(0o700).create(&folder) {
            Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
                return Err(StateError::Io { operation: "make", path: folder, source });
            }
            _ => {}
        }
        // Times of one form sort as text.
        file::replace(&folder.join(format!("{}-{process}.json", note.time)), note)?;
        let names = self.unlock_files()?;
        names.iter().rev().skip(KEPT).try_for_each(|path| file::remove(path))
    }

    /// Every use of `unlock` that is kept and can be read, the newest first.
    ///
    /// # Errors
    ///
    /// The folder cannot be read.
    pub fn unlocks(&self) -> Result<Vec<UnlockRecord>, StateError> {
        let files = self.unlock_files()?.into_iter().rev();
        Ok(files.filter_map(|path| file::read(&path).ok().flatten()).collect())
    }

    fn unlock_files(&self) -> Result<Vec<PathBuf>, StateError> {
        let path = self.unlocks_folder();
        let entries = match fs::read_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect()),
        };
        let mut found: Vec<PathBuf> =
            entries.map_err(|source| StateError::Io { operation: "read", path, source })?;
        found.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
        found.sort_unstable();
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_are_kept_and_told_the_newest_first() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path());
        assert_eq!(store.unlocks().unwrap(), []);
        let note = |number: usize| UnlockRecord {
            time: format!("2026-11-23T14:{:02}:{:02}Z", number / 60, number % 60),
            author: "root".to_owned(),
            what: "unlock".to_owned(),
            ..UnlockRecord::default()
        };
        for number in 0..KEPT + 3 {
            store.note_unlock(&note(number), 7).unwrap();
        }
        let kept = store.unlocks().unwrap();
        assert_eq!((kept.len(), &kept[0], &kept[KEPT - 1]), (KEPT, &note(KEPT + 2), &note(3)));
        fs::write(store.unlock_files().unwrap().last().unwrap(), "{").unwrap();
        assert_eq!(store.unlocks().unwrap()[0], note(KEPT + 1), "a damaged one is left out");
        let nowhere = Store::new(folder.path().join("gone"));
        nowhere.note_unlock(&note(0), 7).unwrap_err();
        assert!(!folder.path().join("gone").exists());
    }
}
