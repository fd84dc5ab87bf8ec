//! `cargo xtask build`: setup, the agent with its programs inside, and a look at the object.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::{object, run, setup, workspace};

/// What to build.
#[derive(Debug, Default, Args)]
pub(crate) struct Options {
    /// With optimizations
    #[arg(long)]
    pub(crate) release: bool,
}

/// The agent's path.
pub(crate) fn run(options: &Options) -> Result<PathBuf> {
    setup::run()?;
    binaries(&["sg-agent"], options.release)?;
    object::check()?;
    let agent = workspace::binary("sg-agent", options.release);
    run::say(&format!("build: {}", agent.display()));
    Ok(agent)
}

/// Builds binaries of the default members, all in one go: one by one, cargo would choose other
/// features for what they share, and compile it again.
pub(crate) fn binaries(names: &[&str], release: bool) -> Result<()> {
    let mut cargo = workspace::cargo("build");
    cargo.args(names.iter().flat_map(|name| ["--bin", name]));
    if release {
        cargo.arg("--release");
    }
    run::run(&mut cargo)
}
