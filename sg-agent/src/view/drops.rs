//! One line of `drops`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A dropped packet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Drop {
    /// When: RFC 3339, UTC.
    pub time: String,
    /// The interface.
    pub interface: String,
    /// `inbound` or `outbound`.
    pub direction: String,
    /// The protocol by name, else by number; none for what could not be parsed.
    pub protocol: Option<String>,
    /// The source, as on the wire.
    pub source: Option<String>,
    /// Its port; 0 where there is none.
    pub source_port: u16,
    /// The destination, as on the wire.
    pub destination: Option<String>,
    /// Its port; 0 where there is none.
    pub destination_port: u16,
    /// Why.
    pub reason: String,
    /// Length of the frame in bytes.
    pub length: u32,
    /// Audit mode let it pass.
    pub audited: bool,
}
