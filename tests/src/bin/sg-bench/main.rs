//! What a packet costs: `cargo xtask bench`.
//!
//! The programs run under test-run, with sources that rotate so that caches do not flatter; what an
//! empty program costs that changes the packet in the same way is taken off. Each figure is the
//! median of several runs, in nanoseconds. The tables go to standard output and into
//! `target/bench.json`. After them comes what a change of policy costs, by the agent itself.

mod cases;
mod change;

use std::{env, fs, io::Write as _, process::ExitCode};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use sg_tests::syscall;

use cases::{Bench, Figure, cases};
use change::Change;

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
    ensure!(syscall::is_root(), "loading programs needs root");
    let asked_for = |name: &str| env::args().any(|argument| argument == name);
    let is_short = asked_for("--short");
    let cases = if asked_for("--changes") { Vec::new() } else { packets(is_short)? };
    let changes = if env::var("SG_CASE").is_ok() { Vec::new() } else { changes(is_short)? };
    let report = json!({"cases": cases, "changes": changes});
    fs::write("target/bench.json", serde_json::to_string_pretty(&report)?).context("target/bench.json")
}

/// What a packet costs.
fn packets(is_short: bool) -> Result<Vec<serde_json::Value>> {
    let path = env::var("SG_BENCH_OBJECT")
        .context("SG_BENCH_OBJECT is not set; `cargo xtask bench` builds the object and sets it")?;
    let object = fs::read(&path).with_context(|| path.clone())?;
    let rounds =
        env::var("SG_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(if is_short { 3 } else { 7 });
    let mut bench = Bench::new(&object, rounds);
    let mut out = std::io::stdout();
    let mut figures: Vec<Figure> = Vec::new();
    let mut section = "";
    for case in cases(is_short) {
        if let Ok(filter) = env::var("SG_CASE") {
            if !filter.split('|').any(|f| case.title().contains(f)) {
                continue;
            }
        }
        let figure = bench.measure(&case).with_context(|| case.title())?;
        if case.section != section {
            section = case.section;
            writeln!(
                out,
                "\n### {section}\n\n| case | ns | over an empty program of (ns) |\n| --- | ---: | ---: |"
            )?;
        }
        writeln!(out, "| {} | {:.0} | {:.0} |", figure.what, figure.nanoseconds, figure.empty)?;
        figures.push(figure);
    }
    writeln!(
        out,
        "\n### Instructions that the verifier goes through\n\n| program | instructions |\n| --- | ---: |"
    )?;
    for (program, count) in &bench.verified()? {
        writeln!(out, "| `{program}` | {count} |")?;
    }
    let rows = figures.iter().map(|figure| {
        json!({"section": figure.section, "case": figure.what, "ns": figure.nanoseconds,
               "empty_ns": figure.empty, "image_bytes": figure.image_bytes})
    });
    Ok(rows.collect())
}

/// What a change costs.
fn changes(is_short: bool) -> Result<Vec<serde_json::Value>> {
    let changes = change::changes(if is_short { 3 } else { 11 })?;
    let mut out = std::io::stdout();
    writeln!(
        out,
        "\n### Changes (ms)\n\n| change | median | most | compile | write, read back, flip | agent's memory (MiB) |\n\
         | --- | ---: | ---: | ---: | ---: | ---: |"
    )?;
    for Change { what, milliseconds: [median, most], of_which, memory } in &changes {
        let parts = of_which
            .map_or_else(|| "| |".to_owned(), |[compile, publish]| format!("{compile:.1} | {publish:.1} |"));
        writeln!(out, "| {what} | {median:.1} | {most:.1} | {parts} {memory:.0} |")?;
    }
    let rows = changes.iter().map(|change| {
        json!({"change": change.what, "median_ms": change.milliseconds[0], "most_ms": change.milliseconds[1],
               "compile_ms": change.of_which.map(|[compile, _]| compile),
               "publish_ms": change.of_which.map(|[_, publish]| publish),
               "agent_mib": change.memory})
    });
    Ok(rows.collect())
}
