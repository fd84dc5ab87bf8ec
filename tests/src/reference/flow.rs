//! One flow: section 5 of `docs/semantics.md`.

use std::net::IpAddr;

use sg_common::{
    flow::Timeout,
    tuple::{Direction, Selector},
};

use super::read::Segment;

/// Which packets belong to a flow, told from the instance's side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The IP protocol.
    pub protocol: u8,
    /// The instance's address.
    pub local: IpAddr,
    /// The other side's.
    pub remote: IpAddr,
    /// What more the protocol tells them by.
    pub mark: Mark,
}

/// What a protocol tells flows by, besides addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// The instance's port and the other side's.
    Ports(u16, u16),
    /// ICMP queries of one type, with one identifier, that go in this direction.
    Query(u8, u16, Direction),
    /// Nothing: all packets of the protocol between the two addresses.
    Nothing,
}

/// What a flow is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the states in the text")]
pub enum State {
    Opening,
    Answered,
    Established,
    FinOpener,
    FinReplier,
    Closing,
    UdpOneWay,
    UdpExchange,
    UdpStream,
    Icmp,
    Other,
    Revoked,
}

impl State {
    /// The name that the flow table has for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Opening => "opening",
            Self::Answered => "answered",
            Self::Established => "established",
            Self::FinOpener => "fin_opener",
            Self::FinReplier => "fin_replier",
            Self::Closing => "closing",
            Self::UdpOneWay => "udp_one_way",
            Self::UdpExchange => "udp_exchange",
            Self::UdpStream => "udp_stream",
            Self::Icmp => "icmp",
            Self::Other => "other",
            Self::Revoked => "revoked",
        }
    }
}

/// A flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Which packets are its.
    pub identity: Identity,
    /// Which way the packet went that opened it.
    pub opener: Direction,
    /// What that packet asked the rules for.
    pub selector: Selector,
    /// What it is doing.
    pub state: State,
    /// When it was last seen, in ticks.
    pub seen: u32,
    /// Which policy admitted it last.
    pub generation: u64,
    /// By which rule.
    pub rule: u32,
    /// Packets, inbound and outbound.
    pub packets: [u64; 2],
    /// Bytes, inbound and outbound.
    pub bytes: [u64; 2],
    /// TCP: the sequence number that follows what was sent, inbound and outbound.
    pub sent: [Option<u32>; 2],
}

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

/// The sequence number that follows a segment: SYN and FIN take one each.
#[must_use]
pub fn after(segment: &Segment) -> u32 {
    let flags = segment.flags;
    let more = u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
    segment.sequence.wrapping_add(segment.payload).wrapping_add(more)
}

/// What is kept of the sequence number that follows. 0 stands for a side that was not heard yet, so
/// that a side is forgotten for a moment when its numbers wrap just there.
#[must_use]
pub fn mark(next: u32) -> Option<u32> {
    (next != 0).then_some(next)
}

/// How far `to` lies ahead of `from`; negative: behind.
fn distance(from: u32, to: u32) -> i64 {
    i64::from(to.wrapping_sub(from) as i32)
}

/// Within 32 MiB.
fn is_near(one: u32, other: u32) -> bool {
    distance(one, other).abs() <= 32 << 20
}

impl Flow {
    /// Whether it is TCP.
    #[must_use]
    pub const fn is_tcp(&self) -> bool {
        self.identity.protocol == 6
    }

    /// Which timeout it is under.
    #[must_use]
    pub const fn timeout(&self) -> Timeout {
        match self.state {
            State::Opening | State::Answered => Timeout::TcpOpening,
            State::Established | State::FinOpener | State::FinReplier => Timeout::TcpEstablished,
            State::Closing => Timeout::TcpClosing,
            State::UdpOneWay | State::UdpExchange => Timeout::Udp,
            State::Icmp => Timeout::Icmp,
            State::Other => Timeout::Other,
            // Remembered for as long as an idle connection lives, or for three minutes.
            State::Revoked if self.is_tcp() => Timeout::TcpEstablished,
            State::UdpStream | State::Revoked => Timeout::UdpStream,
        }
    }

    /// Whether it has been idle for longer than its timeout.
    #[must_use]
    pub fn is_over(&self, now: u32, timeouts: &[u32; 8]) -> bool {
        now.wrapping_sub(self.seen) > timeouts[self.timeout() as usize]
    }

    /// Whether it may give way to another when there is no room.
    #[must_use]
    pub fn is_expendable(&self) -> bool {
        let is_answered = self.packets.iter().all(|packets| *packets > 0);
        match self.state {
            State::Opening | State::Answered | State::Closing | State::UdpOneWay | State::Revoked => true,
            State::Icmp | State::Other => !is_answered,
            State::Established
            | State::FinOpener
            | State::FinReplier
            | State::UdpExchange
            | State::UdpStream => false,
        }
    }

    /// Moves to `state` and notes the time, which is kept to within eight ticks, or a quarter of
    /// the timeout where that is less.
    pub fn note(&mut self, state: State, now: u32, timeouts: &[u32; 8]) {
        let has_changed = state != self.state;
        self.state = state;
        let coarse = timeouts[self.timeout() as usize] / 4;
        if has_changed || now.wrapping_sub(self.seen) > coarse.min(8) {
            self.seen = now;
        }
    }

    /// Moves to `state` by a packet that ends the flow: its life becomes no longer by that.
    pub fn end(&mut self, state: State, now: u32, timeouts: &[u32; 8]) {
        let before = self.seen.wrapping_add(timeouts[self.timeout() as usize]);
        self.state = state;
        let latest = before.wrapping_sub(timeouts[self.timeout() as usize]);
        self.seen = if distance(latest, now) < 0 { now } else { latest };
    }

    /// Counts a packet.
    pub fn count(&mut self, direction: Direction, bytes: u64) {
        self.packets[direction as usize] += 1;
        self.bytes[direction as usize] += bytes;
    }

    /// The state in which a flow goes on that the rules admit again after they had ended it.
    #[must_use]
    pub fn alive_again(&self) -> State {
        match self.identity.protocol {
            6 if self.sent.contains(&None) => State::Opening,
            6 => State::Established,
            17 => State::UdpExchange,
            1 | 58 => State::Icmp,
            _ => State::Other,
        }
    }

    /// The state after a packet of another protocol than TCP, from `state` on.
    #[must_use]
    pub fn after_datagram(&self, state: State, direction: Direction) -> State {
        match (state, direction == self.opener) {
            (State::UdpOneWay, false) => State::UdpExchange,
            (State::UdpExchange, true) => State::UdpStream,
            (state, _) => state,
        }
    }

    /// The state after a TCP segment, from `state` on, with what each side has sent kept up.
    pub fn after_segment(&mut self, state: State, direction: Direction, segment: &Segment) -> State {
        let is_opener = direction == self.opener;
        let sent = self.sent[direction as usize];
        let heard = self.sent[direction.reverse() as usize];
        let has = |flag| segment.flags & flag != 0;
        let acknowledges_all = has(ACK) && heard.unwrap_or(0) == segment.acknowledgement;

        if has(RST) {
            // RFC 5961: the very next number, or the refusal of a SYN.
            let refuses = state == State::Opening && !is_opener && acknowledges_all;
            let is_next = state != State::Opening && sent == Some(segment.sequence);
            let is_over = matches!(state, State::Closing | State::Revoked);
            let counts = (refuses || is_next) && segment.is_sum_right;
            return if counts && !is_over { State::Closing } else { state };
        }

        let next = after(segment);
        let is_plausible = sent.is_none_or(|sent| is_near(sent, next))
            && (!has(ACK) || heard.is_none_or(|heard| is_near(heard, segment.acknowledgement)));
        if is_plausible && sent.is_none_or(|sent| distance(sent, next) > 0) {
            self.sent[direction as usize] = mark(next);
        }

        let open = match state {
            State::Opening if !is_opener && has(SYN) => {
                return if acknowledges_all { State::Answered } else { State::Opening };
            }
            // A connection that was picked up in the middle.
            State::Opening if !is_opener && has(ACK) => State::Established,
            State::Answered if is_opener && acknowledges_all && !has(SYN) => State::Established,
            State::Established | State::FinOpener | State::FinReplier => state,
            other => return other,
        };
        match (open, has(FIN) && is_plausible, is_opener) {
            (state, false, _) => state,
            (State::FinOpener, true, false) | (State::FinReplier, true, true) => State::Closing,
            (_, true, true) => State::FinOpener,
            (_, true, false) => State::FinReplier,
        }
    }
}
