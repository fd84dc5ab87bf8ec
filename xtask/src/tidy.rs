//! `cargo xtask tidy`: house rules that no compiler knows.
//!
//! A finding names file, line and rule. All are printed; any error fails the verb, a warning does
//! not.

mod coverage;
mod imports;
mod reasons;
mod source;
mod test_names;
mod unit;

use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use clap::Args;

use crate::{run, workspace};
use source::Source;

/// Past this many lines, tests not counted, a file holds a second idea.
const LONG: usize = 500;
/// Folders with Rust sources.
const FOLDERS: [&str; 6] = ["sg-common", "sg-ebpf", "sg-agent", "xtask", "tests", "fuzz"];

/// What was found, and where.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    severity: Severity,
    path: String,
    line: usize,
    what: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Severity {
    Error,
    Warning,
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(out, "{}:{}: {severity}: {}", self.path, self.line, self.what)
    }
}

/// What to do besides.
#[derive(Debug, Default, Args)]
pub(crate) struct Options {
    /// Write the attack suite's tests into the table of attacks first
    #[arg(long)]
    write: bool,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let root = workspace::root();
    let mut sources = Vec::new();
    for folder in FOLDERS {
        read_folder(root, &root.join(folder), &mut sources)?;
    }
    sources.sort_by(|one, other| one.path.cmp(&other.path));

    if options.write && coverage::write(root, &sources)? {
        run::say("tidy: wrote the tests into the table of attacks");
    }
    let mut findings: Vec<_> = sources.iter().flat_map(examine).collect();
    findings.extend(reasons::undocumented(root)?);
    findings.extend(coverage::stale(root, &sources)?);
    findings.extend(unit::findings(root)?);
    for finding in &findings {
        run::say(&finding.to_string());
    }
    let errors = findings.iter().filter(|finding| finding.severity == Severity::Error).count();
    ensure!(errors == 0, "{errors} house rules broken");
    run::say(&format!("tidy: {} files, {} warnings", sources.len(), findings.len()));
    Ok(())
}

fn examine(source: &Source) -> Vec<Finding> {
    let mut findings = imports::forbidden(source);
    findings.extend(allows(source));
    let length = source.code_lines();
    if length > LONG {
        let what = format!("{length} lines without tests; past {LONG}, look for the second idea");
        findings.push(source.finding(Severity::Warning, 1, what));
    }
    findings
}

/// An exception is an expectation with a reason: it is reported once it is no longer needed.
fn allows(source: &Source) -> Vec<Finding> {
    let allowing = source.lines().filter(|(_, text)| text.contains("#[allow(") || text.contains("#![allow("));
    allowing
        .map(|(line, _)| {
            source.finding(Severity::Error, line, "`allow`; use `#[expect(lint, reason = \"…\")]`".to_owned())
        })
        .collect()
}

fn read_folder(root: &Path, folder: &Path, sources: &mut Vec<Source>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            read_folder(root, &path, sources)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text =
                fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy();
            sources.push(Source::new(&name, &text));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_allow_is_found_and_an_expect_is_not() {
        let source = Source::new(
            "a.rs",
            "#[expect(dead_code, reason = \"x\")]\nfn a() {}\n#[allow(dead_code)]\nfn b() {}\n",
        );
        let lines: Vec<_> = allows(&source).iter().map(|finding| finding.line).collect();
        assert_eq!(lines, [3]);
    }

    #[test]
    fn a_long_file_is_a_warning_and_its_tests_do_not_count() {
        let long = "fn f() {}\n".repeat(LONG + 1);
        let finding = &examine(&Source::new("a.rs", &long))[0];
        assert_eq!(finding.severity, Severity::Warning);
        let tested = format!("fn f() {{}}\n#[cfg(test)]\nmod tests {{\n{long}}}\n");
        assert_eq!(examine(&Source::new("a.rs", &tested)), []);
    }
}
