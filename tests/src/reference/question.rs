//! One packet before the reference: who it is between, and what is asked for it.

use std::net::IpAddr;

use sg_common::{
    addr::{Addr, Family},
    tuple::{Direction, Selector, Table},
};

use super::{
    flow::{Identity, Mark},
    read::{Body, Message, Packet, Segment},
};

pub(super) const FIN: u8 = 0x01;
pub(super) const SYN: u8 = 0x02;
pub(super) const RST: u8 = 0x04;
pub(super) const ACK: u8 = 0x10;

/// One packet, as the steps of the decision hand it on.
pub(super) struct Question<'a> {
    pub(super) packet: &'a Packet,
    pub(super) direction: Direction,
    pub(super) bytes: u64,
    pub(super) now: u32,
}

/// The type of the query that an ICMP message asks or answers, and whether it answers.
fn query(is_v4: bool, kind: u8, code: u8) -> Option<(u8, bool)> {
    let pairs: &[(u8, u8)] = if is_v4 { &[(8, 0), (13, 14), (15, 16), (17, 18)] } else { &[(128, 129)] };
    pairs.iter().filter(|_| code == 0).find_map(|(query, reply)| match kind {
        kind if kind == *query => Some((*query, false)),
        kind if kind == *reply => Some((*query, true)),
        _ => None,
    })
}

impl Question<'_> {
    pub(super) fn family(&self) -> Family {
        Addr::from(self.packet.source).family()
    }

    /// The instance's address and the other side's.
    pub(super) fn ends(&self) -> (IpAddr, IpAddr) {
        let Packet { source, destination, .. } = *self.packet;
        match self.direction {
            Direction::Inbound => (destination, source),
            Direction::Outbound => (source, destination),
        }
    }

    pub(super) fn message(&self) -> Option<&Message> {
        match &self.packet.body {
            Body::Icmp(message) => Some(message),
            _ => None,
        }
    }

    pub(super) const fn is_icmp(&self) -> bool {
        matches!(self.packet.body, Body::Icmp(_))
    }

    pub(super) fn is_bare_syn(&self) -> bool {
        matches!(&self.packet.body, Body::Tcp(segment) if segment.flags & (SYN | ACK) == SYN)
    }

    /// Unreachable, source quench, redirect, time exceeded, parameter problem; of IPv6 also too big.
    pub(super) fn is_icmp_error(&self) -> bool {
        let is_v4 = self.packet.source.is_ipv4();
        self.message().is_some_and(|message| match is_v4 {
            true => [3, 4, 5, 11, 12].contains(&message.kind),
            false => [1, 2, 3, 4, 137].contains(&message.kind),
        })
    }

    /// The type of the query that the message asks or answers, and whether it answers.
    pub(super) fn query(&self) -> Option<(u8, bool)> {
        let message = self.message()?;
        query(self.packet.source.is_ipv4(), message.kind, message.code)
    }

    /// Which flow the packet belongs to that an error quotes. It went the other way.
    pub(super) fn quoted(&self) -> Option<Identity> {
        let quote = self.message()?.quote.as_ref()?;
        let pair = |at: usize| u16::from_be_bytes([quote.head[at], quote.head[at + 1]]);
        let was_inbound = self.direction == Direction::Outbound;
        let went = self.direction.reverse();
        let mark = match (quote.protocol, quote.source.is_ipv4()) {
            (6 | 17, _) if was_inbound => Mark::Ports(pair(2), pair(0)),
            (6 | 17, _) => Mark::Ports(pair(0), pair(2)),
            (1, true) | (58, false) => {
                let (kind, is_reply) = query(quote.source.is_ipv4(), quote.head[0], quote.head[1])?;
                Mark::Query(kind, pair(4), if is_reply { went.reverse() } else { went })
            }
            _ => Mark::Nothing,
        };
        let (local, remote) = match was_inbound {
            true => (quote.destination, quote.source),
            false => (quote.source, quote.destination),
        };
        Some(Identity { protocol: quote.protocol, local, remote, mark })
    }

    /// Which flow it would belong to; none for ICMP that neither asks nor answers.
    pub(super) fn identity(&self) -> Option<Identity> {
        let (local, remote) = self.ends();
        let mark = match &self.packet.body {
            Body::Tcp(Segment { ports: (source, destination), .. }) | Body::Udp(source, destination) => {
                match self.direction {
                    Direction::Inbound => Mark::Ports(*destination, *source),
                    Direction::Outbound => Mark::Ports(*source, *destination),
                }
            }
            Body::Icmp(message) => {
                let (kind, is_reply) = self.query()?;
                let asked = if is_reply { self.direction.reverse() } else { self.direction };
                Mark::Query(kind, message.id, asked)
            }
            Body::Opaque => Mark::Nothing,
        };
        Some(Identity { protocol: self.packet.protocol, local, remote, mark })
    }

    /// What the rules are asked for.
    pub(super) fn selector(&self) -> Selector {
        let (table, value) = match &self.packet.body {
            Body::Tcp(segment) => (Table::Tcp, segment.ports.1),
            Body::Udp(_, destination) => (Table::Udp, *destination),
            Body::Icmp(message) => (Table::Icmp, u16::from_be_bytes([message.kind, message.code])),
            Body::Opaque => (Table::Other, self.packet.protocol.into()),
        };
        Selector { table, value }
    }

    /// Whether a packet that the rules allow and no flow knows may open one.
    pub(super) fn may_open(&self) -> bool {
        match &self.packet.body {
            _ if self.packet.is_later() => false,
            Body::Tcp(_) if self.is_bare_syn() => true,
            // From the middle of a connection: whoever sends it must look like its opener.
            Body::Tcp(segment) => {
                let lowest = if self.direction == Direction::Outbound { 32_768 } else { 1024 };
                segment.flags & (RST | SYN) == 0 && segment.ports.0 >= lowest
            }
            Body::Icmp(_) => self.query().is_some_and(|(_, is_reply)| !is_reply),
            Body::Udp(..) | Body::Opaque => true,
        }
    }
}
