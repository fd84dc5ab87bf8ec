//! Counters: those per CPU that the programs count in, and what was counted in maps before them.

use aya::{
    maps::{MapError, PerCpuValues},
    util::nr_cpus,
};
use sg_common::abi::{COUNTER_SLOTS, Counter, RuleCounter, map};

use super::{
    KernelError,
    set::{Counters, Set},
};

/// Counters of a zone, summed over CPUs: by [`Direction`](sg_common::tuple::Direction), then by
/// [`counter_slot`](sg_common::abi::counter_slot).
pub type ZoneCounters = [[Counter; COUNTER_SLOTS as usize]; 2];

impl<const WORDS: usize> Counters<WORDS> {
    /// Element `index` of all CPUs and of what was carried over, put together by `join`.
    fn get(
        &self,
        index: u32,
        join: impl Fn([u64; WORDS], [u64; WORDS]) -> [u64; WORDS],
    ) -> Result<[u64; WORDS], MapError> {
        let mut total = match &self.carried {
            Some(carried) => carried.get(&index, 0)?,
            None => [0; WORDS],
        };
        for value in self.now.get(&index, 0)?.iter() {
            total = join(total, *value);
        }
        Ok(total)
    }

    /// Zeroes element `index`, which no program counts in meanwhile.
    fn clear(&mut self, index: u32) -> Result<(), MapError> {
        let cpus = nr_cpus().map_err(|(_, error)| error)?;
        self.now.set(index, PerCpuValues::try_from(vec![[0; WORDS]; cpus])?, 0)?;
        match &mut self.carried {
            Some(carried) => carried.set(index, [0; WORDS], 0),
            None => Ok(()),
        }
    }

    /// Takes over what `old` has counted, as the whole of what was counted before.
    fn carry(
        &mut self,
        old: &Self,
        join: impl Fn([u64; WORDS], [u64; WORDS]) -> [u64; WORDS],
    ) -> Result<(), MapError> {
        let count = old.now.len();
        // Shared maps are equally long: those that were replaced have grown.
        let Some(carried) = self.carried.as_mut().filter(|carried| carried.len() > count) else {
            return Ok(());
        };
        for index in 0..count {
            let total = old.get(index, &join)?;
            if total != [0; WORDS] {
                carried.set(index, total, 0)?;
            }
        }
        Ok(())
    }
}

fn add(a: [u64; 2], b: [u64; 2]) -> [u64; 2] {
    [a[0] + b[0], a[1] + b[1]]
}

/// The time of the latest packet is the later of two; the rest adds up.
fn add_rule(a: [u64; 4], b: [u64; 4]) -> [u64; 4] {
    [a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3].max(b[3])]
}

impl Set {
    /// A zone's counters.
    pub(crate) fn zone_counters(&self, zone: u32) -> Result<ZoneCounters, KernelError> {
        let mut counters = ZoneCounters::from([[Counter::default(); COUNTER_SLOTS as usize]; 2]);
        let indices = zone_indices(zone, self.zones())?;
        for (counter, index) in counters.iter_mut().flatten().zip(indices) {
            let [packets, bytes] = self.counters.get(index, add).map_err(|error| failed("read", error))?;
            *counter = Counter { packets, bytes };
        }
        Ok(counters)
    }

    /// A rule's counters; zeros for a rule beyond the map.
    pub(crate) fn rule_counter(&self, rule: u32) -> Result<RuleCounter, KernelError> {
        if rule >= self.rules() {
            return Ok(RuleCounter::default());
        }
        let [flows, packets, bytes, last_hit] =
            self.rule_counters.get(rule, add_rule).map_err(|error| failed("read", error))?;
        Ok(RuleCounter { flows, packets, bytes, last_hit })
    }

    /// Zeroes a zone's counters.
    pub(crate) fn clear_zone_counters(&mut self, zone: u32) -> Result<(), KernelError> {
        if zone >= self.zones() {
            return Ok(());
        }
        for index in zone_indices(zone, self.zones())? {
            self.counters.clear(index).map_err(|error| failed("clear", error))?;
        }
        Ok(())
    }

    /// Zeroes a rule's counters.
    pub(crate) fn clear_rule_counter(&mut self, rule: u32) -> Result<(), KernelError> {
        if rule >= self.rules() {
            return Ok(());
        }
        self.rule_counters.clear(rule).map_err(|error| failed("clear", error))
    }

    /// Takes over what another set has counted in maps that this one does not share.
    pub(crate) fn carry_counters(&mut self, old: &Self) -> Result<(), KernelError> {
        self.counters
            .carry(&old.counters, add)
            .and_then(|()| self.rule_counters.carry(&old.rule_counters, add_rule))
            .map_err(|error| failed("carry over", error))
    }
}

/// Indices of a zone's counters, in the order of [`ZoneCounters`].
fn zone_indices(zone: u32, zones: u32) -> Result<std::ops::Range<u32>, KernelError> {
    const COUNT: u32 = 2 * COUNTER_SLOTS;
    if zone >= zones {
        return Err(KernelError::TooLarge {
            what: "the zone",
            found: zone.into(),
            limit: u64::from(zones).saturating_sub(1),
        });
    }
    Ok(zone * COUNT..(zone + 1) * COUNT)
}

fn failed(operation: &'static str, error: MapError) -> KernelError {
    KernelError::map(operation, map::COUNTERS, error)
}

#[cfg(test)]
mod tests {
    use sg_common::{abi::counter_index, tuple::Direction};

    use super::*;

    #[test]
    fn a_zone_is_read_in_the_order_of_the_map() {
        let indices = zone_indices(3, 4).unwrap();
        assert_eq!(indices.start, counter_index(3, Direction::Inbound, 0));
        assert_eq!(indices.end - 1, counter_index(3, Direction::Outbound, COUNTER_SLOTS - 1));
        assert!(zone_indices(4, 4).is_err());
    }
}
