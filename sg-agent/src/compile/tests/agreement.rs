//! Random policies, asked at and around everything that they mention.

use std::collections::BTreeSet;

use proptest::{collection::vec, prelude::*, sample::select};

use super::*;

/// Prefixes around a few addresses, so that they meet often: nested, adjacent, equal, whole, single.
fn prefix_of(family: Family) -> BoxedStrategy<Prefix> {
    let odd = any::<u64>();
    match family {
        Family::V4 => {
            let bits = prop_oneof![
                9 => select(vec![0, 0x0a00_0000, 0x0a00_00ff, 0x0a00_0100, 0x0aff_ffff, 0x0b00_0000, u32::MAX]),
                1 => any::<u32>(),
            ];
            let length = prop_oneof![
                4 => select(vec![0_u8, 1, 7, 8, 9, 24, 30, 31, 32]),
                1 => 0..=32_u8,
            ];
            (bits, length).prop_map(|(bits, length)| Prefix::new(Addr::v4(bits), length).unwrap()).boxed()
        }
        Family::V6 => {
            let db8 = 0x2001_0db8_0000_0000;
            let high = select(vec![0, 1, db8, db8 + 1, db8 + 2, u64::MAX]);
            let low = prop_oneof![6 => select(vec![0, 1, 2, 1 << 63, u64::MAX - 1, u64::MAX]), 1 => odd];
            let length = prop_oneof![
                4 => select(vec![0_u8, 1, 32, 63, 64, 65, 96, 127, 128]),
                1 => 0..=128_u8,
            ];
            (high, low, length)
                .prop_map(|(high, low, length)| Prefix::new(Addr::v6(high, low), length).unwrap())
                .prop_filter("not IPv4", |prefix| prefix.family() == Family::V6)
                .boxed()
        }
    }
}

fn any_prefix() -> impl Strategy<Value = Prefix> {
    prop_oneof![prefix_of(Family::V4), prefix_of(Family::V6)]
}

fn service() -> impl Strategy<Value = Service> {
    let port = prop_oneof![select(vec![0_u16, 1, 80, 443, 444, 8080, u16::MAX - 1, u16::MAX]), any::<u16>()];
    let range = (port.clone(), port).prop_map(|(a, b)| (a.min(b), a.max(b)));
    let kind = select(vec![0_u8, 3, 8, 128, 255]);
    let icmp = prop_oneof![
        Just(None),
        kind.clone().prop_map(|kind| Some((kind, None))),
        (kind.clone(), kind).prop_map(|(kind, code)| Some((kind, Some(code)))),
    ];
    prop_oneof![
        2 => Just(Service::All),
        1 => Just(Service::Tcp(0, u16::MAX)),
        8 => range.clone().prop_map(|(first, last)| Service::Tcp(first, last)),
        4 => range.prop_map(|(first, last)| Service::Udp(first, last)),
        2 => icmp.clone().prop_map(|which| Service::Icmp(Family::V4, which)),
        2 => icmp.prop_map(|which| Service::Icmp(Family::V6, which)),
        2 => select(vec![0_u8, 47, 132, 255]).prop_map(|number| Service::Protocol(Protocol(number))),
    ]
}

/// A policy of four groups and three lists.
fn any_policy() -> impl Strategy<Value = Policy> {
    let peer = || {
        prop_oneof![
            6 => any_prefix().prop_map(Peer::Prefix),
            1 => select(vec![Prefix::ANY_V4, Prefix::ANY_V6]).prop_map(Peer::Prefix),
            2 => (0..3_usize).prop_map(|list| Peer::PrefixList(PrefixListIndex(list))),
            2 => (0..4_usize).prop_map(|group| Peer::Group(GroupIndex(group))),
        ]
    };
    let rules = move || {
        vec(
            (vec(service(), 1..4), vec(peer(), 1..4)).prop_map(|(services, peers)| rule(services, peers)),
            0..5,
        )
    };
    let groups = vec((rules(), rules(), vec(any_prefix(), 0..3)), 4);
    (groups, vec(vec(any_prefix(), 0..6), 3)).prop_map(|(groups, lists)| Policy {
        groups: groups
            .into_iter()
            .zip(["a", "b", "c", "d"])
            .map(|((inbound, outbound, members), name)| Group { members, ..group(name, inbound, outbound) })
            .collect(),
        prefix_lists: lists
            .into_iter()
            .zip(["x", "y", "z"])
            .map(|(entries, name)| list(name, entries))
            .collect(),
        interfaces: Vec::new(),
    })
}

/// The prefixes that a peer stands for.
fn prefixes_of<'a>(policy: &'a Policy, peer: &'a Peer) -> &'a [Prefix] {
    match peer {
        Peer::Prefix(prefix) => std::slice::from_ref(prefix),
        Peer::PrefixList(list) => &policy.prefix_lists[list.0].entries,
        Peer::Group(group) => &policy.groups[group.0].members,
    }
}

/// What the policy says of one remote address, before it is known what is asked of it.
struct Reading<'a> {
    family: Family,
    /// The rules of the groups that name the address, in the policy's order.
    naming: Vec<(RuleIndex, &'a Rule)>,
    /// Those that name its whole family.
    anywhere: Vec<&'a Rule>,
}

impl<'a> Reading<'a> {
    fn of(policy: &'a Policy, groups: &[usize], direction: Direction, remote: Addr) -> Self {
        let rules =
            || policy.rules().filter(|(at, _)| at.direction == direction && groups.contains(&at.group.0));
        let names = |rule: &Rule, matches: &dyn Fn(&Prefix) -> bool| {
            rule.peers.iter().flat_map(|peer| prefixes_of(policy, peer)).any(matches)
        };
        let family = remote.family();
        let anywhere = rules().map(|(_, rule)| rule);
        Self {
            family,
            naming: rules().filter(|(_, rule)| names(rule, &|prefix| prefix.contains(remote))).collect(),
            anywhere: anywhere.filter(|rule| names(rule, &|prefix| *prefix == Prefix::any(family))).collect(),
        }
    }

    /// The first rule that allows it, and whether one does so for every address.
    fn answer(&self, selector: Selector) -> (Option<RuleIndex>, bool) {
        let opens = |rule: &Rule| rule.services.iter().any(|service| service.matches(self.family, selector));
        let first = self.naming.iter().find(|(_, rule)| opens(rule)).map(|(at, _)| *at);
        (first, self.anywhere.iter().any(|rule| opens(rule)))
    }
}

/// Every address that begins or ends something, its neighbours, and a few others.
fn addresses(policy: &Policy) -> BTreeSet<Addr> {
    let listed = policy.prefix_lists.iter().flat_map(|list| &list.entries);
    let members = policy.groups.iter().flat_map(|group| &group.members);
    let peers = policy.rules().flat_map(|(_, rule)| &rule.peers).filter_map(|peer| match peer {
        Peer::Prefix(prefix) => Some(prefix),
        _ => None,
    });
    let mut found: BTreeSet<Addr> = [
        Addr::v4(0),
        Addr::v4(u32::MAX),
        Addr::v4(0x0808_0808),
        Addr::v6(0, 0),
        Addr::v6(u64::MAX, u64::MAX),
    ]
    .into();
    for prefix in listed.chain(members).chain(peers) {
        let (first, last) = (prefix.first().to_bits(), prefix.last().to_bits());
        let around = [first, first.wrapping_sub(1), last, last.wrapping_add(1), first + (last - first) / 2];
        found.extend(around.map(Addr::from_bits).into_iter().filter(|addr| addr.family() == prefix.family()));
    }
    found
}

fn selectors(policy: &Policy) -> BTreeSet<Selector> {
    let mut found = BTreeSet::new();
    for table in Table::ALL {
        for value in [0, 1, 443, u16::MAX] {
            found.insert(Selector { table, value });
        }
    }
    for service in policy.rules().flat_map(|(_, rule)| &rule.services) {
        for (table, first, last) in Family::ALL.into_iter().flat_map(|family| service.ranges(family)) {
            for value in [first, first.wrapping_sub(1), last, last.wrapping_add(1)] {
                found.insert(Selector { table, value });
            }
        }
    }
    found
}

/// Prime to the five addresses that a prefix adds.
const STRIDE: usize = 11;

const UNIONS: [&[usize]; 5] = [&[0], &[1, 0], &[2, 1, 0, 2], &[3], &[]];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn the_image_answers_as_the_policy_reads(policy in any_policy(), stride in 1_u32..1000) {
        let members = Membership::written(&policy);
        // Numbers that neither follow the policy's order nor are dense.
        let mut count = 0;
        let numbers = RuleNumbers::from_fn(&policy, |_| {
            count += 1;
            RuleNumber((100 - count) * stride)
        });
        let mut zones: Vec<_> = UNIONS.iter().map(|groups| super::zone(groups)).collect();
        zones.insert(2, None);
        let input = Input { policy: &policy, members: &members, zones: &zones, numbers: &numbers };
        let image = compile(&input, &ROOMY).unwrap();
        prop_assert_eq!(image.verify(), Ok(()));
        prop_assert_eq!(&image, &compile(&input, &ROOMY).unwrap());
        let (addresses, selectors) = (addresses(&policy), selectors(&policy));
        for (number, zone) in (0..).zip(&zones) {
            let groups: Vec<_> = zone.iter().flat_map(|zone| &zone.groups).map(|group| group.0).collect();
            for direction in Direction::ALL {
                for (place, remote) in addresses.iter().enumerate() {
                    let reading = Reading::of(&policy, &groups, direction, *remote);
                    // Each address is asked for some selectors, and each selector of some addresses.
                    for selector in selectors.iter().skip(place % STRIDE).step_by(STRIDE) {
                        let word = ask(&image, number, direction, *remote, *selector);
                        let (first, anywhere) = reading.answer(*selector);
                        let expected = (first.and_then(|at| numbers.get(at)), anywhere);
                        // Tells more than the assertion's own message, and is made only when needed.
                        if (word.rule(), word.is_anywhere()) != expected {
                            prop_assert!(false, "{direction} {remote} {selector:?} of {groups:?}: {word:?}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_zone_says_which_protocols_are_open_to_anyone(policy in any_policy()) {
        let zones: Vec<_> = UNIONS.iter().map(|groups| super::zone(groups)).collect();
        let image = compiled(&policy, &zones, ROOMY).unwrap();
        for (number, groups) in (0..).zip(UNIONS) {
            let flags = lookup::zone(&image, number).unwrap().words[zone_word::FLAGS];
            for direction in Direction::ALL {
                for (family, remote) in [(Family::V4, Addr::v4(7)), (Family::V6, Addr::v6(7, 7))] {
                    for (table, first) in [(Table::Tcp, flag::OPEN_TCP), (Table::Udp, flag::OPEN_UDP)] {
                        let reading = Reading::of(&policy, groups, direction, remote);
                        let mut asked = selectors(&policy).into_iter().filter(|of| of.table == table);
                        let open = asked.all(|of| reading.answer(of).1);
                        let bit = first << rule_set_slot(direction, family);
                        prop_assert_eq!(flags & bit != 0, open, "{} {} {:?}", direction, family, table);
                    }
                }
            }
        }
    }

    #[test]
    fn own_addresses_are_those_listed_and_no_others(own in vec(any_prefix(), 0..8)) {
        let policy = Policy { groups: vec![group("a", Vec::new(), Vec::new())], ..Policy::default() };
        let zones = [Some(Zone { own: own.clone(), source_check: true, ..super::zone(&[0]).unwrap() })];
        let image = compiled(&policy, &zones, ROOMY).unwrap();
        prop_assert_eq!(image.verify(), Ok(()));
        let listed = Policy { prefix_lists: vec![list("own", own.clone())], ..policy };
        let zone = lookup::zone(&image, 0).unwrap();
        for address in addresses(&listed) {
            let expected = own.iter().any(|prefix| prefix.contains(address));
            prop_assert_eq!(lookup::is_own(&image, zone, address), Ok(expected), "{}", address);
        }
    }
}
