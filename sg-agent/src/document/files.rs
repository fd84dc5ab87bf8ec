//! The only place of the document reader that touches the file system.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

/// Where the `file` of a prefix list is read from.
pub trait Files {
    /// The contents of the file at `path`, which is the document's folder joined with what the
    /// document says. One byte more than `limit` is enough of a longer file.
    ///
    /// # Errors
    ///
    /// When there is no such file, or it cannot be read.
    fn read(&self, path: &Path, limit: usize) -> io::Result<Vec<u8>>;
}

/// The file system.
#[derive(Clone, Copy, Debug)]
pub struct Disk;

impl Files for Disk {
    fn read(&self, path: &Path, limit: usize) -> io::Result<Vec<u8>> {
        // Without waiting: a FIFO in place of a list must not stop the agent.
        let file = fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        read(file, limit)
    }
}

/// No files at all: for documents that came without a place.
#[derive(Clone, Copy, Debug)]
pub struct NoFiles;

impl Files for NoFiles {
    fn read(&self, _: &Path, _: usize) -> io::Result<Vec<u8>> {
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "this document was not read from a file, so there is nothing beside it; use `entries`",
        ))
    }
}

/// The documents that `path` names: itself, or those in the directory in name order.
///
/// # Errors
///
/// The directory cannot be read, or holds none: why, as a diagnostic says it.
pub fn documents(path: &Path) -> Result<Vec<PathBuf>, String> {
    let metadata = fs::metadata(path).map_err(|error| unreadable(&error))?;
    if !metadata.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(path).map_err(|error| unreadable(&error))? {
        let name = entry.map_err(|error| unreadable(&error))?.file_name();
        if is_document(&name) {
            found.push(path.join(name));
        }
    }
    if found.is_empty() {
        return Err("the directory holds no *.yaml, *.yml or *.json file".to_owned());
    }
    found.sort();
    Ok(found)
}

/// Whether a file of this name in a folder is a document. Hidden files are none, as for the shell's `*`.
#[must_use]
pub fn is_document(name: &OsStr) -> bool {
    let kind = Path::new(name).extension().and_then(OsStr::to_str);
    matches!(kind, Some("yaml" | "yml" | "json")) && !name.as_encoded_bytes().starts_with(b".")
}

/// Reads a document of at most `limit` bytes. One that was named itself may be a pipe, as `check
/// /dev/stdin` needs; one that lies in a folder may not, lest the reader wait there.
pub(super) fn read_document(path: &Path, is_named: bool, limit: usize) -> Result<Vec<u8>, String> {
    if !is_named {
        return bounded(Disk.read(path, limit), limit);
    }
    let file = File::open(path).map_err(|error| unreadable(&error))?;
    bounded(read(file, limit), limit)
}

/// Takes what a read of at most `limit + 1` bytes gave, and says why there is nothing.
pub(super) fn bounded(read: io::Result<Vec<u8>>, limit: usize) -> Result<Vec<u8>, String> {
    let bytes = read.map_err(|error| unreadable(&error))?;
    if bytes.len() > limit { Err(too_large(limit)) } else { Ok(bytes) }
}

fn read(file: File, limit: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(limit as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

pub(super) fn too_large(limit: usize) -> String {
    format!("larger than the {limit} bytes that may still be read; raise the limit, or split it")
}

fn unreadable(error: &io::Error) -> String {
    // The number that the standard library adds is no help to anyone.
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default().to_lowercase();
    format!("cannot be read: {text}")
}
