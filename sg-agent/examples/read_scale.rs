//! How long large policies take to read.
//!
//! `cargo run --release -p sg-agent --no-default-features --example read_scale` prints a line a
//! policy: the quickest of several runs from text to validated policy, and how much text there is.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    time::Instant,
};

use sg_agent::document::{Limits, parse_str};

const RUNS: usize = 15;

fn address(number: u32) -> String {
    format!("11.{}.{}.{}", number >> 16 & 0xff, number >> 8 & 0xff, number & 0xff)
}

/// Rules over lists that share the prefixes out; `is_block` says how long sequences are written.
fn policy(rules: u32, prefixes: u32, is_block: bool) -> String {
    let lists = rules.clamp(1, 100);
    let mut text = String::from("version: 1\nprefix_lists:\n");
    for list in 0..lists {
        let entries = list * prefixes / lists..(list + 1) * prefixes / lists;
        if is_block {
            let _ = writeln!(text, "  l{list}:\n    entries:");
            entries.for_each(|entry| {
                let _ = writeln!(text, "      - {}", address(entry));
            });
        } else {
            let entries: Vec<_> = entries.map(address).collect();
            let _ = writeln!(text, "  l{list}: {{entries: [{}]}}", entries.join(", "));
        }
    }
    text.push_str("groups:\n  g:\n    inbound:\n");
    for rule in 0..rules {
        let (port, list) = (1000 + rule, rule % lists);
        let _ = match is_block {
            true => writeln!(text, "      - allow: tcp/{port}\n        from: list:l{list}"),
            false => writeln!(text, "      - {{allow: tcp/{port}, from: list:l{list}}}"),
        };
    }
    text.push_str("interfaces:\n  - {match: eth0, groups: [g]}\n");
    text
}

fn main() -> io::Result<()> {
    let mut out = std::io::stdout().lock();
    for (rules, prefixes) in [(10, 10), (1_000, 1_000), (10_000, 100_000)] {
        for is_block in [false, true] {
            let text = policy(rules, prefixes, is_block);
            let mut best = f64::INFINITY;
            for _ in 0..RUNS {
                let start = Instant::now();
                let loaded = parse_str("p.yaml", &text, &Limits::default());
                if let Some(error) = loaded.errors.first() {
                    return Err(io::Error::other(error.to_string()));
                }
                drop(loaded);
                best = best.min(start.elapsed().as_secs_f64() * 1e3);
            }
            let how = if is_block { "a line each" } else { "in brackets" };
            writeln!(
                out,
                "{rules:>6} rules over {prefixes:>6} prefixes, {how}: {best:>8.2} ms, {:>8} bytes",
                text.len()
            )?;
        }
    }
    Ok(())
}
