//! `cargo xtask bench`: builds the benchmark with optimizations and runs it. What it measures is in
//! `tests/`.

use std::ffi::OsString;
use std::process::Command;

use anyhow::{Result, ensure};
use clap::Args;

use crate::{build, run, setup, workspace};

/// Handed to the benchmark.
#[derive(Debug, Default, Args)]
pub(crate) struct Options {
    /// Arguments for the benchmark itself
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    ensure!(
        workspace::is_root(),
        "the benchmark loads programs; run it as root: sudo -E env \"PATH=$PATH\" cargo xtask bench"
    );
    setup::run()?;
    let object = build::bench_object()?;
    build::binaries(&["sg-bench", "sg-agent"], true)?;
    let mut bench = Command::new(workspace::binary("sg-bench", true));
    bench.current_dir(workspace::root()).args(&options.arguments).env("SG_BENCH_OBJECT", object);
    bench.env(workspace::AGENT_VAR, workspace::binary("sg-agent", true));
    run::run(&mut bench)
}
