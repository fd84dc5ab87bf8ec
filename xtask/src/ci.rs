//! `cargo xtask ci`: everything that must pass before a change lands.
//!
//! The order is: what fails fastest first, and the tests last, so that their count closes the run.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::toolchain::Toolchain;
use crate::{bench, build, demo, fuzz, run, setup, test, tidy, vm, workspace};

/// The advisories are fetched from a server that not every machine reaches.
const FETCH_LIMIT: Duration = Duration::from_secs(60);

/// A step and how to do it.
type Step = (&'static str, fn() -> Result<()>);

const STEPS: [Step; 12] = [
    ("setup", || setup::run_for_ci().map(|_| ())),
    ("fmt", || run::run(workspace::cargo("fmt").args(["--all", "--check"]))),
    ("tidy", || tidy::run(&tidy::Options::default())),
    ("clippy", clippy),
    ("docs", docs),
    ("deny", deny),
    ("build", || build::run(&build::Options::default()).map(|_| ())),
    ("demo", || demo::run(&demo::Options::default())),
    ("bench", bench::run_for_ci),
    ("fuzz", || fuzz::run(&fuzz::Options::default())),
    ("vm", vm::run_short),
    ("test", || test::run(&test::Options::default())),
];

/// Which steps.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Only these: setup, fmt, tidy, clippy, docs, deny, build, demo, bench, fuzz, vm, test
    steps: Vec<String>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    if let Some(unknown) = options.steps.iter().find(|name| STEPS.iter().all(|(step, _)| step != name)) {
        let known: Vec<_> = STEPS.iter().map(|(name, _)| *name).collect();
        bail!("there is no step `{unknown}`; the steps are {}", known.join(", "));
    }
    let chosen = |name: &str| options.steps.is_empty() || options.steps.iter().any(|step| step == name);
    let start = Instant::now();
    let mut times = Vec::new();
    for (name, step) in STEPS.iter().filter(|(name, _)| chosen(name)) {
        run::say(&format!("== {name}"));
        let begun = Instant::now();
        let done = step();
        times.push(format!("{name} {}", run::seconds(begun.elapsed())));
        done.with_context(|| {
            format!("step `{name}` failed ({}); alone: cargo xtask ci {name}", times.join(", "))
        })?;
        run::say(&format!("== {name}: passed in {}", run::seconds(begun.elapsed())));
    }
    run::say(&format!("ci: passed in {}: {}", run::seconds(start.elapsed()), times.join(", ")));
    Ok(())
}

/// The members for this machine, then the programs with whatever their toolchain has.
fn clippy() -> Result<()> {
    run::run(workspace::cargo("clippy").args(["--all-targets", "--", "--deny", "warnings"]))?;
    let toolchain = Toolchain::find().context("no toolchain for the programs; run `cargo xtask setup`")?;
    let linter = run::capture(toolchain.command("cargo-clippy").arg("--version")).is_ok();
    if !linter {
        run::say(&format!(
            "clippy: toolchain {} has none; the programs are checked without it",
            toolchain.name
        ));
    }
    let subcommand = if linter { "clippy" } else { "check" };
    let target_dir = workspace::ebpf_target_dir();
    let mut cargo = toolchain.cargo(subcommand, std::env::consts::ARCH, &target_dir, &["-Dwarnings"]);
    run::run(cargo.current_dir(workspace::root()))
}

fn docs() -> Result<()> {
    run::run(
        workspace::cargo("doc")
            .args(["--no-deps", "--document-private-items"])
            .env("RUSTDOCFLAGS", "-Dwarnings"),
    )
}

fn deny() -> Result<()> {
    run::run(workspace::cargo("deny").args(["check", "licenses", "bans", "sources"]))?;
    if let Err(error) = run::run_within(workspace::cargo("deny").args(["fetch", "db"]), FETCH_LIMIT) {
        run::say(&format!("deny: advisories were not checked, their database cannot be fetched: {error:#}"));
        return Ok(());
    }
    run::run(workspace::cargo("deny").args(["check", "--disable-fetch", "advisories"]))
}
