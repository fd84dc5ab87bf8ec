//! Interfaces that are no plain Ethernet (datapath.md, sections 1 and 3): bare IP, and bonds.

use std::{io::Write as _, time::Duration};

use anyhow::{Context as _, Result, ensure};
use sg_tests::{
    counters::{Count, Counters},
    lab::{Agent, Arena, Namespace, Outcome, Probe, Setup, arena::Family, can_run},
    packet::PacketSocket,
    syscall::tun,
};

use crate::bytes::{Host, Path, TCP, UDP, fragment, ipv4_with};

/// What moves when a packet is sent, and nothing else.
fn counted(
    agent: &Agent,
    interface: &str,
    direction: &str,
    what: &str,
    length: usize,
    act: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let before = Counters::read(agent)?;
    act()?;
    sg_tests::lab::eventually("it is counted", || Ok(!Counters::read(agent)?.since(&before)?.0.is_empty()))?;
    let moved = Counters::read(agent)?.since(&before)?;
    let key = (interface.to_owned(), direction.to_owned(), what.to_owned());
    let expected = [(key, Count { packets: 1, bytes: length as u64 })];
    ensure!(moved.0 == expected.clone().into(), "counted {moved:?}, expected {expected:?}");
    Ok(())
}

/// A tun device, as WireGuard's and others': packets begin with their IP header.
#[test]
fn rules_apply_to_bare_ip() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    for side in ["host", "guest"] {
        let machine = Namespace::machine("machine")?;
        let mut tunnel = machine.enter(|| Ok(tun::open("wg0", tun::Kind::Tun)?))?;
        machine.ip(&["link set wg0 up"])?;
        let mut agent = Agent::new(&machine)?;
        let rules = "inbound: [{allow: [tcp/443, udp/443], from: [10.88.0.66, \"fd88::66\"]}], outbound: []";
        let policy = |rules: &str| {
            format!(
                "version: 1\ngroups:\n  g: {{{rules}}}\ninterfaces:\n  - {{match: wg0, groups: [g], side: {side}}}\n"
            )
        };
        agent.start_with(&policy(rules))?;
        let host = |v4: u8, v6: u8| Host {
            mac: [0; 6],
            v4: [10, 88, 0, v4],
            v6: [0xfd, 0x88, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, v6],
        };
        let wire = PacketSocket::open(&machine, "wg0")?;
        for family in Family::ALL {
            let inward = Path { family, from: host(66, 0x66), to: host(77, 0x77) };
            let (kind, header) = if family == Family::V4 { (0x0800, 20) } else { (0x86dd, 40) };
            let behind = PacketSocket::behind_hooks(&machine, "wg0", kind)?;
            let syn = |port| inward.ip(TCP, &inward.syn((1000, port)));
            let mut martian = inward;
            (martian.from.v4, martian.from.v6) = ([127, 0, 0, 1], host(1, 1).v6);
            martian.from.v6[..15].fill(0);
            let mut rows = vec![
                ("a SYN to an open port", syn(443), "allowed"),
                ("a SYN to a closed port", syn(22), "no_rule"),
                ("a datagram", inward.ip(UDP, &inward.udp((1, 443), b"data")), "allowed"),
                ("a datagram to a closed port", inward.ip(UDP, &inward.udp((1, 22), b"data")), "no_rule"),
                ("a martian", martian.ip(TCP, &martian.syn((1, 443))), "martian"),
                // A socket of the machine cannot even tell what it is.
                (
                    "half a header",
                    syn(443)[..header - 1].to_vec(),
                    if side == "host" { "malformed" } else { "unsupported_ethertype" },
                ),
                ("half a TCP header", syn(443)[..header + 8].to_vec(), "malformed"),
                (
                    "a lone later fragment",
                    inward.fragment(UDP, 5, 8, false, &[0; 16]),
                    "fragment_without_first",
                ),
                ("a tunnel in it", inward.ip(4, &syn(443)), "no_rule"),
            ];
            match family {
                Family::V4 => rows.push((
                    "ports in the options",
                    ipv4_with(&[1, 1, 1, 0xbb, 4, 0, 0, 0], &syn(22)),
                    "no_rule",
                )),
                Family::V6 => {
                    let atomic = [&fragment(TCP, 1, 0, false)[..], &inward.syn((2, 443))].concat();
                    rows.push(("an atomic fragment", inward.ip(44, &atomic), "allowed"));
                }
            }
            // What the machine receives is inbound to itself, and outbound of a guest behind it.
            let (received, sent) =
                if side == "host" { ("inbound", "outbound") } else { ("outbound", "inbound") };
            for (what, packet, expected) in rows {
                if side == "host" {
                    counted(&agent, "wg0", received, expected, packet.len(), || {
                        Ok(tunnel.write_all(&packet)?)
                    })
                    .with_context(|| format!("{what}, {family:?}"))?;
                    let seen = behind.pending()?;
                    ensure!(seen == (expected == "allowed").then_some(packet), "{what}: {seen:02x?}");
                } else {
                    counted(&agent, "wg0", sent, expected, packet.len(), || wire.send(&packet))
                        .with_context(|| format!("{what} to a guest, {family:?}"))?;
                    let seen = read(&mut tunnel)?;
                    ensure!(seen == (expected == "allowed").then_some(packet), "{what}: {seen:02x?}");
                }
            }
            // The answer of the flow, and nothing else, goes the other way.
            let back = inward.back();
            for (what, packet, expected) in [
                ("an answer", back.ip(UDP, &back.udp((443, 1), b"data")), "allowed"),
                ("no answer", back.ip(UDP, &back.udp((444, 1), b"data")), "no_rule"),
            ] {
                if side == "host" {
                    counted(&agent, "wg0", sent, expected, packet.len(), || wire.send(&packet))
                        .with_context(|| format!("{what}, {family:?}"))?;
                    let seen = read(&mut tunnel)?;
                    ensure!(seen == (expected == "allowed").then_some(packet), "{what}: {seen:02x?}");
                } else {
                    counted(&agent, "wg0", received, expected, packet.len(), || {
                        Ok(tunnel.write_all(&packet)?)
                    })
                    .with_context(|| format!("{what} of a guest, {family:?}"))?;
                    let seen = behind.pending()?;
                    ensure!(seen == (expected == "allowed").then_some(packet), "{what}: {seen:02x?}");
                }
            }
        }
        // Nothing is open by default.
        agent.apply(&policy("inbound: [], outbound: []"))?;
        let path = Path { family: Family::V4, from: host(66, 0x66), to: host(77, 0x77) };
        let packet = path.ip(TCP, &path.syn((3, 443)));
        let received = if side == "host" { "inbound" } else { "outbound" };
        counted(&agent, "wg0", received, "no_rule", packet.len(), || Ok(tunnel.write_all(&packet)?))?;
    }
    Ok(())
}

/// The next packet that the kernel sends into the device, if there is one.
fn read(tunnel: &mut std::fs::File) -> Result<Option<Vec<u8>>> {
    use std::io::{ErrorKind, Read as _};
    let mut buffer = [0; 2000];
    std::thread::sleep(Duration::from_millis(5));
    match tunnel.read(&mut buffer) {
        Ok(length) => Ok(Some(buffer[..length].to_vec())),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The groups sit on the bond, whichever port a packet came by.
#[test]
fn rules_apply_to_a_bond() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let mut arena = Arena::without_agent(Setup::HostTc)?;
    let Ok(_) = arena.machine.ip(&["link add bond0 type bond mode active-backup miimon 10"]) else {
        drop(writeln!(std::io::stderr(), "skipped rules_apply_to_a_bond: this kernel has no bonds"));
        return Ok(());
    };
    arena.machine.ip(&[
        "address flush dev eth0",
        "link set eth0 down",
        "link set eth0 master bond0",
        "link set bond0 address 02:00:00:00:00:01 up",
        "address add 10.88.0.1/24 dev bond0",
        "address add fd88::1/64 dev bond0 nodad",
    ])?;
    let policy = "version: 1\ngroups:\n  g: {inbound: [{allow: tcp/443, from: anywhere}]}\n\
                  interfaces:\n  - {match: bond0, groups: [g]}\n";
    arena.agent.start_with(policy)?;
    for family in Family::ALL {
        sg_tests::lab::eventually("the bond carries traffic", || {
            Ok(arena.inbound(Probe::Tcp(443), family)? == Outcome::Answered)
        })?;
        ensure!(arena.inbound(Probe::Tcp(22), family)? == Outcome::Silent, "22 is open, {family:?}");
        ensure!(arena.outbound(Probe::Tcp(80), family)? == Outcome::Answered, "out, {family:?}");
    }
    Ok(())
}
