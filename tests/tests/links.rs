//! Interfaces that carry bare IP, as WireGuard's and tun's do: no Ethernet, no VLANs, no ARP (docs/semantics.md, section 1).

use std::{
    fs::File,
    io::{Read as _, Write as _},
    net::{IpAddr, UdpSocket},
    thread,
    time::Duration,
};

use anyhow::{Result, ensure};
use sg_tests::{
    counters::Counters,
    lab::{Agent, Namespace, arena::Family, can_run},
    packet::{Packet, Tcp},
    syscall::tun,
};

const POLICY: &str = "version: 1
groups:
  g: {inbound: [{allow: tcp/443, from: anywhere}], outbound: []}
interfaces:
  - {match: t0, groups: [g]}
";

/// The machine's address on the tunnel, and the other side's.
fn ends(family: Family) -> (IpAddr, IpAddr) {
    match family {
        Family::V4 => ([10, 70, 0, 1].into(), [10, 70, 0, 2].into()),
        Family::V6 => {
            let end = |number| IpAddr::from([0xfd70, 0, 0, 0, 0, 0, 0, number]);
            (end(1), end(2))
        }
    }
}

/// What the counters of the tunnel gained meanwhile, as (direction, what, packets).
fn moved(agent: &Agent, act: impl FnOnce() -> Result<()>) -> Result<Vec<(String, String, u64)>> {
    let before = Counters::read(agent)?;
    act()?;
    thread::sleep(Duration::from_millis(50));
    let moved = Counters::read(agent)?.since(&before)?;
    let packets = moved.packets().into_iter();
    Ok(packets.map(|((_, direction, what), packets)| (direction, what, packets)).collect())
}

fn row(direction: &str, what: &str) -> (String, String, u64) {
    (direction.to_owned(), what.to_owned(), 1)
}

#[test]
fn bare_ip_is_judged_like_the_same_packet_in_a_frame() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let machine = Namespace::machine("machine")?;
    let mut tunnel: File = machine.enter(|| Ok(tun::open("t0", tun::Kind::Tun)?))?;
    machine.ip(&[
        "link set t0 up",
        "address add 10.70.0.1/24 dev t0",
        "address add fd70::1/64 dev t0 nodad",
    ])?;
    let mut agent = Agent::new(&machine)?;
    agent.start_with(POLICY)?;
    for family in Family::ALL {
        let (machine_end, other_end) = ends(family);
        let syn = |port| Packet::new(other_end, machine_end, Tcp::new(40_000, port, Tcp::SYN)).bytes();
        let whole = syn(443);
        let rows = [
            // The kernel resets it, and the reset is of the flow.
            ("an open port", whole.clone(), vec![row("inbound", "allowed"), row("outbound", "allowed")]),
            ("a closed port", syn(22), vec![row("inbound", "no_rule")]),
            ("cut in the middle", whole[..whole.len() - 1].to_vec(), vec![row("inbound", "malformed")]),
        ];
        for (what, packet, expected) in rows {
            let seen = moved(&agent, || Ok(tunnel.write_all(&packet)?))?;
            ensure!(seen == expected, "{what}, {family:?}: {seen:?}, expected {expected:?}");
        }
        // The reset, as it left.
        let mut buffer = [0; 128];
        let length = tunnel.read(&mut buffer)?;
        ensure!(length >= 40 && buffer[0] >> 4 == whole[0] >> 4, "{family:?}: {:02x?}", &buffer[..length]);
        let seen = moved(&agent, || {
            machine.enter(|| {
                // TC may tell the sender that the packet is gone.
                drop(UdpSocket::bind((machine_end, 0))?.send_to(b"data", (other_end, 53)));
                Ok(())
            })
        })?;
        ensure!(seen == [row("outbound", "no_rule")], "outbound, {family:?}: {seen:?}");
    }
    Ok(())
}
