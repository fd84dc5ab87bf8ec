//! The test programs, and which tests of them run in which machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::{run, workspace};

/// Whose tests need the kernel, and which of their programs have such tests.
const PACKAGES: [(&str, &str); 2] = [("sg-agent", "kernel"), ("sg-tests", "*")];
/// The program that loads the programs and tells how much the verifier had to do.
const LOADER: &str = "programs";
/// What tells most about a kernel, by program and part of the test's name: that the programs load,
/// that the three of them agree with the reference, every kind of hook, and once through every step
/// of a decision.
const SHORT: [(&str, &str); 1] = [(LOADER, "")];

/// Which tests are wanted.
pub(super) enum Selection<'a> {
    /// Those of [`SHORT`].
    Short,
    /// Those of [`LOADER`].
    Loading,
    /// All of some programs, whose names contain one of some parts. None stands for any.
    Named {
        /// Names of programs.
        programs: &'a [String],
        /// Parts of tests' names.
        parts: &'a [String],
    },
}

impl Selection<'_> {
    fn has_program(&self, program: &str) -> bool {
        match self {
            Self::Short => SHORT.iter().any(|(name, _)| *name == program),
            Self::Loading => program == LOADER,
            Self::Named { programs, .. } => {
                programs.is_empty() || programs.iter().any(|name| name == program)
            }
        }
    }

    fn has(&self, program: &str, test: &str) -> bool {
        self.has_program(program)
            && match self {
                Self::Short => SHORT.iter().any(|(name, part)| *name == program && test.contains(part)),
                Self::Loading => true,
                Self::Named { parts, .. } => parts.is_empty() || parts.iter().any(|part| test.contains(part)),
            }
    }
}

/// A test program and the tests that it shall run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Program {
    pub(super) name: String,
    pub(super) path: PathBuf,
    pub(super) tests: Vec<String>,
}

/// Builds the test programs that have tests which are wanted.
pub(super) fn build(selection: &Selection<'_>) -> Result<Vec<Program>> {
    let mut programs = Vec::new();
    for (package, only) in PACKAGES {
        let mut cargo = workspace::cargo("test");
        cargo.args(["--no-run", "--message-format=json-render-diagnostics", "--package", package]);
        cargo.args(["--test", only]);
        run::say(&format!("$ {}", run::shown(&cargo)));
        for line in run::capture(&mut cargo)?.lines() {
            let built = executable(line).with_context(|| format!("cargo says: {line}"))?;
            let Some((name, path)) = built.filter(|(name, _)| selection.has_program(name)) else { continue };
            let listed = run::capture(Command::new(&path).args(["--list", "--format", "terse"]))?;
            let tests: Vec<_> = listed
                .lines()
                .filter_map(|line| line.strip_suffix(": test"))
                .filter(|test| selection.has(&name, test))
                .map(str::to_owned)
                .collect();
            if !tests.is_empty() {
                programs.push(Program { name, path, tests });
            }
        }
    }
    Ok(programs)
}

/// The test program that a message of cargo's is about, if it is about one.
fn executable(message: &str) -> Result<Option<(String, PathBuf)>> {
    let message: serde_json::Value = serde_json::from_str(message)?;
    let (Some(path), Some(true), Some(name)) = (
        message["executable"].as_str(),
        message["profile"]["test"].as_bool(),
        message["target"]["name"].as_str(),
    ) else {
        return Ok(None);
    };
    Ok(Some((name.to_owned(), path.into())))
}

/// Deals the tests of all programs out to so many machines. Each has those programs of which it has
/// a test.
pub(super) fn share_out(programs: &[Program], machines: usize) -> Vec<Vec<Program>> {
    let mut shares = vec![Vec::<Program>::new(); machines];
    let mut turns = (0..machines).cycle();
    for program in programs {
        for test in &program.tests {
            let Some(share) = turns.next().and_then(|turn| shares.get_mut(turn)) else { continue };
            match share.last_mut().filter(|last| last.path == program.path) {
                Some(last) => last.tests.push(test.clone()),
                None => share.push(Program { tests: vec![test.clone()], ..program.clone() }),
            }
        }
    }
    shares.retain(|share| !share.is_empty());
    shares
}

/// A program without what only debuggers read, which is nine tenths of it: all of it has to be in
/// memory.
pub(super) fn stripped(path: &Path) -> Result<Vec<u8>> {
    let folder = workspace::target_dir().join("vm/stripped");
    fs::create_dir_all(&folder)?;
    let copy = folder.join(path.file_name().unwrap_or_else(|| "program".as_ref()));
    let modified = |path: &Path| fs::metadata(path).and_then(|found| found.modified()).ok();
    if modified(&copy) < modified(path) {
        // Several machines may want the same one.
        let half = folder.join(format!("half-{:?}", std::thread::current().id()));
        run::capture(Command::new("strip").arg("--strip-debug").arg("-o").arg(&half).arg(path))
            .context("binutils are needed")?;
        fs::rename(&half, &copy)?;
    }
    fs::read(&copy).with_context(|| format!("cannot read {}", copy.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(name: &str, tests: &[&str]) -> Program {
        let tests = tests.iter().copied().map(str::to_owned).collect();
        Program { name: name.to_owned(), path: name.into(), tests }
    }

    #[test]
    fn every_test_is_dealt_out_once() {
        let all = [program("one", &["a", "b", "c"]), program("two", &["d"])];
        let shares = share_out(&all, 2);
        assert_eq!(
            shares,
            [vec![program("one", &["a", "c"])], vec![program("one", &["b"]), program("two", &["d"])]]
        );
        assert_eq!(share_out(&all, 1), [all.to_vec()]);
        assert_eq!(share_out(&all[1..], 3), [vec![program("two", &["d"])]], "no machine for nothing");
    }

    #[test]
    fn tests_are_selected_by_program_and_part_of_the_name() {
        let (programs, parts) = (["flows".to_owned()], ["ping".to_owned(), "syn".to_owned()]);
        let selection = Selection::Named { programs: &programs, parts: &parts };
        assert!(selection.has("flows", "a_syn") && selection.has("flows", "pings"));
        assert!(!selection.has("flows", "other") && !selection.has("rules", "a_syn"));
        let all = Selection::Named { programs: &[], parts: &[] };
        assert!(all.has("rules", "anything"));
        assert!(Selection::Loading.has(LOADER, "x") && !Selection::Loading.has("rules", "x"));
    }

    #[test]
    fn only_test_programs_are_taken_from_what_cargo_says() {
        let test = r#"{"executable":"/t/flows-1","profile":{"test":true},"target":{"name":"flows"}}"#;
        assert_eq!(executable(test).unwrap().unwrap(), ("flows".to_owned(), "/t/flows-1".into()));
        let binary = r#"{"executable":"/t/agent","profile":{"test":false},"target":{"name":"agent"}}"#;
        assert!(executable(binary).unwrap().is_none());
        assert!(executable(r#"{"reason":"build-finished"}"#).unwrap().is_none());
    }
}
