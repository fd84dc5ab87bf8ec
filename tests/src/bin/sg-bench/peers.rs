//! What a change costs with others: all rules and sets anew by `nft -f`, the prefixes alone by `ipset swap`.
//! Sizes are those of [`crate::change`]; there, a change is one of the whole policy, as with `nft`.

use std::{
    fmt::Write as _,
    fs,
    process::Stdio,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use sg_tests::lab::{Arena, Setup};

use crate::{
    report::{Cell, Table, number},
    statistics::{median, quantile},
};

const SIZES: [(u32, u32); 3] = [(10, 10), (1_000, 1_000), (10_000, 100_000)];
/// The first is not counted: it replaces nothing.
const WARM_UP: usize = 1;

/// Each change made so many times.
pub(crate) fn table(times: usize) -> Result<Table> {
    let columns = ["", "median (ms)", "most (ms)", "the command's memory (MiB)"];
    let mut table = Table::new("change-peers", "The same changes with others", &columns);
    for (rules, prefixes) in SIZES {
        let nft = [1, 2].map(|which| ruleset(rules, prefixes, which));
        let set = [1, 2].map(|which| swap(prefixes, which));
        let [rules, prefixes] = [rules, prefixes].map(|count| number(count.into(), 0));
        let rows = [
            (format!("`nft -f`, {rules} rules over {prefixes} prefixes"), ["nft", "-f"], nft),
            (format!("`ipset swap`, {prefixes} prefixes"), ["ipset", "restore"], set),
        ];
        for (what, command, texts) in rows {
            let (milliseconds, octets) = repeated(&command, &texts, times).with_context(|| what.clone())?;
            table.rows.push(vec![
                what.into(),
                Cell::Number(median(&milliseconds), 1),
                Cell::Number(quantile(&milliseconds, 1.0), 1),
                Cell::Number(octets as f64 / f64::from(1 << 20), 0),
            ]);
        }
    }
    Ok(table)
}

/// Feeds the texts to the command in turns. Gives milliseconds of each, and the most memory of any.
fn repeated(command: &[&str; 2], texts: &[String; 2], times: usize) -> Result<(Vec<f64>, u64)> {
    let arena = Arena::without_agent(Setup::HostTc)?;
    let names = ["one.txt", "two.txt"];
    for (name, text) in names.iter().zip(texts) {
        arena.agent.write(name, text)?;
    }
    if command[0] == "ipset" {
        // There has to be a set to swap with.
        arena.agent.write("first.txt", "create peers hash:net family inet\n")?;
        run(&arena, command, "first.txt")?;
    }
    let (mut milliseconds, mut most) = (Vec::new(), 0);
    for (round, name) in (0..times + WARM_UP).zip(names.into_iter().cycle()) {
        crate::go_on()?;
        let begin = Instant::now();
        let octets = run(&arena, command, name)?;
        if round >= WARM_UP {
            milliseconds.push(begin.elapsed().as_secs_f64() * 1000.0);
            most = most.max(octets);
        }
    }
    Ok((milliseconds, most))
}

fn run(arena: &Arena, [program, argument]: &[&str; 2], name: &str) -> Result<u64> {
    let mut command = arena.machine.command(program);
    command.arg(argument).current_dir(arena.agent.folder()).stdout(Stdio::null());
    if *program == "ipset" {
        command.arg("-file");
    }
    let mut child = command.arg(name).spawn()?;
    let status_file = format!("/proc/{}/status", child.id());
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let weighing = scope.spawn(|| weigh(&status_file, &is_over));
        let status = child.wait();
        is_over.store(true, Ordering::Relaxed);
        let octets = weighing.join().map_err(|_| anyhow!("the weighing thread panicked"))?;
        let status = status?;
        ensure!(status.success(), "{command:?} ends with {status}");
        Ok(octets)
    })
}

/// The most memory that a process has held, as long as it is looked at. What the kernel tells afterwards
/// would have this process's own in it, from which the other was forked.
fn weigh(status_file: &str, is_over: &AtomicBool) -> u64 {
    let mut most = 0;
    while !is_over.load(Ordering::Relaxed) {
        let status = fs::read_to_string(status_file).unwrap_or_default();
        let told = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next());
        most = most.max(told.and_then(|kibibytes| kibibytes.parse::<u64>().ok()).unwrap_or(0) * 1024);
        thread::sleep(Duration::from_millis(2));
    }
    most
}

fn network(number: u32) -> String {
    format!("11.{}.{}.{}", number >> 16 & 0xff, number >> 8 & 0xff, number & 0xff)
}

/// Rules over sets that share the prefixes out, as in [`crate::change`].
fn ruleset(rules: u32, prefixes: u32, which: u32) -> String {
    let lists = rules.clamp(1, 100);
    let mut text = String::from("table inet sg\ndelete table inet sg\ntable inet sg {\n");
    for list in 0..lists {
        let elements: Vec<_> =
            (list * prefixes / lists..(list + 1) * prefixes / lists).map(network).collect();
        let _ = writeln!(
            text,
            "  set l{list} {{ type ipv4_addr; flags interval; elements = {{ {} }}; }}",
            elements.join(", ")
        );
    }
    text.push_str(
        "  chain inbound {\n    type filter hook input priority filter; policy drop;\n    ct state established,related accept\n",
    );
    for rule in 0..rules {
        let _ = writeln!(text, "    ip saddr @l{} tcp dport {} accept", rule % lists, 1000 + rule);
    }
    let _ = write!(text, "    udp dport {} accept\n  }}\n}}\n", 5000 + which);
    text
}

/// Another set in the place of the one in force.
fn swap(prefixes: u32, which: u32) -> String {
    let most = prefixes.max(1024).next_power_of_two();
    let mut text = format!("create next hash:net family inet hashsize {most} maxelem {most}\n");
    // One that the other set does not have: a change.
    let _ = writeln!(text, "add next 12.0.0.{which}");
    for prefix in 1..prefixes {
        let _ = writeln!(text, "add next {}", network(prefix));
    }
    text + "swap next peers\ndestroy next\n"
}
