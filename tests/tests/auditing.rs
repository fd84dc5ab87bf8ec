//! Audit by group, and what is remembered of what audit let pass.

use std::net::IpAddr;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use sg_tests::{
    each_setup,
    lab::{Arena, Outcome, Probe, Setup, arena::Family, can_run, eventually},
    packet::{Packet, Udp},
};

each_setup! {
    a_group_has_its_interfaces_in_audit_while_it_is
    what_would_be_lost_is_told_by_the_rules
}

const WATCHED: &str = "mode: audit, inbound: [], outbound: []";
const SHUT: &str = "inbound: [], outbound: []";

/// The services that would be lost, as (direction, service, reason).
type Lost = Vec<(String, String, String)>;

fn lines(audited: &Value) -> Result<Lost> {
    let lost = audited["lost"].as_array().context("a list")?;
    let text = |value: &Value| value.as_str().unwrap_or("none").to_owned();
    let mut lines: Lost = lost
        .iter()
        .map(|line| (text(&line["direction"]), text(&line["service"]), text(&line["reason"])))
        .collect();
    lines.sort();
    Ok(lines)
}

/// What would be lost if these rules, or those in force, were enforced.
fn audited(arena: &Arena, rules: Option<&str>) -> Result<Value> {
    let mut words = vec!["plan", "--audited", "-o", "json"];
    if let Some(rules) = rules {
        arena.agent.write("planned.yaml", &arena.policy(rules))?;
        words.push("planned.yaml");
    }
    let output = arena.agent.run(&words)?;
    let audited = output.json()?;
    ensure!(output.status == if audited["loses"] == true { 3 } else { 0 }, "{}: {audited:#}", output.status);
    ensure!((audited["lost"] != Value::Array(vec![])) == (audited["loses"] == true), "{audited:#}");
    Ok(audited)
}

fn expected(services: &[&str]) -> Lost {
    let line = |service: &&str| ("inbound".to_owned(), (*service).to_owned(), "no_rule".to_owned());
    services.iter().map(line).collect()
}

fn a_group_has_its_interfaces_in_audit_while_it_is(setup: Setup) -> Result<()> {
    let arena = Arena::start(setup, SHUT)?;
    for family in Family::ALL {
        arena.apply(SHUT)?;
        assert_eq!(arena.inbound(Probe::Tcp(443), family)?, Outcome::Silent, "enforced, {family:?}");
        // What it would change: the mode, and who has access.
        arena.agent.write("planned.yaml", &arena.policy(WATCHED))?;
        let plan = arena.agent.run(&["plan", "planned.yaml", "-o", "json"])?.expect_status(3)?.json()?;
        let setting = &plan["interfaces"][0]["settings"][0];
        assert_eq!(
            (&setting["name"], &setting["after"]),
            (&"mode".into(), &"audit (group g)".into()),
            "{plan:#}"
        );
        assert_eq!(plan["access"][0]["gains"][0]["services"][0], "all", "{plan:#}");

        arena.apply(WATCHED)?;
        let before = arena.counters()?;
        for probe in [Probe::Tcp(443), Probe::Udp(53), Probe::Ping] {
            assert_eq!(arena.inbound(probe, family)?, Outcome::Answered, "{probe:?} in, {family:?}");
            assert_eq!(arena.outbound(probe, family)?, Outcome::Answered, "{probe:?} out, {family:?}");
        }
        let moved = arena.counters()?.since(&before)?;
        for direction in ["inbound", "outbound"] {
            assert!(moved.of("eth0", direction, "audited no_rule") >= 3, "{direction}: {moved:?}");
            assert_eq!(moved.of("eth0", direction, "no_rule"), 0, "{direction}: {moved:?}");
        }
        let status = arena.agent.json(&["status"])?;
        let attachment = &status["attachments"][0];
        assert_eq!((&attachment["mode"], &attachment["audit_groups"][0]), (&"audit".into(), &"g".into()));
        let shown = arena.agent.ok(&["status"])?.stdout;
        assert!(shown.contains("audit (group g)"), "{shown}");
    }
    // Another group of the interface's is enough, and one that it does not carry is none of its business.
    for (groups, mode, outcome) in [
        ("g, h", "audit", Outcome::Answered),
        ("g", "audit", Outcome::Silent),
        ("g, h", "enforce", Outcome::Silent),
    ] {
        let policy =
            arena.policy(SHUT).replace("groups:\n", &format!("groups:\n  h: {{mode: {mode}, {SHUT}}}\n"));
        arena.agent.apply(&policy.replace("groups: [g]", &format!("groups: [{groups}]")))?;
        assert_eq!(arena.inbound(Probe::Tcp(443), Family::V4)?, outcome, "{groups}, h in {mode}");
    }
    Ok(())
}

fn what_would_be_lost_is_told_by_the_rules(setup: Setup) -> Result<()> {
    let arena = Arena::start(setup, WATCHED)?;
    let nothing = audited(&arena, None)?;
    assert_eq!((&nothing["loses"], &nothing["remembered"]), (&false.into(), &0.into()), "{nothing:#}");
    for family in Family::ALL {
        for probe in [Probe::Tcp(443), Probe::Udp(53), Probe::Ping] {
            assert_eq!(arena.inbound(probe, family)?, Outcome::Answered, "{probe:?}, {family:?}");
        }
    }
    let lost = audited(&arena, None)?;
    let all = expected(&["icmp/echo-request", "icmpv6/echo-request", "tcp/443", "udp/53"]);
    assert_eq!(lines(&lost)?, all, "{lost:#}");
    let https =
        lost["lost"].as_array().and_then(|lost| lost.iter().find(|line| line["service"] == "tcp/443"));
    let https = https.context("tcp/443")?;
    let peers: Vec<Value> = Family::ALL.map(|family| arena.peer_address(family).to_string().into()).into();
    assert_eq!((&https["remote_count"], &https["remotes"]), (&2.into(), &Value::Array(peers)), "{lost:#}");
    assert!(https["packets"].as_u64().is_some_and(|packets| packets >= 8), "both ways: {lost:#}");
    assert!(https["last_seen"].as_str() >= https["first_seen"].as_str(), "{lost:#}");
    let table = arena.agent.run(&["plan", "--audited"])?.expect_status(3)?.stdout;
    assert!(table.contains("tcp/443") && table.lines().all(|line| line.chars().count() <= 100), "{table}");

    // By another policy, which is applied then, and does what was told.
    for (rules, rest) in [
        (
            "inbound: [{allow: tcp/443, from: [PEER]}], outbound: []",
            &["icmp/echo-request", "icmpv6/echo-request", "udp/53"][..],
        ),
        ("inbound: [{allow: [tcp/443, icmp, udp/53], from: [PEER]}], outbound: []", &["icmpv6/echo-request"]),
        ("inbound: [{allow: all, from: [PEER]}], outbound: []", &[]),
        (
            "inbound: [{allow: all, from: 192.0.2.1}]",
            &["icmp/echo-request", "icmpv6/echo-request", "tcp/443", "udp/53"],
        ),
    ] {
        let lost = audited(&arena, Some(rules))?;
        assert_eq!(lines(&lost)?, expected(rest), "{rules}: {lost:#}");
    }
    arena.apply("inbound: [{allow: [tcp/443, icmp, icmpv6], from: [PEER]}], outbound: []")?;
    assert_eq!(lines(&audited(&arena, None)?)?, expected(&["udp/53"]), "what was seen is not forgotten");
    for (probe, outcome) in [(Probe::Tcp(443), Outcome::Answered), (Probe::Udp(53), Outcome::Silent)] {
        assert_eq!(arena.inbound(probe, Family::V6)?, outcome, "{probe:?}, enforced");
    }
    Ok(())
}

/// Sends a datagram from an address of nobody's, and waits until it is counted.
fn from_nobody(arena: &Arena, numbers: std::ops::RangeInclusive<u8>) -> Result<()> {
    let before = arena.counters()?;
    let count = numbers.clone().count() as u64;
    let socket = arena.peer_socket()?;
    for number in numbers {
        let nobody = IpAddr::from([198, 51, 100, number]);
        let packet = Packet::new(nobody, arena.instance_address(Family::V4), Udp::new(40_000, 514, b"log"));
        socket.send(&arena.frame_in(&packet).bytes())?;
    }
    eventually("they are counted", || {
        Ok(arena.counters()?.since(&before)?.of("eth0", "inbound", "audited no_rule") == count)
    })
}

#[test]
fn what_was_seen_outlives_a_restart_a_kill_and_an_apply() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let mut arena = Arena::start(Setup::HostTc, WATCHED)?;
    arena.machine.ip(&["route replace blackhole 198.51.100.0/24"])?;
    from_nobody(&arena, 1..=20)?;
    let is_kept = |arena: &Arena, when: &str| -> Result<()> {
        let packets = arena.counters()?.of("eth0", "inbound", "audited no_rule");
        assert_eq!(packets, 20, "{when}");
        let audited = audited(arena, None)?;
        let line =
            audited["lost"].as_array().and_then(|lost| lost.iter().find(|line| line["service"] == "udp/514"));
        let line = line.with_context(|| format!("{when}: {audited:#}"))?;
        assert_eq!((&line["remote_count"], &line["packets"]), (&20.into(), &20.into()), "{when}");
        assert_eq!(line["remotes"][0], "198.51.100.1", "{when}");
        Ok(())
    };
    is_kept(&arena, "at first")?;
    arena.agent.restart()?;
    is_kept(&arena, "after a restart")?;
    arena.agent.kill()?;
    arena.agent.start()?;
    is_kept(&arena, "after a kill")?;
    arena.apply("mode: audit, inbound: [{allow: tcp/80, from: anywhere}], outbound: []")?;
    is_kept(&arena, "after an apply")?;
    // Maps that grow take it along.
    let many: Vec<_> = (0..3000).map(|n| format!("10.{}.{}.{}/32", n % 250, n / 250, n % 7 * 8)).collect();
    let rules = format!(
        "mode: audit, inbound: [{{allow: [tcp/81, tcp/83], from: [{}]}}], outbound: []",
        many.join(", ")
    );
    arena.apply(&rules)?;
    is_kept(&arena, "under a large policy")?;
    // Of an interface that is covered anew nothing was seen.
    arena.agent.apply("version: 1\n")?;
    arena.apply(WATCHED)?;
    let forgotten = audited(&arena, None)?;
    assert_eq!((&forgotten["loses"], &forgotten["remembered"]), (&false.into(), &0.into()), "{forgotten:#}");
    Ok(())
}

#[test]
fn what_is_no_matter_of_rules_is_lost_under_every_policy() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let arena = Arena::start(Setup::HostTc, WATCHED)?;
    let socket = arena.peer_socket()?;
    let loopback = IpAddr::from([127, 0, 0, 1]);
    let martian = Packet::new(loopback, arena.instance_address(Family::V4), Udp::new(40_000, 53, b"x"));
    arena.counted(&[("inbound", "allowed", 1), ("inbound", "audited martian", 1)], || {
        socket.send(&arena.frame_in(&martian).bytes())?;
        std::thread::sleep(std::time::Duration::from_millis(50));
        Ok(())
    })?;
    for rules in [None, Some("inbound: [{allow: all, from: anywhere}]")] {
        let lost = audited(&arena, rules)?;
        let line = ("inbound".to_owned(), "none".to_owned(), "martian".to_owned());
        assert_eq!(lines(&lost)?, [line], "{rules:?}: {lost:#}");
    }
    Ok(())
}
