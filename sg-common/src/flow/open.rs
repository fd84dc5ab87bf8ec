//! Enters the flow of a packet that a rule has admitted.

use super::{
    FlowState,
    follow::next_sequence,
    identity::{self, Way},
    table::{self, Context, Found, Memory, Opening, Place},
};
use crate::{
    tuple::{Protocol, Table},
    wire::{Packet, tcp_flag},
};

/// How often it is tried again when another CPU was faster.
const ATTEMPTS: u32 = 2;

/// Who admits a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admission {
    /// The rule's number.
    pub rule: u32,
    /// The generation in force.
    pub generation: u64,
}

/// What became of it, as a number that a BPF function can return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Opened(pub u32);

impl Opened {
    /// There is no room: the packet is dropped.
    pub const FULL: Self = Self(0);
    /// A flow has begun.
    pub const NEW: Self = Self(1);
    /// The flow was there already: a SYN that is repeated.
    pub const KNOWN: Self = Self(2);
}

/// Enters the flow of `packet`, of `bytes` octets, or starts one afresh.
#[inline(always)]
pub fn open<M: Memory + ?Sized>(
    memory: &M,
    context: &Context<'_>,
    packet: &Packet,
    way: Way,
    admission: Admission,
    bytes: u64,
) -> Opened {
    if memory.enter(context, packet, way, admission, bytes) {
        return Opened::NEW;
    }
    // Of all others none is there: they have been looked for.
    let is_syn = packet.transport.protocol == Protocol::TCP.0 && packet.tcp_flags & tcp_flag::SYN != 0;
    for _ in 0..ATTEMPTS {
        let known = if is_syn { Found::at(memory, memory.lookup(context, packet, way)) } else { None };
        let Some(found) = known else {
            let place = memory.reserve(context, packet, way);
            let is_written = memory.write(context, place, packet, way, admission, bytes);
            return if is_written { Opened::NEW } else { Opened::FULL };
        };
        // A flow that is over begins afresh, and so does an attempt that is repeated, perhaps with
        // another sequence number. A live one stays as it is: a forged SYN must not shorten it, and an
        // endpoint that has lost its state gets its challenge answered through it.
        let is_attempt = matches!(found.state, FlowState::Opening | FlowState::Answered);
        let begins_again = found.state.is_over() || (is_attempt && found.life.opener() == way.direction);
        if !begins_again {
            found.touch(found.state, context);
            found.count(memory, way.direction, bytes);
            return Opened::KNOWN;
        }
        if memory.write(context, found.retake(), packet, way, admission, bytes) {
            return if found.state.is_over() { Opened::NEW } else { Opened::KNOWN };
        }
        // Another CPU was faster: what is there now?
    }
    // Its sender will try again; to let it pass would leave it to what is left of the old flow.
    Opened::FULL
}

/// Enters the flow of `packet` where it is at once clear that there is none and where there is room, as
/// [`table::settle`] tells. `false`: nothing was done.
#[inline(always)]
pub fn enter<M: Memory + ?Sized>(
    memory: &M,
    context: &Context<'_>,
    packet: &Packet,
    way: Way,
    admission: Admission,
    bytes: u64,
) -> bool {
    let key = way.key(packet);
    let place = table::settle(memory, context, &key);
    place != Place::NOWHERE
        && table::write(memory, context, place, &key, &opening(packet, way, admission, bytes))
}

/// Writes the flow of `packet` into the busy slot at `place`. `false`: there is no such slot.
#[inline(always)]
pub fn write<M: Memory + ?Sized>(
    memory: &M,
    context: &Context<'_>,
    place: Place,
    packet: &Packet,
    way: Way,
    admission: Admission,
    bytes: u64,
) -> bool {
    table::write(memory, context, place, &way.key(packet), &opening(packet, way, admission, bytes))
}

/// What the flow begins with.
#[inline(always)]
fn opening(packet: &Packet, way: Way, admission: Admission, bytes: u64) -> Opening {
    let Admission { rule, generation } = admission;
    let selector = identity::selector(packet);
    Opening {
        state: match selector.table {
            Table::Tcp => FlowState::Opening,
            Table::Udp => FlowState::UdpOneWay,
            Table::Icmp => FlowState::Icmp,
            Table::Other => FlowState::Other,
        },
        opener: way.direction,
        generation,
        rule,
        selector,
        bytes,
        next_sequence: next_sequence(packet),
    }
}

#[cfg(test)]
mod tests;
