//! `check`: reads and compiles a policy, and touches nothing.

use std::{path::PathBuf, time::Instant};

use clap::Args;

use super::{Error, Global, tell};
use crate::{
    agent::DEFAULT_POLICY,
    compile::{self, CompileError, RuleNumbers, Zone},
    document::{self, Limits, Loaded},
    failure::{Exit, Failure},
    policy::{Membership, Policy},
    render::Format,
    view::{Check, Finding},
};

/// Words of `check`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Documents, or folders of documents; together they are one policy [default: that of the settings, which
    /// are then checked too, else /etc/sg-agent/policy.d]
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
}

pub(super) fn run(global: &Global, arguments: &Arguments) -> Result<Exit, Error> {
    let start = Instant::now();
    let loaded = document::load(&paths(global, arguments)?, &Limits::default());
    let mut check = summary(&loaded);
    check.read_ms = milliseconds(start);

    let start = Instant::now();
    let compiled = loaded.policy.as_ref().map(size).transpose();
    if let Ok(Some(bytes)) = compiled {
        check.bytes = bytes;
        check.compile_ms = milliseconds(start);
    }
    if global.format() == Format::Table {
        for diagnostic in loaded.errors.iter().chain(&loaded.warnings) {
            tell(&diagnostic.to_string());
        }
    }
    global.print(&check)?;
    compiled.map_err(|error| Failure::new(Exit::Invalid, "compile the policy", error))?;
    match loaded.errors.len() {
        0 => Ok(Exit::Done),
        errors => {
            let plural = if errors == 1 { "" } else { "s" };
            let failure =
                Failure::new(Exit::Invalid, "check the policy", format!("it has {errors} error{plural}"));
            Err(failure.into())
        }
    }
}

/// What is named, else what the agent would read.
fn paths(global: &Global, arguments: &Arguments) -> Result<Vec<PathBuf>, Failure> {
    if arguments.paths.is_empty() {
        let named = super::run::settings(global)?.policy;
        return Ok(vec![named.unwrap_or_else(|| DEFAULT_POLICY.into())]);
    }
    Ok(arguments.paths.clone())
}

fn summary(loaded: &Loaded) -> Check {
    Check {
        errors: loaded.errors.iter().map(Finding::from).collect(),
        warnings: loaded.warnings.iter().map(Finding::from).collect(),
        groups: loaded.counts.groups,
        rules: loaded.counts.rules,
        prefixes: loaded.counts.prefixes,
        ..Check::default()
    }
}

fn milliseconds(start: Instant) -> f64 {
    // To the microsecond: more digits say nothing.
    (start.elapsed().as_secs_f64() * 1e6).round() / 1e3
}

/// Size of the image with one interface for each entry.
fn size(policy: &Policy) -> Result<usize, CompileError> {
    let members = Membership::stated(policy);
    let zones: Vec<_> = policy
        .interfaces
        .iter()
        .map(|entry| Some(Zone::of(policy, entry, entry.addresses.as_deref().unwrap_or(&[]), false)))
        .collect();
    let numbers = RuleNumbers::in_order(policy);
    let input = compile::Input { policy, members: &members, zones: &zones, numbers: &numbers };
    Ok(compile::compile(&input, &compile::Limits::MAX)?.size())
}
