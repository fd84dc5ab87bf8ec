//! Reads what is enforced from the pinned maps, with or without a daemon.

use std::time::{Duration, Instant};

use sg_common::{
    abi::{Control, RuleCounter, TICK_SHIFT},
    flow::FlowKey,
};

use super::{
    Attached, DropEvents, FlowView, KernelError, Paths, ZoneCounters, clock,
    flows::Entries,
    hooks::{self, Depth},
    pins::{CURRENT, Pins},
    set::Set,
};
use crate::image::Image;

/// Reads pinned maps.
///
/// When maps grow, a reader keeps the old ones, in which nothing is counted any more: open another
/// for each round.
pub struct Reader {
    pins: Pins,
    set: Set,
    /// The flows of the set.
    entries: Entries,
    /// A moment and its tick.
    tick: (Instant, u32),
}

/// How much fits into the maps as they are; all of them grow when a policy needs more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capacities {
    /// Nodes in one image buffer.
    pub image_nodes: u32,
    /// Rules that have counters.
    pub rules: u32,
    /// Zones that have counters.
    pub zones: u32,
}

impl Reader {
    /// Opens what is pinned; `None` means that nothing is.
    ///
    /// # Errors
    ///
    /// When something is pinned that cannot be read.
    pub fn open(paths: &Paths) -> Result<Option<Self>, KernelError> {
        match Pins::open(paths)? {
            Some(pins) => Self::of(pins),
            None => Ok(None),
        }
    }

    /// Opens what is pinned in this folder.
    pub(super) fn of(pins: Pins) -> Result<Option<Self>, KernelError> {
        let Some(number) = pins.current()? else { return Ok(None) };
        let set = match Set::open(number, pins.set(number)) {
            Ok(set) => set,
            Err(error) => match pins.current()? {
                // It was replaced at this moment.
                Some(another) if another != number => Set::open(another, pins.set(another))?,
                _ => return Err(error),
            },
        };
        let tick = (Instant::now(), clock::tick(&set.clock, set.rate)?);
        Ok(Some(Self { entries: set.entries()?, pins, set, tick }))
    }

    /// What it reads.
    pub(super) fn set(&self) -> &Set {
        &self.set
    }

    /// The generation in force and the buffer that holds it; generation 0 means none.
    #[must_use]
    pub fn state(&self) -> (u64, u32) {
        let state = self.set.state();
        (Control::generation(state), Control::buffer(state))
    }

    /// Every attachment, with the hooks in force.
    ///
    /// # Errors
    ///
    /// When the notes cannot be read.
    pub fn attachments(&self) -> Result<Vec<Attached>, KernelError> {
        let running = |ifindex, hook| hooks::running_pinned(&self.pins, ifindex, hook);
        let records = self.pins.records()?;
        let inspect = |record| hooks::inspect(record, &self.set, Depth::Others, running);
        Ok(records.iter().map(inspect).collect())
    }

    /// A zone's counters.
    ///
    /// # Errors
    ///
    /// When the map has no such zone or cannot be read.
    pub fn zone_counters(&self, zone: u32) -> Result<ZoneCounters, KernelError> {
        self.set.zone_counters(zone)
    }

    /// Counters of rules 0 to `count`, summed over CPUs. Rules beyond the map have zeros.
    ///
    /// # Errors
    ///
    /// When the map cannot be read.
    pub fn rule_counters(&self, count: u32) -> Result<Vec<RuleCounter>, KernelError> {
        (0..count).map(|rule| self.set.rule_counter(rule)).collect()
    }

    /// The image in force, verified.
    ///
    /// # Errors
    ///
    /// When nothing is published, or the image is not whole.
    pub fn image(&self) -> Result<Image, KernelError> {
        self.set.current_image()
    }

    /// Every live flow. Those that change hands while being read are left out.
    pub fn flows(&self) -> impl Iterator<Item = FlowView> + '_ {
        self.set.flows(&self.entries).iter(self.now_tick())
    }

    /// How much fits into the maps as they are.
    #[must_use]
    pub fn capacities(&self) -> Capacities {
        Capacities { image_nodes: self.set.buffer_nodes(), rules: self.set.rules(), zones: self.set.zones() }
    }

    /// Whether flows keep the verdict of the generation that admitted them.
    #[must_use]
    pub fn keeps_flows(&self) -> bool {
        self.set.control().load().keep_flows != 0
    }

    /// Live flows, and how many fit.
    #[must_use]
    pub fn flow_usage(&self) -> (u32, u32) {
        (self.flows().count() as u32, self.set.flow_capacity())
    }

    /// The live flow of a key.
    #[must_use]
    pub fn find_flow(&self, key: &FlowKey) -> Option<FlowView> {
        self.set.flows(&self.entries).find(key, self.now_tick())
    }

    /// The present tick.
    #[must_use]
    pub fn now_tick(&self) -> u32 {
        let (moment, tick) = self.tick;
        let ticks = moment.elapsed().as_millis() * u128::from(self.set.rate) / (1000 << TICK_SHIFT);
        tick.wrapping_add(ticks as u32)
    }

    /// Milliseconds in a tick.
    #[must_use]
    pub fn tick_millis(&self) -> f64 {
        clock::tick_millis(self.set.rate)
    }

    /// How long ago a tick was.
    #[must_use]
    pub fn since(&self, tick: u32) -> Duration {
        let ticks = self.now_tick().wrapping_sub(tick);
        // Another CPU may be a tick ahead.
        let ticks = if ticks > u32::MAX - 64 { 0 } else { ticks };
        Duration::from_secs_f64(f64::from(ticks) * self.tick_millis() / 1000.0)
    }

    /// Begins to follow drops; one follower at a time sees each of them.
    ///
    /// # Errors
    ///
    /// When the ring cannot be mapped.
    pub fn events(&self) -> Result<DropEvents, KernelError> {
        DropEvents::open(&self.set.folder, self.pins.folder().join(CURRENT))
    }
}
