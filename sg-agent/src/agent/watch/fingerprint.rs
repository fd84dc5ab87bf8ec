//! What can be told of files without reading them: whether they are the same as before.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use crate::document;

/// What tells one state of a file from another; nothing of one that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
    changed: (i64, i64),
}

/// The state of several files, by the paths that they are read at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fingerprint(BTreeMap<PathBuf, Option<Stamp>>);

impl Fingerprint {
    /// Of the documents that `policy` names.
    pub(super) fn of_documents(policy: &Path) -> Self {
        let mut fingerprint = Self::default();
        for path in document::documents(policy).unwrap_or_else(|_| vec![policy.to_owned()]) {
            fingerprint.add(&path);
        }
        fingerprint
    }

    /// Of the documents that `policy` names, and of list files.
    pub(super) fn of(policy: &Path, lists: &BTreeSet<PathBuf>) -> Self {
        let mut fingerprint = Self::of_documents(policy);
        lists.iter().for_each(|list| fingerprint.add(list));
        fingerprint
    }

    /// Adds a file as it is now.
    pub(super) fn add(&mut self, path: &Path) {
        let stamp = fs::metadata(path).ok().map(|found| Stamp {
            device: found.dev(),
            inode: found.ino(),
            size: found.size(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        });
        self.0.insert(path.to_owned(), stamp);
    }

    /// Adds files of another fingerprint, as they were when that was taken.
    pub(super) fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// The files.
    pub(super) fn paths(&self) -> BTreeSet<PathBuf> {
        self.0.keys().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_changes_with_content_names_and_list_files() {
        let folder = tempfile::tempdir().unwrap();
        let policy = folder.path().join("policy.d");
        let list = folder.path().join("list.txt");
        fs::create_dir(&policy).unwrap();
        let lists = BTreeSet::from([list.clone()]);
        let mut before = Fingerprint::of(&policy, &lists);
        let write = |path: &Path, text: &str| fs::write(path, text).unwrap();
        let steps: [(&str, &dyn Fn()); 5] = [
            ("a document", &|| write(&policy.join("a.yaml"), "1")),
            ("another text", &|| write(&policy.join("a.yaml"), "12")),
            ("another file of that name", &|| {
                write(&policy.join("b"), "12");
                fs::rename(policy.join("b"), policy.join("a.yaml")).unwrap();
            }),
            ("a list", &|| write(&list, "")),
            ("no folder", &|| fs::rename(&policy, folder.path().join("away")).unwrap()),
        ];
        for (what, step) in steps {
            step();
            let after = Fingerprint::of(&policy, &lists);
            assert_ne!(before, after, "{what}");
            assert_eq!(after, Fingerprint::of(&policy, &lists), "{what}");
            before = after;
        }
        write(&folder.path().join("other"), "");
        assert_eq!(before, Fingerprint::of(&policy, &lists), "a file that does not belong to it");
    }
}
