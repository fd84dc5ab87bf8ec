//! What a rule says, in the words of the policy document.

use sg_common::{
    addr::{Family, Prefix},
    tuple::Protocol,
};

use crate::{
    document,
    policy::{Peer, Policy, Rule, Service},
};

/// Items of a list that are shown; further ones are counted.
const SHOWN: usize = 4;

/// `FILE:LINE` of a rule.
pub(crate) fn source(rule: &Rule) -> String {
    format!("{}:{}", rule.position.file, rule.position.line)
}

/// What a rule opens.
pub(crate) fn services(rule: &Rule) -> String {
    list(rule.services.iter().map(|service| self::service(*service)).collect())
}

/// To whom a rule opens it.
pub(crate) fn peers(policy: &Policy, rule: &Rule) -> String {
    let mut words: Vec<String> = rule.peers.iter().map(|peer| self::peer(policy, *peer)).collect();
    let is_any = |family| rule.peers.contains(&Peer::Prefix(Prefix::any(family)));
    if is_any(Family::V4) && is_any(Family::V6) {
        words = vec!["anywhere".to_owned()];
    }
    list(words)
}

/// The first of `words`, and how many more there are.
fn list(mut words: Vec<String>) -> String {
    let more = words.len().saturating_sub(SHOWN);
    words.truncate(SHOWN);
    let text = words.join(", ");
    if more > 0 { format!("{text} and {more} more") } else { text }
}

/// One thing that a rule opens.
pub(crate) fn service(service: Service) -> String {
    let range = |name: &str, first: u16, last: u16| match (first, last) {
        (0, u16::MAX) => name.to_owned(),
        _ if first == last => format!("{name}/{first}"),
        _ => format!("{name}/{first}-{last}"),
    };
    match service {
        Service::All => "all".to_owned(),
        Service::Tcp(first, last) => range("tcp", first, last),
        Service::Udp(first, last) => range("udp", first, last),
        Service::Icmp(family, message) => {
            let name = if family == Family::V4 { "icmp" } else { "icmpv6" };
            match message {
                None => name.to_owned(),
                Some((kind, code)) => {
                    let kind =
                        document::icmp_name(family, kind).map_or_else(|| kind.to_string(), ToOwned::to_owned);
                    code.map_or_else(|| format!("{name}/{kind}"), |code| format!("{name}/{kind}/{code}"))
                }
            }
        }
        Service::Protocol(Protocol(number)) => document::protocol_name(Protocol(number)),
    }
}

/// One far side that a rule names.
pub(crate) fn peer(policy: &Policy, peer: Peer) -> String {
    match peer {
        Peer::Prefix(prefix) if prefix == Prefix::ANY_V4 => "anywhere-ipv4".to_owned(),
        Peer::Prefix(prefix) if prefix == Prefix::ANY_V6 => "anywhere-ipv6".to_owned(),
        Peer::Prefix(prefix) => prefix.to_string(),
        Peer::PrefixList(list) => {
            format!("list:{}", policy.prefix_lists.get(list.0).map_or("?", |list| list.name.as_str()))
        }
        Peer::Group(group) => {
            format!("group:{}", policy.groups.get(group.0).map_or("?", |group| group.name.as_str()))
        }
    }
}
