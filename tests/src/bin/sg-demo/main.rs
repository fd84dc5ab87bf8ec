//! The product at work, in a lab of namespaces: `cargo xtask demo`.
//!
//! Every step says what it expects before it looks, and the demo ends with an error when reality
//! differs. Whatever ends it, interrupts included, nothing of the lab is left.

mod stage;
mod story;

use std::{io::Write as _, process::ExitCode};

use sg_tests::syscall;

fn main() -> ExitCode {
    let result = syscall::remember_interrupts().map_err(Into::into).and_then(|()| story::tell());
    let told = match (result, syscall::interrupted()) {
        (Ok(()), _) => return ExitCode::SUCCESS,
        (Err(_), Some(signal)) => {
            drop(writeln!(std::io::stderr(), "\nsg-demo: interrupted; the lab is gone"));
            return ExitCode::from(u8::try_from(128 + signal).unwrap_or(1));
        }
        (Err(error), None) => writeln!(std::io::stderr(), "\nsg-demo: {error:#}"),
    };
    drop(told); // Nobody is left to tell when stderr is closed.
    ExitCode::FAILURE
}
