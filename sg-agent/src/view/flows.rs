//! The answer of `flows`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The flow table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FlowList {
    /// The generation in force.
    pub generation: u64,
    /// Every live flow.
    pub flows: Vec<Flow>,
}

/// One flow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Flow {
    /// The interface.
    pub interface: String,
    /// The direction in which it was opened.
    pub direction: String,
    /// The protocol by name, else by number.
    pub protocol: String,
    /// The instance's address.
    pub local: String,
    /// The instance's port; for ICMP the id.
    pub local_port: u16,
    /// The other side's address.
    pub remote: String,
    /// The other side's port; for ICMP 0.
    pub remote_port: u16,
    /// The state.
    pub state: String,
    /// The rule that admitted it, where it still has a name.
    pub rule: Option<String>,
    /// The low bits of the generation that admitted it.
    pub generation: u32,
    /// Seconds since the latest packet, about.
    pub idle_seconds: u64,
    /// Seconds since it was opened, about.
    pub age_seconds: u64,
    /// Packets towards the instance.
    pub inbound_packets: u64,
    /// Bytes of them.
    pub inbound_bytes: u64,
    /// Packets from the instance.
    pub outbound_packets: u64,
    /// Bytes of them.
    pub outbound_bytes: u64,
}
