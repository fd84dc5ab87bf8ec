//! `cargo xtask bench`: builds the benchmark with optimizations and runs it. What it measures is in
//! `tests/`.

use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;

use crate::{build, run, setup, workspace};

/// The whole of it takes less.
const LIMIT: Duration = Duration::from_secs(30 * 60);
/// What the ratchet may take of a run of `cargo xtask ci`, however busy the machine.
const RATCHET_LIMIT: Duration = Duration::from_secs(5 * 60);

/// Handed to the benchmark.
#[derive(Debug, Default, Args)]
pub(crate) struct Options {
    /// Only these parts, with commas between them: program, wire, change, scale
    #[arg(long, value_name = "PARTS")]
    only: Option<String>,
    /// Fewer cases and rounds
    #[arg(long)]
    short: bool,
    /// Writes the tables into docs/performance.md and the charts into docs/charts
    #[arg(long, conflicts_with = "short")]
    docs: bool,
    /// Only what `cargo xtask ci` compares with tests/bench.toml
    #[arg(long, conflicts_with_all = ["only", "short", "docs", "record"])]
    ratchet: bool,
    /// Only that, and writes it into tests/bench.toml for this processor
    #[arg(long, conflicts_with_all = ["only", "short", "docs"])]
    record: bool,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    ensure!(
        workspace::is_root(),
        "the benchmark makes network namespaces and loads programs; run it as root: sudo -E env \"PATH=$PATH\" cargo \
         xtask bench"
    );
    if options.ratchet || options.record {
        return ratchet(options.record);
    }
    setup::run()?;
    setup::run_for_bench()?;
    build::binaries(&["sg-bench", "sg-agent"], true)?;
    let mut bench = command(true);
    bench.args(options.only.iter().flat_map(|parts| ["--only", parts.as_str()]));
    bench.args(options.short.then_some("--short")).args(options.docs.then_some("--docs"));
    run::run_within(&mut bench, LIMIT)
}

/// For `cargo xtask ci`: only root can load programs.
pub(crate) fn run_for_ci() -> Result<()> {
    if workspace::is_root() {
        return ratchet(false);
    }
    run::say("bench: not root, so nothing was measured");
    Ok(())
}

/// The programs are optimised in any profile, and only they are measured: nothing is built anew for it.
fn ratchet(records: bool) -> Result<()> {
    setup::run()?;
    build::binaries(&["sg-bench", "sg-agent"], false)?;
    run::run_within(command(false).arg(if records { "--record" } else { "--ratchet" }), RATCHET_LIMIT)
}

fn command(release: bool) -> Command {
    let mut bench = Command::new(workspace::binary("sg-bench", release));
    bench.current_dir(workspace::root()).env(workspace::AGENT_VAR, workspace::binary("sg-agent", release));
    bench
}
