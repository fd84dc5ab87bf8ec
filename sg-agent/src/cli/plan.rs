//! `plan`: asks the daemon what a policy would change.

use std::path::PathBuf;

use clap::Args;

use super::{Error, Global, tell};
use crate::{
    agent,
    control::client::Client,
    document::{self, Limits},
    failure::Exit,
};

/// Words of `plan`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// A document, or a folder of documents
    #[arg(value_name = "PATH")]
    path: PathBuf,
}

pub(super) fn run(global: &Global, arguments: &Arguments) -> Result<Exit, Error> {
    let what = format!("plan {}", arguments.path.display());
    let loaded = document::load(std::slice::from_ref(&arguments.path), &Limits::default());
    let candidate = agent::read(loaded, &what)?;
    let plan = Client::new(&global.socket).plan(&candidate.submission)?;
    for line in plan.warnings.iter().chain(&plan.problems) {
        tell(line);
    }
    global.print(&plan)?;
    Ok(if plan.changed { Exit::Denied } else { Exit::Done })
}
