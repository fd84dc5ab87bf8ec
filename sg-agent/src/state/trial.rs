//! What is to be known of a policy that waits for its confirmation, should the agent die.

use serde::{Deserialize, Serialize};

/// A policy that waits for its confirmation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrialRecord {
    /// The digest of its documents.
    pub policy: String,
    /// The digest of those of the policy that comes back without it; nothing was enforced if there is
    /// none.
    pub former: Option<String>,
    /// Until when it waits: RFC 3339, UTC. The kernel's own clock decides.
    pub until: String,
    /// The generation before it. All that came later is of the trial.
    pub since: u64,
    /// Who asked for it.
    pub author: String,
}
