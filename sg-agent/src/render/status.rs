//! `status` for people.

use std::io::{self, Write};

use super::{
    Show, Style,
    grid::{Tone, field},
    numbers::{counted, share},
};
use crate::view::{AttachmentStatus, Repair, Repairs, Status, told_mode};

impl Show for Status {
    fn show(&self, out: &mut dyn Write, style: Style) -> io::Result<()> {
        self.show_agent(out, style)?;
        self.show_policy(out, style)?;
        for attachment in &self.attachments {
            writeln!(out)?;
            show_attachment(out, style, attachment)?;
        }
        if let Some(maps) = &self.maps {
            writeln!(out)?;
            for (name, fill) in [
                ("flows", maps.flows),
                ("image nodes", maps.image_nodes),
                ("rules", maps.rules),
                ("zones", maps.zones),
            ] {
                field(out, style, name, &share(fill.used, fill.capacity))?;
            }
        }
        if self.repairs.count > 0 {
            writeln!(out)?;
            field(out, style, "repairs", &repairs(&self.repairs))?;
        }
        if !self.not_covered.is_empty() {
            writeln!(out)?;
            let list: Vec<String> = self
                .not_covered
                .iter()
                .map(|interface| format!("{} ({})", interface.name, interface.why))
                .collect();
            field(out, style, "not covered", &list.join(", "))?;
        }
        if !self.problems.is_empty() {
            writeln!(out)?;
            for problem in &self.problems {
                field(out, style, "problem", problem)?;
            }
        }
        Ok(())
    }
}

impl Status {
    fn show_agent(&self, out: &mut dyn Write, style: Style) -> io::Result<()> {
        let agent = &self.agent;
        if !agent.running {
            let text = match self.generation {
                0 => "not running",
                _ => "not running; the kernel goes on enforcing",
            };
            return writeln!(out, "{:<14}{}", "agent", style.paint(Tone::Bad, text));
        }
        let text = format!(
            "running, process {}, version {}, since {}",
            agent.pid.unwrap_or_default(),
            agent.version.as_deref().unwrap_or("?"),
            agent.started.as_deref().unwrap_or("?")
        );
        writeln!(out, "{:<14}{}", "agent", style.paint(Tone::Good, &text))?;
        if let Some(policy) = &agent.policy {
            let when = if agent.watching { "as its files change" } else { "when told to" };
            field(out, style, "reloads from", &format!("{policy}, {when}"))?;
        }
        if let Some(error) = &agent.last_error {
            field(out, style, "last error", error)?;
        }
        for diagnostic in &agent.last_diagnostics {
            // The place and the error; the line itself is in the log.
            field(out, style, "", diagnostic.lines().next().unwrap_or_default())?;
        }
        Ok(())
    }

    fn show_policy(&self, out: &mut dyn Write, style: Style) -> io::Result<()> {
        if self.generation == 0 {
            return field(out, style, "policy", "none: nothing is enforced");
        }
        let applied = self.applied.as_deref().unwrap_or("?");
        field(out, style, "generation", &format!("{}, applied {applied}", self.generation))?;
        if let Some(until) = &self.confirm_by {
            let text = format!("the former policy comes back at {until} unless this one is confirmed");
            field(out, style, "on trial", &text)?;
        }
        for port in &self.unlocked {
            field(out, style, "unlocked", &format!("{port}, past the policy"))?;
        }
        if self.passed_unlocked.packets > 0 {
            let text = format!("{} so far", counted(self.passed_unlocked.packets, "packet"));
            field(out, style, "by unlock", &text)?;
        }
        if let Some(digest) = &self.digest {
            let short = digest.get(..16).unwrap_or(digest);
            let rules = counted(self.rules as u64, "rule");
            field(out, style, "policy", &format!("{short}: {rules} from {}", self.documents.join(", ")))?;
        }
        if self.attachments.is_empty() {
            field(out, style, "interfaces", "none is covered")?;
        }
        Ok(())
    }
}

/// How often something was taken back, and what last.
fn repairs(repairs: &Repairs) -> String {
    let Some(Repair { time, interface, what }) = &repairs.last else { return repairs.count.to_string() };
    let of = interface.as_ref().map_or_else(String::new, |interface| format!("{interface}: "));
    format!("{}; the latest at {time}: {of}{what}", repairs.count)
}

fn show_attachment(out: &mut dyn Write, style: Style, attachment: &AttachmentStatus) -> io::Result<()> {
    let AttachmentStatus { name, side, entry, ifindex, .. } = attachment;
    let mode = told_mode(&attachment.mode, &attachment.audit_groups);
    writeln!(
        out,
        "{} ({side}, {mode}; index {ifindex}, zone {}, entry `{entry}`)",
        style.paint(Tone::Title, name),
        attachment.zone
    )?;
    let list = |items: &[String]| match items {
        [] => "none".to_owned(),
        items => items.join(", "),
    };
    field(out, style, "  groups", &list(&attachment.groups))?;
    let check = if attachment.source_check { "; source check" } else { "" };
    field(out, style, "  addresses", &format!("{}{check}", list(&attachment.addresses)))?;
    let passes = [&attachment.infrastructure[..], &attachment.permit_ethertypes[..]].concat();
    field(out, style, "  passes", &list(&passes))?;
    for hook in &attachment.hooks {
        let others = match &hook.other_programs[..] {
            [] => String::new(),
            others => format!("; beside {}", others.join(", ")),
        };
        let why = if hook.why.is_empty() { String::new() } else { format!(": {}", hook.why) };
        let text = format!("{} ({}){why}{others}", hook.hook, hook.mode);
        field(out, style, &format!("  {}", hook.direction), &text)?;
    }
    if attachment.hooks.is_empty() {
        let text = style.paint(Tone::Bad, "not enforced");
        writeln!(out, "  {text}")?;
    }
    Ok(())
}
