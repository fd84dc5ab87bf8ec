//! Section 2 of `docs/semantics.md`: which row decides.

use super::*;

#[test]
fn without_an_image_nothing_passes() {
    let packet = tcp(Inbound, 443, 40_000, SYN);
    for (what, break_it) in [
        ("no nodes", (|nodes| nodes.clear()) as fn(&mut Vec<Node>)),
        ("not a zone's record", |nodes| nodes[1 + ZONE as usize].words[zone_word::MARK] = 0),
        ("another zone's", |nodes| nodes[1 + ZONE as usize].words[zone_word::MARK] += 1),
        ("another version's", |nodes| nodes[1 + ZONE as usize].words[zone_word::MARK] ^= 1 << 8),
        ("the zone is cut off", |nodes| nodes.truncate(1 + ZONE as usize)),
    ] {
        let mut world = World::new(&[anyone(Inbound, Table::Tcp, 443)][..]);
        assert_eq!(told(&world.outcome(Hook::Ingress, Ok(Payload::IP), packet, BYTES)), "rule 1, opened");
        break_it(&mut world.nodes);
        for (hook, direction) in [(Hook::Ingress, Inbound), (Hook::Egress, Outbound)] {
            for payload in [Ok(Payload::IP), Ok(Payload::ARP), Err(Unreadable::SHORT)] {
                let outcome = world.outcome(hook, payload, packet, BYTES);
                let expected = Outcome {
                    verdict: Verdict::Drop(DropReason::PolicyUnavailable),
                    direction,
                    is_audited: false,
                    has_opened: false,
                };
                assert_eq!(outcome, expected, "{what}");
                assert!(!outcome.passes(), "{what}");
            }
        }
    }
}

#[test]
fn a_reference_out_of_the_image_is_no_policy() {
    let world = |word: usize, flags| {
        let policy = Policy {
            flags,
            macs: vec![MAC],
            rules: vec![peer(Outbound, Table::Tcp, 443)],
            ..Policy::default()
        };
        let mut world = World::new(policy);
        world.nodes[1 + ZONE as usize].words[word] = 100_000;
        world
    };
    let packet = tcp(Outbound, 40_000, 443, SYN);
    for (what, word, flags) in [
        ("rules", zone_word::RULE_SETS + 2, 0),
        ("own addresses", zone_word::OWN, flag::SOURCE_CHECK),
        ("Ethernet addresses", zone_word::MACS, flag::SOURCE_CHECK),
    ] {
        assert_eq!(world(word, flags).judge(Outbound, packet), "policy_unavailable", "{what}");
    }
    // What nobody asks for does no harm.
    assert_eq!(world(zone_word::OWN, 0).judge(Outbound, packet), "rule 1, opened");
    assert_eq!(world(zone_word::MACS, 0).judge(Outbound, packet), "rule 1, opened");
}

#[test]
fn inbound_is_told_from_the_instances_side() {
    for (flags, hook, direction, verdict) in [
        (0, Hook::Ingress, Inbound, "rule 7"),
        (0, Hook::Egress, Outbound, "rule 8"),
        (flag::GUEST, Hook::Ingress, Outbound, "rule 8"),
        (flag::GUEST, Hook::Egress, Inbound, "rule 7"),
    ] {
        let rules =
            vec![anyone(Inbound, Table::Icmp, 3).numbered(7), anyone(Outbound, Table::Icmp, 3).numbered(8)];
        let world = World::new(Policy { flags, rules, ..Policy::default() });
        let outcome = world.outcome(hook, Ok(Payload::IP), icmp(direction, 0, 3, 0), BYTES);
        assert_eq!((outcome.direction, told(&outcome).as_str()), (direction, verdict), "{hook:?}");
    }
}

#[test]
fn what_cannot_be_read_is_dropped_with_its_reason() {
    let world = World::new(&[anyone(Inbound, Table::Tcp, 0).every_value()][..]);
    let packet = tcp(Inbound, 443, 40_000, SYN);
    for reason in DropReason::ALL {
        let outcome = world.outcome(Hook::Ingress, Err(Unreadable::drop(reason)), packet, BYTES);
        assert_eq!(outcome.verdict, Verdict::Drop(reason));
        assert!(!outcome.has_opened && !outcome.passes());
    }
    let outcome = world.outcome(Hook::Ingress, Err(Unreadable::SHORT), packet, BYTES);
    assert_eq!(told(&outcome), "malformed", "too short to read is a drop");
    assert!(world.heap.flows().is_empty());
}

#[test]
fn audit_decides_and_counts_the_same_and_lets_all_pass() {
    let policy =
        Policy { flags: flag::AUDIT, rules: vec![peer(Inbound, Table::Tcp, 443)], ..Policy::default() };
    let world = World::new(policy);
    for (what, packet, expected) in [
        ("denied", tcp(Inbound, 22, 40_000, SYN), "no_rule"),
        ("allowed", tcp(Inbound, 443, 40_000, SYN), "rule 1, opened"),
        ("of the flow", tcp(Inbound, 443, 40_000, ACK), "flow 1"),
        ("flags", tcp(Inbound, 443, 40_000, 0), "invalid_tcp_flags"),
    ] {
        let outcome = world.outcome(Hook::Ingress, Ok(Payload::IP), packet, BYTES);
        assert_eq!(told(&outcome), expected, "{what}");
        assert!(outcome.is_audited && outcome.passes(), "{what}");
    }
    let outcome = world.outcome(Hook::Ingress, Err(Unreadable::SHORT), Packet::default(), BYTES);
    assert_eq!(told(&outcome), "malformed");
    assert!(outcome.is_audited && outcome.passes());
}

#[test]
fn foreign_ethertypes_pass_only_where_they_are_permitted() {
    let lldp = 0x88cc;
    for (what, flags, ethertypes, payload, expected) in [
        ("ARP", flag::ARP, &[][..], 0x0806, "infrastructure"),
        ("ARP switched off", !flag::ARP & 0xff & !flag::SOURCE_CHECK, &[], 0x0806, "unsupported_ethertype"),
        ("ARP switched off, but permitted", 0, &[0x0806], 0x0806, "infrastructure"),
        ("LLDP", flag::ARP, &[], lldp, "unsupported_ethertype"),
        ("LLDP permitted", 0, &[lldp], lldp, "infrastructure"),
        ("the second", 0, &[0x88a2, lldp], lldp, "infrastructure"),
        ("the last of eight", 0, &[1, 2, 3, 4, 5, 6, 7, 0xabcd], 0xabcd, "infrastructure"),
        ("another", 0, &[1, 2, 3, 4, 5, 6, 7, 0xabcd], 0xabcc, "unsupported_ethertype"),
        ("802.3", flag::ARP, &[lldp], 0, "unsupported_ethertype"),
    ] {
        let world = World::new(Policy { flags, ethertypes: ethertypes.to_vec(), ..Policy::default() });
        for direction in Direction::ALL {
            let said = world.judge_payload(direction, Payload(payload), Packet::default());
            assert_eq!(said, expected, "{what}");
        }
    }
}

#[test]
fn rules_are_asked_for_the_remote_address_and_the_destination_port() {
    let rules = [
        peer(Inbound, Table::Tcp, 443).numbered(1),
        anyone(Inbound, Table::Udp, 53).numbered(2),
        peer(Outbound, Table::Tcp, 5432).numbered(3),
        rule(Inbound, V6, Remote::Peer, Table::Tcp, 443).numbered(4),
        rule(Outbound, V6, Remote::Anyone, Table::Other, 50).numbered(5),
        anyone(Inbound, Table::Other, 47).numbered(6),
        peer(Inbound, Table::Icmp, 8 << 8).numbered(7),
        Rule { first: 100, last: 200, ..peer(Inbound, Table::Udp, 0).numbered(8) },
    ];
    let other = |direction, local, remote, number| between(direction, local, remote, Protocol(number));
    let from = |source, packet| Packet { source, ..packet };
    let v6 = |packet| Packet { source: PEER_V6, destination: LOCAL_V6, ..packet };
    for (what, direction, packet, expected) in [
        ("TCP in", Inbound, tcp(Inbound, 443, 40_000, SYN), "rule 1, opened"),
        ("TCP in, from elsewhere", Inbound, from(STRANGER, tcp(Inbound, 443, 40_000, SYN)), "no_rule"),
        ("TCP in, port below", Inbound, tcp(Inbound, 442, 40_000, SYN), "no_rule"),
        ("TCP in, port above", Inbound, tcp(Inbound, 444, 40_000, SYN), "no_rule"),
        ("TCP in, from that port", Inbound, tcp(Inbound, 40_000, 443, SYN), "no_rule"),
        ("TCP out to the port that is open in", Outbound, tcp(Outbound, 40_000, 443, SYN), "no_rule"),
        ("UDP in", Inbound, udp(Inbound, 53, 40_000), "rule 2, opened"),
        ("UDP in, from elsewhere", Inbound, from(STRANGER, udp(Inbound, 53, 40_000)), "rule 2, opened"),
        ("UDP to a port of TCP", Inbound, udp(Inbound, 443, 40_000), "no_rule"),
        ("a range, first", Inbound, udp(Inbound, 100, 40_000), "rule 8, opened"),
        ("a range, last", Inbound, udp(Inbound, 200, 40_000), "rule 8, opened"),
        ("past the range", Inbound, udp(Inbound, 201, 40_000), "no_rule"),
        ("TCP out", Outbound, tcp(Outbound, 40_000, 5432, SYN), "rule 3, opened"),
        (
            "TCP out, to elsewhere",
            Outbound,
            Packet { destination: STRANGER, ..tcp(Outbound, 40_000, 5432, SYN) },
            "no_rule",
        ),
        ("IPv6", Inbound, v6(tcp(Inbound, 443, 40_000, SYN)), "rule 4, opened"),
        ("IPv6 from elsewhere", Inbound, from(STRANGER_V6, v6(tcp(Inbound, 443, 40_000, SYN))), "no_rule"),
        ("IPv6 has rules of its own", Inbound, v6(udp(Inbound, 53, 40_000)), "no_rule"),
        ("ESP", Outbound, other(Outbound, LOCAL_V6, PEER_V6, 50), "rule 5, opened"),
        ("AH", Outbound, other(Outbound, LOCAL_V6, PEER_V6, 51), "no_rule"),
        ("GRE", Inbound, other(Inbound, LOCAL, PEER, 47), "rule 6, opened"),
        ("ICMPv6's number in IPv4", Inbound, other(Inbound, LOCAL, PEER, 58), "no_rule"),
        ("ping", Inbound, icmp(Inbound, 8, 0, 9), "rule 7, opened"),
        ("ping with a code", Inbound, icmp(Inbound, 8, 1, 9), "no_rule"),
        ("ICMP of another type", Inbound, icmp(Inbound, 13, 0, 9), "no_rule"),
    ] {
        let world = World::new(&rules[..]);
        assert_eq!(world.judge(direction, packet), expected, "{what}");
        assert_eq!(world.heap.flows().len(), usize::from(expected.ends_with("opened")), "{what}");
    }
}

#[test]
fn flags_that_no_endpoint_sends_are_dropped_before_flow_and_rule() {
    let rules = [peer(Inbound, Table::Tcp, 443)];
    for flags in 0..=u8::MAX {
        let sane = matches!(
            (flags & FIN != 0, flags & SYN != 0, flags & RST != 0, flags & ACK != 0),
            (false, true, false, _) | (false, false, true, _) | (_, false, false, true)
        );
        let world = World::new(&rules[..]);
        let said = world.judge(Inbound, tcp(Inbound, 443, 40_000, flags));
        assert_eq!(said == "invalid_tcp_flags", !sane, "{flags:#x}: {said}");
        let world = World::new(&rules[..]);
        world.connect(Inbound, 443, 40_000, 1);
        let before = world.flow();
        for direction in Direction::ALL {
            let said = world.judge(direction, tcp(direction, 443, 40_000, flags));
            assert_eq!(said == "invalid_tcp_flags", !sane, "in a flow, {flags:#x}: {said}");
        }
        assert!(sane || world.flow() == before, "it changes nothing");
    }
    for flags in [SYN | PSH | URG | 0xc0, ACK | PSH | URG | 0xc0] {
        let world = World::new(&rules[..]);
        let said = world.judge(Inbound, tcp(Inbound, 443, 40_000, flags));
        assert_eq!(said, "rule 1, opened", "the others do not matter: {flags:#x}");
    }
    let world = World::new(&[anyone(Inbound, Table::Udp, 443)][..]);
    let odd = Packet { tcp_flags: SYN | FIN, ..udp(Inbound, 443, 40_000) };
    assert_eq!(world.judge(Inbound, odd), "rule 1, opened", "only TCP has flags");
}

#[test]
fn earlier_rows_come_first() {
    let world = |flags| {
        let rules = vec![peer(Outbound, Table::Tcp, 443), peer(Outbound, Table::Udp, 67)];
        World::new(Policy { flags, rules, ..Policy::default() })
    };
    let foreign = |packet| Packet { source: STRANGER, ..packet };
    let dhcp = Packet { source: Addr::v4(0), ..udp(Outbound, 68, 67) };
    for (what, flags, packet, expected) in [
        ("infrastructure before source check", flag::DHCP | flag::SOURCE_CHECK, dhcp, "infrastructure"),
        ("infrastructure before rules", flag::DHCP, udp(Outbound, 68, 67), "infrastructure"),
        ("without it the rule", 0, udp(Outbound, 68, 67), "rule 1, opened"),
        ("source check before flags", flag::SOURCE_CHECK, foreign(tcp(Outbound, 1, 443, 0)), "source_check"),
        (
            "source check before rules",
            flag::SOURCE_CHECK,
            foreign(tcp(Outbound, 1, 443, SYN)),
            "source_check",
        ),
        ("flags before rules", 0, tcp(Outbound, 1, 22, SYN | FIN), "invalid_tcp_flags"),
    ] {
        assert_eq!(world(flags).judge(Outbound, packet), expected, "{what}");
    }
    let mut world = world(0);
    world.connect(Outbound, 40_000, 443, 1);
    let later = tcp(Outbound, 40_000, 443, ACK);
    assert_eq!(world.judge(Outbound, later), "flow 1");
    world.nodes[1 + ZONE as usize].words[zone_word::FLAGS] |= flag::SOURCE_CHECK;
    world.nodes[1 + ZONE as usize].words[zone_word::OWN] = 0;
    assert_eq!(world.judge(Outbound, later), "source_check", "before the flow table");
}
