//! `unlock` for people.

use std::io::{self, Write};

use super::{Show, Style, grid::Tone, numbers::counted};
use crate::view::Unlocking;

impl Show for Unlocking {
    fn show(&self, out: &mut dyn Write, style: Style) -> io::Result<()> {
        for port in &self.unlocked {
            writeln!(out, "{}", style.paint(Tone::Bad, &format!("open: {port}")))?;
        }
        match (self.unlocked.is_empty(), self.ended) {
            (true, 0) => writeln!(out, "nothing was open past the policy"),
            (true, ended) => writeln!(out, "closed: {}", counted(ended, "port")),
            (false, _) => writeln!(out, "`sg-agent unlock --end` closes it earlier"),
        }
    }
}
