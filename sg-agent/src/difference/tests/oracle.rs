//! Random policies, against the slow, obvious reading of both.

use std::collections::BTreeSet;

use proptest::{collection::vec, prelude::*, sample::select};
use sg_common::{
    addr::{Addr, Prefix},
    tuple::{Protocol, Selector, Table, Tuple},
};

use super::*;
use crate::{
    difference::lines::Part,
    policy::{Group, Mode, Peer, Position, Rule, Service, eval::eval},
};

const GROUPS: [GroupIndex; 2] = [GroupIndex(0), GroupIndex(1)];

fn prefix() -> impl Strategy<Value = Prefix> {
    let v4 = (select(vec![0, 0x0a00_0000, 0x0a00_00ff, 0x0a00_0100, 0x0b00_0000, u32::MAX]), 0..=4_usize)
        .prop_map(|(bits, length)| Prefix::new(Addr::v4(bits), [0, 8, 24, 31, 32][length]).unwrap());
    let v6 = (select(vec![0, 1, 0x2001_0db8_0000_0000, u64::MAX]), select(vec![0, 1, u64::MAX]), 0..=4_usize)
        .prop_map(|(high, low, length)| {
            Prefix::new(Addr::v6(high, low), [0, 32, 64, 127, 128][length]).unwrap()
        })
        .prop_filter("not IPv4", |prefix| prefix.family() == Family::V6);
    prop_oneof![v4, v6]
}

fn service() -> impl Strategy<Value = Service> {
    let port = || select(vec![0_u16, 1, 80, 443, 444, u16::MAX]);
    let kind = || select(vec![0_u8, 3, 8, 255]);
    let icmp = move || {
        prop_oneof![
            Just(None),
            kind().prop_map(|kind| Some((kind, None))),
            (kind(), kind()).prop_map(|(kind, code)| Some((kind, Some(code)))),
        ]
    };
    prop_oneof![
        Just(Service::All),
        (port(), port()).prop_map(|(a, b)| Service::Tcp(a.min(b), a.max(b))),
        (port(), port()).prop_map(|(a, b)| Service::Udp(a.min(b), a.max(b))),
        icmp().prop_map(|which| Service::Icmp(Family::V4, which)),
        icmp().prop_map(|which| Service::Icmp(Family::V6, which)),
        select(vec![0_u8, 47, 48, 255]).prop_map(|number| Service::Protocol(Protocol(number))),
    ]
}

fn nowhere() -> Position {
    Position { file: "p.yaml".into(), line: 1, column: 1 }
}

/// Two groups with members, whose rules name prefixes and each other.
fn any_policy() -> impl Strategy<Value = Policy> {
    let peer = prop_oneof![
        4 => prefix().prop_map(Peer::Prefix),
        1 => select(GROUPS.to_vec()).prop_map(Peer::Group),
    ];
    let rule = (vec(service(), 1..3), vec(peer, 1..3)).prop_map(|(services, peers)| Rule {
        id: None,
        description: None,
        services,
        peers,
        position: nowhere(),
        is_default: false,
    });
    vec((vec(rule, 0..4), vec(prefix(), 0..3)), 2).prop_map(|groups| Policy {
        groups: groups
            .into_iter()
            .zip(["a", "b"])
            .map(|((inbound, members), name)| Group {
                name: name.to_owned(),
                description: None,
                tags: std::collections::BTreeMap::new(),
                members,
                mode: Mode::Enforce,
                inbound,
                outbound: vec![],
                position: nowhere(),
            })
            .collect(),
        ..Policy::default()
    })
}

/// Where an answer may change, and one step before and behind.
fn addresses(policies: [&Policy; 2]) -> BTreeSet<Addr> {
    let mut found =
        BTreeSet::from([Addr::v4(0), Addr::v4(u32::MAX), Addr::v6(0, 0), Addr::v6(u64::MAX, u64::MAX)]);
    for policy in policies {
        let named = policy.rules().flat_map(|(_, rule)| &rule.peers).filter_map(|peer| match peer {
            Peer::Prefix(prefix) => Some(*prefix),
            _ => None,
        });
        let members = policy.groups.iter().flat_map(|group| group.members.iter().copied());
        for prefix in named.chain(members) {
            let near = |bits: u128, by: i8| match prefix.family() {
                Family::V4 => Addr::v4((bits as u32).wrapping_add_signed(by.into())),
                Family::V6 => Addr::from_bits(bits.wrapping_add_signed(by.into())),
            };
            for by in [-1, 0, 1] {
                found.insert(near(prefix.first().to_bits(), by));
                found.insert(near(prefix.last().to_bits(), by));
            }
        }
    }
    // A neighbour of IPv4's part of IPv6 is none of either.
    found.retain(|address| !address.is_v4() || address.hi() == 0);
    found
}

fn selectors() -> Vec<Selector> {
    let ports = [0, 1, 2, 79, 80, 81, 443, 444, 445, u16::MAX - 1, u16::MAX];
    let messages = [0, 1, 255, 0x300, 0x303, 0x308, 0x3ff, 0x400, 0x800, 0x8ff, 0xff00, 0xffff];
    let of = |table| move |value: &u16| Selector { table, value: *value };
    [Table::Tcp, Table::Udp]
        .into_iter()
        .flat_map(|table| ports.iter().map(of(table)).collect::<Vec<_>>())
        .chain(messages.iter().map(of(Table::Icmp)))
        .chain([0, 46, 47, 48, 49, 254, 255].iter().map(of(Table::Other)))
        .collect()
}

fn holds(part: &Part, family: Family, address: u128, selector: Selector) -> bool {
    part.addresses.family() == family
        && part.addresses.ranges().iter().any(|(first, last)| (first..=last).contains(&&address))
        && part.opened.0[selector.table as usize]
            .iter()
            .any(|(first, last)| (first..=last).contains(&&selector.value))
}

fn number(address: Addr) -> u128 {
    match address.family() {
        Family::V4 => address.v4_bits().into(),
        Family::V6 => address.to_bits(),
    }
}

/// No prefix holds another, and no two make up a larger one.
fn are_the_fewest(prefixes: &[Prefix]) -> bool {
    let parent = |prefix: &Prefix| {
        prefix.length().checked_sub(1).and_then(|length| Prefix::new(prefix.first(), length))
    };
    prefixes.windows(2).all(|pair| {
        pair[0].last() < pair[1].first()
            && (pair[0].length() != pair[1].length() || parent(&pair[0]) != parent(&pair[1]))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn gained_is_what_passes_after_and_did_not_before(before in any_policy(), after in any_policy()) {
        let members = [Membership::written(&before), Membership::written(&after)];
        let reach = |policy, members| Reach::Rules { policy, members, groups: &GROUPS };
        let change =
            change(reach(&before, &members[0]), reach(&after, &members[1]), Direction::Inbound).unwrap();
        for address in addresses([&before, &after]) {
            for selector in selectors() {
                let protocol = Protocol(selector.value as u8);
                let tuple = Tuple { local: address, remote: address, protocol, selector };
                let passes = |policy, members| {
                    eval(policy, members, &GROUPS, Direction::Inbound, &tuple).is_some()
                };
                let [old, new] = [passes(&before, &members[0]), passes(&after, &members[1])];
                let holding = |lines: &[Line]| {
                    lines
                        .iter()
                        .flat_map(Line::parts)
                        .filter(|part| holds(part, address.family(), number(address), selector))
                        .count()
                };
                prop_assert_eq!(holding(&change.gains), usize::from(new && !old), "{} {:?}", address, selector);
                prop_assert_eq!(holding(&change.losses), usize::from(old && !new), "{} {:?}", address, selector);
            }
        }
        for lines in [&change.gains, &change.losses] {
            for (at, line) in lines.iter().enumerate() {
                prop_assert!(!line.services().is_empty());
                for part in line.parts() {
                    let prefixes: Vec<Prefix> = part.addresses.prefixes().collect();
                    prop_assert!(are_the_fewest(&prefixes), "{:?}", prefixes);
                    // Lines have no address in common: what one gains is in one line.
                    for other in lines[at + 1..].iter().flat_map(Line::parts) {
                        let meets = |prefix: &Prefix| {
                            other.addresses.prefixes().any(|it| it.covers(*prefix) || prefix.covers(it))
                        };
                        prop_assert!(!prefixes.iter().any(meets));
                        prop_assert!(
                            other.addresses.family() != part.addresses.family() || other.opened != part.opened,
                            "two lines gain the same"
                        );
                    }
                }
            }
        }
        let back = super::change(reach(&after, &members[1]), reach(&before, &members[0]), Direction::Inbound);
        let back = back.unwrap();
        prop_assert_eq!((back.gains, back.losses), (change.losses, change.gains));
    }
}
