//! What a stranger's port scanner makes of an instance: nmap sees the open ports and nothing else
//! (docs/semantics.md, sections 2, 3, 5 and 7).
//!
//! Every scan is run twice: without the agent first, where it sees all that the instance really
//! serves. So each of these tests can fail.

use std::thread;

use anyhow::{Context as _, Result, ensure};
use sg_tests::{
    counters::Counters,
    each_setup,
    lab::{
        Arena, Namespace, Setup,
        arena::Family,
        nmap::{Report, Scan},
        services::Services,
        stranger,
    },
};

each_setup! {
    nmap_syn_scan
    nmap_ack_scan
    nmap_fin_null_and_xmas_scans
    nmap_udp_scan
    nmap_scans_in_fragments
}

/// Served, and open in the policy.
const OPEN: [u16; 3] = [22, 443, 8080];
/// Open in the policy, served by nobody.
const IDLE: u16 = 8081;
/// Served, and closed by the policy alone.
const SHUT: [u16; 5] = [23, 80, 3306, 5432, 6379];
/// Neither.
const DEAD: [u16; 16] = [1, 7, 21, 25, 53, 110, 111, 135, 139, 143, 179, 445, 993, 3389, 9100, 65535];

const RULES: &str = "inbound: [{allow: [tcp/22, tcp/443, tcp/8080-8081, udp/22, udp/443, udp/8080-8081], \
                     from: anywhere}], outbound: []";

const IS_OPEN: &str = "open (syn-ack)";
const IS_CLOSED: &str = "closed (reset)";
const IS_FILTERED: &str = "filtered (no-response)";
const IS_SILENT: &str = "open|filtered (no-response)";

/// An instance that serves more than its policy opens, and a stranger who can reach it.
struct Stage {
    arena: Arena,
    stranger: Namespace,
    _services: Services,
}

impl Stage {
    fn without_agent(setup: Setup) -> Result<Self> {
        let arena = Arena::without_agent(setup)?;
        let stranger = stranger::arrive(&arena)?;
        let instance = arena.instance();
        // Of closed UDP ports the kernel tells only so often.
        instance.set("ipv4/icmp_ratelimit", "0")?;
        instance.set("ipv6/icmp/ratelimit", "0")?;
        let served = [&OPEN[..], &SHUT].concat();
        let services = Services::open(instance, &served, &served)?;
        Ok(Self { arena, stranger, _services: services })
    }

    fn protect(&mut self) -> Result<()> {
        let policy = self.arena.policy(RULES);
        self.arena.agent.start_with(&policy)
    }

    /// Both families' reports, taken side by side.
    fn scan(&self, scan: Scan) -> Result<[(Family, Report); 2]> {
        let ports = [&OPEN[..], &[IDLE], &SHUT, &DEAD].concat();
        let run = |family| scan.run(&self.stranger, self.arena.instance_address(family), &ports);
        let (v4, v6) = thread::scope(|scope| {
            let v6 = scope.spawn(|| run(Family::V6));
            (run(Family::V4), v6.join())
        });
        let v6 = v6.map_err(|_| anyhow::anyhow!("the scan of IPv6 panicked"))?;
        Ok([(Family::V4, v4?), (Family::V6, v6?)])
    }

    /// As [`Self::scan`], with what every counter gained.
    fn counted(&self, scan: Scan) -> Result<([(Family, Report); 2], Counters)> {
        let before = self.arena.counters()?;
        let reports = self.scan(scan)?;
        Ok((reports, self.arena.counters()?.since(&before)?))
    }
}

/// Every inbound packet was counted as one of these, and each of them was.
fn inbound_is(moved: &Counters, names: &[&str]) -> Result<()> {
    let mut seen: Vec<_> =
        moved.0.keys().filter(|(_, direction, _)| direction == "inbound").map(|(.., what)| what).collect();
    let mut expected: Vec<_> = names.iter().collect();
    seen.sort_unstable();
    expected.sort_unstable();
    ensure!(seen.iter().copied().eq(expected), "inbound counters {moved:#?}, expected {names:?} to move");
    Ok(())
}

fn nmap_syn_scan(setup: Setup) -> Result<()> {
    let mut stage = Stage::without_agent(setup)?;
    for (family, report) in stage.scan(Scan::Syn)? {
        let served = [&OPEN[..], &SHUT].concat();
        let dead = [&DEAD[..], &[IDLE]].concat();
        report
            .expect(&[(IS_OPEN, &served), (IS_CLOSED, &dead)])
            .with_context(|| format!("without the agent, {family:?}"))?;
    }
    stage.protect()?;
    let (reports, moved) = stage.counted(Scan::Syn)?;
    for (family, report) in reports {
        let filtered = [&SHUT[..], &DEAD].concat();
        report
            .expect(&[(IS_OPEN, &OPEN), (IS_CLOSED, &[IDLE]), (IS_FILTERED, &filtered)])
            .with_context(|| format!("with the agent, {family:?}"))?;
    }
    inbound_is(&moved, &["allowed", "no_rule"])?;
    assert!(moved.of("eth0", "inbound", "no_rule") >= 2 * (SHUT.len() + DEAD.len()) as u64, "{moved:?}");
    Ok(())
}

/// Open ports answer to an ACK, because a connection may be picked up in the middle where a rule
/// allows it. Of all others nothing is learnt.
fn nmap_ack_scan(setup: Setup) -> Result<()> {
    const UNFILTERED: &str = "unfiltered (reset)";
    let mut stage = Stage::without_agent(setup)?;
    for (family, report) in stage.scan(Scan::Ack)? {
        let all = [&OPEN[..], &[IDLE], &SHUT, &DEAD].concat();
        report.expect(&[(UNFILTERED, &all)]).with_context(|| format!("without the agent, {family:?}"))?;
    }
    stage.protect()?;
    let (reports, moved) = stage.counted(Scan::Ack)?;
    for (family, report) in reports {
        let (open, filtered) = ([&OPEN[..], &[IDLE]].concat(), [&SHUT[..], &DEAD].concat());
        report
            .expect(&[(UNFILTERED, &open), (IS_FILTERED, &filtered)])
            .with_context(|| format!("with the agent, {family:?}"))?;
    }
    inbound_is(&moved, &["allowed", "no_rule"])
}

fn nmap_fin_null_and_xmas_scans(setup: Setup) -> Result<()> {
    let scans = [Scan::Fin, Scan::Null, Scan::Xmas];
    let mut stage = Stage::without_agent(setup)?;
    for scan in scans {
        for (family, report) in stage.scan(scan)? {
            // Whoever listens is silent; whoever does not resets.
            let served = [&OPEN[..], &SHUT].concat();
            let dead = [&DEAD[..], &[IDLE]].concat();
            report
                .expect(&[(IS_SILENT, &served), (IS_CLOSED, &dead)])
                .with_context(|| format!("{scan:?} without the agent, {family:?}"))?;
        }
    }
    stage.protect()?;
    for scan in scans {
        let (reports, moved) = stage.counted(scan)?;
        for (family, report) in reports {
            let all = [&OPEN[..], &[IDLE], &SHUT, &DEAD].concat();
            report
                .expect(&[(IS_SILENT, &all)])
                .with_context(|| format!("{scan:?} with the agent, {family:?}"))?;
        }
        inbound_is(&moved, &["invalid_tcp_flags"]).with_context(|| format!("{scan:?}"))?;
    }
    Ok(())
}

fn nmap_udp_scan(setup: Setup) -> Result<()> {
    const ANSWERS: &str = "open (udp-response)";
    const UNREACHABLE: &str = "closed (port-unreach)";
    let mut stage = Stage::without_agent(setup)?;
    for (family, report) in stage.scan(Scan::Udp)? {
        let served = [&OPEN[..], &SHUT].concat();
        let dead = [&DEAD[..], &[IDLE]].concat();
        report
            .expect(&[(ANSWERS, &served), (UNREACHABLE, &dead)])
            .with_context(|| format!("without the agent, {family:?}"))?;
    }
    stage.protect()?;
    let (reports, moved) = stage.counted(Scan::Udp)?;
    for (family, report) in reports {
        let silent = [&SHUT[..], &DEAD].concat();
        report
            .expect(&[(ANSWERS, &OPEN), (UNREACHABLE, &[IDLE]), (IS_SILENT, &silent)])
            .with_context(|| format!("with the agent, {family:?}"))?;
    }
    inbound_is(&moved, &["allowed", "no_rule"])
}

/// nmap fragments IPv4 only.
fn nmap_scans_in_fragments(setup: Setup) -> Result<()> {
    let scan = |stage: &Stage, scan: Scan| {
        let ports = [&OPEN[..], &[IDLE], &SHUT, &DEAD].concat();
        scan.run(&stage.stranger, stage.arena.instance_address(Family::V4), &ports)
    };
    let mut stage = Stage::without_agent(setup)?;
    for way in [Scan::TinyFragments, Scan::Fragments] {
        let served = [&OPEN[..], &SHUT].concat();
        let dead = [&DEAD[..], &[IDLE]].concat();
        scan(&stage, way)?
            .expect(&[(IS_OPEN, &served), (IS_CLOSED, &dead)])
            .with_context(|| format!("{way:?} without the agent"))?;
    }
    stage.protect()?;
    let all = [&OPEN[..], &[IDLE], &SHUT, &DEAD].concat();
    let before = stage.arena.counters()?;
    scan(&stage, Scan::TinyFragments)?
        .expect(&[(IS_FILTERED, &all)])
        .context("fragments of 8 bytes with the agent")?;
    let moved = stage.arena.counters()?.since(&before)?;
    assert!(moved.of("eth0", "inbound", "malformed") >= all.len() as u64, "{moved:?}");
    assert_eq!(moved.of("eth0", "inbound", "allowed"), 0, "{moved:?}");

    let filtered = [&SHUT[..], &DEAD].concat();
    let before = stage.arena.counters()?;
    scan(&stage, Scan::Fragments)?
        .expect(&[(IS_OPEN, &OPEN), (IS_CLOSED, &[IDLE]), (IS_FILTERED, &filtered)])
        .context("fragments with a whole header with the agent")?;
    let moved = stage.arena.counters()?.since(&before)?;
    inbound_is(&moved, &["allowed", "no_rule"])
}
