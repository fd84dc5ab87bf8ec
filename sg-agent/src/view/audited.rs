//! The answer of `plan --audited`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Amount;

/// What the traffic that audit mode let pass would lose if a policy were enforced.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Audited {
    /// Whether anything would be lost.
    pub loses: bool,
    /// The generation in force.
    pub generation: u64,
    /// The digest of the policy that it is judged by.
    pub digest: String,
    /// What would be lost, the most packets first on each interface and direction.
    pub lost: Vec<AuditedTraffic>,
    /// What would pass by now, or passes where the policy covers its interface no more.
    pub passes: Amount,
    /// How many kinds of traffic are remembered, by remote address.
    pub remembered: u64,
    /// Whether so many were seen that the longest unseen may be forgotten.
    pub is_full: bool,
    /// The policy's warnings as people read them.
    pub warnings: Vec<String>,
    /// What could not be judged, and why.
    pub problems: Vec<String>,
}

/// Packets of one service that would be dropped for one reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditedTraffic {
    /// The interface.
    pub interface: String,
    /// The direction of the packets that ask for the service; their answers are counted with them.
    pub direction: String,
    /// The service, in the policy's language; none of frames that could not be read.
    pub service: Option<String>,
    /// Why it would be dropped.
    pub reason: String,
    /// The first of the other sides' addresses, in order.
    pub remotes: Vec<String>,
    /// How many addresses there are in all.
    pub remote_count: u64,
    /// Packets.
    pub packets: u64,
    /// Bytes of whole frames.
    pub bytes: u64,
    /// When the first was seen: RFC 3339, UTC.
    pub first_seen: String,
    /// When the latest was.
    pub last_seen: String,
}
