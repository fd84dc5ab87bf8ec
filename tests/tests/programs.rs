//! The programs load on this kernel, and the verifier has no more to do than it had.

use std::{
    collections::BTreeMap,
    env, fs,
    io::{self, Write as _},
};

use anyhow::{Context as _, Result, ensure};
use sg_tests::{
    lab::can_run,
    programs::{Programs, Sizes},
};

/// What `cargo xtask test --record` and `cargo xtask vm VERSION --record` have written.
const KEPT: &str = include_str!("../verifier.toml");
/// Set while the counts are written anew.
const RECORD_VAR: &str = "SG_RECORD";

/// Whether `count` is no more than a tenth above `kept`.
fn is_within(count: u32, kept: u32) -> bool {
    u64::from(count) * 10 <= u64::from(kept) * 11
}

/// Major and minor number of the running kernel.
fn kernel() -> Result<String> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let mut numbers = release.split(['.', '-']);
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) => Ok(format!("{major}.{minor}")),
        _ => anyhow::bail!("a kernel of release {release}"),
    }
}

#[test]
fn the_verifier_has_no_more_to_do_than_it_had() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let kept: BTreeMap<String, BTreeMap<String, u32>> =
        toml::from_str(KEPT).context("tests/verifier.toml")?;
    let kernel = kernel()?;
    let sizes = Sizes { nodes: 1024, buckets: 1024, rules: 16 };
    let counts = Programs::load(sg_agent::kernel::object(), sizes)?.verified_instructions()?;
    let mut out = io::stdout();
    writeln!(out)?;
    for (program, count) in &counts {
        writeln!(out, "verifier: {kernel} {program} {count}")?;
    }
    ensure!(counts.iter().all(|(_, count)| *count > 0), "the kernel does not tell: {counts:?}");
    let Some(kept) = kept.get(&kernel).filter(|_| env::var_os(RECORD_VAR).is_none()) else {
        return Ok(());
    };
    let running = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    for (program, count) in counts {
        let before =
            *kept.get(&program).with_context(|| format!("no count of {program} in tests/verifier.toml"))?;
        ensure!(
            is_within(count, before),
            "{program} on {}: the verifier goes through {count} instructions, more than a tenth above the \
             {before} in tests/verifier.toml; if the change is worth it: `cargo xtask test --record` on this \
             kernel, `cargo xtask vm {kernel} --record` elsewhere",
            running.trim()
        );
    }
    Ok(())
}

#[test]
fn a_tenth_is_borne_and_no_more() {
    assert!(is_within(1100, 1000) && is_within(0, 1000) && is_within(u32::MAX, u32::MAX));
    assert!(!is_within(1101, 1000) && !is_within(1, 0));
}
