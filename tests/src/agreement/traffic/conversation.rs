//! Two ends that talk as endpoints do, most of the time.

use std::net::IpAddr;

use sg_common::tuple::Direction;

use super::{Dice, Sent, addresses, between};
use crate::packet::{Icmp, Packet, Tcp, Transport, Udp};

const SERVED: [u16; 7] = [443, 80, 53, 5000, 65535, 0, 40000];
const CALLING: [u16; 5] = [40000, 40001, 1024, 443, 53];

/// A conversation.
#[derive(Clone, Debug)]
pub(super) struct Conversation {
    /// The instance's address and the other side's.
    ends: (IpAddr, IpAddr),
    opener: Direction,
    ports: (u16, u16),
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Tcp(Stage),
    Udp,
    /// Queries of this type, answered by that one.
    Icmp(u8, u8),
    Other(u8),
}

/// How far a connection is, and what each side sends next: inbound, outbound.
#[derive(Clone, Debug)]
struct Stage {
    number: u8,
    next: [u32; 2],
}

impl Conversation {
    /// Any. `stays`: most of them are of a kind that soon holds its place in a full table.
    pub(super) fn new(dice: &mut Dice, stays: bool) -> Self {
        let ends = addresses(dice);
        let opener = dice.pick(&Direction::ALL);
        let (served, calling) = (dice.pick(&SERVED), dice.pick(&CALLING));
        let ports = if opener == Direction::Inbound { (served, calling) } else { (calling, served) };
        let is_v6 = ends.1.is_ipv6();
        let kind = match dice.below(10) {
            0..=8 if stays => Kind::Udp,
            0..=4 => Kind::Tcp(Stage::new(dice)),
            5 | 6 => Kind::Udp,
            7 | 8 if is_v6 => Kind::Icmp(128, 129),
            7 | 8 => {
                let query = dice.pick(&[8, 8, 8, 13, 15, 17]);
                Kind::Icmp(query, if query == 8 { 0 } else { query + 1 })
            }
            _ => Kind::Other(dice.pick(&[47, 132, 50, 51, 1, 58, 33, 136, 4, 41, 255, 59])),
        };
        Self { ends, opener, ports, kind }
    }

    /// The next packet that an endpoint would send.
    pub(super) fn go_on(&mut self, dice: &mut Dice) -> Sent {
        let (opener, ports) = (self.opener, self.ports);
        match &mut self.kind {
            Kind::Tcp(stage) => {
                let (direction, mut tcp) = stage.go_on(dice, opener);
                (tcp.source_port, tcp.destination_port) = on_the_way(direction, ports);
                self.sent(direction, tcp)
            }
            Kind::Udp => {
                let direction = if dice.once_in(2) { opener } else { opener.reverse() };
                let (source, destination) = on_the_way(direction, ports);
                self.sent(direction, Udp::new(source, destination, &dice.octets(32)))
            }
            Kind::Icmp(query, reply) => {
                let (query, reply) = (*query, *reply);
                let asks = dice.once_in(2);
                let direction = if asks { opener } else { opener.reverse() };
                let [high, low] = ports.0.to_be_bytes();
                let kind = if asks { query } else { reply };
                self.sent(direction, Icmp::new(kind, 0, [high, low, 0, 1], b"ping"))
            }
            Kind::Other(number) => {
                let number = *number;
                let direction = dice.pick(&Direction::ALL);
                self.sent(direction, Transport::Other(number, dice.octets(40)))
            }
        }
    }

    /// A packet of the conversation that is not the next one, or that somebody else has forged.
    pub(super) fn disturb(&mut self, dice: &mut Dice) -> Sent {
        let direction = dice.pick(&Direction::ALL);
        let ports = on_the_way(direction, self.ports);
        match &mut self.kind {
            Kind::Tcp(stage) => {
                let tcp = stage.disturb(dice, direction, ports);
                self.sent(direction, tcp)
            }
            Kind::Udp => self.sent(direction, Udp::new(ports.1, ports.0, b"")),
            Kind::Icmp(query, reply) => {
                let kind = dice.pick(&[*query, *reply, 3, 5, 11, 1, 2, 137, 140]);
                let id = dice.pick(&[self.ports.0, 7]).to_be_bytes();
                let code = if dice.once_in(3) { 1 } else { 0 };
                self.sent(direction, Icmp::new(kind, code, [id[0], id[1], 0, 1], b""))
            }
            Kind::Other(number) => {
                let number = number.wrapping_add(1);
                self.sent(direction, Transport::Other(number, vec![0; 24]))
            }
        }
    }

    fn sent(&self, direction: Direction, transport: impl Into<Transport>) -> Sent {
        let (source, destination) = between(direction, self.ends.0, self.ends.1);
        Sent { direction, packet: Packet::new(source, destination, transport) }
    }
}

/// Source and destination of the instance's port and the other side's.
const fn on_the_way(direction: Direction, (local, remote): (u16, u16)) -> (u16, u16) {
    match direction {
        Direction::Inbound => (remote, local),
        Direction::Outbound => (local, remote),
    }
}

impl Stage {
    fn new(dice: &mut Dice) -> Self {
        // Near the wrap, or anywhere.
        let mut start = || if dice.once_in(4) { u32::MAX - 9 } else { dice.roll() as u32 };
        Self { number: 0, next: [start(), start()] }
    }

    fn segment(&mut self, direction: Direction, flags: u8, payload: Vec<u8>) -> Tcp {
        let mut tcp = Tcp::new(0, 0, flags);
        tcp.sequence = self.next[direction as usize];
        if flags & Tcp::ACK != 0 {
            tcp.acknowledgement = self.next[direction.reverse() as usize];
        }
        let taken = payload.len() as u32 + u32::from(flags & (Tcp::SYN | Tcp::FIN) != 0);
        self.next[direction as usize] = tcp.sequence.wrapping_add(taken);
        tcp.payload = payload;
        tcp
    }

    fn go_on(&mut self, dice: &mut Dice, opener: Direction) -> (Direction, Tcp) {
        let other = opener.reverse();
        let any = dice.pick(&Direction::ALL);
        match self.number {
            0 => {
                *self = Self { number: 1, ..Self::new(dice) };
                (opener, self.segment(opener, Tcp::SYN, vec![]))
            }
            1 => {
                self.number = 2;
                (other, self.segment(other, Tcp::SYN | Tcp::ACK, vec![]))
            }
            2 => {
                self.number = 3;
                (opener, self.segment(opener, Tcp::ACK, vec![]))
            }
            3 => {
                self.number = dice.pick(&[3, 3, 3, 3, 4, 5]);
                let payload = dice.octets(32);
                (any, self.segment(any, Tcp::ACK | dice.pick(&[0, Tcp::PSH]), payload))
            }
            4 => {
                self.number = 6;
                (opener, self.segment(opener, Tcp::FIN | Tcp::ACK, vec![]))
            }
            5 => {
                self.number = 7;
                let flags = dice.pick(&[Tcp::RST, Tcp::RST | Tcp::ACK]);
                (any, self.segment(any, flags, vec![]))
            }
            6 => {
                self.number = dice.pick(&[6, 7]);
                let flags = if self.number == 6 { Tcp::ACK } else { Tcp::FIN | Tcp::ACK };
                (other, self.segment(other, flags, vec![]))
            }
            _ => {
                self.number = dice.pick(&[0, 7]);
                (any, self.segment(any, Tcp::ACK, vec![]))
            }
        }
    }

    fn disturb(&self, dice: &mut Dice, direction: Direction, ports: (u16, u16)) -> Tcp {
        let flags = dice.pick(&[
            Tcp::SYN,
            Tcp::SYN | Tcp::ACK,
            Tcp::ACK,
            Tcp::ACK | Tcp::PSH | Tcp::URG,
            Tcp::FIN | Tcp::ACK,
            Tcp::RST,
            Tcp::RST | Tcp::ACK,
            Tcp::FIN,
            0,
            Tcp::SYN | Tcp::FIN,
            Tcp::SYN | Tcp::RST,
            0xff,
            0xc2,
        ]);
        let mut off = |from: u32| {
            let by = dice.pick(&[0, 0, 1, u32::MAX, 1000, 1 << 25, (1 << 25) + 2, u32::MAX << 25, 1 << 31]);
            from.wrapping_add(by)
        };
        let mut tcp = Tcp::new(ports.0, ports.1, flags);
        tcp.sequence = off(self.next[direction as usize]);
        tcp.acknowledgement = off(self.next[direction.reverse() as usize]);
        if dice.once_in(4) {
            tcp.checksum = Some(0x1234);
        }
        tcp
    }
}
