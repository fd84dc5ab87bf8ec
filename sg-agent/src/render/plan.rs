//! `plan` for people: `+` what comes, `-` what goes, `~` what becomes something else.

use std::io::{self, Write};

use super::{
    Show, Style,
    grid::{Tone, WIDTH, wrap},
    numbers::{bytes, count, counted},
};
use crate::view::{
    AccessChange, AccessLine, Coverage, CutFlow, FlowChange, Plan, PlannedInterface, PlannedRule,
    RuleChanges, SettingChange, Size,
};

/// Services or addresses of a line that are shown; further ones are counted.
const SHOWN: usize = 12;

/// Lines of a list that are shown; further ones are counted.
const LINES: usize = 40;

impl Show for Plan {
    fn show(&self, out: &mut dyn Write, style: Style) -> io::Result<()> {
        let generation = match self.generation {
            0 => "nothing is in force".to_owned(),
            number => format!("generation {number} is in force"),
        };
        if !self.changed {
            let text = format!("nothing would change: {generation}");
            writeln!(out, "{}", style.paint(Tone::Good, &text))?;
            return kept(out, &self.flows);
        }
        writeln!(out, "{}", style.paint(Tone::Faint, &generation))?;
        self.show_changes(out, style, "would end")?;
        let mut lines = Lines { out, style };
        lines.title("SIZE")?;
        let (now, then) = (&self.size.now, &self.size.then);
        lines.plain(&format!("now {}, then {}", size(now), size(then)))
    }
}

impl Plan {
    /// What changes; flows are told to `end` as a verb does.
    pub(super) fn show_changes(&self, out: &mut dyn Write, style: Style, end: &str) -> io::Result<()> {
        let mut lines = Lines { out, style };
        if !self.interfaces.is_empty() {
            lines.title("INTERFACES")?;
            lines.list(&self.interfaces, Lines::interface)?;
        }
        if !self.access.is_empty() {
            lines.title("ACCESS")?;
            lines.list(&self.access, Lines::access)?;
        }
        let RuleChanges { added, removed, changed } = &self.rules;
        if [added, removed, changed].iter().any(|rules| !rules.is_empty()) {
            lines.title("RULES")?;
            lines.list(added, |lines, rule| lines.rule(Sign::Comes, rule))?;
            lines.list(removed, |lines, rule| lines.rule(Sign::Goes, rule))?;
            lines.list(changed, |lines, rule| lines.rule(Sign::Differs, rule))?;
        }
        lines.title("FLOWS")?;
        lines.flows(&self.flows, end)
    }
}

fn size(of: &Size) -> String {
    let Size { bytes: image, rules, prefixes } = *of;
    format!(
        "{} ({}, {})",
        bytes(image as u64),
        counted(rules as u64, "rule"),
        counted(prefixes as u64, "prefix")
    )
}

fn kept(out: &mut dyn Write, flows: &FlowChange) -> io::Result<()> {
    let (flows, live) = match flows.kept {
        0 => return Ok(()),
        1 => (counted(1, "flow"), "it lives"),
        kept => (counted(kept, "flow"), "they live"),
    };
    writeln!(out, "{flows} no rule admits any more: on_change is keep, so {live} on")
}

/// What a line tells.
#[derive(Clone, Copy)]
enum Sign {
    Comes,
    Goes,
    Differs,
}

impl Sign {
    const fn mark(self) -> (char, Tone) {
        match self {
            Self::Comes => ('+', Tone::Good),
            Self::Goes => ('-', Tone::Bad),
            Self::Differs => ('~', Tone::Plain),
        }
    }
}

/// Where lines go.
struct Lines<'a> {
    out: &'a mut dyn Write,
    style: Style,
}

impl Lines<'_> {
    fn title(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "{}", self.style.paint(Tone::Title, text))
    }

    fn plain(&mut self, text: &str) -> io::Result<()> {
        for line in wrap(text, usize::from(WIDTH)) {
            writeln!(self.out, "{line}")?;
        }
        Ok(())
    }

    /// `+ text`, what does not fit indented below.
    fn signed(&mut self, sign: Sign, text: &str) -> io::Result<()> {
        const INDENT: usize = 4;
        let (mark, tone) = sign.mark();
        for (index, line) in wrap(text, usize::from(WIDTH) - INDENT).iter().enumerate() {
            let line = match index {
                0 => format!("{mark} {line}"),
                _ => format!("{:INDENT$}{line}", ""),
            };
            writeln!(self.out, "{}", self.style.paint(tone, &line))?;
        }
        Ok(())
    }

    fn list<T>(
        &mut self,
        items: &[T],
        mut write: impl FnMut(&mut Self, &T) -> io::Result<()>,
    ) -> io::Result<()> {
        for item in items.iter().take(LINES) {
            write(self, item)?;
        }
        match items.len().saturating_sub(LINES) {
            0 => Ok(()),
            more => self.plain(&format!("… and {} more", count(more as u64))),
        }
    }

    fn interface(&mut self, interface: &PlannedInterface) -> io::Result<()> {
        let PlannedInterface { name, coverage, settings } = interface;
        match coverage {
            Coverage::Begins => {
                let text = format!("{name} is covered from then on: only what its rules allow passes");
                self.signed(Sign::Comes, &text)
            }
            Coverage::Ends => {
                self.signed(Sign::Goes, &format!("{name} is not covered any more: everything passes"))
            }
            Coverage::Stays => {
                for SettingChange { name: setting, before, after } in settings {
                    self.signed(Sign::Differs, &format!("{name} {setting}: {before} -> {after}"))?;
                }
                Ok(())
            }
        }
    }

    fn access(&mut self, change: &AccessChange) -> io::Result<()> {
        let AccessChange { interfaces, direction, gains, losses } = change;
        self.plain(&format!("{} {direction}", shown(interfaces, 0)))?;
        let preposition = if direction == "inbound" { "from" } else { "to" };
        self.list(gains, |lines, line| lines.line(Sign::Comes, preposition, line))?;
        self.list(losses, |lines, line| lines.line(Sign::Goes, preposition, line))
    }

    fn line(&mut self, sign: Sign, preposition: &str, line: &AccessLine) -> io::Result<()> {
        let AccessLine { services, addresses, more_addresses } = line;
        let text = format!("{} {preposition} {}", shown(services, 0), shown(addresses, *more_addresses));
        self.signed(sign, &text)
    }

    fn rule(&mut self, sign: Sign, rule: &PlannedRule) -> io::Result<()> {
        let PlannedRule { rule, id, source, says, was } = rule;
        let id = id.as_ref().map_or_else(String::new, |id| format!(" ({id})"));
        let was = was.as_ref().map_or_else(String::new, |was| format!("; it was: {was}"));
        self.signed(sign, &format!("{rule}{id} {source}: {says}{was}"))
    }

    fn flows(&mut self, flows: &FlowChange, end: &str) -> io::Result<()> {
        let FlowChange { live, cut, kept: _, first } = flows;
        let text = match cut {
            0 => format!("none of {} {end}", counted(*live, "live flow")),
            _ => format!("{} of {} {end}:", count(*cut), counted(*live, "live flow")),
        };
        self.plain(&text)?;
        for flow in first {
            self.flow(flow)?;
        }
        match cut.saturating_sub(first.len() as u64) {
            0 => {}
            more => self.plain(&format!("… and {} more", count(more)))?,
        }
        kept(self.out, flows)
    }

    fn flow(&mut self, flow: &CutFlow) -> io::Result<()> {
        let end = |address: &str, port: u16| match (port, address.contains(':')) {
            (0, _) => address.to_owned(),
            (port, false) => format!("{address}:{port}"),
            (port, true) => format!("[{address}]:{port}"),
        };
        let why = match &flow.rule {
            Some(rule) => format!("{rule} admitted it"),
            None => "no rule admitted it: it was open before".to_owned(),
        };
        let text = format!(
            "{} {} {} {} -> {}: {why}",
            flow.interface,
            flow.direction,
            flow.protocol,
            end(&flow.source, flow.source_port),
            end(&flow.destination, flow.destination_port),
        );
        self.signed(Sign::Goes, &text)
    }
}

/// The first of `items`, and how many more there are.
fn shown(items: &[String], uncounted: u64) -> String {
    let text = items.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    match items.len().saturating_sub(SHOWN) as u64 + uncounted {
        0 => text,
        more => format!("{text} … and {} more", count(more)),
    }
}
