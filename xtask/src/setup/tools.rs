//! Programs that the tests, the demo and CI call.

use std::process::Command;

use anyhow::{Context as _, Result};

use crate::setup::packages;
use crate::setup::unpacked::{self, Program};
use crate::toolchain::find_program;
use crate::{run, workspace};

/// Programs of the lab and the packages that have them. `nmap` and `hping3` attack in the tests.
const PROGRAMS: [(&str, &str); 5] = [
    ("ip", "iproute2"),
    ("ping", "iputils-ping"),
    ("nft", "nftables"),
    ("nmap", "nmap"),
    ("hping3", "hping3"),
];
/// Programs that the benchmark compares with.
const PEERS: [(&str, &str); 2] = [("iptables-restore", "iptables"), ("ipset", "ipset")];
/// Subcommands of cargo and the rustup components that have them.
const COMPONENTS: [(&str, &str); 2] = [("fmt", "rustfmt"), ("clippy", "clippy")];
const DENY_VERSION: &str = "0.20.2";
const FUZZ_VERSION: &str = "0.13.2";
const MUTANTS_VERSION: &str = "27.1.0";

/// What the lab calls; whether anything was installed.
pub(crate) fn ensure_programs() -> Result<bool> {
    ensure(&PROGRAMS).context("the lab calls them")
}

/// What the benchmark compares with; whether anything was installed.
pub(crate) fn ensure_peers() -> Result<bool> {
    ensure(&PEERS).context("the benchmark compares with them")
}

fn ensure(programs: &[(&str, &str)]) -> Result<bool> {
    let missing = programs.iter().filter(|(program, _)| find_program(program).is_none());
    let (programs, names): (Vec<_>, Vec<_>) = missing.copied().unzip();
    packages::install(&names).with_context(|| programs.join(", "))
}

/// What virtual machines run in.
pub(crate) fn emulator() -> Result<Program> {
    unpacked::program("qemu-system-x86_64", "qemu-system-x86")
}

/// What virtual machines start with.
pub(crate) fn busybox() -> Result<Program> {
    unpacked::program("busybox", "busybox-static")
}

/// The formatter and the linter of the toolchain that runs this.
pub(crate) fn ensure_components() -> Result<()> {
    for (subcommand, component) in COMPONENTS {
        if !answers(subcommand) {
            run::say(&format!("setup: adding {component}"));
            run::run(Command::new("rustup").args(["component", "add", component]))?;
        }
    }
    Ok(())
}

/// The checker of licences and sources.
pub(crate) fn ensure_deny() -> Result<()> {
    ensure_subcommand("deny", "cargo-deny", DENY_VERSION)
}

/// The fuzzer's driver, and what compiles the fuzzer.
pub(crate) fn ensure_fuzz() -> Result<()> {
    if find_program("c++").is_none() {
        packages::install(&["g++"]).context("the fuzzer is C++")?;
    }
    ensure_subcommand("fuzz", "cargo-fuzz", FUZZ_VERSION)
}

/// What changes code to see whether a test notices.
pub(crate) fn ensure_mutants() -> Result<()> {
    ensure_subcommand("mutants", "cargo-mutants", MUTANTS_VERSION)
}

fn ensure_subcommand(subcommand: &str, package: &str, version: &str) -> Result<()> {
    if answers(subcommand) {
        return Ok(());
    }
    run::say(&format!("setup: building {package}"));
    let mut cargo = Command::new("cargo");
    cargo.args(["install", package, "--version", version, "--locked"]);
    // It runs for a second: its own release profile costs minutes and gains nothing here.
    cargo.env("CARGO_PROFILE_RELEASE_LTO", "off").env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16");
    cargo.env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1");
    run::run(&mut cargo)
}

/// Whether `cargo SUBCOMMAND` is there.
fn answers(subcommand: &str) -> bool {
    run::capture(workspace::cargo(subcommand).arg("--version")).is_ok()
}
