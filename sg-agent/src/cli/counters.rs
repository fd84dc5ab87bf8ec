//! `counters`: from the kernel's maps, with the daemon or without.

use std::{
    io::{self, IsTerminal as _, Write as _},
    thread,
    time::Duration,
};

use clap::Args;

use super::{Error, Global};
use crate::{failure::Exit, render::Format, view::Grouping};

/// Words of `counters`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// One interface only; for rules and groups: those that it carries
    #[arg(long, value_name = "IF")]
    interface: Option<String>,
    /// What to group by
    #[arg(long, value_enum, default_value_t, value_name = "WHAT")]
    by: Grouping,
    /// Show them again every so many seconds, until interrupted
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2",
        value_parser = clap::value_parser!(u64).range(1..=86_400))]
    watch: Option<u64>,
}

const WHAT: &str = "read the counters";

pub(super) fn run(global: &Global, arguments: &Arguments) -> Result<Exit, Error> {
    let read = || {
        // Opened anew each time: maps are replaced when they grow.
        let enforced = global.enforced(WHAT)?;
        enforced.counters(arguments.by, arguments.interface.as_deref())
    };
    let Some(seconds) = arguments.watch else {
        global.print(&read()?)?;
        return Ok(Exit::Done);
    };
    let clears = global.format() == Format::Table && io::stdout().is_terminal();
    loop {
        let counters = read()?;
        if clears {
            write!(io::stdout(), "\x1b[H\x1b[2J")?;
        }
        global.print_next(&counters)?;
        thread::sleep(Duration::from_secs(seconds));
    }
}
