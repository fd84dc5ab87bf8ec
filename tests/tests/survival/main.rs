//! Enforcement outlives the daemon, and nothing but `detach` ends it (datapath.md, section 9).

mod disk;

use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, ensure};
use sg_tests::{
    each_setup,
    lab::{Arena, Outcome, Output, Probe, Setup, agent::POLICY, arena::Family, can_run},
};

each_setup! {
    killing_the_daemon_changes_nothing
    a_restart_keeps_connections_and_counters
    sigterm_leaves_enforcement_in_place
    detach_leaves_the_host_as_it_was
    a_first_attach_cuts_no_open_connection
}

const RULES: &str = "inbound: [{allow: tcp/443, from: [PEER]}], outbound: []";
const OPEN: Probe = Probe::Tcp(443);
const SHUT: Probe = Probe::Tcp(22);

/// The rules hold, and `counters` and `status` answer from the kernel's maps.
fn enforced(arena: &Arena, when: &str) -> Result<()> {
    for family in Family::ALL {
        let new = arena.inbound(OPEN, family)?;
        assert_eq!(new, Outcome::Answered, "{when}: a new allowed connection, {family:?}");
        let shut = arena.counted(&[("inbound", "no_rule", 1)], || arena.inbound(SHUT, family));
        assert_eq!(shut.context(when.to_owned())?, Outcome::Silent, "{when}: a denied port, {family:?}");
        let out = arena.counted(&[("outbound", "no_rule", 1)], || arena.outbound(OPEN, family));
        assert_eq!(out.context(when.to_owned())?, Outcome::Silent, "{when}: outbound, {family:?}");
    }
    let status = arena.agent.ok(&["status"])?;
    assert!(status.stdout.contains("eth0"), "{when}: {}", status.stdout);
    Ok(())
}

/// Nothing is dropped any more, in either direction.
fn not_enforced(arena: &Arena, when: &str) -> Result<()> {
    for family in Family::ALL {
        for probe in [SHUT, Probe::Udp(53), Probe::Ping] {
            assert_eq!(arena.inbound(probe, family)?, Outcome::Answered, "{when}: {probe:?}");
            assert_eq!(arena.outbound(probe, family)?, Outcome::Answered, "{when}: {probe:?}");
        }
    }
    Ok(())
}

fn killing_the_daemon_changes_nothing(setup: Setup) -> Result<()> {
    let mut arena = Arena::start(setup, RULES)?;
    let mut old = [
        arena.connect_in(Family::V4, 443)?.context("443 is closed")?,
        arena.connect_in(Family::V6, 443)?.context("443 is closed")?,
    ];
    arena.agent.kill()?;
    enforced(&arena, "after SIGKILL")?;
    for connection in &mut old {
        assert!(connection.works()?, "an open connection goes on");
    }
    Ok(())
}

fn a_restart_keeps_connections_and_counters(setup: Setup) -> Result<()> {
    let mut arena = Arena::start(setup, RULES)?;
    let mut old = arena.connect_in(Family::V4, 443)?.context("443 is closed")?;
    assert!(old.works()?);
    for killed in [false, true] {
        let before = arena.counters()?;
        if killed {
            arena.agent.kill()?;
            arena.agent.start()?;
        } else {
            arena.agent.restart()?;
        }
        let gained = arena.counters()?.since(&before)?;
        assert!(gained.0.len() <= 2, "a restart counts nothing of its own: {gained:?}");
        assert!(old.works()?, "the connection goes on, killed: {killed}");
        enforced(&arena, "after a restart")?;
    }
    // The new daemon is in charge: what is revoked ends.
    arena.apply("inbound: [], outbound: []")?;
    assert!(!old.to_server()?);
    Ok(())
}

fn sigterm_leaves_enforcement_in_place(setup: Setup) -> Result<()> {
    let mut arena = Arena::start(setup, RULES)?;
    let status = arena.agent.terminate()?;
    assert!(status.success(), "a clean end, not {status}");
    enforced(&arena, "after SIGTERM")
}

/// What the kernel says is attached to the machine's interfaces.
fn attached(arena: &Arena) -> Result<String> {
    let links = arena.machine.ip(&["link show", "address show"])?;
    let pins = arena.machine.command("find").arg("/sys/fs/bpf").output()?;
    let pins = String::from_utf8(pins.stdout)?;
    let queues = arena.machine.command("tc").args(["qdisc", "show"]).output()?;
    Ok(format!("{links}{pins}{}", String::from_utf8(queues.stdout)?))
}

fn detach_leaves_the_host_as_it_was(setup: Setup) -> Result<()> {
    let mut arena = Arena::without_agent(setup)?;
    let untouched = attached(&arena)?;
    for dead in [false, true] {
        let policy = arena.policy(RULES);
        arena.agent.start_with(&policy)?;
        enforced(&arena, "before detach")?;
        if dead {
            arena.agent.kill()?;
        }
        arena.agent.ok(&["detach", "--all"])?;
        not_enforced(&arena, "after detach")?;
        if !dead {
            arena.agent.terminate()?;
        }
        assert_eq!(attached(&arena)?, untouched, "daemon dead: {dead}");
    }
    Ok(())
}

fn a_first_attach_cuts_no_open_connection(setup: Setup) -> Result<()> {
    if setup == Setup::Guest {
        return Ok(()); // A host cannot know what is open inside a guest.
    }
    let mut arena = Arena::without_agent(setup)?;
    for family in Family::ALL {
        let mut inbound = arena.connect_in(family, 22)?.context("no firewall, but 22 is closed")?;
        let mut outbound = arena.connect_out(family, 23)?.context("no firewall, but 23 is closed")?;
        let policy = arena.policy("inbound: [], outbound: []");
        arena.agent.start_with(&policy)?;
        assert!(inbound.works()?, "a connection to the host, {family:?}");
        assert!(outbound.works()?, "a connection from the host, {family:?}");
        assert_eq!(arena.inbound(Probe::Tcp(22), family)?, Outcome::Silent, "a new one, {family:?}");
        assert_eq!(arena.outbound(Probe::Tcp(23), family)?, Outcome::Silent, "a new one, {family:?}");
        arena.agent.terminate()?;
        arena.agent.ok(&["detach", "--all"])?;
    }
    Ok(())
}

/// A policy for which there is no memory: the daemon may die of it, and what it enforced stays.
#[test]
fn memory_that_runs_out_changes_nothing() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let mut arena = Arena::start(Setup::HostTc, RULES)?;
    let generation = arena.agent.generation()?;
    let process = arena.agent.process()?;
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let used = status.lines().find_map(|line| line.strip_prefix("VmData:")?.split_whitespace().next());
    let used: u64 = used.context("no VmData")?.parse()?;
    sg_tests::syscall::limit_memory(process, (used + 4096) * 1024)?;
    let entries: Vec<_> = (0..200_000_u32)
        .map(|number| format!("11.{}.{}.{}", number >> 16, number >> 8 & 0xff, number & 0xff))
        .collect();
    let large = format!(
        "{}prefix_lists: {{large: {{entries: [{}]}}}}\n",
        arena.policy("inbound: [{allow: tcp/80, from: list:large}]"),
        entries.join(", ")
    );
    arena.agent.write("large.yaml", &large)?;
    let refused = arena.agent.run(&["apply", "large.yaml"])?;
    ensure!(refused.status != 0, "a policy of 200 000 prefixes in four mebibytes: {refused:?}");
    ensure!(arena.agent.generation()? == generation, "something has changed");
    enforced(&arena, "without memory")?;
    arena.agent.kill()?;
    arena.agent.start()?;
    ensure!(arena.agent.generation()? == generation, "something has changed at the start");
    arena.agent.ok(&["apply", "large.yaml"])?;
    Ok(())
}

/// Timeouts, trials and enforcement go by a clock that nobody sets. Only where the machine is the test's
/// own: everybody on it shares the other clock.
#[test]
fn a_clock_that_is_set_changes_nothing() -> Result<()> {
    if !can_run() || std::env::var_os("SG_OWN_MACHINE").is_none() {
        return Ok(());
    }
    const DAY: u64 = 86_400;
    let set = |seconds: u64| -> Result<()> {
        let done = std::process::Command::new("date").args(["-s", &format!("@{seconds}")]).output()?;
        ensure!(done.status.success(), "date: {}", String::from_utf8_lossy(&done.stderr));
        Ok(())
    };
    let arena = Arena::start(Setup::HostTc, RULES)?;
    let mut old = arena.connect_in(Family::V4, 443)?.context("443 is closed")?;
    let begin = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
    let judge = |when: &str, old: &mut sg_tests::lab::Connection| -> Result<()> {
        ensure!(old.works()?, "{when}: an open connection goes on");
        enforced(&arena, when)
    };
    set(begin + 4000 * DAY)?;
    judge("eleven years later", &mut old)?;
    arena.agent.write("trial.yaml", &arena.policy("inbound: [{allow: tcp/80, from: [PEER]}]"))?;
    arena.agent.ok(&["apply", "trial.yaml", "--confirm-within", "20s"])?;
    let tried = Instant::now();
    set(begin - 4000 * DAY)?;
    ensure!(arena.inbound(Probe::Tcp(80), Family::V4)? == Outcome::Answered, "still on trial");
    let left = Duration::from_millis(20_300).saturating_sub(tried.elapsed());
    std::thread::sleep(left);
    enforced(&arena, "after the trial, eleven years before")?;
    set(begin)?;
    enforced(&arena, "as before")
}

/// As after a reboot on a disk that has gone bad, with a policy folder that is no better.
#[test]
fn an_older_policy_that_is_whole_is_better_than_none() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let mut arena = Arena::start(Setup::HostTc, RULES)?;
    arena.apply("inbound: [{allow: tcp/80, from: [PEER]}], outbound: []")?;
    let newest = arena.agent.json(&["status"])?["digest"].as_str().context("no digest")?.to_owned();
    arena.agent.kill()?;
    arena.agent.ok(&["detach", "--all"])?;
    not_enforced(&arena, "as after a reboot")?;

    let path = arena.agent.folder().join(format!("state/policies/{newest}.json"));
    let text = std::fs::read_to_string(&path)?;
    ensure!(text.contains("tcp/80"), "{text}");
    std::fs::write(&path, text.replace("tcp/80", "tcp/22"))?;
    arena.agent.start_with("version: 1\ngroups: {g: {inbound: [{al")?;
    enforced(&arena, "with the policy before")
}

#[test]
fn a_second_daemon_on_one_state_directory_refuses() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let arena = Arena::start(Setup::HostTc, RULES)?;
    let run = ["run", "--config", "agent.toml", "--policy", POLICY];
    // Neither another socket nor another bpffs folder makes it a second instance.
    let mut command = arena.agent.command(&run)?;
    command
        .env("SG_AGENT_SOCKET", arena.agent.folder().join("second.sock"))
        .env("SG_AGENT_BPFFS", "/sys/fs/bpf/second");
    for command in [arena.agent.command(&run)?, command] {
        let second = Output::of(command, "sg-agent run (a second one)")?.expect_status(1)?;
        assert!(second.stderr.contains("sg-agent: "), "{}", second.stderr);
    }
    enforced(&arena, "after a second daemon tried")?;
    arena.apply("inbound: [{allow: tcp/80, from: anywhere}]")?;
    assert_eq!(arena.inbound(Probe::Tcp(80), Family::V4)?, Outcome::Answered, "the first is in charge");
    Ok(())
}

/// Needs no second start: what is ready is said once, to systemd and to people.
#[test]
fn the_daemon_says_that_it_is_ready() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let arena = Arena::start(Setup::HostTc, RULES)?;
    let log = arena.agent.log();
    assert!(log.lines().any(|line| line.contains("ready")), "{log}");
    Ok(())
}
