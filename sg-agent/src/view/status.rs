//! The answer of `status`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Amount, UnlockedPort};

/// The agent, what is in force, and on what.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// The daemon.
    pub agent: AgentStatus,
    /// The generation in force; 0: none.
    pub generation: u64,
    /// When it was applied: RFC 3339, UTC.
    pub applied: Option<String>,
    /// Until when it has to be confirmed, lest the former one come back: RFC 3339, UTC.
    #[serde(default)]
    pub confirm_by: Option<String>,
    /// What is open past the policy.
    #[serde(default)]
    pub unlocked: Vec<UnlockedPort>,
    /// What passed by that so far, on interfaces that are attached.
    #[serde(default)]
    pub passed_unlocked: Amount,
    /// The digest of its documents.
    pub digest: Option<String>,
    /// The names of its documents.
    pub documents: Vec<String>,
    /// Its rules, default ones counted.
    pub rules: usize,
    /// Every attached interface, in name order.
    pub attachments: Vec<AttachmentStatus>,
    /// How full the kernel's maps are.
    pub maps: Option<MapFill>,
    /// What others took from the agent's hold on the kernel, and it took back, since it was started.
    #[serde(default)]
    pub repairs: Repairs,
    /// Interfaces that nothing is enforced on.
    pub not_covered: Vec<Uncovered>,
    /// What is not as it should be.
    pub problems: Vec<String>,
}

/// The daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AgentStatus {
    /// Whether it answers.
    pub running: bool,
    /// Its process.
    pub pid: Option<u32>,
    /// Its version.
    pub version: Option<String>,
    /// When it started: RFC 3339, UTC.
    pub started: Option<String>,
    /// The policy that a reload reads.
    pub policy: Option<String>,
    /// Whether changes of its files are followed without a reload.
    #[serde(default)]
    pub watching: bool,
    /// Why the latest change was refused; nothing once one succeeds.
    pub last_error: Option<String>,
    /// What was wrong with that policy: the first errors, as people read them.
    #[serde(default)]
    pub last_diagnostics: Vec<String>,
    /// Whether what the policy's files said when they were last read was refused: something else is in
    /// force, also once a change that came otherwise has succeeded.
    #[serde(default)]
    pub files_refused: bool,
}

/// One attached interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AttachmentStatus {
    /// The interface.
    pub name: String,
    /// The kernel's index of it.
    pub ifindex: u32,
    /// Its zone.
    pub zone: u32,
    /// The `match` of its entry.
    pub entry: String,
    /// `host` or `guest`.
    pub side: String,
    /// `enforce` or `audit`.
    pub mode: String,
    /// The groups that have it in audit; none where its own entry does.
    #[serde(default)]
    pub audit_groups: Vec<String>,
    /// The groups that it carries.
    pub groups: Vec<String>,
    /// The instance's addresses.
    pub addresses: Vec<String>,
    /// Whether only they may leave and be entered.
    pub source_check: bool,
    /// The parts of the infrastructure set that pass.
    pub infrastructure: Vec<String>,
    /// EtherTypes that pass besides.
    pub permit_ethertypes: Vec<String>,
    /// Where it is enforced; nowhere means that it is not.
    pub hooks: Vec<HookStatus>,
}

/// One hook.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HookStatus {
    /// `inbound` or `outbound`.
    pub direction: String,
    /// `xdp`, `tc_ingress` or `tc_egress`.
    pub hook: String,
    /// How: `native`, `tcx`, `clsact`.
    pub mode: String,
    /// Why there.
    pub why: String,
    /// Programs of others at the same hook.
    pub other_programs: Vec<String>,
}

/// How full the kernel's maps are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MapFill {
    /// Flows.
    pub flows: Fill,
    /// Nodes of the image, in one of its two buffers.
    pub image_nodes: Fill,
    /// Rule counters.
    pub rules: Fill,
    /// Zones.
    pub zones: Fill,
}

/// How full one thing is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Fill {
    /// What is used.
    pub used: u64,
    /// What fits.
    pub capacity: u64,
}

/// What was taken back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Repairs {
    /// How often.
    pub count: u64,
    /// How often by kind: `pin`, `hook`, `place` or `xdp`; what never happened is left out.
    #[serde(default)]
    pub by_kind: BTreeMap<String, u64>,
    /// The latest.
    pub last: Option<Repair>,
}

/// One thing that was taken back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Repair {
    /// When: RFC 3339, UTC.
    pub time: String,
    /// The interface that it concerns, where it is one.
    pub interface: Option<String>,
    /// What was wrong.
    pub what: String,
}

/// An interface that nothing is enforced on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Uncovered {
    /// The interface.
    pub name: String,
    /// Why not.
    pub why: String,
    /// An entry of the policy matches it all the same.
    #[serde(default)]
    pub is_wanted: bool,
}

/// A mode as people read it, and of audit which groups ask for it.
#[must_use]
pub fn told_mode(mode: &str, groups: &[String]) -> String {
    match groups {
        [] => mode.to_owned(),
        [group] => format!("{mode} (group {group})"),
        groups => format!("{mode} (groups {})", groups.join(", ")),
    }
}
