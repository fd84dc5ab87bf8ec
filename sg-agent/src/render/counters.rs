//! `counters` for people, in each grouping.

use std::io::{self, Write};

use sg_common::verdict::AllowReason;

use super::{
    Show, Style,
    grid::{
        Column::{Narrow, Number, Text, Whole},
        Grid, Tone, plain,
    },
    numbers::count,
};
use crate::view::{Amount, ByGroup, ByInterface, ByReason, ByRule, Counters, DirectionCounters, RuleAmount};

impl Show for Counters {
    fn show(&self, out: &mut dyn Write, style: Style) -> io::Result<()> {
        match self {
            Self::Interfaces(by) => by_interface(out, style, by),
            Self::Rules(by) => by_rule(out, style, by),
            Self::Groups(by) => by_group(out, style, by),
            Self::Reasons(by) => by_reason(out, style, by),
        }
    }
}

fn title(out: &mut dyn Write, style: Style, generation: u64) -> io::Result<()> {
    writeln!(out, "{}", style.paint(Tone::Faint, &format!("generation {generation}")))
}

fn amount(Amount { packets, bytes }: Amount, tone: Tone) -> [(String, Tone); 2] {
    let tone = if packets == 0 { Tone::Faint } else { tone };
    [(count(packets), tone), (count(bytes), tone)]
}

fn by_interface(out: &mut dyn Write, style: Style, by: &ByInterface) -> io::Result<()> {
    title(out, style, by.generation)?;
    if by.interfaces.is_empty() {
        return writeln!(out, "nothing is enforced on any interface");
    }
    let columns = [
        Narrow("INTERFACE", 17),
        Whole("DIRECTION"),
        Number("ALLOWED"),
        Number("BYTES"),
        Number("DROPPED"),
        Number("BYTES"),
        Narrow("WHY", 30),
    ];
    let mut grid = Grid::new(style, &columns);
    for interface in &by.interfaces {
        let name = match interface.mode.as_str() {
            "audit" => format!("{} (audit)", interface.name),
            _ => interface.name.clone(),
        };
        for (name, direction, counters) in
            [(name.as_str(), "inbound", &interface.inbound), ("", "outbound", &interface.outbound)]
        {
            let [allowed, allowed_bytes] = amount(counters.allowed, Tone::Plain);
            let [dropped, dropped_bytes] = amount(counters.dropped, Tone::Bad);
            grid.row([
                (name.to_owned(), Tone::Title),
                plain(direction),
                allowed,
                allowed_bytes,
                dropped,
                dropped_bytes,
                plain(reasons(counters)),
            ]);
        }
    }
    grid.write(out)
}

fn reasons(counters: &DirectionCounters) -> String {
    let dropped = counters.reasons.iter().map(|(name, amount)| format!("{name} {}", count(amount.packets)));
    let audited = counters
        .audited_reasons
        .iter()
        .map(|(name, amount)| format!("would drop: {name} {}", count(amount.packets)));
    let unlock = AllowReason::Unlock.name();
    let unlocked = counters
        .allowed_by
        .get(unlock)
        .map(|amount| format!("passed by {unlock}: {}", count(amount.packets)));
    dropped.chain(audited).chain(unlocked).collect::<Vec<_>>().join(", ")
}

fn by_rule(out: &mut dyn Write, style: Style, by: &ByRule) -> io::Result<()> {
    title(out, style, by.generation)?;
    let columns = [
        Narrow("RULE", 36),
        Narrow("SOURCE", 24),
        Number("FLOWS"),
        Number("PACKETS"),
        Number("BYTES"),
        Narrow("LAST HIT (UTC)", 21),
    ];
    let mut grid = Grid::new(style, &columns);
    for rule in &by.rules {
        let tone = if rule.packets == 0 { Tone::Faint } else { Tone::Plain };
        let name = match &rule.id {
            Some(id) => format!("{} ({id})", rule.rule),
            None => rule.rule.clone(),
        };
        grid.row([
            (name, tone),
            (rule.source.clone(), Tone::Faint),
            (count(rule.flows), tone),
            (count(rule.packets), tone),
            (count(rule.bytes), tone),
            (last_hit(rule.last_hit.as_deref()), tone),
        ]);
    }
    grid.write(out)
}

fn last_hit(time: Option<&str>) -> String {
    time.unwrap_or("never").trim_end_matches('Z').replace('T', " ")
}

fn by_group(out: &mut dyn Write, style: Style, by: &ByGroup) -> io::Result<()> {
    title(out, style, by.generation)?;
    let columns = [
        Narrow("GROUP", 36),
        Whole("DIRECTION"),
        Number("RULES"),
        Number("FLOWS"),
        Number("PACKETS"),
        Number("BYTES"),
    ];
    let mut grid = Grid::new(style, &columns);
    for group in &by.groups {
        for (name, direction, amount) in
            [(group.group.as_str(), "inbound", &group.inbound), ("", "outbound", &group.outbound)]
        {
            let RuleAmount { rules, flows, packets, bytes, last_hit: _ } = amount;
            let tone = if *packets == 0 { Tone::Faint } else { Tone::Plain };
            let numbers = [rules, flows, packets, bytes].map(|number| (count(*number), tone));
            grid.row([(name.to_owned(), Tone::Title), plain(direction)].into_iter().chain(numbers));
        }
    }
    grid.write(out)
}

fn by_reason(out: &mut dyn Write, style: Style, by: &ByReason) -> io::Result<()> {
    title(out, style, by.generation)?;
    if by.reasons.is_empty() {
        return writeln!(out, "nothing was dropped");
    }
    let columns = [
        Whole("REASON"),
        Number("INBOUND"),
        Number("OUTBOUND"),
        Number("AUDITED"),
        Number("BYTES"),
        Text("MEANING"),
    ];
    let mut grid = Grid::new(style, &columns);
    for reason in &by.reasons {
        let bytes = reason.inbound.bytes + reason.outbound.bytes + reason.audited.bytes;
        grid.row([
            plain(reason.reason.clone()),
            amount(reason.inbound, Tone::Bad)[0].clone(),
            amount(reason.outbound, Tone::Bad)[0].clone(),
            amount(reason.audited, Tone::Plain)[0].clone(),
            plain(count(bytes)),
            (reason.summary.clone(), Tone::Faint),
        ]);
    }
    grid.write(out)
}
