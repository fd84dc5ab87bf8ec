//! What a change of the policy does to flows that are open, by the setting `on_change` (docs/semantics.md,
//! section 6).

use anyhow::{Context as _, Result, ensure};
use sg_tests::{
    each_setup,
    lab::{
        Arena, Outcome, Probe, Setup,
        arena::Family,
        hand::{Hand, NOBODY},
    },
    packet::{Icmp, Transport, Udp},
};

each_setup! {
    keep_lets_tracked_flows_live_on
    keep_holds_without_the_agent_and_after_a_restart
    keep_does_not_hold_for_what_is_untracked
    revalidate_ends_what_is_no_longer_allowed_whatever_its_protocol
}

const KEEP: &str = "on_change = \"keep\"\n";
const TRACKED: &str = "inbound: [{allow: tcp/443, from: [PEER]}], outbound: [{allow: tcp/5432, to: [PEER]}]";
const NOTHING: &str = "inbound: [], outbound: []";

fn start(setup: Setup, settings: &str, rules: &str) -> Result<Arena> {
    let mut arena = Arena::without_agent(setup)?;
    arena.agent.settings(settings)?;
    let policy = arena.policy(rules);
    arena.agent.start_with(&policy)?;
    Ok(arena)
}

fn keep_lets_tracked_flows_live_on(setup: Setup) -> Result<()> {
    let mut arena = start(setup, KEEP, TRACKED)?;
    for family in Family::ALL {
        arena.apply(TRACKED)?;
        let mut open = [
            arena.connect_in(family, 443)?.context("443 is closed")?,
            arena.connect_out(family, 5432)?.context("5432 is closed")?,
        ];
        arena.apply(NOTHING)?;
        for connection in &mut open {
            ensure!(connection.works()?, "a connection of before, {family:?}");
        }
        for (way, outcome) in [
            ("inbound", arena.inbound(Probe::Tcp(443), family)?),
            ("outbound", arena.outbound(Probe::Tcp(5432), family)?),
        ] {
            ensure!(outcome == Outcome::Silent, "a new connection {way}, {family:?}: {outcome:?}");
        }
    }
    // The same connection ends where the setting is the other.
    arena.apply(TRACKED)?;
    let mut open = arena.connect_in(Family::V4, 443)?.context("443 is closed")?;
    arena.agent.settings("on_change = \"revalidate\"\n")?;
    arena.agent.restart()?;
    ensure!(open.works()?, "a restart changes no policy");
    arena.apply(NOTHING)?;
    ensure!(!open.to_server()?, "the setting is the other now");
    Ok(())
}

fn keep_holds_without_the_agent_and_after_a_restart(setup: Setup) -> Result<()> {
    let mut arena = start(setup, KEEP, TRACKED)?;
    let mut open = [
        arena.connect_in(Family::V4, 443)?.context("443 is closed")?,
        arena.connect_in(Family::V6, 443)?.context("443 is closed")?,
    ];
    arena.apply(NOTHING)?;
    for when in ["before", "killed", "started again"] {
        match when {
            "killed" => arena.agent.kill()?,
            "started again" => arena.agent.start()?,
            _ => {}
        }
        for connection in &mut open {
            ensure!(connection.works()?, "{when}");
        }
        let new = arena.inbound(Probe::Tcp(443), Family::V4)?;
        ensure!(new == Outcome::Silent, "a new connection, {when}: {new:?}");
    }
    Ok(())
}

/// As on AWS: what has no entry ends with its rule.
fn keep_does_not_hold_for_what_is_untracked(setup: Setup) -> Result<()> {
    let arena = start(setup, KEEP, "inbound: [{allow: tcp/443, from: anywhere}]")?;
    for family in Family::ALL {
        arena.apply("inbound: [{allow: tcp/443, from: anywhere}]")?;
        let mut open = arena.connect_in(family, 443)?.context("443 is closed")?;
        ensure!(open.works()?, "{family:?}");
        arena.apply("inbound: [{allow: tcp/80, from: anywhere}]")?;
        ensure!(!open.to_server()?, "its rule is gone, {family:?}");
    }
    Ok(())
}

/// A question of the other side, and the instance's answer, to each kind of flow without connections.
fn talk(kind: usize, family: Family) -> [Transport; 2] {
    let ping = Icmp::echo_request(family == Family::V6, 7, 1);
    let pong = Icmp { kind: if family == Family::V6 { 129 } else { 0 }, ..ping.clone() };
    match kind {
        0 => [Udp::new(5000, 443, b"question").into(), Udp::new(443, 5000, b"answer").into()],
        1 => [ping.into(), pong.into()],
        _ => [Transport::Other(47, vec![0; 8]), Transport::Other(47, vec![0; 8])],
    }
}

fn revalidate_ends_what_is_no_longer_allowed_whatever_its_protocol(setup: Setup) -> Result<()> {
    let open = format!(
        "inbound: [{{allow: [udp/443, icmp/echo-request, icmpv6/echo-request, gre], from: [{NOBODY}]}}], outbound: []"
    );
    let other =
        format!("inbound: [{{allow: all, from: [192.0.2.1]}}, {}", open.trim_start_matches("inbound: ["));
    let arena = start(setup, "", &open)?;
    let hand = Hand::take(&arena)?;
    for (kind, name) in ["UDP", "ping", "GRE"].into_iter().enumerate() {
        let question = |family| {
            let [question, _] = talk(kind, family);
            question
        };
        let answer = |family| {
            let [_, answer] = talk(kind, family);
            answer
        };
        arena.apply(&open)?;
        hand.judged(name, "inbound", "allowed", question)?;
        hand.judged(name, "outbound", "allowed", answer)?;
        arena.apply(&other)?;
        hand.judged("still allowed", "outbound", "allowed", answer).context(name)?;
        arena.apply(NOTHING)?;
        hand.judged("no longer", "inbound", "revoked", question).context(name)?;
        hand.judged("no longer", "outbound", "revoked", answer).context(name)?;
        arena.apply(&open)?;
        hand.judged("allowed again", "inbound", "allowed", question).context(name)?;
        hand.judged("allowed again", "outbound", "allowed", answer).context(name)?;
    }
    Ok(())
}
