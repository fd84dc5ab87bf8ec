//! `plan`: asks the daemon what a policy would change.

use std::path::PathBuf;

use clap::Args;

use super::{Error, Global, tell};
use crate::{
    agent,
    control::client::Client,
    document::{self, Limits},
    failure::{Exit, Failure},
    state::Submission,
};

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
    let submission = arguments.path.as_ref().map(read).transpose()?;
    match submission {
        Some(submission) if !arguments.audited => {
            let plan = client.plan(&submission)?;
            plan.warnings.iter().chain(&plan.problems).for_each(|line| tell(line));
            global.print(&plan)?;
            Ok(if plan.changed { Exit::Denied } else { Exit::Done })
        }
        submission => {
            let audited = client.audited(submission)?;
            audited.warnings.iter().chain(&audited.problems).for_each(|line| tell(line));
            global.print(&audited)?;
            Ok(if audited.loses { Exit::Denied } else { Exit::Done })
        }
    }
}

fn read(path: &PathBuf) -> Result<Submission, Failure> {
    let what = format!("plan {}", path.display());
    let loaded = document::load(std::slice::from_ref(path), &Limits::default());
    Ok(agent::read(loaded, &what)?.submission)
}
