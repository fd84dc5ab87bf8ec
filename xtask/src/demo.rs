//! `cargo xtask demo`: builds the agent and the demo, and runs it. The story is in `tests/`.

use std::ffi::OsString;
use std::process::Command;

use anyhow::{Result, ensure};
use clap::Args;

use crate::{build, run, setup, workspace};

/// Handed to the demo.
#[derive(Debug, Default, Args)]
pub(crate) struct Options {
    /// Arguments for the demo itself
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    ensure!(
        workspace::is_root(),
        "the demo makes network namespaces and loads programs; run it as root: sudo -E env \"PATH=$PATH\" cargo xtask demo"
    );
    setup::run()?;
    build::binaries(&["sg-agent", "sg-demo"], false)?;
    let agent = workspace::binary("sg-agent", false);
    let mut demo = Command::new(workspace::binary("sg-demo", false));
    demo.current_dir(workspace::root()).env(workspace::AGENT_VAR, agent).args(&options.arguments);
    run::run(&mut demo)
}
