//! Compiles `sg-ebpf` for the kernel and leaves the object in `OUT_DIR/sg-ebpf`, where the agent
//! embeds it from. It installs nothing: what it needs is found or prepared by `cargo xtask setup`.
#![expect(unreachable_pub, reason = "xtask compiles the same module")]

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail, ensure};

#[path = "build/toolchain.rs"]
mod toolchain;

use toolchain::{PROFILE, TARGET, TOOLCHAIN_VAR, Toolchain, candidates, find_program};

/// What the object is made of, from the workspace's root.
const SOURCES: [&str; 5] =
    ["sg-ebpf/src", "sg-ebpf/Cargo.toml", "sg-common/src", "sg-common/Cargo.toml", "Cargo.lock"];

#[expect(clippy::print_stderr, reason = "what cargo shows of a build script that fails")]
fn main() -> ExitCode {
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<()> {
    if env::var_os("CARGO_FEATURE_ENFORCE").is_none() {
        // Nothing embeds the object.
        println!("cargo::rerun-if-changed=build.rs");
        return Ok(());
    }
    let manifest = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let root = manifest.parent().context("sg-agent is not inside a workspace")?;
    watch(root);

    let Some(toolchain) = Toolchain::find() else {
        bail!(
            "no toolchain with the standard library's sources: looked for {}; run `cargo xtask setup`",
            candidates().join(", "),
        );
    };
    ensure!(find_program("bpf-linker").is_some(), "no bpf-linker in PATH; run `cargo xtask setup`");

    let out = PathBuf::from(variable("OUT_DIR")?);
    let arch = variable("CARGO_CFG_TARGET_ARCH")?.to_string_lossy().into_owned();
    let target_dir = shared_target_dir(&out);
    let mut cargo = toolchain.cargo("build", &arch, &target_dir, &[]);
    let output = cargo.current_dir(root).output().with_context(|| format!("cannot start {cargo:?}"))?;
    let diagnostics = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("building sg-ebpf with toolchain {} failed:\n{diagnostics}", toolchain.name);
    }
    for line in diagnostics.lines() {
        println!("cargo::warning={line}");
    }

    let object = target_dir.join(TARGET).join(PROFILE).join("sg-ebpf");
    fs::copy(&object, out.join("sg-ebpf")).with_context(|| format!("cannot copy {}", object.display()))?;
    Ok(())
}

/// One folder for all profiles and features of the agent: the object is the same for each, and
/// `core` is compiled once. A folder of its own, since the outer cargo holds its own locked.
fn shared_target_dir(out: &Path) -> PathBuf {
    // OUT_DIR is TARGET_DIR/PROFILE/build/PACKAGE-HASH/out.
    out.ancestors().nth(4).unwrap_or(out).join("ebpf")
}

fn watch(root: &Path) {
    for source in SOURCES {
        println!("cargo::rerun-if-changed={}", root.join(source).display());
    }
    // The profile and the lints are in the workspace's manifest.
    println!("cargo::rerun-if-changed={}", root.join("Cargo.toml").display());
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=build");
    println!("cargo::rerun-if-env-changed={TOOLCHAIN_VAR}");
}

fn variable(name: &str) -> Result<OsString> {
    env::var_os(name).with_context(|| format!("{name} is not set: cargo sets it for build scripts"))
}
