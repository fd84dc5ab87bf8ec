//! The decision about one packet: section 2 of `docs/semantics.md`, readable top to bottom.
//!
//! The programs call [`decide`] over maps, tests and `explain` over memory. It reads the clock
//! from its arguments and has no other inputs than its tables, so the same packet in the same
//! state gives the same answer everywhere.

pub mod network;

use crate::{
    abi::{self, Control},
    addr::{Addr, Family},
    flow::{
        FlowState, Origin,
        datagram::{self, Judged},
        follow::Step,
        identity::{self, IcmpKind, Way},
        open::{Admission, Opened, open},
        table::{Context, Found, Memory},
        track::{Terms, Tracked},
    },
    image::{self, Corrupt, Node, RuleWord, flag},
    tuple::{Direction, Protocol, Selector, Table},
    verdict::{AllowReason, DropReason, RuleNumber, Verdict},
    wire::{Packet, Payload, Unreadable, tcp_flag},
};
use network::Network;

/// Which kernel hook a packet passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// Into the kernel: XDP or TC ingress.
    Ingress,
    /// Out of the kernel: TC egress.
    Egress,
}

/// What a decision reads: one image, one flow table, one moment.
#[derive(Clone, Copy, Debug)]
pub struct Tables<'a, N: ?Sized, M: ?Sized> {
    /// The image in force, if there is one.
    pub nodes: Option<&'a N>,
    /// The flows.
    pub memory: &'a M,
    /// Keys, timeouts and switches.
    pub control: &'a Control,
    /// The generation in force.
    pub generation: u64,
    /// The present moment in jiffies: flows count in ticks of it.
    pub jiffies: u64,
    /// Whether the instance is behind the interface, as its attachment says: what counts where the
    /// image does not say so, because it cannot be read.
    pub is_guest: bool,
}

/// The answer, and what is to be counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Outcome {
    /// The verdict. In audit mode a drop that is not carried out.
    pub verdict: Verdict,
    /// The direction, told from the instance's side.
    pub direction: Direction,
    /// Whether the zone is in audit mode: the packet passes whatever the verdict.
    pub is_audited: bool,
    /// Whether the packet opened a flow.
    pub has_opened: bool,
}

impl Outcome {
    /// Whether the packet passes.
    #[inline(always)]
    #[must_use]
    pub const fn passes(&self) -> bool {
        matches!(self.verdict, Verdict::Allow(..)) || self.is_audited
    }
}

/// Judges a packet of zone `zone_number` at `hook`. `bytes` is the frame's length.
///
/// `payload` is what [`crate::wire::parse`] made of the frame, and `packet` what it filled in; of a
/// later fragment the rest is filled in here.
#[inline(always)]
pub fn decide<N: Network + ?Sized, M: Memory + ?Sized>(
    tables: &Tables<'_, N, M>,
    zone_number: u32,
    hook: Hook,
    payload: Result<Payload, Unreadable>,
    packet: &mut Packet,
    bytes: u64,
) -> Outcome {
    let Some((nodes, zone)) = policy_of(tables, zone_number) else {
        return without_policy(tables, zone_number, hook, payload, packet);
    };
    let flags = zone.words[image::zone_word::FLAGS];
    let is_inbound = matches!(hook, Hook::Ingress) != (flags & flag::GUEST != 0);
    let direction = if is_inbound { Direction::Inbound } else { Direction::Outbound };
    let mut findings = Findings { rule: Origin::NO_RULE, has_opened: false };
    let payload = match payload {
        Ok(Payload::LATER_FRAGMENT) => tables.memory.rejoin(&tables.context(), zone_number, packet).unpack(),
        other => other,
    };
    let way = Way { zone: zone_number, direction };
    let judge = Judge { tables, nodes, zone, flags, way, packet, bytes };
    let verdict = match payload {
        Err(unreadable) => Err(unreadable.reason()),
        Ok(readable) => judge.readable(readable, &mut findings),
    };
    let verdict = match verdict {
        Err(reason)
            if payload == Ok(Payload::IP)
                && reason.is_overruled_by_unlock()
                && tables.is_unlocked(packet, way) =>
        {
            findings = Findings { rule: Origin::NO_RULE, has_opened: false };
            Ok(AllowReason::Unlock)
        }
        verdict => verdict,
    };
    if payload == Ok(Payload::IP) && packet.is_first_fragment {
        let reason = match verdict {
            Ok(_) => 0,
            Err(reason) => reason.number(),
        };
        let judged = Judged { reason, generation: tables.generation };
        datagram::keep(tables.memory, &tables.context(), zone_number, packet, judged);
    }
    let Findings { rule, has_opened } = findings;
    let rule = (rule != Origin::NO_RULE).then_some(RuleNumber(rule));
    Outcome {
        verdict: match verdict {
            Ok(reason) => Verdict::Allow(reason, rule),
            Err(reason) => Verdict::Drop(reason),
        },
        direction,
        is_audited: flags & flag::AUDIT != 0,
        has_opened,
    }
}

/// The image, and what it has for a zone.
#[inline(always)]
fn policy_of<'a, N: Network + ?Sized, M: ?Sized>(
    tables: &Tables<'a, N, M>,
    zone: u32,
) -> Option<(&'a N, &'a Node)> {
    let nodes = tables.nodes?;
    image::zone(nodes, zone).ok().map(|zone| (nodes, zone))
}

/// Judges a packet where the image has nothing for its interface, or there is none: it is dropped, but
/// for what is unlocked. Then the host's own neighbours are found as well, whatever their part of the
/// infrastructure set was: else nobody would reach the port for long.
#[inline(always)]
fn without_policy<N: ?Sized, M: Memory + ?Sized>(
    tables: &Tables<'_, N, M>,
    zone: u32,
    hook: Hook,
    payload: Result<Payload, Unreadable>,
    packet: &Packet,
) -> Outcome {
    let is_inbound = matches!(hook, Hook::Ingress) != tables.is_guest;
    let direction = if is_inbound { Direction::Inbound } else { Direction::Outbound };
    let passes = tables.has_unlocked()
        && match payload {
            Ok(Payload::ARP) => !tables.is_guest,
            Ok(Payload::IP) if !tables.is_guest && network::finds_neighbours(packet) => true,
            Ok(Payload::IP) => tables.memory.is_unlocked(packet, Way { zone, direction }, tables.jiffies),
            Ok(_) | Err(_) => false,
        };
    Outcome {
        verdict: if passes {
            Verdict::Allow(AllowReason::Unlock, None)
        } else {
            Verdict::Drop(DropReason::PolicyUnavailable)
        },
        direction,
        is_audited: false,
        has_opened: false,
    }
}

impl<N: ?Sized, M: Memory + ?Sized> Tables<'_, N, M> {
    /// Whether anything may be unlocked now: all that most drops ask.
    #[inline(always)]
    const fn has_unlocked(&self) -> bool {
        self.jiffies < self.control.unlocked_until
    }

    /// Whether a packet passes by what is unlocked.
    #[inline(always)]
    fn is_unlocked(&self, packet: &Packet, way: Way) -> bool {
        self.has_unlocked() && self.memory.is_unlocked(packet, way, self.jiffies)
    }
}

impl<N: ?Sized, M: ?Sized> Tables<'_, N, M> {
    #[inline(always)]
    const fn context(&self) -> Context<'_> {
        let control = self.control;
        Context {
            hash_keys: &control.hash_keys,
            bucket_mask: control.bucket_mask,
            timeouts: &control.timeouts,
            now: abi::tick(self.jiffies),
        }
    }
}

/// What lets a packet pass, or why it does not.
type Judgement = Result<AllowReason, DropReason>;

/// What is found on the way to a judgement, whatever that is. Kept apart from it, because a value
/// that only some outcomes have is undefined in the others, and the verifier refuses to see such a
/// register copied.
#[derive(Clone, Copy)]
struct Findings {
    /// The number of the rule that admits the packet, or [`Origin::NO_RULE`].
    rule: u32,
    /// Whether the packet has opened a flow.
    has_opened: bool,
}

impl From<Corrupt> for DropReason {
    #[inline(always)]
    fn from(_: Corrupt) -> Self {
        Self::PolicyUnavailable
    }
}

/// One packet before the tables.
struct Judge<'a, N: ?Sized, M: ?Sized> {
    tables: &'a Tables<'a, N, M>,
    nodes: &'a N,
    zone: &'a Node,
    flags: u32,
    way: Way,
    packet: &'a Packet,
    bytes: u64,
}

impl<N: Network + ?Sized, M: Memory + ?Sized> Judge<'_, N, M> {
    #[inline(always)]
    fn readable(&self, payload: Payload, findings: &mut Findings) -> Judgement {
        // 3 and 4. The infrastructure set and the source check.
        let is_ip = payload == Payload::IP;
        if !(is_ip && network::is_no_concern(self.packet, self.flags))
            && self.nodes.network(self.packet, payload, self.way).unpack()?
        {
            return Ok(AllowReason::Infrastructure);
        }
        self.ip(findings)
    }

    #[inline(always)]
    fn ip(&self, findings: &mut Findings) -> Judgement {
        let Packet { tcp_flags: flags, transport, fragment_offset, .. } = self.packet;
        // A later fragment belongs to what its first one was, and changes nothing.
        let is_later = *fragment_offset != 0;
        if transport.protocol == Protocol::TCP.0 && !is_later && !tcp_flag::are_sane(*flags) {
            return Err(DropReason::InvalidTcpFlags);
        }
        let selector = identity::selector(self.packet);
        let Selector { table, value } = selector;
        // A bare SYN asks for a new connection, whatever the flow table knows: the rules decide.
        let is_bare_syn = table == Table::Tcp && flags & (tcp_flag::SYN | tcp_flag::ACK) == tcp_flag::SYN;
        let icmp = if table == Table::Icmp { IcmpKind::of(self.family(), value) } else { IcmpKind::Query };
        // An error is related to the flow of the packet that it quotes.
        let is_related = icmp == IcmpKind::Error && identity::quotes_a_flow(self.packet);
        let Tables { memory, generation, .. } = *self.tables;
        let context = self.tables.context();
        // 5. The flow table.
        let tracked = if (icmp.is_tracked() || is_related) && !is_bare_syn {
            let terms = Terms::new(generation, self.tables.control.keep_flows != 0);
            let terms = if is_related { terms.looking() } else { terms };
            memory.track(&context, self.packet, self.way, terms, self.bytes)
        } else {
            Tracked::NOTHING
        };
        if let Some(rule) = tracked.rule() {
            findings.rule = rule;
            return Ok(AllowReason::Flow);
        }
        if let Some(found) = Found::at(memory, tracked.place()) {
            let protocol =
                Protocol(if is_related { self.packet.quote.protocol().0 } else { transport.protocol });
            let remote = if is_related && self.way.direction == Direction::Inbound {
                self.packet.subject
            } else {
                self.remote()
            };
            let state = self.standing(&found, remote, protocol, findings)?;
            if !is_related {
                let step = Step { found: found.state, state, direction: self.way.direction };
                if !memory.follow(&context, found.place, self.packet, step, self.bytes) {
                    // Another CPU was faster. What this packet means for the flow must not be lost.
                    memory.follow(&context, found.place, self.packet, step, 0);
                }
                return if state.is_revoked() { Err(DropReason::Revoked) } else { Ok(AllowReason::Flow) };
            }
            if !state.is_revoked() && found.has_sent(self.way.direction.reverse()) {
                return Ok(AllowReason::Flow);
            }
        }
        // It is no packet of a flow, if there is one, and of no rule.
        findings.rule = Origin::NO_RULE;
        if is_related && self.quotes_untracked()? {
            return Ok(AllowReason::Flow);
        }
        // 6. Rules.
        let word = self.rule(self.way.direction, self.remote(), selector)?;
        let Some(rule) = word.rule() else {
            // 7. Otherwise it is dropped.
            return Err(match icmp {
                IcmpKind::Error | IcmpKind::Redirect => DropReason::IcmpErrorWithoutFlow,
                _ => DropReason::NoRule,
            });
        };
        let is_picked_up = table == Table::Tcp && !is_bare_syn;
        let may_open = !is_later && icmp == IcmpKind::Query && (!is_picked_up || self.may_pick_up());
        if may_open && !self.is_untracked(table, word, is_bare_syn)? {
            let admission = Admission { rule: rule.0, generation };
            match open(memory, &context, self.packet, self.way, admission, self.bytes) {
                Opened::FULL => return Err(DropReason::FlowTableFull),
                opened => findings.has_opened = opened == Opened::NEW,
            }
        }
        findings.rule = rule.0;
        Ok(AllowReason::Rule)
    }

    #[inline(always)]
    fn family(&self) -> Family {
        self.packet.source.family()
    }

    #[inline(always)]
    fn remote(&self) -> Addr {
        match self.way.direction {
            Direction::Inbound => self.packet.source,
            Direction::Outbound => self.packet.destination,
        }
    }

    #[inline(always)]
    fn rule(&self, direction: Direction, remote: Addr, selector: Selector) -> Result<RuleWord, Corrupt> {
        image::rule(self.nodes, self.zone, direction, remote, selector)
    }

    /// Section 6: the state of a known flow under the policy in force, and which rule admits it.
    #[inline(always)]
    fn standing(
        &self,
        found: &Found<'_>,
        remote: Addr,
        protocol: Protocol,
        findings: &mut Findings,
    ) -> Result<FlowState, Corrupt> {
        let generation = self.tables.generation;
        let mut state = found.state;
        findings.rule = found.origin.rule();
        let is_older = found.origin.generation() != (generation & 0x00ff_ffff) as u32;
        // What is revoked is judged each time: a CPU that was late with an older generation may have
        // been the one to end it.
        if (is_older && self.tables.control.keep_flows == 0) || state.is_revoked() {
            match self.rule(found.life.opener(), remote, found.selector)?.rule() {
                Some(RuleNumber(number)) => {
                    findings.rule = number;
                    found.admit(generation, number);
                    if state.is_revoked() {
                        state = alive_again(found, protocol);
                    }
                }
                None if matches!(protocol, Protocol::TCP) => state = FlowState::RevokedTcp,
                None => state = FlowState::Revoked,
            }
        }
        Ok(state)
    }

    /// Whether a TCP packet without a flow, from the middle of a connection, opens one.
    ///
    /// The rules let the packet itself pass. A flow would let the other direction pass too, and who
    /// opened the connection nobody knows: were it the other side, by a rule that is gone, the
    /// instance's next word would carry on what has ended. So the sender must look like the side
    /// that opened it: from the instance a port of the ephemeral range (`ip_local_port_range` begins
    /// at 32768, RFC 6335's at 49152), from elsewhere, where address translation may have chosen it,
    /// one that no service listens on by privilege. A reset or an answered SYN never opens one.
    #[inline(always)]
    fn may_pick_up(&self) -> bool {
        const EPHEMERAL: u16 = 32_768;
        const PRIVILEGED: u16 = 1024;
        let lowest = match self.way.direction {
            Direction::Outbound => EPHEMERAL,
            Direction::Inbound => PRIVILEGED,
        };
        self.packet.tcp_flags & (tcp_flag::RST | tcp_flag::SYN) == 0
            && self.packet.transport.source_port >= lowest
    }

    /// Whether a direction opens the whole of a table to any address.
    #[inline(always)]
    fn is_open(&self, table: Table, direction: Direction) -> bool {
        let open = match table {
            Table::Tcp => flag::OPEN_TCP,
            Table::Udp => flag::OPEN_UDP,
            Table::Icmp | Table::Other => return false,
        };
        self.flags & open << image::rule_set_slot(direction, self.family()) != 0
    }

    /// Section 7: whether an error quotes a packet of traffic that needs no entry, so that no flow can
    /// be asked for: one side is open whole, and the other opens the port to any address.
    #[inline(always)]
    fn quotes_untracked(&self) -> Result<bool, Corrupt> {
        let Packet { destination, subject, quote, .. } = *self.packet;
        let table = image::table(self.family(), quote.protocol().0);
        let (back, remote) = match self.way.direction {
            Direction::Inbound => (Direction::Outbound, subject),
            Direction::Outbound => (Direction::Inbound, destination),
        };
        // The quoted packet was a request, or the answer to one.
        let (direction, value) = if self.is_open(table, self.way.direction) {
            (back, quote.destination())
        } else if self.is_open(table, back) {
            (self.way.direction, quote.source())
        } else {
            return Ok(false);
        };
        Ok(self.rule(direction, remote, Selector { table, value })?.is_anywhere())
    }

    /// Whether the traffic needs no entry: a rule opens it to any address, and the other direction
    /// is open whole; or it is the answer to such traffic.
    #[inline(always)]
    fn is_untracked(&self, table: Table, word: RuleWord, is_bare_syn: bool) -> Result<bool, Corrupt> {
        if word.is_anywhere() && self.is_open(table, self.way.direction.reverse()) {
            return Ok(true);
        }
        if is_bare_syn || !self.is_open(table, self.way.direction) {
            return Ok(false);
        }
        let selector = Selector { table, value: self.packet.transport.source_port };
        Ok(self.rule(self.way.direction.reverse(), self.remote(), selector)?.is_anywhere())
    }
}

/// The state of a flow that the rules admit again after they had ended it. What it was before is
/// forgotten: only a connection that both sides have spoken on counts as established.
#[inline(always)]
fn alive_again(found: &Found<'_>, protocol: Protocol) -> FlowState {
    let [inbound, outbound] = &found.entry.next_sequence;
    match protocol {
        Protocol::TCP if inbound.load() == 0 || outbound.load() == 0 => FlowState::Opening,
        Protocol::TCP => FlowState::Established,
        Protocol::UDP => FlowState::UdpExchange,
        Protocol::ICMP | Protocol::ICMPV6 => FlowState::Icmp,
        _ => FlowState::Other,
    }
}

#[cfg(test)]
mod tests;
