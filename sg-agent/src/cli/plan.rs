//! `plan`: asks the daemon what a policy would change.

use std::path::PathBuf;

use clap::Args;

use super::{Error, Global, submit::submit, tell};
use crate::{control::client::Client, failure::Exit};

/// Words of `plan`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// A document, or a folder of documents
    #[arg(value_name = "PATH", required_unless_present = "audited")]
    path: Option<PathBuf>,
    /// Tell what the traffic seen under audit would lose if the policy, without PATH the one in force,
    /// were enforced now
    #[arg(long)]
    audited: bool,
}

pub(super) fn run(global: &Global, arguments: &Arguments) -> Result<Exit, Error> {
    let client = Client::new(&global.socket);
    match &arguments.path {
        Some(path) if !arguments.audited => {
            let plan = submit(path, "plan", |submission| client.plan(submission))?;
            plan.warnings.iter().chain(&plan.problems).for_each(|line| tell(line));
            global.print(&plan)?;
            Ok(if plan.changed { Exit::Denied } else { Exit::Done })
        }
        path => {
            let audited = match path {
                Some(path) => submit(path, "plan", |submission| client.audited(Some(submission.clone())))?,
                None => client.audited(None)?,
            };
            audited.warnings.iter().chain(&audited.problems).for_each(|line| tell(line));
            global.print(&audited)?;
            Ok(if audited.loses { Exit::Denied } else { Exit::Done })
        }
    }
}
