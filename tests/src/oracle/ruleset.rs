//! A policy as a ruleset for `nft`.

use std::fmt::Write as _;

use sg_agent::policy::{GroupIndex, Peer, Policy, Rule, Service};
use sg_common::{
    addr::{Family, Prefix},
    tuple::{Direction, Protocol},
};

/// The ruleset that forwards between `outside` and `inside` what the union of `groups` allows.
#[must_use]
pub fn ruleset(policy: &Policy, groups: &[GroupIndex], outside: &str, inside: &str) -> String {
    let mut sets = String::new();
    let mut chains = [String::new(), String::new()];
    let rules = policy.rules().filter(|(index, _)| groups.contains(&index.group));
    for (number, (index, rule)) in rules.enumerate() {
        for family in Family::ALL {
            let Some(peers) = peers(policy, rule, index.direction, family, number, &mut sets) else {
                continue;
            };
            for service in rule.services.iter().filter_map(|service| matching(*service, family)) {
                let _ = writeln!(chains[index.direction as usize], "    {peers}{service} accept");
            }
        }
    }
    let [inbound, outbound] = chains;
    format!(
        "table inet judge {{\n{sets}  chain inbound {{\n{inbound}  }}\n  chain outbound {{\n{outbound}  }}\n  \
         chain forward {{\n    type filter hook forward priority filter; policy drop;\n    \
         ct state established,related accept\n    iifname \"{outside}\" oifname \"{inside}\" jump inbound\n    \
         iifname \"{inside}\" oifname \"{outside}\" jump outbound\n  }}\n}}\n"
    )
}

/// What matches the peers of one family, with the set that it needs; none: the rule names nobody.
fn peers(
    policy: &Policy,
    rule: &Rule,
    direction: Direction,
    family: Family,
    number: usize,
    sets: &mut String,
) -> Option<String> {
    let prefixes: Vec<Prefix> = rule
        .peers
        .iter()
        .flat_map(|peer| match peer {
            Peer::Prefix(prefix) => std::slice::from_ref(prefix),
            Peer::PrefixList(list) => &policy.prefix_lists[list.0].entries,
            Peer::Group(group) => &policy.groups[group.0].members,
        })
        .copied()
        .filter(|prefix| prefix.family() == family)
        .collect();
    let (name, kind, layer) = match family {
        Family::V4 => (format!("v4_{number}"), "ipv4_addr", "ip"),
        Family::V6 => (format!("v6_{number}"), "ipv6_addr", "ip6"),
    };
    if prefixes.is_empty() {
        return None;
    }
    if prefixes.iter().any(|prefix| prefix.is_any()) {
        return Some(format!("meta nfproto ip{} ", if family == Family::V4 { "v4" } else { "v6" }));
    }
    let elements: Vec<_> = prefixes.iter().map(ToString::to_string).collect();
    let _ = writeln!(
        sets,
        "  set {name} {{ type {kind}; flags interval; auto-merge; elements = {{ {} }}; }}",
        elements.join(", ")
    );
    let address = if direction == Direction::Inbound { "saddr" } else { "daddr" };
    Some(format!("{layer} {address} @{name} "))
}

/// What matches a service in one family; none: it is of the other.
fn matching(service: Service, family: Family) -> Option<String> {
    let of = |wanted| (wanted == family).then_some(());
    Some(match service {
        Service::All => String::new(),
        Service::Tcp(first, last) => format!("tcp dport {first}-{last}"),
        Service::Udp(first, last) => format!("udp dport {first}-{last}"),
        Service::Icmp(wanted, what) => {
            of(wanted)?;
            let name = if family == Family::V4 { "icmp" } else { "icmpv6" };
            match what {
                None => format!("meta l4proto {}", if family == Family::V4 { 1 } else { 58 }),
                Some((kind, None)) => format!("{name} type {kind}"),
                Some((kind, Some(code))) => format!("{name} type {kind} {name} code {code}"),
            }
        }
        Service::Protocol(Protocol(number)) => format!("meta l4proto {number}"),
    })
}
