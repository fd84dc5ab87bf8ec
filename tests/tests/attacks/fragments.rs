//! F: datagrams in pieces.

use std::{fs, net::SocketAddr};

use anyhow::{Context as _, Result, ensure};
use sg_tests::{
    each_setup,
    lab::{Arena, Setup, arena::Family, can_run, traffic::bind_udp},
};

use crate::{
    bytes::{Path, SYN, TCP, UDP, fragment},
    range::{DROPPED, FLOW, PASSES, RULE, RULES, Range, Way},
    rows::judge,
    session::Session,
};

each_setup! {
    f1_tiny_first_fragments
    f1_offset_1_of_tcp
    f2_lone_later_fragments
    f2_another_datagram_with_the_same_id
    f3_denied_first_fragments
    f3_a_second_first_fragment
    f4_atomic_fragments
    f5_chains_cut_short
    f6_a_million_first_fragments
    fragmented_datagrams_arrive
}

/// A segment with ports and data, to be cut at multiples of eight.
fn long_syn(path: &Path, ports: (u16, u16)) -> Vec<u8> {
    path.tcp(ports, (1000, 0), SYN, &[0x42; 44])
}

/// A datagram whose first fragment has its header and 16 octets, and whose second one the rest.
struct Two {
    first: Vec<u8>,
    second: Vec<u8>,
}

fn two(path: &Path, protocol: u8, id: u16, octets: &[u8]) -> Two {
    Two {
        first: path.frame(&path.fragment(protocol, id, 0, true, &octets[..24])),
        second: path.frame(&path.fragment(protocol, id, 3, false, &octets[24..])),
    }
}

fn f1_tiny_first_fragments(setup: Setup) -> Result<()> {
    let range = Range::open(setup)?;
    judge(&range, &Family::ALL, |at| {
        let inward = at.inward;
        for port in [443, 22] {
            let by_rule = if port == 443 { RULE } else { "no_rule" };
            let syn = long_syn(&inward, (at.port(), port));
            for length in [8, 16] {
                let id = at.id();
                let first = inward.fragment(TCP, id, 0, true, &syn[..length]);
                at.packet(format!("{length} octets of TCP to {port}"), &first, "malformed");
                // What follows finds no first one.
                let rest = inward.fragment(TCP, id, (length / 8) as u16, false, &syn[length..]);
                at.packet("what follows it", &rest, DROPPED);
            }
            let id = at.id();
            let whole = inward.fragment(TCP, id, 0, true, &syn[..24]);
            at.packet(format!("24 octets of TCP to {port}"), &whole, by_rule);
            // An option of TCP that the first fragment does not hold whole.
            let mut options = syn.clone();
            options[12] = 0x80;
            let first = inward.fragment(TCP, at.id(), 0, true, &options[..24]);
            at.packet(format!("a TCP header cut short, to {port}"), &first, "malformed");
            let echo = inward.fragment(inward.icmp_number(), at.id(), 0, true, &[]);
            at.packet("a first fragment of nothing", &echo, DROPPED);
        }
    })
}

fn f1_offset_1_of_tcp(setup: Setup) -> Result<()> {
    let range = Range::open(setup)?;
    judge(&range, &Family::ALL, |at| {
        let inward = at.inward;
        for offset in [1, 2] {
            for more in [true, false] {
                // It would change the flags, or the sequence number, of the first one.
                let id = at.id();
                let syn = long_syn(&inward, (at.port(), 443));
                let first = inward.fragment(TCP, id, 0, true, &syn[..24]);
                let over = inward.fragment(TCP, id, offset, more, &syn[usize::from(offset) * 8..32]);
                at.packet("an honest first one", &first, PASSES);
                at.packet(format!("offset {offset} over it, more: {more}"), &over, "malformed");
                let alone = inward.fragment(TCP, at.id(), offset, more, &syn[..24]);
                at.packet(format!("offset {offset} alone, more: {more}"), &alone, "malformed");
            }
        }
    })
}

fn f2_lone_later_fragments(setup: Setup) -> Result<()> {
    let range = Range::open(setup)?;
    judge(&range, &Family::ALL, |at| {
        let inward = at.inward;
        for (what, protocol, octets) in [
            ("TCP", TCP, inward.syn((at.port(), 443))),
            ("UDP", UDP, inward.udp((at.port(), 443), b"data")),
            ("ICMP", inward.icmp_number(), inward.echo(7, 1)),
        ] {
            let mut octets = octets;
            octets.resize(octets.len().next_multiple_of(8), 0);
            for offset in [3, 4, 185, 8180] {
                for more in [false, true] {
                    let lone = inward.fragment(protocol, at.id(), offset, more, &octets);
                    let what = format!("{what} at offset {offset}, more: {more}");
                    at.packet(what, &lone, "fragment_without_first");
                }
            }
        }
        // UDP has no such offsets that could rewrite a header of it.
        let udp = inward.udp((at.port(), 443), b"data567890123456");
        for offset in [1, 2] {
            let lone = inward.fragment(UDP, at.id(), offset, false, &udp);
            at.packet(format!("UDP at offset {offset}"), &lone, "fragment_without_first");
        }
        // Behind other headers of IPv6, alone and behind the first.
        if at.family == Family::V6 {
            let octets = long_syn(&inward, (at.port(), 443));
            for (what, next, options) in [
                ("destination options", 60, [44, 0, 1, 4, 0, 0, 0, 0]),
                ("hop-by-hop options", 0, [44, 0, 1, 4, 0, 0, 0, 0]),
            ] {
                let id = u32::from(at.id());
                let piece = |offset: u16, more, octets: &[u8]| {
                    inward.ip(next, &[&options[..], &fragment(TCP, id, offset, more), octets].concat())
                };
                let later = piece(3, false, &octets[24..]);
                at.packet(format!("a later one behind {what}"), &later, "fragment_without_first");
                at.packet(format!("a first one behind {what}"), &piece(0, true, &octets[..24]), RULE);
                at.packet(format!("what follows it behind {what}"), &later, PASSES);
            }
        }
        // A datagram that would be longer than any: its end wraps around.
        let lone = inward.fragment(UDP, at.id(), 8191, false, &[0; 16]);
        at.packet("an end beyond all lengths", &lone, DROPPED);
        // The benign one: the first comes first.
        let octets = long_syn(&inward, (at.port(), 443));
        let both = two(&inward, TCP, at.id(), &octets);
        at.frame("a first one", both.first, RULE);
        at.frame("what follows it", both.second, PASSES);
    })
}

/// What is kept of a first fragment is kept for its datagram alone.
fn f2_another_datagram_with_the_same_id(setup: Setup) -> Result<()> {
    let range = Range::open(setup)?;
    judge(&range, &Family::ALL, |at| {
        let inward = at.inward;
        let (id, another) = (at.id(), at.id());
        let udp = inward.udp((at.port(), 443), &[0x42; 40]);
        let honest = two(&inward, UDP, id, &udp);
        at.frame("the first one", honest.first, PASSES);
        let mut others = vec![];
        let mut path = inward;
        (path.from.v4[3], path.from.v6[15]) = (65, 0x65);
        others.push(("from another source", two(&path, UDP, id, &udp)));
        let mut path = inward;
        (path.to.v4[3], path.to.v6[15]) = (78, 0x78);
        others.push(("to another destination", two(&path, UDP, id, &udp)));
        others.push(("with another id", two(&inward, UDP, another, &udp)));
        if at.family == Family::V4 {
            // The id of IPv6 is told apart without the protocol: RFC 8200, section 4.5.
            others.push(("of another protocol", two(&inward, TCP, id, &udp)));
            others.push(("of SCTP", two(&inward, 132, id, &udp)));
        }
        for (what, other) in others {
            at.frame(what, other.second, "fragment_without_first");
        }
        at.frame("its own second one", honest.second, PASSES);
        // The way back is another datagram too.
        let back = inward.back();
        let answer = two(&back, UDP, id, &back.udp((53, at.port()), &[0x42; 40]));
        at.frame_out("the other way", answer.second, "fragment_without_first");
    })
}

fn f3_denied_first_fragments(setup: Setup) -> Result<()> {
    let range = Range::open(setup)?;
    judge(&range, &Family::ALL, |at| {
        let inward = at.inward;
        for (what, protocol) in [("TCP", TCP), ("UDP", UDP)] {
            for port in [22, 443] {
                let octets = match protocol {
                    TCP => long_syn(&inward, (at.port(), port)),
                    _ => inward.udp((at.port(), port), &[0x42; 60]),
                };
                let id = at.id();
                let piece = |offset: usize, more, end: usize| {
                    inward.fragment(protocol, id, (offset / 8) as u16, more, &octets[offset..end])
                };
                let expected = if port == 443 { PASSES } else { "no_rule" };
                at.packet(format!("{what} to {port}, the first"), &piece(0, true, 24), expected);
                at.packet(format!("{what} to {port}, the second"), &piece(24, true, 40), expected);
                at.packet(format!("{what} to {port}, the last"), &piece(40, false, octets.len()), expected);
                at.packet(format!("{what} to {port}, the second again"), &piece(24, true, 40), expected);
            }
        }
    })
}

/// Whatever comes first: the closed port is never reached, nor the open one shut for others.
fn f3_a_second_first_fragment(setup: Setup) -> Result<()> {
    let range = Range::open(setup)?;
    judge(&range, &Family::ALL, |at| {
        let inward = at.inward;
        for protocol in [TCP, UDP] {
            let octets = |port| match protocol {
                TCP => long_syn(&inward, (at.port(), port)),
                _ => inward.udp((at.port(), port), &[0x42; 60]),
            };
            let (open, shut) = (octets(443), octets(22));
            let id = at.id();
            let (good, bad) = (two(&inward, protocol, id, &open), two(&inward, protocol, id, &shut));
            at.frame(format!("protocol {protocol}: an open first one"), good.first, PASSES);
            at.frame("a closed first one with its id", bad.first.clone(), "no_rule");
            at.frame("what follows the open one", good.second, PASSES);
            at.frame("the closed one again", bad.first, "no_rule");
            let id = at.id();
            let (good, bad) = (two(&inward, protocol, id, &open), two(&inward, protocol, id, &shut));
            at.frame(format!("protocol {protocol}: a closed first one"), bad.first.clone(), "no_rule");
            at.frame("what follows it", bad.second, "no_rule");
            at.frame("an open first one with its id", good.first, PASSES);
            at.frame("what follows that", good.second, PASSES);
            at.frame("the closed one again", bad.first, "no_rule");
        }
    })
}

fn f4_atomic_fragments(setup: Setup) -> Result<()> {
    let range = Range::open(setup)?;
    judge(&range, &[Family::V6], |at| {
        let inward = at.inward;
        for (port, by_rule) in [(443, PASSES), (22, "no_rule")] {
            for id in [0, 7, u32::MAX] {
                for (protocol, octets) in
                    [(TCP, inward.syn((at.port(), port))), (UDP, inward.udp((at.port(), port), b"data"))]
                {
                    let packet = inward.ip(44, &[fragment(protocol, id, 0, false), octets.clone()].concat());
                    at.packet(format!("atomic, protocol {protocol} to {port}, id {id}"), &packet, by_rule);
                    // Reserved bits mean nothing: RFC 8200, section 4.5.
                    let mut reserved = packet.clone();
                    reserved[41] = 0xff;
                    reserved[43] |= 6;
                    at.packet(format!("the same with reserved bits, {port}"), &reserved, by_rule);
                    let options = [
                        &[44, 0, 1, 4, 0, 0, 0, 0][..],
                        &fragment(60, id, 0, false),
                        &[protocol, 0, 1, 4, 0, 0, 0, 0],
                    ];
                    let packet = inward.ip(60, &[&options.concat()[..], &octets].concat());
                    at.packet(format!("atomic between options, {port}"), &packet, by_rule);
                }
            }
        }
    })
}

fn f5_chains_cut_short(setup: Setup) -> Result<()> {
    let range = Range::open(setup)?;
    judge(&range, &[Family::V6], |at| {
        let inward = at.inward;
        let options = |next: u8, units: u8| {
            let mut header = vec![next, units, 1, units * 8 + 4];
            header.resize(8 + usize::from(units) * 8, 0);
            header
        };
        let syn = inward.syn((at.port(), 443));
        for (what, rest) in [
            ("nothing behind the fragment header", vec![]),
            ("an option that goes on in the next", options(TCP, 3)[..16].to_vec()),
            ("an option and no TCP", options(TCP, 0)),
            ("options and half of TCP", [options(60, 0), options(TCP, 0), syn[..16].to_vec()].concat()),
        ] {
            let next = if rest.is_empty() { TCP } else { 60 };
            let id = u32::from(at.id());
            let packet = inward.ip(44, &[fragment(next, id, 0, true), rest].concat());
            at.packet(what, &packet, "malformed");
            let later = inward.ip(44, &[fragment(next, id, 4, false), syn.clone()].concat());
            at.packet("what follows it", &later, DROPPED);
        }
        let long = inward.tcp((at.port(), 443), (1000, 0), SYN, &[0; 4]);
        let whole = inward.ip(44, &[fragment(60, 9, 0, true), options(TCP, 0), long.clone()].concat());
        at.packet("the whole chain in the first one", &whole, RULE);
        for (what, first, second) in [
            ("both first", fragment(44, 1, 0, true), fragment(TCP, 2, 0, true)),
            ("both atomic", fragment(44, 1, 0, false), fragment(TCP, 2, 0, false)),
            ("the second later", fragment(44, 1, 0, true), fragment(TCP, 2, 4, true)),
            ("the first later", fragment(44, 1, 4, true), fragment(TCP, 2, 0, true)),
        ] {
            let packet = inward.ip(44, &[&first[..], &second, &long].concat());
            at.packet(format!("two fragment headers, {what}"), &packet, DROPPED);
            let between = [&first[..], &options(44, 0), &second, &long].concat();
            let mut between = inward.ip(44, &between);
            between[40] = 60;
            at.packet(format!("two fragment headers, {what}, apart"), &between, DROPPED);
        }
    })
}

/// Locked memory of all the agent's maps, in bytes.
fn memory_of_maps(range: &Range) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(format!("/proc/{}/fdinfo", range.arena.agent.process()?))? {
        // A descriptor may have been closed meanwhile.
        let Ok(text) = fs::read_to_string(entry?.path()) else { continue };
        if text.contains("map_type:") {
            let line = text.lines().find_map(|line| line.strip_prefix("memlock:"));
            sum += line.context("a map without memlock")?.trim().parse::<u64>()?;
        }
    }
    ensure!(sum > 0, "the agent holds no maps");
    Ok(sum)
}

fn f6_a_million_first_fragments(setup: Setup) -> Result<()> {
    const MILLION: u32 = 1_000_000;
    let range = Range::with(setup, RULES, "", "")?;
    let mut sessions = vec![];
    for number in 0..40 {
        sessions.push(Session::inbound(&range, Family::ALL[number % 2])?);
    }
    range.settle("the sessions")?;
    let before = memory_of_maps(&range)?;
    // To a closed port: what is remembered is the refusal. And to the open one, of one flow.
    for (family, port, expected) in [(Family::V6, 22, "no_rule"), (Family::V4, 443, PASSES)] {
        let path = range.inward(family);
        let octets = path.udp((range.port(), port), &[0x42; 40]);
        let mut frame = two(&path, UDP, 1, &octets).first;
        let floods = if family == Family::V6 { MILLION - 50_000 } else { 50_000 };
        for number in 0..floods {
            match family {
                Family::V6 => frame[14 + 44..14 + 48].copy_from_slice(&number.to_be_bytes()),
                Family::V4 => {
                    frame[18..20].copy_from_slice(&number.to_be_bytes()[2..]);
                    // The checksum of the header moves with the id.
                    crate::bytes::seal_ipv4(&mut frame[14..34]);
                }
            }
            range.inject(Way::In, &frame)?;
        }
        let judged = range.gained(Way::In, expected, u64::from(floods))?;
        ensure!(judged == u64::from(floods), "{judged} of {floods} first fragments: {expected}");
    }
    let after = memory_of_maps(&range)?;
    ensure!(after <= before + (1 << 20), "maps grew from {before} to {after} bytes");
    range.forget()?;
    for session in &sessions {
        session.goes_on()?;
    }
    range.settle("the sessions go on")?;
    for family in Family::ALL {
        let path = range.inward(family);
        for port in [443, 22] {
            let expected = if port == 443 { RULE } else { "no_rule" };
            let octets = path.udp((range.port(), port), &[0x42; 40]);
            let both = two(&path, UDP, 60_000 + port, &octets);
            range.judge("a first fragment after the flood", Way::In, &both.first, expected)?;
            // What was dropped is remembered where there is room, and dropped all the same.
            let expected = if port == 443 { PASSES } else { DROPPED };
            range.judge("and what follows it", Way::In, &both.second, expected)?;
        }
    }
    Ok(())
}

/// Datagrams that the kernel itself cuts, in order and to an open and a closed port.
fn fragmented_datagrams_arrive(setup: Setup) -> Result<()> {
    let range = Range::of_kernels(setup, "inbound: [{allow: udp/443, from: anywhere}], outbound: []")?;
    let arena = &range.arena;
    for family in Family::ALL {
        let target = |port| SocketAddr::new(arena.instance_address(family), port);
        let [open, shut] = [443, 22].map(|port| arena.instance().enter(|| bind_udp(target(port))));
        let (open, shut) = (open?, shut?);
        let peer = SocketAddr::new(arena.peer_address(family), 0);
        let sender = arena.peer().enter(|| bind_udp(peer))?;
        let datagram: Vec<u8> = (0..5000_u16).map(|number| number.to_be_bytes()[1]).collect();
        let mut buffer = vec![0; 9000];
        // 5000 octets are four packets of 1500.
        arena.counted(&[("inbound", "allowed", 4)], || {
            sender.send_to(&datagram, target(443))?;
            let length = open.recv(&mut buffer).context("a datagram in pieces")?;
            ensure!(buffer[..length] == datagram, "another datagram arrives");
            Ok(())
        })?;
        // A sender on the same machine learns that the first is dropped, and does not go on.
        let pieces = if setup == Setup::Guest { 1 } else { 4 };
        arena.counted(&[("inbound", "no_rule", pieces)], || {
            // Which its socket may tell.
            drop(sender.send_to(&datagram, target(22)));
            ensure!(shut.recv(&mut buffer).is_err(), "a datagram in pieces arrives at a closed port");
            Ok(())
        })?;
        // The answer is cut as well: the flow lets it pass.
        let client = sender.local_addr()?;
        arena.counted(&[("outbound", "allowed", 4)], || {
            open.send_to(&datagram, client)?;
            let length = sender.recv(&mut buffer).context("the answer in pieces")?;
            ensure!(buffer[..length] == datagram, "another answer arrives");
            Ok(())
        })?;
    }
    Ok(())
}

/// Two interfaces keep nothing for each other.
#[test]
fn f2_the_first_fragment_came_by_another_interface() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let mut arena = Arena::without_agent(Setup::HostTc)?;
    let other = arena.another_wire("eth1", &["10.99.0.1/24"], &[])?;
    let policy =
        crate::range::policy(Setup::HostTc, RULES, "") + "  - {match: eth1, groups: [g], hook: tc}\n";
    arena.agent.start_with(&policy)?;
    let range = Range::around(arena)?;
    let wire = sg_tests::packet::PacketSocket::open(&other, "far1")?;
    for family in Family::ALL {
        let path = range.inward(family);
        let both = two(&path, UDP, 77, &path.udp((range.port(), 443), &[0x42; 40]));
        let before = range.arena.counters()?;
        wire.send(&both.first)?;
        sg_tests::lab::eventually("the first fragment is counted", || {
            Ok(range.arena.counters()?.since(&before)?.of("eth1", "inbound", "allowed") == 1)
        })?;
        range.forget()?;
        range.judge("the second one by eth0", Way::In, &both.second, "fragment_without_first")?;
        range.judge("the first one by eth0", Way::In, &both.first, RULE)?;
        range.judge("the second one by eth0 again", Way::In, &both.second, FLOW)?;
    }
    Ok(())
}
