//! Which interfaces are covered and how: globs, late comers, several at once, audit, source check, and
//! groups as sources that follow addresses.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result};
use sg_tests::{
    each_setup,
    lab::{Arena, Outcome, Probe, Setup, arena::Family, can_run, eventually, traffic::bind_udp},
    packet::{Packet, Udp},
};

each_setup! {
    audit_passes_and_counts_what_it_would_drop
    two_interfaces_never_share_a_flow
}

fn audit_passes_and_counts_what_it_would_drop(setup: Setup) -> Result<()> {
    let arena = Arena::start(setup, "inbound: [], outbound: []")?;
    let audit = arena.policy_with("inbound: [], outbound: []", ", mode: audit");
    for family in Family::ALL {
        arena.apply("inbound: [], outbound: []")?;
        assert_eq!(arena.inbound(Probe::Udp(53), family)?, Outcome::Silent, "enforced, {family:?}");
        arena.agent.apply(&audit)?;
        let counted = arena.agent.json(&["counters"])?;
        assert_eq!(counted["interfaces"][0]["mode"], "audit", "{counted:#}");
        let before = arena.counters()?;
        for probe in [Probe::Tcp(443), Probe::Udp(53), Probe::Ping] {
            assert_eq!(arena.inbound(probe, family)?, Outcome::Answered, "{probe:?} in, {family:?}");
            assert_eq!(arena.outbound(probe, family)?, Outcome::Answered, "{probe:?} out, {family:?}");
        }
        let moved = arena.counters()?.since(&before)?;
        for direction in ["inbound", "outbound"] {
            let would_drop = moved.of("eth0", direction, "audited no_rule");
            assert!(would_drop >= 3, "{direction}: three probes at least have no rule: {moved:?}");
            assert_eq!(
                moved.of("eth0", direction, "no_rule"),
                0,
                "{direction}: nothing is dropped: {moved:?}"
            );
        }
    }
    Ok(())
}

/// A second interface with its own wire; what belongs to a flow of the first does not there.
fn two_interfaces_never_share_a_flow(setup: Setup) -> Result<()> {
    let mut arena = Arena::without_agent(setup)?;
    let other =
        arena.another_wire("eth1", &["10.99.0.1/24", "fd99::1/64"], &["10.99.0.2/24", "fd99::2/64"])?;
    let rules = "inbound: [], outbound: [{allow: all, to: [PEER]}]";
    let second = arena.entry("other", "").replace("eth0", "eth1").replace("10.88.0.2", "10.99.0.2");
    let second = second.replace("fd88::2", "fd99::2");
    let policy = arena.policy(rules) + &format!("  - {second}\n");
    let policy =
        policy.replace("groups:\n", "groups:\n  other: {inbound: [{allow: tcp/80, from: anywhere}]}\n");
    arena.agent.start_with(&policy)?;

    // Each has its own groups.
    let (instance, peer) =
        if setup == Setup::Guest { (&other, &arena.machine) } else { (&arena.machine, &other) };
    for family in Family::ALL {
        let target = |number: u8| -> IpAddr {
            match family {
                Family::V4 => [10, 99, 0, number].into(),
                Family::V6 => [0xfd99, 0, 0, 0, 0, 0, 0, u16::from(number)].into(),
            }
        };
        let of_instance = target(if setup == Setup::Guest { 2 } else { 1 });
        assert_eq!(Probe::Tcp(80).run(peer, None, instance, of_instance)?, Outcome::Answered);
        assert_eq!(Probe::Tcp(81).run(peer, None, instance, of_instance)?, Outcome::Silent);
        assert_eq!(arena.inbound(Probe::Tcp(80), family)?, Outcome::Silent, "eth0 has another group");
    }

    // A flow out of eth0, and its answer on eth1.
    let inside = arena.instance_address(Family::V4);
    let outside = arena.peer_address(Family::V4);
    let ours = arena.instance().enter(|| bind_udp(SocketAddr::new(inside, 4000)))?;
    let theirs = arena.peer().enter(|| bind_udp(SocketAddr::new(outside, 5000)))?;
    ours.send_to(b"question", (outside, 5000))?;
    theirs.recv(&mut [0; 16]).context("the question")?;
    let answer = Packet::new(outside, inside, Udp::new(5000, 4000, b"forged"));
    let before = arena.counters()?;
    let wire = if setup == Setup::Guest {
        sg_tests::packet::PacketSocket::open(&arena.machine, "eth1")?
    } else {
        sg_tests::packet::PacketSocket::open(&other, "far1")?
    };
    wire.send(&arena.frame_in(&answer).bytes())?;
    std::thread::sleep(std::time::Duration::from_millis(50));
    let moved = arena.counters()?.since(&before)?;
    assert_eq!(moved.0.len(), 1, "one packet, one counter: {moved:?}");
    assert_eq!(moved.of("eth1", "inbound", "allowed"), 0, "{moved:?}");
    // The true answer arrives.
    theirs.send_to(b"answer", (inside, 4000))?;
    assert_eq!(ours.recv(&mut [0; 16]).context("the answer")?, 6);
    Ok(())
}

#[test]
fn an_interface_that_appears_later_is_picked_up() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let mut arena = Arena::without_agent(Setup::HostTc)?;
    let policy = "version: 1\ngroups:\n  g: {inbound: [{allow: tcp/80, from: anywhere}]}\n\
                  interfaces:\n  - {match: \"late*\", groups: [g]}\n";
    arena.agent.start_with(policy)?;
    let known = arena.agent.json(&["counters"])?;
    assert_eq!(known["interfaces"].as_array().map(Vec::len), Some(0), "{known:#}");
    // Made, covered, deleted and made again.
    for round in 1..=2 {
        let far = arena.another_wire("late7", &["10.99.0.1/24"], &["10.99.0.2/24"])?;
        eventually("late7 is covered", || {
            Ok(arena.agent.json(&["counters"])?["interfaces"][0]["name"] == "late7")
        })?;
        let target = [10, 99, 0, 1].into();
        assert_eq!(Probe::Tcp(80).run(&far, None, &arena.machine, target)?, Outcome::Answered, "{round}");
        assert_eq!(Probe::Tcp(81).run(&far, None, &arena.machine, target)?, Outcome::Silent, "{round}");
        // What no entry matches is left alone.
        assert_eq!(arena.inbound(Probe::Tcp(81), Family::V4)?, Outcome::Answered, "{round}: eth0");
        arena.machine.ip(&["link delete late7"])?;
        eventually("late7 is forgotten", || {
            Ok(arena.agent.json(&["counters"])?["interfaces"].as_array().map(Vec::len) == Some(0))
        })?;
    }
    Ok(())
}

#[test]
fn a_group_as_source_follows_the_addresses_that_carry_it() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    // The guest on eth0 opens 80 to `app`; the machine's own eth1 carries `app`.
    let mut arena = Arena::without_agent(Setup::Guest)?;
    let _far = arena.another_wire("eth1", &["10.99.0.1/24", "fd99::1/64"], &[])?;
    arena.far.ip(&["route add 10.99.0.0/24 via 10.88.0.1", "route add fd99::/64 via fd88::1"])?;
    let policy = arena.policy("inbound: [{allow: tcp/80, from: group:app}]");
    let policy = policy.replace("groups:\n", "groups:\n  app: {}\n") + "  - {match: eth1, groups: [app]}\n";
    arena.agent.start_with(&policy)?;
    let from = |source: IpAddr| {
        let family = if source.is_ipv4() { Family::V4 } else { Family::V6 };
        Probe::Tcp(80).run(&arena.machine, Some(source), &arena.far, arena.far_address(family))
    };
    for (carried, late, text) in [
        (IpAddr::from([10, 99, 0, 1]), IpAddr::from([10, 99, 0, 7]), "10.99.0.7/24"),
        ([0xfd99, 0, 0, 0, 0, 0, 0, 1].into(), [0xfd99, 0, 0, 0, 0, 0, 0, 7].into(), "fd99::7/64"),
    ] {
        let family = if carried.is_ipv4() { Family::V4 } else { Family::V6 };
        assert_eq!(from(carried)?, Outcome::Answered, "{carried} is eth1's");
        assert_eq!(from(arena.machine_address(family))?, Outcome::Silent, "eth0 does not carry app");
        // The same source address, while another interface has it, while eth1 has it, and after.
        arena.machine.ip(&[&format!("address add {text} dev lo")])?;
        assert_eq!(from(late)?, Outcome::Silent, "{late} is lo's");
        arena.machine.ip(&[&format!("address add {text} dev eth1")])?;
        eventually("the new address is allowed", || Ok(from(late)? == Outcome::Answered))?;
        arena.machine.ip(&[&format!("address del {text} dev eth1")])?;
        eventually("the old address is denied", || Ok(from(late)? == Outcome::Silent))?;
        assert_eq!(from(carried)?, Outcome::Answered, "{carried} is still eth1's");
    }
    Ok(())
}

#[test]
fn a_guest_sends_and_is_sent_only_its_own_addresses() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let all = "inbound: [{allow: all, from: anywhere}]";
    let arena = Arena::start(Setup::Guest, all)?;
    let (guest, host) = (arena.instance_socket()?, arena.peer_socket()?);
    for (family, wrong) in [
        (Family::V4, IpAddr::from([10, 88, 0, 99])),
        (Family::V6, IpAddr::from([0xfd88, 0, 0, 0, 0, 0, 0, 0x99])),
    ] {
        let (own, peer) = (arena.instance_address(family), arena.peer_address(family));
        let server = arena.machine.enter(|| bind_udp(SocketAddr::new(peer, 4000)))?;
        let udp = || Udp::new(4000, 4000, b"who?");
        let spoofed = arena.frame_out(&Packet::new(wrong, peer, udp())).bytes();
        let honest = arena.frame_out(&Packet::new(own, peer, udp())).bytes();
        let to_wrong = arena.frame_in(&Packet::new(peer, wrong, udp())).bytes();
        arena.agent.apply(&arena.policy(all))?;
        arena.counted(&[("outbound", "source_check", 1)], || guest.send(&spoofed))?;
        assert!(server.recv(&mut [0; 16]).is_err(), "a spoofed packet arrives, {family:?}");
        arena.counted(&[("inbound", "source_check", 1)], || host.send(&to_wrong))?;
        arena.counted(&[("outbound", "allowed", 1)], || {
            guest.send(&honest)?;
            Ok(server.recv(&mut [0; 16])?)
        })?;
        // Without the check the same packets pass.
        arena.agent.apply(&arena.policy_with(all, ", source_check: false"))?;
        arena.counted(&[("outbound", "allowed", 1)], || {
            guest.send(&spoofed)?;
            Ok(server.recv(&mut [0; 16])?)
        })?;
        let far = arena.far_socket()?;
        host.send(&to_wrong)?;
        assert!(far.sees(sg_tests::lab::SILENCE, b"who?")?, "{family:?}");
    }
    Ok(())
}
