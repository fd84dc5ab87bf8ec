//! The answer of `history`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The generations and the uses of `unlock` that are kept, the newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct History {
    /// Each of them.
    pub generations: Vec<Generation>,
    /// Each use of `unlock`, the latest 64.
    pub unlocks: Vec<UnlockUse>,
}

/// One generation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Generation {
    /// Its number.
    pub generation: u64,
    /// When it was applied: RFC 3339, UTC.
    pub applied: String,
    /// Who asked for it; `agent` where nobody did.
    pub author: String,
    /// What brought it about.
    pub cause: String,
    /// The digest of its policy's documents.
    pub digest: String,
    /// Its rules, default ones counted.
    pub rules: usize,
    /// Interfaces that it covered.
    pub interfaces: usize,
    /// Whether it is the one in force.
    pub in_force: bool,
}

/// One use of `unlock`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UnlockUse {
    /// When: RFC 3339, UTC.
    pub time: String,
    /// By whom.
    pub author: String,
    /// `unlock`: a port was opened; `end`: everything unlocked was closed; `all`: enforcement was ended.
    pub what: String,
    /// The port that was opened, in the policy's language.
    pub service: Option<String>,
    /// The one address that it was opened to.
    pub address: Option<String>,
    /// The one interface that it was opened on; none: every one.
    pub interface: Option<String>,
    /// For how long.
    pub seconds: Option<u64>,
}
