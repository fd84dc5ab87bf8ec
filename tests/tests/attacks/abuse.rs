//! S: floods, and senders that lie about who they are.

use anyhow::{Context as _, Result, ensure};
use sg_tests::{
    each_setup,
    lab::{Setup, arena::Family},
};

use crate::{
    bytes::{BROADCAST, Path, TCP, UDP, ethernet, seal_ipv4, tagged},
    range::{DROPPED, INFRASTRUCTURE, PASSES, RULES, Range, Way},
    session::Session,
};

each_setup! {
    s1_syn_flood
    s2_addresses_of_others
    s2_mac_addresses_of_others
    s2_neighbours_of_others
}

/// The flow table's size here; the flood is three times as many.
const CAPACITY: u32 = 4096;

fn s1_syn_flood(setup: Setup) -> Result<()> {
    let range = Range::with(setup, RULES, "", &format!("[flows]\ncapacity = {CAPACITY}\n"))?;
    let mut sessions = vec![];
    for number in 0..1000 {
        sessions.push(Session::inbound(&range, Family::ALL[number % 2])?);
    }
    range.settle("1000 sessions")?;
    let mut survivors = sessions.len();
    for family in Family::ALL {
        let path = range.inward(family);
        let mut frame = path.syn_frame((1, 443));
        for number in 0..CAPACITY * 3 {
            let [_, a, b, c] = number.to_be_bytes();
            match family {
                Family::V4 => {
                    frame[26..30].copy_from_slice(&[172, 16 | a, b, c]);
                    seal_ipv4(&mut frame[14..34]);
                }
                Family::V6 => frame[34..38].copy_from_slice(&[1, a, b, c]),
            }
            range.inject(Way::In, &frame)?;
        }
        let counted = |what| range.gained(Way::In, what, u64::from(CAPACITY * 3));
        let (passed, full) = (counted(PASSES)?, counted("flow_table_full")?);
        ensure!(passed + full == u64::from(CAPACITY * 3), "{passed} SYNs pass, {full} find no room");
        ensure!(passed > u64::from(CAPACITY), "only {passed} SYNs pass: a flood shuts the port");
        range.forget()?;
        let flows = range.flows()?;
        let established = flows.iter().filter(|flow| flow["state"] == "established").count();
        ensure!(established == survivors, "{established} of {survivors} flows survive");
        // Others come in all the same, and go out.
        for open in [Session::inbound, Session::outbound] {
            sessions.push(open(&range, family)?);
            survivors += 1;
        }
        range.settle("sessions after the flood")?;
        for (number, session) in sessions.iter().enumerate() {
            session.goes_on().with_context(|| format!("session {number} after the flood"))?;
        }
        range.settle("all sessions go on")?;
    }
    Ok(())
}

/// The instance owns these and no others.
fn own(setup: Setup, mac: bool) -> String {
    let number = if setup == Setup::Guest { 2 } else { 1 };
    let mac = if mac { format!(", \"02:00:00:00:00:0{number}\"") } else { String::new() };
    format!(", source_check: true, addresses: [10.88.0.77, \"fd88::77\", \"fe80::77\"{mac}]")
}

/// Judges frames that the instance sends, each amid a session that goes on.
fn judge_out(
    range: &Range,
    session: &Session<'_>,
    what: &str,
    frame: &[u8],
    expected: &'static str,
) -> Result<()> {
    range
        .send(what, Way::Out, frame, expected)
        .and_then(|()| session.goes_on())
        .and_then(|()| range.settle(what))
        .with_context(|| format!("{what}, {:?}", session.family))
}

/// Everything may go out here: only who sends it is looked at.
const ALL_OUT: &str =
    "inbound: [{allow: [tcp/443, udp/443], from: anywhere}], outbound: [{allow: all, to: PEER}]";

fn s2_addresses_of_others(setup: Setup) -> Result<()> {
    let range = Range::open_with(setup, ALL_OUT, &own(setup, false))?;
    for family in Family::ALL {
        let session = Session::inbound(&range, family)?;
        let outward = range.outward(family);
        let send = |what: &str, path: &Path, expected| {
            for (how, packet) in [
                ("a datagram", path.ip(UDP, &path.udp((range.port(), 53), b"who"))),
                ("a SYN", path.ip(TCP, &path.syn((range.port(), 5432)))),
                ("a ping", path.ip(path.icmp_number(), &path.echo(range.port(), 1))),
                ("a fragment", path.fragment(UDP, range.port(), 0, true, &path.udp((1, 53), &[0; 16]))),
                ("another protocol", path.ip(200, &[0; 32])),
            ] {
                judge_out(&range, &session, &format!("{how} {what}"), &path.frame(&packet), expected)?;
                let tagged = tagged(&path.frame(&packet), &[(0x8100, 0)]);
                judge_out(&range, &session, &format!("{how} {what} behind a tag"), &tagged, expected)?;
            }
            Ok::<_, anyhow::Error>(())
        };
        send("of its own", &outward, PASSES)?;
        let mut path = outward;
        (path.from.v4[3], path.from.v6[15]) = (78, 0x78);
        send("of a neighbour", &path, "source_check")?;
        (path.from.v4, path.from.v6[0]) = ([192, 0, 2, 1], 0x20);
        send("of a stranger", &path, "source_check")?;
        (path.from.v4, path.from.v6) = (outward.to.v4, outward.to.v6);
        send("of the peer itself", &path, "source_check")?;
        if family == Family::V6 {
            path.from.v6 = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x77];
            send("of its own link", &path, PASSES)?;
            path.from.v6[15] = 0x78;
            send("of a neighbour's link", &path, "source_check")?;
        }
        // In the flow of the session, from elsewhere.
        let mut path = session.path(false);
        (path.from.v4[3], path.from.v6[15]) = (78, 0x78);
        let segment = path.tcp(session.ports_of(false), session.numbers_of(false), crate::bytes::ACK, b"x");
        let frame = path.frame(&path.ip(TCP, &segment));
        judge_out(&range, &session, "a segment of a session of its own", &frame, "source_check")?;

        // And what comes in for others.
        let inward = range.inward(family);
        for (what, v4, v6, expected) in [
            ("to it", [10, 88, 0, 77], 0x77, PASSES),
            ("to a neighbour", [10, 88, 0, 78], 0x78, "source_check"),
            ("to a stranger", [192, 0, 2, 1], 0x79, "source_check"),
        ] {
            let mut path = inward;
            path.to.v4 = v4;
            path.to.v6[15] = v6;
            range.send(what, Way::In, &path.udp_frame((range.port(), 443), b"data"), expected)?;
            range.send(what, Way::In, &path.syn_frame((range.port(), 443)), expected)?;
            session.goes_on()?;
            range.settle(what)?;
        }
        // Many are nobody's own.
        let mut path = inward;
        path.to.v4 = [224, 0, 0, 251];
        path.to.v6 = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xfb];
        range.judge("to a group", Way::In, &path.udp_frame((range.port(), 443), b"data"), PASSES)?;
        path.to.v4 = [255; 4];
        range.judge("to everyone", Way::In, &path.udp_frame((range.port(), 443), b"data"), PASSES)?;
    }
    Ok(())
}

fn s2_mac_addresses_of_others(setup: Setup) -> Result<()> {
    for listed in [true, false] {
        let range = Range::open_with(setup, ALL_OUT, &own(setup, listed))?;
        let expected = if listed { "source_check" } else { PASSES };
        for family in Family::ALL {
            let session = Session::inbound(&range, family)?;
            let outward = range.outward(family);
            for mac in [outward.to.mac, [2, 0, 0, 0, 0, 9], [0; 6], [0x52, 0x54, 0, 0, 0, 7]] {
                let mut path = outward;
                path.from.mac = mac;
                let what = format!("from {mac:02x?}, listed: {listed}");
                for frame in
                    [path.udp_frame((range.port(), 53), b"who"), path.syn_frame((range.port(), 5432))]
                {
                    judge_out(&range, &session, &what, &frame, expected)?;
                    judge_out(&range, &session, &what, &tagged(&frame, &[(0x8100, 0)]), expected)?;
                }
                // In the flow of the session.
                let mut path = session.path(false);
                path.from.mac = mac;
                let frame = path.frame(&session.packet(false, crate::bytes::ACK, b""));
                judge_out(&range, &session, &what, &frame, expected)?;
            }
            let honest = outward.udp_frame((range.port(), 53), b"who");
            judge_out(&range, &session, "from its own", &honest, PASSES)?;
            // Nobody looks at the MAC address of what comes in.
            let mut inward = range.inward(family);
            inward.from.mac = [2, 9, 9, 9, 9, 9];
            range.judge("from any router", Way::In, &inward.syn_frame((range.port(), 443)), PASSES)?;
        }
    }
    Ok(())
}

/// RFC 826: operation, who speaks, to whom.
fn arp(operation: u8, mac: [u8; 6], from: [u8; 4], to: [u8; 4]) -> Vec<u8> {
    [&[0, 1, 8, 0, 6, 4, 0, operation][..], &mac, &from, &[0; 6], &to].concat()
}

fn s2_neighbours_of_others(setup: Setup) -> Result<()> {
    let range = Range::open_with(setup, ALL_OUT, &own(setup, true))?;
    let session = Session::inbound(&range, Family::V4)?;
    let path = range.outward(Family::V4);
    let (mine, other) = (path.from.mac, [2, 0, 0, 0, 0, 9]);
    let (own, gateway, neighbour) = (path.from.v4, path.to.v4, [10, 88, 0, 78]);
    for operation in [1, 2] {
        for (what, source, mac, from, to, expected) in [
            ("for itself", mine, mine, own, gateway, INFRASTRUCTURE),
            ("for itself, unasked", mine, mine, own, own, INFRASTRUCTURE),
            ("for the gateway", mine, mine, gateway, neighbour, "source_check"),
            ("for a neighbour", mine, mine, neighbour, gateway, "source_check"),
            ("for itself with another MAC address", mine, other, own, gateway, "source_check"),
            ("for itself from another MAC address", other, mine, own, gateway, "source_check"),
            ("for the gateway, unasked", mine, mine, gateway, gateway, "source_check"),
        ] {
            for target in [BROADCAST, path.to.mac] {
                let frame = ethernet(target, source, 0x0806, &arp(operation, mac, from, to));
                let what = format!("ARP {operation} {what}");
                judge_out(&range, &session, &what, &frame, expected)?;
                judge_out(&range, &session, &what, &tagged(&frame, &[(0x8100, 0)]), expected)?;
            }
        }
    }
    // RFC 5227: whoever looks whether an address is free has none yet.
    let probe = ethernet(BROADCAST, mine, 0x0806, &arp(1, mine, [0; 4], own));
    judge_out(&range, &session, "an ARP probe", &probe, INFRASTRUCTURE)?;
    let whole = arp(2, mine, own, gateway);
    for length in [0, 7, 13, 17, 27] {
        let frame = ethernet(BROADCAST, mine, 0x0806, &whole[..length]);
        judge_out(&range, &session, &format!("{length} octets of ARP"), &frame, DROPPED)?;
    }
    let from_there = ethernet(path.from.mac, other, 0x0806, &arp(2, other, gateway, own));
    range.judge("what others say comes in", Way::In, &from_there, INFRASTRUCTURE)?;

    let session = Session::inbound(&range, Family::V6)?;
    let path = range.outward(Family::V6);
    let option = |kind: u8, mac: [u8; 6]| [&[kind, 1][..], &mac].concat();
    let nonce = [14, 1, 1, 2, 3, 4, 5, 6].to_vec();
    let (own, gateway) = (path.from.v6, path.to.v6);
    for (what, kind, target, options, expected) in [
        ("for itself", 136, own, option(2, mine), INFRASTRUCTURE),
        ("for itself, without an option", 136, own, vec![], INFRASTRUCTURE),
        ("for the gateway", 136, gateway, option(2, mine), "source_check"),
        ("for itself, two options", 136, own, [nonce, option(2, mine)].concat(), INFRASTRUCTURE),
        ("a question", 135, gateway, option(1, mine), INFRASTRUCTURE),
    ] {
        let rest = if kind == 136 { [0x60, 0, 0, 0] } else { [0; 4] };
        let mut packet = path.ip(58, &path.icmp(kind, 0, rest, &[target.to_vec(), options].concat()));
        packet[7] = 255;
        judge_out(&range, &session, &format!("NDP {kind} {what}"), &path.frame(&packet), expected)?;
    }
    let mut path = path;
    path.from.v6[15] = 0x78;
    for (what, kind, target) in [("an advertisement", 136, path.from.v6), ("a question", 135, gateway)] {
        let mut packet = path.ip(58, &path.icmp(kind, 0, [0; 4], &target));
        packet[7] = 255;
        judge_out(&range, &session, &format!("{what} of a neighbour"), &path.frame(&packet), "source_check")?;
    }
    Ok(())
}
