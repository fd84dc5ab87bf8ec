//! A `bpf-linker` that reads what the compiler writes.
//!
//! The linker is an LLVM of its own: an older one than the compiler's does not understand the
//! compiler's bitcode. It is built against the distribution's LLVM of the compiler's major version.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::setup::{compiler, packages};
use crate::toolchain::{Toolchain, find_program};
use crate::{run, workspace};

const LINKER: &str = "bpf-linker";
/// Which one is installed; it has a feature `llvm-N` for each LLVM that it can be built with.
const VERSION: &str = "0.13.0";
/// Points the linker's build at an LLVM; its own build script reads it.
const PREFIX_VAR: &str = "LLVM_PREFIX";
/// What the probe compiles.
const PROBE: &str = "#![no_std]\n#[unsafe(no_mangle)]\npub extern \"C\" fn probe(x: u64) -> u64 { x ^ 1 }\n";

/// Leaves a linker for the toolchain's bitcode in `PATH`; whether one had to be built.
pub(crate) fn ensure(toolchain: &Toolchain) -> Result<bool> {
    let major = compiler::llvm_major(toolchain)?;
    let Err(why) = fits(toolchain, major) else {
        return Ok(false);
    };
    run::say(&format!("setup: {why:#}; building one with LLVM {major}"));
    install(major)?;
    fits(toolchain, major).context("the linker that was just built does not serve")?;
    Ok(true)
}

/// The linker's name and version, for people.
pub(crate) fn version() -> Result<String> {
    let linker = find_program(LINKER).context("no bpf-linker in PATH")?;
    Ok(run::capture(Command::new(linker).arg("--version"))?.trim().to_owned())
}

fn fits(toolchain: &Toolchain, major: u32) -> Result<()> {
    let linker = find_program(LINKER).context("there is no bpf-linker")?;
    if let Some(own) = llvm_of(&linker) {
        ensure!(
            own >= major,
            "{} has LLVM {own}, and toolchain {} writes LLVM {major}",
            linker.display(),
            toolchain.name
        );
    }
    probe(&linker, toolchain)
        .with_context(|| format!("{} cannot link for toolchain {}", linker.display(), toolchain.name))
}

/// The LLVM that the linker loads, or none if it carries its own.
fn llvm_of(linker: &Path) -> Option<u32> {
    llvm_in(&run::capture(Command::new("ldd").arg(linker)).ok()?)
}

/// Finds `libLLVM.so.22.1` or `libLLVM-18.so.1` in what `ldd` prints.
fn llvm_in(libraries: &str) -> Option<u32> {
    let name = libraries.split_whitespace().find_map(|word| word.strip_prefix("libLLVM"))?;
    name.split(|c: char| !c.is_ascii_digit()).find(|digits| !digits.is_empty())?.parse().ok()
}

/// Compiles a function to bitcode and links it for the kernel.
fn probe(linker: &Path, toolchain: &Toolchain) -> Result<()> {
    let folder = workspace::ebpf_target_dir().join("probe");
    fs::create_dir_all(&folder)?;
    let (source, bitcode, object) =
        (folder.join("probe.rs"), folder.join("probe.bc"), folder.join("probe.o"));
    fs::write(&source, PROBE)?;
    let mut rustc = toolchain.command("rustc");
    rustc.args(["--edition=2024", "--crate-type=lib", "-Cpanic=abort", "--emit=llvm-bc", "-o"]);
    run::capture(rustc.args([&bitcode, &source]))?;
    let mut link = Command::new(linker);
    link.args(["--target=bpfel", "--cpu=v3", "--export=probe", "--emit=obj", "-o"]);
    run::capture(link.args([&object, &bitcode]))?;
    Ok(())
}

fn install(major: u32) -> Result<()> {
    let mut cargo = Command::new("cargo");
    cargo.args(["install", LINKER, "--version", VERSION, "--locked", "--force", "--no-default-features"]);
    cargo.args(["--features", &format!("llvm-{major}")]);
    if env::var_os(PREFIX_VAR).is_none() {
        cargo.env(PREFIX_VAR, llvm_prefix(major)?);
    }
    run::run(&mut cargo).with_context(|| format!("{LINKER} {VERSION} could not be built with LLVM {major}"))
}

/// Where the distribution's LLVM is, once it is installed with all that linking to it takes.
fn llvm_prefix(major: u32) -> Result<PathBuf> {
    let (llvm, polly) = (format!("llvm-{major}-dev"), format!("libpolly-{major}-dev"));
    packages::install(&[&llvm, &polly, "zlib1g-dev", "libzstd-dev", "libxml2-dev", "g++"])
        .with_context(|| format!("no LLVM {major} to build {LINKER} with (or set {PREFIX_VAR} to one)"))?;
    Ok(PathBuf::from(format!("/usr/lib/llvm-{major}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_llvm_is_read_from_both_spellings() {
        let now = "\tlibLLVM.so.22.1 => /usr/lib/llvm-22/lib/libLLVM.so.22.1 (0x00007ff010800000)\n";
        let before = "\tlinux-vdso.so.1 (0x1)\n\tlibLLVM-18.so.1 => /usr/lib/libLLVM-18.so.1 (0x2)\n";
        assert_eq!(llvm_in(now), Some(22));
        assert_eq!(llvm_in(before), Some(18));
        assert_eq!(llvm_in("\tstatically linked\n"), None);
    }
}
