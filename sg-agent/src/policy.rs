//! The validated policy: what a document means, with every name resolved.
//!
//! Built by [`crate::document`], read by [`crate::compile`] and by the reference answer
//! [`eval`]. Nothing here knows of files, sockets, clocks or the kernel, and a value of these
//! types is always valid: every index points at something, every range is in order.

use std::{collections::BTreeMap, fmt, sync::Arc};

use sg_common::{
    addr::{Family, Prefix},
    tuple::{Direction, Protocol, Selector, Table},
};

pub mod eval;
pub mod matching;

/// A whole policy, from one document or a merged directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Groups in name order.
    pub groups: Vec<Group>,
    /// Prefix lists in name order.
    pub prefix_lists: Vec<PrefixList>,
    /// Interface entries in the order written: exact names and globs as they stand.
    pub interfaces: Vec<InterfaceEntry>,
}

/// An index into [`Policy::groups`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupIndex(pub usize);

/// An index into [`Policy::prefix_lists`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PrefixListIndex(pub usize);

/// Where something was written: file, line and column.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The document's path, as the user named it; control characters are replaced. All positions of
    /// one document share it.
    pub file: Arc<str>,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// A security group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The name, unique in the policy.
    pub name: String,
    /// Free text.
    pub description: Option<String>,
    /// Free key-value pairs.
    pub tags: BTreeMap<String, String>,
    /// Addresses that carry the group but run no agent.
    pub members: Vec<Prefix>,
    /// Whether drops are carried out on the interfaces that carry it.
    pub mode: Mode,
    /// Rules for traffic towards the instance.
    pub inbound: Vec<Rule>,
    /// Rules for traffic from the instance. When the document has no `outbound`, this holds the
    /// one rule of [`Rule::default_outbound`].
    pub outbound: Vec<Rule>,
    /// Where the group was written.
    pub position: Position,
}

impl Group {
    /// The rules of one direction, in the order written.
    #[must_use]
    pub fn rules(&self, direction: Direction) -> &[Rule] {
        match direction {
            Direction::Inbound => &self.inbound,
            Direction::Outbound => &self.outbound,
        }
    }
}

/// One permission. Rules only allow; they have no order and no priority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The user's stable name for it, unique in the policy.
    pub id: Option<String>,
    /// Free text.
    pub description: Option<String>,
    /// What it allows: at least one item.
    pub services: Vec<Service>,
    /// From whom (inbound) or to whom (outbound): at least one item.
    pub peers: Vec<Peer>,
    /// Where it was written; for a default outbound rule, where its group was.
    pub position: Position,
    /// Whether this is AWS's default outbound rule, which no document line states.
    pub is_default: bool,
}

impl Rule {
    /// The rule that a group without `outbound` has: everything to anywhere.
    #[must_use]
    pub fn default_outbound(position: Position) -> Self {
        Self {
            id: None,
            description: None,
            services: vec![Service::All],
            peers: vec![Peer::Prefix(Prefix::ANY_V4), Peer::Prefix(Prefix::ANY_V6)],
            position,
            is_default: true,
        }
    }
}

/// What a rule allows, validated: every range is in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Service {
    /// Every protocol and port of both families.
    All,
    /// Destination ports of TCP, first and last inclusive.
    Tcp(u16, u16),
    /// Destination ports of UDP, first and last inclusive.
    Udp(u16, u16),
    /// ICMP of one family: all of it, one type, or one type and code.
    Icmp(Family, Option<(u8, Option<u8>)>),
    /// Any other protocol whole. Never TCP or UDP, which are written as their full port ranges,
    /// and never 1 or 58, which are written as [`Service::Icmp`].
    Protocol(Protocol),
}

impl Service {
    /// The selector ranges that this opens in `family`: a table and an inclusive range of values.
    ///
    /// ICMP of the other family opens nothing. `ICMP` (1) over IPv6 and `ICMPv6` (58) over IPv4 are
    /// other protocols, which [`Service::All`] alone opens.
    pub fn ranges(self, family: Family) -> impl Iterator<Item = (Table, u16, u16)> {
        let one = |table, first, last| [Some((table, first, last)), None, None, None];
        let ranges = match self {
            Self::All => {
                [Table::Tcp, Table::Udp, Table::Icmp, Table::Other].map(|table| Some((table, 0, u16::MAX)))
            }
            Self::Tcp(first, last) => one(Table::Tcp, first, last),
            Self::Udp(first, last) => one(Table::Udp, first, last),
            Self::Icmp(of, _) if of != family => [None; 4],
            Self::Icmp(_, None) => one(Table::Icmp, 0, u16::MAX),
            Self::Icmp(_, Some((kind, None))) => {
                one(Table::Icmp, u16::from(kind) << 8, u16::from(kind) << 8 | 0xff)
            }
            Self::Icmp(_, Some((kind, Some(code)))) => {
                let value = u16::from(kind) << 8 | u16::from(code);
                one(Table::Icmp, value, value)
            }
            Self::Protocol(Protocol(number)) => one(Table::Other, number.into(), number.into()),
        };
        ranges.into_iter().flatten()
    }

    /// Whether this opens `selector` in `family`.
    #[must_use]
    pub fn matches(self, family: Family, selector: Selector) -> bool {
        self.ranges(family)
            .any(|(table, first, last)| table == selector.table && (first..=last).contains(&selector.value))
    }
}

/// The far side that a rule names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Peer {
    /// Addresses of one prefix; `anywhere` is both whole families.
    Prefix(Prefix),
    /// The entries of a prefix list.
    PrefixList(PrefixListIndex),
    /// The addresses that carry a group.
    Group(GroupIndex),
}

/// A named set of prefixes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrefixList {
    /// The name, unique in the policy.
    pub name: String,
    /// Free text.
    pub description: Option<String>,
    /// The prefixes, sorted and without repetition. Overlaps stay as written.
    pub entries: Vec<Prefix>,
    /// Where the list was written.
    pub position: Position,
}

/// An Ethernet address of one station.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac([u8; 6]);

impl Mac {
    /// Reads six octets as two hexadecimal digits each, with colons between them. `None` for other
    /// texts, and for addresses of groups, which no station has.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut octets = [0; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            let part = parts.next().filter(|part| part.len() == 2)?;
            let digits = part.bytes().all(|digit| digit.is_ascii_hexdigit());
            *octet = digits.then(|| u8::from_str_radix(part, 16).ok()).flatten()?;
        }
        (parts.next().is_none() && octets[0] & 1 == 0).then_some(Self(octets))
    }

    /// The address in the low 48 bits.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        let [a, b, c, d, e, f] = self.0;
        u64::from_be_bytes([0, 0, a, b, c, d, e, f])
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// Which interfaces carry which groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceEntry {
    /// An exact name or a shell glob.
    pub pattern: String,
    /// The groups whose union applies, in the order written, without repetition: at least one.
    pub groups: Vec<GroupIndex>,
    /// Which side of the interface is protected.
    pub side: Side,
    /// The instance's addresses; `None` means: the interface's own, followed live, which only
    /// `side: host` has. A guest without `addresses` has none: `Some` of an empty list.
    pub addresses: Option<Vec<Prefix>>,
    /// The instance's Ethernet addresses, sorted and without repetition; none listed means: any.
    pub macs: Vec<Mac>,
    /// Whether only the instance's own addresses may leave and be entered, defaults resolved.
    pub source_check: bool,
    /// Enforce, or count what would be dropped: what the entry says, and not what its groups say
    /// ([`Policy::mode_of`]).
    pub mode: Mode,
    /// Where inbound of `side: host` is enforced.
    pub hook: Hook,
    /// The parts of the infrastructure set that pass.
    pub infrastructure: Infrastructure,
    /// EtherTypes that pass besides IP and the infrastructure set, sorted and without repetition.
    pub permit_ethertypes: Vec<u16>,
    /// Where the entry was written.
    pub position: Position,
}

/// Which side of an interface is protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// The machine's own NIC: inbound is what the kernel receives on it.
    #[default]
    Host,
    /// A VM or container behind the interface: inbound is what the kernel sends out of it.
    Guest,
}

impl Side {
    /// The stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Guest => "guest",
        }
    }
}

/// Whether drops are carried out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// What no rule allows is dropped.
    #[default]
    Enforce,
    /// Everything passes; what would have been dropped is counted as such.
    Audit,
}

impl Mode {
    /// The stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Audit => "audit",
        }
    }
}

/// Where inbound of a host's own interface is enforced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hook {
    /// Native XDP where it costs the stack nothing, else TC.
    #[default]
    Auto,
    /// Native XDP or an error.
    Xdp,
    /// TC.
    Tc,
}

/// The infrastructure set of one interface: each part passes unless switched off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Infrastructure {
    /// ARP.
    pub arp: bool,
    /// IPv6 neighbour discovery.
    pub ndp: bool,
    /// DHCP, client side.
    pub dhcp: bool,
    /// Multicast listener discovery.
    pub mld: bool,
}

impl Default for Infrastructure {
    fn default() -> Self {
        Self { arp: true, ndp: true, dhcp: true, mld: true }
    }
}

/// Names one rule of a policy: the group, the direction and the place in the order written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleIndex {
    /// The group that holds the rule.
    pub group: GroupIndex,
    /// Which of the group's two lists.
    pub direction: Direction,
    /// The place in it, from 0.
    pub index: usize,
}

impl Policy {
    /// Every rule: group by group in name order, inbound before outbound, in the order written.
    pub fn rules(&self) -> impl Iterator<Item = (RuleIndex, &Rule)> {
        self.groups.iter().enumerate().flat_map(|(group, of)| {
            Direction::ALL.into_iter().flat_map(move |direction| {
                of.rules(direction).iter().enumerate().map(move |(index, rule)| {
                    (RuleIndex { group: GroupIndex(group), direction, index }, rule)
                })
            })
        })
    }

    /// The rule at `index`, if the policy has it.
    #[must_use]
    pub fn rule(&self, index: RuleIndex) -> Option<&Rule> {
        self.groups.get(index.group.0)?.rules(index.direction).get(index.index)
    }

    /// `GROUP/inbound/INDEX` or `GROUP/outbound/INDEX`; a group's default outbound rule is
    /// `GROUP/outbound/default`.
    #[must_use]
    pub fn rule_name(&self, index: RuleIndex) -> String {
        let group = self.groups.get(index.group.0).map_or("?", |group| group.name.as_str());
        match self.rule(index) {
            Some(Rule { is_default: true, .. }) => format!("{group}/{}/default", index.direction),
            _ => format!("{group}/{}/{}", index.direction, index.index),
        }
    }

    /// Whether drops are carried out on the interfaces of an entry: neither it nor any of its groups is
    /// in audit.
    #[must_use]
    pub fn mode_of(&self, entry: &InterfaceEntry) -> Mode {
        if entry.mode == Mode::Audit || self.audit_groups(entry).next().is_some() {
            Mode::Audit
        } else {
            Mode::Enforce
        }
    }

    /// The groups that have the interfaces of an entry in audit, in the order written there.
    pub fn audit_groups(&self, entry: &InterfaceEntry) -> impl Iterator<Item = &Group> {
        let groups = entry.groups.iter().filter_map(|index| self.groups.get(index.0));
        groups.filter(|group| group.mode == Mode::Audit)
    }

    /// The group called `name`.
    #[must_use]
    pub fn group(&self, name: &str) -> Option<GroupIndex> {
        self.groups.iter().position(|group| group.name == name).map(GroupIndex)
    }
}

/// The addresses that carry each group now: its `members`, and those of the interfaces that carry
/// it. Indexed as [`Policy::groups`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership(pub Vec<Vec<Prefix>>);

impl Membership {
    /// The members written in the policy, with no interface counted yet.
    #[must_use]
    pub fn written(policy: &Policy) -> Self {
        Self(policy.groups.iter().map(|group| group.members.clone()).collect())
    }

    /// The members, and the addresses of whatever carries each group.
    #[must_use]
    pub fn carried<'a>(
        policy: &Policy,
        carried: impl IntoIterator<Item = (&'a [GroupIndex], &'a [Prefix])>,
    ) -> Self {
        let mut membership = Self::written(policy);
        for (groups, addresses) in carried {
            for group in groups {
                if let Some(members) = membership.0.get_mut(group.0) {
                    members.extend_from_slice(addresses);
                }
            }
        }
        for members in &mut membership.0 {
            // Stable, because that is quick where most is in order.
            members.sort();
            members.dedup();
        }
        membership
    }

    /// The addresses that carry each group as far as the policy alone tells: its members, and the
    /// `addresses` of the entries that carry it.
    #[must_use]
    pub fn stated(policy: &Policy) -> Self {
        let entries = policy.interfaces.iter();
        Self::carried(
            policy,
            entries.map(|entry| (&entry.groups[..], entry.addresses.as_deref().unwrap_or(&[]))),
        )
    }

    /// The addresses of one group.
    #[must_use]
    pub fn of(&self, group: GroupIndex) -> &[Prefix] {
        self.0.get(group.0).map_or(&[], Vec::as_slice)
    }
}
