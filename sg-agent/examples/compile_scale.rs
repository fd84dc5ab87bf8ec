//! How long large policies take to compile, and how large their images are.
//!
//! `cargo run --release -p sg-agent --example compile_scale` prints a line a policy: the quickest
//! of several runs of `compile` alone, the bytes of the whole image for each prefix, and what a lookup of
//! a random address takes, half of them in a prefix.

use std::{collections::BTreeMap, io::Write as _, time::Instant};

use sg_agent::{
    compile::{Input, Limits, RuleNumbers, Zone, compile},
    image::Image,
    policy::{
        Group, GroupIndex, Infrastructure, Membership, Mode, Peer, Policy, Position, PrefixList,
        PrefixListIndex, Rule, Service, Side,
    },
};
use sg_common::{
    addr::{Addr, Family, Prefix},
    image,
    tuple::{Direction, Selector, Table},
};

const RULES: usize = 10_000;
const PREFIXES: usize = 100_000;
const RUNS: usize = 9;
const ROUND: usize = 2_000;

/// A fixed sequence of numbers that look random (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn v4(&mut self) -> Prefix {
        self.prefix(|bits| Addr::v4(bits as u32), &[24, 24, 24, 28, 32])
    }

    fn v6(&mut self) -> Prefix {
        self.prefix(|bits| Addr::v6(0x2000_0000_0000_0000 | bits >> 3, 0), &[32, 48, 48, 56, 64])
    }

    fn v6_host(&mut self) -> Prefix {
        let low = self.next();
        self.prefix(|bits| Addr::v6(0x2000_0000_0000_0000 | bits >> 3, low), &[128])
    }

    fn prefix(&mut self, address: impl Fn(u64) -> Addr, lengths: &[u8]) -> Prefix {
        let length = lengths[self.next() as usize % lengths.len()];
        Prefix::new(address(self.next()), length).unwrap_or(Prefix::ANY_V4)
    }
}

fn position() -> Position {
    Position { file: "generated".into(), line: 1, column: 1 }
}

fn rule(at: usize, peers: Vec<Peer>) -> Rule {
    let port = (at * 7 % 65_000) as u16;
    let services = vec![Service::Tcp(port, port + (at % 3) as u16)];
    Rule { id: None, description: None, services, peers, position: position(), is_default: false }
}

fn policy(inbound: Vec<Rule>, entries: Vec<Prefix>) -> Policy {
    let mut list = PrefixList { name: "list".to_owned(), description: None, entries, position: position() };
    list.entries.sort_unstable();
    list.entries.dedup();
    let group = Group {
        name: "large".to_owned(),
        description: None,
        tags: BTreeMap::new(),
        members: Vec::new(),
        mode: Mode::Enforce,
        inbound,
        outbound: vec![Rule::default_outbound(position())],
        position: position(),
    };
    Policy { groups: vec![group], prefix_lists: vec![list], interfaces: Vec::new() }
}

/// Every rule has prefixes of its own.
fn own(mut prefix: impl FnMut() -> Prefix) -> Policy {
    let mut peers = || (0..PREFIXES / RULES).map(|_| Peer::Prefix(prefix())).collect();
    policy((0..RULES).map(|at| rule(at, peers())).collect(), Vec::new())
}

/// Ten rules name one list of all prefixes.
fn listed(prefix: impl FnMut() -> Prefix) -> Policy {
    let rules = (0..10).map(|at| rule(at, vec![Peer::PrefixList(PrefixListIndex(0))])).collect();
    policy(rules, std::iter::repeat_with(prefix).take(PREFIXES).collect())
}

/// Most rules are for anyone, and one names the list.
fn anyone(prefix: impl FnMut() -> Prefix) -> Policy {
    let anyone = (1..RULES).map(|at| rule(at, vec![Peer::Prefix(Prefix::ANY_V4)]));
    let listed = rule(0, vec![Peer::PrefixList(PrefixListIndex(0))]);
    policy(anyone.chain([listed]).collect(), std::iter::repeat_with(prefix).take(PREFIXES).collect())
}

/// Every rule has one prefix, of any length from 8 to 32, so that many lie in others.
fn nested(mut address: impl FnMut() -> u32) -> Policy {
    let mut peers = |at: usize| {
        let prefix = Prefix::new(Addr::v4(address()), 8 + (at % 25) as u8).unwrap_or(Prefix::ANY_V4);
        vec![Peer::Prefix(prefix)]
    };
    policy((0..PREFIXES).map(|at| rule(at, peers(at))).collect(), Vec::new())
}

/// Addresses in random order: the first of every prefix, and one beside it.
fn asked(policy: &Policy, random: &mut Random) -> Vec<Addr> {
    let listed = policy.prefix_lists.iter().flat_map(|list| &list.entries);
    let peers = policy.groups.iter().flat_map(|group| &group.inbound).flat_map(|rule| &rule.peers);
    let direct = peers.filter_map(|peer| match peer {
        Peer::Prefix(prefix) => Some(prefix),
        Peer::PrefixList(_) | Peer::Group(_) => None,
    });
    let mut asked: Vec<Addr> = listed
        .chain(direct)
        .flat_map(|prefix| {
            let flip = match prefix.family() {
                Family::V4 => 1 << 31,
                Family::V6 => 1 << 63,
            };
            [prefix.first(), Addr::from_bits(prefix.first().to_bits() ^ flip)]
        })
        .collect();
    for at in (1..asked.len()).rev() {
        asked.swap(at, random.next() as usize % (at + 1));
    }
    asked
}

/// Nanoseconds that one lookup takes.
fn lookup(image: &Image, asked: &[Addr]) -> anyhow::Result<f64> {
    let corrupt = |_| anyhow::anyhow!("a lookup left the image");
    let zone = image::zone(image, 0).map_err(corrupt)?;
    let selector = Selector { table: Table::Tcp, value: 443 };
    // Rounds short enough to run undisturbed, and the quickest of several over the same addresses.
    let mut best = vec![f64::INFINITY; asked.len().div_ceil(ROUND)];
    for _ in 0..RUNS {
        for (best, asked) in best.iter_mut().zip(asked.chunks(ROUND)) {
            let start = Instant::now();
            for address in asked {
                let word =
                    image::rule(image, zone, Direction::Inbound, *address, selector).map_err(corrupt)?;
                std::hint::black_box(word);
            }
            *best = best.min(start.elapsed().as_secs_f64());
        }
    }
    Ok(best.iter().sum::<f64>() * 1e9 / asked.len() as f64)
}

fn main() -> anyhow::Result<()> {
    let mut random = Random(1);
    let policies = [
        ("10 000 rules, 10 IPv4 prefixes each", own(|| random.v4())),
        ("10 000 rules, 10 IPv6 prefixes each", own(|| random.v6())),
        ("10 000 rules, 10 IPv6 hosts each", own(|| random.v6_host())),
        ("10 rules, one list of 100 000 IPv4 prefixes", listed(|| random.v4())),
        ("10 rules, one list of 100 000 IPv6 prefixes", listed(|| random.v6())),
        ("10 rules, one list of 100 000 IPv6 hosts", listed(|| random.v6_host())),
        ("9 999 rules for anyone, one for 100 000 prefixes", anyone(|| random.v4())),
        ("100 000 rules, a nested prefix each", nested(|| random.next() as u32)),
    ];
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "{:<50} {:>8} {:>9} {:>9} {:>9} {:>6}",
        "policy", "ms", "prefixes", "intervals", "bytes", "each"
    )?;
    for (name, policy) in &policies {
        let members = Membership::written(policy);
        let numbers = RuleNumbers::in_order(policy);
        let zones = [Some(Zone {
            groups: vec![GroupIndex(0)],
            side: Side::Host,
            mode: Mode::Enforce,
            source_check: false,
            infrastructure: Infrastructure::default(),
            own: Vec::new(),
            macs: Vec::new(),
            ethertypes: Vec::new(),
        })];
        let input = Input { policy, members: &members, zones: &zones, numbers: &numbers };
        let mut times = Vec::with_capacity(RUNS);
        let mut image = compile(&input, &Limits::MAX)?;
        for _ in 0..RUNS {
            let start = Instant::now();
            image = compile(&input, &Limits::MAX)?;
            times.push(start.elapsed());
        }
        times.sort_unstable();
        image.verify()?;
        let lookup = lookup(&image, &asked(policy, &mut random))?;
        let (stats, bytes) = (image.stats(), image.size());
        writeln!(
            out,
            "{name:<50} {:>8.1} {:>9} {:>9} {bytes:>9} {:>6.1} {lookup:>6.1}",
            times[0].as_secs_f64() * 1e3,
            stats.prefixes,
            stats.intervals,
            bytes as f64 / stats.prefixes as f64,
        )?;
    }
    Ok(())
}
