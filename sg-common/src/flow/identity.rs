//! Which flow a packet belongs to.

use super::FlowKey;
use crate::{
    addr::{Addr, Family},
    image,
    tuple::{Direction, Protocol, Selector, Table},
    wire::{Packet, Transport},
};

const ECHO_REPLY: u8 = 0;
const REDIRECT: u8 = 5;
const ECHO_REQUEST: u8 = 8;
const ECHO_REQUEST_V6: u8 = 128;
const ECHO_REPLY_V6: u8 = 129;
const REDIRECT_V6: u8 = 137;

/// What an ICMP message is to the flow table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IcmpKind {
    /// Asks, and may be answered.
    Query,
    /// Answers a query.
    Reply,
    /// Tells of trouble with another packet.
    Error,
    /// Names another router: never part of a flow.
    Redirect,
    /// Anything else: judged by the rules alone, each by itself.
    Other,
}

impl IcmpKind {
    /// Of a message of `family`: type in the high octet, code in the low.
    #[inline(always)]
    #[must_use]
    pub const fn of(family: Family, message: u16) -> Self {
        let kind = (message >> 8) as u8;
        let is_plain = message & 0xff == 0;
        match family {
            Family::V4 => match kind {
                // Echo, timestamp, information and address mask.
                ECHO_REQUEST | 13 | 15 | 17 if is_plain => Self::Query,
                ECHO_REPLY | 14 | 16 | 18 if is_plain => Self::Reply,
                // Unreachable, source quench, time exceeded, parameter problem.
                3 | 4 | 11 | 12 => Self::Error,
                REDIRECT => Self::Redirect,
                _ => Self::Other,
            },
            Family::V6 => match kind {
                ECHO_REQUEST_V6 if is_plain => Self::Query,
                ECHO_REPLY_V6 if is_plain => Self::Reply,
                // Unreachable, too big, time exceeded, parameter problem.
                1..=4 => Self::Error,
                REDIRECT_V6 => Self::Redirect,
                _ => Self::Other,
            },
        }
    }

    /// Whether such messages make up flows.
    #[inline(always)]
    #[must_use]
    pub const fn is_tracked(self) -> bool {
        matches!(self, Self::Query | Self::Reply)
    }
}

/// Where a packet was seen, and which way it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// The interface's zone, below 2^24.
    pub zone: u32,
    /// The direction, told from the instance's side.
    pub direction: Direction,
}

impl Way {
    /// Bits 0–23: the zone; bit 24: outbound.
    #[inline(always)]
    #[must_use]
    pub const fn to_bits(self) -> u32 {
        self.zone & 0x00ff_ffff | (self.direction as u32) << 24
    }

    /// The way of such bits.
    #[inline(always)]
    #[must_use]
    pub const fn from_bits(bits: u32) -> Self {
        let direction = if bits >> 24 & 1 == 0 { Direction::Inbound } else { Direction::Outbound };
        Self { zone: bits & 0x00ff_ffff, direction }
    }

    /// The key of the flow that a packet belongs to; of an ICMP error that
    /// [quotes](quotes_a_flow) a packet of one, the key of that.
    #[inline(always)]
    #[must_use]
    pub const fn key(self, packet: &Packet) -> FlowKey {
        let family = packet.source.family();
        let Transport { source_port, destination_port, icmp, icmp_id, protocol, .. } = packet.transport;
        match image::table(family, protocol) {
            Table::Icmp => match IcmpKind::of(family, icmp) {
                IcmpKind::Error => self.quoted(packet),
                kind => self.icmp(kind, protocol, packet.source, packet.destination, icmp, icmp_id),
            },
            Table::Tcp | Table::Udp | Table::Other => self.ports(
                Protocol(protocol),
                (packet.source, source_port),
                (packet.destination, destination_port),
            ),
        }
    }

    #[inline(always)]
    const fn ports(self, protocol: Protocol, source: (Addr, u16), destination: (Addr, u16)) -> FlowKey {
        let (local, remote) = match self.direction {
            Direction::Inbound => (destination, source),
            Direction::Outbound => (source, destination),
        };
        FlowKey::new(self.zone, protocol, local.0, local.1, remote.0, remote.1)
    }

    #[inline(always)]
    const fn icmp(
        self,
        kind: IcmpKind,
        protocol: u8,
        source: Addr,
        destination: Addr,
        message: u16,
        id: u16,
    ) -> FlowKey {
        let number = (message >> 8) as u8;
        let (number, query) = match kind {
            IcmpKind::Reply => (query_of(number), self.direction.reverse()),
            _ => (number, self.direction),
        };
        let (local, remote) = match self.direction {
            Direction::Inbound => (destination, source),
            Direction::Outbound => (source, destination),
        };
        FlowKey::icmp(self.zone, Protocol(protocol), local, remote, id, number, query)
    }

    /// The key of the flow whose packet, going the other way, an error quotes. The error goes to
    /// whoever sent that packet.
    #[inline(always)]
    const fn quoted(self, error: &Packet) -> FlowKey {
        let Packet { destination: sender, subject: target, quote, .. } = *error;
        let back = Self { direction: self.direction.reverse(), ..self };
        let (family, protocol) = (error.source.family(), quote.protocol());
        match image::table(family, protocol.0) {
            Table::Icmp => {
                let kind = IcmpKind::of(family, quote.destination());
                back.icmp(kind, protocol.0, sender, target, quote.destination(), quote.source())
            }
            Table::Tcp | Table::Udp | Table::Other => {
                back.ports(protocol, (sender, quote.source()), (target, quote.destination()))
            }
        }
    }
}

/// Whether an ICMP error quotes a packet that can belong to a flow.
#[inline(always)]
#[must_use]
pub const fn quotes_a_flow(error: &Packet) -> bool {
    let (family, quote) = (error.source.family(), error.quote);
    match image::table(family, quote.protocol().0) {
        Table::Icmp => IcmpKind::of(family, quote.destination()).is_tracked(),
        Table::Tcp | Table::Udp | Table::Other => quote.is_some(),
    }
}

/// What the rules of the packet's own direction are asked for.
#[inline(always)]
#[must_use]
pub const fn selector(packet: &Packet) -> Selector {
    let Transport { destination_port, icmp, protocol, .. } = packet.transport;
    let table = image::table(packet.source.family(), protocol);
    let value = match table {
        Table::Tcp | Table::Udp => destination_port,
        Table::Icmp => icmp,
        Table::Other => protocol as u16,
    };
    Selector { table, value }
}

/// The type of the query that a reply of type `kind` answers.
#[inline(always)]
const fn query_of(kind: u8) -> u8 {
    match kind {
        ECHO_REPLY => ECHO_REQUEST,
        // Timestamp, information, address mask, and ICMPv6's echo come in pairs.
        _ => kind - 1,
    }
}

#[cfg(test)]
mod tests;
