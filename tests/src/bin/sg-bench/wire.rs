//! The product on a wire, beside others that enforce the same policy: the real agent, a veth pair for each,
//! packets from within the kernel or from sockets.

pub(crate) mod contender;
pub(crate) mod drops;
mod flood;
pub(crate) mod policy;
mod tcp;

use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::{
    chart::{self, Chart},
    report::{Cell, Report, Table},
    statistics::{median, median_ratio},
};
use contender::Kind;
use tcp::Exchange;

/// Adds the tables and charts.
pub(crate) fn run(is_short: bool, report: &mut Report) -> Result<()> {
    let (drops, chart) = drops_table(if is_short { 3 } else { 9 })?;
    report.add(drops)?;
    report.charts.push(chart);
    report.add(flood_table(Duration::from_millis(if is_short { 500 } else { 3000 }))?)?;
    let (rounds, length) = if is_short { (3, 100) } else { (31, 150) };
    let ([tcp, tcp_at_xdp], chart) = tcp_tables(rounds, Duration::from_millis(length))?;
    report.add(tcp)?;
    report.add(tcp_at_xdp)?;
    report.charts.push(chart);
    Ok(())
}

fn drops_table(rounds: usize) -> Result<(Table, Chart)> {
    let few = drops::measure(&policy::networks(10), rounds).context("10 prefixes")?;
    let many = drops::measure(&policy::networks(100_000), rounds).context("100 000 prefixes")?;
    let columns = [
        "",
        "10 prefixes (M/s)",
        "of the floor",
        "times nftables",
        "100 000 prefixes (M/s)",
        "of the floor",
        "times nftables",
    ];
    let mut table = Table::new("wire-drops", "Dropped on one core, packets a second", &columns);
    for (index, kind) in drops::KINDS.iter().enumerate() {
        let mut row = vec![Cell::from(kind.name())];
        for rates in [&few, &many] {
            row.push(Cell::Number(median(&rates[index]) / 1e6, 2));
            // `KINDS` begins with what drops everything at XDP.
            row.push(Cell::Number(median_ratio(&rates[index], &rates[0]), 2));
            row.push(Cell::Number(median_ratio(&rates[index], best_nftables(rates)), 1));
        }
        table.rows.push(row);
    }
    let bars: Vec<_> =
        drops::KINDS.iter().zip(&many).map(|(kind, rates)| (kind.name().to_owned(), median(rates))).collect();
    let chart = chart::bars("wire-drops", "Dropped on one core, 100 000 prefixes", "packets/s", &bars);
    Ok((table, chart))
}

/// The rates of the form of nftables' rules that drops most.
fn best_nftables(rates: &[Vec<f64>]) -> &[f64] {
    let forms = drops::KINDS.iter().zip(rates).filter(|(kind, _)| matches!(kind, Kind::Nftables(_)));
    let best = forms.max_by(|(_, one), (_, other)| median(one).total_cmp(&median(other)));
    best.map_or(&[], |(_, rates)| rates)
}

fn flood_table(length: Duration) -> Result<Table> {
    let columns = ["", "SYNs a second (k/s)", "connections tried", "made", "session of before"];
    let mut table = Table::new("wire-flood", "A SYN flood on an open port", &columns);
    for flooded in flood::measure(length)? {
        let (tried, made) = flooded.connections;
        table.rows.push(vec![
            flooded.kind.name().into(),
            Cell::Number(flooded.rate / 1e3, 0),
            Cell::Number(tried.into(), 0),
            Cell::Number(made.into(), 0),
            if flooded.is_alive { "alive" } else { "cut" }.into(),
        ]);
    }
    Ok(table)
}

fn tcp_tables(rounds: usize, length: Duration) -> Result<([Table; 2], Chart)> {
    let columns = |base: &'static str| ["", "Gbit/s", base, "requests/s", base, "connections/s", base];
    let mut tables = [
        Table::new("wire-tcp", "TCP beside no firewall", &columns("of no firewall")),
        Table::new(
            "wire-tcp-xdp",
            "TCP beside an XDP program that passes everything",
            &columns("of passing"),
        ),
    ];
    let measured = tcp::measure(rounds, length)?;
    let mut bars = Vec::new();
    let mut base = 0;
    for (index, kind) in tcp::KINDS.iter().enumerate() {
        // What passes everything begins the second table.
        let is_second = base > 0 || *kind == Kind::XdpPass;
        base = if *kind == Kind::XdpPass { index } else { base };
        let mut row = vec![Cell::from(kind.name())];
        for (exchange, rates) in &measured {
            let (scale, digits) = if *exchange == Exchange::Throughput { (8e-9, 2) } else { (1.0, 0) };
            row.push(Cell::Number(median(&rates[index]) * scale, digits));
            row.push(Cell::Number(median_ratio(&rates[index], &rates[base]), 3));
            if *exchange == Exchange::ConnectRequestResponse {
                bars.push((kind.name().to_owned(), median(&rates[index])));
            }
        }
        tables[usize::from(is_second)].rows.push(row);
    }
    Ok((tables, chart::bars("wire-tcp", "Connect, request, response", "connections/s", &bars)))
}
