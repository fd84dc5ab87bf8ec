//! An archive as the kernel unpacks it into its first file system: `cpio` in the format `newc`.
//!
//! The format is described in the kernel's `Documentation/driver-api/early-userspace/buffer-format.rst`.

use std::collections::BTreeSet;
use std::path::{Component, Path};

/// What every header begins with.
const MAGIC: &str = "070701";
/// The name of the entry that ends an archive.
const END: &str = "TRAILER!!!";
const FOLDER: u32 = 0o040_755;
const FILE: u32 = 0o100_755;
const CHARACTER_DEVICE: u32 = 0o020_600;

/// An archive in the making. Everything belongs to root, and every file may be run.
#[derive(Default)]
pub(super) struct Archive {
    bytes: Vec<u8>,
    names: BTreeSet<String>,
    count: u32,
}

impl Archive {
    /// Adds a file and the folders on the way to it. A file that is there stays as it is.
    pub(super) fn file(&mut self, path: &Path, content: &[u8]) {
        self.add(path, FILE, content, (0, 0));
    }

    /// Adds a folder and those on the way to it.
    pub(super) fn folder(&mut self, path: &Path) {
        self.add(path, FOLDER, &[], (0, 0));
    }

    /// Adds a character device.
    pub(super) fn device(&mut self, path: &Path, number: (u32, u32)) {
        self.add(path, CHARACTER_DEVICE, &[], number);
    }

    /// Whether there is something at `path`.
    pub(super) fn has(&self, path: &Path) -> bool {
        self.names.contains(&plain(path))
    }

    /// The whole archive.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.entry(END, 0, &[], (0, 0));
        self.bytes
    }

    fn add(&mut self, path: &Path, mode: u32, content: &[u8], device: (u32, u32)) {
        let name = plain(path);
        if name.is_empty() || !self.names.insert(name.clone()) {
            return;
        }
        if let Some(parent) = path.parent() {
            self.folder(parent);
        }
        self.entry(&name, mode, content, device);
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8], (major, minor): (u32, u32)) {
        self.count += 1;
        // Inode, mode, owner, group, links, time, size, device of the file system (two), device
        // (two), length of the name, checksum.
        let fields = [
            self.count,
            mode,
            0,
            0,
            1,
            0,
            content.len() as u32,
            0,
            0,
            major,
            minor,
            name.len() as u32 + 1,
            0,
        ];
        self.bytes.extend(MAGIC.bytes());
        self.bytes.extend(fields.iter().flat_map(|field| format!("{field:08x}").into_bytes()));
        self.bytes.extend(name.bytes().chain([0]));
        self.pad();
        self.bytes.extend(content);
        self.pad();
    }

    /// Headers and contents begin at multiples of four.
    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// A path without its root and without steps that lead nowhere else.
fn plain(path: &Path) -> String {
    let mut names: Vec<String> = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push(name.to_string_lossy().into_owned()),
            Component::ParentDir => drop(names.pop()),
            Component::Prefix(_) | Component::RootDir | Component::CurDir => {}
        }
    }
    names.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_come_once_and_before_what_is_in_them() {
        let mut archive = Archive::default();
        archive.file(Path::new("/a/b/one"), b"12345");
        archive.file(Path::new("/a/b/../b/two"), b"");
        archive.file(Path::new("/a/b/one"), b"another");
        assert!(archive.has(Path::new("/a/b")) && !archive.has(Path::new("/a/one")));
        let bytes = archive.finish();
        assert_eq!(bytes.len() % 4, 0);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let places: Vec<_> = ["a\0", "a/b\0", "a/b/one\0", "a/b/two\0", END]
            .iter()
            .map(|name| text.find(name).unwrap())
            .collect();
        assert!(places.is_sorted(), "{places:?}");
        assert_eq!(text.matches(MAGIC).count(), 5);
        assert!(!text.contains("another"));
    }

    #[test]
    fn a_header_has_the_length_that_the_kernel_reads() {
        let mut archive = Archive::default();
        archive.device(Path::new("/c"), (5, 1));
        let bytes = archive.finish();
        assert_eq!(&bytes[..6], MAGIC.as_bytes());
        assert_eq!(&bytes[110..112], b"c\0");
        assert_eq!(&bytes[14..22], b"00002180");
        assert_eq!((&bytes[78..86], &bytes[86..94]), (&b"00000005"[..], &b"00000001"[..]));
    }
}
