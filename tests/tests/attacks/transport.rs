//! T: TCP segments that no honest endpoint sends. U: UDP, and what looks like it.

use std::{thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use sg_tests::{
    each_setup,
    lab::{Setup, arena::Family, eventually},
};
use socket2::SockRef;

use crate::{
    bytes::{ACK, FIN, PSH, RST, SYN, TCP, UDP, URG, be16},
    pool::QUICK,
    range::{FLOW, PASSES, RULE, RULES, Range, Way},
    rows::judge,
    session::Session,
};

each_setup! {
    t1_flags
    t2_strays
    t3_syn_on_the_reversed_tuple
    t4_resets_that_do_not_count
    t4_resets_in_pieces
    t4_resets_that_count
    t4_resets_of_the_kernel
    t5_data_offset
    u1_udp_lengths
    u2_other_protocols
    u2_an_open_protocol
}

/// What no endpoint sends.
const MAD: [(&str, u8); 12] = [
    ("NULL", 0),
    ("FIN", FIN),
    ("XMAS", FIN | PSH | URG),
    ("SYN+FIN", SYN | FIN),
    ("SYN+RST", SYN | RST),
    ("SYN+FIN+ACK", SYN | FIN | ACK),
    ("SYN+RST+ACK", SYN | RST | ACK),
    ("FIN+RST", FIN | RST),
    ("FIN+RST+ACK", FIN | RST | ACK),
    ("URG", URG),
    ("PSH", PSH),
    ("all", 0xff),
];

fn t1_flags(setup: Setup) -> Result<()> {
    let range = Range::open(setup)?;
    judge(&range, &Family::ALL, |at| {
        let inward = at.inward;
        for (what, flags) in MAD {
            for port in [443, 22] {
                let segment = inward.tcp((at.port(), port), (1000, 1), flags, &[]);
                at.packet(format!("{what} to {port}"), &inward.ip(TCP, &segment), "invalid_tcp_flags");
            }
        }
    })?;
    // The same tuple with flags that endpoints do send.
    for family in Family::ALL {
        let path = range.inward(family);
        let port = range.port();
        for (what, flags) in MAD {
            let segment = path.tcp((port, 443), (1000, 1), flags, &[]);
            range.judge(what, Way::In, &path.frame(&path.ip(TCP, &segment)), "invalid_tcp_flags")?;
        }
        ensure!(range.flow_of(family, "tcp", (port, 443))?.is_none(), "a flow of mad flags");
        Session::open(&range, family, Way::In, (port, 443))?.goes_on()?;
        range.settle("the same tuple, honestly")?;
    }
    Ok(())
}

fn t2_strays(setup: Setup) -> Result<()> {
    let range = Range::open(setup)?;
    judge(&range, &Family::ALL, |at| {
        let inward = at.inward;
        for (what, flags) in [
            ("ACK", ACK),
            ("RST", RST),
            ("RST+ACK", RST | ACK),
            ("SYN+ACK", SYN | ACK),
            ("FIN+ACK", FIN | ACK),
            ("data", ACK | PSH),
        ] {
            for port in [22, 5432, 65_535, 0] {
                let segment = inward.tcp((at.port(), port), (1000, 1), flags, b"x");
                at.packet(format!("{what} to {port}"), &inward.ip(TCP, &segment), "no_rule");
                // From the port that the instance may ask: no answer without a question.
                let segment = inward.tcp((5432, at.port()), (1000, 1), flags, b"x");
                at.packet(format!("{what} from 5432"), &inward.ip(TCP, &segment), "no_rule");
            }
        }
        at.packet("a SYN to an open port", &at.syn(443), RULE);
    })
}

fn t3_syn_on_the_reversed_tuple(setup: Setup) -> Result<()> {
    let range = Range::open(setup)?;
    for family in Family::ALL {
        let session = Session::outbound(&range, family)?;
        session.goes_on()?;
        let path = session.path(false);
        let (sequence, _) = session.numbers_of(false);
        for (what, sequence, flags) in [
            ("a SYN", 1, SYN),
            ("a SYN with the next number", sequence, SYN),
            ("a SYN with PSH", sequence, SYN | PSH),
            ("a SYN with ECN bits", sequence, SYN | 0xc0),
        ] {
            let segment = path.tcp(session.ports_of(false), (sequence, 0), flags, &[]);
            range
                .send(what, Way::In, &path.frame(&path.ip(TCP, &segment)), "no_rule")
                .and_then(|()| session.goes_on())
                .and_then(|()| range.settle(what))
                .with_context(|| format!("{what}, {family:?}"))?;
            session.is_established()?;
        }
        // The same SYN to a port that a rule opens.
        range.judge("an open port", Way::In, &path.syn_frame((5432, 443)), RULE)?;
    }
    Ok(())
}

/// A segment of a session: its sequence number counted from the next, the number that it acknowledges
/// counted from the last, its flags, and what is done to its checksum.
struct Reset {
    what: &'static str,
    ahead: u32,
    acknowledged: u32,
    flags: u8,
    spoil: fn(&mut [u8]),
}

fn honest(_: &mut [u8]) {}

impl Reset {
    const fn new(what: &'static str, ahead: u32, flags: u8, spoil: fn(&mut [u8])) -> Self {
        Self { what, ahead, acknowledged: 0, flags, spoil }
    }

    /// Its bytes, sent by either side.
    fn frame(&self, session: &Session<'_>, from_opener: bool, data: &[u8]) -> Vec<u8> {
        let path = session.path(from_opener);
        let (next, acknowledged) = session.numbers_of(from_opener);
        let acknowledged =
            if self.flags & ACK == 0 { 0 } else { acknowledged.wrapping_add(self.acknowledged) };
        let numbers = (next.wrapping_add(self.ahead), acknowledged);
        let mut segment = path.tcp(session.ports_of(from_opener), numbers, self.flags, data);
        (self.spoil)(&mut segment);
        path.frame(&path.ip(TCP, &segment))
    }
}

fn t4_resets_that_do_not_count(setup: Setup) -> Result<()> {
    let range = Range::pooled(setup, QUICK)?;
    let resets = [
        Reset::new("one ahead", 1, RST, honest),
        Reset::new("one behind", u32::MAX, RST, honest),
        Reset::new("one window ahead", 64_240, RST, honest),
        Reset::new("far ahead", 0x4000_0000, RST, honest),
        Reset::new("half the numbers ahead", 0x8000_0000, RST, honest),
        Reset::new("far behind", 0xc000_0000, RST, honest),
        Reset::new("one ahead, with ACK", 1, RST | ACK, honest),
        Reset::new("far ahead, with ACK", 0x4000_0000, RST | ACK, honest),
        Reset::new("a checksum of zero", 0, RST, |segment| segment[16..18].fill(0)),
        Reset::new("a checksum of ones", 0, RST, |segment| segment[16..18].fill(0xff)),
        Reset::new("a checksum one off", 0, RST, |segment| segment[17] ^= 1),
        Reset::new("a checksum of swapped octets", 0, RST, |segment| segment.swap(16, 17)),
        Reset::new("a checksum one off, with ACK", 0, RST | ACK, |segment| segment[16] ^= 0x80),
        Reset::new("a checksum without the addresses", 0, RST, |segment| {
            segment[16..18].fill(0);
            let sum = crate::bytes::sum(&[segment]);
            segment[16..18].copy_from_slice(&sum);
        }),
    ];
    let mut sessions = vec![];
    for family in Family::ALL {
        // By the peer and by the instance, in a connection of either's.
        for open in [Session::inbound, Session::outbound] {
            for from_opener in [true, false] {
                for reset in &resets {
                    for data in [&b""[..], b"odd"] {
                        let session = open(&range, family)?;
                        session.goes_on()?;
                        let way = session.way_of(from_opener);
                        let frame = reset.frame(&session, from_opener, data);
                        range
                            .send(reset.what, way, &frame, PASSES)
                            .with_context(|| format!("{}, {way:?}, {family:?}", reset.what))?;
                        sessions.push((reset, way, session));
                    }
                }
                range.settle("resets")?;
            }
        }
    }
    // All have been idle for longer than a closed flow would live.
    thread::sleep(Duration::from_millis(1200));
    let flows = range.flows()?;
    for (reset, way, session) in &sessions {
        let found = flows.iter().filter(|flow| {
            let both = [&flow["local_port"], &flow["remote_port"]];
            both.iter().any(|port| **port == session.ports.0)
        });
        let states: Vec<_> = found.map(|flow| &flow["state"]).collect();
        ensure!(
            states == ["established"],
            "a reset {way:?} with {}, {:?}: its flow is {states:?}",
            reset.what,
            session.family
        );
        session.goes_on().with_context(|| format!("after a reset {way:?} with {}", reset.what))?;
    }
    range.settle("the connections go on")
}

/// What is to follow never comes, so that no endpoint ever sees the reset: nor can its checksum be seen.
fn t4_resets_in_pieces(setup: Setup) -> Result<()> {
    let range = Range::pooled(setup, QUICK)?;
    let mut sessions = vec![];
    for family in Family::ALL {
        for open in [Session::inbound, Session::outbound] {
            for from_opener in [true, false] {
                let session = open(&range, family)?;
                session.goes_on()?;
                let path = session.path(from_opener);
                let segment = session.segment(from_opener, RST, &[0; 20]);
                let first = path.frame(&path.fragment(TCP, range.port(), 0, true, &segment[..32]));
                range.send("a reset in pieces", session.way_of(from_opener), &first, PASSES)?;
                range.settle("a reset in pieces")?;
                sessions.push(session);
            }
        }
    }
    thread::sleep(Duration::from_millis(1200));
    for session in &sessions {
        session.is_established()?;
        session.goes_on()?;
    }
    range.settle("the connections go on")
}

/// Whose checksum is often left to the hardware: a veth hands it over unfinished.
fn t4_resets_of_the_kernel(setup: Setup) -> Result<()> {
    let rules = "inbound: [{allow: tcp/443, from: anywhere}], outbound: [{allow: tcp/5432, to: anywhere}]";
    let range = Range::of_kernels(setup, rules)?;
    let arena = &range.arena;
    for family in Family::ALL {
        for from_client in [true, false] {
            for inbound in [true, false] {
                let what = format!("inbound: {inbound}, by the client: {from_client}, {family:?}");
                let connection =
                    if inbound { arena.connect_in(family, 443)? } else { arena.connect_out(family, 5432)? };
                let mut connection = connection.context("no connection")?;
                ensure!(connection.works()?, "{what}: no data");
                let port = connection.client.local_addr()?.port();
                let end = if from_client { &connection.client } else { &connection.server };
                SockRef::from(end).set_linger(Some(Duration::ZERO))?;
                if from_client {
                    drop(connection.client);
                } else {
                    drop(connection.server);
                }
                eventually("the reset counts", || {
                    let list = arena.agent.json(&["flows"])?;
                    let flows = list["flows"].as_array().context("a list of flows")?;
                    let mut mine =
                        flows.iter().filter(|flow| flow["local_port"] == port || flow["remote_port"] == port);
                    Ok(mine.all(|flow| flow["state"] == "closing"))
                })
                .context(what)?;
            }
        }
    }
    Ok(())
}

fn t4_resets_that_count(setup: Setup) -> Result<()> {
    let range = Range::pooled(setup, QUICK)?;
    let resets = [
        Reset::new("the next number", 0, RST, honest),
        Reset::new("the next number, with ACK", 0, RST | ACK, honest),
    ];
    let mut sessions = vec![];
    for family in Family::ALL {
        for open in [Session::inbound, Session::outbound] {
            for from_opener in [true, false] {
                for reset in &resets {
                    for data in [&b""[..], b"odd", b"even"] {
                        let session = open(&range, family)?;
                        session.goes_on()?;
                        let way = session.way_of(from_opener);
                        let mut frame = reset.frame(&session, from_opener, data);
                        // Padding of the frame is no part of the segment.
                        frame.extend([0xaa; 7]);
                        range.judge(reset.what, way, &frame, FLOW)?;
                        let state = session.state()?;
                        ensure!(state == "closing", "{}, {way:?}, {family:?}: {state}", reset.what);
                        sessions.push((way, session));
                    }
                }
            }
        }
    }
    thread::sleep(Duration::from_millis(1200));
    // They are over: the answering side has no flow and no rule any more.
    for (way, session) in &sessions {
        let packet = session.packet(false, ACK, b"late");
        let frame = session.path(false).frame(&packet);
        range
            .judge("after the reset", session.way_of(false), &frame, "no_rule")
            .with_context(|| format!("reset {way:?}, {:?}", session.family))?;
    }
    Ok(())
}

fn t5_data_offset(setup: Setup) -> Result<()> {
    let range = Range::open(setup)?;
    judge(&range, &Family::ALL, |at| {
        let inward = at.inward;
        for data in [0_u8, 8, 40] {
            for words in 0..16 {
                let mut segment = inward.syn((at.port(), 443));
                segment.resize(20 + usize::from(data), 0);
                segment[12] = words << 4;
                inward.seal(TCP, 16, &mut segment);
                let fits = words >= 5 && usize::from(words) * 4 <= segment.len();
                let expected = if fits { RULE } else { "malformed" };
                if fits && words > 6 && words < 15 {
                    continue;
                }
                at.packet(
                    format!("data offset {words} of {}", segment.len()),
                    &inward.ip(TCP, &segment),
                    expected,
                );
            }
        }
        // The frame is long enough, the packet is not.
        let mut segment = inward.syn((at.port(), 443));
        segment[12] = 0x60;
        inward.seal(TCP, 16, &mut segment);
        let padded = [inward.ip(TCP, &segment), vec![0; 20]].concat();
        at.packet("data offset into the padding", &padded, "malformed");
    })
}

fn u1_udp_lengths(setup: Setup) -> Result<()> {
    let range = Range::open(setup)?;
    judge(&range, &Family::ALL, |at| {
        let inward = at.inward;
        for (port, by_rule) in [(443, PASSES), (22, "no_rule")] {
            let with_length = |length: usize| {
                let mut datagram = inward.udp((at.port(), port), b"data");
                datagram[4..6].copy_from_slice(&be16(length));
                inward.seal(UDP, 6, &mut datagram);
                inward.ip(UDP, &datagram)
            };
            let rows: Vec<_> = [0, 1, 2, 3, 4, 5, 6, 7, 13, 14, 512, 65_535]
                .map(|length| (length, "malformed"))
                .into_iter()
                .chain([8, 9, 12].map(|length| (length, by_rule)))
                .map(|(length, expected)| (length, with_length(length), expected))
                .collect();
            for (length, packet, expected) in rows {
                at.packet(format!("a length of {length}, {port}"), &packet, expected);
            }
            let empty = inward.ip(UDP, &inward.udp((at.port(), port), &[]));
            at.packet(format!("no payload, {port}"), &empty, by_rule);
            // The frame is long enough, the packet is not.
            let mut datagram = inward.udp((at.port(), port), &[]);
            datagram[5] = 12;
            let padded = [inward.ip(UDP, &datagram), vec![0; 20]].concat();
            at.packet(format!("a length into the padding, {port}"), &padded, "malformed");
        }
    })
}

fn u2_other_protocols(setup: Setup) -> Result<()> {
    let range = Range::open(setup)?;
    judge(&range, &Family::ALL, |at| {
        let inward = at.inward;
        let mine = inward.icmp_number();
        let other_icmp = if mine == 1 { 58 } else { 1 };
        for (what, protocol) in [
            ("UDP-Lite", 136),
            ("SCTP", 132),
            ("DCCP", 33),
            ("GRE", 47),
            ("IP in IP", 4),
            ("IPv6 in IP", 41),
            ("ESP", 50),
            ("OSPF", 89),
            ("EtherIP", 97),
            ("the other family's ICMP", other_icmp),
            ("an experiment", 254),
        ] {
            for (like, octets) in
                [("UDP", inward.udp((at.port(), 443), b"data")), ("TCP", inward.syn((at.port(), 443)))]
            {
                at.packet(format!("{what} that looks like {like}"), &inward.ip(protocol, &octets), "no_rule");
            }
        }
        // What a tunnel carries is not looked at.
        let inner = at.syn(443);
        let number = if at.family == Family::V4 { 4 } else { 41 };
        at.packet("an open packet in a tunnel", &inward.ip(number, &inner), "no_rule");
        at.packet("UDP itself", &at.udp(443), PASSES);
    })
}

/// A rule for the protocol opens it, whatever its ports; and no other.
fn u2_an_open_protocol(setup: Setup) -> Result<()> {
    // Flows without ports would be in the way of those who come after.
    let range = Range::with(setup, &RULES.replace("udp/443]", "udp/443, sctp, 136]"), "", "")?;
    judge(&range, &Family::ALL, |at| {
        let inward = at.inward;
        for (protocol, expected) in [(132, PASSES), (136, PASSES), (33, "no_rule"), (17, "no_rule")] {
            let octets = inward.udp((at.port(), 22), b"data");
            at.packet(format!("protocol {protocol} to 22"), &inward.ip(protocol, &octets), expected);
        }
    })
}
