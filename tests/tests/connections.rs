//! The life of a flow, packet by packet: how TCP connections open, close half, close and begin again,
//! and what ICMP and protocols without ports share (docs/semantics.md, section 5).

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use sg_tests::{
    each_setup,
    lab::{
        Arena, SILENCE, Setup,
        arena::Family,
        hand::{Hand, NOBODY},
        traffic::once_free,
    },
    packet::{Icmp, Tcp, Transport},
};
use socket2::{Domain, Socket, Type};

each_setup! {
    half_closed_connections_carry_on
    a_port_is_used_again_right_after_close
    what_is_left_of_a_flow_denies_nobody_and_admits_nobody
    two_sides_open_at_once
    a_ping_is_answered_by_its_own_id_only
    other_protocols_are_told_apart_by_address_and_number
}

const RULES: &str = "inbound: [{allow: tcp/443, from: [PEER]}], outbound: []";

/// The state of the one flow with this port of the other side, as `flows` tells it.
fn state(arena: &Arena, port: u16) -> Result<Option<String>> {
    let flows = arena.agent.json(&["flows"])?;
    let list = flows["flows"].as_array().context("no list of flows")?;
    let mut found = list.iter().filter(|flow| flow["remote_port"] == port);
    let state = found.next().map(|flow| flow["state"].as_str().unwrap_or_default().to_owned());
    ensure!(found.next().is_none(), "two flows of port {port}: {flows:#}");
    Ok(state)
}

fn half_closed_connections_carry_on(setup: Setup) -> Result<()> {
    let arena = Arena::start(setup, RULES)?;
    for family in Family::ALL {
        for client_closes in [true, false] {
            let connection = arena.connect_in(family, 443)?.context("443 is closed")?;
            let port = connection.client.local_addr()?.port();
            let (mut closed, mut open) = if client_closes {
                (connection.client, connection.server)
            } else {
                (connection.server, connection.client)
            };
            closed.shutdown(Shutdown::Write)?;
            open.set_read_timeout(Some(SILENCE))?;
            let mut buffer = [0; 64];
            ensure!(open.read(&mut buffer)? == 0, "the end of one direction arrives");
            closed.set_read_timeout(Some(SILENCE))?;
            for number in 0..5 {
                open.write_all(b"still here")?;
                let length = closed.read(&mut buffer).with_context(|| format!("segment {number}"))?;
                ensure!(&buffer[..length] == b"still here", "segment {number}");
                thread::sleep(Duration::from_millis(20));
            }
            let expected = if client_closes { "fin_opener" } else { "fin_replier" };
            ensure!(state(&arena, port)?.as_deref() == Some(expected), "{expected}, {family:?}");
            drop(open);
            ensure!(closed.read(&mut buffer)? == 0, "the end of the other direction arrives");
            sg_tests::lab::eventually("the flow closes", || {
                Ok(state(&arena, port)?.as_deref() == Some("closing"))
            })?;
        }
    }
    Ok(())
}

/// Connects from a port of the caller's choosing, exchanges a word, and lets the server close first,
/// so that the port is free again.
fn one_session(arena: &Arena, family: Family, port: u16) -> Result<()> {
    let target = SocketAddr::new(arena.instance_address(family), 443);
    let listener = arena.instance().enter(|| Ok(once_free(|| TcpListener::bind(target))?))?;
    let connect = || {
        let socket = Socket::new(Domain::for_address(target), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&SocketAddr::new(arena.peer_address(family), port).into())?;
        socket.connect_timeout(&target.into(), SILENCE)?;
        Ok(TcpStream::from(socket))
    };
    let mut client = arena.peer().enter(|| once_free(connect).context("connect"))?;
    let (mut server, _) = listener.accept()?;
    let mut buffer = [0; 8];
    client.write_all(b"question")?;
    server.read_exact(&mut buffer)?;
    server.write_all(b"answer")?;
    drop(server);
    client.set_read_timeout(Some(SILENCE))?;
    let mut answer = Vec::new();
    client.read_to_end(&mut answer)?;
    ensure!(answer == b"answer", "{answer:?}");
    Ok(())
}

fn a_port_is_used_again_right_after_close(setup: Setup) -> Result<()> {
    let arena = Arena::start(setup, RULES)?;
    for family in Family::ALL {
        let before = arena.counters()?;
        for round in 0..10 {
            one_session(&arena, family, 40_000).with_context(|| format!("round {round}, {family:?}"))?;
        }
        thread::sleep(Duration::from_millis(100));
        let moved = arena.counters()?.since(&before)?;
        let names: Vec<_> = moved.0.keys().map(|(.., name)| name.as_str()).collect();
        ensure!(names == ["allowed", "allowed"], "not a packet is dropped: {moved:?}");
    }
    Ok(())
}

/// A segment between the other side's `port` and the instance's 443.
fn segment(from_outside: bool, port: u16, flags: u8, sequence: u32, acknowledgement: u32) -> Tcp {
    let (source, destination) = if from_outside { (port, 443) } else { (443, port) };
    Tcp { sequence, acknowledgement, ..Tcp::new(source, destination, flags) }
}

const SYN_ACK: u8 = Tcp::SYN | Tcp::ACK;
const FIN_ACK: u8 = Tcp::FIN | Tcp::ACK;

/// One packet and what becomes of it: from outside or not, flags, sequence, acknowledgement, counted as.
type Step = (bool, u8, u32, u32, &'static str);

/// An instance that lets 443 in, and itself out from anywhere to the ephemeral ports of nobody.
fn conversing(setup: Setup, outbound: &str) -> Result<Arena> {
    let rules = format!(
        "inbound: [{{allow: tcp/443, from: [{NOBODY}]}}], outbound: [{}]",
        outbound.replace("NOBODY", NOBODY)
    );
    Arena::start(setup, &rules)
}

fn walk(hand: &Hand<'_>, port: u16, steps: &[Step]) -> Result<()> {
    for (number, &(from_outside, flags, sequence, acknowledgement, expected)) in steps.iter().enumerate() {
        let direction = if from_outside { "inbound" } else { "outbound" };
        let what = format!("step {number} of port {port}, flags {flags:#x}");
        hand.judged(&what, direction, expected, |_| {
            segment(from_outside, port, flags, sequence, acknowledgement)
        })?;
    }
    Ok(())
}

/// The flow of this port is a connection, in both families: it has the life of one.
fn established(arena: &Arena, port: u16) -> Result<()> {
    let flows = arena.agent.json(&["flows", "--state", "established"])?;
    let list = flows["flows"].as_array().context("no list of flows")?;
    let those = list.iter().filter(|flow| flow["remote_port"] == port).count();
    ensure!(those == 2, "port {port}: one in each family, not {flows:#}");
    Ok(())
}

const OPENED: [Step; 3] = [
    (true, Tcp::SYN, 1000, 0, "allowed"),
    (false, SYN_ACK, 5000, 1001, "allowed"),
    (true, Tcp::ACK, 1001, 5001, "allowed"),
];
const CLOSED: [Step; 3] = [
    (true, FIN_ACK, 1001, 5001, "allowed"),
    (false, FIN_ACK, 5001, 1002, "allowed"),
    (true, Tcp::ACK, 1002, 5002, "allowed"),
];
const RESET: [Step; 1] = [(true, Tcp::RST, 1001, 0, "allowed")];
/// Its numbers lie far behind those of before.
const AGAIN: [Step; 5] = [
    (true, Tcp::SYN, 10, 0, "allowed"),
    (false, SYN_ACK, 20, 11, "allowed"),
    (true, Tcp::ACK, 11, 21, "allowed"),
    (true, Tcp::ACK, 11, 21, "allowed"),
    (false, Tcp::ACK, 21, 11, "allowed"),
];
const AGAIN_FROM_WITHIN: [Step; 4] = [
    (false, Tcp::SYN, 70, 0, "allowed"),
    (true, SYN_ACK, 90, 71, "allowed"),
    (false, Tcp::ACK, 71, 91, "allowed"),
    (true, Tcp::ACK, 91, 71, "allowed"),
];

fn what_is_left_of_a_flow_denies_nobody_and_admits_nobody(setup: Setup) -> Result<()> {
    let arena = conversing(setup, "")?;
    let hand = Hand::take(&arena)?;
    for (port, end) in [(1501, &CLOSED[..]), (1502, &RESET)] {
        walk(&hand, port, &OPENED)?;
        walk(&hand, port, end)?;
        // The instance may not open it the other way round: no rule says so.
        walk(&hand, port, &[(false, Tcp::SYN, 7000, 0, "no_rule")])?;
        walk(&hand, port, &AGAIN)?;
        established(&arena, port)?;
    }
    // What a rule that is gone has let in does not begin again.
    walk(&hand, 1503, &OPENED)?;
    walk(&hand, 1503, &RESET)?;
    arena.apply("inbound: [], outbound: []")?;
    walk(&hand, 1503, &[(true, Tcp::SYN, 10, 0, "no_rule")])?;
    // And the other way round where a rule does say so.
    let both = "inbound: [{allow: tcp/443, from: [NOBODY]}], outbound: [{allow: tcp/1504, to: [NOBODY]}]";
    arena.apply(&both.replace("NOBODY", NOBODY))?;
    walk(&hand, 1504, &OPENED)?;
    walk(&hand, 1504, &CLOSED)?;
    walk(&hand, 1504, &AGAIN_FROM_WITHIN)?;
    established(&arena, 1504)
}

/// RFC 9293, section 3.5: two SYNs cross, each is answered, and the connection is one.
fn two_sides_open_at_once(setup: Setup) -> Result<()> {
    let arena = conversing(setup, "{allow: tcp/1600-1699, to: [NOBODY]}")?;
    let hand = Hand::take(&arena)?;
    for (port, from_outside) in [(1601, false), (1602, true)] {
        let (first, second) = (1000, 5000);
        walk(
            &hand,
            port,
            &[
                (from_outside, Tcp::SYN, first, 0, "allowed"),
                (!from_outside, Tcp::SYN, second, 0, "allowed"),
                (from_outside, SYN_ACK, first, second + 1, "allowed"),
                (!from_outside, SYN_ACK, second, first + 1, "allowed"),
                (from_outside, Tcp::ACK, first + 1, second + 1, "allowed"),
                (!from_outside, Tcp::ACK, second + 1, first + 1, "allowed"),
            ],
        )?;
        established(&arena, port)?;
    }
    // Without a rule for it, the second SYN is no part of what the first has opened.
    walk(&hand, 1700, &[(true, Tcp::SYN, 1000, 0, "allowed"), (false, Tcp::SYN, 5000, 0, "no_rule")])
}

fn a_ping_is_answered_by_its_own_id_only(setup: Setup) -> Result<()> {
    let rules = format!(
        "inbound: [{{allow: [icmp/echo-request, icmpv6/echo-request], from: [{NOBODY}]}}], outbound: []"
    );
    let arena = Arena::start(setup, &rules)?;
    let hand = Hand::take(&arena)?;
    let echo = |request: bool, id: u16| {
        move |family: Family| {
            let echo = Icmp::echo_request(family == Family::V6, id, 1);
            let reply = if family == Family::V6 { 129 } else { 0 };
            if request { echo } else { Icmp { kind: reply, ..echo } }
        }
    };
    hand.judged("nobody asked", "outbound", "no_rule", echo(false, 7))?;
    hand.judged("a ping", "inbound", "allowed", echo(true, 7))?;
    hand.judged("another id", "outbound", "no_rule", echo(false, 8))?;
    hand.judged("a question back", "outbound", "no_rule", echo(true, 7))?;
    hand.judged("its reply", "outbound", "allowed", echo(false, 7))?;
    hand.judged("its reply again", "outbound", "allowed", echo(false, 7))
}

fn other_protocols_are_told_apart_by_address_and_number(setup: Setup) -> Result<()> {
    let arena = Arena::start(setup, &format!("inbound: [{{allow: gre, from: [{NOBODY}]}}], outbound: []"))?;
    let hand = Hand::take(&arena)?;
    let packet = |number: u8| move |_: Family| Transport::Other(number, vec![0; 8]);
    hand.judged("nobody asked", "outbound", "no_rule", packet(47))?;
    hand.judged("GRE", "inbound", "allowed", packet(47))?;
    hand.judged("its answer", "outbound", "allowed", packet(47))?;
    hand.judged("another protocol", "outbound", "no_rule", packet(99))?;
    // The peer's address is another than nobody's.
    let sent = arena.instance_socket()?;
    for family in Family::ALL {
        let (here, there): (IpAddr, IpAddr) = (arena.instance_address(family), arena.peer_address(family));
        let packet = sg_tests::packet::Packet::new(here, there, Transport::Other(47, vec![0; 8]));
        arena
            .counted(&[("outbound", "no_rule", 1)], || sent.send(&arena.frame_out(&packet).bytes()))
            .with_context(|| format!("to another address, {family:?}"))?;
    }
    Ok(())
}
