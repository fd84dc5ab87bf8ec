//! Z: what is known on one interface is nothing to another, nor to the next of its name or number.

use std::{thread, time::Duration};

use anyhow::{Result, ensure};
use sg_tests::{
    each_setup,
    lab::{Arena, PATIENCE, Setup, arena::Family},
    packet::PacketSocket,
    syscall,
};

use crate::{
    bytes::{ACK, FIN, RST, SYN},
    range::{RULES, Range, Way, policy},
    session::Session,
};

each_setup! {
    z1_forged_on_another_interface
    z2_the_same_name_again
    z2_the_same_index_again
    z2_the_same_index_while_the_agent_is_dead
}

fn z1_forged_on_another_interface(setup: Setup) -> Result<()> {
    let mut arena = Arena::without_agent(setup)?;
    let other =
        arena.another_wire("eth1", &["10.99.0.1/24", "fd99::1/64"], &["10.99.0.2/24", "fd99::2/64"])?;
    let second = match setup {
        Setup::HostTc => "hook: tc",
        Setup::HostXdp => "hook: xdp",
        Setup::Guest => "side: guest",
    };
    let policy = policy(setup, RULES, "").replace(
        "groups:\n",
        "groups:\n  other: {inbound: [{allow: udp/443, from: anywhere}], outbound: []}\n",
    );
    arena.agent.start_with(&format!("{policy}  - {{match: eth1, groups: [other], {second}}}\n"))?;
    let range = Range::around(arena)?;
    let (near, far) =
        (PacketSocket::open(&range.arena.machine, "eth1")?, PacketSocket::open(&other, "far1")?);
    let (peer, instance) = if setup == Setup::Guest { (near, far) } else { (far, near) };

    for family in Family::ALL {
        for open in [Session::inbound, Session::outbound] {
            let session = open(&range, family)?;
            session.goes_on()?;
            for from_opener in [true, false] {
                let way = session.way_of(from_opener);
                let path = session.path(from_opener);
                for (what, flags) in [
                    ("data", ACK),
                    ("a reset", RST),
                    ("a reset with ACK", RST | ACK),
                    ("the end", FIN | ACK),
                    ("an answer", SYN | ACK),
                    ("a SYN", SYN),
                ] {
                    let frame = path.frame(&session.packet(from_opener, flags, b"forged"));
                    let wire = if way == Way::In { &peer } else { &instance };
                    wire.send(&frame)?;
                    range.enter_on("eth1", what, way, "no_rule", frame.len() as u64);
                    session.goes_on()?;
                    range.settle(what)?;
                    session.is_established()?;
                }
                // An error about it, from there.
                let kind = if family == Family::V4 { 3 } else { 1 };
                let quoted = session.packet(!from_opener, ACK, b"sent");
                let message = path.icmp(kind, 0, [0; 4], &quoted);
                let frame = path.frame(&path.ip(path.icmp_number(), &message));
                let wire = if way == Way::In { &peer } else { &instance };
                wire.send(&frame)?;
                range.enter_on("eth1", "an error", way, "icmp_error_without_flow", frame.len() as u64);
                session.goes_on()?;
                range.settle("an error about it")?;
            }
        }
        // The other interface is open to what its own rules say.
        let path = range.inward(family);
        let frame = path.udp_frame((range.port(), 443), b"data");
        peer.send(&frame)?;
        range.enter_on("eth1", "a datagram", Way::In, crate::range::RULE, frame.len() as u64);
        range.settle("a datagram to eth1's own group")?;
    }
    Ok(())
}

/// Which interface comes back, and what the agent sees of it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Again {
    Name,
    Index,
    IndexUnseen,
}

fn made_again(setup: Setup, again: Again) -> Result<()> {
    let range = Range::with(setup, RULES, "", "")?;
    let mut old = vec![];
    for family in Family::ALL {
        for open in [Session::inbound, Session::outbound] {
            let session = open(&range, family)?;
            session.goes_on()?;
            // What the answering side would send next: no rule lets it, only the flow did.
            let late = session.path(false).frame(&session.packet(false, ACK, b"late"));
            old.push((session.way_of(false), late));
        }
    }
    range.settle("open sessions")?;
    let mut arena = range.arena;
    let index = arena.machine.enter(|| Ok(syscall::interface_index("eth0")?))?;
    if again == Again::IndexUnseen {
        arena.agent.kill()?;
    }
    let number = if again == Again::Name { String::new() } else { format!("index {index}") };
    arena.machine.ip(&[
        "link delete eth0",
        &format!(
            "link add eth0 {number} address 02:00:00:00:00:01 type veth peer name far0 \
             address 02:00:00:00:00:02 netns {}",
            arena.far.path()
        ),
        "link set eth0 up",
    ])?;
    arena.far.ip(&["link set far0 up"])?;
    let now = arena.machine.enter(|| Ok(syscall::interface_index("eth0")?))?;
    ensure!((now == index) == (again != Again::Name), "index {now} after {index}");
    if again == Again::IndexUnseen {
        arena.agent.start()?;
    }
    let range = Range::around(arena)?;
    let shut = range.inward(Family::V4).syn_frame((1, 22));
    let start = std::time::Instant::now();
    loop {
        range.forget()?;
        range.inject(Way::In, &shut)?;
        thread::sleep(Duration::from_millis(20));
        if range.arrived(Way::In)?.is_none() && range.gained(Way::In, "no_rule", 1)? == 1 {
            break;
        }
        ensure!(start.elapsed() < PATIENCE, "the new interface is not covered: {}", range.arena.agent.log());
    }
    range.forget()?;
    ensure!(range.flows()?.is_empty(), "flows of the old interface: {:#?}", range.flows()?);
    for (way, frame) in &old {
        range.judge("a packet of an old flow", *way, frame, "no_rule")?;
    }
    for family in Family::ALL {
        for open in [Session::inbound, Session::outbound] {
            open(&range, family)?.goes_on()?;
        }
    }
    range.settle("new sessions")
}

fn z2_the_same_name_again(setup: Setup) -> Result<()> {
    made_again(setup, Again::Name)
}

fn z2_the_same_index_again(setup: Setup) -> Result<()> {
    made_again(setup, Again::Index)
}

fn z2_the_same_index_while_the_agent_is_dead(setup: Setup) -> Result<()> {
    made_again(setup, Again::IndexUnseen)
}
