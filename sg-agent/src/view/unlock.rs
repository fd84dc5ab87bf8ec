//! The answer of `unlock`, and what is unlocked.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use sg_common::tuple::Protocol;
use utoipa::ToSchema;

use super::timestamp;
use crate::kernel::Unlocked;

/// What `unlock` did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Unlocking {
    /// What it has opened.
    pub unlocked: Vec<UnlockedPort>,
    /// How many open ports it has closed.
    pub ended: u64,
}

/// A port that is open past the policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UnlockedPort {
    /// Protocol and port, in the policy's language.
    pub service: String,
    /// The one address that it is open to.
    pub address: String,
    /// The one interface that it is open on; none: every one.
    pub interface: Option<String>,
    /// Until when: RFC 3339, UTC.
    pub until: String,
}

impl UnlockedPort {
    /// As it is at `now`.
    #[must_use]
    pub fn of(unlocked: &Unlocked, now: Timestamp) -> Self {
        let Unlocked { protocol, port, remote, interface, left } = unlocked;
        let protocol = if *protocol == Protocol::UDP { "udp" } else { "tcp" };
        let left = SignedDuration::try_from(*left).unwrap_or_default();
        Self {
            service: format!("{protocol}/{port}"),
            address: remote.to_string(),
            interface: interface.clone(),
            until: timestamp(now.checked_add(left).unwrap_or(now)),
        }
    }
}

impl fmt::Display for UnlockedPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { service, address, interface, until } = self;
        write!(f, "{service} for {address} on ")?;
        match interface {
            Some(interface) => write!(f, "{interface}")?,
            None => write!(f, "every interface")?,
        }
        write!(f, " until {until}")
    }
}
