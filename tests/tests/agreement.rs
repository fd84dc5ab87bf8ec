//! The same question asked three ways: the reference, `decide` in user space, and the loaded programs
//! by test-run. They agree on direction, verdict, reason and rule, packet after packet, and on what
//! the flow table has learned from them.
//!
//! What once failed stands in `regressions/agreement` and is replayed first. Then come sequences made
//! up from a seed: 20 000 packets, or a million over a thousand policies where `SG_NIGHTLY` is set
//! (`cargo xtask test --nightly`). `SG_AGREEMENT=CASES:PACKETS` asks for so many of so many, and
//! `SG_AGREEMENT_SEED` for what a failure has named.

use std::{
    env, fs,
    path::Path,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, bail};
use sg_common::verdict::{AllowReason, DropReason, Verdict};
use sg_tests::{
    agreement::{Case, Difference, Kernel, Tally, Trial, shrink::shrink, traffic},
    lab::can_run,
};

/// How long a failure may take to be made small.
const SHRINKING: Duration = Duration::from_secs(60);

/// Where what once failed is kept.
const REGRESSIONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/regressions/agreement");

/// The loaded programs; without root the reference and user space are alone.
fn loaded() -> Result<Option<Kernel>> {
    if can_run() { Kernel::load().map(Some) } else { Ok(None) }
}

/// Cases and packets in each.
fn wanted() -> Result<(u64, usize)> {
    let default = if env::var_os("SG_NIGHTLY").is_some() { "1000:1000" } else { "40:500" };
    let asked = env::var("SG_AGREEMENT").unwrap_or_else(|_| default.to_owned());
    let (cases, packets) = asked.split_once(':').context("SG_AGREEMENT is CASES:PACKETS")?;
    Ok((cases.parse()?, packets.parse()?))
}

fn first_seed() -> Result<u64> {
    match env::var("SG_AGREEMENT_SEED") {
        Ok(seed) => Ok(seed.parse()?),
        Err(_) => Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos() as u64),
    }
}

/// The smallest case that fails as this one does, as a file to keep.
fn report(case: &Case, difference: &Difference, mut kernel: Option<&mut Kernel>, title: &str) -> Result<()> {
    let mut told = format!("{difference}");
    // Nothing behind the step that shows it matters.
    let mut case = case.clone();
    case.steps.truncate(difference.step + 1);
    let until = Instant::now() + SHRINKING;
    let small = shrink(&case, |case| {
        if Instant::now() > until {
            return false;
        }
        match Trial::run(case, kernel.as_deref_mut(), &mut Tally::default()) {
            Ok(()) => false,
            Err(difference) => {
                told = format!("{difference}");
                true
            }
        }
    });
    bail!("{title}\n{told}\nkeep this as a file in {REGRESSIONS}:\n\n# {title}\n{small}");
}

#[test]
fn what_once_failed_agrees() -> Result<()> {
    let mut kernel = loaded()?;
    let mut paths: Vec<_> =
        fs::read_dir(Path::new(REGRESSIONS))?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    paths.sort();
    for path in paths.iter().filter(|path| path.extension().is_some_and(|extension| extension == "txt")) {
        let name = path.display();
        let case = Case::parse(&fs::read_to_string(path)?).with_context(|| name.to_string())?;
        let run = Trial::run(&case, kernel.as_mut(), &mut Tally::default());
        if let Err(difference) = run {
            bail!("{name}: {difference}");
        }
    }
    Ok(())
}

fn verdicts() -> impl Iterator<Item = Verdict> {
    let allowed = AllowReason::ALL.into_iter().map(|reason| Verdict::Allow(reason, None));
    allowed.chain(DropReason::ALL.into_iter().map(Verdict::Drop))
}

#[test]
fn reference_user_space_and_programs_agree() -> Result<()> {
    let (cases, packets) = wanted()?;
    let first = first_seed()?;
    eprintln!("SG_AGREEMENT_SEED={first} SG_AGREEMENT={cases}:{packets}");
    let start = Instant::now();
    let mut kernel = loaded()?;
    let mut tally = Tally::default();
    for seed in (0..cases).map(|number| first.wrapping_add(number)) {
        let case = traffic::case(seed, packets);
        if let Err(difference) = Trial::run(&case, kernel.as_mut(), &mut tally) {
            report(&case, &difference, kernel.as_mut(), &format!("SG_AGREEMENT_SEED={seed}"))?;
        }
    }
    eprintln!("{} packets over {cases} cases in {:.1?}", tally.packets(), start.elapsed());
    for verdict in verdicts() {
        eprintln!("{:>9} {verdict:?}", tally.of(verdict));
    }
    // A run that never met a verdict has shown nothing of it.
    if tally.packets() >= 20_000 {
        for verdict in verdicts() {
            let cannot_be = verdict == Verdict::Drop(DropReason::PolicyUnavailable);
            assert!(cannot_be || tally.of(verdict) > 0, "no packet was {verdict:?}");
        }
    }
    Ok(())
}
