//! What a set has pinned, held by descriptors: a pin that somebody removes takes nothing with it, and
//! is put back.

use std::{
    fs, io,
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
};

use super::{
    KernelError,
    pins::{make_folder, read_fact, unlink, write_fact},
    set::{FOLDERS, fact},
    syscall,
};

/// Programs and maps of one set, and facts about it.
pub(crate) struct Holdings {
    /// By their place in the folder of the set.
    objects: Vec<(PathBuf, OwnedFd)>,
    facts: Vec<(&'static str, String)>,
}

impl Holdings {
    /// Holds everything that is pinned in the folder of a set, which is whole.
    pub(crate) fn open(set: &Path) -> Result<Self, KernelError> {
        let mut objects = Vec::new();
        for folder in FOLDERS {
            let failed = |error| KernelError::system("list", set.join(folder).display(), error);
            for entry in fs::read_dir(set.join(folder)).map_err(failed)? {
                let place = Path::new(folder).join(entry.map_err(failed)?.file_name());
                let object = syscall::open_pin(&set.join(&place))
                    .map_err(|error| KernelError::system("open", set.join(&place).display(), error))?;
                objects.push((place, object));
            }
        }
        let mut facts = Vec::new();
        for name in fact::ALL {
            facts.extend(read_fact(set, name)?.map(|text| (name, text)));
        }
        Ok(Self { objects, facts })
    }

    /// Puts back what is missing from the folder, or another's. Tells what that was.
    pub(crate) fn restore_pins(&self, set: &Path) -> (Vec<String>, Vec<KernelError>) {
        let (mut restored, mut errors) = (Vec::new(), Vec::new());
        errors.extend(FOLDERS.into_iter().filter_map(|folder| make_folder(&set.join(folder)).err()));
        for (place, object) in &self.objects {
            match restore(&set.join(place), object) {
                Ok(true) => {
                    restored.extend(place.file_name().map(|name| name.to_string_lossy().into_owned()));
                }
                Ok(false) => {}
                Err(error) => errors.push(error),
            }
        }
        for (name, text) in &self.facts {
            match restore_fact(set, name, text) {
                Ok(true) => restored.push((*name).to_owned()),
                Ok(false) => {}
                Err(error) => errors.push(error),
            }
        }
        (restored, errors)
    }
}

/// Pins an object at a path where it is not. Tells whether that was so.
pub(crate) fn restore(path: &Path, object: &OwnedFd) -> Result<bool, KernelError> {
    let failed = |error| KernelError::system("pin again", path.display(), error);
    let wanted = syscall::object_id(object.as_fd()).map_err(failed)?;
    let found = syscall::open_pin(path).and_then(|found| syscall::object_id(found.as_fd()));
    if found.is_ok_and(|found| found == wanted) {
        return Ok(false);
    }
    unlink(path)?;
    syscall::pin(object.as_fd(), path).map_err(failed)?;
    Ok(true)
}

/// Writes a fact where it is not, or another. Tells whether that was so.
pub(crate) fn restore_fact(folder: &Path, name: &str, text: &str) -> Result<bool, KernelError> {
    match fs::read_link(folder.join(name)) {
        Ok(found) if found.as_os_str() == text => return Ok(false),
        Ok(_) => {}
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidInput) => {}
        Err(error) => return Err(KernelError::system("read", folder.join(name).display(), error)),
    }
    write_fact(folder, name, text)?;
    Ok(true)
}
