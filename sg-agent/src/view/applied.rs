//! The answers of `apply`, `reload` and `detach`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Plan;

/// A policy that is in force.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Applied {
    /// The generation in force now.
    pub generation: u64,
    /// Whether it is another one than before.
    pub changed: bool,
    /// The digest of the policy's documents.
    pub digest: String,
    /// Groups.
    pub groups: usize,
    /// Rules as written.
    pub rules: usize,
    /// Prefixes as written.
    pub prefixes: usize,
    /// Size of the compiled policy.
    pub bytes: usize,
    /// Interfaces that it is enforced on.
    pub interfaces: Vec<String>,
    /// Milliseconds that compiling took.
    pub compile_ms: f64,
    /// Milliseconds from the first write into the kernel until it was read back and in force.
    pub publish_ms: f64,
    /// Until when it has to be confirmed, lest the former one come back: RFC 3339, UTC.
    #[serde(default)]
    pub confirm_by: Option<String>,
    /// What it changed, as `plan` told at the moment before, but for fewer addresses listed; none where
    /// nobody asked for this policy by name, or nobody remembers what was in force.
    #[serde(default)]
    pub plan: Option<Plan>,
    /// The policy's warnings as people read them.
    pub warnings: Vec<String>,
    /// Interfaces that the policy could not be enforced on, and why.
    pub problems: Vec<String>,
}

/// What is not enforced any more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Detached {
    /// The interfaces.
    pub interfaces: Vec<String>,
    /// Whether nothing at all is left in the kernel.
    pub all: bool,
}
