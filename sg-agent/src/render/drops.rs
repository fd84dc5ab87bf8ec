//! `drops` for people: one line a packet.

use std::io::{self, Write};

use super::{Show, Style, grid::Tone};
use crate::view::Drop;

impl Show for Drop {
    fn show(&self, out: &mut dyn Write, style: Style) -> io::Result<()> {
        let end = |address: &Option<String>, port: u16| match (address, port) {
            (None, _) => "?".to_owned(),
            (Some(address), 0) => address.clone(),
            (Some(address), port) if address.contains(':') => format!("[{address}]:{port}"),
            (Some(address), port) => format!("{address}:{port}"),
        };
        let Self { time, interface, direction, reason, length, .. } = self;
        let protocol = self.protocol.as_deref().unwrap_or("unreadable");
        let (source, destination) =
            (end(&self.source, self.source_port), end(&self.destination, self.destination_port));
        let verdict = if self.audited { format!("would drop: {reason}") } else { reason.clone() };
        writeln!(
            out,
            "{} {interface} {direction} {protocol} {source} -> {destination} {} {length}",
            style.paint(Tone::Faint, time),
            style.paint(Tone::Bad, &verdict)
        )
    }
}
