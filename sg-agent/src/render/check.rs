//! `check` for people: its diagnostics go to standard error, this is the sum.

use std::io::{self, Write};

use super::{
    Show, Style,
    numbers::{bytes, counted},
};
use crate::view::Check;

impl Show for Check {
    fn show(&self, out: &mut dyn Write, _: Style) -> io::Result<()> {
        if !self.errors.is_empty() {
            return Ok(());
        }
        writeln!(
            out,
            "valid: {}, {}, {}, {}",
            counted(self.groups as u64, "group"),
            counted(self.rules as u64, "rule"),
            counted(self.prefixes as u64, "prefix"),
            counted(self.warnings.len() as u64, "warning")
        )?;
        writeln!(
            out,
            "read in {:.1} ms, compiled in {:.1} ms to {}",
            self.read_ms,
            self.compile_ms,
            bytes(self.bytes as u64)
        )
    }
}
