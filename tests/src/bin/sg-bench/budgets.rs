//! What was promised beside what was measured: each figure is one of the other tables, or the ratio of two.

use crate::report::{Cell, Report, Table};

/// Where a figure stands: table, row by its name's beginning, column.
type Place = (&'static str, &'static str, usize);

/// How far it may go.
#[derive(Clone, Copy, Debug)]
enum Bound {
    Most(f64),
    Least(f64),
}

use Bound::{Least, Most};

const PREFIXES: &str = "program-prefixes";
const FLOWS: &str = "program-flows";
const XDP: &str = "IPv4, XDP";
const OURS_TC: &str = "sg-agent at TC";
const OURS_XDP: &str = "sg-agent at XDP";

/// A promise, its figure, by what other figure it is told, and its bound.
const BUDGETS: [(&str, Place, Option<Place>, Bound); 24] = [
    ("denied at 10 prefixes (ns)", (PREFIXES, XDP, 1), None, Most(45.0)),
    ("denied at 100 000 prefixes (ns)", (PREFIXES, XDP, 5), None, Most(80.0)),
    ("denied, 100 000 prefixes by 10", (PREFIXES, XDP, 5), Some((PREFIXES, XDP, 1)), Most(2.5)),
    ("denied, 10 000 rules by 10", ("program-rules", XDP, 5), Some(("program-rules", XDP, 2)), Most(1.3)),
    ("established, one flow (ns)", (FLOWS, XDP, 1), None, Most(60.0)),
    ("established, 65 536 flows (ns)", (FLOWS, XDP, 3), None, Most(150.0)),
    ("established, a million flows (ns)", (FLOWS, XDP, 4), None, Most(250.0)),
    ("new, entered (ns)", (FLOWS, XDP, 5), None, Most(300.0)),
    ("dropped at XDP, by nftables' best", ("wire-drops", OURS_XDP, 6), None, Least(10.0)),
    ("dropped at XDP, by the floor", ("wire-drops", OURS_XDP, 5), None, Least(0.7)),
    ("throughput at TC, by no firewall", ("wire-tcp", OURS_TC, 2), None, Least(0.97)),
    ("request and response at TC, by no firewall", ("wire-tcp", OURS_TC, 4), None, Least(0.97)),
    ("connect, request, response at TC, by no firewall", ("wire-tcp", OURS_TC, 6), None, Least(0.95)),
    ("throughput at XDP, by passing everything", ("wire-tcp-xdp", OURS_XDP, 2), None, Least(0.97)),
    ("request and response at XDP, by passing everything", ("wire-tcp-xdp", OURS_XDP, 4), None, Least(0.97)),
    (
        "connect, request, response at TC, by nftables",
        ("wire-tcp", OURS_TC, 5),
        Some(("wire-tcp", "nftables", 5)),
        Least(1.0),
    ),
    ("`apply`, 1 000 rules (ms)", ("change", "`apply`, 1000 rules", 1), None, Most(20.0)),
    (
        "`apply`, 10 000 rules over 100 000 prefixes (ms)",
        ("change", "`apply`, 10000 rules", 1),
        None,
        Most(150.0),
    ),
    ("an address joins a group of 100 000 (ms)", ("change", "an address joins", 1), None, Most(10.0)),
    ("the agent's memory at 100 000 prefixes (MiB)", ("change", "`apply`, 10000 rules", 5), None, Most(50.0)),
    ("denied packets that arrived at XDP", ("change-misjudged", "at XDP", 3), None, Most(0.0)),
    ("denied packets that arrived at TC", ("change-misjudged", "at TC", 3), None, Most(0.0)),
    ("image (octets a prefix)", ("scale-memory", "prefix", 1), None, Most(16.0)),
    ("flow (octets)", ("scale-memory", "flow", 2), None, Most(160.0)),
];

/// Every promise whose figure is in the report, which is of the whole form.
pub(crate) fn table(report: &Report) -> Table {
    let mut table = Table::new("budgets", "Budgets", &["", "promised", "measured", "met"]);
    for (what, place, base, bound) in BUDGETS {
        let by = base.map_or(Some(1.0), |base| figure(report, base));
        let Some(measured) = figure(report, place).zip(by).map(|(figure, by)| figure / by) else { continue };
        let (word, limit, is_met) = match bound {
            Most(limit) => ("≤", limit, measured <= limit),
            Least(limit) => ("≥", limit, measured >= limit),
        };
        let digits = if limit < 20.0 { 2 } else { 0 };
        table.rows.push(vec![
            what.into(),
            format!("{word} {limit}").into(),
            Cell::Number(measured, digits),
            if is_met { "yes" } else { "no" }.into(),
        ]);
    }
    table
}

fn figure(report: &Report, (id, name, column): Place) -> Option<f64> {
    let table = report.tables.iter().find(|table| table.id == id)?;
    let is_named = |row: &&Vec<Cell>| matches!(row.first(), Some(Cell::Text(text)) if text.starts_with(name));
    match table.rows.iter().find(is_named)?.get(column)? {
        Cell::Number(number, _) => Some(*number),
        Cell::Text(_) | Cell::Empty => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_promise_is_kept_or_not_and_what_was_not_measured_is_left_out() {
        let mut prefixes = Table::new(PREFIXES, "", &["", "10", "100", "1 000", "10 000", "100 000"]);
        let figures = [40.0, 50.0, 60.0, 70.0, 120.0].map(|figure| Cell::Number(figure, 0));
        prefixes.rows.push([vec![XDP.into()], figures.to_vec()].concat());
        let report = Report { tables: vec![prefixes], charts: vec![] };
        let met: Vec<_> = table(&report).rows.into_iter().map(|row| row[3].clone()).collect();
        assert_eq!(met, ["yes", "no", "no"].map(Cell::from));
    }
}
