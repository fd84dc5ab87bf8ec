//! `unlock`: one port, open to one address past the policy and for a time, with nobody alive but the
//! programs.

use std::{
    fs,
    net::IpAddr,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use serde_json::Value;
use sg_tests::{
    each_setup,
    lab::{Arena, Outcome, Probe, Setup, arena::Family, can_run, eventually},
    packet::{Mac, Packet, Tcp},
};

each_setup! {
    a_port_is_open_to_one_address_with_the_agent_dead
    what_is_open_outlives_the_agent_and_every_policy
    what_is_no_matter_of_the_policy_stays_dropped
}

const SHUT: &str = "inbound: [], outbound: []";

/// An agent under whose policy nothing passes, dead.
fn shut(setup: Setup) -> Result<Arena> {
    let mut arena = Arena::start(setup, SHUT)?;
    arena.agent.kill()?;
    Ok(arena)
}

fn open(arena: &Arena, port: &str, address: IpAddr, time: &str) -> Result<()> {
    let words = ["unlock", "--port", port, "--address", &address.to_string(), "--for", time];
    let output = arena.agent.ok(&words)?;
    assert!(output.stderr.contains(&format!("unlocked {port} for {address}")), "{}", output.stderr);
    Ok(())
}

/// Packets that passed by an unlock: inbound and outbound.
fn passed(arena: &Arena) -> Result<[u64; 2]> {
    let counters = arena.agent.json(&["counters"])?;
    let interface = &counters["interfaces"][0];
    let packets =
        |direction: &str| interface[direction]["allowed_by"]["unlock"]["packets"].as_u64().unwrap_or(0);
    Ok([packets("inbound"), packets("outbound")])
}

fn is_open(arena: &Arena, probe: Probe, family: Family, what: &str) -> Result<()> {
    let before = passed(arena)?;
    assert_eq!(arena.inbound(probe, family)?, Outcome::Answered, "{what}: {probe:?} {family:?}");
    let after = passed(arena)?;
    assert!(after[0] > before[0] && after[1] > before[1], "{what}: {before:?}, then {after:?}");
    Ok(())
}

fn is_shut(arena: &Arena, probe: Probe, family: Family, what: &str) -> Result<()> {
    let before = passed(arena)?;
    assert_eq!(arena.inbound(probe, family)?, Outcome::Silent, "{what}: {probe:?} {family:?}");
    assert_eq!(passed(arena)?, before, "{what}: {probe:?} {family:?}");
    Ok(())
}

/// Another address of the peer's, which it uses only where it is told to.
fn stranger(arena: &Arena, family: Family) -> Result<IpAddr> {
    let (interface, text): (_, IpAddr) = match family {
        Family::V4 => ("10.88.0.77/24", [10, 88, 0, 77].into()),
        Family::V6 => ("fd88::77/64", "fd88::77".parse()?),
    };
    let (theirs, ours, hardware) = match arena.setup {
        Setup::Guest => ("eth0", "far0", Mac::local(1)),
        Setup::HostTc | Setup::HostXdp => ("far0", "eth0", Mac::local(2)),
    };
    arena.peer().ip(&[&format!("address add {interface} dev {theirs} nodad preferred_lft 0")])?;
    arena
        .instance()
        .ip(&[&format!("neighbour replace {text} lladdr {hardware} dev {ours} nud permanent")])?;
    Ok(text)
}

fn a_port_is_open_to_one_address_with_the_agent_dead(setup: Setup) -> Result<()> {
    let arena = shut(setup)?;
    for family in Family::ALL {
        let other = stranger(&arena, family)?;
        let from_other = |what: &str| -> Result<()> {
            let target = arena.instance_address(family);
            let outcome = Probe::Tcp(22).run(arena.peer(), Some(other), arena.instance(), target)?;
            assert_eq!(outcome, Outcome::Silent, "another address, {what}");
            Ok(())
        };
        is_shut(&arena, Probe::Tcp(22), family, "before")?;
        open(&arena, "tcp/22", arena.peer_address(family), "60s")?;
        is_open(&arena, Probe::Tcp(22), family, "unlocked")?;
        is_shut(&arena, Probe::Tcp(23), family, "another port")?;
        is_shut(&arena, Probe::Udp(22), family, "another protocol")?;
        from_other("unlocked")?;
        // The other way round nothing is open.
        assert_eq!(arena.outbound(Probe::Tcp(22), family)?, Outcome::Silent, "outbound");
        open(&arena, "tcp/22", other, "60s")?;
        let target = arena.instance_address(family);
        let outcome = Probe::Tcp(22).run(arena.peer(), Some(other), arena.instance(), target)?;
        assert_eq!(outcome, Outcome::Answered, "the other address, unlocked as well");

        let status = arena.agent.json(&["status"])?;
        let listed = status["unlocked"].as_array().context("a list")?;
        assert_eq!(listed.len(), 2, "{status:#}");
        assert_eq!(listed[0]["service"], "tcp/22", "{status:#}");
        assert!(status["passed_unlocked"]["packets"].as_u64().is_some_and(|count| count > 0), "{status:#}");
        let shown = arena.agent.ok(&["status"])?.stdout;
        assert!(shown.contains("tcp/22 for ") && shown.contains("past the policy"), "{shown}");

        let ended = arena.agent.json(&["unlock", "--end"])?;
        assert_eq!(ended["ended"], 2, "{ended}");
        let history = arena.agent.json(&["history"])?;
        let uses = history["unlocks"].as_array().context("a list of unlocks")?;
        let count = |what: &str| uses.iter().filter(|one| one["what"] == what).count();
        assert!(count("unlock") >= 2 && count("end") >= 1, "{history:#}");
        let opened = |one: &&Value| one["address"] == arena.peer_address(family).to_string();
        let opened = uses.iter().find(opened).context("the port that was opened")?;
        assert_eq!((&opened["service"], &opened["seconds"]), (&"tcp/22".into(), &60.into()), "{opened}");
        assert!(opened["author"].is_string() && opened["time"].is_string(), "{opened}");
        is_shut(&arena, Probe::Tcp(22), family, "closed early")?;
        from_other("closed early")?;
        open(&arena, "udp/53", arena.peer_address(family), "60s")?;
        is_open(&arena, Probe::Udp(53), family, "a port of UDP")?;
        is_shut(&arena, Probe::Tcp(53), family, "the same of TCP")?;
        arena.agent.ok(&["unlock", "--end"])?;
        explained(&arena, family)?;
    }
    Ok(())
}

/// `explain` tells of what is open.
fn explained(arena: &Arena, family: Family) -> Result<()> {
    let bracket = |address: IpAddr, port: u16| std::net::SocketAddr::new(address, port).to_string();
    let (from, to) =
        (bracket(arena.peer_address(family), 40_000), bracket(arena.instance_address(family), 22));
    let words = ["explain", "--interface", "eth0", "in", "tcp", &from, &to, "-o", "json"];
    let ask = |status: i32| -> Result<Value> { arena.agent.run(&words)?.expect_status(status)?.json() };
    assert_eq!(ask(3)?["reason"], "no_rule");
    open(arena, "tcp/22", arena.peer_address(family), "60s")?;
    assert_eq!(ask(0)?["via"], "unlock");
    arena.agent.ok(&["unlock", "--end"])?;
    assert_eq!(ask(3)?["reason"], "no_rule");
    Ok(())
}

fn what_is_open_outlives_the_agent_and_every_policy(setup: Setup) -> Result<()> {
    let mut arena = shut(setup)?;
    let state = arena.agent.folder().join("state");
    fs::remove_dir_all(&state).context("the state folder")?;
    let family = Family::V4;
    open(&arena, "tcp/22", arena.peer_address(family), "5m")?;
    is_open(&arena, Probe::Tcp(22), family, "without a state folder")?;
    fs::create_dir(&state)?;

    arena.agent.start()?;
    is_open(&arena, Probe::Tcp(22), family, "with the agent back")?;
    assert!(arena.agent.log().contains("unlocked: tcp/22 for"), "{}", arena.agent.log());
    // Another policy, and a large one.
    arena.apply("inbound: [{allow: tcp/80, from: [PEER]}], outbound: []")?;
    is_open(&arena, Probe::Tcp(22), family, "under another policy")?;
    let many: Vec<_> = (0..3000).map(|n| format!("10.{}.{}.{}/32", n % 250, n / 250, n % 7 * 8)).collect();
    arena.apply(&format!(
        "inbound: [{{allow: [tcp/81, tcp/83], from: [{}]}}], outbound: []",
        many.join(", ")
    ))?;
    is_open(&arena, Probe::Tcp(22), family, "under a large policy")?;
    is_shut(&arena, Probe::Tcp(23), family, "under a large policy")?;
    arena.agent.ok(&["unlock", "--end"])?;
    is_shut(&arena, Probe::Tcp(22), family, "closed with the agent alive")?;
    eventually("the agent logs it", || Ok(arena.agent.log().contains("not unlocked any more: tcp/22")))
}

fn what_is_no_matter_of_the_policy_stays_dropped(setup: Setup) -> Result<()> {
    let arena = shut(setup)?;
    let sender = arena.peer_socket()?;
    for family in Family::ALL {
        let (peer, instance) = (arena.peer_address(family), arena.instance_address(family));
        open(&arena, "tcp/22", peer, "60s")?;
        let frame = |tcp: Tcp| arena.frame_in(&Packet::new(peer, instance, tcp)).bytes();
        for (what, reason, tcp) in [
            ("flags that nobody sends", "invalid_tcp_flags", Tcp::new(40_000, 22, Tcp::SYN | Tcp::FIN)),
            (
                "a header that lies",
                "malformed",
                Tcp { data_offset: Some(15), ..Tcp::new(40_000, 22, Tcp::SYN) },
            ),
        ] {
            arena
                .counted(&[("inbound", reason, 1)], || sender.send(&frame(tcp)))
                .with_context(|| format!("{what} {family:?}"))?;
        }
        let is_counted = || {
            let before = passed(&arena)?[0];
            sender.send(&frame(Tcp::new(40_000, 22, Tcp::SYN)))?;
            eventually("it passes by the unlock", || Ok(passed(&arena)?[0] == before + 1))
        };
        is_counted().with_context(|| format!("an honest packet {family:?}"))?;
        arena.agent.ok(&["unlock", "--end"])?;
    }
    if setup == Setup::Guest {
        // Of an address that is not the guest's own.
        let wrong = IpAddr::from([10, 88, 0, 99]);
        open(&arena, "tcp/22", arena.peer_address(Family::V4), "60s")?;
        let packet = Packet::new(wrong, arena.peer_address(Family::V4), Tcp::new(22, 40_000, Tcp::ACK));
        let guest = arena.instance_socket()?;
        arena
            .counted(&[("outbound", "source_check", 1)], || guest.send(&arena.frame_out(&packet).bytes()))?;
    }
    Ok(())
}

#[test]
fn it_is_over_when_its_time_has_passed_with_nobody_alive() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    for setup in [Setup::HostXdp, Setup::Guest] {
        let arena = shut(setup)?;
        let begin = Instant::now();
        open(&arena, "tcp/22", arena.peer_address(Family::V4), "6s")?;
        is_open(&arena, Probe::Tcp(22), Family::V4, "in time")?;
        assert!(begin.elapsed() < Duration::from_secs(6), "too slow to tell");
        thread::sleep(Duration::from_millis(6_100).saturating_sub(begin.elapsed()));
        is_shut(&arena, Probe::Tcp(22), Family::V4, "too late")?;
        let status = arena.agent.json(&["status"])?;
        assert_eq!(status["unlocked"], Value::Array(vec![]), "{status:#}");
        // Asked for again, it is open again.
        open(&arena, "tcp/22", arena.peer_address(Family::V4), "60s")?;
        is_open(&arena, Probe::Tcp(22), Family::V4, "once more")?;
    }
    Ok(())
}

#[test]
fn an_interface_is_opened_and_no_other() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let mut arena = Arena::without_agent(Setup::HostTc)?;
    let far = arena.another_wire("eth1", &["10.99.0.1/24"], &["10.99.0.2/24"])?;
    let second = arena.entry("g", "").replace("eth0", "eth1");
    let policy = arena.policy(SHUT) + &format!("  - {second}\n");
    arena.agent.start_with(&policy)?;
    arena.agent.kill()?;
    // One address, which both could have.
    let peer = arena.peer_address(Family::V4);
    far.ip(&["address add 10.88.0.2/32 dev lo", "route add 10.88.0.1/32 via 10.99.0.1"])?;
    let other = || Probe::Tcp(22).run(&far, Some(peer), &arena.machine, [10, 99, 0, 1].into());
    let words = ["unlock", "--port", "tcp/22", "--address", "10.88.0.2", "--interface"];
    arena.agent.ok(&[&words[..], &["eth0"]].concat())?;
    is_open(&arena, Probe::Tcp(22), Family::V4, "its interface")?;
    assert_eq!(other()?, Outcome::Silent, "eth1");
    let status = arena.agent.json(&["status"])?;
    assert_eq!(status["unlocked"][0]["interface"], "eth0", "{status:#}");
    arena.agent.ok(&["unlock", "--end"])?;

    arena.agent.ok(&[&words[..], &["eth1"]].concat())?;
    let before = arena.counters()?;
    other()?;
    let moved = arena.counters()?.since(&before)?;
    assert!(moved.of("eth1", "inbound", "allowed") > 0, "{moved:?}");
    is_shut(&arena, Probe::Tcp(22), Family::V4, "the other interface")?;

    for (name, why) in [("lo", "nothing is enforced on lo"), ("none0", "no interface none0")] {
        let refused = arena.agent.run(&[&words[..], &[name]].concat())?.expect_status(1)?;
        assert!(refused.stderr.contains(why), "{}", refused.stderr);
    }
    Ok(())
}

#[test]
fn so_many_ports_are_open_and_no_more() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let arena = shut(Setup::HostTc)?;
    let peer = arena.peer_address(Family::V4);
    for port in 1..=8 {
        open(&arena, &format!("tcp/{port}"), peer, "60s")?;
    }
    open(&arena, "tcp/8", peer, "5m")?;
    let words = ["unlock", "--port", "tcp/9", "--address", &peer.to_string()];
    let refused = arena.agent.run(&words)?.expect_status(1)?;
    assert!(refused.stderr.contains("8 ports are unlocked already"), "{}", refused.stderr);
    for port in [1, 8] {
        is_open(&arena, Probe::Tcp(port), Family::V4, "one of them")?;
    }
    is_shut(&arena, Probe::Tcp(9), Family::V4, "one too many")?;
    arena.agent.ok(&["unlock", "--end"])?;
    is_shut(&arena, Probe::Tcp(1), Family::V4, "closed")
}

#[test]
fn everything_ends_whatever_is_broken() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let mut arena = Arena::start(Setup::HostXdp, SHUT)?;
    // Alive, the agent is told, and does not attach again.
    is_shut(&arena, Probe::Tcp(22), Family::V4, "before")?;
    arena.agent.ok(&["unlock", "--all"])?;
    assert_eq!(arena.inbound(Probe::Tcp(22), Family::V4)?, Outcome::Answered, "the agent alive");
    arena.agent.restart()?;
    is_shut(&arena, Probe::Tcp(22), Family::V4, "enforced again")?;
    // Stopped, it does not answer; and the state folder is gone.
    arena.agent.kill()?;
    fs::remove_dir_all(arena.agent.folder().join("state"))?;
    let done = arena.agent.ok(&["unlock", "--all"])?;
    assert!(done.stderr.contains("ended all enforcement"), "{}", done.stderr);
    assert_eq!(arena.inbound(Probe::Tcp(22), Family::V4)?, Outcome::Answered, "the agent dead");
    let refused =
        arena.agent.run(&["unlock", "--port", "tcp/22", "--address", "10.88.0.2"])?.expect_status(1)?;
    assert!(refused.stderr.contains("nothing is enforced"), "{}", refused.stderr);
    Ok(())
}
