//! Policies made up from a seed, and changes of them.
//!
//! Every rule and every setting stands on a line of its own, which is what
//! [`shrink`](super::shrink) leaves out.

use std::fmt::Write as _;

use super::Dice;
use crate::packet::Mac;

/// The protected instance's own addresses.
pub const LOCALS: [&str; 3] = ["192.0.2.10", "2001:db8:ffff::10", "fe80::10"];

/// Its Ethernet address.
pub const MAC: Mac = Mac::local(2);

const SERVICES: [&str; 22] = [
    "all",
    "tcp",
    "tcp",
    "udp",
    "udp",
    "tcp/443",
    "tcp/80-90",
    "tcp/0",
    "tcp/0-32767",
    "tcp/32768-65535",
    "udp/53",
    "udp/5000-6000",
    "icmp",
    "icmp/echo-request",
    "icmp/3/4",
    "icmp/5",
    "icmpv6",
    "icmpv6/echo-request",
    "icmpv6/2",
    "gre",
    "47",
    "sctp",
];

const PEERS: [&str; 17] = [
    "anywhere",
    "anywhere",
    "anywhere",
    "anywhere-ipv4",
    "anywhere-ipv6",
    "198.51.100.0/24",
    "198.51.100.7",
    "198.51.0.0/16",
    "2001:db8:1::/48",
    "2001:db8:1::7",
    "2001:db8::/32",
    "list:some",
    "list:any",
    "group:other",
    "0.0.0.0/1",
    "8000::/1",
    "203.0.113.0/25",
];

const GROUPS: [&str; 2] = ["a", "b"];
const DIRECTIONS: [(&str, &str); 2] = [("inbound", "from"), ("outbound", "to")];

/// Two groups on one interface, and how that is protected.
#[derive(Clone, Debug)]
pub struct Draft {
    /// By group, then inbound and outbound; `None`: the document does not say.
    rules: [[Option<Vec<String>>; 2]; 2],
    /// Whether the second group has its interface in audit.
    audits: bool,
    side: &'static str,
    has_mac: bool,
    has_link_local: bool,
    settings: Vec<String>,
}

impl Draft {
    /// Any policy.
    pub fn new(dice: &mut Dice) -> Self {
        let side = dice.pick(&["host", "guest"]);
        let mut settings = vec![];
        if dice.once_in(8) {
            settings.push("mode: audit".to_owned());
        }
        let checks = dice.once_in(4);
        settings.push(format!("source_check: {checks}"));
        if dice.once_in(3) {
            let parts = ["arp", "ndp", "dhcp", "mld"].map(|part| format!("{part}: {}", dice.once_in(2)));
            settings.push(format!("infrastructure: {{{}}}", parts.join(", ")));
        }
        if dice.once_in(3) {
            settings.push("permit_ethertypes: [0x88cc, 0x8847]".to_owned());
        }
        let mut draft = Self {
            rules: Default::default(),
            audits: dice.once_in(12),
            side,
            has_mac: dice.once_in(2),
            has_link_local: dice.once_in(2),
            settings,
        };
        for group in 0..GROUPS.len() {
            draft.rules[group] = [some_rules(dice, 0), some_rules(dice, 1)];
        }
        draft
    }

    /// A policy that lets most flows be: a small table fills up.
    pub fn crowded(dice: &mut Dice) -> Self {
        let peers = "\"198.51.0.0/16\", \"203.0.113.0/24\", \"2001:db8::/32\"";
        let mut draft = Self::new(dice);
        for (rules, (_, side)) in draft.rules[0].iter_mut().zip(DIRECTIONS) {
            *rules = Some(vec![format!("{{allow: [all], {side}: [{peers}]}}")]);
        }
        draft.rules[1] = [Some(vec![]), Some(vec![])];
        draft
    }

    /// The same interface after a change: a rule more or less, or other rules for a group.
    pub fn change(&mut self, dice: &mut Dice) {
        let group = dice.below(2) as usize;
        let direction = dice.below(2) as usize;
        let rules = &mut self.rules[group][direction];
        match (dice.below(4), rules) {
            (0, Some(rules)) => {
                let at = dice.below(rules.len() as u64 + 1) as usize;
                rules.insert(at, rule(dice, direction));
            }
            (1 | 2, Some(rules)) if !rules.is_empty() => {
                rules.remove(dice.below(rules.len() as u64) as usize);
            }
            (_, rules) => *rules = some_rules(dice, direction),
        }
    }

    /// Other rules and settings for the same side.
    #[must_use]
    pub fn another(&self, dice: &mut Dice) -> Self {
        Self { side: self.side, ..Self::new(dice) }
    }

    /// Whether the instance sits behind the interface.
    #[must_use]
    pub fn is_guest(&self) -> bool {
        self.side == "guest"
    }

    /// The document.
    #[must_use]
    pub fn document(&self) -> String {
        let mut text = String::from(
            "version: 1\nprefix_lists:\n  any: {entries: [0.0.0.0/0, 2001:db8:2::/64]}\n  \
             some: {entries: [198.51.100.128/25, 203.0.113.9, \"2001:db8:2::/64\", \"2001:db8:2::9\"]}\n\
             groups:\n  other:\n    members: [203.0.113.77, \"2001:db8:3::77\"]\n    inbound: []\n    \
             outbound: []\n",
        );
        for (name, of_group) in GROUPS.iter().zip(&self.rules) {
            // A group without any list is written as one with an empty one, which means the same.
            let _ = writeln!(text, "  {name}:");
            if self.audits && *name == GROUPS[1] {
                let _ = writeln!(text, "    mode: audit");
            }
            for ((direction, _), rules) in DIRECTIONS.iter().zip(of_group) {
                let empty = Some(Vec::new());
                let rules =
                    if *direction == "inbound" { rules.as_ref().or(empty.as_ref()) } else { rules.as_ref() };
                let Some(rules) = rules else { continue };
                let none = if rules.is_empty() { " []" } else { "" };
                let _ = writeln!(text, "    {direction}:{none}");
                for rule in rules {
                    let _ = writeln!(text, "      - {rule}");
                }
            }
        }
        let listed = if self.has_link_local { &LOCALS[..] } else { &LOCALS[..2] };
        let mut addresses =
            listed.iter().map(|address| format!("\"{address}\"")).collect::<Vec<_>>().join(", ");
        if self.has_mac {
            let _ = write!(addresses, ", \"{MAC}\"");
        }
        let _ = write!(
            text,
            "interfaces:\n  - match: eth0\n    groups: [a, b]\n    side: {}\n    addresses: [{addresses}]\n",
            self.side
        );
        for setting in &self.settings {
            let _ = writeln!(text, "    {setting}");
        }
        text
    }
}

fn some_rules(dice: &mut Dice, direction: usize) -> Option<Vec<String>> {
    // AWS's default for outbound: everything to anywhere.
    if direction == 1 && dice.once_in(4) {
        return None;
    }
    let count = if dice.once_in(8) { 8 } else { dice.below(4) };
    Some((0..count).map(|_| rule(dice, direction)).collect())
}

fn rule(dice: &mut Dice, direction: usize) -> String {
    let mut list = |from: &[&'static str]| {
        let count = if dice.once_in(4) { 2 } else { 1 };
        (0..count).map(|_| format!("{:?}", dice.pick(from))).collect::<Vec<_>>().join(", ")
    };
    let (services, peers) = (list(&SERVICES), list(&PEERS));
    format!("{{allow: [{services}], {}: [{peers}]}}", DIRECTIONS[direction].1)
}
