//! What a zone's record says, and what is refused.

use super::*;

fn open_policy() -> Policy {
    let any = || vec![peer("0.0.0.0/0")];
    let halves = vec![
        rule(vec![Service::Tcp(0, 30_000)], any()),
        rule(vec![Service::Tcp(30_001, u16::MAX)], any()),
        rule(vec![Service::Udp(0, u16::MAX - 1)], any()),
    ];
    Policy { groups: vec![group("a", halves, vec![])], ..Policy::default() }
}

#[test]
fn a_link_local_address_that_is_listed_is_the_only_one() {
    for (own, is_any) in [("2001:db8::1/128", true), ("fe80::7/128", false), ("fe80::/64", false)] {
        let mut zone = zone(&[0]).unwrap();
        (zone.source_check, zone.own) = (true, vec![Prefix::parse(own).unwrap().0]);
        let image = compiled(&open_policy(), &[Some(zone)], ROOMY).unwrap();
        let flags = lookup::zone(&image, 0).unwrap().words[zone_word::FLAGS];
        assert_eq!(flags & flag::ANY_LINK_LOCAL != 0, is_any, "{own}");
    }
}

#[test]
fn flags_say_what_the_entry_says_and_what_the_rules_open() {
    let mut zones = [zone(&[0]), zone(&[0]), None];
    let first = zones[0].as_mut().unwrap();
    first.infrastructure.dhcp = false;
    let second = zones[1].as_mut().unwrap();
    (second.side, second.mode, second.source_check) = (Side::Host, Mode::Audit, true);
    let image = compiled(&open_policy(), &zones, ROOMY).unwrap();
    let flags = |number| lookup::zone(&image, number).unwrap().words[zone_word::FLAGS];
    let all = flag::ARP | flag::NDP | flag::DHCP | flag::MLD | flag::ANY_LINK_LOCAL;
    let tcp = flag::OPEN_TCP << rule_set_slot(Direction::Inbound, Family::V4);
    assert_eq!(flags(0), flag::GUEST | all ^ flag::DHCP | tcp);
    assert_eq!(flags(1), flag::AUDIT | flag::SOURCE_CHECK | all | tcp);
    let mut vacant = sg_common::image::Node::ZERO;
    vacant.words[zone_word::MARK] = sg_common::image::zone_mark(2);
    assert_eq!(image.node(3), Some(&vacant), "a vacant zone opens nothing");
    assert!(lookup::zone(&image, 3).is_err());
}

#[test]
fn permitted_ethertypes_are_found_and_too_many_are_refused() {
    let with = |ethertypes: Vec<u16>| {
        let zones = [Some(Zone { ethertypes, ..zone(&[0]).unwrap() })];
        compiled(&open_policy(), &zones, ROOMY)
    };
    let image = with(vec![0x88cc, 0x8902, 0x88cc, 0x888e]).unwrap();
    let record = lookup::zone(&image, 0).unwrap();
    for (ethertype, permitted) in
        [(0x88cc, true), (0x8902, true), (0x888e, true), (0x0800, false), (0, false)]
    {
        assert_eq!(lookup::permits_ethertype(record, ethertype), permitted, "{ethertype:#x}");
    }
    assert!(with((1..=8).collect()).is_ok());
    assert_eq!(with((1..=9).collect()), Err(CompileError::TooManyEthertypes { zone: 0, found: 9 }));
}

#[test]
fn rules_need_numbers_of_their_own_and_zones_groups_of_the_policy() {
    let policy = open_policy();
    let members = Membership::written(&policy);
    let with = |numbers: RuleNumbers| {
        compile(
            &Input { policy: &policy, members: &members, zones: &[zone(&[0])], numbers: &numbers },
            &ROOMY,
        )
    };
    let rule = |index: usize| format!("a/inbound/{index}");
    assert_eq!(with(RuleNumbers::default()), Err(CompileError::RuleNumber { rule: rule(0) }));
    let high = RuleNumbers::from_fn(&policy, |at| RuleNumber(RuleWord::MAX_RULE + at.index as u32));
    assert_eq!(with(high), Err(CompileError::RuleNumber { rule: rule(1) }));
    let number = RuleNumber(7);
    let same = RuleNumbers::from_fn(&policy, |at| if at.index == 1 { RuleNumber(6) } else { number });
    assert_eq!(with(same), Err(CompileError::SharedNumber { first: rule(0), second: rule(2), number }));
    let unknown = CompileError::NoSuchGroup { zone: 0, group: GroupIndex(4), groups: 1 };
    assert_eq!(compiled(&policy, &[zone(&[0, 4])], ROOMY), Err(unknown));
}

#[test]
fn what_does_not_fit_is_refused_with_both_numbers_and_the_group() {
    let small = rule(vec![Service::Tcp(22, 22)], vec![peer("10.0.0.0/8")]);
    let peers = (0..4_000).map(|at| Peer::Prefix(Prefix::new(Addr::v4(at * 512), 24).unwrap())).collect();
    let large = rule(vec![Service::Tcp(22, 22)], peers);
    let policy = Policy {
        groups: vec![group("small", vec![small], vec![]), group("large", vec![large], vec![])],
        ..Policy::default()
    };
    let zones = [zone(&[0]), zone(&[1])];
    let taken = compiled(&policy, &zones, ROOMY).unwrap().nodes().len();
    let limits = |nodes: usize| Limits { nodes: nodes as u32 };
    assert_eq!(compiled(&policy, &zones, limits(taken)).unwrap().nodes().len(), taken);
    let largest = "inbound of large".to_owned();
    let limit = taken as u32 - 1;
    let refused = CompileError::TooLarge { wanted: taken, exact: true, limit, largest: largest.clone() };
    assert_eq!(compiled(&policy, &zones, limits(taken - 1)), Err(refused));
    // Far beyond the limit the build gives up, and says so.
    match compiled(&policy, &zones, limits(100)) {
        Err(CompileError::TooLarge { wanted, exact: false, limit: 100, .. }) => assert!(wanted < taken),
        other => panic!("{other:?}"),
    }
}
