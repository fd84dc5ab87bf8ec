//! `explain` for people.

use std::io::{self, Write};

use super::{
    Show, Style,
    grid::{
        Column::{Narrow, Text},
        Grid, Tone, field,
    },
};
use crate::view::Explanation;

impl Show for Explanation {
    fn show(&self, out: &mut dyn Write, style: Style) -> io::Result<()> {
        let is_allowed = self.verdict == "allow";
        let verdict = match &self.reason {
            Some(reason) => format!("{}: {reason}", self.verdict),
            None => self.verdict.clone(),
        };
        let tone = if is_allowed { Tone::Good } else { Tone::Bad };
        writeln!(out, "{}", style.paint(tone, &verdict))?;
        if let Some(note) = &self.note {
            field(out, style, "", note)?;
        }
        field(out, style, "packet", &format!("{} ({} on {})", self.tuple, self.direction, self.interface))?;
        if let Some(via) = &self.via {
            field(out, style, "via", via)?;
        }
        if let Some(rule) = &self.rule {
            let id = self.rule_id.as_ref().map_or_else(String::new, |id| format!(" ({id})"));
            let source = self.source.as_deref().unwrap_or("?");
            field(out, style, "rule", &format!("{rule}{id} at {source}"))?;
        }
        if let Some(entry) = &self.entry {
            let mode = self.mode.as_deref().unwrap_or("?");
            field(out, style, "entry", &format!("`{entry}`, {mode}, groups {}", self.groups.join(", ")))?;
        }
        if let Some(generation) = self.generation {
            field(out, style, "generation", &generation.to_string())?;
        }
        if self.rules.is_empty() {
            return Ok(());
        }
        writeln!(out)?;
        let mut grid = Grid::new(style, &[Narrow("RULE", 36), Narrow("SOURCE", 24), Text("SAYS")]);
        for rule in &self.rules {
            let tone = if rule.allows { Tone::Good } else { Tone::Plain };
            let says = if rule.allows { "allows it".to_owned() } else { format!("no match: {}", rule.why) };
            grid.row([(rule.rule.clone(), tone), (rule.source.clone(), Tone::Faint), (says, tone)]);
        }
        grid.write(out)?;
        if !is_allowed && self.rules.iter().any(|rule| rule.allows) {
            writeln!(out, "{}", style.paint(Tone::Faint, "rules are asked after what dropped it"))?;
        }
        Ok(())
    }
}
