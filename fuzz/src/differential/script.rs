//! From octets to a [`Case`]: a head of four octets, then steps of eight each.
//!
//! Every step has one length, so that the fuzzer may move, repeat and change steps without turning
//! all that follows into another language. Fields are taken modulo what they choose from.

use std::net::IpAddr;

use arbitrary::Unstructured;
use sg_common::{flow::Timeout, tuple::Direction};
use sg_tests::{
    agreement::{
        Case, Dice, Step,
        case::Frame,
        policies::{Draft, LOCALS},
    },
    entry::Entry,
    packet::{Extension, Icmp, Ip, Mac, Packet, Tcp, Transport, Udp},
};

/// Steps of the longest case.
const STEPS: usize = 48;
/// Policies, and what each may be changed to: so few that most were compiled before.
const POLICIES: (u8, u8) = (64, 16);
/// Ticks of each timeout: small and different.
const TIMEOUTS: [u32; Timeout::ALL.len()] = [300, 3000, 100, 250, 1000, 200, 2000, 150];
/// Waits around the timeouts.
const WAITS: [u32; 16] = [1, 8, 9, 50, 100, 101, 149, 151, 200, 250, 251, 301, 1000, 2001, 2999, 3001];

const REMOTES_V4: [&str; 8] = [
    "198.51.100.7",
    "198.51.100.200",
    "198.51.7.7",
    "203.0.113.9",
    "203.0.113.77",
    "9.9.9.9",
    "0.0.0.0",
    "224.0.0.5",
];
const REMOTES_V6: [&str; 8] = [
    "2001:db8:1::7",
    "2001:db8:2::9",
    "2001:db8:2:0:1::",
    "2001:db8:3::77",
    "9000::1",
    "fe80::99",
    "::",
    "ff02::1",
];
const LOCALS_V4: [&str; 4] = [LOCALS[0], "192.0.2.11", "255.255.255.255", "0.0.0.0"];
const LOCALS_V6: [&str; 4] = [LOCALS[1], LOCALS[2], "2001:db8:ffff::11", "ff02::1:2"];
const PORTS: [u16; 16] = [443, 80, 85, 53, 22, 0, 5000, 5999, 67, 68, 546, 547, 1023, 1024, 32_768, 40_000];
const FLAGS: [u8; 16] = [
    Tcp::SYN,
    Tcp::SYN | Tcp::ACK,
    Tcp::ACK,
    Tcp::ACK | Tcp::PSH,
    Tcp::FIN | Tcp::ACK,
    Tcp::RST,
    Tcp::RST | Tcp::ACK,
    Tcp::FIN,
    0,
    Tcp::SYN | Tcp::FIN,
    Tcp::SYN | Tcp::RST,
    0xff,
    Tcp::SYN | 0xc0,
    Tcp::ACK | Tcp::URG,
    Tcp::FIN | Tcp::RST | Tcp::ACK,
    Tcp::SYN | Tcp::PSH,
];
/// Distances from the sequence number that an endpoint would send.
const OFF: [u32; 8] = [0, 1, u32::MAX, 1000, 1 << 25, (1 << 25) + 2, 1 << 31, u32::MAX << 25];
const KINDS: [u8; 16] = [8, 0, 128, 129, 3, 5, 11, 13, 14, 1, 2, 133, 134, 135, 137, 143];
const OTHERS: [u8; 8] = [47, 132, 50, 51, 1, 58, 2, 255];
const HOPS: [u8; 4] = [64, 255, 1, 254];

/// What the steps before have left behind.
struct World {
    is_guest: bool,
    draft: Draft,
    last: Option<Sent>,
}

/// A packet that was sent.
#[derive(Clone)]
struct Sent {
    direction: Direction,
    packet: Packet,
}

/// Makes a case of any octets.
pub(super) fn case(input: &[u8]) -> Case {
    let mut octets = Unstructured::new(input);
    let [settings, policy, change, _] = next(&mut octets);
    let draft = Draft::new(&mut Dice((policy % POLICIES.0).into()));
    let mut world = World { is_guest: draft.is_guest(), draft, last: None };
    let mut steps = vec![world.policy(change)];
    while !octets.is_empty() && steps.len() <= STEPS {
        let step = world.step(next(&mut octets));
        steps.extend(step);
    }
    // So many buckets that nothing ever has to give way: the reference knows of none.
    Case { keeps_flows: settings & 1 != 0, buckets: 64, timeouts: TIMEOUTS, steps }
}

/// The next octets, zeros behind the last.
fn next<const N: usize>(octets: &mut Unstructured<'_>) -> [u8; N] {
    octets.arbitrary().unwrap_or([0; N])
}

fn choose<T: Copy>(from: &[T], octet: u8) -> T {
    from[usize::from(octet) % from.len()]
}

impl World {
    fn step(&mut self, [kind, a, b, c, d, e, f, g]: [u8; 8]) -> Option<Step> {
        let sent = match kind % 16 {
            0..=4 => fresh([a, b, c, d, e, f, g]),
            // The last packet's flow goes on, this way or that.
            5..=8 => self.follow(a & 1 != 0, [b, c, d, e])?,
            9 => self.error([a, b, c, d])?,
            10 | 11 => self.damaged([a, b, c, d, e])?,
            12 => return Some(Step::Wait(choose(&WAITS, a))),
            13 => return Some(self.policy(a)),
            14 => return self.torn([a, b, c, d, e]),
            _ => return Some(self.foreign([a, b, c])),
        };
        let mut frame = sent.packet.frame(Mac::local(1), Mac::local(2));
        let tags = if f & 0xe0 == 0xe0 { usize::from(f & 3) } else { 0 };
        frame.tags = [(0x8100, 0), (0x88a8, 7), (0x8100, 1)][..tags].to_vec();
        let mut bytes = frame.bytes();
        if f & 0xf0 == 0xd0 {
            bytes.resize(bytes.len() + usize::from(f & 0xf), 0x11);
        }
        let step = self.frame(sent.direction, bytes, f & 0xf8 == 0xc8);
        self.last = Some(sent);
        Some(step)
    }

    /// The first policy changed a little, or another one for the same interface.
    fn policy(&self, change: u8) -> Step {
        let change = change % POLICIES.1;
        let mut dice = Dice(change.into());
        let mut draft = self.draft.clone();
        match change {
            0 => {}
            1..=9 => draft.change(&mut dice),
            _ => draft = draft.another(&mut dice),
        }
        Step::Policy(draft.document())
    }

    fn frame(&self, direction: Direction, bytes: Vec<u8>, is_gso: bool) -> Step {
        let is_egress = (direction == Direction::Inbound) == self.is_guest;
        let entry = if is_egress { Entry::TcEgress } else { Entry::TcIngress };
        Step::Frame(entry, Frame { is_gso, bytes, what: String::new() })
    }

    /// A packet of the last one's flow. TCP numbers are those of an honest endpoint, or off by
    /// something.
    fn follow(&self, answers: bool, [a, b, c, d]: [u8; 4]) -> Option<Sent> {
        let mut sent = self.last.clone()?;
        if answers {
            sent.direction = sent.direction.reverse();
            match &mut sent.packet.ip {
                Ip::V4(ip) => std::mem::swap(&mut ip.source, &mut ip.destination),
                Ip::V6(ip) => std::mem::swap(&mut ip.source, &mut ip.destination),
            }
        }
        match &mut sent.packet.transport {
            Transport::Tcp(tcp) => {
                let ends = u32::from(tcp.flags & Tcp::SYN != 0) + u32::from(tcp.flags & Tcp::FIN != 0);
                let follows = tcp.sequence.wrapping_add(tcp.payload.len() as u32).wrapping_add(ends);
                let (sequence, acknowledgement) =
                    if answers { (tcp.acknowledgement, follows) } else { (follows, tcp.acknowledgement) };
                if answers {
                    std::mem::swap(&mut tcp.source_port, &mut tcp.destination_port);
                }
                tcp.flags = choose(&FLAGS, a);
                tcp.sequence = sequence.wrapping_add(choose(&OFF, b));
                tcp.acknowledgement = acknowledgement.wrapping_add(choose(&OFF, b >> 4));
                tcp.payload = vec![0; usize::from(c % 32)];
                tcp.checksum = (d == 0xff).then_some(0x1234);
            }
            Transport::Udp(udp) => {
                if answers {
                    std::mem::swap(&mut udp.source_port, &mut udp.destination_port);
                }
                udp.payload = vec![0; usize::from(c % 32)];
            }
            Transport::Icmp(icmp) => {
                icmp.kind = match (icmp.kind, answers) {
                    _ if a & 0x80 != 0 => choose(&KINDS, a),
                    (8, true) => 0,
                    (0, true) => 8,
                    (128, true) => 129,
                    (129, true) => 128,
                    (kind, _) => kind,
                };
                icmp.code = if b < 0xe0 { 0 } else { b & 3 };
            }
            Transport::Other(number, _) => *number = number.wrapping_add(u8::from(a == 0xff)),
        }
        Some(sent)
    }

    /// Somebody tells the last sender of trouble with its packet, or claims to.
    fn error(&self, [a, b, c, d]: [u8; 4]) -> Option<Sent> {
        let last = self.last.as_ref()?;
        let mut quoted = last.packet.bytes();
        let (source, destination, kinds): (IpAddr, IpAddr, [u8; 8]) = match &last.packet.ip {
            Ip::V4(ip) => (ip.destination.into(), ip.source.into(), [3, 11, 12, 4, 5, 3, 3, 11]),
            Ip::V6(ip) => (ip.destination.into(), ip.source.into(), [1, 2, 3, 4, 137, 1, 2, 3]),
        };
        let source = match b % 4 {
            0 | 1 => source,
            2 => destination,
            _ => parsed(if source.is_ipv4() { REMOTES_V4[5] } else { REMOTES_V6[4] }),
        };
        if c & 0x80 != 0 {
            quoted.truncate(usize::from(c & 0x7f));
        }
        if d & 0x80 != 0
            && let Some(octet) = quoted.get_mut(usize::from(d & 0x7f))
        {
            *octet ^= 1;
        }
        let packet = Packet::new(source, destination, Icmp::new(choose(&kinds, a), a >> 6, [0; 4], &quoted));
        let direction = if b & 0x40 == 0 { last.direction.reverse() } else { last.direction };
        Some(Sent { direction, packet })
    }

    /// The last packet again, with a header that lies or hides something.
    fn damaged(&self, [a, b, c, d, e]: [u8; 5]) -> Option<Sent> {
        let mut sent = self.last.clone()?;
        match &mut sent.packet.ip {
            Ip::V4(ip) => match a % 6 {
                0 => ip.options = [b, c, d, e].repeat(usize::from(a >> 6) + 1),
                1 => ip.header_length = Some(b % 16),
                2 => ip.total_length = Some(u16::from_be_bytes([b % 2, c])),
                3 => ip.version = Some(b % 16),
                4 => (ip.more_fragments, ip.offset, ip.identification) = (b & 1 != 0, c.into(), d.into()),
                _ => ip.ttl = b,
            },
            Ip::V6(ip) => match a % 6 {
                0..=2 => {
                    ip.extensions = (0..=a >> 4).map(|number| extension(b ^ number, [c, d, e])).collect();
                }
                3 => ip.payload_length = Some(u16::from_be_bytes([b % 2, c])),
                4 => ip.version = Some(b % 16),
                _ => ip.hop_limit = b,
            },
        }
        Some(sent)
    }

    /// The last packet with some octets changed, or cut, or lengthened.
    fn torn(&self, [a, b, c, d, e]: [u8; 5]) -> Option<Step> {
        let last = self.last.as_ref()?;
        let mut bytes = last.packet.frame(Mac::local(1), Mac::local(2)).bytes();
        // Whatever is torn, an Ethernet header it has.
        let at = 14 + usize::from(a) % (bytes.len() - 14);
        match b % 3 {
            0 => bytes[at] = c,
            1 => bytes.truncate(at),
            _ => bytes[at..].iter_mut().for_each(|octet| *octet ^= c),
        }
        let direction = if d & 1 == 0 { last.direction } else { last.direction.reverse() };
        Some(self.frame(direction, bytes, e & 0xf0 == 0xf0))
    }

    /// What is no IP, or only says that it is.
    fn foreign(&self, [a, b, c]: [u8; 3]) -> Step {
        const TYPES: [u16; 8] = [0x0806, 0x88cc, 0x8847, 0x8864, 0x05ff, 0x0600, 0x0800, 0x86dd];
        let ethertype = choose(&TYPES, a);
        let payload = vec![c; usize::from(b % 64)];
        let frame = sg_tests::packet::Frame::new(Mac::local(1), Mac::local(2), ethertype, payload);
        let direction = choose(&Direction::ALL, a >> 4);
        self.frame(direction, frame.bytes(), false)
    }
}

/// A packet of its own.
fn fresh([a, b, c, d, e, f, g]: [u8; 7]) -> Sent {
    let direction = choose(&Direction::ALL, a);
    let is_v6 = a & 2 != 0;
    let (local, remote) = if is_v6 {
        (choose(&LOCALS_V6, b >> 5), choose(&REMOTES_V6, b))
    } else {
        (choose(&LOCALS_V4, b >> 5), choose(&REMOTES_V4, b))
    };
    let ports = on_the_way(direction, choose(&PORTS, c), choose(&PORTS, c >> 4));
    let transport: Transport = match d % 16 {
        0..=6 => {
            let mut tcp = Tcp::new(ports.0, ports.1, choose(&FLAGS, e));
            // Around the wrap, or anywhere.
            tcp.sequence = (if e & 0x80 != 0 { u32::MAX - 2 } else { 1000 }).wrapping_add(u32::from(g & 7));
            tcp.payload = vec![0; usize::from(g >> 4)];
            tcp.into()
        }
        7..=10 => Udp::new(ports.0, ports.1, &vec![0; usize::from(g >> 4)]).into(),
        11..=14 => {
            let code = if e < 0xe0 { 0 } else { e & 3 };
            Icmp::new(choose(&KINDS, e), code, [0, g & 3, 0, 1], &[0; 24]).into()
        }
        _ => Transport::Other(choose(&OTHERS, e), vec![0; usize::from(g)]),
    };
    let (source, destination) = on_the_way(direction, parsed(local), parsed(remote));
    let hops = choose(&HOPS, f);
    let packet =
        Packet::new(source, destination, transport).ipv4(|ip| ip.ttl = hops).ipv6(|ip| ip.hop_limit = hops);
    Sent { direction, packet }
}

fn extension(kind: u8, [a, b, c]: [u8; 3]) -> Extension {
    match kind % 8 {
        0 => Extension::HopByHop(vec![]),
        1 | 2 => Extension::Destination(vec![1; usize::from(a % 32)]),
        3 => Extension::Routing(b % 5, c % 2, vec![0; 4]),
        4 | 5 => Extension::Fragment((b % 4).into(), c & 1 != 0, a.into()),
        6 => Extension::Authentication(vec![0; usize::from(a % 4) * 4]),
        _ => Extension::Mobility,
    }
}

fn on_the_way<T>(direction: Direction, local: T, remote: T) -> (T, T) {
    match direction {
        Direction::Inbound => (remote, local),
        Direction::Outbound => (local, remote),
    }
}

fn parsed(address: &str) -> IpAddr {
    match address.parse() {
        Ok(address) => address,
        Err(error) => panic!("{address}: {error}"),
    }
}
