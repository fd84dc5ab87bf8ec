//! `apply`: hands a policy to the daemon.

use std::path::PathBuf;

use clap::Args;

use super::{Error, Global, tell};
use crate::{
    agent,
    control::client::Client,
    document::{self, Limits},
    failure::{Exit, Failure},
};

/// Words of `apply`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// A document, or a folder of documents
    #[arg(value_name = "PATH")]
    path: PathBuf,
}

pub(super) fn run(global: &Global, arguments: &Arguments) -> Result<Exit, Error> {
    let what = format!("apply {}", arguments.path.display());
    // Read here: the daemon needs no access to the operator's folder, and an error needs no daemon.
    let loaded = document::load(std::slice::from_ref(&arguments.path), &Limits::default());
    let candidate = agent::read(loaded, &what)?;
    let applied = Client::new(&global.socket).apply(&candidate.submission)?;
    for warning in &applied.warnings {
        tell(warning);
    }
    global.print(&applied)?;
    match &applied.problems[..] {
        [] => Ok(Exit::Done),
        [first, rest @ ..] => {
            let failure = Failure::new(Exit::Failed, what, first)
                .with_remedy(format!("generation {} is in force, but not everywhere", applied.generation));
            Err(failure.with_diagnostics(rest.to_vec()).into())
        }
    }
}
