//! What commands and the API answer, as values: field names here are the JSON's, and stable.
//!
//! Views are made from what is known ([`crate::enforced`], [`crate::explain`], the agent) and shown
//! by [`crate::render`]. They hold no logic beyond their own sums.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

mod applied;
mod audited;
mod check;
mod counters;
mod drops;
mod explain;
mod flows;
mod history;
mod plan;
mod status;
mod time;
mod unlock;

pub use self::{
    applied::{Applied, Detached},
    audited::{Audited, AuditedTraffic},
    check::{Check, Finding},
    counters::{
        Amount, ByGroup, ByInterface, ByReason, ByRule, Counters, DirectionCounters, GroupAmounts,
        InterfaceCounters, ReasonCounters, RuleAmount, RuleCounters,
    },
    drops::Drop,
    explain::{Explanation, RuleAnswer},
    flows::{Flow, FlowList},
    history::{Generation, History, UnlockUse},
    plan::{
        AccessChange, AccessLine, Coverage, CutFlow, FlowChange, Plan, PlannedInterface, PlannedRule,
        RuleChanges, SettingChange, Size, SizeChange,
    },
    status::{
        AgentStatus, AttachmentStatus, Fill, HookStatus, MapFill, Repair, Repairs, Status, Uncovered,
        told_mode,
    },
    time::timestamp,
    unlock::{UnlockedPort, Unlocking},
};

/// What `counters` are grouped by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Grouping {
    /// One block an interface.
    #[default]
    Interface,
    /// One line a group: what its rules admitted.
    Group,
    /// One line a rule.
    Rule,
    /// One line a drop reason.
    Reason,
}

impl Grouping {
    /// The stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Interface => "interface",
            Self::Group => "group",
            Self::Rule => "rule",
            Self::Reason => "reason",
        }
    }
}
