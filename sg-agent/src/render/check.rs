//! `check` for people: its diagnostics go to standard error, this is the sum.

use std::io::{self, Write};

use super::{
    Show, Style,
    numbers::{bytes, count},
};
use crate::view::Check;

impl Show for Check {
    fn show(&self, out: &mut dyn Write, _: Style) -> io::Result<()> {
        if !self.errors.is_empty() {
            return Ok(());
        }
        writeln!(
            out,
            "valid: {} groups, {} rules, {} prefixes, {} warnings",
            count(self.groups as u64),
            count(self.rules as u64),
            count(self.prefixes as u64),
            count(self.warnings.len() as u64)
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
