//! One file of the state folder: written whole or not at all, and never believed when it is damaged.
//!
//! It is one line of JSON and one with the SHA-256 of the first, in hexadecimal. A file is written beside,
//! brought to the disk and renamed, so that after a loss of power there is the old one or the new one; the
//! sum is for what disks do besides.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest as _, Sha256};

use super::{StateError, hex};

/// Reads a file, if it is there.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, StateError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(StateError::Io { operation: "read", path: path.to_owned(), source }),
    };
    let damaged = |message: String| StateError::Damaged { path: path.to_owned(), message };
    let mut lines = bytes.split(|octet| *octet == b'\n');
    let (Some(json), Some(sum)) = (lines.next(), lines.next()) else {
        return Err(damaged("it has no checksum".to_owned()));
    };
    if sum != hex(&Sha256::digest(json)).as_bytes() {
        return Err(damaged("its checksum is another".to_owned()));
    }
    serde_json::from_slice(json).map(Some).map_err(|error| damaged(error.to_string()))
}

/// Writes a file beside, has it reach the disk, and renames it over `path`.
pub(super) fn replace<T: Serialize>(path: &Path, value: &T) -> Result<(), StateError> {
    prepare(path, value)?.put_in_place()
}

/// A file that is on the disk, beside its place. Dropped, it is removed again.
#[must_use]
pub(super) struct Prepared<'p> {
    path: &'p Path,
    temporary: PathBuf,
    is_in_place: bool,
}

/// Writes a file beside `path`, and has it reach the disk.
pub(super) fn prepare<'p, T: Serialize>(path: &'p Path, value: &T) -> Result<Prepared<'p>, StateError> {
    let failed = |operation| {
        let path = path.to_owned();
        move |source| StateError::Io { operation, path, source }
    };
    let mut bytes = serde_json::to_vec(value).map_err(|error| failed("write")(error.into()))?;
    let sum = hex(&Sha256::digest(&bytes));
    bytes.extend_from_slice(format!("\n{sum}\n").as_bytes());
    let temporary = path.with_extension("tmp");
    let mut file = fs::OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&temporary)
        .map_err(failed("write"))?;
    let written = file.write_all(&bytes).and_then(|()| file.sync_all());
    // Made before anything can fail: half a file takes room where there is none.
    let prepared = Prepared { path, temporary, is_in_place: false };
    written.map_err(failed("write"))?;
    Ok(prepared)
}

impl Prepared<'_> {
    /// Renames it over what is there.
    pub(super) fn put_in_place(mut self) -> Result<(), StateError> {
        fs::rename(&self.temporary, self.path).map_err(|source| StateError::Io {
            operation: "rename",
            path: self.path.to_owned(),
            source,
        })?;
        self.is_in_place = true;
        sync_folder(self.path)
    }
}

impl Drop for Prepared<'_> {
    fn drop(&mut self) {
        if !self.is_in_place {
            // What is left is never read, and the next one of this name is written over it.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// Renames a file; one that is not there is left alone.
pub(super) fn rename(from: &Path, to: &Path) -> Result<(), StateError> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(StateError::Io { operation: "rename", path: from.to_owned(), source }),
        Ok(()) => sync_folder(from),
    }
}

/// Removes a file, so that it does not come back after a loss of power; one that is not there is removed
/// already.
pub(super) fn remove(path: &Path) -> Result<(), StateError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(StateError::Io { operation: "remove", path: path.to_owned(), source }),
        Ok(()) => sync_folder(path),
    }
}

/// Has the disk know which files the folder of `path` has.
pub(super) fn sync_folder(path: &Path) -> Result<(), StateError> {
    let Some(folder) = path.parent() else { return Ok(()) };
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|source| StateError::Io {
        operation: "sync",
        path: folder.to_owned(),
        source,
    })
}
