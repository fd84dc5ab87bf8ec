//! `counters` adds up: every packet is counted once, by interface, direction and reason, and by the
//! rule that admitted it (datapath.md, section 8).

use std::{net::SocketAddr, thread, time::Duration};

use anyhow::{Context as _, Result};
use serde_json::Value;
use sg_tests::{
    counters::Count,
    each_setup,
    lab::{Arena, Setup, arena::Family, traffic::bind_udp},
    packet::{Frame, Packet, Tcp, Udp},
};

each_setup! {
    every_packet_is_counted_once
    rules_groups_and_reasons_are_counted
}

const RULES: &str = "inbound: [{allow: udp/53, from: [PEER]}, {allow: udp/54, from: anywhere}], \
                     outbound: [{allow: udp/53, to: [PEER]}]";

fn every_packet_is_counted_once(setup: Setup) -> Result<()> {
    let arena = Arena::start(setup, RULES)?;
    let (theirs, ours) = (arena.peer_socket()?, arena.instance_socket()?);
    for family in Family::ALL {
        let (peer, instance) = (arena.peer_address(family), arena.instance_address(family));
        // Somebody listens, so that no ICMP error goes back.
        let _listeners = [53, 54, 55].map(|port| {
            let inside = |address| move || bind_udp(SocketAddr::new(address, port));
            (arena.instance().enter(inside(instance)), arena.peer().enter(inside(peer)))
        });
        let inbound = |port, size: usize| {
            arena.frame_in(&Packet::new(peer, instance, Udp::new(9, port, &vec![0; size])))
        };
        let outbound = |port, size: usize| {
            arena.frame_out(&Packet::new(instance, peer, Udp::new(9, port, &vec![0; size])))
        };
        let syn = arena.frame_in(&Packet::new(peer, instance, Tcp::new(9, 53, Tcp::SYN)));
        let rows: [(&str, Frame, u64, (&str, &str)); 7] = [
            ("allowed in", inbound(53, 10), 3, ("inbound", "allowed")),
            ("allowed in by another rule", inbound(54, 0), 1, ("inbound", "allowed")),
            ("denied in", inbound(55, 1000), 2, ("inbound", "no_rule")),
            ("denied in, TCP", syn, 1, ("inbound", "no_rule")),
            ("allowed out", outbound(53, 1400), 2, ("outbound", "allowed")),
            ("denied out", outbound(54, 7), 4, ("outbound", "no_rule")),
            ("denied out again", outbound(55, 8), 1, ("outbound", "no_rule")),
        ];
        for (what, frame, times, (direction, counter)) in rows {
            let bytes = frame.bytes();
            let before = arena.counters()?;
            let wire = if direction == "inbound" { &theirs } else { &ours };
            for _ in 0..times {
                wire.send(&bytes)?;
            }
            thread::sleep(Duration::from_millis(20));
            let moved = arena.counters()?.since(&before)?;
            let expected = [(
                ("eth0".to_owned(), direction.to_owned(), counter.to_owned()),
                Count { packets: times, bytes: times * u64::try_from(bytes.len())? },
            )];
            assert_eq!(moved.0, expected.into(), "{what}, {family:?}");
        }
    }
    Ok(())
}

/// One object of a list, by the value of one of its fields.
fn pick<'a>(list: &'a Value, key: &str, value: &str) -> Result<&'a Value> {
    let found = list.as_array().and_then(|list| list.iter().find(|item| item[key] == value));
    found.with_context(|| format!("no {key} {value} in {list:#}"))
}

fn rules_groups_and_reasons_are_counted(setup: Setup) -> Result<()> {
    let arena = Arena::start(setup, RULES)?;
    let wire = arena.peer_socket()?;
    let (peer, instance) = (arena.peer_address(Family::V4), arena.instance_address(Family::V4));
    let _listeners =
        [53, 54].map(|port| arena.instance().enter(|| bind_udp(SocketAddr::new(instance, port))));
    let send = |source, port| {
        wire.send(&arena.frame_in(&Packet::new(peer, instance, Udp::new(source, port, b"1234"))).bytes())
    };
    for source in [1000, 1001] {
        for _ in 0..3 {
            send(source, 53)?;
        }
    }
    send(1000, 54)?;
    send(1000, 55)?;
    let length = 14 + 20 + 8 + 4;
    thread::sleep(Duration::from_millis(20));

    let by_rule = arena.agent.json(&["counters", "--by", "rule"])?;
    assert!(by_rule["generation"].is_u64(), "{by_rule:#}");
    let first = pick(&by_rule["rules"], "rule", "g/inbound/0")?;
    assert_eq!(first["packets"], 6, "{first:#}");
    assert_eq!(first["bytes"], 6 * length, "{first:#}");
    assert_eq!(first["flows"], 2, "{first:#}");
    assert_eq!(first["group"], "g");
    assert_eq!(first["direction"], "inbound");
    assert!(first["id"].is_null());
    assert_eq!(first["source"], "policy.yaml:3", "{first:#}");
    let hit = first["last_hit"].as_str().context("a time of the last hit")?;
    assert!(hit.len() >= 20 && hit.ends_with('Z') && hit.contains('T'), "{hit} is no RFC 3339 time in UTC");
    let second = pick(&by_rule["rules"], "rule", "g/inbound/1")?;
    assert_eq!(second["packets"], 1, "{second:#}");
    let third = pick(&by_rule["rules"], "rule", "g/outbound/0")?;
    assert_eq!((&third["packets"], &third["last_hit"]), (&0.into(), &Value::Null), "{third:#}");

    for grouping in ["interface", "group", "reason"] {
        let value = arena.agent.json(&["counters", "--by", grouping])?;
        assert!(value["generation"].is_u64(), "--by {grouping}: {value:#}");
    }
    let plain = arena.agent.json(&["counters"])?;
    assert_eq!(plain, arena.agent.json(&["counters", "--by", "interface"])?);
    Ok(())
}
