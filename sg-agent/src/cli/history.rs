//! `history`, `confirm` and `rollback`: the generations, and going between them.

use clap::Args;

use super::{Error, Global, operator, tell};
use crate::{
    agent::{Terms, history},
    control::client::Client,
    failure::{Exit, Failure},
};

/// Words of `rollback`.
#[derive(Debug, Args)]
pub struct Rollback {
    /// The generation whose policy is to come back [default: the latest with another policy]
    #[arg(value_name = "GENERATION")]
    generation: Option<u64>,
    /// Go on even if it cuts the connection that you sit at
    #[arg(short, long)]
    yes: bool,
}

/// Asked of the daemon, which knows what is in force; without one, of the folder and the kernel.
pub(super) fn history(global: &Global) -> Result<Exit, Error> {
    let answer = match Client::new(&global.socket).history() {
        Err(failure) if failure.exit == Exit::NotRunning => {
            let now = global.look("ask for the history")?.map_or(0, |enforced| enforced.generation());
            history::of(&global.store(), now).map_err(Failure::state)?
        }
        answer => answer?,
    };
    global.print(&answer)?;
    Ok(Exit::Done)
}

pub(super) fn confirm(global: &Global) -> Result<Exit, Error> {
    global.print(&Client::new(&global.socket).confirm(operator::author())?)?;
    Ok(Exit::Done)
}

pub(super) fn rollback(global: &Global, arguments: &Rollback) -> Result<Exit, Error> {
    let terms = Terms {
        author: operator::author(),
        confirm_within: None,
        own: if arguments.yes { None } else { operator::connection() },
    };
    let answer = Client::new(&global.socket).rollback(arguments.generation, terms)?;
    answer.warnings.iter().for_each(|warning| tell(warning));
    global.print(&answer)?;
    Ok(Exit::Done)
}
