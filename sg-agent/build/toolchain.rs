//! Which toolchain compiles `sg-ebpf`, and with which flags.
//!
//! `sg-agent/build.rs` and `cargo xtask` both need the answer and both compile this file, so that
//! what setup prepares is what the build uses. It finds; installing is `xtask/src/setup.rs`.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Names a toolchain to use instead of those that are looked for.
pub const TOOLCHAIN_VAR: &str = "SG_EBPF_TOOLCHAIN";
/// The name under which setup links the distribution's compiler. It is preferred to all others: it
/// is only there because setup could not use them.
pub const LINKED: &str = "bpf";
/// What `core` is compiled for.
pub const TARGET: &str = "bpfel-unknown-none";
/// The profile in the workspace's `Cargo.toml`.
pub const PROFILE: &str = "bpf";

/// A toolchain that can build `core` from source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Toolchain {
    /// The name that rustup knows.
    pub name: String,
}

impl Toolchain {
    /// The first usable toolchain of [`candidates`].
    pub fn find() -> Option<Self> {
        candidates().iter().find_map(|name| Self::named(name))
    }

    /// The toolchain called `name`, if rustup has it and the standard library's sources are in it.
    pub fn named(name: &str) -> Option<Self> {
        let found = Self { name: name.to_owned() };
        let output =
            found.command("rustc").args(["--print", "sysroot"]).stderr(Stdio::null()).output().ok()?;
        let sysroot = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
        let core = sysroot.join("lib/rustlib/src/rust/library/core/src/lib.rs");
        (output.status.success() && core.is_file()).then_some(found)
    }

    /// `program` of this toolchain, free of what an outer cargo put into the environment.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("rustup");
        command.args(["run", &self.name, program]);
        // Cargo exports its own compiler, clippy and flags to build scripts.
        for name in ["RUSTC", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "RUSTDOC", "CARGO", "RUSTFLAGS"] {
            command.env_remove(name);
        }
        // A missing toolchain is setup's business: rustup shall not fetch it in the midst of a build.
        command.env("RUSTUP_AUTO_INSTALL", "0");
        command
    }

    /// `cargo SUBCOMMAND` of `sg-ebpf` for [`TARGET`], writing under `target_dir`.
    ///
    /// `arch` is the machine that will load the programs, in Rust's spelling; `more` are further
    /// flags for the compiler.
    pub fn cargo(&self, subcommand: &str, arch: &str, target_dir: &Path, more: &[&str]) -> Command {
        let mut command = self.command("cargo");
        command
            .args([subcommand, "--quiet", "--locked", "--package", "sg-ebpf", "--bins"])
            .args(["--target", TARGET, "--profile", PROFILE, "-Zbuild-std=core", "--target-dir"])
            .arg(target_dir)
            // `-Zbuild-std` is all that we need of nightly; a stable compiler takes it like this.
            .env("RUSTC_BOOTSTRAP", "1")
            .env("CARGO_ENCODED_RUSTFLAGS", flags(arch, more).join("\x1f"));
        command
    }
}

/// The toolchains that are looked for, best first: what [`TOOLCHAIN_VAR`] names, and nothing else,
/// if it is set; else [`LINKED`], the one that runs this build, and rustup's nightly.
pub fn candidates() -> Vec<String> {
    let set = |name| env::var(name).ok().filter(|value| !value.is_empty());
    if let Some(chosen) = set(TOOLCHAIN_VAR) {
        return vec![chosen];
    }
    // Rustup tells its children which toolchain they belong to.
    let running = set("RUSTUP_TOOLCHAIN").unwrap_or_else(|| "stable".to_owned());
    vec![LINKED.to_owned(), running, "nightly".to_owned()]
}

/// What the compiler gets for every crate of the object, `core` included.
fn flags(arch: &str, more: &[&str]) -> Vec<String> {
    let arch = format!("--cfg=bpf_target_arch=\"{arch}\"");
    [
        arch.as_str(),
        "-Cdebuginfo=2",
        // Third version of the instruction set: 32-bit jumps, and atomics that return the old value
        // (Linux 5.12).
        "-Ctarget-cpu=v3",
        "-Clink-arg=--btf",
        "-Clink-arg=--disable-expand-memcpy-in-order",
    ]
    .iter()
    .chain(more)
    .map(|&flag| flag.to_owned())
    .collect()
}

/// Where `program` is: in `PATH`, or in cargo's `bin`, which rustup puts into `PATH` for its children.
pub fn find_program(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let cargo_home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let cargo_home = cargo_home.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")));
    env::split_paths(&path)
        .chain(cargo_home.map(|home| home.join("bin")))
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
}
