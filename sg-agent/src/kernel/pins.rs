//! What lies where on the BPF file system, and how it changes as a whole.
//!
//! ```text
//! BPFFS/v1/                the ABI version: no version reads another's maps, but those of flows that
//!                          are laid out alike ([`super::basis`])
//!   current -> set-3       which set is in force
//!   set-3/maps/NAME        every map; maps that sets share are pinned in each
//!   set-3/programs/NAME
//!   set-3/build, rate, …   facts about the set
//!   links/4-xdp            links by interface index and hook
//!   notes/4                what else is known of an attachment
//! ```
//!
//! The file system has neither regular files nor names with dots, but symbolic links, whose targets
//! are any text: facts and notes are kept as such, and replaced by renaming over them.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::{
        fd::AsRawFd as _,
        unix::fs::{DirBuilderExt as _, MetadataExt as _, symlink},
    },
    path::{Path, PathBuf},
};

use sg_common::abi::ABI_VERSION;

use super::{
    KernelError, Paths,
    attachment::{HookKind, Record},
    holdings::restore_fact,
    sightings::Sightings,
    syscall,
};

pub(crate) const CURRENT: &str = "current";
const LINKS: &str = "links";
const NOTES: &str = "notes";
const SET: &str = "set-";

/// One ABI version's folder.
#[derive(Debug)]
pub(crate) struct Pins {
    root: PathBuf,
    /// Where it should be.
    path: PathBuf,
    /// How it is reached: by its path, or by the descriptor while the path leads elsewhere.
    folder: PathBuf,
    /// Keeps the file system from going away under the daemon, unmounted or not.
    held: File,
    /// Device and number of what is held.
    identity: (u64, u64),
    /// Where its file system was mounted.
    mount: PathBuf,
    notes: Sightings,
}

/// The folders of every ABI version under `root`, this one's included.
pub(crate) fn versions(root: &Path) -> io::Result<Vec<PathBuf>> {
    let is_version = |name: &str| name.strip_prefix('v').is_some_and(|rest| rest.parse::<u32>().is_ok());
    let names = names(root)?;
    Ok(names.into_iter().filter(|name| is_version(name)).map(|name| root.join(name)).collect())
}

/// Refuses a path that lies anywhere else.
pub(crate) fn require_bpffs(path: &Path) -> Result<(), KernelError> {
    match syscall::is_bpffs(path) {
        Ok(true) => Ok(()),
        Ok(false) => Err(KernelError::NotBpffs { path: path.to_owned() }),
        Err(error) => Err(KernelError::system("look at", path.display(), error)),
    }
}

/// Names in a folder, sorted; none where it does not exist.
fn names(folder: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        result => result?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry?.file_name().into_string().ok());
    }
    names.sort_unstable();
    Ok(names)
}

/// Removes a pin or note; one that is not there is removed already.
pub(crate) fn unlink(path: &Path) -> Result<(), KernelError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(KernelError::system("remove", path.display(), error))
        }
        _ => Ok(()),
    }
}

/// Makes this version's folder with those in it.
fn make_folders(folder: &Path) -> Result<(), KernelError> {
    [LINKS, NOTES].into_iter().try_for_each(|name| make_folder(&folder.join(name)))
}

fn identity(found: &fs::Metadata) -> (u64, u64) {
    (found.dev(), found.ino())
}

/// The folder that the file system of `path` is mounted on.
fn mount_point(path: &Path) -> PathBuf {
    let device = |path: &Path| fs::metadata(path).map(|found| found.dev()).ok();
    let of = device(path);
    path.ancestors().take_while(|above| device(above) == of).last().unwrap_or(path).to_owned()
}

/// Removes a folder with everything in it; one that is not there is removed already.
pub(crate) fn remove_tree(path: &Path) -> Result<(), KernelError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(KernelError::system("remove", path.display(), error))
        }
        _ => Ok(()),
    }
}

/// Makes a folder that only its owner may enter, and those above it.
pub(crate) fn make_folder(path: &Path) -> Result<(), KernelError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| KernelError::system("make", path.display(), error))
}

/// Writes a fact: a symbolic link whose target is the text, instead of the one that is there.
pub(crate) fn write_fact(folder: &Path, name: &str, text: &str) -> Result<(), KernelError> {
    let path = folder.join(name);
    let new = folder.join(format!("{name}-new"));
    unlink(&new)?;
    symlink(text, &new)
        .and_then(|()| fs::rename(&new, &path))
        .map_err(|error| KernelError::system("write", path.display(), error))
}

/// Reads a fact, if it is there.
pub(crate) fn read_fact(folder: &Path, name: &str) -> Result<Option<String>, KernelError> {
    let path = folder.join(name);
    match fs::read_link(&path) {
        Ok(text) => Ok(text.into_os_string().into_string().ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(KernelError::system("read", path.display(), error)),
    }
}

impl Pins {
    /// Opens this version's folder, making it if it is missing.
    pub(crate) fn make(paths: &Paths) -> Result<Self, KernelError> {
        let root = &paths.bpffs;
        let existing = root.ancestors().find(|path| path.exists()).unwrap_or(root);
        require_bpffs(existing)?;
        let folder = root.join(format!("v{ABI_VERSION}"));
        make_folders(&folder)?;
        Self::at(root, folder)?
            .ok_or_else(|| KernelError::system("open", root.display(), io::ErrorKind::NotFound.into()))
    }

    /// Opens this version's folder, if it is there.
    pub(crate) fn open(paths: &Paths) -> Result<Option<Self>, KernelError> {
        Self::at(&paths.bpffs, paths.bpffs.join(format!("v{ABI_VERSION}")))
    }

    /// Opens any version's folder, if it is there.
    pub(crate) fn at(root: &Path, folder: PathBuf) -> Result<Option<Self>, KernelError> {
        let failed = |error| KernelError::system("open", folder.display(), error);
        let held = match File::open(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            held => held.map_err(failed)?,
        };
        let identity = identity(&held.metadata().map_err(failed)?);
        let mount = mount_point(&folder);
        let (root, path, notes) = (root.to_owned(), folder.clone(), Sightings::default());
        Ok(Some(Self { root, path, folder, held, identity, mount, notes }))
    }

    /// Whether the path leads to what is held, and its folders are there.
    pub(crate) fn is_whole(&self) -> bool {
        let is_held = fs::metadata(&self.path).is_ok_and(|found| identity(&found) == self.identity);
        is_held && self.path.join(LINKS).is_dir() && self.path.join(NOTES).is_dir()
    }

    /// Sees to it that the path leads to a folder on a BPF file system again, which is empty then.
    /// Tells what was wrong, if anything was.
    ///
    /// # Errors
    ///
    /// It cannot be had: what is held is used as before, by its descriptor.
    pub(crate) fn restore(&mut self) -> Result<Option<String>, KernelError> {
        if self.is_whole() {
            self.folder.clone_from(&self.path);
            return Ok(None);
        }
        self.make_again().inspect_err(|_| {
            self.folder = PathBuf::from(format!("/proc/self/fd/{}", self.held.as_raw_fd()));
        })
    }

    fn make_again(&mut self) -> Result<Option<String>, KernelError> {
        let existing = self.root.ancestors().find(|path| path.exists()).unwrap_or(&self.root);
        let is_bpffs = syscall::is_bpffs(existing)
            .map_err(|error| KernelError::system("look at", existing.display(), error))?;
        // Whoever covered no more than a folder of ours covers nothing of others.
        let point = match syscall::is_bpffs(&self.mount) {
            Ok(true) => existing,
            _ => &self.mount,
        };
        let what = if is_bpffs {
            format!("{} was gone", self.path.display())
        } else {
            syscall::mount_bpffs(point)
                .map_err(|error| KernelError::system("mount a BPF file system on", point.display(), error))?;
            format!("the BPF file system of {} was gone", point.display())
        };
        make_folders(&self.path)?;
        let again = Self::at(&self.root, self.path.clone())?;
        *self = again.ok_or_else(|| {
            KernelError::system("open", self.path.display(), io::ErrorKind::NotFound.into())
        })?;
        Ok(Some(what))
    }

    /// Waits until nobody else has this lock, and has it until it is dropped: for those who write into
    /// the same places without being the daemon.
    pub(crate) fn lock(&self) -> Result<File, KernelError> {
        let failed = |error| KernelError::system("lock", self.folder.display(), error);
        let folder = File::open(&self.folder).map_err(failed)?;
        folder.lock().map_err(failed)?;
        Ok(folder)
    }

    /// Where every version's folder lies.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// This version's folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The folder of a set.
    pub(crate) fn set(&self, number: u32) -> PathBuf {
        self.folder.join(format!("{SET}{number}"))
    }

    /// The number of the set in force.
    pub(crate) fn current(&self) -> Result<Option<u32>, KernelError> {
        let Some(name) = read_fact(&self.folder, CURRENT)? else { return Ok(None) };
        match name.strip_prefix(SET).and_then(|number| number.parse().ok()) {
            Some(number) => Ok(Some(number)),
            None => Err(KernelError::Foreign {
                object: self.folder.join(CURRENT).display().to_string(),
                detail: format!("it leads to {name}, which is no set"),
            }),
        }
    }

    /// Makes another set the one in force.
    pub(crate) fn switch(&self, number: u32) -> Result<(), KernelError> {
        write_fact(&self.folder, CURRENT, &format!("{SET}{number}"))
    }

    /// Numbers of the sets that are there, whole or not.
    pub(crate) fn sets(&self) -> Result<Vec<u32>, KernelError> {
        let names = self.list(&self.folder)?;
        Ok(names.iter().filter_map(|name| name.strip_prefix(SET)?.parse().ok()).collect())
    }

    /// Where the pins of links lie.
    pub(crate) fn links_folder(&self) -> PathBuf {
        self.folder.join(LINKS)
    }

    /// The pin of a link.
    pub(crate) fn link(&self, ifindex: u32, hook: HookKind) -> PathBuf {
        self.links_folder().join(link_name(ifindex, hook))
    }

    /// Where a link is pinned before it takes the place of another. What lies there is nobody's.
    pub(crate) fn link_beside(&self, ifindex: u32, hook: HookKind) -> PathBuf {
        self.folder.join(LINKS).join(format!("{}-new", link_name(ifindex, hook)))
    }

    /// Every pinned link.
    pub(crate) fn links(&self) -> Result<Vec<(u32, HookKind, PathBuf)>, KernelError> {
        let folder = self.folder.join(LINKS);
        let names = self.list(&folder)?;
        Ok(names
            .iter()
            .filter_map(|name| {
                let (ifindex, hook) = name.split_once('-')?;
                let hook = HookKind::LINKS.into_iter().find(|kind| kind.name() == hook)?;
                Some((ifindex.parse().ok()?, hook, folder.join(name)))
            })
            .collect())
    }

    /// Every note, by interface index.
    pub(crate) fn records(&self) -> Result<Vec<Record>, KernelError> {
        self.notes()?.into_iter().map(|(_, note)| note).collect()
    }

    /// Every interface index that has a note, and the note or why it cannot be read.
    pub(crate) fn notes(&self) -> Result<Notes, KernelError> {
        let folder = self.folder.join(NOTES);
        let mut notes = Vec::new();
        for name in self.list(&folder)? {
            let Ok(ifindex) = name.parse() else { continue };
            let read = read_fact(&folder, &name).and_then(|text| {
                text.map(|text| serde_json::from_str(&text)).transpose().map_err(|error| {
                    KernelError::Foreign {
                        object: folder.join(&name).display().to_string(),
                        detail: error.to_string(),
                    }
                })
            });
            notes.extend(read.transpose().map(|note| (ifindex, note)));
        }
        notes.sort_unstable_by_key(|(ifindex, _)| *ifindex);
        Ok(notes)
    }

    /// Writes the note of an attachment.
    pub(crate) fn write_record(&self, record: &Record) -> Result<(), KernelError> {
        let folder = self.folder.join(NOTES);
        write_fact(&folder, &record.ifindex.to_string(), &text_of(&folder, record)?)
    }

    /// Writes the notes of attachments again that are gone, or another's. Tells whose those were.
    pub(crate) fn restore_records<'a>(
        &mut self,
        records: impl Iterator<Item = &'a Record>,
    ) -> (Vec<u32>, Vec<KernelError>) {
        let folder = self.folder.join(NOTES);
        let wanted = records.map(|record| (record, record.ifindex.to_string()));
        let (restored, errors) = self.notes.look(&folder, wanted, |record| {
            restore_fact(&folder, &record.ifindex.to_string(), &text_of(&folder, record)?)
        });
        (restored.into_iter().map(|record| record.ifindex).collect(), errors)
    }

    /// Leads to a set again where that was changed. Tells whether it was.
    pub(crate) fn restore_current(&self, number: u32) -> Result<bool, KernelError> {
        restore_fact(&self.folder, CURRENT, &format!("{SET}{number}"))
    }

    /// Removes the note of an attachment.
    pub(crate) fn remove_record(&self, ifindex: u32) -> Result<(), KernelError> {
        unlink(&self.folder.join(NOTES).join(ifindex.to_string()))
    }

    fn list(&self, folder: &Path) -> Result<Vec<String>, KernelError> {
        names(folder).map_err(|error| KernelError::system("list", folder.display(), error))
    }
}

/// A note, as it is written into its folder.
fn text_of(folder: &Path, record: &Record) -> Result<String, KernelError> {
    serde_json::to_string(record)
        .map_err(|error| KernelError::system("write", folder.display(), error.into()))
}

/// Interface indices that have a note, and the note or why it cannot be read.
pub(crate) type Notes = Vec<(u32, Result<Record, KernelError>)>;

/// The name of a link's pin.
pub(crate) fn link_name(ifindex: u32, hook: HookKind) -> String {
    format!("{ifindex}-{hook}")
}

/// The pin of the same link under another version.
pub(crate) fn foreign_links(pins: &Pins, ifindex: u32, hook: HookKind) -> io::Result<Vec<PathBuf>> {
    let mut found = versions(pins.root())?;
    found.retain(|folder| folder != pins.folder());
    Ok(found.into_iter().map(|folder| folder.join(LINKS).join(link_name(ifindex, hook))).collect())
}
