//! The same question asked three ways: the reference `policy::eval`, `decide` in user space, and the
//! loaded programs by test-run. They agree on verdict, reason and rule, packet after packet, over
//! generated policies and over what the flow table has learned from the packets before.
//!
//! `SG_AGREEMENT=POLICIES:PACKETS` asks for more than the default, `SG_AGREEMENT_SEED` for the run
//! that a failure has named.
#![expect(clippy::unwrap_used, reason = "a test: what is generated here is there")]

use std::{
    env,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, ensure};
use sg_agent::{
    compile::{self, Input, RuleNumbers, Zone},
    document,
    image::Image,
    policy::{Infrastructure, Membership, Mode, Policy, Side, eval},
};
use sg_common::{
    abi::{COUNTER_SLOTS, counter_slot},
    addr::Addr,
    decide::{Hook, Outcome},
    image::table,
    tuple::{Direction, Protocol, Selector, Table, Tuple},
    verdict::{AllowReason, DropReason, Verdict},
};
use sg_tests::{
    memory::UserSpace,
    packet::{Icmp, Mac, Packet, Tcp, Transport, Udp},
    programs::{Entry, Programs, Sizes},
    syscall,
};

const SIZES: Sizes = Sizes { nodes: 4096, buckets: 1024, rules: 1024 };

/// Numbers that look random and come again with the seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.roll() % limit
    }

    fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len() as u64) as usize]
    }
}

const SERVICES: [&str; 16] = [
    "all",
    "tcp",
    "udp",
    "tcp/443",
    "tcp/80-90",
    "tcp/0",
    "udp/53",
    "udp/5000-6000",
    "icmp",
    "icmp/echo-request",
    "icmp/3/4",
    "icmpv6",
    "icmpv6/echo-request",
    "gre",
    "47",
    "tcp/65535",
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

/// A policy of two groups with random rules.
fn document(dice: &mut Dice) -> String {
    let mut text = String::from(
        "version: 1\nprefix_lists:\n  some: {entries: [198.51.100.128/25, 203.0.113.9, 2001:db8:2::/64, 2001:db8:2::9]}\n\
         groups:\n  other:\n    members: [203.0.113.77, 2001:db8:3::77]\n    inbound: []\n    outbound: []\n",
    );
    for group in ["a", "b"] {
        text += &format!("  {group}:\n");
        for (direction, side, fewest) in [("inbound", "from", 0), ("outbound", "to", 0)] {
            let rules = fewest + dice.below(5);
            if direction == "outbound" && dice.below(4) == 0 {
                continue; // AWS's default: everything to anywhere.
            }
            text += &format!("    {direction}:{}\n", if rules == 0 { " []" } else { "" });
            for _ in 0..rules {
                let (service, peer) = (dice.pick(&SERVICES), dice.pick(&PEERS));
                text += &format!("      - {{allow: {service:?}, {side}: {peer:?}}}\n");
            }
        }
    }
    text += "interfaces:\n  - {match: eth0, groups: [a, b]}\n";
    text
}

const LOCALS: [&str; 2] = ["192.0.2.10", "2001:db8:ffff::10"];
const REMOTES_V4: [&str; 7] = [
    "198.51.100.7",
    "198.51.100.8",
    "198.51.100.200",
    "198.51.7.7",
    "203.0.113.9",
    "203.0.113.77",
    "9.9.9.9",
];
const REMOTES_V6: [&str; 6] =
    ["2001:db8:1::7", "2001:db8:1::8", "2001:db8:2::9", "2001:db8:3::77", "9000::1", "2001:db8:2:0:1::"];

/// A packet of few different flows, so that replies, repetitions and second thoughts are common.
fn packet(dice: &mut Dice, direction: Direction) -> Packet {
    let is_v6 = dice.below(2) == 1;
    let remote: IpAddr =
        if is_v6 { dice.pick(&REMOTES_V6).parse().unwrap() } else { dice.pick(&REMOTES_V4).parse().unwrap() };
    let local: IpAddr = LOCALS[usize::from(is_v6)].parse().unwrap();
    let local_port = *dice.pick(&[&443_u16, &80, &53, &5000, &65535, &0, &40000]);
    let remote_port = *dice.pick(&[&40000_u16, &40001, &443, &53]);
    let (source, destination) =
        if direction == Direction::Inbound { (remote, local) } else { (local, remote) };
    let (source_port, destination_port) =
        if direction == Direction::Inbound { (remote_port, local_port) } else { (local_port, remote_port) };
    let transport: Transport = match dice.below(10) {
        0..=4 => {
            let flags = *dice.pick(&[
                &Tcp::SYN,
                &Tcp::SYN,
                &(Tcp::SYN | Tcp::ACK),
                &Tcp::ACK,
                &Tcp::ACK,
                &(Tcp::ACK | Tcp::PSH),
                &(Tcp::FIN | Tcp::ACK),
                &Tcp::RST,
                &(Tcp::RST | Tcp::ACK),
                &Tcp::FIN,
                &0,
                &(Tcp::SYN | Tcp::FIN),
            ]);
            let mut tcp = Tcp::new(source_port, destination_port, flags);
            tcp.sequence = *dice.pick(&[&1_u32, &2, &1000]);
            tcp.acknowledgement = *dice.pick(&[&1_u32, &2, &1001]);
            tcp.into()
        }
        5..=6 => Udp::new(source_port, destination_port, b"question").into(),
        7..=8 => {
            let (request, reply) = if is_v6 { (128, 129) } else { (8, 0) };
            let kind = *dice.pick(&[&request, &request, &reply, &3_u8, &5, &13, &2, &137]);
            Icmp::new(kind, dice.below(5) as u8, [0, 1, 0, 1], b"ping").into()
        }
        _ => Transport::Other(*dice.pick(&[&47_u8, &132, &50, &1, &58]), vec![0; 16]),
    };
    Packet::new(source, destination, transport)
}

/// What the reference has to say about a packet that no flow decided.
fn reference(policy: &Policy, members: &Membership, direction: Direction, frame: &[u8]) -> Option<u32> {
    // Fields are read here by hand: the parser is among what is tested.
    let is_v6 = frame[12..14] == [0x86, 0xdd];
    let (protocol, source, destination, at): (u8, IpAddr, IpAddr, usize) = if is_v6 {
        let address = |at: usize| Ipv6Addr::from(<[u8; 16]>::try_from(&frame[at..at + 16]).unwrap());
        (frame[20], address(22).into(), address(38).into(), 54)
    } else {
        let address = |at: usize| Ipv4Addr::from(<[u8; 4]>::try_from(&frame[at..at + 4]).unwrap());
        (frame[23], address(26).into(), address(30).into(), 34)
    };
    let (source, destination) = (Addr::from(source), Addr::from(destination));
    let (local, remote) =
        if direction == Direction::Inbound { (destination, source) } else { (source, destination) };
    let table = table(remote.family(), protocol);
    let value = match table {
        Table::Tcp | Table::Udp => u16::from_be_bytes([frame[at + 2], frame[at + 3]]),
        Table::Icmp => u16::from_be_bytes([frame[at], frame[at + 1]]),
        Table::Other => protocol.into(),
    };
    let tuple = Tuple { local, remote, protocol: Protocol(protocol), selector: Selector { table, value } };
    let groups = [policy.group("a").unwrap(), policy.group("b").unwrap()];
    let rule = eval::eval(policy, members, &groups, direction, &tuple)?;
    RuleNumbers::in_order(policy).get(rule).map(|number| number.0)
}

fn image_of(policy: &Policy, side: Side) -> Result<(Image, Membership)> {
    let members = Membership::written(policy);
    let zone = Zone {
        groups: vec![policy.group("a").context("a")?, policy.group("b").context("b")?],
        side,
        mode: Mode::Enforce,
        source_check: false,
        infrastructure: Infrastructure::default(),
        own: vec![],
        macs: vec![],
        ethertypes: vec![],
    };
    let numbers = RuleNumbers::in_order(policy);
    let input = Input { policy, members: &members, zones: &[Some(zone)], numbers: &numbers };
    Ok((compile::compile(&input, &compile::Limits { nodes: SIZES.nodes })?, members))
}

fn generated(dice: &mut Dice) -> Result<Policy> {
    let text = document(dice);
    let loaded = document::parse_str("generated.yaml", &text, &document::Limits::default());
    ensure!(loaded.errors.is_empty(), "{:?}\n{text}", loaded.errors);
    loaded.policy.context("no policy")
}

/// One packet, asked three ways.
fn ask(
    policy: &Policy,
    members: &Membership,
    image: &Image,
    user_space: &UserSpace,
    programs: &mut Programs,
    entry: Entry,
    frame: &[u8],
) -> Result<Outcome> {
    let hook = if entry == Entry::TcEgress { Hook::Egress } else { Hook::Ingress };
    let outcome = user_space.judge(image, hook, frame);
    let slot = counter_slot(outcome.verdict, outcome.is_audited);
    let before = programs.counted(outcome.direction, slot)?;
    let (answer, _) = programs.run(entry.program(), frame, 1)?;
    let after = programs.counted(outcome.direction, slot)?;
    ensure!(
        entry.passes(answer) == outcome.passes() && after == before + 1,
        "the program answers {answer} and has counted {} times what user space says: {outcome:?}",
        after - before,
    );
    let expected = reference(policy, members, outcome.direction, frame);
    match outcome.verdict {
        Verdict::Allow(AllowReason::Rule, rule) => {
            ensure!(rule.map(|rule| rule.0) == expected, "{outcome:?}, but the reference: {expected:?}");
        }
        Verdict::Drop(DropReason::NoRule | DropReason::IcmpErrorWithoutFlow) => {
            ensure!(expected.is_none(), "{outcome:?}, but the reference: {expected:?}");
        }
        _ => {}
    }
    Ok(outcome)
}

/// A policy and a change of it, over one sequence of packets.
fn round(seed: u64, packets: u64, seen: &mut [u64; COUNTER_SLOTS as usize]) -> Result<()> {
    let mut dice = Dice(seed);
    let side = if dice.below(2) == 0 { Side::Host } else { Side::Guest };
    let mut programs = Programs::load(sg_agent::kernel::object(), SIZES)?;
    let mut user_space = UserSpace::new(SIZES.buckets);
    let rules = SIZES.rules;
    let mut by_rule = vec![0_u64; rules as usize];
    for generation in 1..=2 {
        let policy = generated(&mut dice)?;
        let (image, members) = image_of(&policy, side)?;
        programs.publish(&image, generation)?;
        user_space.set_generation(generation);
        for number in 0..packets / 2 {
            let entry =
                [Entry::Xdp, Entry::TcIngress, Entry::TcEgress, Entry::TcEgress][dice.below(4) as usize];
            let is_inbound = (entry == Entry::TcEgress) == (side == Side::Guest);
            let direction = if is_inbound { Direction::Inbound } else { Direction::Outbound };
            let packet = packet(&mut dice, direction);
            let frame = packet.frame(Mac::local(1), Mac::local(2)).bytes();
            let outcome = ask(&policy, &members, &image, &user_space, &mut programs, entry, &frame)
                .with_context(|| {
                    format!("generation {generation}, packet {number}, {entry:?}: {packet:?}")
                })?;
            ensure!(outcome.direction == direction, "{outcome:?} is not {direction}");
            seen[counter_slot(outcome.verdict, false) as usize] += 1;
            if let Verdict::Allow(_, Some(rule)) = outcome.verdict {
                by_rule[rule.0 as usize] += 1;
            }
        }
    }
    ensure!(programs.counted_by_rule(rules)? == by_rule, "the rules' counters differ");
    Ok(())
}

#[test]
fn reference_user_space_and_programs_agree() {
    if !syscall::is_root() {
        eprintln!("skipped: loading programs needs root");
        return;
    }
    let asked = env::var("SG_AGREEMENT").unwrap_or_else(|_| "10:2000".to_owned());
    let (policies, packets) = asked.split_once(':').expect("SG_AGREEMENT is POLICIES:PACKETS");
    let (policies, packets): (u64, u64) = (policies.parse().unwrap(), packets.parse().unwrap());
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_nanos() as u64);
    let given = env::var("SG_AGREEMENT_SEED").ok().map(|seed| seed.parse().unwrap());
    let first = given.unwrap_or_else(now);
    let mut seen = [0; COUNTER_SLOTS as usize];
    for seed in (0..policies).map(|number| first.wrapping_add(number)) {
        if let Err(error) = round(seed, packets, &mut seen) {
            panic!("SG_AGREEMENT_SEED={seed}: {error:#}");
        }
    }
    // A run that never met the common verdicts has shown nothing.
    if policies * packets >= 10_000 {
        for verdict in [
            Verdict::Allow(AllowReason::Rule, None),
            Verdict::Allow(AllowReason::Flow, None),
            Verdict::Drop(DropReason::NoRule),
            Verdict::Drop(DropReason::InvalidTcpFlags),
            Verdict::Drop(DropReason::Revoked),
            Verdict::Drop(DropReason::IcmpErrorWithoutFlow),
        ] {
            assert!(seen[counter_slot(verdict, false) as usize] > 0, "no packet was {verdict:?}");
        }
    }
}
