//! Packets before tables made by hand, and what must become of them and of their flows.
//!
//! Here is the world that the rows of the modules play in: an image, a flow table, a clock.

extern crate std;

mod errors;
mod flows;
mod fragments;
mod network;
mod order;
mod policy;
mod unlocked;
mod untracked;

use std::{
    format,
    string::{String, ToString as _},
    vec,
    vec::Vec,
};

use super::*;
use crate::{
    flow::tests::{Heap, Seen},
    image::{Header, class_word, rule_set_word, zone_mark, zone_word},
    verdict::RuleNumber,
    wire::Transport,
};
use Direction::{Inbound, Outbound};
use Family::{V4, V6};
use tcp_flag::{ACK, FIN, PSH, RST, SYN, URG};

/// The zone under test, and how many there are.
const ZONE: u32 = 5;
const ZONES: u32 = 7;
const MAC: u64 = 0x5254_0000_0007;
const OTHER_MAC: u64 = 0x5254_0000_0008;
/// Octets of every packet, where a row does not say otherwise.
const BYTES: u64 = 100;

const LOCAL: Addr = Addr::v4(0x0a00_0007);
const PEER: Addr = Addr::v4(0xcb00_7105);
const STRANGER: Addr = Addr::v4(0xc633_6409);
const LOCAL_V6: Addr = Addr::v6(0x2001_0db8_0000_0001, 7);
const PEER_V6: Addr = Addr::v6(0x2001_0db8_0000_0005, 5);
const STRANGER_V6: Addr = Addr::v6(0x2001_0db8_0000_0009, 9);
const LINK_LOCAL: Addr = Addr::v6(0xfe80 << 48, 7);

/// Whom a rule opens to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Remote {
    Anyone,
    /// [`PEER`], or the network of [`PEER_V6`].
    Peer,
}

#[derive(Clone, Copy, Debug)]
struct Rule {
    direction: Direction,
    family: Family,
    remote: Remote,
    table: Table,
    first: u16,
    last: u16,
    number: u32,
}

const fn rule(direction: Direction, family: Family, remote: Remote, table: Table, value: u16) -> Rule {
    Rule { direction, family, remote, table, first: value, last: value, number: 1 }
}

impl Rule {
    const fn numbered(self, number: u32) -> Self {
        Self { number, ..self }
    }

    const fn every_value(self) -> Self {
        Self { first: 0, last: u16::MAX, ..self }
    }
}

/// To the peer alone, so that nothing is untracked.
const fn peer(direction: Direction, table: Table, value: u16) -> Rule {
    rule(direction, V4, Remote::Peer, table, value)
}

const fn anyone(direction: Direction, table: Table, value: u16) -> Rule {
    rule(direction, V4, Remote::Anyone, table, value)
}

#[derive(Clone, Debug, Default)]
struct Policy {
    flags: u32,
    rules: Vec<Rule>,
    macs: Vec<u64>,
    ethertypes: Vec<u16>,
}

impl From<&[Rule]> for Policy {
    fn from(rules: &[Rule]) -> Self {
        Self { rules: rules.to_vec(), ..Self::default() }
    }
}

impl Policy {
    fn image(&self) -> Vec<Node> {
        let mut nodes = vec![Node::ZERO; 1 + ZONES as usize];
        let mut zone = Node::ZERO;
        zone.words[zone_word::MARK] = zone_mark(ZONE);
        zone.words[zone_word::FLAGS] = self.flags;
        for direction in Direction::ALL {
            for family in Family::ALL {
                let slot = direction as usize * 2 + family as usize;
                let in_slot = |rule: &&Rule| rule.direction == direction && rule.family == family;
                let rules: Vec<Rule> = self.rules.iter().filter(in_slot).copied().collect();
                zone.words[zone_word::RULE_SETS + slot] = rule_set(&mut nodes, family, &rules);
                let is_whole = |table| {
                    let opens = |rule: &Rule| rule.remote == Remote::Anyone && rule.table == table;
                    rules.iter().any(|rule| opens(rule) && (rule.first, rule.last) == (0, u16::MAX))
                };
                for (table, open) in [(Table::Tcp, flag::OPEN_TCP), (Table::Udp, flag::OPEN_UDP)] {
                    zone.words[zone_word::FLAGS] |= if is_whole(table) { open << slot } else { 0 };
                }
            }
        }
        for (place, own) in [(0, LOCAL), (1, LOCAL_V6)] {
            zone.words[zone_word::OWN + place] = address_set(&mut nodes, own, 0, 1, class_node(&[]));
        }
        for (index, ethertype) in self.ethertypes.iter().enumerate() {
            zone.words[zone_word::ETHERTYPES + index / 2] |= u32::from(*ethertype) << (index % 2 * 16);
        }
        if let Some(first) = self.macs.first() {
            let mut node = Node::ZERO;
            for index in 0..image::MACS_MAX {
                let mac = self.macs.get(index).unwrap_or(first);
                node.words[2 * index..][..2].copy_from_slice(&[(mac >> 32) as u32, *mac as u32]);
            }
            zone.words[zone_word::MACS] = nodes.len() as u32;
            nodes.push(node);
        }
        nodes[1 + ZONE as usize] = zone;
        let count = nodes.len() as u32;
        nodes[0] = Header { nodes: count, zones: 1, zone_count: ZONES, digest: [0; 8] }.to_node();
        nodes
    }
}

/// A rule set whose class 1 is for anyone, and class 2 for the peer. Returns its half number.
fn rule_set(nodes: &mut Vec<Node>, family: Family, rules: &[Rule]) -> u32 {
    if rules.is_empty() {
        return 0;
    }
    let mut classes = Node::ZERO;
    for (class, remote) in [Remote::Anyone, Remote::Peer].into_iter().enumerate() {
        for table in Table::ALL {
            let applies =
                |rule: &&Rule| rule.table == table && [Remote::Anyone, remote].contains(&rule.remote);
            let rules: Vec<Rule> = rules.iter().filter(applies).copied().collect();
            if !rules.is_empty() {
                let place = class * 8 + table as usize * 2;
                classes.words[place] = class_word::TREE;
                classes.words[place + 1] = nodes.len() as u32;
                nodes.push(leaf(&rules));
            }
        }
    }
    if rules.iter().any(|rule| rule.remote == Remote::Peer) {
        let peer = if family == V4 { PEER } else { PEER_V6 };
        return address_set(nodes, peer, 1, 2, classes);
    }
    // One class for all addresses needs no keys: the second half of the node is class 1.
    let half = nodes.len() as u32 * 2;
    let mut node = Node::ZERO;
    node.words[rule_set_word::VALUES] = 1;
    node.words[rule_set_word::CLASSES] = half;
    node.words[8..].copy_from_slice(&classes.words[..8]);
    nodes.push(node);
    half
}

fn class_node(words: &[u32]) -> Node {
    let mut node = Node::ZERO;
    node.words[..words.len()].copy_from_slice(words);
    node
}

/// A rule set with class `inside` for `address` (of IPv6, its network of 64 bits), and class `outside`
/// for all others; `classes` holds classes 1 and 2.
fn address_set(nodes: &mut Vec<Node>, address: Addr, outside: u32, inside: u32, classes: Node) -> u32 {
    let first = nodes.len() as u32;
    let mut keys = Node { words: [u32::MAX; 16] };
    if address.is_v4() {
        keys.words[..2].copy_from_slice(&[address.v4_bits() - 1, address.v4_bits()]);
    } else {
        for (place, key) in [(0, address.hi() - 1), (2, address.hi())] {
            keys.words[place..][..2].copy_from_slice(&[key as u32, (key >> 32) as u32]);
        }
    }
    let mut values = Node::ZERO;
    values.words[0] = outside | inside << 16;
    values.words[1..8].fill(outside | outside << 16);
    let mut set = Node::ZERO;
    set.words[rule_set_word::KEYS] = first;
    set.words[rule_set_word::KEY_NODES] = 1;
    set.words[rule_set_word::VALUES] = first + 1;
    set.words[rule_set_word::CLASSES] = (first + 3) * 2 - 1;
    nodes.extend([keys, values, set, classes]);
    (first + 2) * 2
}

/// A selector tree of one leaf.
fn leaf(rules: &[Rule]) -> Node {
    let mut ends = vec![u16::MAX];
    for rule in rules {
        ends.extend(rule.first.checked_sub(1).into_iter().chain([rule.last]));
    }
    ends.sort_unstable();
    ends.dedup();
    let mut node = Node::ZERO;
    for index in 0..image::LEAF_RANGES {
        let end = ends.get(index).copied().unwrap_or(u16::MAX);
        let opens = |rule: &&Rule| rule.first <= end && end <= rule.last;
        let word = rules.iter().find(opens).map_or(RuleWord::NONE, |rule| {
            let is_anywhere = rules.iter().filter(opens).any(|rule| rule.remote == Remote::Anyone);
            RuleWord::new(RuleNumber(rule.number), is_anywhere)
        });
        node.words[index / 2] |= u32::from(end) << (index % 2 * 16);
        node.words[image::LEAF_RANGES / 2 + index] = word.0;
    }
    node
}

/// Tables, and a clock that the rows move.
struct World {
    flags: u32,
    nodes: Vec<Node>,
    heap: Heap,
    control: Control,
    generation: u64,
    now: u32,
}

impl World {
    fn new(policy: impl Into<Policy>) -> Self {
        let policy = policy.into();
        let control = Control {
            state: 0,
            fallback: 0,
            fallback_at: Control::NEVER,
            unlocked_until: 0,
            hash_keys: [0x9e37_79b9_7f4a_7c15, 0xbf58_476d_1ce4_e5b9, 0x94d0_49bb_1331_11eb, 3, 5, 7],
            buffer_nodes: 0,
            bucket_mask: 3,
            timeouts: [30, 1000, 10, 31, 180, 32, 600, 33],
            events: 0,
            keep_flows: 0,
        };
        let nodes = policy.image();
        Self { flags: policy.flags, nodes, heap: Heap::new(4), control, generation: 0x0123_4567, now: 100 }
    }

    /// A world that also remembers first fragments.
    fn remembering(policy: impl Into<Policy>) -> Self {
        Self { heap: Heap::with_datagrams(4), ..Self::new(policy) }
    }

    /// Puts another policy in force.
    fn apply(&mut self, policy: impl Into<Policy>) {
        let policy = policy.into();
        self.flags = policy.flags;
        self.nodes = policy.image();
        self.generation += 1;
    }

    /// The hook at which `direction` is enforced.
    fn hook(&self, direction: Direction) -> Hook {
        match (direction, self.flags & flag::GUEST != 0) {
            (Inbound, false) | (Outbound, true) => Hook::Ingress,
            (Outbound, false) | (Inbound, true) => Hook::Egress,
        }
    }

    fn outcome(
        &self,
        hook: Hook,
        payload: Result<Payload, Unreadable>,
        mut packet: Packet,
        bytes: u64,
    ) -> Outcome {
        let tables = Tables {
            nodes: Some(&self.nodes[..]),
            memory: &self.heap,
            control: &self.control,
            generation: self.generation,
            jiffies: crate::abi::jiffies(self.now),
            is_guest: self.flags & flag::GUEST != 0,
        };
        decide(&tables, ZONE, hook, payload, &mut packet, bytes)
    }

    /// What becomes of a packet, in words.
    fn judge(&self, direction: Direction, packet: Packet) -> String {
        let payload = if packet.fragment_offset != 0 { Payload::LATER_FRAGMENT } else { Payload::IP };
        self.judge_payload(direction, payload, packet)
    }

    fn judge_payload(&self, direction: Direction, payload: Payload, packet: Packet) -> String {
        let outcome = self.outcome(self.hook(direction), Ok(payload), packet, BYTES);
        assert_eq!(outcome.direction, direction);
        assert_eq!(outcome.is_audited, self.flags & flag::AUDIT != 0);
        told(&outcome)
    }

    /// The only flow there is.
    fn flow(&self) -> Seen {
        let flows = self.heap.flows();
        assert_eq!(flows.len(), 1, "{flows:?}");
        flows[0]
    }

    fn states(&self) -> Vec<FlowState> {
        self.heap.flows().iter().map(|flow| flow.state).collect()
    }

    /// A whole handshake with sequence numbers from 1000 of the opener and 5000 of the other side.
    fn connect(&self, opener: Direction, local_port: u16, remote_port: u16, rule: u32) {
        let segment = |direction, flags, sequence, acknowledgement| Packet {
            sequence,
            acknowledgement,
            ..tcp(direction, local_port, remote_port, flags)
        };
        let flow = format!("flow {rule}");
        let opened = self.judge(opener, segment(opener, SYN, 999, 0));
        assert_eq!(opened, format!("rule {rule}, opened"));
        assert_eq!(self.judge(opener.reverse(), segment(opener.reverse(), SYN | ACK, 4999, 1000)), flow);
        assert_eq!(self.judge(opener, segment(opener, ACK, 1000, 5000)), flow);
    }
}

/// A verdict in words: `rule 3, opened`, `flow 3`, `infrastructure`, or the reason for a drop.
fn told(outcome: &Outcome) -> String {
    let verdict = match outcome.verdict {
        Verdict::Allow(reason, Some(RuleNumber(number))) => format!("{} {number}", reason.name()),
        Verdict::Allow(reason, None) => reason.name().to_string(),
        Verdict::Drop(reason) => reason.name().to_string(),
    };
    assert_eq!(outcome.passes(), matches!(outcome.verdict, Verdict::Allow(..)) || outcome.is_audited);
    if outcome.has_opened { verdict + ", opened" } else { verdict }
}

/// A packet between the instance and a remote address.
fn between(direction: Direction, local: Addr, remote: Addr, protocol: Protocol) -> Packet {
    let (source, destination) = match direction {
        Inbound => (remote, local),
        Outbound => (local, remote),
    };
    Packet {
        source,
        destination,
        source_mac: MAC,
        transport: Transport { protocol: protocol.0, ..Transport::default() },
        fragment_protocol: protocol.0,
        hop_limit: 64,
        ..Packet::default()
    }
}

fn with_ports(direction: Direction, local_port: u16, remote_port: u16, packet: Packet) -> Packet {
    let (source_port, destination_port) = match direction {
        Inbound => (remote_port, local_port),
        Outbound => (local_port, remote_port),
    };
    Packet { transport: Transport { source_port, destination_port, ..packet.transport }, ..packet }
}

/// A TCP segment between [`LOCAL`] and [`PEER`].
fn tcp(direction: Direction, local_port: u16, remote_port: u16, tcp_flags: u8) -> Packet {
    let packet = Packet { tcp_flags, is_sum_right: true, ..between(direction, LOCAL, PEER, Protocol::TCP) };
    with_ports(direction, local_port, remote_port, packet)
}

/// A UDP packet between [`LOCAL`] and [`PEER`].
fn udp(direction: Direction, local_port: u16, remote_port: u16) -> Packet {
    with_ports(direction, local_port, remote_port, between(direction, LOCAL, PEER, Protocol::UDP))
}

/// An ICMP message between [`LOCAL`] and [`PEER`].
fn icmp(direction: Direction, kind: u8, code: u8, icmp_id: u16) -> Packet {
    let packet = between(direction, LOCAL, PEER, Protocol::ICMP);
    let icmp = u16::from(kind) << 8 | u16::from(code);
    Packet { transport: Transport { icmp, icmp_id, ..packet.transport }, ..packet }
}

/// An ICMPv6 message between [`LOCAL_V6`] and [`PEER_V6`].
fn icmp_v6(direction: Direction, kind: u8, code: u8, icmp_id: u16) -> Packet {
    let packet = between(direction, LOCAL_V6, PEER_V6, Protocol::ICMPV6);
    let icmp = u16::from(kind) << 8 | u16::from(code);
    Packet { transport: Transport { icmp, icmp_id, ..packet.transport }, ..packet }
}
