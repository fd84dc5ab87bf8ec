//! The way of most packets through the flow table: found, admitted by the policy in force, followed.
//!
//! It is one step, and in the programs one function, because a call costs as much there as a third of
//! what is done in it. Whatever is not so plain is found here and left to [`crate::decide`].

use super::{
    follow::{Step, move_on},
    identity::Way,
    table::{self, Context, Found, Memory, Place},
};
use crate::{abi::Control, wire::Packet};

/// How often it is tried to move a flow on.
const ATTEMPTS: u32 = 2;

/// Under which policy a packet is tracked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms(pub u64);

impl Terms {
    const KEEPS: u64 = 1 << 62;
    const LOOKS: u64 = 1 << 63;

    /// Generation `generation` is in force, and flows of older ones are judged anew unless `keeps`.
    #[inline(always)]
    #[must_use]
    pub const fn new(generation: u64, keeps: bool) -> Self {
        Self(generation & Self::GENERATION | if keeps { Self::KEEPS } else { 0 })
    }

    /// The flow is only looked for: the packet is not one of it.
    #[inline(always)]
    #[must_use]
    pub const fn looking(self) -> Self {
        Self(self.0 | Self::LOOKS)
    }

    const GENERATION: u64 = (1 << Control::GENERATION_BITS) - 1;

    /// Whether a flow is admitted as it is.
    #[inline(always)]
    fn admit(self, found: &Found<'_>) -> bool {
        let is_older = u64::from(found.origin.generation()) != self.0 & Self::GENERATION;
        !found.state.is_revoked() && (!is_older || self.0 & Self::KEEPS != 0)
    }
}

/// What became of it, in one register.
///
/// All ones: there is no flow; bit 63: the packet was followed, and bits 0–27 are the rule that admits
/// the flow; else the [`Place`] of a flow that is to be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Tracked(pub u64);

impl Tracked {
    const FOLLOWED: u64 = 1 << 63;
    /// There is no flow.
    pub const NOTHING: Self = Self(Place::NOWHERE.0);

    /// The rule that admits the flow, where the packet was followed.
    #[inline(always)]
    #[must_use]
    pub const fn rule(self) -> Option<u32> {
        if self.0 & Self::FOLLOWED != 0 && self.0 != Self::NOTHING.0 { Some(self.0 as u32) } else { None }
    }

    /// Where the flow lies, where it is to be judged.
    #[inline(always)]
    #[must_use]
    pub const fn place(self) -> Place {
        Place(self.0)
    }
}

/// Looks for the flow of `packet`, and follows it where the policy in force admits it as it is.
#[inline(always)]
pub fn track<M: Memory + ?Sized>(
    memory: &M,
    context: &Context<'_>,
    packet: &Packet,
    way: Way,
    terms: Terms,
    bytes: u64,
) -> Tracked {
    let place = table::search(memory, context, &way.key(packet));
    let Some(found) = Found::at(memory, place) else { return Tracked::NOTHING };
    if terms.0 & Terms::LOOKS != 0 || !terms.admit(&found) {
        return Tracked(place.0);
    }
    found.count(memory, way.direction, bytes);
    let mut now = found;
    for _ in 0..ATTEMPTS {
        let step = Step { found: now.state, state: now.state, direction: way.direction };
        if move_on(&now, context, packet, step) {
            break;
        }
        // Another CPU was faster. What this packet means for the flow must not be lost.
        let Some(moved) = Found::at(memory, place) else { break };
        now = moved;
    }
    Tracked(Tracked::FOLLOWED | u64::from(found.origin.rule()))
}

#[cfg(test)]
mod tests;
