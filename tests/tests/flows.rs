//! Flows: replies, and what a change of the policy does to what is open (datapath.md, sections 5 and 6).

use std::time::Duration;

use anyhow::{Context as _, Result};
use sg_tests::{
    each_setup,
    lab::{Arena, Connection, Outcome, Probe, Setup, arena::Family},
    packet::{Icmp, Packet, Tcp},
};

each_setup! {
    a_reply_passes_without_an_inbound_rule
    removing_a_rule_ends_its_open_connection
    an_ended_connection_is_not_revived_by_the_instance
    adding_a_rule_works_at_once
    other_changes_leave_an_open_connection_alone
    a_bare_syn_is_no_reply
    an_echo_request_is_no_reply_to_a_ping
    flags_that_no_endpoint_sends_are_dropped
}

const TRACKED: &str = "inbound: [{allow: tcp/443, from: [PEER]}], outbound: []";
const UNTRACKED: &str = "inbound: [{allow: tcp/443, from: anywhere}]";

fn open(arena: &Arena, family: Family) -> Result<Connection> {
    let mut connection = arena.connect_in(family, 443)?.context("443 is closed")?;
    assert!(connection.works()?, "an open connection carries data, {family:?}");
    Ok(connection)
}

fn a_reply_passes_without_an_inbound_rule(setup: Setup) -> Result<()> {
    let arena = Arena::start(setup, "inbound: [], outbound: [{allow: all, to: [PEER]}]")?;
    for family in Family::ALL {
        for probe in [Probe::Tcp(5432), Probe::Udp(53), Probe::Ping] {
            assert_eq!(arena.outbound(probe, family)?, Outcome::Answered, "{probe:?} {family:?}");
            assert_eq!(arena.inbound(probe, family)?, Outcome::Silent, "{probe:?} {family:?}");
        }
    }
    Ok(())
}

fn removing_a_rule_ends_its_open_connection(setup: Setup) -> Result<()> {
    let arena = Arena::start(setup, "inbound: []")?;
    for (rules, without, reason) in [
        (TRACKED, "inbound: [{allow: tcp/80, from: [PEER]}], outbound: []", "revoked"),
        (UNTRACKED, "inbound: [{allow: tcp/80, from: anywhere}]", "no_rule"),
    ] {
        for family in Family::ALL {
            arena.apply(rules)?;
            let mut connection = open(&arena, family)?;
            arena.apply(without)?;
            let before = arena.counters()?;
            assert!(!connection.to_server()?, "{rules} {family:?}: data passes after the rule is gone");
            let moved = arena.counters()?.since(&before)?;
            assert!(moved.of("eth0", "inbound", reason) >= 1, "{rules} {family:?}: {moved:?}");
            assert_eq!(moved.of("eth0", "inbound", "allowed"), 0, "{rules} {family:?}: {moved:?}");
            let refused = arena.inbound(Probe::Tcp(443), family)?;
            assert_eq!(refused, Outcome::Silent, "{rules} {family:?}: a new connection");
        }
    }
    Ok(())
}

/// The instance may send anything to anyone, but that must not carry a connection on that others
/// opened and that no rule allows any more.
fn an_ended_connection_is_not_revived_by_the_instance(setup: Setup) -> Result<()> {
    let arena = Arena::start(setup, "inbound: []")?;
    for rules in [UNTRACKED, "inbound: [{allow: tcp/443, from: [PEER]}]"] {
        for family in Family::ALL {
            arena.apply(rules)?;
            let mut connection = open(&arena, family)?;
            arena.apply("inbound: []")?;
            assert!(!connection.to_server()?, "{rules} {family:?}: first try");
            connection.to_client()?;
            assert!(!connection.to_server()?, "{rules} {family:?}: after the server spoke");
        }
    }
    Ok(())
}

fn adding_a_rule_works_at_once(setup: Setup) -> Result<()> {
    let arena = Arena::start(setup, "inbound: []")?;
    for rules in [TRACKED, UNTRACKED] {
        for family in Family::ALL {
            arena.apply("inbound: []")?;
            assert_eq!(arena.inbound(Probe::Tcp(443), family)?, Outcome::Silent);
            arena.apply(rules)?;
            assert_eq!(arena.inbound(Probe::Tcp(443), family)?, Outcome::Answered, "{rules} {family:?}");
        }
    }
    Ok(())
}

fn other_changes_leave_an_open_connection_alone(setup: Setup) -> Result<()> {
    let arena = Arena::start(setup, TRACKED)?;
    let mut open = [open(&arena, Family::V4)?, open(&arena, Family::V6)?];
    for port in 1..=5 {
        let more = format!("{{allow: tcp/{port}, from: anywhere}}");
        arena.apply(&TRACKED.replace("inbound: [", &format!("inbound: [{more}, ")))?;
        for connection in &mut open {
            assert!(connection.works()?, "after change {port}");
        }
    }
    Ok(())
}

fn a_bare_syn_is_no_reply(setup: Setup) -> Result<()> {
    let arena = Arena::start(setup, "inbound: [], outbound: [{allow: tcp/5432, to: [PEER]}]")?;
    let wire = arena.peer_socket()?;
    for family in Family::ALL {
        let mut connection = arena.connect_out(family, 5432)?.context("5432 is closed")?;
        assert!(connection.works()?);
        let port = connection.client.local_addr()?.port();
        let forged = |flags| {
            let packet = Packet::new(
                arena.peer_address(family),
                arena.instance_address(family),
                Tcp::new(5432, port, flags),
            );
            arena.frame_in(&packet).bytes()
        };
        std::thread::sleep(Duration::from_millis(100)); // The last acknowledgement is on its way.
        arena
            .counted(&[("inbound", "no_rule", 1)], || wire.send(&forged(Tcp::SYN)))
            .with_context(|| format!("{family:?}"))?;
        assert!(connection.works()?, "the connection lives on, {family:?}");
    }
    Ok(())
}

fn an_echo_request_is_no_reply_to_a_ping(setup: Setup) -> Result<()> {
    let arena = Arena::start(setup, "inbound: [], outbound: [{allow: all, to: anywhere}]")?;
    let (ours, theirs) = (arena.instance_socket()?, arena.peer_socket()?);
    for family in Family::ALL {
        let (instance, peer) = (arena.instance_address(family), arena.peer_address(family));
        let echo = || Icmp::echo_request(family == Family::V6, 77, 1);
        let ping = arena.frame_out(&Packet::new(instance, peer, echo())).bytes();
        // The peer's kernel answers it.
        arena.counted(&[("outbound", "allowed", 1), ("inbound", "allowed", 1)], || {
            ours.send(&ping)?;
            std::thread::sleep(Duration::from_millis(100));
            Ok(())
        })?;
        let request = arena.frame_in(&Packet::new(peer, instance, echo())).bytes();
        arena.counted(&[("inbound", "no_rule", 1)], || theirs.send(&request))?;
    }
    Ok(())
}

fn flags_that_no_endpoint_sends_are_dropped(setup: Setup) -> Result<()> {
    let arena = Arena::start(setup, "inbound: [{allow: all, from: anywhere}]")?;
    let wire = arena.peer_socket()?;
    let rows = [
        ("NULL", 0),
        ("FIN without ACK", Tcp::FIN),
        ("XMAS", Tcp::FIN | Tcp::PSH | Tcp::URG),
        ("SYN+FIN", Tcp::SYN | Tcp::FIN),
        ("SYN+RST", Tcp::SYN | Tcp::RST),
    ];
    for family in Family::ALL {
        let frame = |flags| {
            let (peer, instance) = (arena.peer_address(family), arena.instance_address(family));
            arena.frame_in(&Packet::new(peer, instance, Tcp::new(5000, 443, flags))).bytes()
        };
        for (what, flags) in rows {
            arena
                .counted(&[("inbound", "invalid_tcp_flags", 1)], || wire.send(&frame(flags)))
                .with_context(|| format!("{what}, {family:?}"))?;
        }
        // The same packet with flags that endpoints do send arrives: the kernel resets it.
        arena.counted(&[("inbound", "allowed", 1), ("outbound", "allowed", 1)], || {
            wire.send(&frame(Tcp::SYN))?;
            std::thread::sleep(Duration::from_millis(100));
            Ok(())
        })?;
    }
    Ok(())
}
