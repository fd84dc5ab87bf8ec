//! Which folders tell when what a policy is read from becomes another.
//!
//! A file is another when it is written to, when another takes its name, or when a symbolic link on
//! the way to it is made anew. So every path is followed as the kernel follows it, and each folder on
//! the way is noted with the names in it that matter. Reads links and folders, and remembers nothing.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ffi::{OsStr, OsString},
    fs,
    path::{Component, Path, PathBuf},
};

use crate::document;

/// What matters in a folder. With nothing, that it stays where it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Interest {
    /// Whatever is a document by its name.
    pub documents: bool,
    /// Entries of these names: files, links, and what is missing.
    pub names: BTreeSet<OsString>,
}

impl Interest {
    /// Whether an entry of this name matters.
    pub(super) fn covers(&self, name: &OsStr) -> bool {
        self.names.contains(name) || self.documents && document::is_document(name)
    }

    /// Whether none of its entries matters.
    pub(super) fn is_passage(&self) -> bool {
        !self.documents && self.names.is_empty()
    }

    /// What matters to either.
    pub(super) fn merge(&mut self, other: &Self) {
        self.documents |= other.documents;
        self.names.extend(other.names.iter().cloned());
    }
}

/// Folders, by their paths without links.
pub(super) type Places = BTreeMap<PathBuf, Interest>;

/// As many links as the kernel follows.
const LINKS: usize = 40;

/// The folders that tell of changes to the policy at `policy` and to its list files. Both paths are
/// absolute. Of what is missing, the nearest folder tells that is there.
pub(super) fn places(policy: &Path, lists: &BTreeSet<PathBuf>) -> Places {
    let mut places = Places::new();
    if let Some(folder) = follow(Path::new("/"), policy, &mut places).filter(|end| end.is_dir()) {
        places.entry(folder.clone()).or_default().documents = true;
        for document in document::documents(&folder).unwrap_or_default() {
            if let Some(name) = document.file_name() {
                follow(&folder, Path::new(name), &mut places);
            }
        }
    }
    for list in lists {
        follow(Path::new("/"), list, &mut places);
    }
    places
}

/// Follows `path` from `start`, which is a folder's path without links, and notes what it meets.
/// Returns where it ends, if something is there.
fn follow(start: &Path, path: &Path, places: &mut Places) -> Option<PathBuf> {
    let mut at = start.to_owned();
    let mut links = 0;
    let mut left: VecDeque<Step> = steps(path).collect();
    while let Some(step) = left.pop_front() {
        let name = match step {
            Step::Root => {
                at = PathBuf::from("/");
                continue;
            }
            Step::Up => {
                at.pop();
                continue;
            }
            Step::Into(name) => name,
        };
        let next = at.join(&name);
        let found = fs::symlink_metadata(&next);
        let interest = places.entry(at.clone()).or_default();
        match found {
            Ok(found) if found.is_dir() => at = next,
            Ok(found) if found.is_symlink() => {
                interest.names.insert(name);
                links += 1;
                let target = fs::read_link(&next).ok().filter(|_| links <= LINKS)?;
                for step in steps(&target).rev() {
                    left.push_front(step);
                }
            }
            Ok(_) => {
                interest.names.insert(name);
                return left.is_empty().then_some(next);
            }
            Err(_) => {
                interest.names.insert(name);
                return None;
            }
        }
    }
    places.entry(at.clone()).or_default();
    Some(at)
}

enum Step {
    Root,
    Up,
    Into(OsString),
}

fn steps(path: &Path) -> impl DoubleEndedIterator<Item = Step> + '_ {
    path.components().filter_map(|component| match component {
        Component::RootDir => Some(Step::Root),
        Component::ParentDir => Some(Step::Up),
        Component::Normal(name) => Some(Step::Into(name.to_owned())),
        Component::CurDir | Component::Prefix(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// Makes what the words say: `a/` a folder, `a` a file, `a>b` a link to `b`, where `$` is the root.
    fn lay_out(root: &Path, words: &str) {
        for word in words.split_whitespace() {
            match word.split_once('>') {
                Some((link, target)) => {
                    symlink(target.replace('$', &root.display().to_string()), root.join(link)).unwrap();
                }
                None if word.ends_with('/') => fs::create_dir(root.join(word)).unwrap(),
                None => fs::write(root.join(word), "").unwrap(),
            }
        }
    }

    /// The places below the root, as `FOLDER:NAME,NAME`, where `*` stands for documents; nothing of
    /// folders that only must stay where they are, unless `passages`.
    fn shown(root: &Path, places: &Places, passages: bool) -> Vec<String> {
        let inside = places.iter().filter_map(|(folder, interest)| {
            let folder = folder.strip_prefix(root).ok()?.to_str()?;
            let mut names: Vec<&str> = interest.names.iter().filter_map(|name| name.to_str()).collect();
            if interest.documents {
                names.insert(0, "*");
            }
            (passages || !interest.is_passage()).then(|| format!("{folder}:{}", names.join(",")))
        });
        inside.collect()
    }

    #[test]
    fn every_way_to_another_content_leads_through_a_place() {
        /// What, laid out, policy, lists, places.
        type Row =
            (&'static str, &'static str, &'static str, &'static [&'static str], &'static [&'static str]);
        let rows: [Row; 14] = [
            ("a file", "p.yaml", "p.yaml", &[], &[":p.yaml"]),
            ("a folder", "d/ d/a.yaml d/.a.swp", "d", &[], &["d:*,a.yaml"]),
            ("an empty folder", "d/", "d", &[], &["d:*"]),
            ("a missing folder", "e/", "e/d", &[], &["e:d"]),
            ("more of it missing", "", "e/d/p.yaml", &[], &[":e"]),
            ("a file where a folder should be", "e", "e/d", &[], &[":e"]),
            ("a list beside it", "d/ d/a.yaml d/l.txt", "d", &["d/l.txt"], &["d:*,a.yaml,l.txt"]),
            ("a missing list elsewhere", "p.yaml l/", "p.yaml", &["l/x.txt"], &[":p.yaml", "l:x.txt"]),
            ("up and elsewhere", "d/ d/a.yaml l/", "d", &["d/../l/x"], &["d:*,a.yaml", "l:x"]),
            ("a link to a file", "d/ d/b p.yaml>d/b", "p.yaml", &[], &[":p.yaml", "d:b"]),
            ("a link to a folder", "real/ real/a.yaml d>$/real", "d", &[], &[":d", "real:*,a.yaml"]),
            (
                "a mounted ConfigMap",
                "d/ d/..1/ d/..1/a.yaml d/..data>..1 d/a.yaml>..data/a.yaml",
                "d",
                &[],
                &["d:*,..data,a.yaml", "d/..1:a.yaml"],
            ),
            ("a link that leads nowhere", "d/ d/a.yaml>../e/b", "d", &[], &[":e", "d:*,a.yaml"]),
            ("a link to itself", "p.yaml>p.yaml", "p.yaml", &[], &[":p.yaml"]),
        ];
        for (what, laid_out, policy, lists, expected) in rows {
            let folder = tempfile::tempdir().unwrap();
            let root = folder.path().canonicalize().unwrap();
            lay_out(&root, laid_out);
            let lists = lists.iter().map(|list| root.join(list)).collect();
            let places = places(&root.join(policy), &lists);
            assert_eq!(shown(&root, &places, false), expected, "{what}");
        }
    }

    #[test]
    fn folders_on_the_way_are_noted_for_they_may_be_moved_away() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        lay_out(&root, "a/ a/b/ a/b/p.yaml d/ e/ e/f/ l>e/f");
        let lists = BTreeSet::from([root.join("l/x.txt")]);
        let places = places(&root.join("a/b/p.yaml"), &lists);
        assert_eq!(shown(&root, &places, true), [":l", "a:", "a/b:p.yaml", "e:", "e/f:x.txt"]);
        assert!(places.contains_key(Path::new("/")), "{places:?}");
    }

    #[test]
    fn only_names_that_can_change_the_policy_matter() {
        let interest = Interest { documents: true, names: [OsString::from("..data")].into() };
        for (name, expected) in [
            ("a.yaml", true),
            ("b.json", true),
            ("..data", true),
            (".a.yaml.swp", false),
            ("a.yaml~", false),
            ("4913", false),
        ] {
            assert_eq!(interest.covers(OsStr::new(name)), expected, "{name}");
        }
        assert!(Interest::default().is_passage());
    }
}
