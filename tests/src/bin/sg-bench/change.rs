//! What a change costs: from the command to what is in force and read back, and from an address that
//! comes to the rules that follow it.

use std::{
    fmt::Write as _,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use aya::maps::{Array, Map, MapData};
use sg_common::abi::{ABI_VERSION, Control, map};
use sg_tests::lab::{Agent, Arena, Namespace, Setup, agent::POLICY};

const WORDS: usize = size_of::<Control>() / 8;
/// The first change of a size makes maps grow; it is not counted.
const WARM_UP: u32 = 1;

/// One row.
pub(crate) struct Change {
    /// What changes.
    pub(crate) what: String,
    /// Milliseconds: the median, and the most.
    pub(crate) milliseconds: [f64; 2],
    /// The same of the daemon alone, where it tells: to compile, and to write, read back and flip.
    pub(crate) of_which: Option<[f64; 2]>,
    /// The daemon's memory afterwards, in mebibytes.
    pub(crate) memory: f64,
}

/// All rows; each change is made so many times.
pub(crate) fn changes(times: u32) -> Result<Vec<Change>> {
    let sizes = [(10, 10), (1_000, 1_000), (10_000, 100_000)];
    let mut rows = Vec::new();
    for (rules, prefixes) in sizes {
        let what = format!("apply {rules} rules over {prefixes} prefixes");
        rows.push(applied(rules, prefixes, times).context(what)?);
    }
    rows.push(joined(100_000, times).context("an address joins a group")?);
    Ok(rows)
}

fn applied(rules: u32, prefixes: u32, times: u32) -> Result<Change> {
    let mut arena = Arena::without_agent(Setup::HostTc)?;
    arena.agent.write("one.yaml", &policy(rules, prefixes, 1)?)?;
    arena.agent.write("two.yaml", &policy(rules, prefixes, 2)?)?;
    arena.agent.start_with(&policy(10, 10, 0)?)?;
    let (mut wall, mut compiling, mut publishing) = (Vec::new(), Vec::new(), Vec::new());
    for (number, name) in (0..times + WARM_UP).zip(["one.yaml", "two.yaml"].into_iter().cycle()) {
        // A change seldom follows the last one at once.
        thread::sleep(Duration::from_millis(50));
        let begin = Instant::now();
        let applied = arena.agent.json(&["apply", name])?;
        let took = begin.elapsed();
        if number < WARM_UP {
            continue;
        }
        ensure!(applied["changed"] == true, "{applied}");
        wall.push(took.as_secs_f64() * 1000.0);
        compiling.push(applied["compile_ms"].as_f64().context("no compile_ms")?);
        publishing.push(applied["publish_ms"].as_f64().context("no publish_ms")?);
    }
    Ok(Change {
        what: format!("`apply`, {rules} rules over {prefixes} prefixes"),
        milliseconds: [median(&mut wall), most(&wall)],
        of_which: Some([median(&mut compiling), median(&mut publishing)]),
        memory: memory(&arena.agent)?,
    })
}

/// A group of `members` addresses, and one more that an interface on this host comes to have.
fn joined(members: u32, times: u32) -> Result<Change> {
    let mut arena = Arena::without_agent(Setup::HostTc)?;
    let far = arena.another_wire("more0", &["10.99.0.1/24"], &["10.99.0.2/24"])?;
    let written: Vec<_> = (0..members).map(address).collect();
    let policy = format!(
        "version: 1\ngroups:\n  big: {{members: [{}], inbound: []}}\n  g: {{inbound: [{{allow: tcp/443, from: \
         group:big}}]}}\ninterfaces:\n  - {{match: eth0, groups: [g]}}\n  - {{match: more0, groups: [big]}}\n",
        written.join(", ")
    );
    arena.agent.write(POLICY, &policy)?;
    arena.agent.start()?;
    let mut wall = Vec::new();
    for number in 0..times + WARM_UP {
        thread::sleep(Duration::from_millis(50));
        let line = format!("address add 10.98.{}.{}/32 dev more0", number / 250, number % 250 + 1);
        let took = until_in_force(&arena.machine, &arena.agent, &line)?;
        if number >= WARM_UP {
            wall.push(took.as_secs_f64() * 1000.0);
        }
    }
    drop(far);
    Ok(Change {
        what: format!("an address joins a group of {members}"),
        milliseconds: [median(&mut wall), most(&wall)],
        of_which: None,
        memory: memory(&arena.agent)?,
    })
}

/// From the moment at which `ip` has done what `line` says until another generation is in force.
fn until_in_force(machine: &Namespace, agent: &Agent, line: &str) -> Result<Duration> {
    const LIMIT: Duration = Duration::from_secs(5);
    // The agent's mounts are seen through its process.
    let set = format!("/proc/{}/root{}/v{ABI_VERSION}/current", agent.process()?, agent.bpffs());
    let data = MapData::from_pin(format!("{set}/maps/{}", map::CONTROL))?;
    let control: Array<_, [u64; WORDS]> = Array::try_from(Map::Array(data))?;
    let state = || -> Result<u64> { Ok(control.get(&0, 0)?[0]) };
    let before = state()?;
    machine.ip(&[line])?;
    let begin = Instant::now();
    while state()? == before {
        if begin.elapsed() > LIMIT {
            bail!("nothing has changed after {LIMIT:?}");
        }
    }
    Ok(begin.elapsed())
}

fn address(number: u32) -> String {
    format!("11.{}.{}.{}", number >> 16 & 0xff, number >> 8 & 0xff, number & 0xff)
}

/// Rules over lists that share the prefixes out; like no other of another `number`.
fn policy(rules: u32, prefixes: u32, number: u32) -> Result<String> {
    let lists = rules.clamp(1, 100);
    let mut text = String::from("version: 1\nprefix_lists:\n");
    for list in 0..lists {
        let entries: Vec<_> = (list * prefixes / lists..(list + 1) * prefixes / lists).map(address).collect();
        writeln!(text, "  l{list}: {{entries: [{}]}}", entries.join(", "))?;
    }
    text.push_str("groups:\n  g:\n    inbound:\n");
    for rule in 0..rules {
        writeln!(text, "      - {{allow: tcp/{}, from: list:l{}}}", 1000 + rule, rule % lists)?;
    }
    writeln!(text, "      - {{allow: udp/{}, from: anywhere}}", 5000 + number)?;
    text.push_str("interfaces:\n  - {match: eth0, groups: [g]}\n");
    Ok(text)
}

/// Resident memory, when the agent has been left alone for long enough to give back what it does not need.
fn memory(agent: &Agent) -> Result<f64> {
    thread::sleep(Duration::from_secs(2));
    let status = std::fs::read_to_string(format!("/proc/{}/status", agent.process()?))?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next());
    Ok(resident.context("no VmRSS")?.parse::<f64>()? / 1024.0)
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn most(values: &[f64]) -> f64 {
    values.iter().copied().fold(0.0, f64::max)
}
