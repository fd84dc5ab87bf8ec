//! Reads what is enforced from the pinned maps.

use sg_common::{
    abi::{COUNTER_SLOTS, Counter, DropEvent, RuleCounter},
    flow::{FlowKey, FlowState},
    tuple::{Direction, Selector},
};

use super::{Attached, KernelError, Paths};
use crate::image::Image;

/// Counters of a zone, summed over CPUs: by [`Direction`], then by
/// [`counter_slot`](sg_common::abi::counter_slot).
pub type ZoneCounters = [[Counter; COUNTER_SLOTS as usize]; 2];

/// A flow of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowView {
    /// Zone, protocol, addresses and ports.
    pub key: FlowKey,
    /// Its state.
    pub state: FlowState,
    /// The direction that opened it.
    pub opener: Direction,
    /// Low 24 bits of the generation that admitted it.
    pub generation: u32,
    /// The rule that admitted it.
    pub rule: Option<u32>,
    /// What the opening packet asked for.
    pub selector: Selector,
    /// The tick at which it was opened.
    pub opened: u32,
    /// The tick of a recent packet.
    pub seen: u32,
    /// Packets, by [`Direction`].
    pub packets: [u64; 2],
    /// Bytes, by [`Direction`].
    pub bytes: [u64; 2],
}

/// Reads pinned maps. Works with the daemon dead.
pub struct Reader {}

impl Reader {
    /// Opens what is pinned; `None` means that nothing is.
    ///
    /// # Errors
    ///
    /// When something is pinned that cannot be read.
    pub fn open(paths: &Paths) -> Result<Option<Self>, KernelError> {
        let _ = paths;
        Err(super::unwritten())
    }

    /// The generation in force and the buffer that holds it; generation 0 means none.
    #[must_use]
    pub fn state(&self) -> (u64, u32) {
        (0, 0)
    }

    /// Every attachment, with the hooks in force.
    ///
    /// # Errors
    ///
    /// When the pins cannot be read.
    pub fn attachments(&self) -> Result<Vec<Attached>, KernelError> {
        Err(super::unwritten())
    }

    /// A zone's counters.
    ///
    /// # Errors
    ///
    /// When the map has no such zone or cannot be read.
    pub fn zone_counters(&self, zone: u32) -> Result<ZoneCounters, KernelError> {
        let _ = zone;
        Err(super::unwritten())
    }

    /// Counters of rules 0 to `count`, summed over CPUs. Rules beyond the map have zeros.
    ///
    /// # Errors
    ///
    /// When the map cannot be read.
    pub fn rule_counters(&self, count: u32) -> Result<Vec<RuleCounter>, KernelError> {
        let _ = count;
        Err(super::unwritten())
    }

    /// The image in force, verified.
    ///
    /// # Errors
    ///
    /// When nothing is published, or the image is not whole.
    pub fn image(&self) -> Result<Image, KernelError> {
        Err(super::unwritten())
    }

    /// Every live flow. Those that change hands while being read are left out.
    pub fn flows(&self) -> impl Iterator<Item = FlowView> + '_ {
        std::iter::empty()
    }

    /// Live flows, and how many fit.
    #[must_use]
    pub fn flow_usage(&self) -> (u32, u32) {
        (0, 0)
    }

    /// The live flow of a key.
    #[must_use]
    pub fn find_flow(&self, key: &FlowKey) -> Option<FlowView> {
        let _ = key;
        None
    }

    /// The present tick.
    #[must_use]
    pub fn now_tick(&self) -> u32 {
        0
    }

    /// Milliseconds in a tick.
    #[must_use]
    pub fn tick_millis(&self) -> f64 {
        0.0
    }

    /// Begins to follow drops; one follower at a time sees each of them.
    ///
    /// # Errors
    ///
    /// When the ring cannot be mapped.
    pub fn events(&self) -> Result<DropEvents, KernelError> {
        Err(super::unwritten())
    }
}

/// Drop events as they come. Dropping it ends the reporting.
pub struct DropEvents {}

impl DropEvents {
    /// The next event, if there is one already.
    pub fn try_next(&mut self) -> Option<DropEvent> {
        None
    }

    /// Waits for the next event. Needs a tokio runtime with IO.
    ///
    /// # Errors
    ///
    /// When the ring cannot be polled.
    pub async fn next(&mut self) -> Result<DropEvent, KernelError> {
        Err(super::unwritten())
    }
}
