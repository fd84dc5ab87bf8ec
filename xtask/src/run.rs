//! Running other programs: said, timed, never waiting for an answer from the terminal.

use std::io::{self, Write as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

/// How often a child with a time limit is looked at.
const POLL: Duration = Duration::from_millis(50);

/// A line of our own on standard error, where progress goes; standard output is the children's.
pub(crate) fn say(line: &str) {
    // There is nobody to tell when standard error is closed.
    let _ = writeln!(io::stderr(), "{line}");
}

/// Says what runs, runs it to its end, and fails if it does.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    say(&format!("$ {}", shown(command)));
    let status = command.stdin(Stdio::null()).status().with_context(|| unstartable(command))?;
    succeeded(command, status)
}

/// As [`run`], but ends the command after `limit`.
pub(crate) fn run_within(command: &mut Command, limit: Duration) -> Result<()> {
    say(&format!("$ {}", shown(command)));
    let mut child = command.stdin(Stdio::null()).spawn().with_context(|| unstartable(command))?;
    let Some(status) = wait_within(&mut child, limit)? else {
        bail!("`{}` took longer than {} s", shown(command), limit.as_secs());
    };
    succeeded(command, status)
}

/// Runs silently and returns what came on standard output; what came on standard error is in the
/// error.
pub(crate) fn capture(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| unstartable(command))?;
    ensure!(
        output.status.success(),
        "`{}`: {}: {}",
        shown(command),
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A duration as people read it.
pub(crate) fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

/// The command as one would type it.
pub(crate) fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(std::ffi::OsStr::to_string_lossy).collect();
    words.join(" ")
}

fn wait_within(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if start.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(POLL);
    }
}

fn succeeded(command: &Command, status: ExitStatus) -> Result<()> {
    ensure!(status.success(), "`{}` failed: {status}", shown(command));
    Ok(())
}

fn unstartable(command: &Command) -> String {
    format!("cannot start `{}`", command.get_program().to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_typed() {
        assert_eq!(shown(Command::new("cargo").args(["doc", "--no-deps"])), "cargo doc --no-deps");
    }

    #[test]
    fn what_takes_too_long_is_ended() {
        let start = Instant::now();
        let error = run_within(Command::new("sleep").arg("60"), Duration::from_millis(200));
        assert!(error.unwrap_err().to_string().contains("took longer"));
        assert!(start.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn a_failure_carries_what_the_command_said() {
        let error = capture(Command::new("sh").args(["-c", "echo no such thing >&2; exit 3"]));
        let text = error.unwrap_err().to_string();
        assert!(text.contains("no such thing") && text.contains('3'), "{text}");
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = run(&mut Command::new("no-such-program-here")).unwrap_err();
        assert!(error.to_string().contains("no-such-program-here"));
    }
}
