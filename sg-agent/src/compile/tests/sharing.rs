//! Equal parts are stored once, and equal input gives equal bytes.

use super::*;

/// `count` prefixes of 28 bits, none beside another.
fn many(count: u32) -> Vec<Prefix> {
    (0..count).map(|at| Prefix::new(Addr::v4(0x0a00_0000 + at * 64), 28).unwrap()).collect()
}

fn listed(services: Vec<Service>) -> Rule {
    rule(services, vec![Peer::PrefixList(PrefixListIndex(0))])
}

/// One list of prefixes, which both directions of two groups name.
fn policy() -> Policy {
    let services = || vec![Service::Tcp(22, 22), Service::Tcp(80, 90), Service::Udp(53, 53)];
    Policy {
        groups: vec![
            group("a", vec![listed(services())], vec![Rule::default_outbound(nowhere())]),
            group(
                "b",
                vec![rule(vec![Service::All], vec![peer("10.0.0.0/8"), peer("2001:db8::/32")])],
                vec![],
            ),
        ],
        prefix_lists: vec![list("x", many(5_000))],
        interfaces: Vec::new(),
    }
}

#[test]
fn zones_of_the_same_groups_cost_one_node_each() {
    let policy = policy();
    let nodes = |zones: &[Option<Zone>]| compiled(&policy, zones, ROOMY).unwrap().nodes().len();
    let one = nodes(&[zone(&[0, 1])]);
    assert_eq!(nodes(&[zone(&[0, 1]), zone(&[1, 0]), zone(&[0, 1, 0])]), one + 2);
    assert_eq!(nodes(&[zone(&[0, 1]), None]), one + 1);
    assert!(nodes(&[zone(&[0]), zone(&[0, 1])]) > one + 1, "other groups are another rule set");
}

#[test]
fn equal_addresses_share_keys_whatever_they_open() {
    let mut policy = policy();
    policy.groups[0].outbound = vec![listed(vec![Service::Tcp(443, 443)])];
    let both = compiled(&policy, &[zone(&[0])], ROOMY).unwrap().nodes().len();
    policy.groups[0].outbound.clear();
    let inbound = compiled(&policy, &[zone(&[0])], ROOMY).unwrap().nodes().len();
    // Ten thousand intervals: 626 key nodes that are there already, 313 value nodes that differ.
    assert!(both - inbound < 320, "{both} and {inbound} nodes");
}

#[test]
fn prefixes_that_open_the_same_are_one_interval() {
    let apart = ["10.0.0.0/25", "10.0.0.128/25", "10.0.1.0/24"].map(peer).to_vec();
    let wide = rule(vec![Service::Tcp(22, 22)], vec![peer("10.0.0.0/23")]);
    let named = Policy {
        // The second rule names the same addresses for less, so that it changes nothing.
        groups: vec![group("a", vec![wide.clone(), rule(vec![Service::Tcp(22, 22)], apart)], vec![])],
        ..Policy::default()
    };
    let alone = Policy { groups: vec![group("a", vec![wide], vec![])], ..Policy::default() };
    let [named, alone] = [named, alone].map(|policy| compiled(&policy, &[zone(&[0])], ROOMY).unwrap());
    assert_eq!(named.stats().intervals, 3);
    assert_eq!(named.nodes(), alone.nodes());
}

#[test]
fn what_is_open_to_all_takes_no_tree() {
    let default = vec![Rule::default_outbound(nowhere())];
    let policy = Policy { groups: vec![group("a", vec![], default)], ..Policy::default() };
    let image = compiled(&policy, &[zone(&[0])], ROOMY).unwrap();
    // Header, zone, the two standing classes with the one that opens all, two equal rule sets.
    assert_eq!(image.nodes().len(), 5);
    let word = ask(&image, 0, Direction::Outbound, address("2001:db8::1"), tcp(25));
    assert_eq!((word.rule(), word.is_anywhere()), (Some(RuleNumber(0)), true));
}

#[test]
fn equal_input_gives_equal_bytes_and_the_order_of_groups_means_nothing() {
    let policy = policy();
    let image = compiled(&policy, &[zone(&[0, 1])], ROOMY).unwrap();
    for _ in 0..4 {
        // Every run seeds its hash maps anew.
        let again = compiled(&policy, &[zone(&[1, 0, 1])], ROOMY).unwrap();
        assert_eq!(image.bytes(), again.bytes());
    }
    let mut other = policy;
    other.groups[0].inbound[0].services[0] = Service::Tcp(23, 23);
    let other = compiled(&other, &[zone(&[0, 1])], ROOMY).unwrap();
    assert_ne!(image.digest(), other.digest());
}
