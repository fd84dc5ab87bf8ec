//! Many interfaces that appear at once: how soon an agent covers them all, what it weighs then, and what a
//! packet on one of them costs beside an agent that has only this one.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use sg_tests::{
    generator::Generator,
    lab::{Arena, Namespace},
};

use super::weight::Weight;
use crate::{
    report::{Cell, Table},
    start,
    statistics::{median, median_ratio},
    wire::{
        contender::{Contender, Kind},
        drops::{rate, syns},
        policy,
    },
};

/// No crowd takes longer.
const LIMIT: Duration = Duration::from_secs(180);

/// A lab whose agent has so many interfaces.
struct Crowd {
    contender: Contender,
    generator: Generator,
    /// Seconds from when the first is made until all are covered.
    covered: f64,
    weight: Weight,
    rates: Vec<f64>,
    _others: Namespace,
}

/// The table, and what one more attachment weighs.
///
/// # Errors
/// An agent does not cover its interfaces, or lets something through.
pub(crate) fn table(counts: &[u32], rounds: usize) -> Result<(Table, Weight)> {
    let crowds: Result<Vec<_>> = counts.iter().map(|count| crowd(*count)).collect();
    let mut crowds = crowds?;
    for _ in 0..rounds {
        for Crowd { contender, generator, rates, .. } in &mut crowds {
            rates.push(rate(contender, generator, 200_000)?);
        }
    }
    let columns = [
        "attachments",
        "from the first to all covered (ms)",
        "dropped on one of them (M/s)",
        "of a single one",
        "the agent's memory (MiB)",
        "maps (MiB)",
    ];
    let mut table = Table::new("scale-attachments", "Interfaces by the thousand", &columns);
    let mebibytes = |octets: f64| Cell::Number(octets / f64::from(1 << 20), 0);
    for (count, crowd) in counts.iter().zip(&crowds) {
        table.rows.push(vec![
            Cell::Number((*count).into(), 0),
            Cell::Number(crowd.covered * 1000.0, 0),
            Cell::Number(median(&crowd.rates) / 1e6, 2),
            Cell::Number(median_ratio(&crowd.rates, &crowds[0].rates), 2),
            mebibytes(crowd.weight.agent),
            mebibytes(crowd.weight.maps),
        ]);
    }
    let (few, many) = (&crowds[0], &crowds[crowds.len() - 1]);
    let more = counts.last().context("no counts")? - counts[0];
    Ok((table, many.weight.each_more(few.weight, more)))
}

fn crowd(count: u32) -> Result<Crowd> {
    let mut contender = Contender::new(Kind::Nobody, &[])?;
    contender.poll()?;
    let arena = &mut contender.arena;
    let others = Namespace::new("others")?;
    let path = others.path();
    let lines: Vec<_> = (1..count)
        .map(|number| format!("link add v{number} type veth peer name p{number} netns {path}"))
        .collect();
    let entries = [arena.entry("g", ""), "{match: \"v*\", groups: [g], hook: tc}".to_owned()];
    let document = policy::document_with(&policy::networks(10), 1, &[&entries[0], &entries[1]]);
    start::with(&mut arena.agent, &document)?;
    let begin = Instant::now();
    if !lines.is_empty() {
        arena.machine.ip(&lines.iter().map(String::as_str).collect::<Vec<_>>())?;
    }
    while attached(arena)? < count as usize {
        crate::go_on()?;
        ensure!(begin.elapsed() < LIMIT, "after {LIMIT:?} not all of {count} interfaces are covered");
        thread::sleep(Duration::from_millis(20));
    }
    let covered = begin.elapsed().as_secs_f64();
    let weight = Weight::of(arena)?;
    contender.kind = Kind::OursTc;
    let generator = syns(&contender, policy::LISTED)?;
    let before = (contender.arrived()?, contender.dropped()?);
    rate(&contender, &generator, 20_000)?;
    contender.expect_all_dropped(before.0, before.1)?;
    ensure!(before.1.is_some(), "nothing counts");
    Ok(Crowd { contender, generator, covered, weight, rates: Vec::new(), _others: others })
}

/// How many interfaces the agent says it enforces on.
fn attached(arena: &Arena) -> Result<usize> {
    let status = arena.agent.json(&["status"])?;
    Ok(status["attachments"].as_array().context("attachments")?.len())
}
