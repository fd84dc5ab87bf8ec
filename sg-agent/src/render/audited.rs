//! `plan --audited` for people.

use std::io::{self, Write};

use super::{
    Show, Style,
    grid::{
        Column::{Narrow, Number, Whole},
        Grid, Tone, plain,
    },
    numbers::{count, counted},
};
use crate::view::{Audited, AuditedTraffic};

/// Addresses of a line that are shown; further ones are counted.
const SHOWN: usize = 3;

impl Show for Audited {
    fn show(&self, out: &mut dyn Write, style: Style) -> io::Result<()> {
        if self.is_full {
            let text =
                "more kinds of traffic were seen than are remembered; the longest unseen are forgotten";
            writeln!(out, "{}", style.paint(Tone::Bad, text))?;
        }
        let passes = counted(self.passes.packets, "packet");
        if !self.loses {
            let text = format!("nothing that was seen under audit would be lost; {passes} would pass by now");
            return writeln!(out, "{}", style.paint(Tone::Good, &text));
        }
        let columns = [
            Narrow("INTERFACE", 17),
            Whole("DIRECTION"),
            Narrow("SERVICE", 22),
            Narrow("REASON", 16),
            Number("PACKETS"),
            Narrow("LAST SEEN (UTC)", 21),
        ];
        let mut grid = Grid::new(style, &columns);
        for traffic in &self.lost {
            grid.row([
                (traffic.interface.clone(), Tone::Title),
                plain(traffic.direction.clone()),
                plain(service(traffic)),
                plain(traffic.reason.clone()),
                (count(traffic.packets), Tone::Bad),
                (traffic.last_seen.trim_end_matches('Z').replace('T', " "), Tone::Plain),
            ]);
        }
        grid.write(out)?;
        writeln!(out)?;
        for traffic in &self.lost {
            let preposition = if traffic.direction == "inbound" { "from" } else { "to" };
            if traffic.remotes.is_empty() {
                continue;
            }
            let text =
                format!("{} {} {preposition} {}", traffic.interface, service(traffic), remotes(traffic));
            for (index, line) in
                super::grid::wrap(&text, usize::from(super::grid::WIDTH) - 4).iter().enumerate()
            {
                let indent = if index == 0 { "" } else { "    " };
                writeln!(out, "{indent}{line}")?;
            }
        }
        writeln!(out, "{passes} would pass by now")
    }
}

fn service(traffic: &AuditedTraffic) -> String {
    traffic.service.clone().unwrap_or_else(|| "unreadable".to_owned())
}

fn remotes(traffic: &AuditedTraffic) -> String {
    let shown = traffic.remotes.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>();
    match traffic.remote_count.saturating_sub(shown.len() as u64) {
        0 => shown.join(", "),
        more => format!("{} … and {} more", shown.join(", "), count(more)),
    }
}
