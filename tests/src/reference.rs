//! The promise, written down a second time: every packet judged slowly and obviously.
//!
//! It follows the text of `docs/semantics.md`, sections 2 to 7, and shares nothing with the datapath
//! but the words for verdicts and the reference for rules, [`sg_agent::policy::eval`]: frames are
//! read by hand ([`read`]), flows lie in a list ([`flow`]). Where flows are kept in buckets it does
//! not know, so that whoever asks tells it whether there is room for one more
//! ([`Reference::has_room`]), and which of them had to give way ([`Reference::forget`]).

use sg_agent::policy::{InterfaceEntry, Mode, Policy, Side};
use sg_common::{
    addr::Family,
    flow::Timeout,
    tuple::{Direction, Selector, Table},
    verdict::{AllowReason, DropReason, RuleNumber, Verdict},
};

mod datagrams;
pub mod flow;
mod infrastructure;
mod question;
pub mod quote;
pub mod read;
pub mod rules;
pub mod unlocked;

use self::{
    datagrams::Datagrams,
    flow::{Flow, Identity, Mark, State},
    question::{ACK, FIN, Question, RST, SYN},
    read::{Body, Frame},
    rules::Rules,
    unlocked::Open,
};

/// The answer about one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The verdict.
    pub verdict: Verdict,
    /// The direction, told from the instance's side.
    pub direction: Direction,
    /// Whether the packet passes all the same.
    pub is_audited: bool,
    /// Whether it opened a flow.
    pub has_opened: bool,
}

/// One interface, its policy and its flows.
#[derive(Clone, Debug)]
pub struct Reference {
    entry: InterfaceEntry,
    is_audited: bool,
    rules: Rules,
    generation: u64,
    keeps_flows: bool,
    timeouts: [u32; 8],
    flows: Vec<Flow>,
    datagrams: Datagrams,
    unlocked: Vec<Open>,
    /// Whether the next packet may open a flow.
    pub has_room: bool,
}

/// Whether the entry, or a group that it names, says that drops are not carried out.
fn is_audited(policy: &Policy, entry: &InterfaceEntry) -> bool {
    let is_carried = |at: &usize| entry.groups.iter().any(|group| group.0 == *at);
    let groups = (0..policy.groups.len()).filter(is_carried);
    entry.mode == Mode::Audit || groups.into_iter().any(|at| policy.groups[at].mode == Mode::Audit)
}

/// Why a packet passes, or why not.
type Judgement = Result<(AllowReason, Option<u32>), DropReason>;

impl Reference {
    /// An interface without flows, under the first entry of `policy`.
    ///
    /// `keeps_flows`: whether flows live on that a new policy does not allow. `timeouts` are in
    /// ticks, by [`sg_common::flow::Timeout`].
    #[must_use]
    pub fn new(policy: &Policy, generation: u64, keeps_flows: bool, timeouts: [u32; 8]) -> Self {
        let entry = policy.interfaces[0].clone();
        let rules = Rules::new(policy, &entry.groups);
        Self {
            is_audited: is_audited(policy, &entry),
            entry,
            rules,
            generation,
            keeps_flows,
            timeouts,
            flows: vec![],
            datagrams: Datagrams::default(),
            unlocked: vec![],
            has_room: true,
        }
    }

    /// Another policy is in force from here on.
    pub fn publish(&mut self, policy: &Policy, generation: u64) {
        self.entry = policy.interfaces[0].clone();
        self.is_audited = is_audited(policy, &self.entry);
        self.rules = Rules::new(policy, &self.entry.groups);
        self.generation = generation;
    }

    /// These ports are open past the policy, and no others.
    pub fn unlock(&mut self, unlocked: Vec<Open>) {
        self.unlocked = unlocked;
    }

    /// All that happened lies this many ticks further back.
    pub fn age(&mut self, ticks: u32) {
        for flow in &mut self.flows {
            flow.seen = flow.seen.wrapping_sub(ticks);
        }
        self.datagrams.age(ticks);
    }

    /// The flows that live at tick `now`.
    pub fn flows(&self, now: u32) -> impl Iterator<Item = &Flow> {
        self.flows.iter().filter(move |flow| !flow.is_over(now, &self.timeouts))
    }

    /// Flows that had to give way are gone.
    pub fn forget(&mut self, is_gone: impl Fn(&Flow) -> bool) {
        self.flows.retain(|flow| !is_gone(flow));
    }

    /// Judges an Ethernet frame that goes into the kernel, or out of it, at tick `now`.
    pub fn judge(&mut self, is_ingress: bool, frame: &[u8], is_gso: bool, now: u32) -> Answer {
        self.flows.retain(|flow| !flow.is_over(now, &self.timeouts));
        self.datagrams.end(now, self.timeouts[Timeout::Fragment as usize]);
        let is_inbound = is_ingress == (self.entry.side == Side::Host);
        let direction = if is_inbound { Direction::Inbound } else { Direction::Outbound };
        let mut has_opened = false;
        let mac = read::source_mac(frame);
        let judgement = read::frame(frame, is_gso).and_then(|frame| match frame {
            Frame::Ip(packet) if packet.is_later() => self.datagrams.rejoin(&packet).map(Frame::Ip),
            other => Ok(other),
        });
        let judgement = judgement.and_then(|readable| {
            let checked = infrastructure::hardware(&self.entry, direction, mac);
            match readable {
                Frame::Foreign(ethertype) => checked.and_then(|()| self.foreign(ethertype)),
                Frame::Arp(arp) if self.entry.infrastructure.arp => {
                    checked.and_then(|()| infrastructure::arp(&self.entry, direction, mac, &arp))?;
                    Ok((AllowReason::Infrastructure, None))
                }
                Frame::Arp(_) => checked.and_then(|()| self.foreign(0x0806)),
                Frame::Ip(packet) => {
                    let question = Question { packet: &packet, direction, bytes: frame.len() as u64, now };
                    let judgement = checked.and_then(|()| self.ip(&question, &mut has_opened));
                    let judgement = match judgement {
                        Err(reason)
                            if unlocked::is_overruled(reason)
                                && unlocked::passes(&self.unlocked, &question) =>
                        {
                            Ok((AllowReason::Unlock, None))
                        }
                        judgement => judgement,
                    };
                    self.datagrams.keep(&packet, judgement.err(), self.generation, now);
                    judgement
                }
            }
        });
        Answer {
            verdict: match judgement {
                Ok((reason, rule)) => Verdict::Allow(reason, rule.map(RuleNumber)),
                Err(reason) => Verdict::Drop(reason),
            },
            direction,
            is_audited: self.is_audited,
            has_opened,
        }
    }

    fn foreign(&self, ethertype: u16) -> Judgement {
        if ethertype != 0 && self.entry.permit_ethertypes.contains(&ethertype) {
            Ok((AllowReason::Infrastructure, None))
        } else {
            Err(DropReason::UnsupportedEthertype)
        }
    }

    fn ip(&mut self, question: &Question<'_>, has_opened: &mut bool) -> Judgement {
        // 3. The infrastructure set.
        if infrastructure::passes(&self.entry, question.direction, question.packet)? {
            return Ok((AllowReason::Infrastructure, None));
        }
        // 4. Source check.
        infrastructure::addresses(&self.entry, question.direction, question.packet)?;
        // 5. Flags, which later fragments do not have.
        if let Body::Tcp(segment) = &question.packet.body
            && !question.packet.is_later()
            && ![SYN, SYN | ACK, RST, RST | ACK, ACK, FIN | ACK]
                .contains(&(segment.flags & (SYN | ACK | RST | FIN)))
        {
            return Err(DropReason::InvalidTcpFlags);
        }
        // 6. The flow table, which a bare SYN does not ask.
        if !question.is_bare_syn()
            && let Some(identity) = question.identity()
            && let Some(at) = self.flows.iter().position(|flow| flow.identity == identity)
        {
            return self.carry_on(at, question);
        }
        if let Some(rule) = self.related(question) {
            return Ok((AllowReason::Flow, Some(rule)));
        }
        if self.quotes_untracked(question) {
            return Ok((AllowReason::Flow, None));
        }
        // 7. The rules.
        let (local, remote) = question.ends();
        let Some(rule) = self.rules.ask(question.direction, local, remote, question.selector()) else {
            return Err(if question.is_icmp_error() {
                DropReason::IcmpErrorWithoutFlow
            } else {
                DropReason::NoRule
            });
        };
        if let Some(identity) = question.identity()
            && question.may_open()
            && !self.is_untracked(question)
        {
            *has_opened = self.open(question, identity, rule)?;
        }
        Ok((AllowReason::Rule, Some(rule)))
    }

    /// Section 7: the rule of the flow whose packet an ICMP error quotes. It must be one that went the
    /// other way, and no policy change may have ended the flow.
    fn related(&mut self, question: &Question<'_>) -> Option<u32> {
        let identity = question.quoted()?;
        let at = self.flows.iter().position(|flow| flow.identity == identity)?;
        let flow = &mut self.flows[at];
        let has_sent = flow.packets[question.direction.reverse() as usize] > 0;
        let is_older = flow.generation != self.generation;
        if (is_older && !self.keeps_flows) || flow.state == State::Revoked {
            let rule = self.rules.ask(flow.opener, identity.local, identity.remote, flow.selector)?;
            (flow.generation, flow.rule) = (self.generation, rule);
        }
        has_sent.then_some(flow.rule)
    }

    /// A packet of a flow that is known: sections 5 and 6.
    fn carry_on(&mut self, at: usize, question: &Question<'_>) -> Judgement {
        let Self { flows, rules, timeouts, generation, .. } = self;
        let flow = &mut flows[at];
        let now = question.now;
        let is_older = flow.generation != *generation;
        let mut state = flow.state;
        if (is_older && !self.keeps_flows) || state == State::Revoked {
            let Identity { local, remote, .. } = flow.identity;
            let Some(rule) = rules.ask(flow.opener, local, remote, flow.selector) else {
                flow.note(State::Revoked, now, timeouts);
                return Err(DropReason::Revoked);
            };
            (flow.generation, flow.rule) = (*generation, rule);
            if state == State::Revoked {
                state = flow.alive_again();
            }
        }
        match &question.packet.body {
            // Part of a packet that has been seen, and may have ended the connection.
            Body::Tcp(_) if question.packet.is_later() => {}
            _ if question.packet.is_later() => flow.note(state, now, timeouts),
            Body::Tcp(segment) => {
                let next = flow.after_segment(state, question.direction, segment);
                if segment.flags & (RST | FIN) == 0 {
                    flow.note(next, now, timeouts);
                } else if next != flow.state {
                    flow.end(next, now, timeouts);
                }
            }
            _ => flow.note(flow.after_datagram(state, question.direction), now, timeouts),
        }
        flow.count(question.direction, question.bytes);
        Ok((AllowReason::Flow, Some(flow.rule)))
    }

    /// Enters a flow. Tells whether that makes a new one.
    fn open(&mut self, question: &Question<'_>, identity: Identity, rule: u32) -> Result<bool, DropReason> {
        let mut flow = Flow {
            opener: question.direction,
            selector: question.selector(),
            state: match (&question.packet.body, question.is_icmp()) {
                (Body::Tcp(_), _) => State::Opening,
                (Body::Udp(..), _) => State::UdpOneWay,
                (_, true) => State::Icmp,
                (_, false) => State::Other,
            },
            seen: question.now,
            generation: self.generation,
            rule,
            packets: [0; 2],
            bytes: [0; 2],
            sent: [None; 2],
            identity,
        };
        flow.count(question.direction, question.bytes);
        if let Body::Tcp(segment) = &question.packet.body {
            flow.sent[question.direction as usize] = flow::mark(flow::after(segment));
        }
        let Some(known) = self.flows.iter_mut().find(|known| known.identity == flow.identity) else {
            if !self.has_room {
                return Err(DropReason::FlowTableFull);
            }
            self.flows.push(flow);
            return Ok(true);
        };
        // Only a SYN comes here with a flow known.
        Ok(match known.state {
            State::Closing | State::Revoked => {
                *known = flow;
                true
            }
            State::Opening | State::Answered if known.opener == question.direction => {
                *known = flow;
                false
            }
            state => {
                known.note(state, question.now, &self.timeouts);
                known.count(question.direction, question.bytes);
                false
            }
        })
    }

    /// Whether the packet needs no flow.
    fn is_untracked(&self, question: &Question<'_>) -> bool {
        let Selector { table, value } = question.selector();
        let source = match &question.packet.body {
            Body::Tcp(segment) => segment.ports.0,
            Body::Udp(source, _) => *source,
            Body::Icmp(_) | Body::Opaque => 0,
        };
        let ports = (source, value);
        let (asks, answers) = self.untracked(question.family(), table, question.direction, ports);
        asks || (answers && !question.is_bare_syn())
    }

    /// Whether an ICMP error quotes a packet that went the other way and needed no flow.
    fn quotes_untracked(&self, question: &Question<'_>) -> bool {
        let Some(Identity { protocol, mark: Mark::Ports(local, remote), .. }) = question.quoted() else {
            return false;
        };
        let table = if protocol == 6 { Table::Tcp } else { Table::Udp };
        let went = question.direction.reverse();
        let ports = if went == Direction::Outbound { (local, remote) } else { (remote, local) };
        let (asks, answers) = self.untracked(question.family(), table, went, ports);
        asks || answers
    }

    /// Whether a packet from one port to another is admitted from any address while the other
    /// direction is open whole, and whether it is the answer to such a one.
    fn untracked(
        &self,
        family: Family,
        table: Table,
        there: Direction,
        (source, destination): (u16, u16),
    ) -> (bool, bool) {
        let is_open = |direction, value| self.rules.is_open(direction, family, Selector { table, value });
        let is_whole = |direction| self.rules.is_whole(direction, family, table);
        let back = there.reverse();
        (is_open(there, destination) && is_whole(back), is_whole(there) && is_open(back, source))
    }
}
