//! `apply` and `detach` for people.

use std::io::{self, Write};

use super::{
    Show, Style,
    grid::{Tone, wrap},
    numbers::{bytes, counted},
};
use crate::view::{Applied, Detached};

impl Show for Applied {
    fn show(&self, out: &mut dyn Write, style: Style) -> io::Result<()> {
        let Self { generation, interfaces, .. } = self;
        if let Some(plan) = self.plan.as_ref().filter(|plan| plan.changed || plan.flows.kept > 0) {
            plan.show_changes(out, style, "ended")?;
            writeln!(out)?;
        }
        if !self.changed {
            writeln!(
                out,
                "{}",
                style.paint(Tone::Good, &format!("generation {generation} is in force already"))
            )?;
            return interfaces_line(out, interfaces);
        }
        writeln!(out, "{}", style.paint(Tone::Good, &format!("generation {generation} is in force")))?;
        writeln!(
            out,
            "{}, {}, {}; compiled in {:.1} ms to {}, published in {:.1} ms",
            counted(self.groups as u64, "group"),
            counted(self.rules as u64, "rule"),
            counted(self.prefixes as u64, "prefix"),
            self.compile_ms,
            bytes(self.bytes as u64),
            self.publish_ms
        )?;
        if let Some(until) = &self.confirm_by {
            let text =
                format!("the former policy comes back at {until} unless `sg-agent confirm` comes before");
            writeln!(out, "{}", style.paint(Tone::Bad, &text))?;
        }
        interfaces_line(out, interfaces)
    }
}

fn interfaces_line(out: &mut dyn Write, interfaces: &[String]) -> io::Result<()> {
    let text = match interfaces {
        [] => "no interface matches an entry: nothing is enforced".to_owned(),
        _ => format!("enforced on {}", interfaces.join(", ")),
    };
    for line in wrap(&text, 100) {
        writeln!(out, "{line}")?;
    }
    Ok(())
}

impl Show for Detached {
    fn show(&self, out: &mut dyn Write, _: Style) -> io::Result<()> {
        let names = match &self.interfaces[..] {
            [] => "nothing was attached".to_owned(),
            names => format!("no longer enforced on {}", names.join(", ")),
        };
        let rest = if self.all { "; nothing is left in the kernel" } else { "" };
        for line in wrap(&format!("{names}{rest}"), 100) {
            writeln!(out, "{line}")?;
        }
        Ok(())
    }
}
