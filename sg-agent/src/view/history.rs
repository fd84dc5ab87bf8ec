//! The answer of `history`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The generations that are kept, the newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct History {
    /// Each of them.
    pub generations: Vec<Generation>,
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
