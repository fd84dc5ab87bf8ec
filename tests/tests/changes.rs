//! Policies that replace each other: by `apply`, by SIGHUP, or not at all when they are bad.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use sg_tests::{
    lab::{Arena, Outcome, Probe, Setup, agent::POLICY, arena::Family, can_run},
    syscall,
};

const RULES: &str = "inbound: [{allow: tcp/443, from: [PEER]}]";

/// 443 is open and 80 is not, in the generation given.
fn unchanged(arena: &Arena, generation: u64, when: &str) -> Result<()> {
    assert_eq!(arena.agent.generation()?, generation, "{when}");
    assert_eq!(arena.inbound(Probe::Tcp(443), Family::V4)?, Outcome::Answered, "{when}");
    assert_eq!(arena.inbound(Probe::Tcp(80), Family::V4)?, Outcome::Silent, "{when}");
    Ok(())
}

#[test]
fn a_bad_policy_changes_nothing_and_is_told_in_full() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let arena = Arena::start(Setup::HostTc, RULES)?;
    let generation = arena.agent.generation()?;
    let rows = [
        ("not YAML", "version: [1\n"),
        ("another version", "version: 2\n"),
        ("an unknown key", "version: 1\ngrops: {}\n"),
        ("a rule without a source", &arena.policy("inbound: [{allow: tcp/80}]")),
        ("an unknown service", &arena.policy("inbound: [{allow: htps, from: anywhere}]")),
        ("a port beyond 65535", &arena.policy("inbound: [{allow: tcp/65536, from: anywhere}]")),
        ("a group that is not there", &arena.policy("inbound: [{allow: tcp/80, from: group:nobody}]")),
        ("a list that is not there", &arena.policy("inbound: [{allow: tcp/80, from: list:none}]")),
        ("a prefix that is none", &arena.policy("inbound: [{allow: tcp/80, from: 10.0.0.0/33}]")),
    ];
    for (what, policy) in rows {
        arena.agent.write("bad.yaml", policy)?;
        for command in ["check", "apply"] {
            let output = arena.agent.run(&[command, "bad.yaml"])?.expect_status(2).context(what)?;
            let told = output.stderr.lines().any(|line| {
                let rest = line.strip_prefix("bad.yaml:").and_then(|rest| rest.split_once(": error: "));
                let numbers = rest.and_then(|(numbers, _)| numbers.split_once(':'));
                numbers.is_some_and(|(line, column)| {
                    line.parse::<u32>().is_ok() && column.parse::<u32>().is_ok()
                })
            });
            assert!(told, "{what}: no FILE:LINE:COLUMN: error: in\n{}", output.stderr);
            unchanged(&arena, generation, what)?;
        }
    }
    // What differs from the last row alone is taken.
    arena.apply("inbound: [{allow: tcp/80, from: 10.0.0.0/8}]")?;
    assert_eq!(arena.inbound(Probe::Tcp(80), Family::V4)?, Outcome::Answered);
    Ok(())
}

#[test]
fn a_bad_policy_on_sighup_changes_nothing_and_a_good_one_works_at_once() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let arena = Arena::start(Setup::HostTc, RULES)?;
    let generation = arena.agent.generation()?;
    arena.agent.write(POLICY, "version: 1\ngroups: {g: {inbound: [{allow: nonsense}]}}\n")?;
    syscall::kill(arena.agent.process()?, libc::SIGHUP)?;
    sg_tests::lab::eventually("the daemon says what is wrong", || {
        Ok(arena.agent.log().contains("policy.yaml:2"))
    })
    .with_context(|| arena.agent.log())?;
    unchanged(&arena, generation, "a bad policy on SIGHUP")?;

    arena.agent.reload(&arena.policy("inbound: [{allow: tcp/80, from: anywhere}]"))?;
    assert_eq!(arena.inbound(Probe::Tcp(80), Family::V6)?, Outcome::Answered);
    assert_eq!(arena.inbound(Probe::Tcp(443), Family::V6)?, Outcome::Silent);
    Ok(())
}

#[test]
fn ten_thousand_rules_over_a_hundred_thousand_prefixes_apply() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let arena = Arena::start(Setup::HostTc, RULES)?;
    let mut policy = String::from("version: 1\nprefix_lists:\n");
    for list in 0..100_u32 {
        write!(policy, "  l{list}:\n    entries: [")?;
        for entry in 0..1000_u32 {
            // Every second /24 of 100.0.0.0 and up: no two of them merge.
            let number = (list * 1000 + entry) * 2;
            let [_, a, b, c] = number.to_be_bytes();
            write!(policy, "{}.{b}.{c}.0/24, ", 100 + a)?;
        }
        policy.push_str("]\n");
    }
    policy.push_str("groups:\n  g:\n    inbound:\n");
    for port in 1..10_000 {
        writeln!(policy, "      - {{allow: tcp/{port}, from: list:l{}}}", port % 100)?;
    }
    policy.push_str("      - {allow: tcp/12345, from: anywhere}\ninterfaces:\n");
    writeln!(policy, "  - {}", arena.entry("g", ""))?;
    arena.agent.write(POLICY, &policy)?;

    let check = arena.agent.json(&["check", POLICY])?;
    assert_eq!(check["groups"], 1, "{check}");
    assert!(check["rules"].as_u64().is_some_and(|rules| rules >= 10_000), "{check}");
    assert!(check["prefixes"].as_u64().is_some_and(|prefixes| prefixes >= 100_000), "{check}");
    assert!(check["bytes"].as_u64().is_some_and(|bytes| bytes > 100_000), "{check}");
    arena.agent.ok(&["apply", POLICY])?;
    assert_eq!(arena.inbound(Probe::Tcp(12345), Family::V4)?, Outcome::Answered, "the last rule");
    assert_eq!(arena.inbound(Probe::Tcp(9999), Family::V4)?, Outcome::Silent, "from elsewhere");
    // A source inside the first list, by a route back to it.
    arena.far.ip(&["address add 100.0.0.5/32 dev lo"])?;
    arena.machine.ip(&["route add 100.0.0.0/24 via 10.88.0.2"])?;
    let from_list = |port| {
        let source = Some([100, 0, 0, 5].into());
        Probe::Tcp(port).run(&arena.far, source, &arena.machine, arena.machine_address(Family::V4))
    };
    assert_eq!(from_list(100)?, Outcome::Answered, "list 0 opens port 100");
    assert_eq!(from_list(101)?, Outcome::Silent, "list 1 does not hold this address");
    Ok(())
}

#[test]
fn a_directory_of_documents_is_one_policy() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let arena = Arena::start(Setup::HostTc, RULES)?;
    std::fs::create_dir(arena.agent.folder().join("policy.d"))?;
    arena.agent.write(
        "policy.d/10-groups.yaml",
        "version: 1\ngroups: {g: {inbound: [{allow: http, from: anywhere}]}}\n",
    )?;
    let entry = arena.entry("g", "");
    arena.agent.write("policy.d/20-interfaces.yml", &format!("version: 1\ninterfaces: [{entry}]\n"))?;
    arena.agent.write("policy.d/README", "not a document")?;
    arena.agent.ok(&["apply", "policy.d"])?;
    assert_eq!(arena.inbound(Probe::Tcp(80), Family::V4)?, Outcome::Answered);
    assert_eq!(arena.inbound(Probe::Tcp(443), Family::V4)?, Outcome::Silent);

    arena.agent.write("policy.d/30-again.json", r#"{"version": 1, "groups": {"g": {}}}"#)?;
    let twice = arena.agent.run(&["apply", "policy.d"])?.expect_status(2)?;
    for place in ["10-groups.yaml:2:", "30-again.json:1:"] {
        assert!(twice.stderr.contains(place), "both places are named: {}", twice.stderr);
    }
    assert_eq!(arena.inbound(Probe::Tcp(80), Family::V4)?, Outcome::Answered, "nothing changed");
    Ok(())
}
