//! `apply`: hands a policy to the daemon.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use super::{Error, Global, operator, tell};
use crate::{
    agent::{self, Terms},
    control::{client::Client, server::CONFIRM_SECONDS},
    document::{self, Limits},
    failure::{Exit, Failure},
};

/// Words of `apply`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// A document, or a folder of documents
    #[arg(value_name = "PATH")]
    path: PathBuf,
    /// Return to the former policy unless `confirm` comes within this time (60s, 5m, 1h)
    #[arg(long, value_name = "TIME", value_parser = time)]
    confirm_within: Option<Duration>,
    /// Go on even if it cuts the connection that you sit at
    #[arg(short, long)]
    yes: bool,
}

/// A time with its unit; seconds where it has none.
fn time(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|unit: char| unit.is_ascii_alphabetic());
    let seconds = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        unit => return Err(format!("`{unit}` is no unit of time: s, m or h")),
    };
    let seconds = digits.parse::<u64>().ok().and_then(|count| count.checked_mul(seconds));
    match seconds {
        Some(seconds) if CONFIRM_SECONDS.contains(&seconds) => Ok(Duration::from_secs(seconds)),
        Some(_) => Err(format!("from {} s to {} s", CONFIRM_SECONDS.start(), CONFIRM_SECONDS.end())),
        None => Err("a number and a unit are expected, as in 60s".to_owned()),
    }
}

pub(super) fn run(global: &Global, arguments: &Arguments) -> Result<Exit, Error> {
    let what = format!("apply {}", arguments.path.display());
    // Read here: the daemon needs no access to the operator's folder, and an error needs no daemon.
    let loaded = document::load(std::slice::from_ref(&arguments.path), &Limits::default());
    let candidate = agent::read(loaded, &what)?;
    let terms = Terms {
        author: operator::author(),
        confirm_within: arguments.confirm_within,
        own: if arguments.yes { None } else { operator::connection() },
    };
    let applied = Client::new(&global.socket).apply(&candidate.submission, &terms)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        for (text, seconds) in [("60s", 60), ("90", 90), ("5m", 300), ("24h", 86_400)] {
            assert_eq!(time(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for wrong in ["", "0s", "s", "-1s", "1.5m", "25h", "1d", "18446744073709551615h"] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }
}
