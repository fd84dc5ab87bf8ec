//! The answer of `plan`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What applying a policy would change.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Plan {
    /// Whether anything would change.
    pub changed: bool,
    /// The generation in force, which the policy is compared with; 0: none.
    pub generation: u64,
    /// The digest of the planned policy's documents.
    pub digest: String,
    /// Interfaces whose coverage or settings would change, in name order.
    pub interfaces: Vec<PlannedInterface>,
    /// Who would gain and lose access.
    pub access: Vec<AccessChange>,
    /// Rules that would come, go, or say something else.
    pub rules: RuleChanges,
    /// Live flows that would end.
    pub flows: FlowChange,
    /// What is in force, and what would be.
    pub size: SizeChange,
    /// Milliseconds that compiling took.
    pub compile_ms: f64,
    /// The policy's warnings as people read them.
    pub warnings: Vec<String>,
    /// Interfaces that the policy could not be enforced on, and why.
    pub problems: Vec<String>,
}

impl Plan {
    /// Whether it tells of a change.
    #[must_use]
    pub fn says_something(&self) -> bool {
        let RuleChanges { added, removed, changed } = &self.rules;
        !(self.interfaces.is_empty()
            && self.access.is_empty()
            && added.is_empty()
            && removed.is_empty()
            && changed.is_empty())
            || self.flows.cut > 0
    }
}

/// One interface that would be treated otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlannedInterface {
    /// The interface.
    pub name: String,
    /// Whether it is covered, and stays so.
    pub coverage: Coverage,
    /// The settings that differ; none where the coverage does.
    pub settings: Vec<SettingChange>,
}

/// What becomes of an interface's coverage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Coverage {
    /// It is covered, and stays so.
    #[default]
    Stays,
    /// Everything passed; from then on what its rules allow.
    Begins,
    /// From then on everything passes.
    Ends,
}

/// A setting with another value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SettingChange {
    /// Its name in the policy.
    pub name: String,
    /// The value in force.
    pub before: String,
    /// The value planned.
    pub after: String,
}

/// Who gains and who loses access in one direction of some interfaces.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AccessChange {
    /// The interfaces that this holds for.
    pub interfaces: Vec<String>,
    /// `inbound` or `outbound`.
    pub direction: String,
    /// What would pass and does not now.
    pub gains: Vec<AccessLine>,
    /// What passes now and would not.
    pub losses: Vec<AccessLine>,
}

/// Services and the addresses that gain or lose them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AccessLine {
    /// The services, in the policy's language; `other` is every protocol but TCP, UDP and ICMP.
    pub services: Vec<String>,
    /// The fewest prefixes; `anywhere` and its two halves for whole families.
    pub addresses: Vec<String>,
    /// How many prefixes are not listed, because it would be more than a million in all.
    pub more_addresses: u64,
}

/// Rules that come, go, or say something else.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RuleChanges {
    /// Rules that are not in force.
    pub added: Vec<PlannedRule>,
    /// Rules in force that would not be any more.
    pub removed: Vec<PlannedRule>,
    /// Rules with an `id` that would say something else.
    pub changed: Vec<PlannedRule>,
}

/// One rule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlannedRule {
    /// `GROUP/DIRECTION/INDEX`.
    pub rule: String,
    /// The user's name for it.
    pub id: Option<String>,
    /// `FILE:LINE`.
    pub source: String,
    /// What it says: `allow tcp/443 from anywhere`.
    pub says: String,
    /// What it says in force, where that differs.
    pub was: Option<String>,
}

/// What becomes of live flows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FlowChange {
    /// Flows that are live now: those of the flow table, and this host's open sockets without one,
    /// because their traffic needs none.
    pub live: u64,
    /// How many of them would end at their next packet.
    pub cut: u64,
    /// How many no rule would admit any more, and which live on all the same: `on_change` is `keep`.
    pub kept: u64,
    /// The first of those that would end.
    pub first: Vec<CutFlow>,
}

/// A flow that would end.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
pub struct CutFlow {
    /// The interface.
    pub interface: String,
    /// The direction in which it was opened; of a socket that needs no entry, in which it would not be
    /// let through.
    pub direction: String,
    /// The protocol by name, else by number.
    pub protocol: String,
    /// Who opened it, or sends in that direction.
    pub source: String,
    /// The port; 0 where the protocol has none.
    pub source_port: u16,
    /// To whom.
    pub destination: String,
    /// The port; 0 where the protocol has none.
    pub destination_port: u16,
    /// The rule that admitted it and would not any more; none where it was open before enforcement
    /// began.
    pub rule: Option<String>,
}

/// Two sizes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SizeChange {
    /// What is in force.
    pub now: Size,
    /// What would be.
    pub then: Size,
}

/// How large a policy is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Size {
    /// Bytes of the compiled policy. The kernel has room for two such images.
    pub bytes: usize,
    /// Rules as written.
    pub rules: usize,
    /// Prefixes as written.
    pub prefixes: usize,
}
