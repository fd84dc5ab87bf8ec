//! Where things are in this workspace, and how cargo is called in it.

use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Tells the tests and the demo which agent to run.
pub(crate) const AGENT_VAR: &str = "SG_AGENT_BIN";

/// The folder of the workspace's manifest.
pub(crate) fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// Where cargo puts what it builds.
pub(crate) fn target_dir() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// Where `sg-agent/build.rs` has the programs built.
pub(crate) fn ebpf_target_dir() -> PathBuf {
    target_dir().join("ebpf")
}

/// A binary that cargo built.
pub(crate) fn binary(name: &str, release: bool) -> PathBuf {
    target_dir().join(if release { "release" } else { "debug" }).join(name)
}

/// Cargo, for the members that run on this machine: the workspace's `default-members`.
pub(crate) fn cargo(subcommand: &str) -> Command {
    let mut command = Command::new("cargo");
    command.arg(subcommand).current_dir(root());
    command
}

/// Whether we may load programs and make namespaces.
pub(crate) fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}
