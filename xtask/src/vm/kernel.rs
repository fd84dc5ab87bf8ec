//! A distribution's kernel: found in the cache or fetched, unpacked, and its modules put in order.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use object::{Object as _, ObjectSection as _};

use crate::setup::{packages, unpacked::extract};
use crate::{run, workspace};

/// Built for virtual machines, and the smallest. It is not signed: nobody here asks for it.
const PREFIX: &str = "linux-image-";
const SUFFIX: &str = "-cloud-amd64-unsigned";

/// A kernel and its modules.
pub(super) struct Kernel {
    /// What `uname -r` says.
    pub(super) release: String,
    /// The compressed kernel.
    pub(super) image: PathBuf,
    /// Every module by its name.
    modules: BTreeMap<String, PathBuf>,
}

/// The newest kernel `version` of the distribution; one that was unpacked before will do.
pub(super) fn obtain(version: &str) -> Result<Kernel> {
    ensure!(
        version.split('.').count() == 2 && version.split('.').all(|number| number.parse::<u32>().is_ok()),
        "`{version}` is no kernel version: expected two numbers, such as 6.1"
    );
    ensure!(
        std::env::consts::ARCH == "x86_64",
        "kernels are known for x86_64 only, and this is {}",
        std::env::consts::ARCH
    );
    let cache = workspace::target_dir().join("vm").join(version);
    if let Some(kernel) = unpacked(&cache)? {
        return Ok(kernel);
    }
    let package = newest(version)?;
    run::say(&format!("vm: fetching {package}"));
    fs::create_dir_all(&cache)?;
    run::run(Command::new("apt-get").args(["download", "-qq", &package]).current_dir(&cache))?;
    let archives = packages::archives(&cache)?;
    ensure!(!archives.is_empty(), "apt-get has downloaded nothing");
    extract(&archives, &cache.join("root"))?;
    archives.iter().try_for_each(fs::remove_file)?;
    unpacked(&cache)?.with_context(|| format!("{package} has no kernel in it"))
}

fn unpacked(cache: &Path) -> Result<Option<Kernel>> {
    let Ok(boot) = fs::read_dir(cache.join("root/boot")) else { return Ok(None) };
    for entry in boot {
        let image = entry?.path();
        let release = image.file_name().and_then(|name| name.to_str()?.strip_prefix("vmlinuz-"));
        if let Some(release) = release.map(str::to_owned) {
            let mut modules = BTreeMap::new();
            for library in ["lib", "usr/lib"] {
                let folder = cache.join("root").join(library).join("modules").join(&release);
                find_modules(&folder, &mut modules)?;
            }
            return Ok(Some(Kernel { release, image, modules }));
        }
    }
    Ok(None)
}

fn find_modules(folder: &Path, modules: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        if path.is_dir() && !path.is_symlink() {
            find_modules(&path, modules)?;
        } else if let Some((name, _)) = name.split_once(".ko") {
            modules.insert(name.replace('-', "_"), path);
        }
    }
    Ok(())
}

/// The package with the newest kernel of `version`.
fn newest(version: &str) -> Result<String> {
    let find = || -> Result<Option<String>> {
        let pattern = format!("^{PREFIX}{}[.+].*{SUFFIX}$", version.replace('.', "[.]"));
        let listed = run::capture(Command::new("apt-cache").args(["search", "--names-only", &pattern]))?;
        let names = listed.lines().filter_map(|line| Some(line.split_once(' ')?.0.to_owned()));
        Ok(names.max_by_key(|name| numbers(name)))
    };
    packages::present()?;
    if let Some(name) = find()? {
        return Ok(name);
    }
    packages::refresh()?;
    find()?.with_context(|| {
        format!("this distribution has no package {PREFIX}{version}.*{SUFFIX}; `apt-cache search {PREFIX}` lists those that it has")
    })
}

/// The numbers in a name, by which versions compare.
fn numbers(name: &str) -> Vec<u64> {
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect()
}

impl Kernel {
    /// The modules of these names and those that they need, in the order in which they load. A name
    /// that is no module is taken to be built in.
    pub(super) fn modules(&self, names: &[&str]) -> Result<Vec<Vec<u8>>> {
        Ok(self.files(names)?.into_iter().map(|module| module.content).collect())
    }

    /// As [`Self::modules`], with the names of their files.
    pub(super) fn files(&self, names: &[&str]) -> Result<Vec<Module>> {
        let mut order = Order { kernel: self, seen: BTreeSet::new(), modules: Vec::new() };
        for name in names {
            order.add(name)?;
        }
        Ok(order.modules)
    }
}

/// A module, not compressed.
pub(super) struct Module {
    /// What a file with this content is called.
    pub(super) file: String,
    /// What the kernel loads.
    pub(super) content: Vec<u8>,
}

struct Order<'a> {
    kernel: &'a Kernel,
    seen: BTreeSet<String>,
    modules: Vec<Module>,
}

impl Order<'_> {
    fn add(&mut self, name: &str) -> Result<()> {
        let name = name.replace('-', "_");
        let Some(path) = self.kernel.modules.get(&name) else { return Ok(()) };
        if !self.seen.insert(name.clone()) {
            return Ok(());
        }
        let content = read(path).with_context(|| path.display().to_string())?;
        for needed in needs(&content).with_context(|| path.display().to_string())? {
            self.add(&needed)?;
        }
        self.modules.push(Module { file: format!("{name}.ko"), content });
        Ok(())
    }
}

/// A module, whether it is compressed or not.
fn read(path: &Path) -> Result<Vec<u8>> {
    let decompressor = match path.extension().and_then(|extension| extension.to_str()) {
        Some("ko") => return Ok(fs::read(path)?),
        Some("xz") => "xz",
        Some("zst") => "zstd",
        Some("gz") => "gzip",
        other => bail!("compressed in a way that is not known: {other:?}"),
    };
    let output = Command::new(decompressor).args(["--decompress", "--stdout"]).arg(path).output();
    let output = output.with_context(|| format!("cannot start `{decompressor}`"))?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(output.stdout)
}

/// The modules that a module says it needs.
fn needs(module: &[u8]) -> Result<Vec<String>> {
    let object = object::File::parse(module)?;
    let Some(section) = object.section_by_name(".modinfo") else { return Ok(Vec::new()) };
    let information = section.data()?;
    let lines = information.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    Ok(lines
        .filter_map(|line| Some(line.strip_prefix("depends=")?.to_owned()))
        .flat_map(|names| names.split(',').map(str::to_owned).collect::<Vec<_>>())
        .filter(|name| !name.is_empty())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_package_is_that_of_the_highest_number() {
        let name = |number: u32| format!("{PREFIX}6.1.0-{number}{SUFFIX}");
        assert!(numbers(&name(56)) > numbers(&name(9)));
    }

    #[test]
    fn what_is_no_version_is_refused() {
        for version in ["6", "6.1.2", "six.one", ""] {
            assert!(obtain(version).is_err(), "{version}");
        }
    }
}
