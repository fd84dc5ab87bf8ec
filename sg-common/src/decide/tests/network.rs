//! Section 4 of `docs/semantics.md`, and the source check: what a host may say to its network.

use super::*;

const ALL_PARTS: u32 = flag::ARP | flag::NDP | flag::DHCP | flag::MLD;
const CHECKED_GUEST: u32 = flag::GUEST | flag::SOURCE_CHECK | flag::ANY_LINK_LOCAL | ALL_PARTS;

/// Lets nothing pass but the infrastructure set.
fn world(flags: u32) -> World {
    World::new(Policy { flags, ..Policy::default() })
}

fn listening(flags: u32, macs: &[u64]) -> World {
    World::new(Policy { flags, macs: macs.to_vec(), ..Policy::default() })
}

/// Neighbour discovery as it ought to be.
fn ndp(direction: Direction, kind: u8) -> Packet {
    Packet { hop_limit: 255, subject: LOCAL_V6, ..icmp_v6(direction, kind, 0, 0) }
}

/// Listener discovery as it ought to be.
fn mld(direction: Direction, kind: u8) -> Packet {
    Packet { hop_limit: 1, source: LINK_LOCAL, is_wrapped: true, ..icmp_v6(direction, kind, 0, 0) }
}

fn dhcp_v6(direction: Direction, local_port: u16, remote_port: u16) -> Packet {
    with_ports(direction, local_port, remote_port, between(direction, LOCAL_V6, PEER_V6, Protocol::UDP))
}

#[test]
fn neighbour_discovery_passes_as_far_as_its_side_may_speak() {
    let guest = flag::GUEST | flag::NDP;
    let host = flag::NDP;
    for kind in 0..=u8::MAX {
        for (flags, direction) in [(host, Inbound), (host, Outbound), (guest, Inbound), (guest, Outbound)] {
            let is_error = matches!(kind, 1..=4 | 137);
            let expected = match kind {
                134 | 137 if flags == guest && direction == Outbound => "router_advertisement_from_guest",
                133..=136 => "infrastructure",
                _ if is_error => "icmp_error_without_flow",
                _ => "no_rule",
            };
            let said = world(flags).judge(direction, ndp(direction, kind));
            assert_eq!(said, expected, "type {kind} {direction} under {flags:#x}");
            let expected = match expected {
                "infrastructure" => "no_rule",
                never => never,
            };
            let said = world(flags & !flag::NDP).judge(direction, ndp(direction, kind));
            assert_eq!(said, expected, "type {kind} {direction}, switched off");
        }
    }
}

#[test]
fn neighbour_discovery_that_a_router_may_have_forwarded_is_malformed() {
    for kind in 133..=137 {
        for (what, packet) in [
            ("hop limit", Packet { hop_limit: 254, ..ndp(Inbound, kind) }),
            ("code", Packet { hop_limit: 255, ..icmp_v6(Inbound, kind, 1, 0) }),
            ("fragment or extension header", Packet { is_wrapped: true, ..ndp(Inbound, kind) }),
        ] {
            assert_eq!(world(flag::NDP).judge(Inbound, packet), "malformed", "{what} of type {kind}");
            assert_eq!(world(0).judge(Inbound, packet), "malformed", "{what} of type {kind}, switched off");
        }
    }
    let in_v4 = Packet { hop_limit: 255, ..icmp(Inbound, 135, 0, 0) };
    assert_eq!(world(ALL_PARTS).judge(Inbound, in_v4), "no_rule", "ICMP has no such type");
    let odd = Packet { hop_limit: 255, ..between(Inbound, LOCAL, PEER, Protocol::ICMPV6) };
    let odd = Packet { transport: Transport { icmp: 135 << 8, ..odd.transport }, ..odd };
    assert_eq!(world(ALL_PARTS).judge(Inbound, odd), "no_rule", "ICMPv6 in IPv4");
}

#[test]
fn a_rule_lets_a_redirect_in_that_was_not_forwarded() {
    let rules = vec![rule(Inbound, V6, Remote::Anyone, Table::Icmp, 137 << 8)];
    let world = World::new(Policy { flags: flag::NDP, rules, ..Policy::default() });
    assert_eq!(world.judge(Inbound, ndp(Inbound, 137)), "rule 1");
    assert!(world.heap.flows().is_empty(), "it opens nothing");
}

#[test]
fn listener_discovery_passes_from_the_link() {
    let global = |packet| Packet { source: PEER_V6, ..packet };
    for (what, packet, expected) in [
        ("query", mld(Inbound, 130), "infrastructure"),
        ("report", mld(Inbound, 131), "infrastructure"),
        ("done", mld(Inbound, 132), "infrastructure"),
        ("report of version 2", mld(Inbound, 143), "infrastructure"),
        (
            "from no address yet",
            Packet { source: Addr::UNSPECIFIED_V6, ..mld(Inbound, 143) },
            "infrastructure",
        ),
        ("type below", mld(Inbound, 129), "no_rule"),
        ("type above", mld(Inbound, 144), "no_rule"),
        ("from a global address", global(mld(Inbound, 131)), "no_rule"),
        ("forwarded", Packet { hop_limit: 2, ..mld(Inbound, 131) }, "no_rule"),
        ("last of the link-local network", from_bits(0xfebf, mld(Inbound, 131)), "infrastructure"),
        ("just behind it", from_bits(0xfec0, mld(Inbound, 131)), "no_rule"),
        ("just before it", from_bits(0xfe7f, mld(Inbound, 131)), "no_rule"),
    ] {
        assert_eq!(world(flag::MLD).judge(Inbound, packet), expected, "{what}");
        assert_eq!(world(ALL_PARTS & !flag::MLD).judge(Inbound, packet), "no_rule", "{what}, switched off");
    }
    assert_eq!(world(flag::MLD).judge(Outbound, mld(Outbound, 143)), "infrastructure");
}

fn from_bits(high: u64, packet: Packet) -> Packet {
    Packet { source: Addr::v6(high << 48, 7), ..packet }
}

#[test]
fn dhcp_passes_for_the_client() {
    let host = flag::DHCP;
    let guest = flag::DHCP | flag::GUEST;
    for (what, flags, direction, local_port, remote_port, v4, v6) in [
        ("request", host, Outbound, [68, 546], [67, 547], "infrastructure", "infrastructure"),
        ("answer", host, Inbound, [68, 546], [67, 547], "infrastructure", "infrastructure"),
        ("request of a guest", guest, Outbound, [68, 546], [67, 547], "infrastructure", "infrastructure"),
        ("answer to a guest", guest, Inbound, [68, 546], [67, 547], "infrastructure", "infrastructure"),
        ("request of another", host, Inbound, [67, 547], [68, 546], "no_rule", "no_rule"),
        ("answer of the host", host, Outbound, [67, 547], [68, 546], "no_rule", "no_rule"),
        ("request to a guest", guest, Inbound, [67, 547], [68, 546], "no_rule", "no_rule"),
        (
            "answer of a guest",
            guest,
            Outbound,
            [67, 547],
            [68, 546],
            "dhcp_server_from_guest",
            "dhcp_server_from_guest",
        ),
        ("ports of the other family", host, Outbound, [546, 68], [547, 67], "no_rule", "no_rule"),
        ("one port alone", host, Outbound, [68, 546], [68, 546], "no_rule", "no_rule"),
        ("the other alone", host, Outbound, [67, 547], [67, 547], "no_rule", "no_rule"),
        ("one port alone", host, Inbound, [68, 546], [53, 53], "no_rule", "no_rule"),
        ("the other alone", host, Inbound, [53, 53], [67, 547], "no_rule", "no_rule"),
    ] {
        let in_v4 = udp(direction, local_port[0], remote_port[0]);
        let in_v6 = dhcp_v6(direction, local_port[1], remote_port[1]);
        assert_eq!(world(flags).judge(direction, in_v4), v4, "{what}");
        assert_eq!(world(flags).judge(direction, in_v6), v6, "{what}, IPv6");
        let off = flags & !flag::DHCP;
        let without = |verdict| if verdict == "infrastructure" { "no_rule" } else { verdict };
        assert_eq!(world(off).judge(direction, in_v4), without(v4), "{what}, switched off");
        assert_eq!(world(off).judge(direction, in_v6), without(v6), "{what}, IPv6, switched off");
    }
    let over_tcp = tcp(Outbound, 68, 67, SYN);
    assert_eq!(world(flag::DHCP).judge(Outbound, over_tcp), "no_rule", "DHCP is UDP");
}

#[test]
fn under_source_check_only_the_instances_addresses_leave_and_are_entered() {
    let rules = vec![
        anyone(Inbound, Table::Tcp, 443),
        anyone(Outbound, Table::Tcp, 443),
        rule(Inbound, V6, Remote::Anyone, Table::Tcp, 443),
        rule(Outbound, V6, Remote::Anyone, Table::Tcp, 443),
    ];
    let syn = |direction, local, remote| {
        let packet = Packet { tcp_flags: SYN, ..between(direction, local, remote, Protocol::TCP) };
        match direction {
            Inbound => with_ports(direction, 443, 40_000, packet),
            Outbound => with_ports(direction, 40_000, 443, packet),
        }
    };
    for (what, direction, local, expected) in [
        ("its own", Outbound, LOCAL, "rule 1, opened"),
        ("one below", Outbound, Addr::v4(LOCAL.v4_bits() - 1), "source_check"),
        ("one above", Outbound, Addr::v4(LOCAL.v4_bits() + 1), "source_check"),
        ("another's", Outbound, STRANGER, "source_check"),
        ("its own, IPv6", Outbound, LOCAL_V6, "rule 1, opened"),
        ("another's, IPv6", Outbound, STRANGER_V6, "source_check"),
        ("link-local", Outbound, LINK_LOCAL, "source_check"),
        ("to it", Inbound, LOCAL, "rule 1, opened"),
        ("to another", Inbound, STRANGER, "source_check"),
        ("to it, IPv6", Inbound, LOCAL_V6, "rule 1, opened"),
        ("to another, IPv6", Inbound, STRANGER_V6, "source_check"),
        ("to a group", Inbound, Addr::v4(0xe000_0001), "rule 1, opened"),
        ("to the last group", Inbound, Addr::v4(0xefff_ffff), "rule 1, opened"),
        ("behind the groups", Inbound, Addr::v4(0xf000_0000), "source_check"),
        ("before the groups", Inbound, Addr::v4(0xdfff_ffff), "source_check"),
        ("to all", Inbound, Addr::v4(u32::MAX), "rule 1, opened"),
        ("to a group, IPv6", Inbound, Addr::v6(0xff02 << 48, 1), "rule 1, opened"),
        ("before the groups, IPv6", Inbound, Addr::v6(0xfeff << 48, 1), "source_check"),
    ] {
        for side in [0, flag::GUEST] {
            let packet = syn(direction, local, if local.is_v4() { PEER } else { PEER_V6 });
            let policy = |flags| Policy { flags, rules: rules.clone(), ..Policy::default() };
            let checked = World::new(policy(side | flag::SOURCE_CHECK));
            assert_eq!(checked.judge(direction, packet), expected, "{what}");
            let unchecked = World::new(policy(side));
            assert_eq!(unchecked.judge(direction, packet), "rule 1, opened", "{what}, unchecked");
        }
    }
    // What it sends is always its own to answer for: a source that stands for many is a martian, or
    // not one of its addresses.
    let policy = Policy { flags: flag::SOURCE_CHECK, rules, ..Policy::default() };
    let from_all = syn(Outbound, Addr::v4(u32::MAX), PEER);
    assert_eq!(World::new(policy).judge(Outbound, from_all), "source_check");
}

#[test]
fn without_source_check_nobody_asks_whose_an_address_is() {
    for (direction, foreign) in [
        (Inbound, Packet { destination: STRANGER_V6, ..icmp_v6(Inbound, 128, 0, 0) }),
        (Outbound, Packet { source: STRANGER_V6, ..icmp_v6(Outbound, 128, 0, 0) }),
    ] {
        assert_eq!(world(ALL_PARTS).judge(direction, foreign), "no_rule", "{direction}");
        assert_eq!(world(CHECKED_GUEST).judge(direction, foreign), "source_check", "{direction}");
    }
}

#[test]
fn under_source_check_frames_leave_from_listed_ethernet_addresses() {
    let from = |mac, packet| Packet { source_mac: mac, ..packet };
    for (what, flags, macs, direction, mac, passes) in [
        ("none is listed", CHECKED_GUEST, &[][..], Outbound, OTHER_MAC, true),
        ("listed", CHECKED_GUEST, &[MAC], Outbound, MAC, true),
        ("another", CHECKED_GUEST, &[MAC], Outbound, OTHER_MAC, false),
        ("another in the high half", CHECKED_GUEST, &[MAC], Outbound, MAC ^ 1 << 40, false),
        ("the second", CHECKED_GUEST, &[MAC, OTHER_MAC], Outbound, OTHER_MAC, true),
        ("the eighth", CHECKED_GUEST, &[1, 2, 3, 4, 5, 6, 7, MAC], Outbound, MAC, true),
        ("from elsewhere to the guest", CHECKED_GUEST, &[MAC], Inbound, OTHER_MAC, true),
        ("unchecked", CHECKED_GUEST & !flag::SOURCE_CHECK, &[MAC], Outbound, OTHER_MAC, true),
        ("of a host", CHECKED_GUEST & !flag::GUEST, &[MAC], Outbound, OTHER_MAC, false),
    ] {
        let policy = Policy {
            flags,
            macs: macs.to_vec(),
            ethertypes: vec![0x88cc],
            rules: vec![peer(Inbound, Table::Tcp, 443), peer(Outbound, Table::Tcp, 443)],
        };
        let world = World::new(policy);
        let syn = if direction == Inbound { tcp(Inbound, 443, 1, SYN) } else { tcp(Outbound, 1, 443, SYN) };
        let expected = |verdict| if passes { verdict } else { "source_check" };
        assert_eq!(world.judge(direction, from(mac, syn)), expected("rule 1, opened"), "{what}");
        let mut frame = from(mac, ndp(direction, 135));
        assert_eq!(world.judge(direction, frame), expected("infrastructure"), "{what}, NDP");
        frame.subject = Addr::v6(0, mac);
        frame.source = LOCAL;
        let said = world.judge_payload(direction, Payload::ARP, frame);
        assert_eq!(said, expected("infrastructure"), "{what}, ARP");
        let said = world.judge_payload(direction, Payload(0x88cc), frame);
        assert_eq!(said, expected("infrastructure"), "{what}, LLDP");
    }
}

#[test]
fn under_source_check_arp_speaks_for_the_sender() {
    let arp = |source, claimed| Packet {
        source,
        subject: Addr::v6(0, claimed),
        source_mac: MAC,
        ..Packet::default()
    };
    for (what, packet, expected) in [
        ("its own", arp(LOCAL, MAC), "infrastructure"),
        (
            "none yet, asks for its own",
            Packet { destination: LOCAL, ..arp(Addr::v4(0), MAC) },
            "infrastructure",
        ),
        ("none yet, asks for another's", arp(Addr::v4(0), MAC), "source_check"),
        ("its own, asks for its own", Packet { destination: LOCAL, ..arp(LOCAL, MAC) }, "infrastructure"),
        ("another's", arp(STRANGER, MAC), "source_check"),
        ("from another Ethernet address", arp(LOCAL, OTHER_MAC), "source_check"),
        ("not for Ethernet", arp(LOCAL, u64::MAX), "source_check"),
    ] {
        for macs in [&[][..], &[MAC]] {
            let said = listening(CHECKED_GUEST, macs).judge_payload(Outbound, Payload::ARP, packet);
            assert_eq!(said, expected, "{what}");
        }
        for (flags, direction) in [(CHECKED_GUEST, Inbound), (flag::GUEST | flag::ARP, Outbound)] {
            let said = world(flags).judge_payload(direction, Payload::ARP, packet);
            assert_eq!(said, "infrastructure", "{what}, {direction} under {flags:#x}");
        }
    }
}

#[test]
fn under_source_check_neighbour_discovery_and_dhcp_speak_for_the_sender() {
    let solicitation = |source| Packet { source, subject: STRANGER_V6, ..ndp(Outbound, 135) };
    let advertisement = |source, subject| Packet { source, subject, ..ndp(Outbound, 136) };
    let router_solicitation = |source| Packet { source, subject: STRANGER_V6, ..ndp(Outbound, 133) };
    let request = |source| Packet { source, ..udp(Outbound, 68, 67) };
    let request_v6 = |source| Packet { source, ..dhcp_v6(Outbound, 546, 547) };
    for (what, packet, passes) in [
        ("asks for another", solicitation(LOCAL_V6), true),
        ("asks, link-local", solicitation(LINK_LOCAL), true),
        ("asks whether another's is free", solicitation(Addr::UNSPECIFIED_V6), false),
        (
            "asks whether its own is free",
            Packet { subject: LOCAL_V6, ..solicitation(Addr::UNSPECIFIED_V6) },
            true,
        ),
        (
            "asks whether its link-local one is free",
            Packet { subject: LINK_LOCAL, ..solicitation(Addr::UNSPECIFIED_V6) },
            true,
        ),
        ("asks as another", solicitation(STRANGER_V6), false),
        ("tells of itself", advertisement(LOCAL_V6, LOCAL_V6), true),
        ("tells of itself, link-local", advertisement(LINK_LOCAL, LINK_LOCAL), true),
        ("tells of another", advertisement(LOCAL_V6, STRANGER_V6), false),
        ("tells as another", advertisement(STRANGER_V6, LOCAL_V6), false),
        ("tells of nobody", advertisement(LOCAL_V6, Addr::UNSPECIFIED_V6), true),
        ("asks for routers", router_solicitation(LINK_LOCAL), true),
        ("asks for routers as another", router_solicitation(STRANGER_V6), false),
        ("DHCP with no address yet", request(Addr::v4(0)), true),
        ("DHCP", request(LOCAL), true),
        ("DHCP as another", request(STRANGER), false),
        ("DHCPv6", request_v6(LINK_LOCAL), true),
        ("DHCPv6 as another", request_v6(STRANGER_V6), false),
    ] {
        let expected = if passes { "infrastructure" } else { "source_check" };
        assert_eq!(world(CHECKED_GUEST).judge(Outbound, packet), expected, "{what}");
        let unchecked = world(CHECKED_GUEST & !flag::SOURCE_CHECK);
        assert_eq!(unchecked.judge(Outbound, packet), "infrastructure", "{what}, unchecked");
    }
    // Where the policy lists a link-local address, only that one is the guest's own.
    for packet in [
        solicitation(LINK_LOCAL),
        advertisement(LOCAL_V6, LINK_LOCAL),
        request_v6(LINK_LOCAL),
        Packet { subject: LINK_LOCAL, ..solicitation(Addr::UNSPECIFIED_V6) },
    ] {
        let listed = world(CHECKED_GUEST & !flag::ANY_LINK_LOCAL);
        assert_eq!(listed.judge(Outbound, packet), "source_check", "{packet:?}");
    }
    let foreign = Packet { subject: STRANGER_V6, ..ndp(Inbound, 136) };
    let said = world(CHECKED_GUEST).judge(Inbound, foreign);
    assert_eq!(said, "infrastructure", "others tell of themselves");
    let answer = Packet { destination: Addr::v4(u32::MAX), ..udp(Inbound, 68, 67) };
    assert_eq!(world(CHECKED_GUEST).judge(Inbound, answer), "infrastructure", "and so does a server");
}
