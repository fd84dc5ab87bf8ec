//! A million flows: that they fit, what they weigh, and what they cost who is one of them. Datagrams, which
//! a socket that nobody reads from takes.

use std::net::UdpSocket;

use anyhow::{Context as _, Result, ensure};
use sg_tests::{
    generator::{Generator, Sources},
    lab::arena::Family,
    packet::{Mac, Packet, Udp},
};

use super::weight::Weight;
use crate::{
    report::{Cell, Table},
    start,
    statistics::{median, median_ratio},
    wire::{
        contender::{Contender, Kind},
        drops::rate,
        policy,
    },
};

/// Twice as many as are opened: no bucket of the table is then full.
const CAPACITY: u32 = 1 << 21;

/// The table, and the octets that the kernel sets aside for a flow.
///
/// # Errors
/// Flows are missing.
pub(crate) fn table(count: u32, rounds: usize) -> Result<(Table, f64)> {
    let mut contender = Contender::new(Kind::Nobody, &[])?;
    contender.poll()?;
    let arena = &mut contender.arena;
    // What has not been answered in half a minute is gone, unless it is told to stay.
    arena.agent.settings(&format!("[flows]\ncapacity = {CAPACITY}\n[timeouts]\nudp = 600\n"))?;
    let document = policy::document_with(&policy::networks(10), 1, &[&arena.entry("g", "")]);
    start::with(&mut arena.agent, &document)?;
    let weight = Weight::of(arena)?;
    let target = arena.machine_address(Family::V4);
    let socket = arena.machine.enter(|| Ok(UdpSocket::bind((target, policy::DATAGRAMS))?))?;
    let packet = Packet::new(target, target, Udp::new(40_000, policy::DATAGRAMS, b"flow"));
    let generator = Generator::sender(&packet, Mac::local(2), Mac::local(1))?;

    let span = count.next_power_of_two();
    generator.choose(Sources::flows(span), 0);
    // Each source sends twice: what was lost between the sender and the wire comes again.
    for _ in 0..2 {
        rate(&contender, &generator, span)?;
    }
    let status = contender.arena.agent.json(&["status"])?;
    let live = status["maps"]["flows"]["used"].as_u64().context("maps.flows.used")?;
    ensure!(live >= u64::from(count), "of {span} flows {live} are there, expected {count} or more");

    let (mut one, mut many) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        for (flows, rates) in [(1, &mut one), (span, &mut many)] {
            generator.choose(Sources::flows(flows), 0);
            rates.push(rate(&contender, &generator, 300_000)?);
        }
    }
    drop(socket);
    let columns = ["datagrams to a socket, sent by", "flows in the table", "packets (M/s)", "of one flow"];
    let mut table = Table::new("scale-flows", "A million flows on a wire, at TC", &columns);
    for (what, rates) in [("one flow", &one), ("all flows, at random", &many)] {
        table.rows.push(vec![
            what.into(),
            Cell::Number(live as f64, 0),
            Cell::Number(median(rates) / 1e6, 2),
            Cell::Number(median_ratio(rates, &one), 2),
        ]);
    }
    Ok((table, weight.flows / f64::from(CAPACITY)))
}
