//! The `sg-agent` binary: arguments in, an exit status out. All else is the library's.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::Parser as _;
use sg_agent::cli::{self, Cli};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(usage) => {
            // Help for whoever does not read it any more is no error.
            let _ = usage.print();
            return ExitCode::from(u8::try_from(usage.exit_code()).unwrap_or(2));
        }
    };
    match cli::run(cli) {
        Ok(exit) => exit.into(),
        Err(cli::Error::BrokenPipe) => ExitCode::SUCCESS,
        Err(cli::Error::Failure(failure)) => {
            let mut stderr = io::stderr().lock();
            for diagnostic in &failure.diagnostics {
                let _ = writeln!(stderr, "{diagnostic}");
            }
            let _ = writeln!(stderr, "sg-agent: {failure}");
            failure.exit.into()
        }
    }
}
