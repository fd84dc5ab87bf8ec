//! What a packet costs: the shipped programs under test-run, on packets that differ, less an empty program
//! that is called in the same way. Rounds of both take turns; a figure is the difference of the medians.

pub(crate) mod cases;
pub(crate) mod stand;

use anyhow::Result;
use sg_tests::{
    programs::{Programs, Sizes},
    syscall::handmade::Kind as Hook,
};

use crate::{
    chart::{self, Line},
    report::{self, Cell, Report, Table},
    statistics::median,
};
use cases::{Case, Kind};
use stand::{Stand, Subject};

/// Rows of all tables: a family at a hook.
const WAYS: [(&str, bool, Hook); 4] = [
    ("IPv4, XDP", false, Hook::Xdp),
    ("IPv6, XDP", true, Hook::Xdp),
    ("IPv4, TC", false, Hook::Tc),
    ("IPv6, TC", true, Hook::Tc),
];

/// Adds the tables and charts.
pub(crate) fn run(is_short: bool, report: &mut Report) -> Result<()> {
    let rounds = if is_short { 3 } else { 7 };
    let sizes: &[u32] = if is_short { &[10, 100_000] } else { &[10, 100, 1000, 10_000, 100_000, 1_000_000] };
    let counts: &[u32] = if is_short { &[1, 10_000] } else { &[1, 10, 100, 1000, 10_000] };
    let flows: &[u32] = if is_short { &[1, 65_536] } else { &[1, 1024, 65_536, 1 << 20] };
    let named = |number: &u32| report::number((*number).into(), 0);

    let by_prefixes: Vec<_> = sizes.iter().map(|n| (named(n), Kind::Denied, *n, 1)).collect();
    let by_rules: Vec<_> = counts.iter().map(|n| (named(n), Kind::DeniedPort, 1024, *n)).collect();
    let by_flows = flows.iter().map(|n| (named(n), Kind::Established(*n), 1000, 1));
    let others =
        [("new, entered".to_owned(), Kind::New, 1000, 1), ("untracked".to_owned(), Kind::Untracked, 1000, 1)];
    let by_flows: Vec<_> = by_flows.chain(others).collect();

    let table = |id, title, across, columns: &[Column]| table(id, title, across, columns, rounds);
    let prefixes = table("program-prefixes", "Denied, by prefixes (ns)", "prefixes", &by_prefixes)?;
    let title = "A denied packet, by prefixes";
    report.charts.push(chart::lines(prefixes.id, title, "prefixes", "ns", &points(&prefixes, sizes)));
    report.add(prefixes)?;
    let title = "Denied from within 1 024 prefixes, by rules (ns)";
    let rules = table("program-rules", title, "rules", &by_rules)?;
    report.charts.push(chart::lines(
        rules.id,
        "A denied packet, by rules",
        "rules",
        "ns",
        &points(&rules, counts),
    ));
    report.add(rules)?;
    let title = "Established, by flows; new; untracked (ns)";
    let established = table("program-flows", title, "flows", &by_flows)?;
    let title = "A packet of a random flow, by flows";
    report.charts.push(chart::lines(established.id, title, "flows", "ns", &points(&established, flows)));
    report.add(established)?;
    report.add(verified()?)?;
    Ok(())
}

/// A column's name, and its packets, prefixes and rules.
type Column = (String, Kind, u32, u32);

fn table(
    id: &'static str,
    title: &'static str,
    across: &'static str,
    columns: &[Column],
    rounds: usize,
) -> Result<Table> {
    let mut table = Table::new(id, title, &[across]);
    table.columns.extend(columns.iter().map(|(name, ..)| name.clone()));
    for (name, is_v6, hook) in WAYS {
        let mut row = vec![Cell::from(name)];
        for &(_, kind, prefixes, rules) in columns {
            row.push(Cell::Number(cost(Case { kind, is_v6, hook, prefixes, rules }, rounds)?, 0));
        }
        table.rows.push(row);
    }
    Ok(table)
}

fn cost(case: Case, rounds: usize) -> Result<f64> {
    let mut stand = Stand::new(case, 400_000)?;
    let (mut empty, mut shipped) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        empty.push(stand.round(Subject::Empty)?);
        shipped.push(stand.round(Subject::Shipped)?);
    }
    Ok(median(&shipped) - median(&empty))
}

/// The rows as lines over `across`; columns behind those are no points of them.
fn points(table: &Table, across: &[u32]) -> Vec<Line> {
    let line = |row: &Vec<Cell>| {
        let Some((Cell::Text(name), cells)) = row.split_first() else { return (String::new(), vec![]) };
        let points = across.iter().zip(cells).filter_map(|(x, cell)| match cell {
            Cell::Number(y, _) => Some((f64::from(*x), *y)),
            Cell::Text(_) | Cell::Empty => None,
        });
        (name.clone(), points.collect())
    };
    table.rows.iter().map(line).collect()
}

/// How many instructions the verifier goes through.
fn verified() -> Result<Table> {
    let sizes = Sizes { nodes: 16, buckets: 2, rules: 1 };
    let mut table = Table::new(
        "program-verified",
        "Instructions that the verifier goes through",
        &["program", "instructions"],
    );
    for (program, count) in Programs::load(sg_agent::kernel::object(), sizes)?.verified_instructions()? {
        table.rows.push(vec![format!("`{program}`").into(), Cell::Number(count.into(), 0)]);
    }
    Ok(table)
}
