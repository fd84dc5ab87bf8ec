//! Packets made up from a seed: conversations that go on, what disturbs them, and what nobody should
//! send.

use std::net::IpAddr;

use sg_common::tuple::Direction;

use super::{
    Case, Dice, Step, Unlock,
    case::Frame,
    policies::{Draft, LOCALS, MAC},
};
use crate::{
    entry::Entry,
    packet::{Ip, Mac, Packet, Transport},
};

mod conversation;
mod damage;
mod errors;
mod fragments;
mod odd;

use conversation::Conversation;

/// Ticks of each timeout, by [`sg_common::flow::Timeout`]: small and different.
const TIMEOUTS: [u32; 8] = [300, 3000, 100, 300, 1000, 300, 2000, 300];
const REMOTES: [&str; 16] = [
    "198.51.100.7",
    "198.51.100.8",
    "198.51.100.200",
    "198.51.7.7",
    "203.0.113.9",
    "203.0.113.77",
    "9.9.9.9",
    "240.0.0.1",
    "2001:db8:1::7",
    "2001:db8:1::8",
    "2001:db8:2::9",
    "2001:db8:2:0:1::",
    "2001:db8:3::77",
    "2001:db9::1",
    "9000::1",
    "fe80::99",
];

/// The Ethernet address of the other end of the wire.
const FAR: Mac = Mac::local(1);

/// Makes up a case of so many packets.
#[must_use]
pub fn case(seed: u64, packets: usize) -> Case {
    let mut dice = Dice(seed);
    // Every eighth seed fills a small table with flows that stay.
    let is_crowded = seed.is_multiple_of(8);
    let buckets = if is_crowded { 1 } else { dice.pick(&[64, 64, 64, 1, 2, 4]) };
    let mut draft = if is_crowded { Draft::crowded(&mut dice) } else { Draft::new(&mut dice) };
    let mut world = World {
        is_guest: draft.is_guest(),
        // Few conversations are often come back to; many replace each other in a small table.
        conversations: if is_crowded { 40 } else { dice.pick(&[20, 40, 120]) },
        present: 0,
        is_crowded,
        known: vec![],
        recent: vec![],
        waiting: vec![],
        dice,
    };
    let mut steps = vec![Step::Policy(draft.document())];
    let mut count = 0;
    let seldom = if is_crowded { 8 } else { 1 };
    while count < packets {
        if world.dice.once_in(150 * seldom) {
            draft.change(&mut world.dice);
            if world.dice.once_in(8) {
                draft = draft.another(&mut world.dice);
            }
            steps.push(Step::Policy(draft.document()));
        } else if world.dice.once_in(60 * seldom) {
            steps.push(Step::Wait(
                world.dice.pick(&[1, 4, 8, 9, 20, 90, 101, 290, 310, 700, 1100, 2500, 4000]),
            ));
        } else if world.dice.once_in(80 * seldom)
            && let Some(unlock) = world.unlock()
        {
            steps.push(Step::Unlock(unlock));
        } else {
            steps.push(world.frame());
            count += 1;
        }
    }
    Case { keeps_flows: world.dice.once_in(5), buckets, timeouts: TIMEOUTS, steps }
}

/// Who talks with whom.
struct World {
    dice: Dice,
    is_guest: bool,
    conversations: usize,
    /// The number of the conversation that spoke last.
    present: usize,
    is_crowded: bool,
    known: Vec<Conversation>,
    /// What was sent lately: errors quote it.
    recent: Vec<Sent>,
    /// Later fragments of what was sent.
    waiting: Vec<Sent>,
}

/// A packet on its way, before it is bytes.
#[derive(Clone)]
struct Sent {
    direction: Direction,
    packet: Packet,
}

impl World {
    fn frame(&mut self) -> Step {
        if self.dice.once_in(8) {
            let (direction, frame, what) = odd::frame(self);
            return self.step(direction, frame, what, false);
        }
        let mut sent = self.some_packet();
        let mut what = damage::headers(&mut self.dice, &mut sent.packet);
        let (source, destination) = self.ends(sent.direction);
        let mut frame = sent.packet.frame(source, destination);
        what.push_str(&damage::link(&mut self.dice, &mut frame));
        let mut bytes = frame.bytes();
        let is_gso = self.dice.once_in(40);
        what.push_str(&damage::bytes(&mut self.dice, &mut bytes));
        let what = format!("{}{what}", described(&sent.packet));
        self.step(sent.direction, bytes, what, is_gso)
    }

    /// Opens the port of a packet that was sent lately, seen from either side.
    fn unlock(&mut self) -> Option<Unlock> {
        let at = self.dice.below(self.recent.len().max(1) as u64) as usize;
        let Sent { direction, packet } = self.recent.get(at)?.clone();
        let (source, destination) = ends(&packet);
        let (is_udp, from, to) = match &packet.transport {
            Transport::Tcp(tcp) => (false, tcp.source_port, tcp.destination_port),
            Transport::Udp(udp) => (true, udp.source_port, udp.destination_port),
            Transport::Icmp(_) | Transport::Other(..) => return None,
        };
        let (port, address) =
            if direction == Direction::Inbound { (to, source) } else { (from, destination) };
        Some(Unlock { is_udp, port, address, ticks: self.dice.pick(&[1, 8, 90, 300, 1000, 3000]) })
    }

    fn step(&mut self, direction: Direction, mut bytes: Vec<u8>, what: String, is_gso: bool) -> Step {
        let is_egress = (direction == Direction::Inbound) == self.is_guest;
        // The kernel tests no TC program with a frame whose IP header is not whole.
        let header = match bytes[12..14] {
            [0x08, 0x00] => 34,
            [0x86, 0xdd] => 54,
            _ => 15,
        };
        let entry = match is_egress {
            true => Entry::TcEgress,
            false if bytes.len() < header => Entry::Xdp,
            false => self.dice.pick(&[Entry::Xdp, Entry::TcIngress]),
        };
        if is_egress && bytes.len() < header {
            bytes.resize(header, 0);
        }
        Step::Frame(entry, Frame { is_gso, bytes, what })
    }

    /// Source and destination on the wire.
    fn ends(&mut self, direction: Direction) -> (Mac, Mac) {
        match direction {
            Direction::Inbound if self.dice.once_in(30) => (FAR, Mac::BROADCAST),
            Direction::Inbound => (FAR, MAC),
            Direction::Outbound if self.dice.once_in(30) => (Mac::local(77), FAR),
            Direction::Outbound => (MAC, FAR),
        }
    }

    /// A packet of a conversation, whole or the first part of it, or what comes of one sent before.
    fn some_packet(&mut self) -> Sent {
        const REMEMBERED: usize = 8;
        if !self.waiting.is_empty() && self.dice.once_in(6) {
            let at = self.dice.below(self.waiting.len() as u64) as usize;
            // Some arrive twice, many never.
            return if self.dice.once_in(8) {
                self.waiting[at].clone()
            } else {
                self.waiting.swap_remove(at)
            };
        }
        if !self.recent.is_empty() && self.dice.once_in(16) {
            let at = self.dice.below(self.recent.len() as u64) as usize;
            let Sent { direction, packet } = &self.recent[at];
            return errors::about(&mut self.dice, *direction, packet);
        }
        let sent = self.packet();
        if self.recent.len() >= REMEMBERED {
            self.recent.remove(0);
        }
        self.recent.push(sent.clone());
        if self.dice.once_in(16) {
            self.waiting.truncate(3 * REMEMBERED);
            return fragments::cut(self, &sent);
        }
        sent
    }

    /// The next packet of some conversation, or something that disturbs it.
    fn packet(&mut self) -> Sent {
        // Often the same one goes on.
        if !self.dice.once_in(2) {
            self.present = self.dice.below(self.conversations as u64) as usize;
        }
        let number = self.present;
        while self.known.len() <= number {
            let conversation = Conversation::new(&mut self.dice, self.is_crowded);
            self.known.push(conversation);
        }
        let conversation = &mut self.known[number];
        if self.dice.once_in(40) {
            *conversation = Conversation::new(&mut self.dice, self.is_crowded);
        }
        if self.dice.once_in(5) {
            conversation.disturb(&mut self.dice)
        } else {
            conversation.go_on(&mut self.dice)
        }
    }
}

/// Addresses of one family: the instance's and somebody's.
fn addresses(dice: &mut Dice) -> (IpAddr, IpAddr) {
    let remote = parsed(dice.pick(&REMOTES));
    let mut local = parsed(LOCALS[usize::from(remote.is_ipv6())]);
    if dice.once_in(20) {
        // Not its own.
        local = parsed(if remote.is_ipv6() { "2001:db8:ffff::11" } else { "192.0.2.11" });
    }
    (local, remote)
}

fn parsed(address: &str) -> IpAddr {
    address.parse().unwrap_or_else(|_| unreachable!("`{address}` is an address"))
}

fn between(direction: Direction, local: IpAddr, remote: IpAddr) -> (IpAddr, IpAddr) {
    match direction {
        Direction::Inbound => (remote, local),
        Direction::Outbound => (local, remote),
    }
}

/// Source and destination of a packet.
fn ends(packet: &Packet) -> (IpAddr, IpAddr) {
    match &packet.ip {
        Ip::V4(ip) => (ip.source.into(), ip.destination.into()),
        Ip::V6(ip) => (ip.source.into(), ip.destination.into()),
    }
}

/// What a reader of a failure wants to know of a packet.
fn described(packet: &Packet) -> String {
    let (source, destination) = ends(packet);
    let transport = match &packet.transport {
        Transport::Tcp(tcp) => format!(
            "tcp {} {} flags {:#04x} seq {} ack {} +{}",
            tcp.source_port,
            tcp.destination_port,
            tcp.flags,
            tcp.sequence,
            tcp.acknowledgement,
            tcp.payload.len()
        ),
        Transport::Udp(udp) => format!("udp {} {}", udp.source_port, udp.destination_port),
        Transport::Icmp(icmp) => format!("icmp {}/{} {:02x?}", icmp.kind, icmp.code, icmp.rest),
        Transport::Other(number, _) => format!("protocol {number}"),
    };
    format!("{source} > {destination} {transport}")
}
