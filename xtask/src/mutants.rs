//! `cargo xtask mutants`: changes the code that judges packets, one place at a time, and sees whether
//! a test notices. What `.cargo/mutants.toml` names is changed by `cargo-mutants`; what survives must
//! be listed in `docs/mutants.md` with the reason why no test can tell it, and what is listed must
//! survive.

mod known;

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;

use crate::{run, setup, workspace};
use known::{Mutant, Tally};

/// Where the survivors are explained.
const PAGE: &str = "docs/mutants.md";
/// What `cargo-mutants` leaves in the target folder.
const MISSED: &str = "mutants.out/missed.txt";
/// Its exit codes when it has done its work: all were caught, some were not, some took too long.
const DONE: [i32; 3] = [0, 2, 3];

/// Which mutants.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Only those whose description, as `cargo mutants --list` shows it, matches this expression
    pattern: Option<String>,
    /// How many are built and tested at once
    #[arg(short, long, default_value_t = 1)]
    jobs: u32,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    setup::run_for_mutants()?;
    let page = workspace::root().join(PAGE);
    let page = fs::read_to_string(&page).with_context(|| format!("cannot read {}", page.display()))?;
    let listed = known::listed(&page).with_context(|| format!("{PAGE} cannot be understood"))?;
    mutate(options)?;
    let survivors = known::survivors(&missed(&workspace::target_dir().join(MISSED))?);

    let unlisted = survivors.beyond(&listed);
    let stale = if options.pattern.is_none() { listed.beyond(&survivors) } else { Tally::default() };
    report("survives, and is not listed", &unlisted);
    report("is listed, and does not survive", &stale);
    ensure!(
        unlisted.is_empty() && stale.is_empty(),
        "{} mutants survive that {PAGE} does not list, and {} that it lists do not; \
         write the test that kills the one, or the reason why none can, and take the other out",
        unlisted.len(),
        stale.len()
    );
    run::say(&format!("mutants: {} survive, all listed in {PAGE}", survivors.len()));
    Ok(())
}

fn mutate(options: &Options) -> Result<()> {
    let mut cargo = workspace::cargo("mutants");
    cargo.args(["--package", "sg-common", "--jobs", &options.jobs.to_string(), "--output"]);
    cargo.arg(workspace::target_dir());
    if let Some(pattern) = &options.pattern {
        cargo.args(["--re", pattern]);
    }
    run::say(&format!("$ {}", run::shown(&cargo)));
    let status = cargo.stdin(Stdio::null()).status().context("cannot start cargo")?;
    match status.code() {
        Some(code) if DONE.contains(&code) => Ok(()),
        _ => bail!("`{}` failed: {status}", run::shown(&cargo)),
    }
}

/// What survived; nothing has, when there is no such file.
fn missed(path: &Path) -> Result<String> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
        read => read.with_context(|| format!("cannot read {}", path.display())),
    }
}

fn report(what: &str, mutants: &Tally) {
    for (Mutant { path, change }, count) in mutants.iter() {
        run::say(&format!("{path}: {change} (×{count}): {what}"));
    }
}
