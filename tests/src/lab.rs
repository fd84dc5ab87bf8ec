//! A network in a box: namespaces joined by veths, with the agent and its state in one of them.
//!
//! Everything a lab makes is held by descriptors, never by names: network namespaces, the mount
//! namespace with the private bpffs, and so the pins, the programs and the interfaces themselves.
//! They go when the last owner goes, by return, panic or SIGKILL alike; children are killed with
//! the thread that started them. A temporary folder is all that has to be deleted; after
//! SIGKILL the next lab does it. Any number of
//! labs can exist beside each other.

use std::{
    fs,
    io::Write as _,
    path::Path,
    sync::Once,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

pub mod agent;
pub mod arena;
pub mod binary;
pub mod cli;
pub mod faults;
pub mod hand;
pub mod hping;
pub mod namespace;
pub mod nmap;
pub mod services;
pub mod stranger;
pub mod three_tier;
pub mod traffic;
pub mod wire;

pub use agent::Agent;
pub use arena::{Arena, Setup};
pub use cli::{Cli, Output};
pub use faults::{Fault, Inflicted};
pub use namespace::Namespace;
pub use traffic::{Connection, Outcome, Probe};

/// How long the lab waits for something that must happen.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// How long the lab waits before it believes that something does not happen. Shorter than the
/// first retransmission of a SYN (1 s), so that a refused connection is one packet.
pub const SILENCE: Duration = Duration::from_millis(400);

/// Whether the running kernel is of this version or a later one; otherwise says on stderr that the
/// running test is skipped, and what an older kernel cannot do for it.
#[must_use]
pub fn has_kernel(version: [u32; 2], lacks: &str) -> bool {
    if is_kernel(version) {
        return true;
    }
    skipped(&format!("kernel {} {lacks}", release()));
    false
}

/// Whether the running kernel is of this version or a later one.
#[must_use]
pub fn is_kernel(version: [u32; 2]) -> bool {
    let release = release();
    let numbers: Vec<u32> = release.split(['.', '-']).map_while(|number| number.parse().ok()).collect();
    numbers.as_slice() >= version.as_slice()
}

fn release() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}

/// Whether the running test can do its work; otherwise says on stderr that it is skipped, and why.
#[must_use]
pub fn can_run() -> bool {
    let root = crate::syscall::is_root();
    if !root {
        skipped("network namespaces and eBPF need root");
    }
    root
}

fn skipped(why: &str) {
    let thread = thread::current();
    let test = thread.name().unwrap_or("test");
    // Nobody is left to tell when stderr is closed.
    drop(writeln!(std::io::stderr(), "skipped {test}: {why}"));
}

/// Makes three tests of the function with this name, one for every [`Setup`].
#[macro_export]
macro_rules! each_setup {
    ($($name:ident)*) => {$(
        mod $name {
            use $crate::lab::{Setup, can_run};

            #[test]
            fn host_at_tc() -> anyhow::Result<()> {
                if can_run() { super::$name(Setup::HostTc) } else { Ok(()) }
            }

            #[test]
            fn host_at_xdp() -> anyhow::Result<()> {
                if can_run() { super::$name(Setup::HostXdp) } else { Ok(()) }
            }

            #[test]
            fn guest() -> anyhow::Result<()> {
                if can_run() { super::$name(Setup::Guest) } else { Ok(()) }
            }
        }
    )*};
}

/// How the names of temporary folders begin; the process id follows.
const FOLDER: &str = "sg-lab-";

/// A temporary folder with a short path: a unix socket's name holds 107 bytes.
///
/// # Errors
/// The folder cannot be made.
pub fn folder() -> Result<TempDir> {
    static SWEPT: Once = Once::new();
    SWEPT.call_once(sweep);
    let prefix = format!("{FOLDER}{}-", std::process::id());
    tempfile::Builder::new().prefix(&prefix).tempdir().context("make the lab's temporary folder")
}

/// Deletes the folders of processes that were killed before they could do it themselves.
fn sweep() {
    for entry in fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix(FOLDER)?.split_once('-'));
        if let Some((process, _)) = owner
            && !Path::new("/proc").join(process).exists()
        {
            // Another process may be sweeping as well, and the folder may be another user's.
            drop(fs::remove_dir_all(entry.path()));
        }
    }
}

/// Waits until `holds` answers true.
///
/// # Errors
/// It failed, or did not hold within [`PATIENCE`].
pub fn eventually(what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let start = Instant::now();
    loop {
        if holds().with_context(|| format!("wait until {what}"))? {
            return Ok(());
        }
        if start.elapsed() > PATIENCE {
            bail!("waited {PATIENCE:?} in vain until {what}");
        }
        if let Some(signal) = crate::syscall::interrupted() {
            bail!("interrupted by signal {signal}");
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// A path as the text that commands take.
///
/// # Errors
/// It is not UTF-8.
pub fn text(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))
}
