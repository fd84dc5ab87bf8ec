//! Another set in the place of the one in force, without a gap: larger maps, or programs of another
//! build.
//!
//! 1. The new set is made and pinned beside the old one. Maps that stay are pinned in both; a new
//!    image map gets the image in force, under the same generation.
//! 2. `current` is turned to it: whoever comes after a crash goes on with the new one.
//! 3. Every link is given its program, each between two packets. Old and new programs judge alike.
//! 4. After a grace period the old counters are final: they are carried over, and the old set goes.

use sg_common::abi::map;

use super::{
    Kernel, KernelError,
    attachment::RecordedHook,
    basis,
    grace::Grace,
    holdings::Holdings,
    load,
    load::{Former, MapSizes},
    pins::remove_tree,
    set::Set,
    syscall,
};

impl Kernel {
    /// Sees to it that an image and its zones and rules fit. Tells whether maps had to grow.
    pub(super) fn fit(&mut self, nodes: usize, zones: u32, rules: u32) -> Result<bool, KernelError> {
        let limit = 1 << 25;
        let nodes =
            u32::try_from(nodes).ok().filter(|nodes| *nodes <= limit).ok_or(KernelError::TooLarge {
                what: "the number of nodes",
                found: nodes as u64,
                limit: limit.into(),
            })?;
        let now = self.map_sizes()?;
        let wanted = MapSizes {
            buffer_nodes: grown(now.buffer_nodes, nodes),
            zones: grown(now.zones, zones),
            rules: grown(now.rules, rules),
            ..now
        };
        if wanted == now {
            return Ok(false);
        }
        self.replace(&wanted)?;
        Ok(true)
    }

    /// Sees to it that a zone has counters.
    pub(super) fn fit_zones(&mut self, zone: u32) -> Result<(), KernelError> {
        self.fit(0, zone + 1, 0).map(drop)
    }

    /// What the set in force has.
    pub(super) fn map_sizes(&self) -> Result<MapSizes, KernelError> {
        let events =
            self.set.events.info().map_err(|error| KernelError::map("look at", map::EVENTS, error))?;
        Ok(MapSizes {
            buffer_nodes: self.set.buffer_nodes(),
            buckets: self.set.buckets.all().len() as u32,
            zones: self.set.zones(),
            rules: self.set.rules(),
            events_bytes: events.max_entries(),
        })
    }

    /// Puts a set of these sizes and this build's programs in force.
    pub(super) fn replace(&mut self, sizes: &MapSizes) -> Result<(), KernelError> {
        let number = self.pins.sets()?.into_iter().max().unwrap_or(0) + 1;
        let folder = self.pins.set(number);
        let made = self.make(number, sizes);
        let (set, holdings) = made.inspect_err(|_| {
            let _ = remove_tree(&folder);
        })?;
        self.pins.switch(number).inspect_err(|_| {
            let _ = remove_tree(&folder);
        })?;
        let old = std::mem::replace(&mut self.set, set);
        let held = std::mem::replace(&mut self.holdings, holdings);
        // Whoever unlocks from here on finds the new set; who did so before may have missed it.
        self.set.control().unlock_until(old.control().unlocked_until());
        if let Err(error) = self.refresh() {
            // Back to what was: each link runs either program, and both judge alike.
            self.pins.switch(old.number)?;
            self.set = old;
            self.holdings = held;
            self.refresh()?;
            remove_tree(&folder)?;
            return Err(error);
        }
        syscall::grace_period();
        self.readers = Grace::Over;
        self.set.carry_counters(&old)?;
        remove_tree(&old.folder)
    }

    /// Makes the new set, ready to judge as the old one does.
    fn make(&self, number: u32, sizes: &MapSizes) -> Result<(Set, Holdings), KernelError> {
        let now = self.map_sizes()?;
        let mut shared = vec![map::ATTACHMENTS, map::EVENTS, map::UNLOCKS, map::AUDITED];
        shared.extend(basis::MAPS);
        let has_same_image = sizes.buffer_nodes == now.buffer_nodes;
        if has_same_image {
            // Where a buffer begins is in the control element: they change together.
            shared.extend([map::CONTROL, map::IMAGE]);
        }
        if sizes.zones == now.zones {
            shared.push(map::COUNTERS);
        }
        if sizes.rules == now.rules {
            shared.push(map::RULE_COUNTERS);
        }
        let folder = self.pins.set(number);
        remove_tree(&folder)?;
        let former = Former { folder: &self.set.folder, shares: &shared, is_carried_over: true };
        load::load(&folder, sizes, Some(former))?;
        let mut set = Set::open(number, folder)?;
        if !has_same_image {
            set.control().store(&self.set.moved(&set)?);
        }
        set.carry_counters(&self.set)?;
        let holdings = Holdings::open(&set.folder)?;
        Ok((set, holdings))
    }

    /// Puts this agent's programs before those of others on every TC hook. Tells whether any were
    /// behind.
    pub(super) fn put_programs_first(&mut self) -> Result<bool, KernelError> {
        let hooks = self
            .records
            .values()
            .flat_map(|record| record.hooks.iter().map(|recorded| (record.ifindex, recorded.hook)));
        let behind: Vec<_> = hooks.filter(|(ifindex, hook)| self.held.is_behind(*ifindex, *hook)).collect();
        for &(ifindex, hook) in &behind {
            let led = match self.set.program(hook) {
                Ok(program) => self.held.lead(&self.pins, program, ifindex, hook),
                // What is not XDP has its program.
                Err(_) => Ok(()),
            };
            if let Err(error) = led {
                tracing::warn!("{error}; programs are loaded anew to get before others");
                let sizes = self.map_sizes()?;
                self.replace(&sizes)?;
                break;
            }
        }
        Ok(!behind.is_empty())
    }

    /// Gives every hook the program of the set in force, which no hook runs yet.
    fn refresh(&mut self) -> Result<(), KernelError> {
        for record in self.records.values() {
            for &RecordedHook { hook, .. } in &record.hooks {
                let program = self.set.program(hook).map_err(|reason| KernelError::Lacks {
                    what: "what the XDP program needs",
                    detail: reason.to_owned(),
                })?;
                if self.held.is_behind(record.ifindex, hook) {
                    self.held.lead(&self.pins, program, record.ifindex, hook)?;
                } else {
                    self.held.refresh(program, record.ifindex, hook)?;
                }
            }
        }
        Ok(())
    }

    /// Removes sets that a crash has left, having taken over what they counted.
    pub(super) fn remove_leftovers(&mut self) -> Result<(), KernelError> {
        for number in self.pins.sets()? {
            if number == self.set.number {
                continue;
            }
            let folder = self.pins.set(number);
            if number < self.set.number
                && let Ok(old) = Set::open(number, folder.clone())
            {
                syscall::grace_period();
                self.set.carry_counters(&old)?;
            }
            remove_tree(&folder)?;
        }
        Ok(())
    }
}

/// A size that holds `wanted`: the present one, or a power of two.
fn grown(now: u32, wanted: u32) -> u32 {
    if wanted <= now { now } else { wanted.next_power_of_two() }
}
