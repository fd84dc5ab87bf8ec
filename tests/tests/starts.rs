//! What the agent puts in force when it is started and nothing is enforced yet, as at boot: whatever
//! stands in the way of the policy, the last good one is; and where none ever was, that is said.

use std::fs;

use anyhow::Result;
use sg_tests::lab::{Agent, Arena, Outcome, Probe, Setup, agent::POLICY, arena::Family, can_run};

const RULES: &str = "inbound: [{allow: tcp/443, from: [PEER]}], outbound: []";

/// What is wrong at the next start, and part of why `status` says that the last good policy is not
/// what was asked for.
type Row = (&'static str, fn(&Agent) -> Result<()>, &'static str);

const ROWS: [Row; 5] = [
    (
        "the policy is half written",
        |agent| agent.write(POLICY, "version: 1\ngroups: {a: {inb"),
        "read the policy",
    ),
    ("the policy is gone", |agent| Ok(fs::remove_file(agent.folder().join(POLICY))?), "read the policy"),
    ("its folder was emptied", empty_folder, "read the policy"),
    ("the settings are no TOML", |agent| agent.write("agent.toml", "log = \"info"), "read the settings"),
    (
        "a setting is out of range",
        |agent| agent.write("agent.toml", "[flows]\ncapacity = 7"),
        "read the settings",
    ),
];

fn empty_folder(agent: &Agent) -> Result<()> {
    let path = agent.folder().join(POLICY);
    fs::remove_file(&path)?;
    fs::create_dir(&path)?;
    // Editors and version control leave such files.
    Ok(fs::write(path.join(".keep"), "")?)
}

#[test]
fn the_last_good_policy_is_enforced_whatever_is_wrong_with_the_new_one() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    for (what, break_it, why) in ROWS {
        let mut arena = Arena::start(Setup::HostTc, RULES)?;
        arena.agent.terminate()?;
        // What a boot leaves of it in the kernel: nothing.
        arena.agent.ok(&["detach", "--all"])?;
        assert_eq!(arena.inbound(Probe::Tcp(22), Family::V4)?, Outcome::Answered, "{what}: not enforced");
        break_it(&arena.agent)?;
        arena.agent.start()?;
        assert_eq!(arena.inbound(Probe::Tcp(443), Family::V4)?, Outcome::Answered, "{what}");
        assert_eq!(arena.inbound(Probe::Tcp(22), Family::V4)?, Outcome::Silent, "{what}");
        let error = arena.agent.json(&["status"])?["agent"]["last_error"].to_string();
        assert!(error.contains(why), "{what}: {error}");
    }
    Ok(())
}

#[test]
fn an_agent_without_a_policy_waits_for_one_and_says_so() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let mut arena = Arena::without_agent(Setup::HostTc)?;
    let folder = arena.agent.folder().join(POLICY);
    fs::create_dir(&folder)?;
    arena.agent.start()?;
    assert!(arena.agent.log().contains("nothing is enforced"), "{}", arena.agent.log());
    assert_eq!(arena.agent.json(&["status"])?["generation"], 0);
    assert_eq!(arena.inbound(Probe::Tcp(22), Family::V4)?, Outcome::Answered);

    fs::write(folder.join("first.yaml"), arena.policy(RULES))?;
    arena.agent.ok(&["reload"])?;
    assert_eq!(arena.inbound(Probe::Tcp(443), Family::V4)?, Outcome::Answered);
    assert_eq!(arena.inbound(Probe::Tcp(22), Family::V4)?, Outcome::Silent);
    Ok(())
}

#[test]
fn a_first_policy_that_is_refused_ends_the_agent() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    for (what, break_it, why) in ROWS.into_iter().filter(|(what, ..)| !what.contains("emptied")) {
        let mut arena = Arena::without_agent(Setup::HostTc)?;
        arena.agent.write(POLICY, &arena.policy(RULES))?;
        break_it(&arena.agent)?;
        arena.agent.start().expect_err(what);
        assert!(arena.agent.log().contains(why), "{what}: {}", arena.agent.log());
    }
    Ok(())
}

#[test]
fn reload_answers_whether_the_policy_is_in_force() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let arena = Arena::start(Setup::HostTc, RULES)?;
    let before = arena.agent.generation()?;
    arena.agent.write(POLICY, "version: 1\ngroups: {a: {inb")?;
    let refused = arena.agent.run(&["reload"])?.expect_status(2)?;
    assert!(refused.stderr.contains("nothing was changed"), "{}", refused.stderr);
    assert_eq!(arena.agent.generation()?, before);
    assert_eq!(arena.inbound(Probe::Tcp(443), Family::V4)?, Outcome::Answered);
    assert_eq!(arena.inbound(Probe::Tcp(80), Family::V4)?, Outcome::Silent);

    arena.agent.write(POLICY, &arena.policy("inbound: [{allow: tcp/80, from: [PEER]}]"))?;
    arena.agent.ok(&["reload"])?;
    assert_eq!(arena.inbound(Probe::Tcp(80), Family::V4)?, Outcome::Answered);
    assert_eq!(arena.inbound(Probe::Tcp(443), Family::V4)?, Outcome::Silent);
    Ok(())
}

#[test]
fn check_reads_what_the_agent_would() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let arena = Arena::without_agent(Setup::HostTc)?;
    let check = |settings: &str| {
        arena.agent.write("agent.toml", settings)?;
        arena.agent.run(&["check", "--config", "agent.toml"])
    };
    arena.agent.write("mine.yaml", &arena.policy(RULES))?;
    let found = check("policy = \"mine.yaml\"")?.expect_status(0)?;
    assert!(found.stdout.contains("1 group"), "{}", found.stdout);
    let settings = check("polcy = \"mine.yaml\"")?.expect_status(2)?;
    assert!(settings.stderr.contains("polcy"), "{}", settings.stderr);
    arena.agent.write("mine.yaml", "groups: [")?;
    check("policy = \"mine.yaml\"")?.expect_status(2)?;
    Ok(())
}
