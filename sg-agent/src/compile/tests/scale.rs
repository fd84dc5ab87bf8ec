//! Policies that outgrow sixteen bits, and shapes that would take too long if they were expanded.

use super::*;

fn host(at: u32) -> Peer {
    Peer::Prefix(Prefix::host(Addr::v4(at)))
}

#[test]
fn more_than_65535_rules_and_classes_are_told_apart() {
    let count = 70_000;
    let rules = (0..count).map(|at| rule(vec![Service::Tcp(0, u16::MAX)], vec![host(at * 2)])).collect();
    let policy = Policy { groups: vec![group("a", rules, vec![])], ..Policy::default() };
    let image = compiled(&policy, &[zone(&[0])], ROOMY).unwrap();
    assert_eq!(image.verify(), Ok(()));
    assert!(image.stats().classes > count as usize);
    for at in [0, 1, 255, 32_767, 32_768, 65_534, 65_535, 65_536, count - 1] {
        let rule = ask(&image, 0, Direction::Inbound, Addr::v4(at * 2), tcp(443)).rule();
        assert_eq!(rule, Some(RuleNumber(at)));
        let beside = ask(&image, 0, Direction::Inbound, Addr::v4(at * 2 + 1), tcp(443)).rule();
        assert_eq!(beside, None);
    }
}

#[test]
fn a_later_rule_set_counts_its_classes_from_its_own_first() {
    let rules = |of: std::ops::Range<u32>| {
        of.map(|at| rule(vec![Service::Tcp(0, u16::MAX)], vec![host(at * 2)])).collect()
    };
    let policy = Policy {
        groups: vec![group("a", rules(0..40_000), vec![]), group("b", rules(0..40_000), vec![])],
        ..Policy::default()
    };
    let both = compiled(&policy, &[zone(&[0]), zone(&[1])], ROOMY).unwrap();
    let one = compiled(&policy, &[zone(&[0])], ROOMY).unwrap();
    assert_eq!(both.verify(), Ok(()));
    for at in [0, 20_000, 39_999] {
        let rule = ask(&both, 1, Direction::Inbound, Addr::v4(at * 2), tcp(443)).rule();
        assert_eq!(rule, Some(RuleNumber(40_000 + at)));
    }
    // The second zone: 40 000 classes of half a node, 80 000 values of two bytes, the same keys.
    assert_eq!(both.nodes().len() - one.nodes().len(), 1 + 20_000 + 2_500);
}

#[test]
fn more_than_65535_cut_high_halves_are_told_apart() {
    let peers = |count: u64| (1..=count).map(|at| Peer::Prefix(Prefix::host(Addr::v6(at * 2, at)))).collect();
    let rule = rule(vec![Service::Tcp(0, u16::MAX)], peers(66_000));
    let policy = Policy { groups: vec![group("a", vec![rule], vec![])], ..Policy::default() };
    let image = compiled(&policy, &[zone(&[0])], ROOMY).unwrap();
    assert_eq!(image.verify(), Ok(()));
    for at in [1, 65_535, 65_536, 66_000] {
        let ask = |high, low| ask(&image, 0, Direction::Inbound, Addr::v6(high, low), tcp(1)).rule();
        assert_eq!(ask(at * 2, at), Some(RuleNumber(0)));
        assert_eq!([ask(at * 2, at - 1), ask(at * 2, at + 1), ask(at * 2 + 1, at)], [None; 3]);
    }
}

#[test]
fn a_list_that_every_rule_names_is_walked_once() {
    // Expanded, these would be a hundred million prefixes.
    let entries = (0..10_000).map(|at| Prefix::host(Addr::v4(0x0a00_0000 + at * 2))).collect();
    let rules = (0..10_000).map(|at| {
        rule(vec![Service::Tcp(at, at)], vec![Peer::PrefixList(PrefixListIndex(0)), host(u32::from(at) * 2)])
    });
    let policy = Policy {
        groups: vec![group("a", rules.collect(), vec![])],
        prefix_lists: vec![list("x", entries)],
        interfaces: Vec::new(),
    };
    let image = compiled(&policy, &[zone(&[0])], ROOMY).unwrap();
    assert_eq!(image.stats().prefixes, 20_000);
    for port in [0, 1, 5_000, 9_999] {
        let of = |address| ask(&image, 0, Direction::Inbound, Addr::v4(address), tcp(port)).rule();
        assert_eq!(of(0x0a00_0002), Some(RuleNumber(port.into())));
        assert_eq!(of(u32::from(port) * 2), Some(RuleNumber(port.into())));
        assert_eq!(of(u32::from(port) * 2 + 1), None);
    }
    assert_eq!(ask(&image, 0, Direction::Inbound, Addr::v4(0x0a00_0002), tcp(10_000)), RuleWord::NONE);
}

#[test]
fn deep_nests_of_rules_of_their_own_add_up() {
    let rules = (0..=128).map(|length| {
        let nest = Prefix::new(Addr::v6(0x2001_0db8_0000_0001, 1), length).unwrap();
        rule(vec![Service::Tcp(length.into(), length.into())], vec![Peer::Prefix(nest)])
    });
    let policy = Policy { groups: vec![group("a", rules.collect(), vec![])], ..Policy::default() };
    let image = compiled(&policy, &[zone(&[0])], ROOMY).unwrap();
    let innermost = 0x2001_0db8_0000_0001_0000_0000_0000_0001_u128;
    for length in 1..=128 {
        // Differs first in the last bit of this length, so only the shorter prefixes hold it.
        let outside = Addr::from_bits(innermost ^ 1 << (128 - length));
        for port in 0..=128 {
            let rule = ask(&image, 0, Direction::Inbound, outside, tcp(port)).rule();
            assert_eq!(rule.is_some(), port < length, "port {port} at length {length}");
        }
    }
}

#[test]
fn a_thousand_rules_for_anyone_do_not_multiply_with_a_list() {
    let anywhere = (0..1_000).map(|at| rule(vec![Service::Tcp(at * 3, at * 3)], vec![peer("0.0.0.0/0")]));
    let from_list = rule(vec![Service::Udp(53, 53)], vec![Peer::PrefixList(PrefixListIndex(0))]);
    let policy = Policy {
        groups: vec![group("a", anywhere.chain([from_list]).collect(), vec![])],
        prefix_lists: vec![list("x", (0..20_000).map(|at| Prefix::host(Addr::v4(at * 2))).collect())],
        interfaces: Vec::new(),
    };
    let image = compiled(&policy, &[zone(&[0])], ROOMY).unwrap();
    // The two standing ones, the list's, everyone else's.
    assert_eq!(image.stats().classes, 4);
    assert_eq!(ask(&image, 0, Direction::Inbound, Addr::v4(2), tcp(2_997)).rule(), Some(RuleNumber(999)));
}
