//! Packets a second that are dropped on one core, SYNs from sources that the policy does not list. The
//! sender is on the same core: what it takes, it takes from all alike.

use std::{net::Ipv4Addr, time::Instant};

use anyhow::{Context as _, Result, ensure};
use sg_tests::{
    generator::{Generator, Sources},
    lab::arena::Family,
    packet::{Mac, Packet, Tcp},
    syscall,
};

use super::{
    contender::{Contender, Kind},
    policy::{self, Form},
};

/// Those who drop.
pub(crate) const KINDS: [Kind; 8] = [
    Kind::XdpDrop,
    Kind::OursXdp,
    Kind::TcxDrop,
    Kind::OursTc,
    Kind::Nftables(Form::Intervals),
    Kind::Nftables(Form::Concatenation),
    Kind::Nftables(Form::BeforeRouting),
    Kind::Iptables,
];

/// The processor that does all the work.
pub(crate) const PROCESSOR: usize = 0;
/// The peer's interface.
pub(crate) const FAR: &str = "far0";
/// The MAC addresses of both ends.
const ENDS: [Mac; 2] = [Mac::local(2), Mac::local(1)];

/// A sender of SYNs to this port of the machine in `contender`.
///
/// # Errors
/// The kernel refuses.
pub(crate) fn syns(contender: &Contender, port: u16) -> Result<Generator> {
    let target = contender.arena.machine_address(Family::V4);
    let generator =
        Generator::sender(&Packet::new(target, target, Tcp::new(40_000, port, Tcp::SYN)), ENDS[0], ENDS[1])?;
    generator.choose(Sources::between_networks(false), 0);
    Ok(generator)
}

/// Sends so many packets, and gives the rate at which they arrived.
///
/// # Errors
/// The kernel refuses, or hardly any arrives.
pub(crate) fn rate(contender: &Contender, generator: &Generator, count: u32) -> Result<f64> {
    crate::go_on()?;
    let before = contender.arrived()?;
    let took = contender.arena.far.enter(|| {
        syscall::stay_on(PROCESSOR)?;
        let interface = syscall::interface_index(FAR)?;
        let begin = Instant::now();
        generator.send(count, interface)?;
        Ok(begin.elapsed())
    })?;
    let arrived = contender.arrived()? - before;
    ensure!(arrived > u64::from(count) / 2, "of {count} packets only {arrived} arrived");
    Ok(arrived as f64 / took.as_secs_f64())
}

/// How many packets take about so many seconds.
fn calibrated(contender: &Contender, generator: &Generator, seconds: f64) -> Result<u32> {
    rate(contender, generator, 20_000)?;
    Ok((rate(contender, generator, 50_000)? * seconds).clamp(50_000.0, 5e6) as u32)
}

/// The rates of all in each round, in the order of [`KINDS`], with so many networks in the policy.
///
/// # Errors
/// Somebody cannot be had, or does not drop what it should.
pub(crate) fn measure(networks: &[Ipv4Addr], rounds: usize) -> Result<Vec<Vec<f64>>> {
    let mut all = Vec::new();
    for kind in KINDS {
        let contender = Contender::new(kind, networks)?;
        contender.poll()?;
        let generator = syns(&contender, policy::LISTED)?;
        let before = (contender.arrived()?, contender.dropped()?);
        let count = calibrated(&contender, &generator, 0.15).context(kind.name())?;
        all.push((contender, generator, count, before, Vec::new()));
    }
    for _ in 0..rounds {
        for (contender, generator, count, _, rates) in &mut all {
            rates.push(rate(contender, generator, *count).with_context(|| contender.kind.name())?);
        }
    }
    for (contender, _, _, (arrived, dropped), _) in &all {
        contender.expect_all_dropped(*arrived, *dropped)?;
    }
    Ok(all.into_iter().map(|(.., rates)| rates).collect())
}
