//! Packets that are judged wrongly while the policy changes: denied ones that arrive, and sessions that fall
//! silent, through a thousand changes.

use anyhow::{Context as _, Result, ensure};
use sg_tests::{
    lab::{Arena, Setup, arena::INTERFACE},
    vigil::{INBOUND, OUTBOUND, Vigil},
};

use crate::report::{Cell, Table};

/// So many changes, back to back.
pub(crate) fn table(changes: u32) -> Result<Table> {
    let columns = [
        "",
        "changes",
        "denied packets sent",
        "of them arrived",
        "exchanges of sessions",
        "longest silence (ms)",
    ];
    let mut table = Table::new("change-misjudged", "Packets misjudged while the policy changes", &columns);
    for (name, setup) in [("at XDP", Setup::HostXdp), ("at TC", Setup::HostTc)] {
        table.rows.push(row(name, setup, changes).context(name)?);
    }
    Ok(table)
}

fn row(name: &str, setup: Setup, changes: u32) -> Result<Vec<Cell>> {
    let rules = |number: u32| {
        format!(
            "inbound: [{INBOUND}, {{allow: tcp/{}, from: [PEER]}}], outbound: [{OUTBOUND}]",
            1000 + number % 50_000
        )
    };
    let arena = Arena::start(setup, &rules(0))?;
    let before = arena.counters()?;
    let vigil = Vigil::begin(&arena)?;
    for number in 1..=changes {
        arena.apply(&rules(number))?;
        vigil.look()?;
        crate::go_on()?;
    }
    let generation = arena.agent.generation()?;
    ensure!(generation > u64::from(changes), "{changes} changes made {generation} generations");
    let seen = vigil.end()?;
    // What nobody sends does not arrive either.
    seen.expect_rate()?;
    ensure!(seen.arrived.is_empty(), "{} denied packets arrived", seen.arrived.len());
    let moved = arena.counters()?.since(&before)?;
    for (direction, sent) in ["inbound", "outbound"].into_iter().zip(seen.sent) {
        let dropped = moved.of(INTERFACE, direction, "no_rule");
        ensure!(
            dropped == sent,
            "{direction}: {sent} denied packets were sent, {dropped} are counted: {moved:?}"
        );
    }
    let longest = seen.silences.iter().map(|(.., length)| length.as_secs_f64()).fold(0.0, f64::max);
    Ok(vec![
        name.into(),
        Cell::Number(changes.into(), 0),
        Cell::Number(seen.sent.iter().sum::<u64>() as f64, 0),
        Cell::Number(seen.arrived.len() as f64, 0),
        Cell::Number(seen.exchanges as f64, 0),
        Cell::Number(longest * 1000.0, 0),
    ])
}
