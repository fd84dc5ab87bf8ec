//! The ratchet: the programs may not become slower. A few cases are measured beside a [`mod@reference`] that
//! never changes, and their ratios compared with those in `tests/bench.toml`, which stand there by
//! processor: another has other ratios. A loss of more than 15 % fails.
//!
//! What else the machine does makes times longer, never shorter. So rounds are short and many, all take
//! turns, of each the quickest counts, and what seems to have become slower is measured again before
//! anybody is told so: with more rounds, and not until a try turns out well, for a ratio is also lower
//! where the reference was disturbed.

mod kept;
mod reference;

use std::io::Write as _;

use anyhow::{Context as _, Result, bail, ensure};
use sg_tests::syscall::handmade::Kind as Hook;

use crate::{
    options::Ratchet,
    program::{
        cases::{Case, Kind},
        stand::{Stand, Subject},
    },
    statistics::quantile,
};
use kept::Ratios;
use reference::Reference;

/// More than this is a loss.
const BORNE: f64 = 1.15;
/// How often a case is measured before it counts as slower.
const TRIES: usize = 5;
/// How often it is before its ratio is kept.
const RECORDED: usize = 3;
const ROUNDS: usize = 12;
const REPEAT: u32 = 65_536;
/// Of all rounds this part is quicker than the one that counts: the quickest of all may be mistaken.
const QUICKEST: f64 = 0.1;

/// The cases by their names in the file.
fn cases() -> Vec<(&'static str, Case)> {
    let base = Case { kind: Kind::Denied, is_v6: false, hook: Hook::Xdp, prefixes: 10, rules: 1 };
    let large = Case { prefixes: 100_000, ..base };
    let ruled = Case { kind: Kind::DeniedPort, prefixes: 1024, rules: 10_000, ..base };
    let flow = Case { kind: Kind::Established(1), ..base };
    let flows = Case { kind: Kind::Established(1024), ..base };
    let untracked = Case { kind: Kind::Untracked, ..base };
    vec![
        ("denied", base),
        ("denied_ipv6", Case { is_v6: true, ..base }),
        ("denied_tc", Case { hook: Hook::Tc, ..base }),
        ("denied_100000_prefixes", large),
        ("denied_10000_rules", ruled),
        ("established", flow),
        ("established_tc", Case { hook: Hook::Tc, ..flow }),
        ("established_1024_flows", flows),
        ("untracked", untracked),
    ]
}

/// Measures, and compares or keeps.
///
/// # Errors
/// A case has become slower, or the kernel refuses something.
pub(crate) fn run(ratchet: Ratchet) -> Result<()> {
    let mut out = std::io::stdout();
    let processor = kept::processor()?;
    let known = kept::read()?.remove(&processor);
    let reference = Reference::new(REPEAT)?;
    let (mut measured, mut slower) = (Ratios::new(), Vec::new());
    for (name, case) in cases() {
        let mut stand = Stand::new(case, REPEAT).context(name)?;
        let mut times = Times::default();
        let mut measure = || {
            times.measure(&mut stand, &reference)?;
            Ok(times.ratio())
        };
        let ratio = match (ratchet, &known) {
            (Ratchet::Compare, Some(known)) => {
                let before = *known.get(name).with_context(|| format!("no {name} in {}", kept::FILE))?;
                let (ratio, is_slower) = compared(before, measure)?;
                write!(out, "ratchet: {name} {ratio:.3}, {before:.3} is kept")?;
                slower.extend(is_slower.then_some(name));
                ratio
            }
            (Ratchet::Compare, None) | (Ratchet::Record, _) => {
                (0..RECORDED).try_for_each(|_| measure().map(drop))?;
                let ratio = times.ratio();
                ensure!(ratio.is_finite(), "{name}: nothing that could be kept was measured");
                write!(out, "ratchet: {name} {ratio:.3}")?;
                ratio
            }
        };
        writeln!(out)?;
        measured.insert(name.to_owned(), ratio);
    }
    match ratchet {
        Ratchet::Record => kept::write(&processor, measured),
        Ratchet::Compare if known.is_none() => {
            writeln!(
                out,
                "ratchet: nothing is kept of {processor} to compare with; `cargo xtask bench --record` does"
            )?;
            Ok(())
        }
        Ratchet::Compare if slower.is_empty() => Ok(()),
        Ratchet::Compare => bail!(
            "slower by more than 15 % on {processor}: {}; if the change is worth it: `cargo xtask bench --record`",
            slower.join(", ")
        ),
    }
}

/// The ratio after as many tries as it takes to be within what is borne, and whether it is not.
fn compared(kept: f64, mut measure: impl FnMut() -> Result<f64>) -> Result<(f64, bool)> {
    let limit = kept * BORNE;
    let mut ratio = f64::INFINITY;
    for _ in 0..TRIES {
        ratio = measure()?;
        if ratio <= limit {
            break;
        }
    }
    Ok((ratio, ratio > limit))
}

/// What a packet took in all rounds so far: in an empty program and in the shipped one, and likewise
/// without the reference and in it.
#[derive(Default)]
struct Times([Vec<f64>; 4]);

impl Times {
    fn measure(&mut self, stand: &mut Stand, reference: &Reference) -> Result<()> {
        for _ in 0..ROUNDS {
            let [bare, called] = reference.round()?;
            let rounds = [stand.round(Subject::Empty)?, stand.round(Subject::Shipped)?, bare, called];
            for (times, round) in self.0.iter_mut().zip(rounds) {
                times.push(round);
            }
        }
        Ok(())
    }

    /// What a packet costs by what it costs in the reference. What took no time was not measured: that
    /// is no reason to pass.
    fn ratio(&self) -> f64 {
        let [empty, shipped, bare, called] = self.0.each_ref().map(|times| quantile(times, QUICKEST));
        let (cost, unit) = (shipped - empty, called - bare);
        if cost > 0.0 && unit > 0.0 { cost / unit } else { f64::INFINITY }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fifteen_percent_are_borne_and_no_more_and_noise_is_measured_again() {
        // (what, the ratios that are measured one after the other, the result, how many were needed)
        let rows: [(_, &[f64], _, _); 5] = [
            ("as it was", &[1.0], (1.0, false), 1),
            ("quicker", &[0.5], (0.5, false), 1),
            ("just borne", &[1.149], (1.149, false), 1),
            ("noise", &[3.0, 1.4, 1.1], (1.1, false), 3),
            ("slower", &[1.3, 1.2, 1.16, 1.3, 1.4], (1.4, true), 5),
        ];
        for (what, ratios, expected, needed) in rows {
            let mut taken = ratios.iter();
            let result = compared(1.0, || taken.next().copied().context("measured too often")).unwrap();
            assert_eq!((result, ratios.len() - taken.len()), (expected, needed), "{what}");
        }
    }

    #[test]
    fn a_ratio_is_not_lower_for_what_was_disturbed_once() {
        let round = |empty, shipped, bare, called| [empty, shipped, bare, called];
        for (what, rounds, expected) in [
            ("as it is", vec![round(10.0, 40.0, 10.0, 70.0); 12], 0.5),
            (
                "a try with a slow reference",
                [vec![round(10.0, 40.0, 10.0, 130.0); 12], vec![round(10.0, 40.0, 10.0, 70.0); 12]].concat(),
                0.5,
            ),
            (
                "a try with a slow empty program",
                [vec![round(25.0, 40.0, 10.0, 70.0); 12], vec![round(10.0, 40.0, 10.0, 70.0); 12]].concat(),
                0.5,
            ),
            ("quicker than nothing", vec![round(40.0, 10.0, 10.0, 70.0); 12], f64::INFINITY),
            ("no reference", vec![round(10.0, 40.0, 70.0, 70.0); 12], f64::INFINITY),
        ] {
            let mut times = Times::default();
            for round in rounds {
                times.0.iter_mut().zip(round).for_each(|(times, round)| times.push(round));
            }
            assert!(
                (times.ratio() - expected).abs() < 1e-9 || times.ratio() == expected,
                "{what}: {}",
                times.ratio()
            );
        }
    }

    #[test]
    fn every_case_is_kept_where_any_is() {
        let kept = kept::parse(include_str!("../../../bench.toml")).unwrap();
        for (processor, ratios) in kept {
            let names: Vec<_> = cases().into_iter().map(|(name, ..)| name).collect();
            assert!(names.iter().all(|name| ratios[*name] > 0.0), "{processor}");
            assert_eq!(ratios.len(), names.len(), "{processor}");
        }
    }
}
