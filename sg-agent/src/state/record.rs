//! What one generation is: enough to tell, with the agent dead, what the kernel's numbers mean.

use serde::{Deserialize, Serialize};

/// The version of [`Record`]'s layout.
pub const FORMAT: u32 = 1;

/// One generation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// [`FORMAT`].
    pub format: u32,
    /// The generation.
    pub generation: u64,
    /// When it was applied: RFC 3339, UTC.
    pub applied: String,
    /// Who asked for it; `agent` where nobody did.
    #[serde(default)]
    pub author: String,
    /// What brought it about.
    #[serde(default)]
    pub cause: String,
    /// The digest of the policy's documents.
    pub policy: String,
    /// The image's SHA-256, in hexadecimal.
    pub image: String,
    /// The lowest rule number that was never used.
    pub next_number: u32,
    /// Rule numbers below it that no rule has, the longest unused first.
    pub freed_numbers: Vec<u32>,
    /// Every rule, in the policy's order.
    pub rules: Vec<RuleRecord>,
    /// Every zone that is not vacant, by number.
    pub zones: Vec<ZoneRecord>,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleRecord {
    /// Its number: its counter, and what flows name.
    pub number: u32,
    /// What makes it the same rule in another generation.
    pub key: String,
    /// `GROUP/DIRECTION/INDEX`.
    pub rule: String,
    /// The user's name for it.
    pub id: Option<String>,
    /// The group that holds it.
    pub group: String,
    /// `inbound` or `outbound`.
    pub direction: String,
    /// `FILE:LINE`.
    pub source: String,
}

/// One attached interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZoneRecord {
    /// Its number.
    pub zone: u32,
    /// The kernel's interface index.
    pub ifindex: u32,
    /// The interface's name when the record was written.
    pub name: String,
    /// No entry matches the interface any more: everything passed until it was detached.
    pub is_retired: bool,
    /// The `match` of its entry.
    pub entry: String,
    /// The groups that it carries.
    pub groups: Vec<String>,
    /// `host` or `guest`.
    pub side: String,
    /// `enforce` or `audit`.
    pub mode: String,
    /// The groups that have it in audit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub audit_groups: Vec<String>,
    /// Whether only its own addresses may leave and be entered.
    pub source_check: bool,
    /// The parts of the infrastructure set that pass.
    pub infrastructure: Vec<String>,
    /// EtherTypes that pass besides.
    pub permit_ethertypes: Vec<u16>,
    /// The instance's addresses.
    pub addresses: Vec<String>,
}
