//! What the kernel tells of folders, by inotify(7).
//!
//! Watches sit on folders, for those see files that are renamed over and links that are made anew. What
//! is told of names that do not matter ends here. What it means is for others.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs, io,
    mem::MaybeUninit,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::inotify::{CreateFlags, ReadFlags, Reader, WatchFlags, add_watch, init, remove_watch},
    io::Errno,
};
use tokio::io::unix::AsyncFd;

use super::places::{Interest, Places};
use crate::kernel;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Notice {
    /// Something is not what it was.
    Changed,
    /// This file is being written; its end will be told.
    Writing(PathBuf),
    /// This file was closed by who wrote it, or its name means another one now.
    Settled(PathBuf),
    /// Something happened that nobody tells of.
    Missed,
}

/// Why a folder is not watched.
#[derive(Debug, thiserror::Error)]
pub(super) enum InotifyError {
    /// There are too many instances, or the kernel has none.
    #[error("inotify cannot be had: {0}")]
    Open(io::Error),
    /// There are too many watches, or the folder cannot be read.
    #[error("{} cannot be watched: {source}", path.display())]
    Watch {
        /// The folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl InotifyError {
    /// What to do about it, where something can be done.
    pub(super) fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::Open(source) if source.raw_os_error() == Some(libc::EMFILE) => {
                Some("raise fs.inotify.max_user_instances")
            }
            Self::Watch { source, .. } if source.raw_os_error() == Some(libc::ENOSPC) => {
                Some("raise fs.inotify.max_user_watches")
            }
            Self::Open(_) | Self::Watch { .. } => None,
        }
    }
}

/// An inotify instance, and what its watches are for.
#[derive(Debug)]
pub(super) struct Inotify {
    fd: AsyncFd<OwnedFd>,
    watches: BTreeMap<i32, Watched>,
}

#[derive(Debug)]
struct Watched {
    folder: PathBuf,
    interest: Interest,
}

impl Inotify {
    /// An instance without watches.
    pub(super) fn open() -> Result<Self, InotifyError> {
        let fd = init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)
            .map_err(|error| InotifyError::Open(error.into()))?;
        let fd = kernel::readiness(fd.as_fd()).map_err(InotifyError::Open)?;
        Ok(Self { fd, watches: BTreeMap::new() })
    }

    /// Watches these folders from now on, and no others. Tells whether something may have happened
    /// unseen until now: because a folder was not watched, or is gone.
    ///
    /// # Errors
    ///
    /// One cannot be watched.
    pub(super) fn guard(&mut self, places: &Places) -> Result<bool, InotifyError> {
        let mut watches: BTreeMap<i32, Watched> = BTreeMap::new();
        let mut is_news = false;
        for (folder, interest) in places {
            match add_watch(&self.fd, folder, flags(interest)) {
                Ok(watch) => {
                    let was = self.watches.get(&watch);
                    is_news |= was.is_none_or(|was| was.interest.is_passage() && !interest.is_passage());
                    // One folder may have two paths, by mounts.
                    let watched = watches
                        .entry(watch)
                        .or_insert_with(|| Watched { folder: folder.clone(), interest: Interest::default() });
                    watched.interest.merge(interest);
                }
                Err(Errno::NOENT | Errno::NOTDIR) => is_news = true,
                // Whoever may not read it need not know who does: it is only passed through.
                Err(Errno::ACCESS) if interest.is_passage() => {}
                Err(error) => {
                    return Err(InotifyError::Watch { path: folder.clone(), source: error.into() });
                }
            }
        }
        for watch in self.watches.keys().filter(|watch| !watches.contains_key(watch)) {
            // It may have gone by itself.
            let _ = remove_watch(&self.fd, *watch);
        }
        self.watches = watches;
        Ok(is_news)
    }

    /// Waits until there is something to be told.
    pub(super) async fn readable(&self) {
        // What comes after this is told anew, and what is there is read to its end.
        if let Ok(mut ready) = self.fd.readable().await {
            ready.clear_ready();
        }
    }

    /// All that has happened.
    pub(super) fn notices(&mut self) -> Vec<Notice> {
        let mut notices = Vec::new();
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(&self.fd, &mut buffer);
        loop {
            match reader.next() {
                Ok(event) => {
                    let name = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()));
                    notices.extend(notice(&mut self.watches, event.wd(), event.events(), name));
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return notices,
                Err(_) => {
                    notices.push(Notice::Missed);
                    return notices;
                }
            }
        }
    }
}

/// A folder that is only passed through tells where it goes, not what happens in it.
fn flags(interest: &Interest) -> WatchFlags {
    let itself = WatchFlags::MOVE_SELF | WatchFlags::DELETE_SELF | WatchFlags::ONLYDIR | WatchFlags::MASK_ADD;
    if interest.is_passage() {
        return itself;
    }
    let entries = WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::MOVE | WatchFlags::ATTRIB;
    // Of a file that has lost its name nothing is told any more.
    itself | entries | WatchFlags::MODIFY | WatchFlags::CLOSE_WRITE | WatchFlags::EXCL_UNLINK
}

/// What an event means; nothing where it does not matter.
fn notice(
    watches: &mut BTreeMap<i32, Watched>,
    watch: i32,
    events: ReadFlags,
    name: Option<&OsStr>,
) -> Option<Notice> {
    if events.contains(ReadFlags::QUEUE_OVERFLOW) {
        return Some(Notice::Missed);
    }
    // One that is not there any more was given up.
    let watched = watches.get(&watch)?;
    if events.contains(ReadFlags::IGNORED) {
        watches.remove(&watch);
        return Some(Notice::Changed);
    }
    let Some(name) = name else { return Some(Notice::Changed) };
    if !watched.interest.covers(name) {
        return None;
    }
    let path = watched.folder.join(name);
    let is_begun = events.contains(ReadFlags::CREATE) && is_empty_file(&path);
    Some(if events.contains(ReadFlags::MODIFY) || is_begun {
        Notice::Writing(path)
    } else if events.contains(ReadFlags::ATTRIB) || events.contains(ReadFlags::CREATE) {
        Notice::Changed
    } else {
        Notice::Settled(path)
    })
}

/// Whether this is a file that somebody has made and not written yet.
fn is_empty_file(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_file() && found.len() == 0)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, io::Write as _};

    use super::{super::places::places, *};

    /// What is told of `happens` in a folder with the policy `d` and the list `l.txt` elsewhere.
    fn told(happens: impl FnOnce(&Path)) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        fs::create_dir(root.join("d")).unwrap();
        fs::create_dir(root.join("l")).unwrap();
        fs::write(root.join("d/a.yaml"), "").unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _inside = runtime.enter();
        let mut inotify = Inotify::open().unwrap();
        let places = places(&root.join("d"), &BTreeSet::from([root.join("l/l.txt")]));
        assert!(inotify.guard(&places).unwrap(), "nothing was watched before");
        assert!(!inotify.guard(&places).unwrap(), "all of it is watched already");
        happens(&root);
        let name = |path: &Path| path.strip_prefix(&root).unwrap().display().to_string();
        let told = inotify.notices().into_iter().map(|notice| match notice {
            Notice::Changed => "changed".to_owned(),
            Notice::Writing(path) => format!("writing {}", name(&path)),
            Notice::Settled(path) => format!("settled {}", name(&path)),
            Notice::Missed => "missed".to_owned(),
        });
        let mut told: Vec<String> = told.collect();
        told.dedup();
        told
    }

    #[test]
    fn what_matters_is_told_and_nothing_else() {
        type Happens = fn(&Path);
        let rows: [(&str, Happens, &[&str]); 10] = [
            ("nothing", |_| {}, &[]),
            (
                "written in place",
                |root| fs::write(root.join("d/a.yaml"), "1").unwrap(),
                &["writing d/a.yaml", "settled d/a.yaml"],
            ),
            (
                "half written",
                |root| {
                    let mut file = fs::File::create(root.join("l/l.txt")).unwrap();
                    file.write_all(b"1").unwrap();
                    // It stays open as long as the test runs.
                    std::mem::forget(file);
                },
                &["changed", "writing l/l.txt"],
            ),
            (
                "made and not written",
                |root| std::mem::forget(fs::File::create(root.join("d/b.yaml")).unwrap()),
                &["writing d/b.yaml"],
            ),
            (
                "renamed over",
                |root| {
                    fs::write(root.join("d/a.tmp"), "1").unwrap();
                    fs::rename(root.join("d/a.tmp"), root.join("d/a.yaml")).unwrap();
                },
                &["settled d/a.yaml"],
            ),
            (
                "what is no document",
                |root| {
                    fs::write(root.join("d/.a.yaml.swp"), "1").unwrap();
                    fs::write(root.join("l/other"), "1").unwrap();
                    fs::write(root.join("elsewhere"), "1").unwrap();
                },
                &[],
            ),
            ("removed", |root| fs::remove_file(root.join("d/a.yaml")).unwrap(), &["settled d/a.yaml"]),
            ("moved away", |root| fs::rename(root.join("d"), root.join("e")).unwrap(), &["changed"]),
            ("a folder removed", |root| fs::remove_dir(root.join("l")).unwrap(), &["changed"]),
            (
                "too much at once",
                |root| {
                    let limit = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
                    for index in 0..=limit.trim().parse::<u32>().unwrap() {
                        let path = root.join(if index % 2 == 0 { "d/a.yaml" } else { "l/l.txt" });
                        fs::write(path, "").unwrap();
                    }
                },
                &["missed"],
            ),
        ];
        for (what, happens, expected) in rows {
            let told = told(happens);
            // The file's beginning is told as its making or its first writing, as the two are read.
            match what {
                "half written" => assert_eq!(told.last().unwrap(), "writing l/l.txt", "{what}"),
                "too much at once" => assert_eq!(told.last().unwrap(), "missed", "{what}"),
                _ => assert_eq!(told, expected, "{what}"),
            }
        }
    }

    #[test]
    fn a_folder_that_cannot_be_watched_is_told_and_a_missing_one_is_news() {
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _inside = runtime.enter();
        let mut inotify = Inotify::open().unwrap();
        let mut of = |path: PathBuf| {
            let interest = Interest { documents: true, ..Interest::default() };
            inotify.guard(&Places::from([(path, interest)]))
        };
        assert!(of(folder.path().join("missing")).unwrap());
        assert!(of(folder.path().join("missing")).unwrap(), "as long as it is missing");
        let error = of(folder.path().join("x".repeat(300))).unwrap_err().to_string();
        assert!(error.contains("cannot be watched: "), "{error}");
    }
}
