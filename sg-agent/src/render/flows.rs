//! `flows` for people.

use std::io::{self, Write};

use super::{
    Show, Style,
    grid::{
        Column::{Narrow, Number, Text},
        Grid, Tone, plain,
    },
    numbers::{count, counted},
};
use crate::view::{Flow, FlowList};

impl Show for FlowList {
    fn show(&self, out: &mut dyn Write, style: Style) -> io::Result<()> {
        writeln!(
            out,
            "{}",
            style.paint(
                Tone::Faint,
                &format!("generation {}, {}", self.generation, counted(self.flows.len() as u64, "flow"))
            )
        )?;
        if self.flows.is_empty() {
            return Ok(());
        }
        let columns = [
            Narrow("INTERFACE", 15),
            Narrow("FLOW", 44),
            Text("STATE"),
            Number("IN"),
            Number("OUT"),
            Number("IDLE"),
        ];
        let mut grid = Grid::new(style, &columns);
        for flow in &self.flows {
            grid.row([
                plain(flow.interface.clone()),
                plain(tuple(flow)),
                plain(flow.state.clone()),
                plain(count(flow.inbound_packets)),
                plain(count(flow.outbound_packets)),
                plain(format!("{} s", flow.idle_seconds)),
            ]);
        }
        grid.write(out)
    }
}

/// Opener first: `tcp 192.0.2.1:40000 -> 10.0.0.1:443`.
fn tuple(flow: &Flow) -> String {
    let end = |address: &str, port: u16| match (port, address.contains(':')) {
        (0, _) => address.to_owned(),
        (port, false) => format!("{address}:{port}"),
        (port, true) => format!("[{address}]:{port}"),
    };
    let is_icmp = flow.protocol.starts_with("icmp");
    let id = if is_icmp { format!(" id {}", flow.local_port) } else { String::new() };
    let local = end(&flow.local, if is_icmp { 0 } else { flow.local_port });
    let remote = end(&flow.remote, flow.remote_port);
    let (from, to) = if flow.direction == "inbound" { (remote, local) } else { (local, remote) };
    format!("{} {from} -> {to}{id}", flow.protocol)
}
