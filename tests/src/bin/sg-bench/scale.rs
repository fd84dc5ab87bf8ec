//! More of everything: interfaces, flows, prefixes, rules; what it costs in time and memory, with the real
//! agent.

mod attachments;
mod flows;
mod weight;

use anyhow::{Context as _, Result};

use crate::report::Report;

/// Adds the tables.
pub(crate) fn run(is_short: bool, report: &mut Report) -> Result<()> {
    let (interfaces, flows): (&[u32], _) =
        if is_short { (&[1, 100], 1 << 17) } else { (&[1, 100, 1000], 1_000_000) };
    let rounds = if is_short { 3 } else { 7 };
    let (attachments, per_attachment) = attachments::table(interfaces, rounds).context("attachments")?;
    report.add(attachments)?;
    let (many_flows, per_flow) = flows::table(flows, rounds).context("flows")?;
    report.add(many_flows)?;
    report.add(weight::table(per_attachment, per_flow).context("memory")?)?;
    Ok(())
}
