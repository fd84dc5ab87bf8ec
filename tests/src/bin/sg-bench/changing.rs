//! The part about changes of policy: what they cost here and with others, and that nothing is misjudged
//! meanwhile.

use anyhow::Result;

use crate::{
    change::{self, Change},
    chart, misjudged, peers,
    report::{Cell, Report, Table},
};

/// Adds the tables and the chart.
pub(crate) fn run(is_short: bool, report: &mut Report) -> Result<()> {
    let (ours, others, changes) = if is_short { (3, 2, 50) } else { (11, 5, 1000) };
    let own = own(ours)?;
    let mut bars = bars(&own);
    report.add(own)?;
    let peers = peers::table(others)?;
    bars.extend(self::bars(&peers));
    report.add(peers)?;
    report.add(misjudged::table(changes)?)?;
    report.charts.push(chart::bars("change", "A change of policy", "ms", &bars));
    Ok(())
}

/// The medians by what they are of.
fn bars(table: &Table) -> Vec<(String, f64)> {
    let bar = |row: &Vec<Cell>| match row.as_slice() {
        [Cell::Text(what), Cell::Number(median, _), ..] => Some((what.replace('`', ""), *median)),
        _ => None,
    };
    table.rows.iter().filter_map(bar).collect()
}

fn own(times: u32) -> Result<Table> {
    let columns = [
        "",
        "median (ms)",
        "most (ms)",
        "of which compiling (ms)",
        "writing, reading back and the flip (ms)",
        "the agent's memory (MiB)",
    ];
    let mut table = Table::new("change", "Changing a policy", &columns);
    for Change { what, milliseconds: [median, most], of_which, memory } in change::changes(times)? {
        let [compile, publish] =
            of_which.map_or([Cell::Empty, Cell::Empty], |parts| parts.map(|part| Cell::Number(part, 1)));
        table.rows.push(vec![
            what.into(),
            Cell::Number(median, 1),
            Cell::Number(most, 1),
            compile,
            publish,
            Cell::Number(memory, 0),
        ]);
    }
    Ok(table)
}
