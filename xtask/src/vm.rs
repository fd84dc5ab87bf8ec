//! `cargo xtask vm VERSION`: the tests that need the kernel, on another kernel than this machine's.
//!
//! A virtual machine boots a distribution's kernel with nothing but an initial RAM file system, in
//! which are the agent, the test programs and what these call. It runs them, says on its serial
//! console how each ends, and turns itself off. Several machines share the tests out. What the tests
//! prove is in their packages. One more machine is booted by systemd, with the agent as its unit.

mod archive;
mod boot;
mod kernel;
mod library;
mod programs;
mod report;
mod root;
mod service;

use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Args;

use crate::{build, object, run, setup, workspace};
use boot::{Accelerator, Idle};
use kernel::Kernel;
use programs::{Program, Selection};
use report::Report;

/// The old kernel of continuous integration.
pub(crate) const OLD: &str = "6.1";
/// Where nothing runs natively, all tests take an hour.
const LIMIT: Duration = Duration::from_secs(2 * 60 * 60);
/// The most machines at once: each has memory of its own.
const MACHINES: usize = 4;

/// Which kernel, and which tests.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The kernel's version: two numbers, such as 6.1
    version: String,
    /// Only the tests that tell most about a kernel, instead of all
    #[arg(long)]
    short: bool,
    /// Only the tests of these programs: `kernel` of the agent, or a file's name in tests/tests
    #[arg(short, long)]
    test: Vec<String>,
    /// Only loads the programs, and notes in tests/verifier.toml how much the verifier had to do
    #[arg(long, conflicts_with_all = ["short", "test", "filter"])]
    record: bool,
    /// Only what is told by a machine that systemd boots: the unit, and what is in force when
    #[arg(long, conflicts_with_all = ["short", "test", "record", "filter"])]
    boot: bool,
    /// Only tests whose name contains one of these
    #[arg(last = true)]
    filter: Vec<String>,
}

impl Options {
    /// Whether systemd boots a machine, too: when it is asked for, and when nothing is.
    fn boots(&self) -> bool {
        self.boot || !self.short && !self.record && self.test.is_empty() && self.filter.is_empty()
    }
}

/// The tests that tell most about [`OLD`].
pub(crate) fn run_short() -> Result<()> {
    run(&Options {
        version: OLD.to_owned(),
        short: true,
        test: Vec::new(),
        record: false,
        boot: false,
        filter: Vec::new(),
    })
}

pub(crate) fn run(options: &Options) -> Result<()> {
    setup::run()?;
    setup::run_for_vm()?;
    let kernel = kernel::obtain(&options.version)?;
    build::binaries(&["sg-agent"], false)?;
    object::check()?;
    let selection = if options.record {
        Selection::Loading
    } else if options.short && options.test.is_empty() && options.filter.is_empty() {
        Selection::Short
    } else {
        Selection::Named { programs: &options.test, parts: &options.filter }
    };
    let programs = if options.boot { Vec::new() } else { programs::build(&selection)? };
    ensure!(options.boot || !programs.is_empty(), "there is no such test");

    let accelerator = boot::accelerator(&kernel)?;
    let machines = match accelerator {
        Accelerator::Kvm => 1,
        Accelerator::Emulation => thread::available_parallelism()?.get().clamp(1, MACHINES),
    };
    let start = Instant::now();
    let report = Mutex::new(Report::default());
    let shares = programs::share_out(&programs, machines);
    thread::scope(|scope| {
        let machines: Vec<_> = shares
            .iter()
            .enumerate()
            .map(|(number, share)| {
                scope.spawn({
                    let (kernel, report) = (&kernel, &report);
                    move || machine(kernel, accelerator, number, share, options.record, report)
                })
            })
            .collect();
        machines
            .into_iter()
            .try_for_each(|machine| machine.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })?;
    let mut count: usize = shares.iter().map(Vec::len).sum();
    if options.boots() {
        service::run(&kernel, accelerator, &report)?;
        count += service::BOOTS.len();
    }
    let report = report.into_inner().unwrap_or_else(PoisonError::into_inner);
    writeln!(io::stdout(), "{}", report.tally)?;
    report.check(count)?;
    if options.record {
        report.counts.write()?;
    }
    run::say(&format!("vm: {} passed in {}", kernel.release, run::seconds(start.elapsed())));
    Ok(())
}

/// Boots a machine that runs its share of the tests, and hands over what it says: at once how a test
/// ends, and the rest of a test program's output in one piece.
fn machine(
    kernel: &Kernel,
    accelerator: Accelerator,
    number: usize,
    share: &[Program],
    is_recorded: bool,
    report: &Mutex<Report>,
) -> Result<()> {
    let initramfs: PathBuf = workspace::target_dir().join(format!("vm/initramfs-{number}.cpio"));
    fs::write(&initramfs, root::build(kernel, share, is_recorded)?)?;
    run::say(&format!("vm: {} boots, {accelerator}: machine {number}", kernel.release));
    let mut piece = Vec::new();
    let ended = boot::watch(boot::command(kernel, &initramfs, accelerator, Idle::Leaps)?, LIMIT, |line| {
        // The console ends its lines as a typewriter does.
        let line = line.trim_end();
        if report::tells_a_test(line) {
            hand_over(report, [line.to_owned()]);
            return;
        }
        piece.push(line.to_owned());
        if line.contains(root::ENDED) {
            hand_over(report, piece.drain(..));
        }
    });
    hand_over(report, piece);
    ended
}

fn hand_over(report: &Mutex<Report>, lines: impl IntoIterator<Item = String>) {
    let mut report = report.lock().unwrap_or_else(PoisonError::into_inner);
    let mut out = io::stdout().lock();
    for line in lines {
        report.add(&line);
        // There is nobody to tell when standard output is closed.
        drop(writeln!(out, "{line}"));
    }
}
