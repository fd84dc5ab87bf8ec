//! What documents say, decoded and with places, before names are resolved.

use std::collections::BTreeMap;

use sg_common::{addr::Prefix, tuple::Direction};

use super::report::{Mark, Spanned};
use crate::policy::{Hook, Infrastructure, Mac, Mode, Service, Side};

/// The definitions of all documents, in the order read.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub services: Vec<NamedService>,
    pub prefix_lists: Vec<NamedList>,
    pub groups: Vec<NamedGroup>,
    pub interfaces: Vec<Interface>,
}

/// A service of the user's own.
#[derive(Debug)]
pub(super) struct NamedService {
    pub name: Spanned<String>,
    pub items: Vec<Spanned<Allowed>>,
}

#[derive(Debug)]
pub(super) struct NamedList {
    pub name: Spanned<String>,
    pub description: Option<String>,
    pub content: ListContent,
}

#[derive(Debug)]
pub(super) enum ListContent {
    Entries(Vec<Prefix>),
    /// A path relative to the document that names it.
    File(Spanned<String>),
    /// Neither could be read, which is already an error.
    Invalid,
}

#[derive(Debug)]
pub(super) struct NamedGroup {
    pub name: Spanned<String>,
    pub description: Option<String>,
    pub tags: BTreeMap<String, String>,
    pub members: Vec<Prefix>,
    pub mode: Mode,
    pub inbound: Vec<DraftRule>,
    /// `None`: not written.
    pub outbound: Option<Vec<DraftRule>>,
}

#[derive(Debug)]
pub(super) struct DraftRule {
    pub at: Mark,
    pub direction: Direction,
    pub id: Option<Spanned<String>>,
    pub description: Option<String>,
    pub allow: Vec<Spanned<Allowed>>,
    pub peers: Vec<Spanned<Named>>,
}

/// An item of `allow`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Allowed {
    /// What it opens, spelled out.
    Service(Service),
    /// A service by name.
    Named(String),
}

/// An item of `from` or `to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Named {
    /// Both families.
    Anywhere,
    Prefix(Prefix),
    PrefixList(String),
    Group(String),
    /// None of these; told when the names are known that may have been meant.
    Unclear(String),
}

#[derive(Debug)]
pub(super) struct Interface {
    pub pattern: Spanned<String>,
    pub groups: Vec<Spanned<String>>,
    pub side: Side,
    pub addresses: Option<Vec<Prefix>>,
    pub macs: Vec<Mac>,
    pub source_check: Option<bool>,
    pub mode: Mode,
    pub hook: Hook,
    pub infrastructure: Infrastructure,
    pub permit_ethertypes: Vec<u16>,
}
