//! What names stand for: services, groups, prefix lists; and what a name that stands for nothing
//! was probably meant to be.

use std::collections::BTreeMap;

use sg_common::addr::{Family, Prefix};

use super::super::{
    addresses::ANYWHERE,
    diagnostic::quote,
    draft::{Allowed, Named, NamedGroup, NamedService},
    protocols,
    report::{Mark, Report, Spanned},
    services,
};
use crate::policy::{GroupIndex, Peer, PrefixList, PrefixListIndex, Service};

/// The services of the user's own.
pub(super) type Services = BTreeMap<String, Vec<Service>>;

/// Everything that has a name.
pub(super) struct Names {
    services: Services,
    /// In name order, as in the policy.
    groups: Vec<String>,
    /// In name order, as in the policy.
    lists: Vec<String>,
}

/// Resolves the services of the user's own, which hold built-in ones but none of each other.
pub(super) fn services(mut named: Vec<NamedService>, report: &mut Report) -> Services {
    super::unique(&mut named, "service", |service| &service.name, report);
    let mut resolved = Services::new();
    for service in &named {
        let name = &service.name;
        let is_number = name.value.bytes().all(|byte| byte.is_ascii_digit());
        if is_number || protocols::reserved().any(|reserved| reserved == name.value) {
            let message =
                format!("{} already means a protocol; give the service another name", quote(&name.value));
            report.error(name.at, message);
        }
        resolved.insert(name.value.clone(), Vec::new());
    }
    for service in named {
        let mut opens = Vec::new();
        for item in service.items {
            match item.value {
                Allowed::Service(service) => opens.push(service),
                Allowed::Named(other) if resolved.contains_key(&other) => {
                    let message = format!(
                        "a service cannot hold {}, a service of your own; write its ports",
                        quote(&other)
                    );
                    report.error(item.at, message);
                }
                Allowed::Named(other) => match services::built_in(&other) {
                    Some(services) => opens.extend_from_slice(services),
                    None => unknown_service(&other, item.at, resolved.keys(), report),
                },
            }
        }
        resolved.insert(service.name.value, opens);
    }
    resolved
}

fn unknown_service<'n>(name: &str, at: Mark, own: impl Iterator<Item = &'n String>, report: &mut Report) {
    // A document that could not be read may define it.
    if !report.is_complete() {
        return;
    }
    let mut words: Vec<&str> = own.map(String::as_str).collect();
    words.extend(services::BUILT_IN.iter().map(|(name, _)| *name));
    words.extend(protocols::reserved().map(|word| -> &'n str { word }));
    let suggestion = report.nearest(name, words);
    report.suggest(at, format!("there is no service or protocol {}", quote(name)), suggestion);
}

impl Names {
    /// The names of groups and lists that are in name order already.
    pub(super) fn new(services: Services, groups: &[NamedGroup], lists: &[PrefixList]) -> Self {
        let groups = groups.iter().map(|group| group.name.value.clone()).collect();
        let lists = lists.iter().map(|list| list.name.clone()).collect();
        Self { services, groups, lists }
    }

    /// Tells what an item of `allow` opens.
    pub(super) fn allowed(
        &self,
        item: &Spanned<Allowed>,
        report: &mut Report,
        mut tell: impl FnMut(Service),
    ) {
        let name = match &item.value {
            Allowed::Service(service) => return tell(*service),
            Allowed::Named(name) => name,
        };
        match self.services.get(name).map(Vec::as_slice).or_else(|| services::built_in(name)) {
            Some(services) => services.iter().copied().for_each(tell),
            None => unknown_service(name, item.at, self.services.keys(), report),
        }
    }

    /// Tells whom an item of `from` or `to` means.
    pub(super) fn peer(&self, item: &Spanned<Named>, report: &mut Report, mut tell: impl FnMut(Peer)) {
        let (kind, name) = match &item.value {
            Named::Anywhere => {
                return Family::ALL.into_iter().for_each(|family| tell(Peer::Prefix(Prefix::any(family))));
            }
            Named::Prefix(prefix) => return tell(Peer::Prefix(*prefix)),
            Named::PrefixList(name) => match place(&self.lists, name) {
                Some(index) => return tell(Peer::PrefixList(PrefixListIndex(index))),
                None => ("list", name),
            },
            Named::Group(name) => match place(&self.groups, name) {
                Some(index) => return tell(Peer::Group(GroupIndex(index))),
                None => ("group", name),
            },
            Named::Unclear(text) => return self.unclear(text, item, report),
        };
        if report.is_complete() {
            let (same, other, what) = match kind {
                "list" => (&self.lists, place(&self.groups, name).map(|_| "group"), "prefix list"),
                _ => (&self.groups, place(&self.lists, name).map(|_| "list"), "group"),
            };
            let suggestion = match other {
                Some(other) => Some(format!("{other}:{name}")),
                None => report.nearest(name, texts(same)).map(|near| format!("{kind}:{near}")),
            };
            report.suggest(item.at, format!("there is no {what} {}", quote(name)), suggestion);
        }
    }

    /// The group of an interface entry.
    pub(super) fn group(&self, name: &Spanned<String>, report: &mut Report) -> Option<GroupIndex> {
        let found = place(&self.groups, &name.value).map(GroupIndex);
        if found.is_none() && report.is_complete() {
            let suggestion = report.nearest(&name.value, texts(&self.groups));
            report.suggest(name.at, format!("there is no group {}", quote(&name.value)), suggestion);
        }
        found
    }

    /// Says what an item is not, and what it may have been meant to be.
    fn unclear(&self, text: &str, item: &Spanned<Named>, report: &mut Report) {
        const EVERYONE: [&str; 6] = ["any", "all", "*", "0/0", "world", "internet"];
        let suggestion = if place(&self.lists, text).is_some() {
            Some(format!("list:{text}"))
        } else if place(&self.groups, text).is_some() {
            Some(format!("group:{text}"))
        } else if EVERYONE.contains(&text) {
            Some("anywhere".to_owned())
        } else {
            let bare = text.rsplit(':').next().unwrap_or_default();
            report.nearest(text, ANYWHERE).or_else(|| {
                let list = report.nearest(bare, texts(&self.lists)).map(|near| format!("list:{near}"));
                list.or_else(|| report.nearest(bare, texts(&self.groups)).map(|near| format!("group:{near}")))
            })
        };
        let message =
            format!("{} is not an address, a CIDR, `anywhere`, `list:NAME` or `group:NAME`", quote(text));
        report.suggest(item.at, message, suggestion);
    }
}

fn place(names: &[String], name: &str) -> Option<usize> {
    names.binary_search_by(|known| known.as_str().cmp(name)).ok()
}

fn texts(names: &[String]) -> impl Iterator<Item = &str> {
    names.iter().map(String::as_str)
}
