//! A compiler that can build `core` for the kernel: the ways to one.

use std::env;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::run;
use crate::setup::packages::{self, Version};
use crate::toolchain::{LINKED, TOOLCHAIN_VAR, Toolchain, candidates};

/// Rustup's servers either answer soon or cannot be reached.
const DOWNLOAD_LIMIT: Duration = Duration::from_secs(180);
/// Where distributions install their compiler.
const SYSTEM_SYSROOT: &str = "/usr";
/// The distribution's packages: compiler, cargo, sources. Debian keeps a recent compiler for its
/// browsers beside the release's own.
const PACKAGES: [[&str; 3]; 2] = [["rustc-web", "cargo-web", "rust-web-src"], ["rustc", "cargo", "rust-src"]];

/// One way to a compiler.
pub(crate) struct Way {
    /// For messages.
    pub(crate) name: &'static str,
    /// Whether taking it changes the machine.
    pub(crate) installs: bool,
    /// Finds or installs it.
    pub(crate) take: fn() -> Result<Toolchain>,
}

/// The ways to try, cheapest first.
pub(crate) fn ways() -> Vec<Way> {
    let mut ways = vec![Way { name: "a toolchain that is there", installs: false, take: present }];
    // Who names a toolchain wants that one or none.
    if env::var_os(TOOLCHAIN_VAR).is_none_or(|name| name.is_empty()) {
        ways.push(Way { name: "rustup", installs: true, take: by_rustup });
        ways.push(Way { name: "the distribution's packages", installs: true, take: by_packages });
    }
    ways
}

/// The compiler's version and its LLVM's, for people.
pub(crate) fn version(toolchain: &Toolchain) -> Result<String> {
    let text = run::capture(toolchain.command("rustc").arg("-vV"))?;
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("unknown");
    Ok(format!("rustc {}, LLVM {}", field("release: "), field("LLVM version: ")))
}

/// The major version of the LLVM that the compiler writes bitcode with.
pub(crate) fn llvm_major(toolchain: &Toolchain) -> Result<u32> {
    let text = run::capture(toolchain.command("rustc").arg("-vV"))?;
    let version = text.lines().find_map(|line| line.strip_prefix("LLVM version: "));
    version
        .and_then(|version| version.split('.').next()?.parse().ok())
        .with_context(|| format!("`rustc -vV` of toolchain {} names no LLVM version", toolchain.name))
}

fn present() -> Result<Toolchain> {
    Toolchain::find()
        .with_context(|| format!("none of {} has the standard library's sources", candidates().join(", ")))
}

/// The sources for the toolchain that runs this: small, and no second compiler with another LLVM.
fn by_rustup() -> Result<Toolchain> {
    run::say(
        "setup: no compiler for the kernel's programs yet; adding the standard library's sources by rustup",
    );
    let mut rustup = Command::new("rustup");
    // An unreachable server is an ordinary case here, and needs no stack trace.
    rustup.args(["component", "add", "rust-src"]).env_remove("RUST_BACKTRACE");
    run::run_within(&mut rustup, DOWNLOAD_LIMIT)?;
    present()
}

/// The distribution's compiler and sources, linked under a name of our own.
fn by_packages() -> Result<Toolchain> {
    run::say("setup: rustup could not help; looking among the distribution's packages");
    let minimum: Version = env!("CARGO_PKG_RUST_VERSION").parse()?;
    let Some(names) = packages::first_with(&PACKAGES, minimum)? else {
        bail!("none of {} is version {minimum} or later", PACKAGES.map(|names| names[0]).join(", "));
    };
    packages::install(&names)?;
    run::run(Command::new("rustup").args(["toolchain", "link", LINKED, SYSTEM_SYSROOT]))?;
    Toolchain::named(LINKED).with_context(|| {
        format!("{} installed, but {SYSTEM_SYSROOT} has no compiler with sources", names.join(", "))
    })
}
