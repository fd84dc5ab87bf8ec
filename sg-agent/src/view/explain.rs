//! The answer of `explain`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A verdict and the reasons for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Explanation {
    /// `allow` or `drop`.
    pub verdict: String,
    /// What lets it pass: `rule`, `flow`, `infrastructure`, `unlock`, or nothing.
    pub via: Option<String>,
    /// The rule that allows it, or that admitted its flow.
    pub rule: Option<String>,
    /// `FILE:LINE` of that rule.
    pub source: Option<String>,
    /// Why it is dropped.
    pub reason: Option<String>,
    /// The user's name for the rule.
    pub rule_id: Option<String>,
    /// What the reason means, or what else there is to say.
    pub note: Option<String>,
    /// The interface asked about.
    pub interface: String,
    /// `inbound` or `outbound`.
    pub direction: String,
    /// The tuple, as understood.
    pub tuple: String,
    /// The `match` of the interface's entry.
    pub entry: Option<String>,
    /// `enforce`, or `audit`: then it passes whatever the verdict.
    pub mode: Option<String>,
    /// The interface's groups.
    pub groups: Vec<String>,
    /// The generation that was asked; none for a document.
    pub generation: Option<u64>,
    /// What every rule of those groups says of it, in the policy's order.
    pub rules: Vec<RuleAnswer>,
}

/// What one rule says of the tuple.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RuleAnswer {
    /// `GROUP/DIRECTION/INDEX`.
    pub rule: String,
    /// `FILE:LINE`.
    pub source: String,
    /// Whether it allows the tuple.
    pub allows: bool,
    /// Why not: `service` or `peer`.
    pub mismatch: Option<String>,
    /// The same for people.
    pub why: String,
}
