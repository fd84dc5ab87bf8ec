//! Every key that a document may have, by where it stands. The decoder takes keys from here only,
//! and a test holds them against the schema.

/// The document itself.
pub(super) const DOCUMENT: [&str; 5] = ["version", "services", "prefix_lists", "groups", "interfaces"];
/// A prefix list.
pub(super) const PREFIX_LIST: [&str; 3] = ["description", "entries", "file"];
/// A group.
pub(super) const GROUP: [&str; 6] = ["description", "tags", "members", "mode", "inbound", "outbound"];
/// An inbound rule.
pub(super) const INBOUND: [&str; 4] = ["allow", "from", "description", "id"];
/// An outbound rule.
pub(super) const OUTBOUND: [&str; 4] = ["allow", "to", "description", "id"];
/// An interface entry.
pub(super) const INTERFACE: [&str; 9] = [
    "match",
    "groups",
    "side",
    "addresses",
    "source_check",
    "mode",
    "hook",
    "infrastructure",
    "permit_ethertypes",
];
/// The infrastructure set of an interface entry.
pub(super) const INFRASTRUCTURE: [&str; 4] = ["arp", "ndp", "dhcp", "mld"];
