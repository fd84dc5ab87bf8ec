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
    /// A policy that cannot be written down is put in force all the same: it is kept, or there is no
    /// other, and nothing would be enforced without it.
    pub goes_unwritten: bool,
}

impl Order {
    /// One that the agent gives itself.
    #[must_use]
    pub fn event(cause: &str) -> Self {
        Self {
            occasion: Occasion::Event,
            author: "agent".to_owned(),
            cause: cause.to_owned(),
            own: None,
            goes_unwritten: false,
        }
    }

    /// Somebody's request, which can be refused.
    #[must_use]
    pub fn request(author: String, cause: String, own: Option<Connection>) -> Self {
        Self { occasion: Occasion::Request, author, cause, own, goes_unwritten: false }
    }

    /// The same, for a policy that is to be in force whether or not it can be written down.
    #[must_use]
    pub fn even_unwritten(self) -> Self {
        Self { goes_unwritten: true, ..self }
    }
}
