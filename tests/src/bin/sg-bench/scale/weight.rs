//! What an agent weighs: the process, its maps in the kernel, the image in force.

use std::{
    fs,
    os::fd::{AsFd as _, AsRawFd as _},
};

use anyhow::{Context as _, Result};
use aya::maps::MapData;
use sg_common::abi::{ABI_VERSION, map};
use sg_tests::lab::{Arena, Setup};

use crate::{
    report::{Cell, Table},
    start,
    wire::policy,
};

/// In octets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Weight {
    /// Resident memory of the process.
    pub(crate) agent: f64,
    /// All maps.
    pub(crate) maps: f64,
    /// Of which the flow table.
    pub(crate) flows: f64,
    /// The image in force.
    pub(crate) image: f64,
}

impl Weight {
    /// Weighs a running agent.
    ///
    /// # Errors
    /// It is not running, or the kernel does not tell.
    pub(crate) fn of(arena: &Arena) -> Result<Self> {
        let status = fs::read_to_string(format!("/proc/{}/status", arena.agent.process()?))?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next());
        let resident: f64 = resident.context("no VmRSS")?.parse()?;
        let (mut maps, mut flows) = (0.0, 0.0);
        for name in map::ALL {
            let octets = size(arena, name).with_context(|| name.to_owned())?;
            maps += octets;
            if [map::FLOW_BUCKETS, map::FLOW_ENTRIES, map::FLOW_TAILS].contains(&name) {
                flows += octets;
            }
        }
        let told = arena.agent.json(&["status"])?;
        let nodes = told["maps"]["image_nodes"]["used"].as_f64().context("maps.image_nodes.used")?;
        Ok(Self { agent: resident * 1024.0, maps, flows, image: nodes * 64.0 })
    }

    /// What one of so many more weighs.
    pub(crate) fn each_more(self, fewer: Self, count: u32) -> Self {
        let each = |more: f64, fewer: f64| (more - fewer) / f64::from(count);
        Self {
            agent: each(self.agent, fewer.agent),
            maps: each(self.maps, fewer.maps),
            flows: each(self.flows, fewer.flows),
            image: each(self.image, fewer.image),
        }
    }
}

/// Octets that the kernel has set aside for a map.
fn size(arena: &Arena, name: &str) -> Result<f64> {
    arena.machine.enter_all(|| {
        let path = format!("{}/v{ABI_VERSION}/current/maps/{name}", arena.agent.bpffs());
        let data = MapData::from_pin(path)?;
        let told = fs::read_to_string(format!("/proc/self/fdinfo/{}", data.fd().as_fd().as_raw_fd()))?;
        let octets = told.lines().find_map(|line| line.strip_prefix("memlock:"));
        Ok(octets.context("no memlock")?.trim().parse()?)
    })
}

/// What one more of each weighs; attachments and flows have been weighed where they are measured.
///
/// # Errors
/// An agent cannot be had.
pub(crate) fn table(attachment: Weight, flow: f64) -> Result<Table> {
    const MANY: u32 = 100_000;
    const MANY_RULES: u32 = 10_000;
    let few = weighed(10, 1)?;
    let prefix = weighed(MANY, 1)?.each_more(few, MANY - 10);
    let rule = weighed(10, MANY_RULES)?.each_more(few, MANY_RULES - 1);
    let columns = ["one more", "image", "maps", "the agent's process"];
    let mut table = Table::new("scale-memory", "Octets that one more takes", &columns);
    let number = |octets: f64| Cell::Number(octets, usize::from(octets.abs() < 100.0));
    for (what, weight) in
        [("prefix, of 100 000", prefix), ("rule, of 10 000", rule), ("attachment", attachment)]
    {
        table.rows.push(vec![what.into(), number(weight.image), number(weight.maps), number(weight.agent)]);
    }
    table.rows.push(vec!["flow that fits".into(), Cell::Empty, number(flow), Cell::Empty]);
    Ok(table)
}

fn weighed(prefixes: u32, rules: u32) -> Result<Weight> {
    let mut arena = Arena::without_agent(Setup::HostTc)?;
    let networks = policy::networks(prefixes);
    let document = policy::document_with(&networks, rules, &[&arena.entry("g", "")]);
    start::with(&mut arena.agent, &document)?;
    Weight::of(&arena)
}
