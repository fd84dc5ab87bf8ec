//! The cases, and how one is measured.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, ensure};
use sg_agent::{
    compile::{self, Input, RuleNumbers, Zone},
    document,
    image::Image,
    policy::{Infrastructure, Membership, Mode, Side},
};
use sg_common::flow::SLOTS;
use sg_tests::{
    packet::{Mac, Packet, Tcp},
    programs::{Programs, Sizes},
};

/// What happens to the packets of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A SYN to a port that is open to nobody.
    Denied,
    /// A SYN to an open port, each of another flow.
    New,
    /// An ACK of one of so many flows.
    Established(u32),
}

/// One row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    /// The table that it stands in.
    pub(crate) section: &'static str,
    kind: Kind,
    is_v6: bool,
    prefixes: u32,
    rules: u32,
}

impl Case {
    /// What the row is called.
    #[must_use]
    pub(crate) fn title(&self) -> String {
        let family = if self.is_v6 { "IPv6" } else { "IPv4" };
        let what = match self.kind {
            Kind::Denied => "denied".to_owned(),
            Kind::New => "new, allowed, entered".to_owned(),
            Kind::Established(flows) => format!("established, {flows} flows"),
        };
        format!("{what}, {family}, {} prefixes, {} rules", self.prefixes, self.rules)
    }
}

/// One measured row.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    /// The table that it stands in.
    pub(crate) section: &'static str,
    /// What was measured.
    pub(crate) what: String,
    /// Median cost of a packet, the empty program's taken off.
    pub(crate) nanoseconds: f64,
    /// Median cost of the empty program.
    pub(crate) empty: f64,
    /// Size of the image.
    pub(crate) image_bytes: usize,
}

/// Every case, or the few that tell most.
#[must_use]
pub(crate) fn cases(is_short: bool) -> Vec<Case> {
    let base = Case {
        section: "Program cost by prefixes",
        kind: Kind::Denied,
        is_v6: false,
        prefixes: 10,
        rules: 1,
    };
    let sizes: &[u32] = if is_short { &[10, 100_000] } else { &[10, 100, 1000, 10_000, 100_000, 1_000_000] };
    let mut all = Vec::new();
    for is_v6 in [false, true] {
        all.extend(sizes.iter().map(|&prefixes| Case { is_v6, prefixes, ..base }));
    }
    let by_rules = Case { section: "Program cost by rules", prefixes: 1000, ..base };
    let counts: &[u32] = if is_short { &[10, 10_000] } else { &[1, 10, 100, 1000, 10_000] };
    all.extend(counts.iter().map(|&rules| Case { rules, ..by_rules }));
    let by_flows = Case { section: "Program cost by flows", ..base };
    let flows: &[u32] = if is_short { &[1, 65_536] } else { &[1, 1024, 65_536, 1 << 20] };
    for is_v6 in [false, true] {
        all.extend(flows.iter().map(|&flows| Case { kind: Kind::Established(flows), is_v6, ..by_flows }));
        all.push(Case { kind: Kind::New, is_v6, ..by_flows });
    }
    all
}

/// The flow table as the agent makes it unless told otherwise, and one that a million flows do not fill.
const FLOWS: u32 = 1 << 18;
const FLOWS_OF_A_MILLION: u32 = 1 << 21;
const EMPTY: &str = "sg_bench_empty";
const FULL: &str = "sg_bench_xdp";

/// Measures cases with one object.
pub(crate) struct Bench<'a> {
    object: &'a [u8],
    rounds: usize,
}

impl<'a> Bench<'a> {
    /// Takes the median of so many rounds.
    pub(crate) fn new(object: &'a [u8], rounds: usize) -> Self {
        Self { object, rounds }
    }

    /// Measures one case.
    ///
    /// # Errors
    ///
    /// When the kernel refuses something, or the packets are not judged as the case says.
    pub(crate) fn measure(&mut self, case: &Case) -> Result<Figure> {
        let image = image(case)?;
        let nodes = image.nodes().len() as u32;
        let capacity = match case.kind {
            Kind::Established(flows) if flows > FLOWS / 2 => FLOWS_OF_A_MILLION,
            Kind::New => FLOWS_OF_A_MILLION,
            Kind::Denied | Kind::Established(_) => FLOWS,
        };
        let mut programs =
            Programs::load(self.object, Sizes { nodes, buckets: capacity / SLOTS, rules: case.rules + 1 })?;
        programs.publish(&image, 1)?;
        let frame = frame(case);
        let (span, scatter, repeat) = match case.kind {
            Kind::Denied => (u32::MAX, 1, 400_000),
            Kind::New => ((1 << 19) - 1, 0, 1 << 16),
            Kind::Established(flows) => (flows - 1, 0, 400_000.max(flows)),
        };
        if let Kind::Established(flows) = case.kind {
            // Each flow is opened by a SYN, answered, and completed: three passes over all of them.
            programs.set_bench([0, span, 0x0a00_0000, 0])?;
            programs.run(FULL, &frame, flows)?;
        }
        let mut start = 0;
        let mut median = |programs: &mut Programs, program: &str, is_full: bool| -> Result<f64> {
            let mut times = Vec::new();
            for _ in 0..self.rounds {
                programs.set_bench([start, span, 0x0a00_0000, scatter])?;
                let (answer, mean) = programs.run(program, &frame, repeat)?;
                if is_full {
                    // Where each packet opens a flow, the next round goes on with others.
                    start = if case.kind == Kind::New { start + repeat } else { start };
                    let expected = if case.kind == Kind::Denied { 1 } else { 2 };
                    ensure!(answer == expected, "the program answered {answer}, not {expected}");
                }
                times.push(mean.as_nanos() as f64);
            }
            times.sort_by(f64::total_cmp);
            times.get(times.len() / 2).copied().context("no rounds")
        };
        let empty = median(&mut programs, EMPTY, false)?;
        let full = median(&mut programs, FULL, true)?;
        Ok(Figure {
            section: case.section,
            what: case.title(),
            nanoseconds: full - empty,
            empty,
            image_bytes: image.nodes().len() * 64,
        })
    }

    /// How many instructions the verifier goes through for each shipped program.
    ///
    /// # Errors
    ///
    /// When the kernel refuses the object or does not tell.
    pub(crate) fn verified(&self) -> Result<Vec<(String, u32)>> {
        let sizes = Sizes { nodes: 16, buckets: 2, rules: 1 };
        Programs::load(sg_agent::kernel::object(), sizes)?.verified_instructions()
    }
}

/// One packet of the case; its source address is what changes.
fn frame(case: &Case) -> Vec<u8> {
    let (port, flags) = match case.kind {
        Kind::Denied => (22, Tcp::SYN),
        Kind::New => (443, Tcp::SYN),
        Kind::Established(_) => (443, Tcp::ACK),
    };
    let (source, destination) =
        if case.is_v6 { ("2001:db8::1", "2001:db8:ffff::10") } else { ("10.0.0.0", "192.0.2.10") };
    let address = |text: &str| text.parse().expect("an address");
    Packet::new(address(source), address(destination), Tcp::new(40_000, port, flags))
        .frame(Mac::local(1), Mac::local(2))
        .bytes()
}

/// A policy of so many random prefixes in one list that so many rules name, and one open port.
fn image(case: &Case) -> Result<Image> {
    let mut text = String::from("version: 1\nprefix_lists:\n  peers:\n    entries:\n");
    let mut state = 1_u64;
    for _ in 0..case.prefixes {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let bits = (state >> 16) as u32;
        if case.is_v6 {
            writeln!(text, "      - '2001:{:x}:{:x}::/48'", bits >> 16, bits & 0xffff)?;
        } else {
            let bits = bits & 0xffff_ff00;
            let [a, b, c, _] = bits.to_be_bytes();
            writeln!(text, "      - {}.{b}.{c}.0/24", a.clamp(1, 223))?;
        }
    }
    text += "groups:\n  web:\n    outbound: []\n    inbound:\n      - {allow: tcp/443, from: anywhere}\n";
    for rule in 0..case.rules {
        writeln!(text, "      - {{allow: tcp/{}, from: 'list:peers'}}", 1000 + rule)?;
    }
    let limits =
        document::Limits { bytes: 1 << 30, document_bytes: 1 << 30, nodes: 1 << 24, ..Default::default() };
    let loaded = document::parse_str("bench.yaml", &text, &limits);
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
