//! `apply`: hands a policy to the daemon.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use super::{Error, Global, duration::duration, operator, submit::submit, tell};
use crate::{
    agent::Terms,
    control::client::Client,
    failure::{Exit, Failure},
};

/// Words of `apply`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// A document, or a folder of documents
    #[arg(value_name = "PATH")]
    path: PathBuf,
    /// Return to the former policy unless `confirm` comes within this time (60s, 5m, 1h)
    #[arg(long, value_name = "TIME", value_parser = duration)]
    confirm_within: Option<Duration>,
    /// Go on even if it cuts the connection that you sit at
    #[arg(short, long)]
    yes: bool,
}

pub(super) fn run(global: &Global, arguments: &Arguments) -> Result<Exit, Error> {
    let what = format!("apply {}", arguments.path.display());
    let terms = Terms {
        author: operator::author(),
        confirm_within: arguments.confirm_within,
        own: if arguments.yes { None } else { operator::connection() },
    };
    let client = Client::new(&global.socket);
    let applied = submit(&arguments.path, "apply", |submission| client.apply(submission, &terms))?;
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
