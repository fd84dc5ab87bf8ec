//! Which packets meet which policy. How they are measured is in [`super::stand`].

use std::fmt::Write as _;

use anyhow::{Context as _, Result, ensure};
use sg_agent::{
    compile::{self, Input, RuleNumbers, Zone},
    document,
    image::Image,
    policy::{Infrastructure, Membership, Mode, Side},
};
use sg_common::{
    abi::program,
    verdict::{AllowReason, DropReason, Verdict},
};
use sg_tests::{
    generator::{Generator, Sources},
    packet::{Packet, Tcp},
    syscall::handmade::Kind as Hook,
};

/// What happens to the packets of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A SYN from between the prefixes to a port that is open to them.
    Denied,
    /// A SYN from within the prefixes to a port that is open to nobody.
    DeniedPort,
    /// A SYN to an open port, each of another flow.
    New,
    /// An ACK of one of so many flows.
    Established(u32),
    /// An ACK of what needs no flow.
    Untracked,
}

/// One figure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    /// What happens.
    pub(crate) kind: Kind,
    /// The family.
    pub(crate) is_v6: bool,
    /// The hook.
    pub(crate) hook: Hook,
    /// How many prefixes the policy has.
    pub(crate) prefixes: u32,
    /// How many rules name them.
    pub(crate) rules: u32,
}

/// The port that anybody may connect to.
const OPEN: u16 = 443;
/// The first port that is open to the prefixes.
const LISTED: u16 = 1000;
const SHUT: u16 = 22;

impl Case {
    /// What people read in errors.
    pub(crate) fn title(&self) -> String {
        let Self { kind, is_v6, hook, prefixes, rules } = self;
        let family = if *is_v6 { "IPv6" } else { "IPv4" };
        format!("{kind:?}, {family} at {hook:?}, {prefixes} prefixes, {rules} rules")
    }

    /// The program that judges.
    pub(crate) const fn program(&self) -> &'static str {
        match self.hook {
            Hook::Xdp | Hook::XdpOneBuffer => program::XDP,
            Hook::Tc => program::TC_INGRESS,
        }
    }

    /// What it answers: `XDP_PASS` or `XDP_DROP`, `TC_ACT_UNSPEC` or `TC_ACT_SHOT`.
    pub(crate) const fn answer(&self) -> u32 {
        let is_denied = matches!(self.kind, Kind::Denied | Kind::DeniedPort);
        match (self.hook, is_denied) {
            (Hook::Xdp | Hook::XdpOneBuffer, true) => 1,
            (Hook::Xdp | Hook::XdpOneBuffer, false) | (Hook::Tc, true) => 2,
            (Hook::Tc, false) => u32::MAX,
        }
    }

    /// What the shipped program counts: other drops are cheaper, and answered alike.
    pub(crate) const fn verdict(&self) -> Verdict {
        match self.kind {
            Kind::Denied | Kind::DeniedPort => Verdict::Drop(DropReason::NoRule),
            Kind::New | Kind::Untracked => Verdict::Allow(AllowReason::Rule, None),
            Kind::Established(_) => Verdict::Allow(AllowReason::Flow, None),
        }
    }

    /// Where the packets come from.
    pub(crate) fn sources(&self) -> Sources {
        match self.kind {
            Kind::Denied | Kind::Untracked => Sources::between_networks(self.is_v6),
            Kind::DeniedPort => self.within(),
            Kind::New => Sources::flows(1 << 20),
            Kind::Established(flows) => Sources::flows(flows),
        }
    }

    /// One source in each prefix, where they are to be met.
    fn within(&self) -> Sources {
        let count = self.prefixes.next_power_of_two();
        Sources { span: count - 1, factor: 0x2000_0000 / count, first: 0x2000_0000, always: 0 }
    }

    /// A packet; its source is what changes.
    pub(crate) fn packet(&self) -> Packet {
        let (port, flags) = match self.kind {
            Kind::Denied => (LISTED, Tcp::SYN),
            Kind::DeniedPort => (SHUT, Tcp::SYN),
            Kind::New => (OPEN, Tcp::SYN),
            Kind::Established(_) | Kind::Untracked => (OPEN, Tcp::ACK),
        };
        let address = if self.is_v6 { "2001:db8:ffff::10" } else { "192.0.2.10" };
        let address = address.parse().expect("an address");
        Packet::new(address, address, Tcp::new(40_000, port, flags))
    }

    /// One list of prefixes that so many rules name, and one open port.
    pub(crate) fn image(&self) -> Result<Image> {
        let mut text = String::from("version: 1\nprefix_lists:\n  peers:\n    entries:\n");
        let mut random = 1_u64;
        for number in 0..self.prefixes {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let network = match (self.kind, self.is_v6) {
                (Kind::DeniedPort, true) => format!("{}/48", Generator::source(self.within(), number, true)),
                (Kind::DeniedPort, false) => {
                    format!("{}/24", Generator::source(self.within(), number, false))
                }
                (_, true) => {
                    let bits = Sources::network((random >> 32) as u32, true);
                    format!("2001:{:x}:{:x}::/48", bits >> 16, bits & 0xffff)
                }
                (_, false) => {
                    let bits = Sources::network((random >> 32) as u32, false);
                    format!("{}/24", std::net::Ipv4Addr::from_bits(bits))
                }
            };
            writeln!(text, "      - '{network}'")?;
        }
        let outbound = if self.kind == Kind::Untracked { "" } else { "    outbound: []\n" };
        write!(
            text,
            "groups:\n  web:\n{outbound}    inbound:\n      - {{allow: tcp/{OPEN}, from: anywhere}}\n"
        )?;
        for rule in 0..self.rules {
            writeln!(text, "      - {{allow: tcp/{}, from: 'list:peers'}}", u32::from(LISTED) + rule)?;
        }
        compiled(&text)
    }
}

/// A policy whose group `web` is in force on zone 0.
fn compiled(text: &str) -> Result<Image> {
    let limits =
        document::Limits { bytes: 1 << 30, document_bytes: 1 << 30, nodes: 1 << 24, ..Default::default() };
    let loaded = document::parse_str("bench.yaml", text, &limits);
    ensure!(loaded.errors.is_empty(), "{:?}", loaded.errors.first());
    let policy = loaded.policy.context("no policy")?;
    let members = Membership::written(&policy);
    let zone = Zone {
        groups: vec![policy.group("web").context("no group web")?],
        side: Side::Host,
        mode: Mode::Enforce,
        source_check: false,
        infrastructure: Infrastructure::default(),
        own: vec![],
        macs: vec![],
        ethertypes: vec![],
    };
    let numbers = RuleNumbers::in_order(&policy);
    let input = Input { policy: &policy, members: &members, zones: &[Some(zone)], numbers: &numbers };
    Ok(compile::compile(&input, &compile::Limits { nodes: 1 << 24 })?)
}
