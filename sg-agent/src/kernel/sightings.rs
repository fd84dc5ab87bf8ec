//! Which pins were seen to be right, by their inode. What lies under an inode of the BPF file system never
//! changes, so that one listing of a folder tells which of hundreds of pins have to be looked at.

use std::{collections::HashMap, fs, io, os::unix::fs::DirEntryExt as _, path::Path};

use super::KernelError;

/// What was seen in one folder.
#[derive(Debug, Default)]
pub(crate) struct Sightings(HashMap<String, u64>);

impl Sightings {
    /// Has `restore` look at each of the `wanted`, by its name in the folder, that is not as it was last
    /// seen to be right. Returns those that were not, and what failed.
    pub(crate) fn look<T>(
        &mut self,
        folder: &Path,
        wanted: impl Iterator<Item = (T, String)>,
        mut restore: impl FnMut(&T) -> Result<bool, KernelError>,
    ) -> (Vec<T>, Vec<KernelError>) {
        let (mut restored, mut errors) = (Vec::new(), Vec::new());
        // What cannot be listed is looked at one by one.
        let there = listed(folder).unwrap_or_default();
        let before = std::mem::take(&mut self.0);
        for (what, name) in wanted {
            let found = there.get(&name);
            let is_known = found.is_some() && before.get(&name) == found;
            match if is_known { Ok(false) } else { restore(&what) } {
                Ok(true) => restored.push(what),
                // What was written just now is seen at the next look.
                Ok(false) => self.0.extend(found.map(|inode| (name, *inode))),
                Err(error) => errors.push(error),
            }
        }
        (restored, errors)
    }
}

/// Names in a folder, and the inodes that they lead to.
fn listed(folder: &Path) -> io::Result<HashMap<String, u64>> {
    let mut found = HashMap::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        found.extend(entry.file_name().into_string().ok().map(|name| (name, entry.ino())));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_new_or_another_is_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str| fs::write(folder.path().join(name), "").unwrap();
        let mut sightings = Sightings::default();
        let mut look = |right: bool| {
            let mut asked = Vec::new();
            let wanted = ["a", "b"].into_iter().map(|name| (name, name.to_owned()));
            let (restored, errors) = sightings.look(folder.path(), wanted, |name| {
                asked.push(*name);
                Ok(!right)
            });
            assert!(errors.is_empty() && restored == if right { vec![] } else { asked.clone() });
            asked
        };
        write("a");
        assert_eq!(look(true), ["a", "b"], "both are new");
        assert_eq!(look(true), ["b"], "it is not there");
        write("b");
        assert_eq!(look(false), ["b"]);
        assert_eq!(look(true), ["b"], "it was put back, and is seen for the first time");
        assert_eq!(look(true), [""; 0]);
        write("c");
        fs::rename(folder.path().join("c"), folder.path().join("a")).unwrap();
        assert_eq!(look(true), ["a"], "another lies there");
        fs::remove_dir_all(folder.path()).unwrap();
        assert_eq!(look(true), ["a", "b"]);
    }
}
