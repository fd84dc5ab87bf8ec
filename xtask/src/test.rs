//! `cargo xtask test`: every test of the workspace, and at the end how many.
//!
//! Tests that need the kernel (namespaces, loaded programs) are in the package `sg-tests`. Without
//! root they are left out, and the last lines say so.

mod tally;

use std::ffi::OsString;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use clap::Args;

use crate::counts::Counts;
use crate::{build, object, run, setup, workspace};
pub(crate) use tally::Tally;

/// The package with the tests that need root.
const PRIVILEGED: &str = "sg-tests";
/// Set for tests that go on as long as is asked of them.
const NIGHTLY_VAR: &str = "SG_NIGHTLY";
/// Set for the test that changes, kills and damages agents, where it shall do so for an hour.
const SOAK_VAR: &str = "SG_SOAK";
/// Builds only for the kernel, and has no tests of its own.
const PROGRAMS: &str = "sg-ebpf";

/// Which tests.
#[derive(Debug, Default, Args)]
pub(crate) struct Options {
    /// Only tests whose name contains this
    filter: Option<String>,
    /// Only the tests of this package
    #[arg(short, long)]
    package: Vec<String>,
    /// As much of generated traffic as fits into a night's run: a million packets over a thousand
    /// policies, 200 policies before nftables
    #[arg(long)]
    nightly: bool,
    /// Only the test that nothing opens and nothing is cut, through ten thousand policies and hundreds
    /// of kills, restarts and faults
    #[arg(long, conflicts_with_all = ["filter", "package", "nightly"])]
    soak: bool,
    /// Only loads the programs, and notes in tests/verifier.toml how much the verifier had to do
    #[arg(long, conflicts_with_all = ["filter", "package", "harness", "soak"])]
    record: bool,
    /// Arguments for the test programs (--nocapture, --test-threads 1, …)
    #[arg(last = true)]
    harness: Vec<OsString>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    setup::run()?;
    build::binaries(&["sg-agent"], false)?;
    object::check()?;

    let privileged = workspace::is_root();
    let mut cargo = command(options, privileged);
    cargo.env(workspace::AGENT_VAR, workspace::binary("sg-agent", false));
    if options.nightly {
        cargo.env(NIGHTLY_VAR, "1");
    }
    let mut counts = Counts::default();
    let (tally, passed) = counted(&mut cargo, &mut counts)?;

    if !privileged {
        run::say(&format!(
            "test: not root, so the tests of {PRIVILEGED} (namespaces, loaded programs) were left out; \
             all of them: sudo -E env \"PATH=$PATH\" cargo xtask test"
        ));
    }
    writeln!(io::stdout(), "{tally}")?;
    ensure!(passed, "tests failed; see above");
    if options.record { counts.write() } else { Ok(()) }
}

fn command(options: &Options, privileged: bool) -> Command {
    let mut cargo = workspace::cargo("test");
    // One failing test program shall not hide the others.
    cargo.arg("--no-fail-fast");
    if options.record {
        cargo.args(["--package", PRIVILEGED, "--test", "programs"]).env("SG_RECORD", "1");
    } else if options.soak {
        cargo.args(["--package", PRIVILEGED, "--test", "never_open"]).env(SOAK_VAR, "1");
    } else if !options.package.is_empty() {
        cargo.args(options.package.iter().flat_map(|package| ["--package", package]));
    } else if !privileged {
        cargo.args(["--workspace", "--exclude", PROGRAMS, "--exclude", PRIVILEGED]);
    }
    if options.soak {
        // What it did is in what it prints.
        cargo.args(["--", "--nocapture"]).args(&options.harness);
    } else if options.filter.is_some() || !options.harness.is_empty() {
        cargo.arg("--").args(&options.filter).args(&options.harness);
    }
    cargo
}

/// Runs the tests, passes their output on, and adds up what each program reports.
fn counted(cargo: &mut Command, counts: &mut Counts) -> Result<(Tally, bool)> {
    run::say(&format!("$ {}", run::shown(cargo)));
    let mut child =
        cargo.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("cannot start cargo")?;
    let output = child.stdout.take().context("cargo has no output")?;
    let mut tally = Tally::default();
    let mut out = io::stdout();
    for line in BufReader::new(output).split(b'\n') {
        let line = line?;
        let text = String::from_utf8_lossy(&line);
        tally.add(&text);
        counts.add(&text);
        out.write_all(&line)?;
        out.write_all(b"\n")?;
    }
    Ok((tally, child.wait()?.success()))
}
