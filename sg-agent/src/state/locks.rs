//! One agent at a time writes to the state folder: who holds its locks.

use std::{
    fs::{File, OpenOptions, TryLockError},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use super::StateError;

/// The locks of a folder, held while this lives.
#[derive(Debug)]
pub(super) struct Locks {
    _folder: File,
    /// None where it is not there, and cannot be made: what is not there is nobody's.
    _file: Option<File>,
}

impl Locks {
    /// Locks the folder at `root`, which is there. Nothing need be written for that.
    pub(super) fn of(root: &Path) -> Result<Self, StateError> {
        let folder = File::open(root).map_err(|source| StateError::Io {
            operation: "open",
            path: root.to_owned(),
            source,
        })?;
        lock(&folder, root, root)?;
        let path = root.join("lock");
        let writable = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
        // What is locked need not be written.
        let file = writable.or_else(|_| File::open(&path)).ok();
        file.as_ref().map(|file| lock(file, &path, root)).transpose()?;
        Ok(Self { _folder: folder, _file: file })
    }
}

fn lock(file: &File, path: &Path, root: &Path) -> Result<(), StateError> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(StateError::Locked { path: root.to_owned() }),
        Err(TryLockError::Error(source)) => {
            Err(StateError::Io { operation: "lock", path: path.to_owned(), source })
        }
    }
}
