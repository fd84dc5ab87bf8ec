//! What the rules say: [`eval`] for one packet, and for the question who else may pass.

use std::net::IpAddr;

use sg_agent::{
    compile::RuleNumbers,
    policy::{GroupIndex, Membership, Peer, Policy, Rule, Service, eval},
};
use sg_common::{
    addr::{Addr, Family, Prefix},
    tuple::{Direction, Protocol, Selector, Table, Tuple},
};

/// The rules of one interface.
#[derive(Clone, Debug)]
pub struct Rules {
    policy: Policy,
    groups: Vec<GroupIndex>,
    members: Membership,
    numbers: RuleNumbers,
    /// Table, direction and family of which every value is open to any address.
    whole: Vec<(Table, Direction, Family)>,
}

impl Rules {
    /// The union of `groups`.
    #[must_use]
    pub fn new(policy: &Policy, groups: &[GroupIndex]) -> Self {
        let mut rules = Self {
            policy: policy.clone(),
            groups: groups.to_vec(),
            members: Membership::written(policy),
            numbers: RuleNumbers::in_order(policy),
            whole: vec![],
        };
        for table in [Table::Tcp, Table::Udp] {
            for direction in Direction::ALL {
                for family in Family::ALL {
                    if rules.opens_every_port(direction, family, table) {
                        rules.whole.push((table, direction, family));
                    }
                }
            }
        }
        rules
    }

    /// The number of the first rule that allows it.
    #[must_use]
    pub fn ask(
        &self,
        direction: Direction,
        local: IpAddr,
        remote: IpAddr,
        selector: Selector,
    ) -> Option<u32> {
        // What the protocol is, the selector tells already.
        let protocol = Protocol(0);
        let tuple = Tuple { local: Addr::from(local), remote: Addr::from(remote), protocol, selector };
        let rule = eval::eval(&self.policy, &self.members, &self.groups, direction, &tuple)?;
        self.numbers.get(rule).map(|number| number.0)
    }

    /// Whether a rule allows it from, or to, any address of the family.
    #[must_use]
    pub fn is_open(&self, direction: Direction, family: Family, selector: Selector) -> bool {
        self.open_to_anyone(direction, family).any(|service| service.matches(family, selector))
    }

    /// Whether every port is open from, or to, any address of the family.
    #[must_use]
    pub fn is_whole(&self, direction: Direction, family: Family, table: Table) -> bool {
        self.whole.contains(&(table, direction, family))
    }

    fn opens_every_port(&self, direction: Direction, family: Family, table: Table) -> bool {
        // The lowest port that is closed is 0 or follows one that is open.
        let behind = self
            .open_to_anyone(direction, family)
            .flat_map(|service| service.ranges(family))
            .filter_map(|(_, _, last)| last.checked_add(1));
        std::iter::once(0)
            .chain(behind)
            .all(|value| self.is_open(direction, family, Selector { table, value }))
    }

    /// Services that a rule names together with the whole family.
    fn open_to_anyone(&self, direction: Direction, family: Family) -> impl Iterator<Item = Service> {
        self.policy
            .rules()
            .filter(move |(index, _)| index.direction == direction && self.groups.contains(&index.group))
            .filter(move |(_, rule)| self.names_all(rule, family))
            .flat_map(|(_, rule)| rule.services.iter().copied())
    }

    fn names_all(&self, rule: &Rule, family: Family) -> bool {
        rule.peers.iter().any(|peer| match peer {
            Peer::Prefix(prefix) => *prefix == Prefix::any(family),
            Peer::PrefixList(list) => self.policy.prefix_lists[list.0].entries.contains(&Prefix::any(family)),
            Peer::Group(group) => self.members.of(*group).contains(&Prefix::any(family)),
        })
    }
}
