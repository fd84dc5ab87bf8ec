//! Which toolchain compiles `sg-ebpf`, and with which flags.
//!
//! `sg-agent/build.rs` and `cargo xtask` both need the answer and both compile this file, so that
//! what setup prepares is what the build uses. It finds; installing is `xtask/src/setup.rs`.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Names a toolchain to use instead of those that are looked for.
pub const TOOLCHAIN_VAR: &str = "SG_EBPF_TOOLCHAIN";
/// Toolchains that are looked for, best first: rustup's nightly, and the distribution's compiler
/// that setup linked under a name of our own.
pub const CANDIDATES: [&str; 2] = ["nightly", LINKED];
/// The name under which setup links the distribution's compiler.
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
    /// The first usable toolchain: [`TOOLCHAIN_VAR`] alone if it is set, else [`CANDIDATES`].
    pub fn find() -> Option<Self> {
        match env::var(TOOLCHAIN_VAR) {
            Ok(name) if !name.is_empty() => Self::named(&name),
            _ => CANDIDATES.into_iter().find_map(Self::named),
        }
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
    /// `arch` is the machine that will load the programs, in Rust's spelling.
    pub fn cargo(&self, subcommand: &str, arch: &str, target_dir: &Path) -> Command {
        let mut command = self.command("cargo");
        command
            .args([subcommand, "--quiet", "--locked", "--package", "sg-ebpf", "--bins"])
            .args(["--target", TARGET, "--profile", PROFILE, "-Zbuild-std=core", "--target-dir"])
            .arg(target_dir)
            // `-Zbuild-std` is all that we need of nightly; a stable compiler takes it like this.
            .env("RUSTC_BOOTSTRAP", "1")
            .env("CARGO_ENCODED_RUSTFLAGS", flags(arch).join("\x1f"));
        command
    }
}

/// What the compiler gets for every crate of the object, `core` included.
fn flags(arch: &str) -> [String; 4] {
    [
        format!("--cfg=bpf_target_arch=\"{arch}\""),
        "-Cdebuginfo=2".to_owned(),
        // Third version of the instruction set: 32-bit jumps, and atomics that return the old value
        // (Linux 5.12).
        "-Ctarget-cpu=v3".to_owned(),
        "-Clink-arg=--btf".to_owned(),
    ]
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
