//! What a change of the policy means: who gains and who loses access to what, which rules come, go and
//! change, which settings do. A difference of meaning, not of text.
//!
//! Pure: policies, members and records come in as values. Which flows would end is for whoever sees
//! the flow table ([`crate::agent`]), how it is shown for [`crate::render`].

mod addresses;
mod lines;
mod rules;
mod selectors;
mod settings;
#[cfg(test)]
mod tests;

use sg_common::{addr::Family, tuple::Direction};

pub use self::{
    addresses::Addresses,
    lines::Line,
    rules::{Numbered, rules},
    settings::{Settings, settings},
};
use crate::{
    compile::{self, CompileError},
    policy::{GroupIndex, Membership, Policy},
};

/// What passes on an interface: one side of a comparison.
#[derive(Clone, Copy, Debug)]
pub enum Reach<'a> {
    /// Whatever comes: no rule is asked, or what rules say is not carried out.
    Everything,
    /// What the rules of these groups allow.
    Rules {
        /// The rules.
        policy: &'a Policy,
        /// The addresses that carry each group.
        members: &'a Membership,
        /// The groups whose union applies.
        groups: &'a [GroupIndex],
    },
}

impl Reach<'_> {
    fn access(self, direction: Direction) -> Result<[compile::Access; 2], CompileError> {
        match self {
            Self::Everything => Ok(Family::ALL.map(compile::Access::everything)),
            Self::Rules { policy, members, groups } => compile::access(policy, members, groups, direction),
        }
    }
}

/// Who gains and who loses access in one direction. Lines of one list have no address and selector
/// in common, nor have the two lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// What passes after and did not before.
    pub gains: Vec<Line>,
    /// What passed before and does not after.
    pub losses: Vec<Line>,
}

impl Change {
    /// Whether nobody gains or loses anything.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.gains.is_empty() && self.losses.is_empty()
    }
}

/// The difference that `after` makes to `before` in one direction.
///
/// # Errors
///
/// A policy and its rules contradict each other.
pub fn change(before: Reach<'_>, after: Reach<'_>, direction: Direction) -> Result<Change, CompileError> {
    let (before, after) = (before.access(direction)?, after.access(direction)?);
    let [v4, v6] =
        Family::ALL.map(|family| lines::parts(family, &before[family as usize], &after[family as usize]));
    Ok(Change { gains: lines::joined(v4.gains, v6.gains), losses: lines::joined(v4.losses, v6.losses) })
}
