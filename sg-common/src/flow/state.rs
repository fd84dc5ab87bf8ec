//! The states of a flow, and what a packet does to them.

/// Which idle timeout a flow is under; the number is the place in
/// [`Control::timeouts`](crate::abi::Control::timeouts).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Timeout {
    /// TCP, handshake not complete.
    TcpOpening = 0,
    /// TCP, established or half closed.
    TcpEstablished = 1,
    /// TCP, closed both ways or reset.
    TcpClosing = 2,
    /// UDP, one way or one exchange.
    Udp = 3,
    /// UDP, more than that.
    UdpStream = 4,
    /// An ICMP query.
    Icmp = 5,
    /// Any other protocol.
    Other = 6,
    /// What the first fragment of a datagram told, from its arrival on.
    Fragment = 7,
}

impl Timeout {
    /// Every timeout in numeric order.
    pub const ALL: [Self; 8] = [
        Self::TcpOpening,
        Self::TcpEstablished,
        Self::TcpClosing,
        Self::Udp,
        Self::UdpStream,
        Self::Icmp,
        Self::Other,
        Self::Fragment,
    ];

    /// The name of the setting.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TcpOpening => "tcp_opening",
            Self::TcpEstablished => "tcp_established",
            Self::TcpClosing => "tcp_closing",
            Self::Udp => "udp",
            Self::UdpStream => "udp_stream",
            Self::Icmp => "icmp",
            Self::Other => "other",
            Self::Fragment => "fragment",
        }
    }

    /// The default in seconds.
    #[must_use]
    pub const fn default_seconds(self) -> u32 {
        match self {
            Self::TcpOpening | Self::Udp | Self::Icmp | Self::Fragment => 30,
            Self::TcpEstablished => 432_000,
            Self::TcpClosing => 10,
            Self::UdpStream => 180,
            Self::Other => 600,
        }
    }
}

/// What a flow is doing. Numbers are part of the ABI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum FlowState {
    /// TCP: a SYN, or a packet picked up in the middle, and no answer yet.
    Opening = 2,
    /// TCP: the other side answered the SYN; the handshake lacks its last packet.
    Answered = 3,
    /// TCP: both sides have proved that they hear each other.
    Established = 4,
    /// TCP: the opener has closed its direction.
    FinOpener = 5,
    /// TCP: the other side has closed its direction.
    FinReplier = 6,
    /// TCP: closed both ways, or reset.
    Closing = 7,
    /// UDP: packets one way.
    UdpOneWay = 8,
    /// UDP: one exchange.
    UdpExchange = 9,
    /// UDP: more than one exchange.
    UdpStream = 10,
    /// ICMP: a query, answered or not.
    Icmp = 11,
    /// Another protocol.
    Other = 12,
    /// Ended by a policy change. Its packets are dropped, in both directions, for as long as they
    /// keep coming: otherwise the instance's next packet would open it again from within.
    Revoked = 13,
    /// As [`FlowState::Revoked`], for TCP: remembered for as long as an idle connection lives.
    RevokedTcp = 14,
}

/// What a packet means to its flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signal {
    /// The packet goes the way the flow was opened.
    pub from_opener: bool,
    /// TCP SYN.
    pub syn: bool,
    /// TCP ACK.
    pub ack: bool,
    /// TCP FIN, within the windows of both sides.
    pub fin: bool,
    /// TCP RST whose sequence number is the one expected.
    pub rst: bool,
    /// TCP ACK that acknowledges just what the other side sent last.
    pub acks_all: bool,
}

impl Signal {
    /// A packet without the marks of TCP.
    pub const DATAGRAM: Self =
        Self { from_opener: false, syn: false, ack: false, fin: false, rst: false, acks_all: false };
}

impl FlowState {
    /// The state with this number, or `None` for a free or busy slot.
    #[inline(always)]
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            2 => Self::Opening,
            3 => Self::Answered,
            4 => Self::Established,
            5 => Self::FinOpener,
            6 => Self::FinReplier,
            7 => Self::Closing,
            8 => Self::UdpOneWay,
            9 => Self::UdpExchange,
            10 => Self::UdpStream,
            11 => Self::Icmp,
            12 => Self::Other,
            13 => Self::Revoked,
            14 => Self::RevokedTcp,
            _ => return None,
        })
    }

    /// The idle timeout that applies.
    #[inline(always)]
    #[must_use]
    pub const fn timeout(self) -> Timeout {
        match self {
            Self::Opening | Self::Answered => Timeout::TcpOpening,
            Self::Established | Self::FinOpener | Self::FinReplier | Self::RevokedTcp => {
                Timeout::TcpEstablished
            }
            Self::Closing => Timeout::TcpClosing,
            Self::UdpOneWay | Self::UdpExchange => Timeout::Udp,
            Self::UdpStream | Self::Revoked => Timeout::UdpStream,
            Self::Icmp => Timeout::Icmp,
            Self::Other => Timeout::Other,
        }
    }

    /// Whether the flow may give way to a new one when there is no room: it has not been answered,
    /// or it is over.
    #[inline(always)]
    #[must_use]
    pub const fn is_expendable(self) -> bool {
        matches!(self, Self::Opening | Self::Answered | Self::Closing | Self::UdpOneWay) || self.is_revoked()
    }

    /// Whether a policy change has ended the flow.
    #[inline(always)]
    #[must_use]
    pub const fn is_revoked(self) -> bool {
        matches!(self, Self::Revoked | Self::RevokedTcp)
    }

    /// Whether the flow has ended, by itself or by a policy change.
    #[inline(always)]
    #[must_use]
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Closing) || self.is_revoked()
    }

    /// The stable name.
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
            Self::Revoked | Self::RevokedTcp => "revoked",
        }
    }

    /// The state after a packet.
    ///
    /// A reset or FIN never lengthens a flow's life, and a SYN never changes one: a SYN is judged
    /// by the rules, and starts a closed flow afresh.
    #[inline(always)]
    #[must_use]
    pub const fn advance(self, signal: Signal) -> Self {
        match self {
            Self::Opening | Self::Answered | Self::Established | Self::FinOpener | Self::FinReplier => {
                self.advance_tcp(signal)
            }
            Self::UdpOneWay if !signal.from_opener => Self::UdpExchange,
            Self::UdpExchange if signal.from_opener => Self::UdpStream,
            Self::Closing
            | Self::UdpOneWay
            | Self::UdpExchange
            | Self::UdpStream
            | Self::Icmp
            | Self::Other
            | Self::Revoked
            | Self::RevokedTcp => self,
        }
    }

    #[inline(always)]
    const fn advance_tcp(self, signal: Signal) -> Self {
        if signal.rst {
            return Self::Closing;
        }
        match self {
            Self::Opening if !signal.from_opener && signal.syn && signal.acks_all => Self::Answered,
            // Picked up in the middle: the other side answers.
            Self::Opening if !signal.from_opener && signal.ack && !signal.syn => {
                Self::Established.finish(signal)
            }
            Self::Answered if signal.from_opener && signal.acks_all && !signal.syn => {
                Self::Established.finish(signal)
            }
            Self::Established | Self::FinOpener | Self::FinReplier => self.finish(signal),
            _ => self,
        }
    }

    #[inline(always)]
    const fn finish(self, signal: Signal) -> Self {
        if !signal.fin {
            return self;
        }
        match (self, signal.from_opener) {
            (Self::FinOpener, false) | (Self::FinReplier, true) => Self::Closing,
            (_, true) => Self::FinOpener,
            (_, false) => Self::FinReplier,
        }
    }
}

#[cfg(test)]
mod tests;
