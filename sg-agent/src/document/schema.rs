//! What a document looks like to programs that write one or check one: serde types that mirror it,
//! and the JSON Schema that follows from them.
//!
//! Documents are not read through these types, for errors need places. Tests hold them against the
//! decoder: the same keys, and the same examples accepted and refused. What a schema cannot say
//! (that a name is defined, that a range is in order) `check` says.

use std::collections::BTreeMap;

use schemars::{JsonSchema, generate::SchemaSettings};
use serde::Serialize;

mod items;

pub use items::{AllowItem, AtLeastOne, EtherType, Items, Name, PeerItem, PrefixText, ServiceItem, Version};

/// The JSON Schema of a policy document, draft 2020-12.
#[must_use]
pub fn schema() -> serde_json::Value {
    SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Document>().to_value()
}

/// A policy document for sg-agent: security groups, and the interfaces that carry them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// The version of the document's form: 1.
    pub version: Version,
    /// Names for lists of protocols and ports, beside the built-in ones.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub services: BTreeMap<Name, AtLeastOne<ServiceItem>>,
    /// Named sets of addresses, used in rules as `list:NAME`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub prefix_lists: BTreeMap<Name, PrefixList>,
    /// Security groups.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub groups: BTreeMap<Name, Group>,
    /// Which interfaces carry which groups. The first entry that matches an interface, exact names
    /// before globs, is its entry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<Interface>,
}

/// A named set of addresses: either `entries` or `file`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [{"required": ["entries"]}, {"required": ["file"]}]))]
pub struct PrefixList {
    /// Free text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(max = 255))]
    pub description: Option<String>,
    /// Addresses and CIDRs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Items<PrefixText>")]
    pub entries: Option<Items<PrefixText>>,
    /// A file with one CIDR a line and `#` comments, relative to this document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub file: Option<String>,
}

/// A security group. Its rules only allow; interfaces that carry several groups have the union of
/// their rules.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Free text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(max = 255))]
    pub description: Option<String>,
    /// Free key-value pairs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// Addresses that carry this group but run no agent.
    #[serde(default, skip_serializing_if = "Items::is_empty")]
    pub members: Items<PrefixText>,
    /// `enforce`, or `audit`: the interfaces that carry the group are in audit, whatever their entry
    /// says.
    #[serde(default, skip_serializing_if = "Mode::is_default")]
    pub mode: Mode,
    /// What may come in. Missing or empty: nothing new.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Option<Vec<InboundRule>>")]
    pub inbound: Vec<InboundRule>,
    /// What may go out. Missing: everything. Empty: nothing new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<OutboundRule>")]
    pub outbound: Option<Vec<OutboundRule>>,
}

/// A permission for traffic towards the instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InboundRule {
    /// What may pass.
    pub allow: AtLeastOne<AllowItem>,
    /// From where.
    pub from: AtLeastOne<PeerItem>,
    /// Free text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(max = 255))]
    pub description: Option<String>,
    /// A stable name for the rule, unique in the policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Name")]
    pub id: Option<Name>,
}

/// A permission for traffic from the instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OutboundRule {
    /// What may pass.
    pub allow: AtLeastOne<AllowItem>,
    /// To where.
    pub to: AtLeastOne<PeerItem>,
    /// Free text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(max = 255))]
    pub description: Option<String>,
    /// A stable name for the rule, unique in the policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Name")]
    pub id: Option<Name>,
}

/// Which groups an interface carries, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Interface {
    /// An exact interface name or a shell glob.
    #[serde(rename = "match")]
    #[schemars(length(min = 1))]
    pub pattern: String,
    /// The groups whose union applies.
    pub groups: AtLeastOne<Name>,
    /// `host`: the interface is the protected machine's own. `guest`: a protected virtual machine
    /// or container sits behind it.
    #[serde(default, skip_serializing_if = "Side::is_default")]
    pub side: Side,
    /// The addresses of the instance behind the interface: IP addresses and networks, and beside them
    /// Ethernet addresses, which then are the only ones that it may send from under `source_check`. For
    /// `side: host` they default to the interface's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "AtLeastOne<PrefixText>")]
    pub addresses: Option<AtLeastOne<PrefixText>>,
    /// Drop what leaves the instance from another address, and what enters it for another. On for
    /// `guest` with `addresses`, else off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    pub source_check: Option<bool>,
    /// `enforce`, or `audit`: everything passes, and what would have been dropped is counted.
    #[serde(default, skip_serializing_if = "Mode::is_default")]
    pub mode: Mode,
    /// Where inbound of `side: host` is enforced.
    #[serde(default, skip_serializing_if = "Hook::is_default")]
    pub hook: Hook,
    /// The parts of the infrastructure set that pass; each does unless it is off.
    #[serde(default, skip_serializing_if = "Infrastructure::is_default")]
    pub infrastructure: Infrastructure,
    /// EtherTypes that pass besides IP and the infrastructure set.
    #[serde(default, skip_serializing_if = "Items::is_empty")]
    pub permit_ethertypes: Items<EtherType>,
}

/// Which side of an interface is protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The machine's own NIC.
    #[default]
    Host,
    /// A virtual machine or container behind the interface.
    Guest,
}

/// Whether drops are carried out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// What no rule allows is dropped.
    #[default]
    Enforce,
    /// Everything passes; what would have been dropped is counted as such.
    Audit,
}

/// Where inbound of a host's own interface is enforced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Hook {
    /// Native XDP where it costs the stack nothing, else TC.
    #[default]
    Auto,
    /// Native XDP or an error.
    Xdp,
    /// TC.
    Tc,
}

/// What a Linux host needs to stay on its network: each part passes unless it is off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[serde(default)]
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

/// `skip_serializing_if` for values that need not be written.
macro_rules! is_default {
    ($($of:ty),*) => {$(
        impl $of {
            fn is_default(&self) -> bool {
                *self == Self::default()
            }
        }
    )*};
}
is_default!(Side, Mode, Hook, Infrastructure);

#[cfg(test)]
mod tests;
