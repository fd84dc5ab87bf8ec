//! `cargo xtask setup`: what the build, the tests and the demo need on this machine.
//!
//! It finds before it installs, so that the second run changes nothing. The programs for the kernel
//! need a pair: a compiler with the standard library's sources, and a `bpf-linker` that reads what
//! this compiler writes. There are several ways to a compiler; the first whose pair can be completed
//! is taken. Which of several compilers the build then uses is decided in
//! `sg-agent/build/toolchain.rs`, and checked here at the end.

mod compiler;
mod linker;
pub(crate) mod packages;
pub(crate) mod tools;
pub(crate) mod unpacked;

use anyhow::{Result, bail, ensure};

use crate::run;
use crate::toolchain::Toolchain;

/// Makes the machine ready and returns the toolchain for the programs.
///
/// # Errors
/// What is missing, why each way to it failed, and the remedy. What was installed until then stays.
pub(crate) fn run() -> Result<Toolchain> {
    let installed = tools::ensure_programs()?;
    let (toolchain, prepared) = pair()?;
    run::say(&format!(
        "setup: {}: toolchain {} ({}), {}",
        if installed || prepared { "done" } else { "nothing to do" },
        toolchain.name,
        compiler::version(&toolchain)?,
        linker::version()?
    ));
    Ok(toolchain)
}

/// What only `cargo xtask ci` needs.
pub(crate) fn run_for_ci() -> Result<Toolchain> {
    let toolchain = run()?;
    tools::ensure_components()?;
    tools::ensure_deny()?;
    run_for_vm()?;
    run_for_fuzz()?;
    Ok(toolchain)
}

/// What only `cargo xtask fuzz` needs.
pub(crate) fn run_for_fuzz() -> Result<()> {
    tools::ensure_fuzz()
}

/// What only `cargo xtask bench` needs.
pub(crate) fn run_for_bench() -> Result<()> {
    tools::ensure_peers().map(drop)
}

/// What only `cargo xtask mutants` needs.
pub(crate) fn run_for_mutants() -> Result<()> {
    tools::ensure_mutants()
}

/// What only `cargo xtask vm` needs.
pub(crate) fn run_for_vm() -> Result<()> {
    tools::emulator()?;
    tools::busybox()?;
    Ok(())
}

/// The toolchain, and whether anything had to be installed for it.
fn pair() -> Result<(Toolchain, bool)> {
    let mut failures = Vec::new();
    for way in compiler::ways() {
        match (way.take)().and_then(|toolchain| Ok((linker::ensure(&toolchain)?, toolchain))) {
            Ok((built, toolchain)) => return Ok((chosen(toolchain)?, built || way.installs)),
            Err(error) => failures.push(format!("{}: {error:#}", way.name)),
        }
    }
    bail!(
        "no compiler and linker for the kernel's programs:\n  {}\n\
         remedy: `rustup component add rust-src`, then install bpf-linker for the LLVM that \
         `rustc -vV` names (`cargo binstall bpf-linker`, or `cargo install bpf-linker` with that LLVM's \
         development files)",
        failures.join("\n  ")
    )
}

/// The build looks for itself: it must come to the same answer.
fn chosen(toolchain: Toolchain) -> Result<Toolchain> {
    let found = Toolchain::find();
    ensure!(
        found.as_ref() == Some(&toolchain),
        "prepared toolchain `{}`, but the build would use `{}`; take that away with `rustup toolchain uninstall`",
        toolchain.name,
        found.as_ref().map_or("none", |found| &found.name)
    );
    Ok(toolchain)
}
