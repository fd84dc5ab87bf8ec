//! Policies and packets that both judges understand alike.

use std::{fmt::Write as _, net::IpAddr};

use sg_common::tuple::Direction;

use super::crossing::{INSIDE, MARKERS};
use crate::{
    agreement::Dice,
    packet::{Icmp, Packet, Tcp, Transport, Udp},
};

/// Something to be tried: packets in order.
#[derive(Clone, Debug)]
pub struct Probe {
    /// What it is.
    pub what: &'static str,
    /// The packets.
    pub packets: Vec<Sent>,
}

/// A packet that is sent.
#[derive(Clone, Debug)]
pub struct Sent {
    /// The way it goes.
    pub direction: Direction,
    /// The packet.
    pub packet: Packet,
    /// It is sent only if this one arrived: the number of an earlier packet of the probe.
    pub after: Option<usize>,
}

const SERVICES: [&str; 20] = [
    "all",
    "tcp",
    "udp",
    "tcp/443",
    "tcp/80-90",
    "tcp/0-1023",
    "tcp/1024-65535",
    "udp/53",
    "udp/5000-6000",
    "udp/0-65535",
    "icmp",
    "icmp/echo-request",
    "icmp/echo-reply",
    "icmp/13",
    "icmpv6",
    "icmpv6/echo-request",
    "icmpv6/129/0",
    "47",
    "253",
    "esp",
];
const PEERS: [&str; 14] = [
    "anywhere",
    "anywhere-ipv4",
    "anywhere-ipv6",
    "198.51.100.0/24",
    "198.51.100.7",
    "198.51.0.0/16",
    "2001:db8:1::/48",
    "2001:db8:1::7",
    "2001:db8::/32",
    "list:some",
    "group:other",
    "0.0.0.0/1",
    "8000::/1",
    "203.0.113.0/25",
];
const REMOTES: [&str; 12] = [
    "198.51.100.7",
    "198.51.100.8",
    "198.51.100.200",
    "198.51.7.7",
    "203.0.113.9",
    "203.0.113.77",
    "9.9.9.9",
    "2001:db8:1::7",
    "2001:db8:1::8",
    "2001:db8:2::9",
    "2001:db8:3::77",
    "2001:db9::1",
];
const PORTS: [u16; 9] = [443, 80, 85, 91, 53, 5000, 1023, 1024, 65535];

/// Any policy, with the markers let through.
#[must_use]
pub fn document(dice: &mut Dice) -> String {
    let [outside, inside] = MARKERS;
    let marker = |side| format!("      - {{allow: udp/9, {side}: [{outside}, {inside}]}}\n");
    let mut text = format!(
        "version: 1\nprefix_lists:\n  some: {{entries: [198.51.100.128/25, 203.0.113.9, \"2001:db8:2::/64\", \
         \"2001:db8:2::9\"]}}\ngroups:\n  other:\n    members: [203.0.113.77, \"2001:db8:3::77\"]\n    \
         inbound: []\n    outbound: []\n  markers:\n    inbound:\n{}    outbound:\n{}",
        marker("from"),
        marker("to")
    );
    for group in ["a", "b"] {
        let _ = writeln!(text, "  {group}:");
        for (direction, side) in [("inbound", "from"), ("outbound", "to")] {
            if direction == "outbound" && dice.once_in(5) {
                continue;
            }
            let count = dice.below(5);
            let _ = writeln!(text, "    {direction}:{}", if count == 0 { " []" } else { "" });
            for _ in 0..count {
                let mut some = |from: &[&'static str]| {
                    let count = 1 + dice.below(2);
                    (0..count).map(|_| format!("\"{}\"", dice.pick(from))).collect::<Vec<_>>().join(", ")
                };
                let (services, peers) = (some(&SERVICES), some(&PEERS));
                let _ = writeln!(text, "      - {{allow: [{services}], {side}: [{peers}]}}");
            }
        }
    }
    let _ = writeln!(
        text,
        "interfaces:\n  - {{match: {INSIDE}, groups: [a, b, markers], side: guest, hook: tc}}"
    );
    text
}

/// Something between a remote address and the instance, whose address differs with `number`, so that
/// nothing of an earlier policy is known of it. `turn` makes it differ from the policy's other probes.
pub fn probe(dice: &mut Dice, number: u64, turn: u64) -> Probe {
    let remote: IpAddr = dice.pick(&REMOTES).parse().unwrap_or_else(|_| unreachable!("they are addresses"));
    let [high, low] = (number as u16).to_be_bytes();
    let local: IpAddr = match remote {
        IpAddr::V4(_) => [10, 77, high, low].into(),
        IpAddr::V6(_) => [0xfd77, 0, 0, 0, 0, 0, 0, 0x100 + number as u16].into(),
    };
    let there = dice.pick(&Direction::ALL);
    let make = Make { local, remote, there, turn: turn as u16, port: dice.pick(&PORTS) };
    let mut probe = match dice.below(12) {
        0..=3 => make.connection(dice),
        // It may be picked up by one and not by the other, so that no error follows.
        4 => return make.unasked_segment(dice),
        5 | 6 => make.datagrams(),
        7 => make.unrelated_answer(),
        8 | 9 => make.queries(dice),
        _ => make.protocol(dice),
    };
    if dice.once_in(2) {
        probe.packets.push(make.error(dice, &probe));
    }
    probe
}

/// Who begins, and with whom.
struct Make {
    local: IpAddr,
    remote: IpAddr,
    there: Direction,
    turn: u16,
    port: u16,
}

impl Make {
    fn packet(&self, direction: Direction, transport: impl Into<Transport>) -> Sent {
        let (source, destination) = match direction {
            Direction::Inbound => (self.remote, self.local),
            Direction::Outbound => (self.local, self.remote),
        };
        Sent { direction, packet: Packet::new(source, destination, transport), after: None }
    }

    /// An error about the probe's first packet, if that arrived, from the other end or from elsewhere.
    fn error(&self, dice: &mut Dice, probe: &Probe) -> Sent {
        let is_v6 = self.remote.is_ipv6();
        let (kind, code) =
            if is_v6 { dice.pick(&[(1, 4), (2, 0), (3, 0)]) } else { dice.pick(&[(3, 1), (3, 4), (11, 0)]) };
        let Sent { direction, packet, .. } = &probe.packets[0];
        let mut quoted = packet.bytes();
        quoted.truncate(if is_v6 { 88 } else { 60 });
        let error = self.packet(direction.reverse(), Icmp::new(kind, code, [0, 0, 5, 0], &quoted));
        Sent { after: Some(0), ..error }
    }

    /// The port of whoever begins: no two probes of a policy have the same.
    fn calling(&self) -> u16 {
        40_000 + self.turn
    }

    /// Ports of a packet that goes there, or back.
    fn ports(&self, direction: Direction) -> (u16, u16) {
        if direction == self.there { (self.calling(), self.port) } else { (self.port, self.calling()) }
    }

    fn segment(&self, direction: Direction, flags: u8, numbers: [u32; 2], payload: &[u8]) -> Sent {
        let (source, destination) = self.ports(direction);
        let mut tcp = Tcp::new(source, destination, flags);
        [tcp.sequence, tcp.acknowledgement] = numbers;
        tcp.payload = payload.to_vec();
        self.packet(direction, tcp)
    }

    /// A handshake, data both ways, and its end.
    fn connection(&self, dice: &mut Dice) -> Probe {
        const ACK: u8 = Tcp::ACK;
        let (there, back) = (self.there, self.there.reverse());
        let [mine, theirs] = [dice.roll() as u32, dice.roll() as u32].map(|start| start >> 1);
        let mut packets = vec![
            self.segment(there, Tcp::SYN, [mine, 0], b""),
            self.segment(back, Tcp::SYN | ACK, [theirs, mine + 1], b""),
            self.segment(there, ACK, [mine + 1, theirs + 1], b""),
            self.segment(there, ACK | Tcp::PSH, [mine + 1, theirs + 1], b"question"),
            self.segment(back, ACK | Tcp::PSH, [theirs + 1, mine + 9], b"answer"),
        ];
        if dice.once_in(2) {
            packets.extend([
                self.segment(there, Tcp::FIN | ACK, [mine + 9, theirs + 7], b""),
                self.segment(back, ACK, [theirs + 7, mine + 10], b"more"),
                self.segment(back, Tcp::FIN | ACK, [theirs + 11, mine + 10], b""),
                self.segment(there, ACK, [mine + 10, theirs + 12], b""),
            ]);
        }
        // Without a connection what follows the answer would pick one up in the middle.
        for sent in &mut packets[2..] {
            sent.after = Some(0);
        }
        Probe { what: "a connection", packets }
    }

    /// Part of a connection that nobody opened; nothing follows it.
    fn unasked_segment(&self, dice: &mut Dice) -> Probe {
        let flags =
            dice.pick(&[Tcp::SYN | Tcp::ACK, Tcp::ACK, Tcp::ACK | Tcp::PSH, Tcp::RST, Tcp::FIN | Tcp::ACK]);
        let packets = vec![self.segment(self.there.reverse(), flags, [7, 9], b"")];
        Probe { what: "a segment without a connection", packets }
    }

    fn datagrams(&self) -> Probe {
        let ways = [self.there, self.there.reverse(), self.there.reverse(), self.there];
        let send = |direction| {
            let (source, destination) = self.ports(direction);
            self.packet(direction, Udp::new(source, destination, b"datagram"))
        };
        Probe { what: "datagrams", packets: ways.map(send).to_vec() }
    }

    /// A datagram, and an answer from another port.
    fn unrelated_answer(&self) -> Probe {
        let (there, back) = (self.there, self.there.reverse());
        let packets = vec![
            self.packet(there, Udp::new(self.calling(), self.port, b"question")),
            self.packet(back, Udp::new(self.port ^ 1, self.calling(), b"answer")),
        ];
        Probe { what: "an answer from another port", packets }
    }

    /// Queries and replies, one of them with another identifier, and a query the other way.
    fn queries(&self, dice: &mut Dice) -> Probe {
        let (query, reply) = match self.remote {
            IpAddr::V4(_) => dice.pick(&[(8, 0), (8, 0), (13, 14)]),
            IpAddr::V6(_) => (128, 129),
        };
        let [high, low] = self.calling().to_be_bytes();
        let (there, back) = (self.there, self.there.reverse());
        let data = b"0123456789ab";
        let send = |direction, kind, low| self.packet(direction, Icmp::new(kind, 0, [high, low, 0, 1], data));
        let packets = vec![
            send(there, query, low),
            send(back, reply, low ^ 0x80),
            send(back, reply, low),
            send(back, query, low),
            send(there, query, low),
        ];
        Probe { what: "queries and replies", packets }
    }

    /// A protocol without ports.
    fn protocol(&self, dice: &mut Dice) -> Probe {
        let number = dice.pick(&[47, 50, 253, 94]);
        // To both it is the addresses that count, and the octets here tell packets apart.
        let [high, low] = self.turn.to_be_bytes();
        let send = |direction, last| {
            self.packet(
                direction,
                Transport::Other(number, vec![0, 0, 8, 0, 0, 1, 0, high, low, 0, 0, 0, 0, 0, 0, last]),
            )
        };
        let (there, back) = (self.there, self.there.reverse());
        let packets = vec![send(there, 1), send(back, 2), send(there, 3)];
        Probe { what: "another protocol", packets }
    }
}
