//! Programs from packages that are unpacked below the target folder and not installed: what the
//! machine has stays as it is, and a package that would put another out needs nobody's leave.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::packages;
use crate::toolchain::find_program;
use crate::{run, workspace};

/// A program: of the machine, or out of a package.
pub(crate) struct Program {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// What was unpacked with it; None for one of the machine's own.
    pub(crate) root: Option<PathBuf>,
}

/// The machine's program of this name, or else that of a package, which is fetched with what it
/// depends on and the machine does not have.
pub(crate) fn program(name: &str, package: &str) -> Result<Program> {
    if let Some(path) = find_program(name) {
        return Ok(Program { path, root: None });
    }
    let root = workspace::target_dir().join("unpacked").join(package);
    if !root.exists() {
        packages::unpack(package, &root).with_context(|| format!("there is no program `{name}`"))?;
    }
    let folders = ["usr/bin", "bin", "usr/sbin", "sbin"];
    let path = folders.iter().map(|folder| root.join(folder).join(name)).find(|path| path.is_file());
    let path = path.with_context(|| format!("the package {package} has no program `{name}`"))?;
    Ok(Program { path, root: Some(root) })
}

impl Program {
    /// A command that runs it with the libraries that came with it.
    pub(crate) fn command(&self) -> Result<Command> {
        let mut command = Command::new(&self.path);
        if let Some(root) = &self.root {
            command.env("LD_LIBRARY_PATH", libraries(root)?);
        }
        Ok(command)
    }
}

/// The folders with libraries, by this machine's loader: `lib` and those below it of one level.
fn libraries(root: &Path) -> Result<OsString> {
    let mut folders = Vec::new();
    for library in ["usr/lib", "lib"].map(|folder| root.join(folder)) {
        let Ok(entries) = fs::read_dir(&library) else { continue };
        folders.extend(entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_dir()));
        folders.push(library);
    }
    std::env::join_paths(folders).context("a folder's name holds a colon")
}

/// Puts the files of packages into `root`, which is there when all of them are.
pub(crate) fn extract(packages: &[PathBuf], root: &Path) -> Result<()> {
    let half = root.with_extension("half");
    drop(fs::remove_dir_all(&half));
    for package in packages {
        run::capture(Command::new("dpkg-deb").arg("--extract").arg(package).arg(&half))?;
    }
    fs::rename(&half, root)?;
    Ok(())
}
