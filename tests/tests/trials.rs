//! Policies on trial: `apply --confirm-within`, `confirm`, `rollback`, `history`, and the operator's
//! own connection.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use sg_tests::lab::{
    Arena, Connection, Outcome, Output, Probe, Setup, agent::POLICY, arena::Family, can_run, eventually,
};

const OLD: &str = "inbound: [{allow: tcp/443, from: [PEER]}]";
const NEW: &str = "inbound: [{allow: tcp/80, from: [PEER]}]";
/// Seconds that a policy is on trial for: longer than four probes take.
const TRIAL: u64 = 8;

/// Whether the old policy is in force, and not the new one, or the other way round.
fn expect(arena: &Arena, is_old: bool, when: &str) -> Result<()> {
    let (open, shut) = if is_old { (443, 80) } else { (80, 443) };
    assert_eq!(arena.inbound(Probe::Tcp(open), Family::V4)?, Outcome::Answered, "{open} {when}");
    assert_eq!(arena.inbound(Probe::Tcp(shut), Family::V4)?, Outcome::Silent, "{shut} {when}");
    Ok(())
}

/// Puts the new policy in force on trial, and tells since when.
fn try_out(arena: &Arena) -> Result<(Output, Instant)> {
    arena.agent.write("new.yaml", &arena.policy(NEW))?;
    let begin = Instant::now();
    let output = arena.agent.ok(&["apply", "new.yaml", "--confirm-within", &format!("{TRIAL}s")])?;
    assert!(output.stdout.contains("comes back at"), "{}", output.stdout);
    expect(arena, false, "on trial")?;
    assert!(begin.elapsed() < Duration::from_secs(TRIAL), "too slow to tell");
    Ok((output, begin))
}

fn wait(begin: Instant) {
    let end = Duration::from_secs(TRIAL) + Duration::from_millis(200);
    thread::sleep(end.saturating_sub(begin.elapsed()));
}

#[test]
fn the_former_policy_comes_back_with_the_agent_dead() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    for setup in [Setup::HostXdp, Setup::HostTc] {
        let mut arena = Arena::start(setup, OLD)?;
        let former = arena.agent.generation()?;
        let (_, begin) = try_out(&arena)?;
        arena.agent.kill()?;
        wait(begin);
        expect(&arena, true, "with nobody there")?;
        assert_eq!(arena.agent.generation()?, former, "counters tell what the kernel goes by");

        arena.agent.start()?;
        expect(&arena, true, "with the agent back")?;
        let status = arena.agent.json(&["status"])?;
        assert!(status["confirm_by"].is_null(), "{status}");
        arena.agent.restart()?;
        expect(&arena, true, "for good")?;
        let late = arena.agent.run(&["confirm"])?.expect_status(1)?;
        assert!(late.stderr.contains("none waits"), "{}", late.stderr);
    }
    Ok(())
}

#[test]
fn an_agent_that_is_started_again_goes_on_with_the_trial() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let mut arena = Arena::start(Setup::HostTc, OLD)?;
    try_out(&arena)?;
    arena.agent.kill()?;
    arena.agent.start()?;
    let status = arena.agent.json(&["status"])?;
    assert!(status["confirm_by"].is_string(), "{status}");
    arena.agent.ok(&["confirm"])?;
    thread::sleep(Duration::from_secs(TRIAL));
    expect(&arena, false, "confirmed")
}

#[test]
fn what_is_not_confirmed_is_undone_and_told() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let arena = Arena::start(Setup::HostTc, OLD)?;
    let (_, begin) = try_out(&arena)?;
    let refused = arena.agent.run(&["apply", POLICY])?.expect_status(1)?;
    assert!(refused.stderr.contains("waits for its confirmation"), "{}", refused.stderr);
    wait(begin);
    expect(&arena, true, "when the time has passed")?;
    eventually("the agent tells", || {
        let status = arena.agent.json(&["status"])?;
        Ok(status["agent"]["last_error"]
            .as_str()
            .is_some_and(|error| error.contains("not confirmed in time")))
    })?;
    // What was never confirmed is nothing to return to.
    let history = arena.agent.json(&["history"])?;
    let newest = &history["generations"][0];
    assert_eq!(newest["in_force"], true, "{history}");
    arena.agent.write("new.yaml", &arena.policy(NEW))?;
    arena.agent.ok(&["apply", "new.yaml"])?;
    expect(&arena, false, "applied at last")
}

#[test]
fn what_is_confirmed_stays_and_can_be_rolled_back() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let arena = Arena::start(Setup::HostTc, OLD)?;
    let former = arena.agent.generation()?;
    let (_, begin) = try_out(&arena)?;
    arena.agent.ok(&["confirm"])?;
    wait(begin);
    expect(&arena, false, "confirmed")?;

    arena.agent.ok(&["rollback"])?;
    expect(&arena, true, "rolled back")?;
    let history = arena.agent.json(&["history"])?;
    let causes: Vec<_> = history["generations"]
        .as_array()
        .context("generations")?
        .iter()
        .map(|generation| generation["cause"].as_str().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(causes, [&format!("rollback to {former}"), "apply", "the agent was started"], "{history}");
    let shown = arena.agent.ok(&["history"])?.stdout;
    assert!(shown.lines().all(|line| line.chars().count() <= 100), "{shown}");

    let missing = arena.agent.run(&["rollback", "99"])?.expect_status(1)?;
    assert!(missing.stderr.contains("generation 99 is not kept"), "{}", missing.stderr);
    arena.agent.ok(&["rollback", &(former + 1).to_string()])?;
    expect(&arena, false, "rolled forward")?;
    // A trial ends at once when it is rolled back.
    arena.agent.ok(&["apply", POLICY, "--confirm-within", "1h"])?;
    expect(&arena, true, "on trial")?;
    arena.agent.ok(&["rollback"])?;
    expect(&arena, false, "given up")
}

#[test]
fn a_policy_that_covers_less_or_more_can_be_tried_out() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let mut arena = Arena::start(Setup::HostTc, OLD)?;
    arena.agent.write("none.yaml", "version: 1\n")?;
    let begin = Instant::now();
    arena.agent.ok(&["apply", "none.yaml", "--confirm-within", &format!("{TRIAL}s")])?;
    for port in [443, 80] {
        assert_eq!(arena.inbound(Probe::Tcp(port), Family::V4)?, Outcome::Answered, "not covered: {port}");
    }
    arena.agent.kill()?;
    wait(begin);
    expect(&arena, true, "covered again, with nobody to attach it")?;

    arena.agent.start()?;
    arena.agent.ok(&["apply", "none.yaml"])?;
    let begin = Instant::now();
    arena.agent.ok(&["apply", POLICY, "--confirm-within", &format!("{TRIAL}s")])?;
    expect(&arena, true, "covered on trial")?;
    arena.agent.kill()?;
    wait(begin);
    for port in [443, 80] {
        assert_eq!(arena.inbound(Probe::Tcp(port), Family::V4)?, Outcome::Answered, "left alone: {port}");
    }
    Ok(())
}

#[test]
fn the_operators_own_connection_is_not_cut_by_accident() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let arena = Arena::start(Setup::HostTc, OLD)?;
    arena.agent.write("new.yaml", &arena.policy(NEW))?;
    let held = arena.connect_in(Family::V4, 443)?.context("443 is closed")?;
    let far = held.client.local_addr()?;
    let connection = ssh_connection(&held)?;
    let run = |words: &[&str]| {
        let mut command = arena.agent.command(words)?;
        command.env("SSH_CONNECTION", &connection);
        Output::of(command, &words.join(" "))
    };
    let apply = |words: &[&str]| run(&[&["apply", "new.yaml"], words].concat());
    let refused = apply(&[])?.expect_status(1)?;
    for part in [&far.to_string(), "would be cut", "tcp/443", "--confirm-within", "--yes"] {
        assert!(refused.stderr.contains(part), "{part}: {}", refused.stderr);
    }
    expect(&arena, true, "refused")?;
    apply(&["--confirm-within", "1h"])?.expect_status(0)?;
    expect(&arena, false, "on trial")?;
    arena.agent.ok(&["rollback"])?;
    expect(&arena, true, "given up")?;
    apply(&["--yes"])?.expect_status(0)?;
    expect(&arena, false, "insisted")?;

    // Back and forth: what an older policy would cut is asked for in the same way.
    run(&["rollback"])?.expect_status(0)?;
    expect(&arena, true, "gone back to what lets it through")?;
    let refused = run(&["rollback"])?.expect_status(1)?;
    assert!(refused.stderr.contains("would be cut"), "{}", refused.stderr);
    expect(&arena, true, "refused to go back")?;
    run(&["rollback", "--yes"])?.expect_status(0)?;
    expect(&arena, false, "insisted to go back")
}

/// What `sshd` would say of a connection.
fn ssh_connection(held: &Connection) -> Result<String> {
    let (client, server) = (held.client.local_addr()?, held.server.local_addr()?);
    Ok(format!("{} {} {} {}", client.ip(), client.port(), server.ip(), server.port()))
}

#[test]
fn a_connection_that_is_over_is_told_and_not_believed() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let arena = Arena::start(Setup::HostTc, OLD)?;
    arena.agent.write("new.yaml", &arena.policy(NEW))?;
    let (far, machine) = (arena.far_address(Family::V4), arena.machine_address(Family::V4));
    let mut command = arena.agent.command(&["apply", "new.yaml"])?;
    command.env("SSH_CONNECTION", format!("{far} 50000 {machine} 443"));
    let applied = Output::of(command, "apply")?.expect_status(0)?;
    for part in [&format!("{far}:50000"), "there is none", "--confirm-within"] {
        assert!(applied.stderr.contains(part), "{part}: {}", applied.stderr);
    }
    expect(&arena, false, "applied")
}

#[test]
fn an_address_of_no_covered_interface_is_judged_by_how_it_is_reached() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    for (what, interface, address, is_refused) in [
        ("of lo, by a covered interface", "lo", [10, 77, 0, 1], true),
        ("of an interface that is not covered", "eth9", [10, 99, 0, 1], false),
    ] {
        let arena = Arena::start(Setup::HostTc, OLD)?;
        let far = arena.another_wire("eth9", &["10.99.0.1/24"], &["10.99.0.2/24"])?;
        if interface != "eth9" {
            let [a, b, c, d] = address;
            arena.machine.ip(&[&format!("address add {a}.{b}.{c}.{d}/32 dev {interface}")])?;
            let via = arena.machine_address(Family::V4);
            arena.peer().ip(&[&format!("route add 10.77.0.0/24 via {via}")])?;
        }
        let from = if interface == "eth9" { &far } else { arena.peer() };
        let held = Connection::open(from, None, &arena.machine, (address, 443).into())?.context(what)?;
        arena.agent.write("new.yaml", &arena.policy(NEW))?;
        let mut command = arena.agent.command(&["apply", "new.yaml"])?;
        command.env("SSH_CONNECTION", ssh_connection(&held)?);
        let applied = Output::of(command, "apply")?.expect_status(i32::from(is_refused))?;
        assert_eq!(applied.stderr.contains("would be cut"), is_refused, "{what}: {}", applied.stderr);
        expect(&arena, is_refused, what)?;
    }
    Ok(())
}
