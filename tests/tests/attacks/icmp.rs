//! C: ICMP that nobody asked for.

use anyhow::{Context as _, Result};
use sg_tests::{
    each_setup,
    lab::{Setup, arena::Family},
};

use crate::{
    bytes::{ACK, Path, TCP, UDP, ethernet, fragment, ipv4_with},
    range::{DROPPED, FLOW, INFRASTRUCTURE, PASSES, RULE, RULES, Range, Way},
    session::Session,
};

each_setup! {
    c1_errors_about_a_live_flow
    c1_errors_about_no_flow
    c1_errors_that_quote_lies
    c1_errors_by_rule
    c2_redirects
    c3_echo_requests
    c4_neighbours_from_afar
    c4_routers_and_servers_behind_a_guest
}

const STRANGER: &str = "icmp_error_without_flow";

/// Errors of a family: type, code and the second word.
fn errors(family: Family) -> &'static [(u8, u8, [u8; 4])] {
    const NONE: [u8; 4] = [0; 4];
    match family {
        Family::V4 => &[
            (3, 0, NONE),
            (3, 1, NONE),
            (3, 3, NONE),
            (3, 4, [0, 0, 0x05, 0x14]),
            (3, 13, NONE),
            (11, 0, NONE),
            (11, 1, NONE),
            (12, 0, [20, 0, 0, 0]),
        ],
        Family::V6 => &[
            (1, 0, NONE),
            (1, 1, NONE),
            (1, 3, NONE),
            (1, 4, NONE),
            (2, 0, [0, 0, 0x05, 0x14]),
            (3, 0, NONE),
            (3, 1, NONE),
            (4, 0, [0, 0, 0, 6]),
            (4, 1, [0, 0, 0, 6]),
        ],
    }
}

/// A path from a router on the way to whoever the path leads to.
fn from_router(path: Path) -> Path {
    let mut path = path;
    (path.from.v4[3], path.from.v6[15]) = (254, 0xfe);
    path
}

/// An error that quotes `quoted`, in a packet in a frame.
fn error(path: &Path, (kind, code, rest): (u8, u8, [u8; 4]), quoted: &[u8]) -> Vec<u8> {
    path.frame(&path.ip(path.icmp_number(), &path.icmp(kind, code, rest, quoted)))
}

/// Every error that routers and the other side send about packets of a live flow, to either side.
fn c1_errors_about_a_live_flow(setup: Setup) -> Result<()> {
    let range = Range::open(setup)?;
    for family in Family::ALL {
        for open in [Session::inbound, Session::outbound] {
            let session = open(&range, family)?;
            session.goes_on()?;
            for quotes_opener in [true, false] {
                // The error goes the way back, to the side that sent what it quotes.
                let way = session.way_of(!quotes_opener);
                let quoted = session.packet(quotes_opener, ACK, b"what was sent");
                let header = if family == Family::V4 { 20 } else { 40 };
                for about in errors(family) {
                    for (what, length) in
                        [("all of it", quoted.len()), ("the header and 8 octets", header + 8)]
                    {
                        for path in [from_router(session.path(!quotes_opener)), session.path(!quotes_opener)]
                        {
                            // A side under source check speaks for itself alone.
                            if way == Way::Out && path.from.v4[3] == 254 {
                                continue;
                            }
                            let frame = error(&path, *about, &quoted[..length]);
                            range
                                .send(what, way, &frame, FLOW)
                                .with_context(|| format!("{about:?} {way:?}, {family:?}"))?;
                        }
                    }
                }
                session.goes_on()?;
                range.settle("errors about a live flow")?;
            }
            session.is_established()?;
        }
        // About datagrams and pings too.
        let (outward, inward) = (range.outward(family), range.inward(family));
        let question = outward.ip(UDP, &outward.udp((range.port(), 53), b"question"));
        range.send("a question", Way::Out, &outward.frame(&question), RULE)?;
        let echo = outward.ip(outward.icmp_number(), &outward.echo(99, 1));
        range.send("a ping", Way::Out, &outward.frame(&echo), RULE)?;
        for about in errors(family) {
            for quoted in [&question, &echo] {
                let frame = error(&from_router(inward), *about, quoted);
                range.send("about a datagram or ping", Way::In, &frame, FLOW)?;
            }
        }
        range.settle("errors about datagrams and pings")?;
    }
    Ok(())
}

/// The rows in which one thing is wrong, and beside them the packet in which nothing is.
fn c1_errors_about_no_flow(setup: Setup) -> Result<()> {
    let range = Range::open(setup)?;
    for family in Family::ALL {
        let session = Session::outbound(&range, family)?;
        let (outward, inward) = (range.outward(family), range.inward(family));
        let (ports, numbers) = (session.ports, session.numbers_of(true));
        let sent = |path: Path, ports| path.ip(TCP, &path.tcp(ports, numbers, ACK, b"sent"));
        let mut elsewhere = outward;
        (elsewhere.to.v4[3], elsewhere.to.v6[15]) = (65, 0x65);
        let mut other = inward;
        (other.to.v4[3], other.to.v6[15]) = (78, 0x78);
        let quoted = sent(outward, ports);
        let rows = [
            ("another port", inward, sent(outward, (ports.0 + 1, ports.1))),
            ("another port of the peer", inward, sent(outward, (ports.0, ports.1 + 1))),
            ("another peer", inward, sent(elsewhere, ports)),
            ("the ports the wrong way about", inward, sent(outward, (ports.1, ports.0))),
            ("another protocol", inward, outward.ip(UDP, &outward.udp(ports, b"sent"))),
            ("SCTP", inward, outward.ip(132, &outward.tcp(ports, numbers, ACK, b"sent"))),
            ("what the peer sent", inward, sent(inward, (ports.1, ports.0))),
            ("a packet of another host", other, quoted.clone()),
            ("a ping that was not sent", inward, outward.ip(outward.icmp_number(), &outward.echo(1234, 1))),
        ];
        for about in errors(family) {
            for (what, path, quoted) in &rows {
                let frame = error(&from_router(*path), *about, quoted);
                range
                    .send(what, Way::In, &frame, STRANGER)
                    .with_context(|| format!("{about:?}, {family:?}"))?;
            }
            range.send("the true one", Way::In, &error(&from_router(inward), *about, &quoted), FLOW)?;
            session.goes_on()?;
            range.settle(&format!("errors {about:?} about no flow, {family:?}"))?;
        }
        // From the instance about what it never got.
        for about in errors(family) {
            let frame = error(&outward, *about, &sent(inward, (ports.1, ports.0 + 1)));
            range.judge("the instance, about nothing", Way::Out, &frame, STRANGER)?;
        }
        session.is_established()?;
    }
    Ok(())
}

fn c1_errors_that_quote_lies(setup: Setup) -> Result<()> {
    let range = Range::open(setup)?;
    for family in Family::ALL {
        let session = Session::outbound(&range, family)?;
        let (outward, inward) = (range.outward(family), range.inward(family));
        let router = from_router(inward);
        let is_v4 = family == Family::V4;
        let header = if is_v4 { 20 } else { 40 };
        let quoted = session.packet(true, ACK, b"sent");
        let change = |at: usize, octet: u8| {
            let mut packet = quoted.clone();
            packet[at] = octet;
            packet
        };
        let segment = session.segment(true, ACK, b"sent of the flow");
        let mut rows = vec![];
        for length in [0, 1, 4, header - 1, header, header + 1, header + 3] {
            rows.push((format!("{length} octets"), quoted[..length].to_vec(), DROPPED));
        }
        rows.push(("version 5".into(), change(0, 0x55), DROPPED));
        rows.push(("the other version".into(), change(0, if is_v4 { 0x65 } else { 0x45 }), DROPPED));
        for offset in [1, 3, 100] {
            let later = outward.fragment(TCP, 5, offset, false, &segment);
            rows.push((format!("a later fragment, offset {offset}"), later, DROPPED));
        }
        let first = outward.fragment(TCP, 5, 0, true, &segment[..32]);
        rows.push(("a first fragment".into(), first, PASSES));
        for about in errors(family) {
            let message = outward.icmp(about.0, about.1, about.2, &session.packet(false, ACK, b"x"));
            let inside = outward.ip(outward.icmp_number(), &message);
            rows.push((format!("another error, {about:?}"), inside, DROPPED));
        }
        if is_v4 {
            for words in [0, 4, 15] {
                rows.push((format!("a header of {words} words"), change(0, 0x40 | words), DROPPED));
            }
            // The ports of the flow lie where a header without options ends.
            let mut options = segment[..8].to_vec();
            options[..2].copy_from_slice(&[0x01, 0x01]);
            let hidden = ipv4_with(&segment[..8], &outward.ip(TCP, &outward.syn((1, 2))));
            rows.push(("the flow's ports in the options".into(), hidden, DROPPED));
            let behind = ipv4_with(&options, &quoted);
            rows.push(("the flow's ports behind options".into(), behind, PASSES));
        } else {
            let decoy = outward.syn((1, 2));
            let hidden = [&[TCP, 0][..], &segment[..6], &decoy].concat();
            rows.push(("the flow's ports in an option".into(), outward.ip(60, &hidden), DROPPED));
            let two = [&fragment(44, 1, 0, false)[..], &fragment(TCP, 1, 3, false), &segment].concat();
            rows.push(("a later fragment behind a fragment".into(), outward.ip(44, &two), DROPPED));
        }
        let about = errors(family)[0];
        for (what, packet, expected) in rows {
            range
                .send(&what, Way::In, &error(&router, about, &packet), expected)
                .and_then(|()| session.goes_on())
                .and_then(|()| range.settle(&what))
                .with_context(|| format!("an error that quotes {what}, {family:?}"))?;
        }
        // An error in pieces cannot be read, whoever it is about.
        let message = router.icmp(about.0, about.1, about.2, &[&quoted[..], &[0; 64]].concat());
        let first = router.fragment(router.icmp_number(), 9, 0, true, &message[..8]);
        range.judge("the first 8 octets of an error", Way::In, &router.frame(&first), DROPPED)?;
        session.is_established()?;
    }
    Ok(())
}

/// A rule for the type opens it to all, and only it.
fn c1_errors_by_rule(setup: Setup) -> Result<()> {
    let rules = RULES.replace("udp/443]", "udp/443, icmp/3/4, icmpv6/2]");
    let range = Range::open_with(setup, &rules, "")?;
    for family in Family::ALL {
        let (outward, inward) = (range.outward(family), range.inward(family));
        let quoted = outward.ip(UDP, &outward.udp((1, 2), b"never sent"));
        for about in errors(family) {
            let is_open = matches!(about, (3, 4, _) | (2, _, _)) && (about.0 == 2 || family == Family::V4);
            let expected = if is_open { RULE } else { STRANGER };
            range
                .judge("by rule", Way::In, &error(&inward, *about, &quoted), expected)
                .with_context(|| format!("{about:?}, {family:?}"))?;
        }
    }
    Ok(())
}

fn c2_redirects(setup: Setup) -> Result<()> {
    let range = Range::open(setup)?;
    for family in Family::ALL {
        let session = Session::outbound(&range, family)?;
        let quoted = session.packet(true, ACK, b"sent");
        let inward = range.inward(family);
        for path in [from_router(inward), inward] {
            match family {
                Family::V4 => {
                    for code in 0..4 {
                        let frame = error(&path, (5, code, [10, 88, 0, 65]), &quoted);
                        range.send(&format!("redirect {code}"), Way::In, &frame, DROPPED)?;
                        session.goes_on()?;
                        range.settle("a redirect")?;
                    }
                }
                Family::V6 => {
                    // Target, destination, then the packet as an option: RFC 4861, section 4.5.
                    let mut body = vec![];
                    body.extend(path.from.v6);
                    body.extend(inward.from.v6);
                    let mut option = vec![4, 0, 0, 0, 0, 0, 0, 0];
                    option.extend(&quoted);
                    option.resize(option.len().next_multiple_of(8), 0);
                    option[1] = (option.len() / 8) as u8;
                    body.extend(option);
                    for hops in [255, 64] {
                        let mut packet = path.ip(58, &path.icmp(137, 0, [0; 4], &body));
                        packet[7] = hops;
                        range.send("a redirect", Way::In, &path.frame(&packet), DROPPED)?;
                        session.goes_on()?;
                        range.settle("a redirect")?;
                    }
                }
            }
        }
        session.is_established()?;
    }
    // With a rule they pass.
    range.apply(&RULES.replace("udp/443]", "udp/443, icmp/5, icmpv6/137]"), "")?;
    for (family, kind) in [(Family::V4, 5), (Family::V6, 137)] {
        let (outward, inward) = (range.outward(family), range.inward(family));
        let quoted = outward.ip(UDP, &outward.udp((1, 2), b"never sent"));
        let mut packet = inward.ip(inward.icmp_number(), &inward.icmp(kind, 0, [0; 4], &quoted));
        if family == Family::V6 {
            packet[7] = 255;
        }
        range.judge("a redirect by rule", Way::In, &inward.frame(&packet), RULE)?;
    }
    Ok(())
}

fn c3_echo_requests(setup: Setup) -> Result<()> {
    let range = Range::open(setup)?;
    for family in Family::ALL {
        let session = Session::inbound(&range, family)?;
        let (outward, inward) = (range.outward(family), range.inward(family));
        let icmp = |path: &Path, message: &[u8]| path.frame(&path.ip(path.icmp_number(), message));
        let id = 4711;
        range.judge("our ping", Way::Out, &icmp(&outward, &outward.echo(id, 1)), RULE)?;
        for number in [1, 2] {
            let what = "a request with the id of our ping";
            range.send(what, Way::In, &icmp(&inward, &inward.echo(id, number)), "no_rule")?;
            session.goes_on()?;
            range.settle(what)?;
        }
        let types: &[u8] = if family == Family::V4 { &[13, 15, 17, 14, 16, 18] } else { &[139, 140] };
        for kind in types {
            let message = inward.icmp(*kind, 0, [0x12, 0x67, 0, 1], &[0; 12]);
            range.judge(&format!("type {kind} with its id"), Way::In, &icmp(&inward, &message), "no_rule")?;
        }
        range.judge(
            "a reply with another id",
            Way::In,
            &icmp(&inward, &inward.echo_reply(1, 1)),
            "no_rule",
        )?;
        range.judge("its own reply", Way::In, &icmp(&inward, &inward.echo_reply(id, 1)), FLOW)?;
        range.judge("a request all the same", Way::In, &icmp(&inward, &inward.echo(id, 3)), "no_rule")?;
        range.judge("our next ping", Way::Out, &icmp(&outward, &outward.echo(id, 2)), FLOW)?;
    }
    Ok(())
}

/// Neighbour discovery of a kind: type, second word, body (RFC 4861, sections 4.1 to 4.4).
fn neighbour(path: &Path, kind: u8) -> Vec<u8> {
    match kind {
        133 => path.icmp(133, 0, [0; 4], &[]),
        134 => path.icmp(134, 0, [64, 0, 7, 8], &[0; 8]),
        135 => path.icmp(135, 0, [0; 4], &path.to.v6),
        _ => path.icmp(136, 0, [0x60, 0, 0, 0], &path.from.v6),
    }
}

fn c4_neighbours_from_afar(setup: Setup) -> Result<()> {
    let range = Range::open(setup)?;
    let path = range.inward(Family::V6);
    let session = Session::inbound(&range, Family::V6)?;
    let judge = |what: String, packet: &[u8], expected| {
        range.send(&what, Way::In, &path.frame(packet), expected)?;
        session.goes_on()?;
        range.settle(&what)
    };
    for kind in 133..=136 {
        let message = neighbour(&path, kind);
        let wrapped = |next: u8, chain: &[u8]| {
            let mut packet = path.ip(next, &[chain, &message].concat());
            packet[7] = 255;
            packet
        };
        judge(format!("type {kind} from next door"), &wrapped(58, &[]), INFRASTRUCTURE)?;
        for hops in [254, 64, 1, 0] {
            let mut packet = wrapped(58, &[]);
            packet[7] = hops;
            judge(format!("type {kind} with hop limit {hops}"), &packet, "malformed")?;
        }
        let option = [58, 0, 1, 4, 0, 0, 0, 0];
        let behind: [(&str, u8, Vec<u8>); 5] = [
            ("an atomic fragment", 44, fragment(58, 7, 0, false)),
            ("destination options", 60, option.to_vec()),
            ("hop-by-hop options", 0, option.to_vec()),
            ("AH", 51, vec![58, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1]),
            (
                "options and a fragment",
                60,
                [&[44, 0, 1, 4, 0, 0, 0, 0][..], &fragment(58, 7, 0, false)].concat(),
            ),
        ];
        for (what, next, chain) in behind {
            judge(format!("type {kind} behind {what}"), &wrapped(next, &chain), "malformed")?;
        }
        let first = wrapped(44, &fragment(58, 8, 0, true));
        judge(format!("a first fragment of type {kind}"), &first, "malformed")?;
        let mut coded = message.clone();
        coded[1] = 1;
        let mut packet = path.ip(58, &coded);
        packet[7] = 255;
        judge(format!("type {kind} with code 1"), &packet, "malformed")?;
    }
    Ok(())
}

fn c4_routers_and_servers_behind_a_guest(setup: Setup) -> Result<()> {
    let range = Range::open(setup)?;
    let is_guest = setup == Setup::Guest;
    let session = Session::inbound(&range, Family::V6)?;
    let judge = |what: &str, frame: &[u8], expected| {
        range.send(what, Way::Out, frame, expected)?;
        session.goes_on()?;
        range.settle(what)
    };
    let to_all = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    let own = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x77];
    let mut path = range.outward(Family::V6);
    (path.to.v6, path.to.mac, path.from.v6) = (to_all, [0x33, 0x33, 0, 0, 0, 1], own);
    let hops = |packet: Vec<u8>| {
        let mut packet = packet;
        packet[7] = 255;
        path.frame(&packet)
    };
    let advertisement = neighbour(&path, 134);
    let router = if is_guest { "router_advertisement_from_guest" } else { INFRASTRUCTURE };
    judge("an advertisement", &hops(path.ip(58, &advertisement)), router)?;
    let solicitation = neighbour(&path, 133);
    judge("a solicitation", &hops(path.ip(58, &solicitation)), INFRASTRUCTURE)?;
    // However it is wrapped, it does not get out.
    for (what, next, chain) in [
        ("an atomic fragment", 44, fragment(58, 7, 0, false)),
        ("options", 60, vec![58, 0, 1, 4, 0, 0, 0, 0]),
        ("hop-by-hop options", 0, vec![58, 0, 1, 4, 0, 0, 0, 0]),
        ("a first fragment", 44, fragment(58, 8, 0, true)),
    ] {
        let wrapped = path.ip(next, &[chain, advertisement.clone()].concat());
        judge(&format!("an advertisement behind {what}"), &hops(wrapped), DROPPED)?;
    }
    let redirect = path.icmp(137, 0, [0; 4], &[own, to_all].concat());
    let expected = if is_guest { "router_advertisement_from_guest" } else { DROPPED };
    judge("a redirect", &hops(path.ip(58, &redirect)), expected)?;

    let server = if is_guest { "dhcp_server_from_guest" } else { "no_rule" };
    for family in Family::ALL {
        let mut path = range.outward(family);
        let (client, answer, request) = match family {
            Family::V4 => ([10, 88, 0, 66], (67, 68), (68, 67)),
            Family::V6 => ([10, 88, 0, 66], (547, 546), (546, 547)),
        };
        for broadcast in [false, true] {
            path.to.v4 = if broadcast { [255; 4] } else { client };
            judge("a server's answer", &path.udp_frame(answer, &[2; 240]), server)?;
        }
        judge("a client's request", &path.udp_frame(request, &[1; 240]), INFRASTRUCTURE)?;
        // It answers nobody else's requests either: they do not reach it.
        let back = range.inward(family);
        range.judge("a request to the instance", Way::In, &back.udp_frame(request, &[1; 240]), "no_rule")?;
        range.judge("an answer to it", Way::In, &back.udp_frame(answer, &[2; 240]), INFRASTRUCTURE)?;
        let tagged = ethernet(
            path.to.mac,
            path.from.mac,
            0x8100,
            &[&[0, 0][..], &path.ethertype().to_be_bytes(), &path.ip(UDP, &path.udp(answer, &[2; 240]))]
                .concat(),
        );
        judge("a server's answer behind a tag", &tagged, server)?;
        // In pieces.
        let octets = path.udp(answer, &[2; 240]);
        let id = range.port();
        let first = path.fragment(UDP, id, 0, true, &octets[..64]);
        judge("the first piece of a server's answer", &path.frame(&first), server)?;
        let second = path.fragment(UDP, id, 8, false, &octets[64..]);
        judge("its second piece", &path.frame(&second), DROPPED)?;
        if family == Family::V6 {
            let options = [&[UDP, 0, 1, 4, 0, 0, 0, 0][..], &octets].concat();
            judge("a server's answer behind options", &path.frame(&path.ip(60, &options)), server)?;
        }
    }
    Ok(())
}
