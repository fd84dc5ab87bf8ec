//! The daemon's door: HTTP over a unix socket, its documents in JSON.
//!
//! [`server`] turns requests into events of the agent, [`client`] asks. What they say to each other
//! is in [`crate::view`], [`crate::state::Submission`] and [`crate::failure`]; [`openapi`] documents
//! it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub mod client;
pub mod openapi;
pub mod server;

use crate::{failure::Failure, state::Submission};

/// What every failed request is answered with.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Refusal {
    /// Why.
    pub error: Failure,
}

/// What is to be detached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Detach {
    /// One interface; none means all, and that nothing is left in the kernel.
    pub interface: Option<String>,
}

/// Who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    /// The name of whoever asks, for `history`.
    #[serde(default)]
    pub author: Option<String>,
}

/// By what the traffic seen under audit is to be judged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AskAudited {
    /// The policy; none: the one in force.
    #[serde(default)]
    pub policy: Option<Submission>,
}

/// What is to come back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rollback {
    /// The policy of this generation; where none is named, that of the latest with another policy or,
    /// of a policy that waits for its confirmation, the former one.
    pub generation: Option<u64>,
    /// The asker's own connection, which must not be cut: as in `SSH_CONNECTION`, the client's address
    /// and port, and the server's.
    #[serde(default)]
    pub connection: Option<String>,
    /// The name of whoever asks, for `history`.
    #[serde(default)]
    pub author: Option<String>,
}

/// Paths of requests.
pub mod path {
    /// `GET`: a [`crate::view::Status`].
    pub const STATUS: &str = "/v1/status";
    /// `GET`: [`crate::view::Counters`].
    pub const COUNTERS: &str = "/v1/counters";
    /// `GET`: what both tell, as text for Prometheus.
    pub const METRICS: &str = "/v1/metrics";
    /// `POST`: a [`crate::state::Submission`] for a [`crate::view::Applied`].
    pub const APPLY: &str = "/v1/apply";
    /// `POST`: a [`crate::state::Submission`] for a [`crate::view::Plan`].
    pub const PLAN: &str = "/v1/plan";
    /// `POST`: an [`super::AskAudited`] for a [`crate::view::Audited`].
    pub const AUDITED: &str = "/v1/audited";
    /// `POST`: an [`super::Ask`] for a [`crate::view::Applied`].
    pub const CONFIRM: &str = "/v1/confirm";
    /// `POST`: a [`super::Rollback`] for a [`crate::view::Applied`].
    pub const ROLLBACK: &str = "/v1/rollback";
    /// `GET`: a [`crate::view::History`].
    pub const HISTORY: &str = "/v1/history";
    /// `POST`: for a [`crate::view::Applied`].
    pub const RELOAD: &str = "/v1/reload";
    /// `POST`: a [`super::Detach`] for a [`crate::view::Detached`].
    pub const DETACH: &str = "/v1/detach";
    /// `GET`: this interface's description.
    pub const OPENAPI: &str = "/v1/openapi.json";
}
