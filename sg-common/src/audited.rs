//! What audit mode remembers of the packets that it let pass and that would have been dropped: under
//! which key, and what of them.
//!
//! Packets that ask for one thing share an entry: of TCP and UDP the service counts, and not the port
//! that a client happened to choose. Which side of a packet is the service cannot be known without
//! a flow, and is told from its flags, else from the lower port: it only says what a reader is told,
//! never what becomes of a packet.

use crate::{
    addr::{Addr, Family},
    flow::identity::{IcmpKind, Way},
    image,
    tuple::{Direction, Selector, Table},
    verdict::DropReason,
    wire::{Packet, tcp_flag},
};

/// How many entries are kept; the longest unseen gives way.
pub const ENTRIES: u32 = 16_384;

/// What packets have in common that share an entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Key {
    /// The other side's address; zero where the packet could not be read.
    pub remote: Addr,
    /// Bits 0–23: the zone; bit 24: outbound; bit 25: the packets [answer](Self::is_answer).
    pub way: u32,
    /// [`Selector::to_bits`] of what the conversation asks for; of what could not be read, zero.
    pub selector: u32,
    /// [`DropReason`] as a number.
    pub reason: u32,
    /// 4 or 6; 0 where the packet could not be read.
    pub version: u32,
}

/// What is known of the packets of one key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Seen {
    /// Packets.
    pub packets: u64,
    /// Bytes, link header included.
    pub bytes: u64,
    /// The tick of the first.
    pub first: u64,
    /// The tick of the latest.
    pub last: u64,
}

const _: () = assert!(size_of::<Key>() == 32 && size_of::<Seen>() == 32, "no hidden padding");

const ANSWER: u32 = 1 << 25;

impl Key {
    /// Of a packet that was read.
    #[inline(always)]
    #[must_use]
    pub const fn of(packet: &Packet, way: Way, reason: DropReason) -> Self {
        let family = packet.source.family();
        let transport = packet.transport;
        let table = image::table(family, transport.protocol);
        let (value, is_answer) = match table {
            Table::Tcp | Table::Udp => {
                let (source, destination) = (transport.source_port, transport.destination_port);
                let flags = packet.tcp_flags & (tcp_flag::SYN | tcp_flag::ACK);
                let is_answer = match (table, flags) {
                    (Table::Tcp, tcp_flag::SYN) => false,
                    (Table::Tcp, flags) if flags == tcp_flag::SYN | tcp_flag::ACK => true,
                    _ => source < destination,
                };
                (if is_answer { source } else { destination }, is_answer)
            }
            Table::Icmp => match IcmpKind::of(family, transport.icmp) {
                IcmpKind::Reply => (query_of(family, transport.icmp), true),
                _ => (transport.icmp, false),
            },
            Table::Other => (transport.protocol as u16, false),
        };
        Self {
            remote: match way.direction {
                Direction::Inbound => packet.source,
                Direction::Outbound => packet.destination,
            },
            way: way.to_bits() | if is_answer { ANSWER } else { 0 },
            selector: Selector { table, value }.to_bits(),
            reason: reason.number() as u32,
            version: match family {
                Family::V4 => 4,
                Family::V6 => 6,
            },
        }
    }

    /// Of a frame that could not be read, or is none of IP.
    #[inline(always)]
    #[must_use]
    pub const fn unread(way: Way, reason: DropReason) -> Self {
        let nobody = Addr::v6(0, 0);
        Self { remote: nobody, way: way.to_bits(), selector: 0, reason: reason.number() as u32, version: 0 }
    }

    /// The zone and the direction.
    #[must_use]
    pub const fn way(&self) -> Way {
        Way::from_bits(self.way)
    }

    /// Whether the packets answer what went the other way, as far as can be told.
    #[must_use]
    pub const fn is_answer(&self) -> bool {
        self.way & ANSWER != 0
    }

    /// What the conversation asks for, in the direction of its questions; none of what could not be
    /// read.
    #[must_use]
    pub fn selector(&self) -> Option<Selector> {
        (self.version != 0).then(|| Selector::from_bits(self.selector))
    }

    /// Why the packets would have been dropped.
    #[must_use]
    pub const fn reason(&self) -> Option<DropReason> {
        DropReason::from_number(self.reason as u8)
    }

    /// As 64-bit words, in the order in memory.
    #[must_use]
    pub const fn to_words(self) -> [u64; 4] {
        let Self { remote, way, selector, reason, version } = self;
        [remote.hi(), remote.lo(), pair(way, selector), pair(reason, version)]
    }

    /// What such words say.
    #[must_use]
    pub const fn from_words([high, low, third, fourth]: [u64; 4]) -> Self {
        let ([way, selector], [reason, version]) = (halves(third), halves(fourth));
        Self { remote: Addr::v6(high, low), way, selector, reason, version }
    }
}

/// The type of the query that an ICMP reply answers, without a code.
const fn query_of(family: Family, reply: u16) -> u16 {
    let kind = reply >> 8;
    let query = match (family, kind) {
        (Family::V4, 0) => 8,
        _ => kind - 1,
    };
    query << 8
}

const fn pair(first: u32, second: u32) -> u64 {
    let ([a, b, c, d], [e, f, g, h]) = (first.to_ne_bytes(), second.to_ne_bytes());
    u64::from_ne_bytes([a, b, c, d, e, f, g, h])
}

const fn halves(word: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = word.to_ne_bytes();
    [u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h])]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        tuple::Protocol,
        wire::{
            Transport,
            tcp_flag::{ACK, RST, SYN},
        },
    };

    const HERE: Addr = Addr::v4(0x0a00_0001);
    const THERE: Addr = Addr::v4(0xc000_0207);

    fn packet(direction: Direction, transport: Transport, tcp_flags: u8) -> Packet {
        let (source, destination) = match direction {
            Direction::Inbound => (THERE, HERE),
            Direction::Outbound => (HERE, THERE),
        };
        Packet { source, destination, transport, tcp_flags, ..Packet::default() }
    }

    #[test]
    fn packets_of_one_service_share_a_key_whatever_port_the_client_has() {
        let (tcp, udp, icmp, gre) = (Protocol::TCP, Protocol::UDP, Protocol::ICMP, Protocol(47));
        let (inbound, outbound) = (Direction::Inbound, Direction::Outbound);
        let ports = |protocol: Protocol, source_port, destination_port| Transport {
            protocol: protocol.0,
            source_port,
            destination_port,
            ..Transport::default()
        };
        let message = |kind: u16| Transport { protocol: icmp.0, icmp: kind << 8, ..Transport::default() };
        let rows = [
            (inbound, ports(tcp, 40_000, 22), SYN, (Table::Tcp, 22), false),
            (inbound, ports(tcp, 22, 40_000), SYN, (Table::Tcp, 40_000), false),
            (inbound, ports(tcp, 40_001, 22), ACK, (Table::Tcp, 22), false),
            (inbound, ports(tcp, 40_001, 22), RST, (Table::Tcp, 22), false),
            (outbound, ports(tcp, 22, 40_000), SYN | ACK, (Table::Tcp, 22), true),
            (outbound, ports(tcp, 40_000, 22), SYN | ACK, (Table::Tcp, 40_000), true),
            (outbound, ports(tcp, 22, 40_000), ACK, (Table::Tcp, 22), true),
            (outbound, ports(udp, 40_000, 53), 0, (Table::Udp, 53), false),
            (inbound, ports(udp, 53, 40_000), 0, (Table::Udp, 53), true),
            (inbound, ports(udp, 123, 123), 0, (Table::Udp, 123), false),
            (inbound, message(8), 0, (Table::Icmp, 8 << 8), false),
            (outbound, message(0), 0, (Table::Icmp, 8 << 8), true),
            (outbound, message(14), 0, (Table::Icmp, 13 << 8), true),
            (inbound, message(3), 0, (Table::Icmp, 3 << 8), false),
            (inbound, ports(gre, 0, 0), 0, (Table::Other, 47), false),
        ];
        for (direction, transport, flags, (table, value), is_answer) in rows {
            let way = Way { zone: 7, direction };
            let key = Key::of(&packet(direction, transport, flags), way, DropReason::NoRule);
            assert_eq!(key.selector(), Some(Selector { table, value }), "{transport:?}");
            assert_eq!((key.way(), key.is_answer(), key.remote), (way, is_answer, THERE), "{transport:?}");
            assert_eq!(key.reason(), Some(DropReason::NoRule));
            assert_eq!(Key::from_words(key.to_words()), key);
        }
    }

    #[test]
    fn what_cannot_be_read_is_kept_by_its_reason() {
        let way = Way { zone: 1, direction: Direction::Inbound };
        let key = Key::unread(way, DropReason::Malformed);
        assert_eq!((key.selector(), key.way(), key.reason()), (None, way, Some(DropReason::Malformed)));
    }
}
