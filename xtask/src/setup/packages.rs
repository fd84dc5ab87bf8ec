//! Debian's and Ubuntu's packages: what is installed, what could be, and installing it.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::sync::Once;

use anyhow::{Context as _, Error, Result, bail, ensure};

use super::unpacked;
use crate::toolchain::find_program;
use crate::{run, workspace};

/// The first two numbers of an upstream version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version {
    major: u32,
    minor: u32,
}

impl FromStr for Version {
    type Err = Error;

    /// Reads `1.96.0+dfsg1-1~deb12u2` as 1.96; an epoch (`1:`) is left out.
    fn from_str(text: &str) -> Result<Self> {
        let upstream = text.split_once(':').map_or(text, |(_, rest)| rest);
        let mut numbers = upstream.split(|c: char| !c.is_ascii_digit()).map(str::parse);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(major)), Some(Ok(minor))) => Ok(Self { major, minor }),
            _ => bail!("`{text}` is no version: expected two numbers with a dot between them"),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.{}", self.major, self.minor)
    }
}

/// The first set whose first package is to be had in version `minimum` or later.
pub(crate) fn first_with<const N: usize>(
    sets: &[[&'static str; N]],
    minimum: Version,
) -> Result<Option<[&'static str; N]>> {
    present()?;
    let find = || {
        sets.iter().copied().find(|names| {
            names.first().and_then(|name| candidate(name)).is_some_and(|version| version >= minimum)
        })
    };
    if let Some(names) = find() {
        return Ok(Some(names));
    }
    // On a fresh machine there are no lists at all.
    refresh()?;
    Ok(find())
}

/// Installs what is not installed; whether there was anything.
///
/// # Errors
/// Without apt-get or without root: the packages and the command to install them with.
pub(crate) fn install(names: &[&str]) -> Result<bool> {
    let missing: Vec<_> = names.iter().copied().filter(|name| !is_installed(name)).collect();
    if missing.is_empty() {
        return Ok(false);
    }
    present()?;
    privileged(&format!("apt-get install {}", missing.join(" ")))?;
    if missing.iter().any(|name| offer(name).is_none()) {
        refresh()?;
    }
    if let Some(unknown) = missing.iter().find(|name| offer(name).is_none()) {
        bail!("this distribution has no package `{unknown}`");
    }
    run::say(&format!("setup: installing {}", missing.join(", ")));
    let mut apt = apt_get("install");
    // Never at the price of another package.
    apt.args(["--yes", "--no-install-recommends", "--no-remove", "-qq"]).args(&missing);
    fetched(&mut apt)?;
    Ok(true)
}

/// Fetches a package and what it depends on, as far as it is not installed, and unpacks all of it into
/// `root`. Nothing is installed and nothing taken away.
pub(crate) fn unpack(name: &str, root: &Path) -> Result<()> {
    present()?;
    privileged(&format!("apt-get install {name}"))?;
    if offer(name).is_none() {
        refresh()?;
    }
    download(&[name], root, false)
}

/// Fetches packages and all that they depend on, whatever is installed here, and unpacks it into
/// `root`: a system of its own. Nothing is installed and nothing taken away.
pub(crate) fn unpack_whole(names: &[&str], root: &Path) -> Result<()> {
    present()?;
    privileged(&format!("apt-get download {}", names.join(" ")))?;
    download(names, root, true)
}

fn download(names: &[&str], root: &Path, is_whole: bool) -> Result<()> {
    run::say(&format!("setup: unpacking {}", names.join(", ")));
    let cache = root.with_extension("packages");
    fs::create_dir_all(cache.join("partial"))?;
    let mut apt = apt_get("install");
    apt.args(["--download-only", "--yes", "--no-install-recommends", "-qq", "-o"]);
    apt.arg(format!("Dir::Cache::archives={}", cache.display()));
    if is_whole {
        // To apt, a machine on which nothing is installed.
        let nothing = cache.join("status");
        fs::write(&nothing, "")?;
        apt.arg("-o").arg(format!("Dir::State::status={}", nothing.display()));
    }
    fetched(apt.args(names))?;
    unpacked::extract(&archives(&cache)?, root)?;
    fs::remove_dir_all(&cache)?;
    Ok(())
}

/// The packages in a folder.
pub(crate) fn archives(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            paths.push(path);
        }
    }
    Ok(paths)
}

fn is_installed(name: &str) -> bool {
    let mut query = Command::new("dpkg-query");
    query.args(["--show", "--showformat=${db:Status-Status}", name]);
    run::capture(&mut query).is_ok_and(|status| status == "installed")
}

/// The version that apt would install, if it is written in numbers.
fn candidate(name: &str) -> Option<Version> {
    offer(name)?.parse().ok()
}

/// The version that apt would install, as it is written: not all begin with two numbers.
fn offer(name: &str) -> Option<String> {
    let policy = run::capture(Command::new("apt-cache").env("LC_ALL", "C").args(["policy", name])).ok()?;
    offered(&policy).map(str::to_owned)
}

/// What `apt-cache policy` names, unless it is that there is none.
fn offered(policy: &str) -> Option<&str> {
    let version = policy.lines().find_map(|line| line.trim().strip_prefix("Candidate: "))?;
    (version != "(none)").then_some(version)
}

/// Fetches the package lists, once in a run.
pub(crate) fn refresh() -> Result<()> {
    static ONCE: Once = Once::new();
    privileged("apt-get update")?;
    let mut done = Ok(());
    ONCE.call_once(|| {
        run::say("setup: fetching the package lists");
        done = run::run(apt_get("update").arg("-qq"));
    });
    done
}

/// Runs what fetches packages; once more where old lists name files that the mirror no longer has.
fn fetched(apt: &mut Command) -> Result<()> {
    if run::run(apt).is_ok() {
        return Ok(());
    }
    refresh()?;
    run::run(apt)
}

/// Whether there is a package manager that is known here.
pub(crate) fn present() -> Result<()> {
    find_program("apt-get")
        .map(|_| ())
        .context("no apt-get: only Debian's and Ubuntu's packages are known here")
}

fn privileged(command: &str) -> Result<()> {
    ensure!(workspace::is_root(), "needs root; run `sudo {command}`, or setup as root");
    Ok(())
}

fn apt_get(subcommand: &str) -> Command {
    let mut apt = Command::new("apt-get");
    // Another apt may be at work on a fresh machine.
    apt.args([subcommand, "-o", "DPkg::Lock::Timeout=300"]);
    apt.env("DEBIAN_FRONTEND", "noninteractive").stdout(Stdio::null());
    apt
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_packages_compare_by_number() {
        let version = |text: &str| text.parse::<Version>().unwrap();
        assert!(version("1.96.0+dfsg1-1~deb12u2") >= version("1.95"));
        assert!(version("1.63.0+dfsg1-2") < version("1.95"));
        assert!(version("1.100.0") > version("1.95"));
        assert_eq!(version("1:22.1.8-1~deb12u1"), version("22.1"));
    }

    #[test]
    fn a_package_whose_version_is_not_in_numbers_is_on_offer() {
        let policy = |version: &str| format!("hping3:\n  Installed: (none)\n  Candidate: {version}\n");
        assert_eq!(offered(&policy("3.a2.ds2-10")), Some("3.a2.ds2-10"));
        assert_eq!(offered(&policy("(none)")), None);
        assert_eq!(offered(""), None);
    }

    #[test]
    fn what_is_no_version_is_refused() {
        for text in ["", "(none)", "1", "x.1"] {
            assert!(text.parse::<Version>().is_err(), "{text}");
        }
    }
}
