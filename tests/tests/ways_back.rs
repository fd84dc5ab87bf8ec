//! The way back from a policy on trial, while interfaces come and go, agents die and disks fail: it leads
//! to the former policy, whole, and to nothing else.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use sg_tests::lab::{Arena, Outcome, Probe, Setup, agent::POLICY, arena::Family, can_run, eventually};

/// The last rule of each makes an image say which addresses the instance has.
const OLD: &str =
    "inbound: [{allow: tcp/443, from: [PEER]}, {allow: udp/9, from: \"group:g\"}], outbound: []";
const NEW: &str = "inbound: [{allow: tcp/443, from: [PEER]}, {allow: tcp/80, from: [PEER]}, \
                   {allow: udp/9, from: \"group:g\"}], outbound: []";
const THIRD: &str =
    "inbound: [{allow: tcp/22, from: [PEER]}, {allow: udp/9, from: \"group:g\"}], outbound: []";

/// The ports of 443, 80 and 22 that answer from the peer.
fn open(arena: &Arena) -> Result<Vec<u16>> {
    let mut open = Vec::new();
    for port in [443, 80, 22] {
        if arena.inbound(Probe::Tcp(port), Family::V4)? == Outcome::Answered {
            open.push(port);
        }
    }
    Ok(open)
}

fn started(rules: &str) -> Result<Option<Arena>> {
    if can_run() { Arena::start(Setup::HostTc, rules).map(Some) } else { Ok(None) }
}

/// Puts a policy on trial for so many seconds.
fn try_out(arena: &Arena, policy: &str, seconds: u64) -> Result<Instant> {
    arena.agent.write("trial.yaml", policy)?;
    let begin = Instant::now();
    arena.agent.ok(&["apply", "trial.yaml", "--confirm-within", &format!("{seconds}s")])?;
    Ok(begin)
}

fn wait_until(begin: Instant, seconds: u64) {
    let end = Duration::from_secs(seconds) + Duration::from_millis(300);
    thread::sleep(end.saturating_sub(begin.elapsed()));
}

/// Something that the agent takes for a change of interfaces, and is done with.
fn disturb(arena: &Arena, number: u32) -> Result<()> {
    let before = arena.agent.generation()?;
    arena.machine.ip(&[&format!("address add 10.77.0.{number}/32 dev eth0")])?;
    eventually("the address is followed", || Ok(arena.agent.generation()? != before))
}

/// The policy whose one entry matches nothing that is there.
const ELSEWHERE: &str = "version: 1\ngroups: {g: {}}\ninterfaces: [{match: nowhere0, groups: [g]}]\n";

fn generations(arena: &Arena) -> Result<Vec<(u64, String)>> {
    let history = arena.agent.json(&["history"])?;
    let generations = history["generations"].as_array().context("no generations")?;
    let told = generations.iter().map(|told| {
        let cause = told["cause"].as_str().unwrap_or_default().to_owned();
        Ok((told["generation"].as_u64().context("no number")?, cause))
    });
    told.collect()
}

#[test]
fn a_flow_that_only_the_trial_admitted_ends_with_it() -> Result<()> {
    for killed in [false, true] {
        let Some(mut arena) = started(OLD)? else { return Ok(()) };
        let begin = try_out(&arena, &arena.policy(NEW), 3)?;
        let mut admitted = arena.connect_in(Family::V4, 80)?.context("80 is closed on trial")?;
        let mut kept = arena.connect_in(Family::V4, 443)?.context("443 is closed on trial")?;
        if killed {
            arena.agent.kill()?;
        }
        wait_until(begin, 3);
        if killed {
            arena.agent.start()?;
        }
        ensure!(kept.works()?, "killed: {killed}: what both allow goes on");
        arena.apply(THIRD)?;
        ensure!(!admitted.to_server()?, "killed: {killed}: neither policy allows it");
        ensure!(open(&arena)? == [22], "killed: {killed}: {:?}", open(&arena)?);
    }
    Ok(())
}

/// The trial leaves an interface alone; its zone is given back, and with it what went on meanwhile: an
/// outbound connection whose peer speaks first after the trial was seen by nobody.
#[test]
fn a_peer_that_speaks_first_after_a_trial_is_heard_where_its_connection_is_older() -> Result<()> {
    for killed in [false, true] {
        let outbound = "inbound: [{allow: tcp/443, from: [PEER]}], outbound: [{allow: tcp/8443, to: [PEER]}]";
        let Some(mut arena) = started(outbound)? else { return Ok(()) };
        let mut older = arena.connect_out(Family::V4, 8443)?.context("8443 is closed")?;
        ensure!(older.works()?);
        let begin = try_out(&arena, ELSEWHERE, 6)?;
        ensure!(open(&arena)? == [443, 80, 22], "nothing is covered on trial");
        let mut meanwhile = arena.connect_out(Family::V4, 23)?.context("23 is closed on trial")?;
        if killed {
            arena.agent.kill()?;
        }
        wait_until(begin, 6);
        // The server of a connection that the instance opened is the peer.
        ensure!(older.to_client()?, "killed: {killed}: the peer speaks first, in a connection of before");
        ensure!(older.to_server()?, "killed: {killed}: and is answered");
        ensure!(!meanwhile.to_client()?, "killed: {killed}: what only the trial let out is cut");
        ensure!(open(&arena)? == [443], "killed: {killed}: {:?}", open(&arena)?);
        if killed {
            arena.agent.start()?;
            ensure!(older.works()?, "with the agent back");
        }
    }
    Ok(())
}

#[test]
fn a_trial_that_covers_less_survives_events_and_restarts() -> Result<()> {
    for restarted in [false, true] {
        let Some(mut arena) = started(OLD)? else { return Ok(()) };
        let mut old = arena.connect_in(Family::V4, 443)?.context("443 is closed")?;
        let begin = try_out(&arena, ELSEWHERE, 12)?;
        ensure!(open(&arena)? == [443, 80, 22], "nothing is covered on trial");
        if restarted {
            arena.agent.restart()?;
        } else {
            arena.machine.ip(&["link add d0 type veth peer name d1", "link set d0 up", "link set d1 up"])?;
            thread::sleep(Duration::from_millis(300));
            arena.machine.ip(&["address add 10.78.0.1/32 dev d0"])?;
            thread::sleep(Duration::from_millis(300));
        }
        arena.agent.kill()?;
        wait_until(begin, 12);
        ensure!(open(&arena)? == [443], "restarted: {restarted}: open are {:?}", open(&arena)?);
        ensure!(old.works()?, "restarted: {restarted}: its connection goes on");
        arena.agent.start()?;
        ensure!(open(&arena)? == [443] && old.works()?, "restarted: {restarted}: with the agent back");
    }
    Ok(())
}

#[test]
fn an_interface_that_only_the_former_policy_covers_is_covered_when_it_is_back() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let mut arena = Arena::without_agent(Setup::HostTc)?;
    let rules = "version: 1\ngroups: {g: {inbound: [{allow: tcp/443, from: anywhere}]}}\n";
    arena.agent.start_with(&format!("{rules}interfaces: [{{match: \"eth*\", groups: [g]}}]\n"))?;
    let begin = try_out(&arena, &format!("{rules}interfaces: [{{match: eth0, groups: [g]}}]\n"), 8)?;
    let far = arena.another_wire("eth9", &["10.99.0.1/24"], &["10.99.0.2/24"])?;
    let probe = |port| Probe::Tcp(port).run(&far, None, &arena.machine, [10, 99, 0, 1].into());
    ensure!(probe(22)? == Outcome::Answered, "the policy on trial leaves it alone");
    thread::sleep(Duration::from_millis(500));
    arena.agent.kill()?;
    wait_until(begin, 8);
    let probe = |port| Probe::Tcp(port).run(&far, None, &arena.machine, [10, 99, 0, 1].into());
    ensure!(probe(443)? == Outcome::Answered, "the former policy lets it through");
    ensure!(
        probe(22)? == Outcome::Silent,
        "the former policy covers it: {}\n{}",
        arena.agent.run(&["status"])?.stdout,
        arena.agent.log()
    );
    Ok(())
}

/// As after a boot: nothing is in the kernel, and nobody names a policy.
fn boot(arena: &mut Arena) -> Result<()> {
    arena.agent.kill()?;
    arena.agent.ok(&["detach", "--all"])?;
    arena.agent.write(POLICY, "version: 1\ngroups: {g: {inb")?;
    arena.agent.start()
}

#[test]
fn what_was_confirmed_is_in_force_after_a_boot_too() -> Result<()> {
    let Some(mut arena) = started(OLD)? else { return Ok(()) };
    try_out(&arena, &arena.policy(NEW), 30)?;
    disturb(&arena, 1)?;
    arena.agent.ok(&["confirm"])?;
    let told = generations(&arena)?;
    ensure!(told.iter().all(|(_, cause)| !cause.contains("should the new one")), "{told:?}");
    boot(&mut arena)?;
    ensure!(open(&arena)? == [443, 80], "open are {:?}", open(&arena)?);
    Ok(())
}

#[test]
fn what_was_not_confirmed_is_nothing_to_return_to() -> Result<()> {
    let Some(mut arena) = started(THIRD)? else { return Ok(()) };
    arena.apply(OLD)?;
    let begin = try_out(&arena, &arena.policy(NEW), 3)?;
    wait_until(begin, 3);
    eventually("the trial is over", || Ok(arena.agent.json(&["status"])?["confirm_by"].is_null()))?;
    ensure!(open(&arena)? == [443]);
    arena.agent.ok(&["rollback"])?;
    ensure!(open(&arena)? == [22], "not the one that nobody confirmed: {:?}", generations(&arena)?);

    // Neither a start nor a boot puts it in force, though its file still says so.
    arena.agent.write(POLICY, &arena.policy(NEW))?;
    arena.agent.restart()?;
    ensure!(open(&arena)? == [22], "after a start: {:?}", open(&arena)?);
    let status = arena.agent.json(&["status"])?;
    ensure!(status["agent"]["last_error"].as_str().is_some_and(|why| why.contains("on trial")), "{status}");
    // Somebody who asks for it gets it.
    arena.agent.ok(&["apply", POLICY])?;
    ensure!(open(&arena)? == [443, 80]);
    arena.agent.restart()?;
    ensure!(open(&arena)? == [443, 80], "and keeps it");
    Ok(())
}

#[test]
fn a_note_that_is_damaged_ends_the_trial_at_once() -> Result<()> {
    let Some(mut arena) = started(OLD)? else { return Ok(()) };
    try_out(&arena, &arena.policy(NEW), 30)?;
    ensure!(open(&arena)? == [443, 80]);
    arena.agent.kill()?;
    let note = arena.agent.folder().join("state/trial.json");
    fs::write(&note, fs::read_to_string(&note)?.replace("root", "boot"))?;
    arena.agent.write(POLICY, "version: 1\ngroups: {g: {inb")?;
    arena.agent.start()?;
    ensure!(open(&arena)? == [443], "the former policy: {:?}", open(&arena)?);
    disturb(&arena, 1)?;
    ensure!(open(&arena)? == [443], "after an event: {:?}", open(&arena)?);
    Ok(())
}

#[test]
fn a_confirmation_that_cannot_be_written_down_is_none() -> Result<()> {
    let Some(mut arena) = started(OLD)? else { return Ok(()) };
    let begin = try_out(&arena, &arena.policy(NEW), 6)?;
    let state = arena.agent.folder().join("state");
    let immutable = |flag: &str| arena.machine.command("chattr").arg(flag).arg(&state).status();
    if !immutable("+i")?.success() {
        return Ok(()); // A file system without such a flag.
    }
    let answer = arena.agent.run(&["confirm"]);
    ensure!(immutable("-i")?.success(), "the flag stays");
    ensure!(answer?.status != 0, "it says that it is confirmed");
    wait_until(begin, 6);
    ensure!(open(&arena)? == [443], "it was not confirmed: {:?}", open(&arena)?);
    arena.agent.restart()
}

#[test]
fn an_interface_that_was_detached_is_covered_on_trial_and_left_alone_after_it() -> Result<()> {
    let Some(arena) = started(OLD)? else { return Ok(()) };
    arena.agent.ok(&["detach", "--interface", "eth0"])?;
    ensure!(open(&arena)? == [443, 80, 22]);
    let begin = try_out(&arena, &arena.policy(NEW), 6)?;
    ensure!(open(&arena)? == [443, 80], "covered on trial: {:?}", open(&arena)?);
    wait_until(begin, 6);
    ensure!(open(&arena)? == [443, 80, 22], "as before it: {:?}", open(&arena)?);
    try_out(&arena, &arena.policy(THIRD), 30)?;
    arena.agent.ok(&["confirm"])?;
    ensure!(open(&arena)? == [22], "confirmed: {:?}", open(&arena)?);
    Ok(())
}

#[test]
fn a_trial_before_which_there_was_nothing_leaves_nothing_behind() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let mut arena = Arena::without_agent(Setup::HostTc)?;
    arena.agent.start_with(ELSEWHERE)?;
    arena.agent.ok(&["detach", "--all"])?;
    let begin = try_out(&arena, &arena.policy(OLD), 4)?;
    ensure!(open(&arena)? == [443]);
    wait_until(begin, 4);
    eventually("the trial is over", || Ok(open(&arena)? == [443, 80, 22]))?;
    try_out(&arena, &arena.policy(OLD), 30)?;
    arena.agent.ok(&["confirm"])?;
    let back = arena.agent.run(&["rollback"])?;
    // To the policy before, or nowhere: never to a host without any.
    ensure!(back.status == 1 || generations(&arena)?.len() > 1, "{back:?}");
    ensure!(back.status == 0 || open(&arena)? == [443], "{back:?}");
    Ok(())
}

#[test]
fn a_rollback_to_what_is_not_kept_changes_nothing() -> Result<()> {
    let Some(arena) = started(OLD)? else { return Ok(()) };
    try_out(&arena, &arena.policy(NEW), 30)?;
    arena.agent.run(&["rollback", "99"])?.expect_status(1)?;
    ensure!(open(&arena)? == [443, 80], "still on trial");
    arena.agent.ok(&["confirm"])?;
    Ok(())
}

#[test]
fn rules_keep_their_counters_through_a_trial() -> Result<()> {
    let Some(arena) = started(OLD)? else { return Ok(()) };
    let flows = |arena: &Arena| -> Result<u64> {
        let counters = arena.agent.json(&["counters", "--by", "rule"])?;
        let rules = counters["rules"].as_array().context("no rules")?;
        rules.first().and_then(|rule| rule["flows"].as_u64()).context("no flows")
    };
    ensure!(open(&arena)? == [443]);
    ensure!(flows(&arena)? == 1);
    try_out(&arena, &arena.policy(NEW), 60)?;
    for number in 1..=3 {
        disturb(&arena, number)?;
        ensure!(arena.inbound(Probe::Tcp(443), Family::V4)? == Outcome::Answered);
    }
    ensure!(flows(&arena)? == 4, "{}", flows(&arena)?);
    arena.agent.ok(&["rollback"])?;
    ensure!(flows(&arena)? == 4, "after it: {}", flows(&arena)?);
    Ok(())
}
