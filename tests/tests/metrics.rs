//! `metrics`: what monitoring systems read moves by exactly what happened, and tells of what is wrong while it
//! is wrong.

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
};

use anyhow::{Context as _, Result, ensure};
use sg_tests::{
    each_setup,
    lab::{Arena, Fault, Setup, agent::POLICY, arena::Family, can_run, eventually, traffic::bind_udp},
    packet::{Packet, Udp},
};

each_setup! {
    counters_move_by_what_was_sent
}

const RULES: &str = "inbound: [{allow: udp/53, from: [PEER]}], outbound: []";

/// Values by name and labels, as they are written.
type Metrics = BTreeMap<String, u64>;

fn metrics(arena: &Arena) -> Result<Metrics> {
    read(&arena.agent.ok(&["metrics"])?.stdout)
}

/// Reads the text format, and that each value is of a metric that says what it is.
fn read(text: &str) -> Result<Metrics> {
    let mut known = Vec::new();
    let mut values = Metrics::new();
    for line in text.lines() {
        if let Some(said) = line.strip_prefix("# TYPE ") {
            let (name, kind) = said.split_once(' ').with_context(|| format!("`{line}`"))?;
            ensure!(name.ends_with("_total") == (kind == "counter"), "{line}");
            known.push(name);
        } else if !line.starts_with("# HELP ") {
            let (series, value) = line.rsplit_once(' ').with_context(|| format!("`{line}`"))?;
            let name = series.split('{').next().unwrap_or(series);
            ensure!(known.last() == Some(&name) && name.starts_with("sg_agent_"), "`{line}` of {known:?}");
            let before = values.insert(series.to_owned(), value.parse()?);
            ensure!(before.is_none(), "`{line}` is there twice");
        }
    }
    Ok(values)
}

fn value(metrics: &Metrics, series: &str) -> Result<u64> {
    metrics.get(series).copied().with_context(|| format!("{series} among {metrics:#?}"))
}

/// What moved between two readings, whatever came to be counted alone.
fn moved(before: &Metrics, after: &Metrics) -> Metrics {
    let amount = |(series, value): (&String, &u64)| {
        let more = value - before.get(series).copied().unwrap_or(0);
        (series.contains("_total") && more > 0).then(|| (series.clone(), more))
    };
    after.iter().filter_map(amount).collect()
}

fn counters_move_by_what_was_sent(setup: Setup) -> Result<()> {
    let arena = Arena::start(setup, RULES)?;
    let (peer, instance) = (arena.peer_address(Family::V4), arena.instance_address(Family::V4));
    let _listener = arena.instance().enter(|| bind_udp((instance, 53).into()));
    let (theirs, ours) = (arena.peer_socket()?, arena.instance_socket()?);
    let inbound = |port| arena.frame_in(&Packet::new(peer, instance, Udp::new(9, port, b"1234"))).bytes();
    let outbound = arena.frame_out(&Packet::new(instance, peer, Udp::new(9, 54, b"12"))).bytes();
    let bytes = (inbound(53).len() as u64, outbound.len() as u64);
    let before = metrics(&arena)?;
    for port in [53, 53, 53, 54, 54] {
        theirs.send(&inbound(port))?;
    }
    ours.send(&outbound)?;
    let series = |what: &str, direction: &str, reason: &str| {
        format!("sg_agent_{what}_total{{interface=\"eth0\",direction=\"{direction}\"{reason}}}")
    };
    let no_rule = ",reason=\"no_rule\"";
    let expected: Metrics = [
        (series("allowed_packets", "inbound", ""), 3),
        (series("allowed_bytes", "inbound", ""), 3 * bytes.0),
        (series("dropped_packets", "inbound", no_rule), 2),
        (series("dropped_bytes", "inbound", no_rule), 2 * bytes.0),
        (series("dropped_packets", "outbound", no_rule), 1),
        (series("dropped_bytes", "outbound", no_rule), bytes.1),
    ]
    .into();
    eventually("each packet is counted", || Ok(moved(&before, &metrics(&arena)?).len() >= expected.len()))?;
    assert_eq!(moved(&before, &metrics(&arena)?), expected);

    let all = metrics(&arena)?;
    assert_eq!(value(&all, "sg_agent_flows")?, 1, "{all:#?}");
    ensure!(value(&all, "sg_agent_flows_capacity")? > 1, "{all:#?}");
    for name in ["interfaces_wanted", "interfaces_covered"] {
        assert_eq!(value(&all, &format!("sg_agent_{name}"))?, 1, "{name}");
    }
    assert_eq!(value(&all, "sg_agent_generation")?, arena.agent.generation()?);
    Ok(())
}

#[test]
fn what_is_wrong_is_told_while_it_is_wrong() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let mut arena = Arena::without_agent(Setup::HostTc)?;
    // With its files watched.
    arena.agent.write("agent.toml", "")?;
    let policy = arena.policy(RULES);
    arena.agent.start_with(&policy)?;
    let gauges = |arena: &Arena| -> Result<(u64, u64)> {
        let all = metrics(arena)?;
        let gauge = |name: &str| value(&all, &format!("sg_agent_{name}"));
        Ok((gauge("policy_files_refused")?, gauge("last_change_failed")?))
    };
    assert_eq!(gauges(&arena)?, (0, 0), "at first");
    arena.agent.write(POLICY, "version: 1\ngroups: {g: {inbound: [{allow: nonsense}]}}\n")?;
    eventually("the broken file is told", || Ok(gauges(&arena)? == (1, 1)))?;
    // What is asked for succeeds, and the file is as broken as before.
    arena.agent.write("other.yaml", &arena.policy("inbound: []"))?;
    arena.agent.ok(&["apply", "other.yaml"])?;
    assert_eq!(gauges(&arena)?, (1, 0), "the file alone is broken");
    let applied = value(&metrics(&arena)?, "sg_agent_last_change_timestamp_seconds")?;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs();
    ensure!(applied <= now && now - applied < 60, "{applied} is not {now}");
    arena.agent.restart().context("with a broken file")?;
    assert_eq!(gauges(&arena)?, (1, 1), "after a restart");
    arena.agent.write(POLICY, &policy)?;
    eventually("the mended file is in force", || Ok(gauges(&arena)? == (0, 0)))?;

    // Somebody takes what the agent has left in the kernel, and it takes it back.
    for (fault, kind) in [(Fault::MapPin, "pin"), (Fault::EgressLink, "hook")] {
        let series = format!("sg_agent_repairs_total{{kind=\"{kind}\"}}");
        ensure!(!metrics(&arena)?.contains_key(&series), "{fault:?}");
        if fault.applies(Setup::HostTc) {
            let _left = fault.inflict(&arena.agent, "eth0")?;
            eventually("the repair is counted", || Ok(metrics(&arena)?.get(&series) == Some(&1)))?;
        }
    }

    let unlock = ["unlock", "--port", "tcp/22", "--address", "10.88.0.2", "--for", "1m"];
    arena.agent.ok(&unlock)?;
    assert_eq!(value(&metrics(&arena)?, "sg_agent_unlocked")?, 1);
    arena.agent.ok(&["unlock", "--end"])?;
    assert_eq!(value(&metrics(&arena)?, "sg_agent_unlocked")?, 0);
    Ok(())
}

/// The same text comes by the socket; and from the maps where nobody answers there, without what the daemon
/// alone knows.
#[test]
fn the_daemon_answers_and_the_maps_do_without_it() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let mut arena = Arena::start(Setup::HostTc, RULES)?;
    let told = metrics(&arena)?;
    let mut stream = UnixStream::connect(arena.agent.folder().join("agent.sock"))?;
    stream.write_all(b"GET /v1/metrics HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, text) = answer.split_once("\r\n\r\n").context("a head and a body")?;
    ensure!(head.starts_with("HTTP/1.1 200") && head.contains("text/plain; version=0.0.4"), "{head}");
    let names = |metrics: &Metrics| metrics.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&read(text)?), names(&told));

    arena.agent.kill()?;
    let alone = metrics(&arena)?;
    assert_eq!((value(&told, "sg_agent_running")?, value(&alone, "sg_agent_running")?), (1, 0));
    assert_eq!(value(&alone, "sg_agent_generation")?, value(&told, "sg_agent_generation")?);
    ensure!(alone.keys().any(|series| series.starts_with("sg_agent_allowed_packets_total{")), "{alone:#?}");
    ensure!(!alone.contains_key("sg_agent_policy_files_refused"), "{alone:#?}");
    arena.agent.ok(&["detach", "--all"])?;
    assert_eq!(value(&metrics(&arena)?, "sg_agent_generation")?, 0);
    Ok(())
}
