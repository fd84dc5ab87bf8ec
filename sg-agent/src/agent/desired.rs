//! What a policy means for the interfaces that are there: who is enforced on, who carries which
//! group, and what each zone of the image says. Pure: interfaces come in as values.

use sg_common::addr::Prefix;

use super::zones::{Slot, ZoneTable};
use crate::{
    compile::Zone,
    kernel::links::Interface,
    policy::{Infrastructure, InterfaceEntry, Membership, Mode, Policy, matching::Matcher},
};

/// An interface that an entry of the policy matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matched<'a> {
    /// The interface.
    pub interface: &'a Interface,
    /// Its entry.
    pub entry: &'a InterfaceEntry,
    /// The addresses of the instance: those that the entry states, else the interface's own.
    pub addresses: Vec<Prefix>,
}

/// The interfaces that a policy is to be enforced on, in the order of `interfaces`. Loopback is
/// never among them: a host talks to itself through it.
#[must_use]
pub fn matched<'a>(policy: &'a Policy, interfaces: &'a [Interface]) -> Vec<Matched<'a>> {
    let matcher = Matcher::new(policy);
    interfaces
        .iter()
        .filter(|interface| !is_loopback(interface))
        .filter_map(|interface| {
            let entry = policy.interfaces.get(matcher.entry_for(&interface.name)?)?;
            let addresses = entry.addresses.clone().unwrap_or_else(|| interface.addresses.clone());
            Some(Matched { interface, entry, addresses })
        })
        .collect()
}

/// Whether this is the loopback interface.
#[must_use]
pub fn is_loopback(interface: &Interface) -> bool {
    interface.name == "lo"
}

/// The addresses that carry each group: its members, and those of the matched interfaces that
/// carry it.
#[must_use]
pub fn membership(policy: &Policy, matched: &[Matched<'_>]) -> Membership {
    let carried = matched.iter().map(|matched| (&matched.entry.groups[..], &matched.addresses[..]));
    Membership::carried(policy, carried)
}

/// The zones of an image, by number.
#[must_use]
pub fn zones(policy: &Policy, table: &ZoneTable, matched: &[Matched<'_>]) -> Vec<Option<Zone>> {
    (0..table.len())
        .map(|number| match table.0.get(&number)? {
            Slot::Used(ifindex) => {
                matched.iter().find(|matched| matched.interface.ifindex == *ifindex).map(|matched| {
                    Zone::of(policy, matched.entry, &matched.addresses, matched.interface.bare_ip)
                })
            }
            Slot::Retired(_) => Some(retired()),
        })
        .collect()
}

/// The zones of an image, with those that a table has besides.
#[must_use]
pub fn with_retired(table: &ZoneTable, zones: &[Option<Zone>]) -> Vec<Option<Zone>> {
    (0..table.len())
        .map(|number| match table.0.get(&number) {
            Some(Slot::Retired(_)) => Some(retired()),
            _ => zones.get(number as usize).cloned().flatten(),
        })
        .collect()
}

/// What an interface that is left alone meets until its programs are gone: everything passes.
fn retired() -> Zone {
    Zone {
        groups: Vec::new(),
        side: crate::policy::Side::Host,
        mode: Mode::Audit,
        source_check: false,
        infrastructure: Infrastructure::default(),
        own: Vec::new(),
        macs: Vec::new(),
        ethertypes: Vec::new(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::document::{Limits, parse_str};

    pub(in crate::agent) fn interface(ifindex: u32, name: &str, addresses: &[&str]) -> Interface {
        Interface {
            ifindex,
            name: name.to_owned(),
            kind: None,
            arphrd: 1,
            bare_ip: false,
            is_supported: true,
            mac: vec![2, 0, 0, 0, 0, 1],
            is_up: true,
            xdp_program: None,
            addresses: addresses.iter().map(|address| Prefix::parse(address).unwrap().0).collect(),
        }
    }

    pub(in crate::agent) fn policy(text: &str) -> Policy {
        let loaded = parse_str("p.yaml", &format!("version: 1\n{text}"), &Limits::default());
        assert_eq!(loaded.errors, []);
        loaded.policy.unwrap()
    }

    const POLICY: &str = "
groups:
  web: {members: [192.0.2.1]}
  db: {}
interfaces:
  - {match: eth0, groups: [web]}
  - {match: 'tap*', side: guest, groups: [web, db], addresses: [10.0.2.7]}
  - {match: 'l*', side: guest, groups: [db]}
";

    fn texts(prefixes: &[Prefix]) -> Vec<String> {
        prefixes.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn groups_have_their_members_and_the_addresses_of_who_carries_them() {
        let policy = policy(POLICY);
        let interfaces = [
            interface(1, "lo", &["127.0.0.1"]),
            interface(2, "eth0", &["10.0.0.1", "2001:db8::1"]),
            interface(3, "eth1", &["10.9.9.9"]),
            interface(4, "tap3", &["10.8.8.8"]),
        ];
        let matched = matched(&policy, &interfaces);
        let names: Vec<_> = matched.iter().map(|matched| matched.interface.name.as_str()).collect();
        assert_eq!(names, ["eth0", "tap3"]);
        let members = membership(&policy, &matched);
        let web = policy.group("web").unwrap();
        let db = policy.group("db").unwrap();
        assert_eq!(texts(members.of(db)), ["10.0.2.7/32"]);
        let mut expected = texts(members.of(web));
        expected.sort();
        assert_eq!(expected, ["10.0.0.1/32", "10.0.2.7/32", "192.0.2.1/32", "2001:db8::1/128"]);
        assert_eq!(texts(Membership::stated(&policy).of(web)).len(), 2);
    }

    #[test]
    fn zones_say_what_their_entry_says_and_retired_ones_stop_nothing() {
        let policy = policy(POLICY);
        let interfaces = [interface(2, "eth0", &["10.0.0.1"]), interface(4, "tap3", &[])];
        let matched = matched(&policy, &interfaces);
        let before = ZoneTable([(0, Slot::Used(9)), (2, Slot::Used(4))].into());
        let present = BTreeSet::from([2, 4, 9]);
        let (table, given) = before.assign(&[2, 4], &present, &BTreeMap::new());
        assert_eq!(given, [1]);
        let zones = zones(&policy, &table, &matched);
        assert_eq!(zones.len(), 3);
        let left_alone = zones[0].as_ref().unwrap();
        assert_eq!((left_alone.mode, left_alone.groups.len()), (Mode::Audit, 0));
        let host = zones[1].as_ref().unwrap();
        assert!(!host.source_check && host.own.is_empty());
        let guest = zones[2].as_ref().unwrap();
        assert!(guest.source_check);
        assert_eq!(texts(&guest.own), ["10.0.2.7/32"]);
    }
}
