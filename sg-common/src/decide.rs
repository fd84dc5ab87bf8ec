//! The decision about one packet: section 2 of `docs/semantics.md`, readable top to bottom.
//!
//! The programs call [`decide`] over maps, tests and `explain` over memory. It reads the clock
//! from its arguments and has no other inputs than its tables, so the same packet in the same
//! state gives the same answer everywhere.

use crate::{
    abi::Control,
    addr::{Addr, Family},
    flow::{
        FlowKey, FlowState, Origin, Signal,
        table::{self, Context, Found, Memory, Opening},
    },
    image::{self, Corrupt, Node, Nodes, RuleWord, flag},
    tuple::{Direction, Protocol, Selector, Table},
    verdict::{AllowReason, DropReason, RuleNumber, Verdict},
    wire::{Packet, Payload, Unreadable, tcp_flag},
};

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
    /// The image in force.
    pub nodes: &'a N,
    /// The flows.
    pub memory: &'a M,
    /// Keys, timeouts and switches.
    pub control: &'a Control,
    /// The generation in force.
    pub generation: u64,
    /// The present tick.
    pub now: u32,
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
/// `payload` is what [`crate::wire::parse`] made of the frame, and `packet` what it filled in.
#[inline(always)]
pub fn decide<N: Nodes + ?Sized, M: Memory + ?Sized>(
    tables: &Tables<'_, N, M>,
    zone_number: u32,
    hook: Hook,
    payload: Result<Payload, Unreadable>,
    packet: &Packet,
    bytes: u64,
) -> Outcome {
    let Ok(zone) = image::zone(tables.nodes, zone_number) else {
        return Outcome {
            verdict: Verdict::Drop(DropReason::PolicyUnavailable),
            direction: if matches!(hook, Hook::Ingress) { Direction::Inbound } else { Direction::Outbound },
            is_audited: false,
            has_opened: false,
        };
    };
    let flags = zone.words[image::zone_word::FLAGS];
    let is_inbound = matches!(hook, Hook::Ingress) != (flags & flag::GUEST != 0);
    let direction = if is_inbound { Direction::Inbound } else { Direction::Outbound };
    let mut has_opened = false;
    let judge = Judge { tables, zone, zone_number, flags, direction, packet, bytes };
    let verdict = match payload {
        Err(unreadable) => Err(unreadable.reason()),
        Ok(Payload::IP) => judge.ip(&mut has_opened),
        Ok(Payload::ARP) if flags & flag::ARP != 0 => Ok((AllowReason::Infrastructure, None)),
        Ok(Payload(ethertype)) if image::permits_ethertype(zone, ethertype) => {
            Ok((AllowReason::Infrastructure, None))
        }
        Ok(_) => Err(DropReason::UnsupportedEthertype),
    };
    Outcome {
        verdict: match verdict {
            Ok((reason, rule)) => Verdict::Allow(reason, rule),
            Err(reason) => Verdict::Drop(reason),
        },
        direction,
        is_audited: flags & flag::AUDIT != 0,
        has_opened,
    }
}

/// What lets a packet pass, or why it does not.
type Judgement = Result<(AllowReason, Option<RuleNumber>), DropReason>;

impl From<Corrupt> for DropReason {
    #[inline(always)]
    fn from(_: Corrupt) -> Self {
        Self::PolicyUnavailable
    }
}

/// One packet before the tables.
struct Judge<'a, N: ?Sized, M: ?Sized> {
    tables: &'a Tables<'a, N, M>,
    zone: &'a Node,
    zone_number: u32,
    flags: u32,
    direction: Direction,
    packet: &'a Packet,
    bytes: u64,
}

const ECHO_REPLY: u8 = 0;
const ECHO_REQUEST: u8 = 8;
const ECHO_REQUEST_V6: u8 = 128;
const ECHO_REPLY_V6: u8 = 129;

/// The type of the query that a reply of type `kind` answers.
#[inline(always)]
const fn query_of(kind: u8) -> u8 {
    match kind {
        ECHO_REPLY => ECHO_REQUEST,
        // Timestamp, information, address mask, and ICMPv6's echo come in pairs.
        _ => kind - 1,
    }
}

/// What an ICMP message is to the flow table.
#[derive(Clone, Copy, PartialEq, Eq)]
enum IcmpKind {
    /// Asks, and may be answered.
    Query,
    /// Answers a query.
    Reply,
    /// Tells of trouble with another packet.
    Error,
    /// Anything else: judged by the rules alone, each by itself.
    Other,
}

impl<N: Nodes + ?Sized, M: Memory + ?Sized> Judge<'_, N, M> {
    #[inline(always)]
    fn ip(&self, has_opened: &mut bool) -> Judgement {
        // 3. The infrastructure set.
        if self.infrastructure()? {
            return Ok((AllowReason::Infrastructure, None));
        }
        // 4. Source check.
        if self.flags & flag::SOURCE_CHECK != 0 {
            self.source_check()?;
        }
        let flags = self.packet.tcp_flags;
        if self.packet.protocol == Protocol::TCP.0 && !are_sane(flags) {
            return Err(DropReason::InvalidTcpFlags);
        }
        let table = image::table(self.family(), self.packet.protocol);
        // A bare SYN asks for a new connection, whatever the flow table knows: the rules decide.
        let is_bare_syn = table == Table::Tcp && flags & (tcp_flag::SYN | tcp_flag::ACK) == tcp_flag::SYN;
        let icmp = if table == Table::Icmp { self.icmp_kind() } else { IcmpKind::Query };
        let is_trackable = matches!(icmp, IcmpKind::Query | IcmpKind::Reply);
        let key = self.key(table, icmp);
        // 5. The flow table.
        if is_trackable
            && !is_bare_syn
            && let Some(found) = table::find(self.tables.memory, &self.context(), &key)
        {
            return self.flow(&found);
        }
        // 6. Rules.
        let word = self.rule(self.direction, self.selector(table))?;
        let Some(rule) = word.rule() else {
            // 7. Otherwise it is dropped.
            return Err(match icmp {
                IcmpKind::Error => DropReason::IcmpErrorWithoutFlow,
                _ => DropReason::NoRule,
            });
        };
        let is_picked_up = table == Table::Tcp && !is_bare_syn;
        let may_open = icmp != IcmpKind::Reply && (!is_picked_up || self.may_pick_up());
        if is_trackable && may_open && !self.is_untracked(table, word, is_bare_syn)? {
            *has_opened = self.open(&key, table, rule, is_bare_syn)?;
        }
        Ok((AllowReason::Rule, Some(rule)))
    }

    #[inline(always)]
    fn family(&self) -> Family {
        self.packet.source.family()
    }

    #[inline(always)]
    fn context(&self) -> Context<'_> {
        let control = self.tables.control;
        Context {
            hash_keys: &control.hash_keys,
            bucket_mask: control.bucket_mask,
            timeouts: &control.timeouts,
            now: self.tables.now,
        }
    }

    /// The instance's address and port, then the other side's.
    #[inline(always)]
    fn ends(&self) -> (Addr, u16, Addr, u16) {
        let Packet { source, destination, source_port, destination_port, .. } = *self.packet;
        match self.direction {
            Direction::Inbound => (destination, destination_port, source, source_port),
            Direction::Outbound => (source, source_port, destination, destination_port),
        }
    }

    #[inline(always)]
    fn remote(&self) -> Addr {
        match self.direction {
            Direction::Inbound => self.packet.source,
            Direction::Outbound => self.packet.destination,
        }
    }

    /// What the rules of the packet's own direction are asked for.
    #[inline(always)]
    fn selector(&self, table: Table) -> Selector {
        let value = match table {
            Table::Tcp | Table::Udp => self.packet.destination_port,
            Table::Icmp => self.packet.icmp,
            Table::Other => u16::from(self.packet.protocol),
        };
        Selector { table, value }
    }

    #[inline(always)]
    fn rule(&self, direction: Direction, selector: Selector) -> Result<RuleWord, Corrupt> {
        image::rule(self.tables.nodes, self.zone, direction, self.remote(), selector)
    }

    #[inline(always)]
    fn key(&self, table: Table, icmp: IcmpKind) -> FlowKey {
        let (local, local_port, remote, remote_port) = self.ends();
        let protocol = Protocol(self.packet.protocol);
        if table == Table::Icmp {
            let kind = (self.packet.icmp >> 8) as u8;
            let (kind, query) = match icmp {
                IcmpKind::Reply => (query_of(kind), self.direction.reverse()),
                _ => (kind, self.direction),
            };
            let id = self.packet.icmp_id;
            return FlowKey::icmp(self.zone_number, protocol, local, remote, id, kind, query);
        }
        FlowKey::new(self.zone_number, protocol, local, local_port, remote, remote_port)
    }

    #[inline(always)]
    fn icmp_kind(&self) -> IcmpKind {
        let kind = (self.packet.icmp >> 8) as u8;
        let is_plain = self.packet.icmp & 0xff == 0;
        if self.packet.source.is_v4() {
            match kind {
                // Echo, timestamp, information and address mask.
                ECHO_REQUEST | 13 | 15 | 17 if is_plain => IcmpKind::Query,
                ECHO_REPLY | 14 | 16 | 18 if is_plain => IcmpKind::Reply,
                // Unreachable, source quench, redirect, time exceeded, parameter problem.
                3 | 4 | 5 | 11 | 12 => IcmpKind::Error,
                _ => IcmpKind::Other,
            }
        } else {
            match kind {
                ECHO_REQUEST_V6 if is_plain => IcmpKind::Query,
                ECHO_REPLY_V6 if is_plain => IcmpKind::Reply,
                // Unreachable, too big, time exceeded, parameter problem, redirect.
                1..=4 | 137 => IcmpKind::Error,
                _ => IcmpKind::Other,
            }
        }
    }

    /// Section 4: whether the packet is one that a host needs to stay on its network.
    #[inline(always)]
    fn infrastructure(&self) -> Result<bool, DropReason> {
        let packet = self.packet;
        let is_from_guest = self.flags & flag::GUEST != 0 && self.direction == Direction::Outbound;
        if packet.protocol == Protocol::UDP.0 {
            if self.flags & flag::DHCP == 0 {
                return Ok(false);
            }
            let (client, server) = if packet.source.is_v4() { (68, 67) } else { (546, 547) };
            let ports = (packet.source_port, packet.destination_port);
            let is_request = ports == (client, server);
            let is_answer = ports == (server, client);
            if is_from_guest && is_answer {
                return Err(DropReason::DhcpServerFromGuest);
            }
            return Ok(match self.direction {
                Direction::Inbound => is_answer,
                Direction::Outbound => is_request,
            });
        }
        if packet.protocol != Protocol::ICMPV6.0 || packet.source.is_v4() {
            return Ok(false);
        }
        let kind = (packet.icmp >> 8) as u8;
        match kind {
            133..=137 if self.flags & flag::NDP != 0 => {
                if is_from_guest && (kind == 134 || kind == 137) {
                    return Err(DropReason::RouterAdvertisementFromGuest);
                }
                // RFC 4861 has every receiver discard what a router may have forwarded; RFC 6980
                // what is fragmented.
                if packet.hop_limit != 255 || packet.icmp & 0xff != 0 || packet.is_wrapped {
                    return Err(DropReason::Malformed);
                }
                Ok(kind != 137)
            }
            130..=132 | 143 if self.flags & flag::MLD != 0 => {
                // RFC 3810: from a link-local address, or none yet, with hop limit 1.
                let source = packet.source;
                let is_local = source.hi() >> 54 == 0xfe80 >> 6 || source == Addr::UNSPECIFIED_V6;
                Ok(packet.hop_limit == 1 && is_local)
            }
            _ => Ok(false),
        }
    }

    /// Section 2, step 4: only the instance's own addresses leave, and are entered.
    #[inline(always)]
    fn source_check(&self) -> Result<(), DropReason> {
        let (local, ..) = self.ends();
        if self.direction == Direction::Inbound && is_group_address(local) {
            return Ok(());
        }
        if image::is_own(self.tables.nodes, self.zone, local)? {
            Ok(())
        } else {
            Err(DropReason::SourceCheck)
        }
    }

    /// Sections 5 and 6: a packet of a flow that is known.
    #[inline(always)]
    fn flow(&self, found: &Found<'_>) -> Judgement {
        let generation = self.tables.generation;
        let context = self.context();
        let opener = found.life.opener();
        let mut state = found.state;
        let mut rule = found.origin.rule();
        let is_older = found.origin.generation() != (generation & 0x00ff_ffff) as u32;
        // What is revoked is judged each time: a CPU that was late with an older generation may have
        // been the one to end it.
        if (is_older && self.tables.control.keep_flows == 0) || state.is_revoked() {
            match self.rule(opener, found.selector)?.rule() {
                Some(RuleNumber(number)) => {
                    rule = number;
                    found.admit(generation, number);
                    if state.is_revoked() {
                        state = self.alive_again(found);
                    }
                }
                None if self.is_tcp() => state = FlowState::RevokedTcp,
                None => state = FlowState::Revoked,
            }
        }
        if state.is_revoked() {
            found.touch(state, &context);
            return Err(DropReason::Revoked);
        }
        let next = if self.is_tcp() {
            self.advance_tcp(found, state, opener)
        } else {
            state.advance(self.signal(opener))
        };
        // A reset or FIN never lengthens a flow's life.
        let ends = self.is_tcp() && self.packet.tcp_flags & (tcp_flag::RST | tcp_flag::FIN) != 0;
        if next != found.state || !ends {
            found.touch(next, &context);
        }
        found.count(self.direction, self.bytes);
        Ok((AllowReason::Flow, (rule != Origin::NO_RULE).then_some(RuleNumber(rule))))
    }

    #[inline(always)]
    const fn is_tcp(&self) -> bool {
        self.packet.protocol == Protocol::TCP.0
    }

    /// The state of a flow that the rules admit again after they had ended it. What it was before is
    /// forgotten: only a connection that both sides have spoken on counts as established.
    #[inline(always)]
    fn alive_again(&self, found: &Found<'_>) -> FlowState {
        let [inbound, outbound] = &found.entry.next_sequence;
        match Protocol(self.packet.protocol) {
            Protocol::TCP if inbound.load() == 0 || outbound.load() == 0 => FlowState::Opening,
            Protocol::TCP => FlowState::Established,
            Protocol::UDP => FlowState::UdpExchange,
            Protocol::ICMP | Protocol::ICMPV6 => FlowState::Icmp,
            _ => FlowState::Other,
        }
    }

    /// What a packet of another protocol than TCP means to its flow.
    #[inline(always)]
    fn signal(&self, opener: Direction) -> Signal {
        Signal {
            from_opener: self.direction == opener,
            syn: false,
            ack: false,
            fin: false,
            rst: false,
            acks_all: false,
        }
    }

    /// The state after a TCP packet, with the sequence numbers kept up.
    ///
    /// The marks are what each side has sent so far, 0 for a side not heard yet. A segment that lies
    /// far from both, in what it sends or in what it acknowledges, is left to the endpoints: it moves
    /// no mark and ends nothing, so that nobody off the path can end a flow blindly.
    #[inline(always)]
    fn advance_tcp(&self, found: &Found<'_>, state: FlowState, opener: Direction) -> FlowState {
        let packet = self.packet;
        let flags = packet.tcp_flags;
        let [inbound, outbound] = &found.entry.next_sequence;
        let (mine, theirs) = match self.direction {
            Direction::Inbound => (inbound, outbound),
            Direction::Outbound => (outbound, inbound),
        };
        let sent = mine.load() as u32;
        let heard = theirs.load() as u32;
        let next = next_sequence(packet);
        let has_ack = flags & tcp_flag::ACK != 0;
        let is_near = (sent == 0 || is_near(next, sent))
            && (!has_ack || heard == 0 || is_near(packet.acknowledgement, heard));
        let acks_all = has_ack && packet.acknowledgement == heard;
        let is_reset = flags & tcp_flag::RST != 0;
        // RFC 5961: a reset counts when it is the very next octet. A refusal has no sequence of its
        // own yet and proves itself by what it acknowledges.
        let is_refusal = state == FlowState::Opening && self.direction != opener && acks_all;
        let rst =
            is_reset && (is_refusal || (sent != 0 && packet.sequence == sent && state != FlowState::Opening));
        if is_reset && !rst {
            return state;
        }
        // Wrapping distance: only what lies ahead moves the mark.
        if !is_reset && is_near && (sent == 0 || (next.wrapping_sub(sent) as i32) > 0) {
            mine.store(next.into());
        }
        state.advance(Signal {
            from_opener: self.direction == opener,
            syn: flags & tcp_flag::SYN != 0,
            ack: has_ack,
            fin: flags & tcp_flag::FIN != 0 && is_near,
            rst,
            acks_all,
        })
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
        let lowest = match self.direction {
            Direction::Outbound => EPHEMERAL,
            Direction::Inbound => PRIVILEGED,
        };
        self.packet.tcp_flags & (tcp_flag::RST | tcp_flag::SYN) == 0 && self.packet.source_port >= lowest
    }

    /// Whether the traffic needs no entry: a rule opens it to any address, and the other direction
    /// is open whole; or it is the answer to such traffic.
    #[inline(always)]
    fn is_untracked(&self, table: Table, word: RuleWord, is_bare_syn: bool) -> Result<bool, Corrupt> {
        let open = match table {
            Table::Tcp => flag::OPEN_TCP,
            Table::Udp => flag::OPEN_UDP,
            Table::Icmp | Table::Other => return Ok(false),
        };
        let is_open = |direction| self.flags & open << image::rule_set_slot(direction, self.family()) != 0;
        if word.is_anywhere() && is_open(self.direction.reverse()) {
            return Ok(true);
        }
        if is_bare_syn || !is_open(self.direction) {
            return Ok(false);
        }
        let selector = Selector { table, value: self.packet.source_port };
        Ok(self.rule(self.direction.reverse(), selector)?.is_anywhere())
    }

    /// Enters a flow, or starts one afresh. Tells whether a flow was opened.
    #[inline(always)]
    fn open(
        &self,
        key: &FlowKey,
        table: Table,
        rule: RuleNumber,
        is_bare_syn: bool,
    ) -> Result<bool, DropReason> {
        let opening = Opening {
            state: match table {
                Table::Tcp => FlowState::Opening,
                Table::Udp => FlowState::UdpOneWay,
                Table::Icmp => FlowState::Icmp,
                Table::Other => FlowState::Other,
            },
            opener: self.direction,
            generation: self.tables.generation,
            rule: rule.0,
            selector: self.selector(table),
            bytes: self.bytes,
            next_sequence: next_sequence(self.packet),
        };
        let context = self.context();
        if is_bare_syn && let Some(found) = table::find(self.tables.memory, &context, key) {
            return Ok(self.syn_again(&found, key, &opening));
        }
        if table::insert(self.tables.memory, &context, key, &opening) {
            Ok(true)
        } else {
            Err(DropReason::FlowTableFull)
        }
    }

    /// A SYN, allowed by the rules, on the ports of a flow that is known.
    ///
    /// A flow that is over begins afresh. A live one stays as it is: a forged SYN must not shorten
    /// it, and an endpoint that has lost its state gets its challenge answered through it.
    #[inline(always)]
    fn syn_again(&self, found: &Found<'_>, key: &FlowKey, opening: &Opening) -> bool {
        let now = self.tables.now;
        match found.state {
            FlowState::Closing | FlowState::Revoked | FlowState::RevokedTcp => {
                table::restart(found, now, key, opening)
            }
            FlowState::Opening | FlowState::Answered if found.life.opener() == self.direction => {
                // Repeated, or the same ports tried again with another sequence number.
                table::restart(found, now, key, opening);
                false
            }
            _ => {
                found.touch(found.state, &self.context());
                found.count(self.direction, self.bytes);
                false
            }
        }
    }
}

/// The sequence number that follows a TCP packet.
#[inline(always)]
const fn next_sequence(packet: &Packet) -> u32 {
    let flags = packet.tcp_flags;
    let syn = (flags & tcp_flag::SYN != 0) as u32;
    let fin = (flags & tcp_flag::FIN != 0) as u32;
    packet.sequence.wrapping_add(packet.payload).wrapping_add(syn + fin)
}

/// Whether an endpoint sends these TCP flags together: a SYN alone or with ACK, a RST alone or with
/// ACK, or an ACK with or without FIN. PSH, URG and the congestion bits do not matter.
#[inline(always)]
const fn are_sane(flags: u8) -> bool {
    const FIN: u8 = tcp_flag::FIN;
    const SYN: u8 = tcp_flag::SYN;
    const RST: u8 = tcp_flag::RST;
    const ACK: u8 = tcp_flag::ACK;
    let bits = flags & (FIN | SYN | RST | ACK);
    bits == SYN || bits == SYN | ACK || bits == RST || bits == RST | ACK || bits == ACK || bits == FIN | ACK
}

/// Whether two sequence numbers are no further apart than any window in use: 32 MiB.
#[inline(always)]
const fn is_near(a: u32, b: u32) -> bool {
    const REACH: u32 = 1 << 25;
    a.wrapping_sub(b).wrapping_add(REACH) <= 2 * REACH
}

/// Whether the address stands for many: multicast, or IPv4's limited broadcast.
#[inline(always)]
const fn is_group_address(address: Addr) -> bool {
    if address.is_v4() {
        address.v4_bits() >> 28 == 0xe || address.v4_bits() == u32::MAX
    } else {
        address.hi() >> 56 == 0xff
    }
}
