//! What the product costs: `cargo xtask bench`.
//!
//! Four parts, each of which makes tables and charts: the programs alone, the product on a wire beside
//! others, changes of policy, and more of everything. What is compared is measured in turns in one run, and
//! a figure is a median. Tables go to standard output and into `target/bench.json`, and where asked for
//! into the documents. The ratchet is none of the parts: it fails when the programs have become slower.

mod budgets;
mod change;
mod changing;
mod chart;
mod docs;
mod misjudged;
mod options;
mod peers;
mod program;
mod ratchet;
mod report;
mod scale;
mod start;
mod statistics;
mod wire;

use std::{env, fs, io::Write as _, path::Path, process::ExitCode, time::Instant};

use anyhow::{Context as _, Result, ensure};
use sg_tests::syscall;

use chart::Chart;
use options::{Options, Section};
use report::Report;

/// The document with the figures, and the folder of its charts.
const DOCUMENT: &str = "docs/performance.md";
const CHARTS: &str = "docs/charts";
/// All tables for programs.
const JSON: &str = "target/bench.json";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            drop(writeln!(std::io::stderr(), "sg-bench: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let options = Options::parse(env::args().skip(1))?;
    ensure!(syscall::is_root(), "loading programs and making namespaces needs root");
    // Whatever is under way then ends in order, and leaves nothing behind.
    syscall::remember_interrupts()?;
    if let Some(asked) = options.ratchet {
        return ratchet::run(asked);
    }
    let mut report = Report::default();
    for section in &options.sections {
        let begin = Instant::now();
        let is_short = options.is_short;
        match section {
            Section::Program => program::run(is_short, &mut report),
            Section::Wire => wire::run(is_short, &mut report),
            Section::Change => changing::run(is_short, &mut report),
            Section::Scale => scale::run(is_short, &mut report),
        }
        .context(section.name())?;
        writeln!(std::io::stdout(), "({}: {:.0} s)", section.name(), begin.elapsed().as_secs_f64())?;
        if *section == Section::Scale && !is_short && options.sections == Section::ALL {
            report.add(budgets::table(&report))?;
        }
        // What is measured is not lost where a later part fails.
        fs::write(JSON, serde_json::to_string_pretty(&report.json())?).context(JSON)?;
        if options.docs {
            write_docs(&report)?;
        }
    }
    Ok(())
}

/// Fails where somebody has asked this process to end.
///
/// # Errors
/// That is so.
pub(crate) fn go_on() -> Result<()> {
    let signal = syscall::interrupted();
    ensure!(signal.is_none(), "interrupted by signal {}", signal.unwrap_or_default());
    Ok(())
}

fn write_docs(Report { tables, charts }: &Report) -> Result<()> {
    let document = fs::read_to_string(DOCUMENT).context(DOCUMENT)?;
    fs::write(DOCUMENT, docs::with_tables(&document, tables)?).context(DOCUMENT)?;
    fs::create_dir_all(CHARTS)?;
    for Chart { name, svg } in charts {
        let path = Path::new(CHARTS).join(format!("{name}.svg"));
        fs::write(&path, svg).with_context(|| path.display().to_string())?;
    }
    Ok(())
}
