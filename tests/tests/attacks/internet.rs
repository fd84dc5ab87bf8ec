//! I: IPv4 and IPv6 headers that lie. X: chains of IPv6 headers that hide their packet.

use anyhow::Result;
use sg_tests::{
    each_setup,
    lab::{Setup, arena::Family},
};

use crate::{
    bytes::{IPV4, IPV6, TCP, UDP, be16, ethernet, fragment, ipv4_with, ipv6, seal_ipv4},
    range::{DROPPED, PASSES, RULE, Range},
    rows::judge,
};

each_setup! {
    i1_ports_in_the_options
    i2_versions_and_lengths
    i2_source_routes
    i3_ports_in_the_padding
    x1_destination_options
    x2_routing_and_hop_by_hop
    x3_authentication_header
}

fn i1_ports_in_the_options(setup: Setup) -> Result<()> {
    let range = Range::open(setup)?;
    judge(&range, &[Family::V4], |at| {
        // Three of padding, then an option of four octets: to a reader of fixed headers, ports 257 and 443.
        let options = [0x01, 0x01, 0x01, 0xbb, 0x04, 0x00, 0x00, 0x00];
        at.packet("443 in the options, 22 in truth", &ipv4_with(&options, &at.syn(22)), "no_rule");
        at.packet("the same over UDP", &ipv4_with(&options, &at.udp(22)), "no_rule");
        at.packet("the same options, 443 in truth", &ipv4_with(&options, &at.syn(443)), RULE);
        at.packet("the same over UDP", &ipv4_with(&options, &at.udp(443)), RULE);
        // And the other way about: 22 in the options of an open packet.
        let shut = [0x01, 0x01, 0x00, 0x16, 0x00, 0x16, 0x00, 0x16];
        at.packet("22 in the options, 443 in truth", &ipv4_with(&shut, &at.syn(443)), RULE);
        for length in [4, 20, 40] {
            let padding = vec![0x01; length];
            at.packet(format!("{length} of padding, 22"), &ipv4_with(&padding, &at.syn(22)), "no_rule");
            at.packet(format!("{length} of padding, 443"), &ipv4_with(&padding, &at.syn(443)), RULE);
        }
    })
}

fn i2_versions_and_lengths(setup: Setup) -> Result<()> {
    let range = Range::open(setup)?;
    judge(&range, &Family::ALL, |at| {
        let is_v4 = at.family == Family::V4;
        for version in (0..16).filter(|version| *version != if is_v4 { 4 } else { 6 }) {
            let mut packet = at.syn(443);
            packet[0] = version << 4 | packet[0] & 0xf;
            if is_v4 {
                seal_ipv4(&mut packet);
            }
            at.packet(format!("version {version}"), &packet, "malformed");
        }
        let other = if is_v4 { IPV6 } else { IPV4 };
        let frame = ethernet(at.inward.to.mac, at.inward.from.mac, other, &at.syn(443));
        at.frame("a whole packet under the other EtherType", frame, "malformed");
        at.packet("the same packet under its own", &at.syn(443), RULE);
        if !is_v4 {
            return;
        }
        for words in (0..5).chain(11..16) {
            let mut packet = at.syn(443);
            packet[0] = 0x40 | words;
            seal_ipv4(&mut packet);
            at.packet(format!("a header of {words} words"), &packet, "malformed");
        }
        // The header ends within the packet, but leaves no room for TCP.
        for words in 6..11 {
            let mut packet = at.syn(443);
            packet[0] = 0x40 | words;
            seal_ipv4(&mut packet);
            at.packet(format!("a header that takes {words} words of TCP"), &packet, "malformed");
        }
        for (what, options) in [
            ("an option of no length", [0x07, 0x00, 0x04, 0x00]),
            ("an option of length 1", [0x44, 0x01, 0x05, 0x00]),
            ("an option past the header", [0x07, 0x05, 0x04, 0x00]),
            ("an option that ends before its length", [0x01, 0x01, 0x01, 0x07]),
        ] {
            at.packet(what, &ipv4_with(&options, &at.syn(443)), "malformed");
        }
    })
}

fn i2_source_routes(setup: Setup) -> Result<()> {
    let range = Range::open(setup)?;
    judge(&range, &[Family::V4], |at| {
        for (name, kind) in [("loose", 0x83), ("strict", 0x89)] {
            for (what, options) in [
                ("source route", vec![kind, 7, 4, 10, 88, 0, 77, 0]),
                ("source route behind padding", vec![1, kind, 7, 4, 10, 88, 0, 77]),
                ("empty source route", vec![kind, 3, 4, 0]),
                ("exhausted source route", vec![kind, 7, 8, 10, 88, 0, 77, 0]),
                ("source route behind a record of the route", vec![7, 3, 4, kind, 7, 4, 10, 88, 0, 77, 0, 0]),
            ] {
                at.packet(format!("{name} {what}"), &ipv4_with(&options, &at.syn(443)), "malformed");
            }
        }
        // What lies behind the end of the list is no option; a record of the route is no source route.
        at.packet("one behind the end", &ipv4_with(&[0, 0x83, 7, 4, 10, 88, 0, 77], &at.syn(443)), RULE);
        at.packet("the same to 22", &ipv4_with(&[0, 0x83, 7, 4, 10, 88, 0, 77], &at.syn(22)), "no_rule");
        at.packet("a record of the route", &ipv4_with(&[7, 7, 4, 0x83, 0, 0, 0, 0], &at.syn(443)), RULE);
    })
}

fn i3_ports_in_the_padding(setup: Setup) -> Result<()> {
    let range = Range::open(setup)?;
    judge(&range, &Family::ALL, |at| {
        let is_v4 = at.family == Family::V4;
        // The packet ends after `kept` octets of its transport header; the frame goes on.
        let cut = |packet: &[u8], kept: usize| {
            let mut packet = packet.to_vec();
            if is_v4 {
                packet[2..4].copy_from_slice(&be16(20 + kept));
                seal_ipv4(&mut packet);
            } else {
                packet[4..6].copy_from_slice(&be16(kept));
            }
            packet
        };
        for kept in [0, 4, 8, 16] {
            at.packet(format!("{kept} octets of TCP, the rest padding"), &cut(&at.syn(443), kept), DROPPED);
        }
        for kept in [0, 4] {
            at.packet(format!("{kept} octets of UDP, the rest padding"), &cut(&at.udp(443), kept), DROPPED);
        }
        for port in [443, 22] {
            // The true header is closed; an open one, or none, lies in the padding.
            let hidden = at.inward.syn((at.port(), 443));
            let packet = [at.syn(port), hidden].concat();
            let expected = if port == 443 { RULE } else { "no_rule" };
            at.packet(format!("to {port}, an open SYN in the padding"), &packet, expected);
            let padded = [at.syn(port), vec![0xff; 160]].concat();
            at.packet(format!("to {port}, honest padding"), &padded, expected);
        }
        // No header at all, of a protocol without one: nothing of it is a port.
        for protocol in [59, 253, 255] {
            let mut packet = at.syn(443);
            packet[if is_v4 { 9 } else { 6 }] = protocol;
            at.packet(format!("protocol {protocol} over the ports"), &cut(&packet, 0), "no_rule");
        }
    })
}

/// An extension header of one unit: what follows, and six octets of padding as one option.
fn padding(next: u8) -> [u8; 8] {
    [next, 0, 1, 4, 0, 0, 0, 0]
}

/// A chain: every header but the last says that one of its own kind follows.
fn chain(kind: u8, count: usize, last: u8, rest: &[u8]) -> Vec<u8> {
    let mut bytes = vec![];
    for left in (0..count).rev() {
        bytes.extend(padding(if left == 0 { last } else { kind }));
    }
    bytes.extend(rest);
    bytes
}

fn x1_destination_options(setup: Setup) -> Result<()> {
    let range = Range::open(setup)?;
    judge(&range, &[Family::V6], |at| {
        let inward = at.inward;
        for count in [1, 7, 8, 9, 64] {
            for port in [22, 443] {
                let expected = match (count, port) {
                    (9.., _) => "extension_chain_too_long",
                    (_, 443) => RULE,
                    _ => "no_rule",
                };
                let tcp = inward.syn((at.port(), port));
                let packet = inward.ip(60, &chain(60, count, TCP, &tcp));
                at.packet(format!("{count} destination options, TCP to {port}"), &packet, expected);
                let udp = inward.udp((at.port(), port), b"data");
                let packet = inward.ip(60, &chain(60, count, UDP, &udp));
                let expected = if expected == RULE { PASSES } else { expected };
                at.packet(format!("{count} destination options, UDP to {port}"), &packet, expected);
            }
        }
        // Ports where a reader of fixed headers looks: inside the option.
        let tcp = inward.syn((at.port(), 22));
        let hidden = [&[TCP, 0, 0x01, 0xbb, 1, 2, 0, 0][..], &tcp].concat();
        at.packet("443 inside the option, 22 in truth", &inward.ip(60, &hidden), "no_rule");
        // One header of its greatest length, whose octets are all TCP headers to 443.
        let tcp = inward.syn((at.port(), 443));
        let mut long = vec![0; 256];
        for (octet, open) in long.iter_mut().zip(tcp.iter().cycle()) {
            *octet = *open;
        }
        long[..4].copy_from_slice(&[TCP, 31, 0x1e, 252]);
        let shut = inward.syn((at.port(), 22));
        let packet = inward.ip(60, &[&long[..], &shut].concat());
        at.packet("a long option full of open ports, 22 in truth", &packet, "no_rule");
        let packet = inward.ip(60, &[&long[..], &tcp].concat());
        at.packet("the same, 443 in truth", &packet, RULE);
        // One of each kind; and with one more than are followed.
        let kinds: [(u8, Vec<u8>); 6] = [
            (0, padding(60).to_vec()),
            (60, padding(43).to_vec()),
            (43, [&[44, 2, 2, 0, 0, 0, 0, 0][..], &inward.to.v6].concat()),
            (44, fragment(51, 7, 0, false)),
            (51, vec![135, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1]),
            (135, vec![TCP, 0, 0, 0, 0, 0, 0, 0]),
        ];
        let each: Vec<u8> = kinds.iter().flat_map(|(_, header)| header.clone()).collect();
        for (port, by_rule) in [(443, RULE), (22, "no_rule")] {
            let syn = inward.syn((at.port(), port));
            at.packet(format!("one of each, {port}"), &inward.ip(0, &[&each[..], &syn].concat()), by_rule);
            let mut more = each.clone();
            let last = more.len() - 8;
            more[last] = 60;
            for (count, expected) in [(2, by_rule), (3, "extension_chain_too_long")] {
                let packet = [&more[..], &chain(60, count, TCP, &syn)].concat();
                at.packet(format!("one of each and {count} more, {port}"), &inward.ip(0, &packet), expected);
            }
        }
        // A chain that ends with the packet, or beyond it.
        for count in [1, 3, 8] {
            let packet = inward.ip(60, &chain(60, count, TCP, &[]));
            at.packet(format!("{count} destination options and nothing"), &packet, "malformed");
        }
        let tcp = inward.syn((at.port(), 443));
        let beyond = [&[TCP, 200, 1, 4, 0, 0, 0, 0][..], &tcp].concat();
        at.packet("an option past the packet", &inward.ip(60, &beyond), "malformed");
    })
}

fn x2_routing_and_hop_by_hop(setup: Setup) -> Result<()> {
    let range = Range::open(setup)?;
    judge(&range, &[Family::V6], |at| {
        let inward = at.inward;
        for port in [443, 22] {
            let by_rule = if port == 443 { RULE } else { "no_rule" };
            let syn = inward.syn((at.port(), port));
            let first = [&padding(TCP)[..], &syn].concat();
            at.packet(format!("hop-by-hop first, {port}"), &inward.ip(0, &first), by_rule);
            let second = [&padding(0)[..], &padding(TCP), &syn].concat();
            at.packet(format!("hop-by-hop second, {port}"), &inward.ip(60, &second), "malformed");
            at.packet(format!("hop-by-hop twice, {port}"), &inward.ip(0, &second), "malformed");
            let behind_fragment = [&fragment(0, 7, 0, false)[..], &padding(TCP), &syn].concat();
            at.packet(format!("hop-by-hop in a fragment, {port}"), &inward.ip(44, &behind_fragment), DROPPED);
            for (kind, left, expected) in [
                (0, 0, "martian"),
                (0, 1, "martian"),
                (2, 1, "martian"),
                (2, 255, "martian"),
                (3, 1, "martian"),
                (4, 1, "martian"),
                (2, 0, by_rule),
                (4, 0, by_rule),
            ] {
                let mut routing = vec![TCP, 2, kind, left, 0, 0, 0, 0];
                routing.extend(inward.to.v6);
                let behind = [&[43, 0, 1, 4, 0, 0, 0, 0][..], &routing, &syn].concat();
                routing.extend(&syn);
                let what = format!("routing {kind} with {left} left, {port}");
                at.packet(what.clone(), &inward.ip(43, &routing), expected);
                at.packet(format!("{what}, behind options"), &inward.ip(60, &behind), expected);
            }
        }
    })
}

fn x3_authentication_header(setup: Setup) -> Result<()> {
    let range = Range::open(setup)?;
    judge(&range, &Family::ALL, |at| {
        let inward = at.inward;
        if at.family == Family::V4 {
            // To IPv4 it is a protocol like any other.
            let header = [TCP, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1];
            let packet = [&header[..], &inward.syn((at.port(), 443))].concat();
            at.packet("AH over IPv4", &inward.ip(51, &packet), "no_rule");
            return;
        }
        for length in [12_usize, 16, 20, 24, 28, 32] {
            for (port, expected) in [(443, RULE), (22, "no_rule")] {
                // The length counts words of four, without two. Whoever counts in eights, or forgets the two,
                // finds the ports that this header is full of, or those of the second segment.
                let (decoy, truth) = if port == 443 { (22, 443) } else { (443, 22) };
                let decoy = inward.syn((at.port(), decoy));
                let mut header = vec![TCP, (length / 4 - 2) as u8, 0, 0, 0, 0, 0, 1];
                header.extend(decoy.iter().cycle().take(length - 8));
                let mut data = inward.tcp((at.port(), truth), (1000, 0), crate::bytes::SYN, &[0; 4]);
                for _ in 0..6 {
                    data.extend(&decoy);
                }
                inward.seal(TCP, 16, &mut data);
                let packet = inward.ip(51, &[header, data].concat());
                at.packet(format!("AH of {length} octets, {port}"), &packet, expected);
            }
        }
        // Behind one another, and behind a header that counts in eights.
        let header = |next: u8| [next, 4, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4];
        for (port, expected) in [(443, RULE), (22, "no_rule")] {
            let syn = inward.syn((at.port(), port));
            let two = [&header(51)[..], &header(TCP), &syn].concat();
            at.packet(format!("two AH, {port}"), &inward.ip(51, &two), expected);
            let mixed = [&padding(51)[..], &header(60), &padding(TCP), &syn].concat();
            at.packet(format!("AH between options, {port}"), &inward.ip(60, &mixed), expected);
        }
        let short = ipv6(51, inward.from.v6, inward.to.v6, &[TCP, 4, 0, 0, 0, 0, 0, 1]);
        at.packet("AH past the packet", &short, "malformed");
    })
}
