//! What a packet does to the flow that it belongs to: its state, its sequence numbers, its time and
//! its counts. Whether the packet passes has been decided before, and does not depend on this.

use super::{
    Entry, FlowState, Signal,
    table::{Context, Found, Memory, Place},
};
use crate::{
    tuple::{Direction, Protocol},
    wire::{Packet, tcp_flag},
};

/// A flow's state under the policy in force, and which way a packet of it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The state that was found.
    pub found: FlowState,
    /// What it is under the policy in force.
    pub state: FlowState,
    /// The packet's direction.
    pub direction: Direction,
}

impl Step {
    /// Bits 0–7: the state's number; bit 8: outbound; bits 16–23: the number of the state found.
    #[inline(always)]
    #[must_use]
    pub const fn to_bits(self) -> u32 {
        self.state as u32 | (self.direction as u32) << 8 | (self.found as u32) << 16
    }

    /// The step of such bits, if they have a state.
    #[inline(always)]
    #[must_use]
    pub const fn from_bits(bits: u32) -> Option<Self> {
        let direction = if bits >> 8 & 1 == 0 { Direction::Inbound } else { Direction::Outbound };
        match (FlowState::from_number(bits as u8), FlowState::from_number((bits >> 16) as u8)) {
            (Some(state), Some(found)) => Some(Self { found, state, direction }),
            _ => None,
        }
    }
}

/// Moves the flow at `place` on by a packet of `bytes` octets, and counts it. `false`: another CPU's
/// change was faster, and this packet's is to be tried again, with 0 octets. A flow that is gone
/// meanwhile is left alone.
#[inline(always)]
pub fn follow<M: Memory + ?Sized>(
    memory: &M,
    context: &Context<'_>,
    place: Place,
    packet: &Packet,
    step: Step,
    bytes: u64,
) -> bool {
    let Some(found) = Found::at(memory, place) else { return true };
    if bytes > 0 && !step.state.is_revoked() {
        found.count(memory, step.direction, bytes);
    }
    // Another CPU's packet has moved it on since it was found: this one goes on from there. What the
    // policy has changed is left for the next packet to find.
    let state = if found.state == step.found { step.state } else { found.state };
    move_on(&found, context, packet, Step { state, ..step })
}

/// Moves the flow on from `step.state`. `false`: another CPU's change was faster.
#[inline(always)]
pub(super) fn move_on(found: &Found<'_>, context: &Context<'_>, packet: &Packet, step: Step) -> bool {
    let Step { state, direction, .. } = step;
    if state.is_revoked() {
        return found.touch(state, context);
    }
    let is_tcp = packet.transport.protocol == Protocol::TCP.0;
    let opener = found.life.opener();
    // A later fragment is part of a packet that has been followed, and may have ended the flow.
    if packet.fragment_offset != 0 {
        return is_tcp || found.touch(state, context);
    }
    let next = if is_tcp {
        advance_tcp(found.entry, packet, step, opener)
    } else {
        state.advance(Signal { from_opener: direction == opener, ..Signal::DATAGRAM })
    };
    let ends = is_tcp && packet.tcp_flags & (tcp_flag::RST | tcp_flag::FIN) != 0;
    if !ends {
        return found.touch(next, context);
    }
    next == found.state || found.change(next, seen_at_the_end(found, next, context))
}

/// When a flow that a reset or FIN moves to `next` counts as seen: such a packet shortens a flow's life
/// and never lengthens it.
#[inline(always)]
fn seen_at_the_end(found: &Found<'_>, next: FlowState, context: &Context<'_>) -> u32 {
    let timeout = |state: FlowState| context.timeouts[state.timeout() as usize];
    let latest = found.life.seen().wrapping_add(timeout(found.state)).wrapping_sub(timeout(next));
    // Ticks wrap: what lies behind is less than half of all ticks away.
    if (context.now.wrapping_sub(latest) as i32) < 0 { context.now } else { latest }
}

/// The state after a TCP packet, with the sequence numbers kept up.
///
/// The marks are what each side has sent so far, 0 for a side not heard yet. A segment that lies
/// far from both, in what it sends or in what it acknowledges, is left to the endpoints: it moves
/// no mark and ends nothing, so that nobody off the path can end a flow blindly.
#[inline(always)]
fn advance_tcp(entry: &Entry, packet: &Packet, step: Step, opener: Direction) -> FlowState {
    let Step { state, direction, .. } = step;
    let flags = packet.tcp_flags;
    let [inbound, outbound] = &entry.next_sequence;
    let (mine, theirs) = match direction {
        Direction::Inbound => (inbound, outbound),
        Direction::Outbound => (outbound, inbound),
    };
    let sent = mine.load();
    let heard = theirs.load();
    let next = next_sequence(packet);
    let has_ack = flags & tcp_flag::ACK != 0;
    let is_near = (sent == 0 || is_near(next, sent))
        && (!has_ack || heard == 0 || is_near(packet.acknowledgement, heard));
    let acks_all = has_ack && packet.acknowledgement == heard;
    let is_reset = flags & tcp_flag::RST != 0;
    // RFC 5961: a reset counts when it is the very next octet. A refusal has no sequence of its own
    // yet and proves itself by what it acknowledges.
    let is_refusal = state == FlowState::Opening && direction != opener && acks_all;
    let is_next = sent != 0 && packet.sequence == sent && state != FlowState::Opening;
    let rst = is_reset && (is_refusal || is_next);
    // What its receiver will not believe ends nothing.
    if is_reset && !(rst && packet.is_sum_right) {
        return state;
    }
    // Wrapping distance: only what lies ahead moves the mark.
    if !is_reset && is_near && (sent == 0 || (next.wrapping_sub(sent) as i32) > 0) {
        mine.store(next);
    }
    state.advance(Signal {
        from_opener: direction == opener,
        syn: flags & tcp_flag::SYN != 0,
        ack: has_ack,
        fin: flags & tcp_flag::FIN != 0 && is_near,
        rst,
        acks_all,
    })
}

/// The sequence number that follows a TCP packet.
#[inline(always)]
#[must_use]
pub const fn next_sequence(packet: &Packet) -> u32 {
    let flags = packet.tcp_flags;
    let syn = (flags & tcp_flag::SYN != 0) as u32;
    let fin = (flags & tcp_flag::FIN != 0) as u32;
    packet.sequence.wrapping_add(packet.payload).wrapping_add(syn + fin)
}

/// Whether two sequence numbers are no further apart than any window in use: 32 MiB.
#[inline(always)]
const fn is_near(a: u32, b: u32) -> bool {
    const REACH: u32 = 1 << 25;
    a.wrapping_sub(b).wrapping_add(REACH) <= 2 * REACH
}

#[cfg(test)]
mod tests;
