//! Idle timeouts of every kind of flow, as set in the agent's settings and kept by the kernel alone
//! (docs/semantics.md, section 5). The agent is dead in all of these tests but one.

use std::{
    ops::RangeInclusive,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use sg_tests::{
    each_setup,
    lab::{
        Arena, Setup,
        arena::Family,
        can_run,
        hand::{Hand, NOBODY},
    },
    packet::{Icmp, Tcp, Transport, Udp},
};

each_setup! {
    every_kind_of_flow_ends_when_its_time_is_up
    a_packet_of_either_side_keeps_a_flow
    a_full_table_serves_new_flows_once_the_old_ones_are_over
    other_timeouts_hold_from_the_next_start_of_the_agent
}

/// No two alike, so that none stands for another.
const SETTINGS: &str = "[flows]\ncapacity = 1024\n[timeouts]\ntcp_opening = 3\ntcp_established = 60\n\
                        tcp_closing = 4\nudp = 5\nicmp = 6\nother = 7\nudp_stream = 9\n";
/// The fewest seconds that the setting takes.
const ESTABLISHED: u64 = 60;
const GRE: u8 = 47;

fn rules() -> String {
    format!(
        "inbound: [{{allow: [tcp/443, udp/443, icmp/echo-request, icmpv6/echo-request, gre, 99], \
         from: [{NOBODY}]}}], outbound: []"
    )
}

/// An arena whose agent has read [`SETTINGS`] and is dead.
fn with_dead_agent(setup: Setup) -> Result<Arena> {
    let mut arena = Arena::without_agent(setup)?;
    arena.agent.settings(SETTINGS)?;
    let policy = arena.policy(&rules());
    arena.agent.start_with(&policy)?;
    arena.agent.kill()?;
    Ok(arena)
}

/// A kind of flow, opened from outside; nothing but the flow lets the instance answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    TcpOpening,
    TcpEstablished,
    TcpHalfClosed,
    TcpClosed,
    TcpReset,
    UdpOneWay,
    UdpExchange,
    UdpStream,
    Ping,
    Other,
}

impl Kind {
    /// Those whose timeouts can be made short.
    const SHORT: [Self; 8] = [
        Self::TcpOpening,
        Self::TcpClosed,
        Self::TcpReset,
        Self::UdpOneWay,
        Self::UdpExchange,
        Self::Ping,
        Self::Other,
        Self::UdpStream,
    ];

    /// What [`SETTINGS`] gives it.
    const fn seconds(self) -> u64 {
        match self {
            Self::TcpOpening => 3,
            Self::TcpClosed | Self::TcpReset => 4,
            Self::UdpOneWay | Self::UdpExchange => 5,
            Self::Ping => 6,
            Self::Other => 7,
            Self::UdpStream => 9,
            Self::TcpEstablished | Self::TcpHalfClosed => ESTABLISHED,
        }
    }

    /// The packets that make such a flow: from outside or not, and what. `number` tells flows of
    /// one kind apart.
    fn packets(self, family: Family, number: u16) -> Vec<(bool, Transport)> {
        let port = self.port(number);
        let tcp = |from_outside: bool, flags, sequence, acknowledgement| {
            let (source, destination) = if from_outside { (port, 443) } else { (443, port) };
            let tcp = Tcp { sequence, acknowledgement, ..Tcp::new(source, destination, flags) };
            (from_outside, Transport::from(tcp))
        };
        let mut packets = match self {
            Self::TcpOpening => vec![tcp(true, Tcp::SYN, 1000, 0)],
            Self::TcpEstablished | Self::TcpHalfClosed | Self::TcpClosed | Self::TcpReset => vec![
                tcp(true, Tcp::SYN, 1000, 0),
                tcp(false, Tcp::SYN | Tcp::ACK, 5000, 1001),
                tcp(true, Tcp::ACK, 1001, 5001),
            ],
            _ => vec![(true, self.question(family, number))],
        };
        match self {
            Self::TcpHalfClosed => packets.push(tcp(true, Tcp::FIN | Tcp::ACK, 1001, 5001)),
            Self::TcpClosed => packets.extend([
                tcp(true, Tcp::FIN | Tcp::ACK, 1001, 5001),
                tcp(false, Tcp::FIN | Tcp::ACK, 5001, 1002),
            ]),
            Self::TcpReset => packets.push(tcp(true, Tcp::RST, 1001, 0)),
            Self::UdpExchange | Self::Ping | Self::Other => {
                packets.push((false, self.answer(family, number)));
            }
            Self::UdpStream => {
                packets.extend([(false, self.answer(family, number)), (true, self.question(family, number))]);
            }
            Self::TcpOpening | Self::TcpEstablished | Self::UdpOneWay => {}
        }
        packets
    }

    /// Makes such a flow.
    fn open(self, hand: &Hand<'_>, family: Family, number: u16) -> Result<()> {
        let mut packets = self.packets(family, number).into_iter();
        packets.try_for_each(|(from_outside, packet)| hand.delivered([(from_outside, family, packet)]))
    }

    /// A port, or an id, of this flow alone.
    const fn port(self, number: u16) -> u16 {
        20_000 + 100 * self as u16 + number
    }

    /// A packet of the opener that belongs.
    fn question(self, family: Family, number: u16) -> Transport {
        let port = self.port(number);
        match self {
            Self::UdpOneWay | Self::UdpExchange | Self::UdpStream => Udp::new(port, 443, b"question").into(),
            Self::Ping => Icmp::echo_request(family == Family::V6, port, 1).into(),
            Self::Other => Transport::Other(other(number), vec![0; 8]),
            _ => Tcp { sequence: 1001, acknowledgement: 5001, ..Tcp::new(port, 443, Tcp::ACK) }.into(),
        }
    }

    /// A packet of the instance that belongs.
    fn answer(self, family: Family, number: u16) -> Transport {
        let port = self.port(number);
        match self {
            Self::UdpOneWay | Self::UdpExchange | Self::UdpStream => Udp::new(443, port, b"answer").into(),
            Self::Ping => {
                let request = Icmp::echo_request(family == Family::V6, port, 1);
                Icmp { kind: if family == Family::V6 { 129 } else { 0 }, ..request }.into()
            }
            Self::Other => Transport::Other(other(number), vec![0; 8]),
            _ => Tcp { sequence: 5001, acknowledgement: 1001, ..Tcp::new(443, port, Tcp::ACK) }.into(),
        }
    }
}

/// Other protocols have no ports: two flows are two protocols.
const fn other(number: u16) -> u8 {
    if number == EARLY { GRE } else { 99 }
}

/// The flow that is asked for before its time is up, and the one after.
const EARLY: u16 = 0;
const LATE: u16 = 1;

/// When something is to be looked at, in milliseconds from the start.
struct Look {
    at: u64,
    kind: Kind,
    number: u16,
}

/// Opens two flows of each kind and looks at one just before, at the other just after their time.
/// `Ok(false)` if the machine was too slow for the former to mean anything.
fn on_time(arena: &Arena, hand: &Hand<'_>, kinds: &[Kind]) -> Result<bool> {
    let flows = kinds.iter().flat_map(|kind| {
        let both = Family::ALL.into_iter().flat_map(|family| [(family, EARLY), (family, LATE)]);
        both.map(|(family, number)| (family, kind.packets(family, number)))
    });
    let flows: Vec<_> = flows.collect();
    let rounds = flows.iter().map(|(_, packets)| packets.len()).max().unwrap_or_default();
    let mut start = Instant::now();
    for left in (0..rounds).rev() {
        // Every flow is opened by the last round: from there its time counts.
        start = Instant::now();
        let round = flows.iter().filter_map(|(family, packets)| {
            let (from_outside, packet) = packets.iter().nth_back(left)?;
            Some((*from_outside, *family, packet.clone()))
        });
        hand.delivered(round)?;
    }
    let opened = start.elapsed();
    let mut looks = Vec::new();
    for &kind in kinds {
        looks.push(Look { at: kind.seconds() * 1000 - 1000, kind, number: EARLY });
        looks.push(Look { at: kind.seconds() * 1000 + 400, kind, number: LATE });
    }
    looks.sort_by_key(|look| look.at);
    for Look { at, kind, number } in looks {
        let due = Duration::from_millis(at);
        // A late look counts from the last packet, an early one from the first.
        let due = if number == LATE { due + opened } else { due };
        thread::sleep(due.saturating_sub(start.elapsed()));
        let expected = if number == EARLY { "allowed" } else { "no_rule" };
        let what = format!("{kind:?}, {} s, looked at after {at} ms", kind.seconds());
        let before = arena.counters()?;
        for family in Family::ALL {
            hand.outbound(family, kind.answer(family, number))?;
        }
        if number == EARLY
            && start.elapsed() + Duration::from_millis(200) > Duration::from_secs(kind.seconds())
        {
            return Ok(false);
        }
        let moved = arena.counters()?.since(&before)?;
        ensure!(moved.of("eth0", "outbound", expected) == 2, "{what}: {moved:?}, expected {expected}");
    }
    Ok(true)
}

fn every_kind_of_flow_ends_when_its_time_is_up(setup: Setup) -> Result<()> {
    let arena = with_dead_agent(setup)?;
    let hand = Hand::take(&arena)?;
    for _ in 0..3 {
        if on_time(&arena, &hand, &Kind::SHORT)? {
            // What is over can be opened again by whom the rules allow.
            for kind in Kind::SHORT.into_iter().filter(|kind| *kind != Kind::TcpOpening) {
                hand.judged("afresh", "outbound", "no_rule", |family| kind.answer(family, LATE))?;
                for family in Family::ALL {
                    kind.open(&hand, family, LATE)?;
                }
                hand.judged("afresh", "outbound", "allowed", |family| kind.answer(family, LATE))
                    .with_context(|| format!("{kind:?}"))?;
            }
            return Ok(());
        }
        // All that was opened is over before the next try.
        thread::sleep(Duration::from_secs(10));
    }
    bail!("the machine is too busy to tell early from late")
}

/// A minute of waiting, spent once for all setups.
#[test]
fn established_connections_end_when_their_time_is_up() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let arenas = Setup::ALL.into_iter().map(with_dead_agent).collect::<Result<Vec<_>>>()?;
    thread::scope(|scope| {
        let look = |arena| {
            move || {
                let kinds = [Kind::TcpEstablished, Kind::TcpHalfClosed];
                ensure!(on_time(arena, &Hand::take(arena)?, &kinds)?, "the machine is too busy");
                Ok(())
            }
        };
        let looks: Vec<_> = arenas.iter().map(|arena| (arena.setup, scope.spawn(look(arena)))).collect();
        for (setup, look) in looks {
            look.join()
                .map_err(|_| anyhow::anyhow!("{setup:?} panicked"))?
                .with_context(|| format!("{setup:?}"))?;
        }
        Ok(())
    })
}

/// Idle means: no packet of either side.
fn a_packet_of_either_side_keeps_a_flow(setup: Setup) -> Result<()> {
    let arena = with_dead_agent(setup)?;
    let hand = Hand::take(&arena)?;
    let kind = Kind::UdpExchange;
    let open = |number| {
        Family::ALL.into_iter().try_for_each(|family| hand.inbound(family, kind.question(family, number)))
    };
    open(EARLY)?;
    open(LATE)?;
    // Longer than the timeout in all, in steps well within it. A second question would make a stream
    // of an exchange, so one flow gets answers and the other questions alone.
    for step in 0..4 {
        thread::sleep(Duration::from_secs(2));
        let what = format!("answer {step}");
        hand.judged(&what, "outbound", "allowed", |family| kind.answer(family, EARLY))?;
        open(LATE)?;
    }
    hand.judged("after questions", "outbound", "allowed", |family| kind.answer(family, LATE))
}

/// Opens a UDP flow of an exchange for every port, which gives way to no other.
fn fill(hand: &Hand<'_>, ports: RangeInclusive<u16>) -> Result<()> {
    for port in ports {
        for family in Family::ALL {
            hand.inbound(family, Udp::new(port, 443, b"question"))?;
            hand.outbound(family, Udp::new(443, port, b"answer"))?;
        }
    }
    Ok(())
}

fn a_full_table_serves_new_flows_once_the_old_ones_are_over(setup: Setup) -> Result<()> {
    let arena = with_dead_agent(setup)?;
    let hand = Hand::take(&arena)?;
    let before = arena.counters()?;
    fill(&hand, 1024..=2047)?;
    let moved = arena.counters()?.since(&before)?;
    ensure!(moved.of("eth0", "inbound", "flow_table_full") > 500, "twice what fits: {moved:?}");
    // Nobody sweeps. Long after, all of them find their place again, as far as there are any.
    thread::sleep(Duration::from_secs(6));
    let before = arena.counters()?;
    fill(&hand, 3000..=3099)?;
    let moved = arena.counters()?.since(&before)?;
    ensure!(moved.of("eth0", "inbound", "allowed") == 200, "a table full of what is over: {moved:?}");
    ensure!(moved.of("eth0", "outbound", "allowed") == 200, "their answers: {moved:?}");
    Ok(())
}

fn other_timeouts_hold_from_the_next_start_of_the_agent(setup: Setup) -> Result<()> {
    let mut arena = Arena::without_agent(setup)?;
    let policy = arena.policy(&rules());
    arena.agent.start_with(&policy)?;
    for (seconds, expected) in [(60, "allowed"), (1, "no_rule")] {
        arena.agent.settings(&format!("[timeouts]\nudp = {seconds}\n"))?;
        arena.agent.restart()?;
        let (hand, kind) = (Hand::take(&arena)?, Kind::UdpOneWay);
        hand.judged("a question", "inbound", "allowed", |family| kind.question(family, seconds))?;
        thread::sleep(Duration::from_millis(1500));
        hand.judged("an answer", "outbound", expected, |family| kind.answer(family, seconds))
            .with_context(|| format!("udp = {seconds}"))?;
    }
    Ok(())
}
