//! `plan`: tells what `apply` then does, and does nothing itself.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use sg_tests::{
    each_setup,
    lab::{Arena, Connection, Outcome, Probe, Setup, agent::POLICY, arena::Family, can_run},
};

each_setup! {
    what_it_names_as_cut_is_cut_and_the_rest_lives
    nothing_is_cut_where_flows_are_kept
}

const TRACKED: &str = "inbound: [{allow: [tcp/443, tcp/80], from: [PEER]}], outbound: []";

/// The plan of these rules, which must have changes if and only if the exit status says so.
fn plan(arena: &Arena, rules: &str, status: i32) -> Result<Value> {
    plan_of(arena, &arena.policy(rules), status)
}

fn plan_of(arena: &Arena, policy: &str, status: i32) -> Result<Value> {
    arena.agent.write("planned.yaml", policy)?;
    let plan = arena.agent.run(&["plan", "planned.yaml", "-o", "json"])?.expect_status(status)?.json()?;
    ensure!(plan["changed"] == (status == 3), "{plan:#}");
    Ok(plan)
}

/// The ports of the connections that a plan names as cut.
fn cut_ports(plan: &Value) -> Result<Vec<u64>> {
    let first = plan["flows"]["first"].as_array().context("a list of flows")?;
    let mut ports: Vec<u64> = first.iter().filter_map(|flow| flow["destination_port"].as_u64()).collect();
    ports.sort_unstable();
    Ok(ports)
}

fn open(arena: &Arena, family: Family, port: u16) -> Result<Connection> {
    let mut connection = arena.connect_in(family, port)?.with_context(|| format!("{port} is closed"))?;
    ensure!(connection.works()?, "{port} {family:?}");
    Ok(connection)
}

fn what_it_names_as_cut_is_cut_and_the_rest_lives(setup: Setup) -> Result<()> {
    let arena = Arena::start(setup, TRACKED)?;
    let without = "inbound: [{allow: [tcp/443, tcp/22], from: [PEER]}], outbound: []";
    let open = |port| -> Result<Vec<Connection>> {
        Family::ALL.into_iter().map(|family| open(&arena, family, port)).collect()
    };
    let (mut stay, mut go) = (open(443)?, open(80)?);
    let told = plan(&arena, without, 3)?;
    ensure!(cut_ports(&told)? == [80, 80] && told["flows"]["cut"] == 2, "{told:#}");
    for (family, cut) in Family::ALL.into_iter().zip(told["flows"]["first"].as_array().into_iter().flatten())
    {
        let peer = arena.peer_address(family).to_string();
        ensure!(cut["rule"] == "g/inbound/0" && cut["source"] == peer.as_str(), "{cut:#}");
    }
    for connection in stay.iter_mut().chain(&mut go) {
        ensure!(connection.works()?, "a plan ends nothing");
    }
    arena.apply(without)?;
    for connection in &mut stay {
        ensure!(connection.works()?, "what is not named lives");
    }
    for connection in &mut go {
        ensure!(!connection.to_server()?, "what is named is cut");
    }
    Ok(())
}

fn nothing_is_cut_where_flows_are_kept(setup: Setup) -> Result<()> {
    let mut arena = Arena::without_agent(setup)?;
    arena.agent.settings("on_change = \"keep\"\n")?;
    let policy = arena.policy(TRACKED);
    arena.agent.start_with(&policy)?;
    let mut connection = open(&arena, Family::V4, 443)?;
    let without = "inbound: [], outbound: []";
    let told = plan(&arena, without, 3)?;
    ensure!(told["flows"]["cut"] == 0 && told["flows"]["kept"] == 1, "{told:#}");
    arena.apply(without)?;
    ensure!(connection.works()?, "it is kept");
    Ok(())
}

#[test]
fn a_connection_that_needs_no_entry_is_named_too() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let arena = Arena::start(Setup::HostTc, "inbound: [{allow: [tcp/443, tcp/80], from: anywhere}]")?;
    let (mut stays, mut goes) = (open(&arena, Family::V4, 443)?, open(&arena, Family::V4, 80)?);
    let flows = arena.agent.json(&["flows"])?;
    assert_eq!(flows["flows"], json!([]), "neither has an entry");
    let without = "inbound: [{allow: tcp/443, from: anywhere}]";
    let told = plan(&arena, without, 3)?;
    assert_eq!((cut_ports(&told)?, &told["flows"]["cut"]), (vec![80], &json!(1)), "{told:#}");
    assert_eq!(told["flows"]["first"][0]["rule"], "g/inbound/0", "{told:#}");
    arena.apply(without)?;
    assert!(stays.works()?, "what is not named lives");
    assert!(!goes.to_server()?, "what is named is cut");
    Ok(())
}

#[test]
fn a_plan_changes_nothing_and_tells_who_gains_and_who_loses() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let arena = Arena::start(Setup::HostTc, "inbound: [{allow: tcp/443, from: [PEER]}], outbound: []")?;
    let state = || -> Result<Vec<String>> {
        let mut files = vec![];
        for folder in ["state/generations", "state/policies"] {
            for entry in std::fs::read_dir(arena.agent.folder().join(folder)).into_iter().flatten() {
                let entry = entry?;
                files.push(format!("{:?} {:?}", entry.path(), entry.metadata()?.modified()?));
            }
        }
        files.sort();
        Ok(files)
    };
    let (counters, status, files) =
        (arena.agent.json(&["counters"])?, arena.agent.json(&["status"])?, state()?);
    assert!(!files.is_empty(), "where the agent keeps its generations");

    let rules = "inbound: [{allow: tcp/80, from: anywhere}], outbound: []";
    let told = plan(&arena, rules, 3)?;
    let expected = json!([{
        "interfaces": ["eth0"],
        "direction": "inbound",
        "gains": [{"services": ["tcp/80"], "addresses": ["anywhere"], "more_addresses": 0}],
        "losses": [
            {"services": ["tcp/443"], "addresses": ["10.88.0.2/32", "fd88::2/128"], "more_addresses": 0},
        ],
    }]);
    assert_eq!(told["access"], expected, "{told:#}");
    let rule = |list: &str| &told["rules"][list][0];
    assert_eq!(rule("added")["says"], "allow tcp/80 from anywhere", "{told:#}");
    assert_eq!(rule("added")["source"], "planned.yaml:3", "{told:#}");
    assert_eq!(rule("removed")["says"], "allow tcp/443 from 10.88.0.2/32, fd88::2/128", "{told:#}");
    assert!(told["size"]["then"]["bytes"].as_u64() > Some(0), "{told:#}");
    for _ in 0..3 {
        plan(&arena, rules, 3)?;
        plan(&arena, "inbound: [{allow: tcp/443, from: [PEER]}], outbound: [], description: as it is", 0)?;
    }

    assert_eq!(arena.agent.json(&["counters"])?, counters, "generation and counters");
    assert_eq!(arena.agent.json(&["status"])?, status);
    assert_eq!(state()?, files, "the state folder");
    assert_eq!(arena.inbound(Probe::Tcp(443), Family::V4)?, Outcome::Answered);
    assert_eq!(arena.inbound(Probe::Tcp(80), Family::V4)?, Outcome::Silent);
    // What it told of comes true.
    arena.apply(rules)?;
    assert_eq!(arena.inbound(Probe::Tcp(443), Family::V4)?, Outcome::Silent);
    assert_eq!(arena.inbound(Probe::Tcp(80), Family::V6)?, Outcome::Answered);
    plan(&arena, rules, 0)?;
    Ok(())
}

#[test]
fn coverage_and_settings_are_told_by_name() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let rules = "inbound: [{allow: tcp/443, from: [PEER]}], outbound: []";
    let arena = Arena::start(Setup::HostTc, rules)?;
    let audited = plan_of(&arena, &arena.policy_with(rules, ", mode: audit"), 3)?;
    let setting = json!({"name": "mode", "before": "enforce", "after": "audit"});
    let interface = json!([{"name": "eth0", "coverage": "stays", "settings": [setting]}]);
    assert_eq!(audited["interfaces"], interface, "{audited:#}");
    let gains = &audited["access"][1]["gains"][0];
    assert_eq!(gains["services"], json!(["all"]), "outbound of {audited:#}");

    let elsewhere = arena.policy(rules).replace("match: eth0", "match: other0");
    let uncovered = plan_of(&arena, &elsewhere, 3)?;
    let ends = json!([{"name": "eth0", "coverage": "ends", "settings": []}]);
    assert_eq!((&uncovered["interfaces"], &uncovered["access"]), (&ends, &json!([])), "{uncovered:#}");

    // What was detached by name is covered again by the next policy.
    arena.agent.ok(&["detach", "--interface", "eth0"])?;
    let covered = plan(&arena, rules, 3)?;
    assert_eq!(covered["interfaces"][0]["coverage"], "begins", "{covered:#}");
    assert_eq!(covered["access"], json!([]), "{covered:#}");
    assert_eq!(arena.inbound(Probe::Tcp(80), Family::V4)?, Outcome::Answered, "and not by a plan");
    arena.agent.ok(&["detach", "--all"])?;
    let again = plan(&arena, rules, 3)?;
    assert_eq!((&again["generation"], &again["size"]["now"]["bytes"]), (&json!(0), &json!(0)), "{again:#}");
    assert!(arena.agent.json(&["status"])?["attachments"] == json!([]), "a plan loads nothing");
    Ok(())
}

#[test]
fn exit_statuses_and_tables() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let mut arena = Arena::start(Setup::HostTc, "inbound: [{allow: tcp/443, from: [PEER]}], outbound: []")?;
    let same = arena.agent.run(&["plan", POLICY])?.expect_status(0)?;
    assert!(same.stdout.starts_with("nothing would change: generation "), "{}", same.stdout);

    let many: Vec<String> = (0..100).map(|number| format!("198.51.{number}.1")).collect();
    let rules = format!("inbound: [{{allow: [tcp/1-5, gre], from: [{}]}}], outbound: []", many.join(", "));
    arena.agent.write("planned.yaml", &arena.policy(&rules))?;
    let text = arena.agent.run(&["plan", "planned.yaml"])?.expect_status(3)?.stdout;
    for word in
        ["eth0 inbound", "+ tcp/1-5, gre from 198.51.0.1/32", "… and 88 more", "- tcp/443 from", "SIZE"]
    {
        assert!(text.contains(word), "{word} in\n{text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    assert!(!text.contains('\x1b'), "{text}");

    arena.agent.write("bad.yaml", "version: 1\ngroups: {g: {inbound: [{allow: nonsense}]}}\n")?;
    let bad = arena.agent.run(&["plan", "bad.yaml"])?.expect_status(2)?;
    assert!(bad.stderr.contains("bad.yaml:2:"), "{}", bad.stderr);
    arena.agent.run(&["plan"])?.expect_status(2)?;
    arena.agent.kill()?;
    arena.agent.run(&["plan", POLICY])?.expect_status(4)?;
    Ok(())
}

/// What is the same of two plans of one change, at two moments and of two lengths.
fn told(plan: &Value) -> Value {
    let mut told = plan.clone();
    if let Some(fields) = told.as_object_mut() {
        fields.remove("compile_ms");
    }
    told
}

#[test]
fn a_change_tells_with_its_answer_what_it_changed() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let arena = Arena::start(Setup::HostTc, TRACKED)?;
    let (mut stays, mut goes) = (open(&arena, Family::V4, 443)?, open(&arena, Family::V4, 80)?);
    let without = "inbound: [{allow: [tcp/443, tcp/22], from: [PEER]}], outbound: []";
    let planned = plan(&arena, without, 3)?;
    let applied = arena.agent.json(&["apply", "planned.yaml"])?;
    ensure!(told(&applied["plan"]) == told(&planned), "{applied:#}\nbut it was planned:\n{planned:#}");
    ensure!(planned["flows"]["cut"] == 1 && applied["changed"] == true, "{planned:#}");
    ensure!(stays.works()? && !goes.to_server()?, "and that is what became of them");
    // Once more it is nothing.
    let again = arena.agent.json(&["apply", "planned.yaml"])?;
    ensure!(again["plan"]["changed"] == false && again["changed"] == false, "{again:#}");
    let text = arena.agent.ok(&["apply", "planned.yaml"])?.stdout;
    ensure!(text.starts_with("generation ") && text.contains("in force already"), "{text}");

    // So does what leads back.
    let text = arena.agent.ok(&["rollback"])?.stdout;
    let (changes, report) = text.split_once("\n\n").context("changes before the report")?;
    for word in ["eth0 inbound", "+ tcp/80 from", "- tcp/22 from", "live flows ended"] {
        ensure!(changes.contains(word), "{word} in\n{text}");
    }
    ensure!(report.starts_with("generation "), "{text}");
    let tried = arena.agent.json(&["apply", "planned.yaml", "--confirm-within", "1m"])?;
    ensure!(tried["plan"]["access"] == planned["access"], "{tried:#}");
    let back = arena.agent.json(&["rollback"])?;
    ensure!(back["plan"]["access"][0]["losses"] == planned["access"][0]["gains"], "{back:#}");
    // Nobody asked for a policy by name.
    ensure!(arena.agent.json(&["reload"])?["plan"].is_null());

    // What is refused says no more than that.
    arena.agent.write("planned.yaml", "version: 1\ninterfaces: [{match: eth0, groups: [none]}]\n")?;
    let refused = arena.agent.run(&["apply", "planned.yaml", "-o", "json"])?.expect_status(2)?;
    ensure!(refused.stdout.is_empty(), "{}", refused.stdout);
    Ok(())
}

/// Few of a change that is large; all of them are for `plan`.
#[test]
fn a_change_lists_some_thousands_of_addresses_and_counts_the_rest() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    const ALL: u32 = 10_000;
    let arena = Arena::start(Setup::HostTc, "inbound: [], outbound: []")?;
    let many: Vec<_> = (0..ALL).map(|number| format!("11.{}.{}.1", number >> 8, number & 0xff)).collect();
    let rules = format!("inbound: [{{allow: tcp/443, from: [{}]}}], outbound: []", many.join(", "));
    let line = |plan: &Value| -> Result<(u64, u64)> {
        let line = &plan["access"][0]["gains"][0];
        let listed = line["addresses"].as_array().context("a list of addresses")?.len() as u64;
        Ok((listed, line["more_addresses"].as_u64().context("a number")?))
    };
    let planned = line(&plan(&arena, &rules, 3)?)?;
    ensure!(planned == (ALL.into(), 0), "{planned:?}");
    let applied = line(&arena.agent.json(&["apply", "planned.yaml"])?["plan"])?;
    ensure!(applied == (4096, u64::from(ALL) - 4096), "{applied:?}");
    Ok(())
}
