//! What is to be settled for, and for whom.

use super::own::Connection;

/// Why things are to be settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occasion {
    /// Somebody asks for a policy, and can be refused.
    Request,
    /// The agent starts, or an interface has changed: as much as can be enforced is.
    Event,
}

/// What is to be settled for, and for whom.
#[derive(Clone, Debug)]
pub struct Order {
    /// Whether somebody can be refused.
    pub occasion: Occasion,
    /// Who asked for it.
    pub author: String,
    /// What for, as `history` tells it.
    pub cause: String,
    /// The connection that must not be cut.
    pub own: Option<Connection>,
}

impl Order {
    /// One that the agent gives itself.
    #[must_use]
    pub fn event(cause: &str) -> Self {
        Self { occasion: Occasion::Event, author: "agent".to_owned(), cause: cause.to_owned(), own: None }
    }
}
