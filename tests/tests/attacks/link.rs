//! L: frames that hide their packet.

use anyhow::Result;
use sg_tests::{
    each_setup,
    lab::{Arena, Namespace, Setup, arena::Family, can_run, wire},
    packet::{Mac, PacketSocket},
    syscall::program::{Foreign, Hook, Push},
};

use crate::{
    bytes::{self, BROADCAST, IPV4, IPV6, TCP, ethernet, tagged},
    range::{DROPPED, PASSES, PERMITTED, RULE, RULES, Range, Way, policy},
    rows::{At, judge},
};

each_setup! {
    l1_vlan_tags
    l2_other_encapsulations
    l2_permitted_ethertypes
    l3_runts
    l3_lengths_that_lie
    l4_broadcast_mac
}

const C: u16 = 0x8100;
const S: u16 = 0x88a8;

fn l1_vlan_tags(setup: Setup) -> Result<()> {
    let range = Range::open(setup)?;
    let few: [&[(u16, u16)]; 9] = [
        &[(C, 0)],
        &[(S, 0)],
        &[(C, 0xe000)], // priority 7
        &[(C, 0), (C, 0)],
        &[(S, 0), (S, 0)],
        &[(S, 0), (C, 0)],
        &[(C, 0), (S, 0)],
        &[(C, 5)],
        &[(S, 0), (C, 5)],
    ];
    let many: [&[(u16, u16)]; 6] = [
        &[(C, 0); 3],
        &[(S, 0); 3],
        &[(S, 0), (C, 0), (C, 0)],
        &[(C, 0), (S, 0), (C, 0)],
        &[(C, 0); 10],
        &[(S, 0), (C, 0), (S, 0), (C, 0), (S, 0), (C, 0), (S, 0), (C, 0), (S, 0), (C, 0)],
    ];
    judge(&range, &Family::ALL, |at| {
        for tags in few {
            for (port, expected) in [(443, RULE), (22, "no_rule")] {
                let frame = tagged(&at.inward.frame(&at.syn(port)), tags);
                at.frame(format!("a SYN to {port} behind {tags:x?}"), frame, expected);
            }
        }
        for tags in many {
            for port in [22, 443] {
                let frame = tagged(&at.inward.frame(&at.syn(port)), tags);
                at.frame(format!("a SYN to {port} behind {tags:x?}"), frame, "unsupported_ethertype");
            }
        }
    })
}

/// The outermost tag is out of the frame when it comes to the hook. XDP cannot know of such a tag: to
/// the stack there may be three, but the packet behind them is judged by the rules all the same.
#[test]
fn l1_vlan_tags_that_the_nic_took_out() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    for setup in [Setup::HostTc, Setup::HostXdp] {
        let range = Range::open(setup)?;
        let push = Push { protocol: C, id: 0 };
        let _pusher = range.arena.far.enter(|| Ok(Foreign::push_tag("far0", Hook::TcEgress, push)?))?;
        for family in Family::ALL {
            let path = range.inward(family);
            let rows: [(&[(u16, u16)], bool); 5] = [
                (&[], true),
                (&[(C, 0)], true),
                (&[(S, 0)], true),
                (&[(C, 0); 2], false),
                (&[(C, 0); 3], false),
            ];
            for (tags, is_read) in rows {
                for port in [443, 22] {
                    let frame = tagged(&path.syn_frame((range.port(), port)), tags);
                    let what = format!("a SYN to {port}, one tag out of it, in it {tags:x?}");
                    let expected = match (port, is_read) {
                        (443, true) => RULE,
                        (22, true) => "no_rule",
                        // The third of XDP is the first in the frame to us.
                        _ if setup == Setup::HostXdp && tags.len() == 2 => {
                            if port == 443 {
                                RULE
                            } else {
                                "no_rule"
                            }
                        }
                        _ => "unsupported_ethertype",
                    };
                    range.inject(Way::In, &frame)?;
                    range.enter(&what, Way::In, expected, frame.len() as u64);
                    if expected == RULE {
                        range.arrives(Way::In, &frame)?;
                    }
                    range.settle(&what)?;
                }
            }
        }
    }
    Ok(())
}

/// As a bridge hands frames on to a guest: it has taken the outermost tag out of them.
#[test]
fn l1_vlan_tags_that_a_bridge_took_out() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let mut arena = Arena::without_agent(Setup::Guest)?;
    let beyond = Namespace::new("beyond")?;
    wire::join(
        &wire::End { namespace: &arena.machine, interface: "eth1", mac: Mac::local(3), addresses: &[] },
        &wire::End { namespace: &beyond, interface: "far1", mac: Mac::local(4), addresses: &[] },
    )?;
    arena.machine.ip(&[
        "link add br0 type bridge mcast_snooping 0",
        "link set br0 up",
        "link set eth0 master br0",
        "link set eth1 master br0",
    ])?;
    arena.agent.start_with(&policy(Setup::Guest, RULES, ""))?;
    let range = Range::around(arena)?;
    let wire = PacketSocket::open(&beyond, "far1")?;
    for family in Family::ALL {
        let path = range.inward(family);
        let rows: [(&[(u16, u16)], bool); 6] = [
            (&[], true),
            (&[(C, 0)], true),
            (&[(S, 0), (C, 0)], true),
            (&[(C, 0); 2], true),
            (&[(C, 0); 3], false),
            (&[(S, 0), (C, 0), (C, 0), (C, 0)], false),
        ];
        for (tags, is_read) in rows {
            for port in [443, 22] {
                let frame = tagged(&path.syn_frame((range.port(), port)), tags);
                let what = format!("a SYN to {port} over a bridge behind {tags:x?}");
                let expected = match (port, is_read) {
                    (443, true) => RULE,
                    (_, true) => "no_rule",
                    (_, false) => "unsupported_ethertype",
                };
                wire.send(&frame)?;
                let tag = if tags.is_empty() { 0 } else { 4 };
                range.enter(&what, Way::In, expected, (frame.len() - tag) as u64);
                if expected == RULE {
                    range.arrives(Way::In, &frame)?;
                }
                range.settle(&what)?;
            }
        }
    }
    Ok(())
}

/// An open SYN in other clothes: (what, EtherType or length, octets).
fn encapsulations(at: &At<'_>) -> Vec<(&'static str, u16, Vec<u8>)> {
    let packet = at.syn(443);
    let kind = at.inward.ethertype().to_be_bytes();
    let snap = [&[0xaa, 0xaa, 0x03, 0, 0, 0][..], &kind, &packet].concat();
    let llc = [&[0x06, 0x06, 0x03][..], &packet].concat(); // RFC 1042's own SAP of IP
    let ppp: [u8; 2] = if at.family == Family::V4 { [0x00, 0x21] } else { [0x00, 0x57] };
    let session = [&[0x11, 0x00, 0, 1][..], &bytes::be16(packet.len() + 2), &ppp, &packet].concat();
    let discovery = [0x11, 0x09, 0, 0, 0, 4, 0x01, 0x01, 0, 0].to_vec();
    let label = [&[0x00, 0x01, 0x01, 0x40][..], &packet].concat();
    let security = [&[0x20, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 1, 0, 1][..], &kind, &packet].concat();
    vec![
        ("802.3 with LLC and SNAP", snap.len() as u16, snap.clone()),
        ("802.3 of the greatest length", 0x05ff, snap),
        ("802.3 with LLC", llc.len() as u16, llc),
        ("raw 802.3", 0, packet.clone()),
        ("MPLS", 0x8847, label.clone()),
        ("MPLS multicast", 0x8848, label),
        ("PPPoE session", 0x8864, session),
        ("PPPoE discovery", 0x8863, discovery),
        ("MACsec", 0x88e5, security),
        ("jumbo LLC", 0x8870, packet.clone()),
        ("an experiment", 0x88b5, packet.clone()),
        ("an old tag", 0x9100, [&[0, 0][..], &kind, &packet].concat()),
        ("IP under no EtherType of it", 0x0600, packet),
    ]
}

fn l2_other_encapsulations(setup: Setup) -> Result<()> {
    let range = Range::open(setup)?;
    judge(&range, &Family::ALL, |at| {
        let (to, from) = (at.inward.to.mac, at.inward.from.mac);
        for (what, kind, octets) in encapsulations(at) {
            let frame = ethernet(to, from, kind, &octets);
            at.frame(format!("{what} behind a tag"), tagged(&frame, &[(C, 0)]), "unsupported_ethertype");
            at.frame(what, frame, "unsupported_ethertype");
        }
        at.packet("the packet inside", &at.syn(443), RULE);
    })
}

/// What an interface lists passes, and nothing else does.
fn l2_permitted_ethertypes(setup: Setup) -> Result<()> {
    let listed = format!(", permit_ethertypes: {PERMITTED:?}");
    let range = Range::open_with(setup, RULES, &listed)?;
    judge(&range, &[Family::V4, Family::V6], |at| {
        let (to, from) = (at.inward.to.mac, at.inward.from.mac);
        for (what, kind, octets) in encapsulations(at) {
            let is_listed = PERMITTED.contains(&kind);
            let expected = if is_listed { PASSES } else { "unsupported_ethertype" };
            at.frame(what, ethernet(to, from, kind, &octets), expected);
            if is_listed {
                at.frame_out(what, ethernet(from, to, kind, &octets), expected);
            }
        }
        at.packet("a closed port all the same", &at.syn(22), "no_rule");
    })
}

fn l3_runts(setup: Setup) -> Result<()> {
    let range = Range::open(setup)?;
    judge(&range, &Family::ALL, |at| {
        let whole = at.inward.frame(&at.syn(443));
        for length in (14..34).chain([whole.len() - 21, whole.len() - 20, whole.len() - 1]) {
            at.frame(format!("a runt of {length} octets"), whole[..length].to_vec(), "malformed");
        }
        at.frame("the whole of it", whole, RULE);
        // Tags do not make up for what is missing.
        let whole = tagged(&at.inward.frame(&at.syn(443)), &[(C, 0)]);
        // The kernel itself drops what ends less than two octets behind a tag before TC sees it.
        for length in [20, 21, 22, 37, 38] {
            at.frame(format!("a tagged runt of {length} octets"), whole[..length].to_vec(), "malformed");
        }
    })
}

fn l3_lengths_that_lie(setup: Setup) -> Result<()> {
    let range = Range::open(setup)?;
    judge(&range, &Family::ALL, |at| {
        let (inward, is_v4) = (at.inward, at.family == Family::V4);
        // The length field, and what the header itself takes of it.
        let (field, own) = if is_v4 { (2, 20) } else { (4, 0) };
        let with_length = |packet: &[u8], length: usize| {
            let mut packet = packet.to_vec();
            packet[field..field + 2].copy_from_slice(&bytes::be16(own + length));
            if is_v4 {
                bytes::seal_ipv4(&mut packet);
            }
            packet
        };
        for longer in [1, 2, 100, 1460, 65_535 - own - 20] {
            let packet = with_length(&at.syn(443), 20 + longer);
            at.packet(format!("{longer} octets longer than the frame"), &packet, "malformed");
        }
        for length in [0, 1, 3, 4, 8, 12, 13, 14, 19] {
            let packet = with_length(&at.syn(443), length);
            at.packet(format!("TCP of {length} octets"), &packet, "malformed");
        }
        for length in [0, 1, 3, 4, 7] {
            let packet = with_length(&at.udp(443), length);
            at.packet(format!("UDP of {length} octets"), &packet, "malformed");
        }
        for length in [0, 1, 3, 4, 7] {
            let echo = inward.ip(inward.icmp_number(), &inward.echo(1, 1));
            at.packet(format!("ICMP of {length} octets"), &with_length(&echo, length), "malformed");
        }
        if is_v4 {
            for length in [0, 1, 19] {
                let mut packet = at.syn(443);
                packet[2..4].copy_from_slice(&bytes::be16(length));
                bytes::seal_ipv4(&mut packet);
                at.packet(format!("IPv4 of {length} octets"), &packet, "malformed");
            }
        }
        at.packet("a length that is true", &with_length(&at.syn(443), 20), RULE);
        at.packet("true, closed", &with_length(&at.syn(22), 20), "no_rule");
    })
}

fn l4_broadcast_mac(setup: Setup) -> Result<()> {
    let range = Range::open(setup)?;
    judge(&range, &Family::ALL, |at| {
        let kind = if at.family == Family::V4 { IPV4 } else { IPV6 };
        for to in [BROADCAST, [0x01, 0, 0x5e, 0, 0, 1], [0x33, 0x33, 0, 0, 0, 1], [2, 9, 9, 9, 9, 9]] {
            for (port, expected) in [(443, RULE), (22, "no_rule")] {
                let frame = ethernet(to, at.inward.from.mac, kind, &at.syn(port));
                at.frame(format!("a SYN to {port} in a frame to {to:02x?}"), frame, expected);
            }
        }
        let echo = at.inward.ip(TCP, &at.inward.tcp((at.port(), 22), (1, 1), bytes::ACK, &[]));
        at.frame("an ACK to 22", ethernet(BROADCAST, at.inward.from.mac, kind, &echo), DROPPED);
    })
}
