//! Opens a port past the policy for a time, with the daemon alive or dead: written straight into the
//! pinned maps that the programs look into before they drop.
//!
//! For this as little as possible has to be whole: no state folder, no policy, no image and no note of
//! an attachment is read. The programs themselves end what is open when its time has passed. Who may do
//! it, and who is told, is the command line's business.

use std::{path::PathBuf, time::Duration};

use aya::{
    maps::{Array, Map, MapData},
    programs::SchedClassifier,
};
use sg_common::{
    abi::{Control, map, program},
    addr::Addr,
    tuple::Protocol,
    unlock::{Place, Unlock, Unlocks},
};

use super::{
    Kernel, KernelError, Paths, Reader, clock,
    links::Interfaces,
    memory::{Mapping, SharedControl},
    pins::{Pins, read_fact},
    set::{Set, fact, map_path, mapped, program_path},
    slots, syscall,
};

/// A port that is open past the policy, or is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unlocked {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The instance's port.
    pub port: u16,
    /// The other side's address.
    pub remote: Addr,
    /// The one interface that it is open on; none: every one.
    pub interface: Option<String>,
    /// For how long.
    pub left: Duration,
}

/// The maps that unlocking needs, and a clock.
struct Latch {
    folder: PathBuf,
    control: Mapping<SharedControl>,
    unlocks: Mapping<Unlocks>,
    clock: SchedClassifier,
    rate: u32,
}

impl Latch {
    fn open(pins: &Pins) -> Result<Self, KernelError> {
        let folder = pins.set(in_force(pins)?);
        let path = program_path(&folder, program::CLOCK);
        let clock = SchedClassifier::from_pin(&path)
            .map_err(|error| KernelError::program("open", path.display(), error))?;
        let noted = read_fact(&folder, fact::RATE).ok().flatten().and_then(|rate| rate.parse().ok());
        Ok(Self {
            control: mapped::<Control, _>(&folder, map::CONTROL)?.0,
            unlocks: mapped::<Unlocks, _>(&folder, map::UNLOCKS)?.0,
            rate: match noted {
                Some(rate) => rate,
                None => clock::rate(&clock)?,
            },
            clock,
            folder,
        })
    }

    fn control(&self) -> &SharedControl {
        &self.control.all()[0]
    }

    fn places(&self) -> &[Place] {
        &self.unlocks.all()[0].places
    }

    /// The zone of an interface.
    fn zone(&self, name: &str) -> Result<u32, KernelError> {
        let missing = |ifindex| KernelError::NoInterface { name: name.to_owned(), ifindex };
        let interfaces = Interfaces::snapshot()?;
        let ifindex = interfaces.into_iter().find(|found| found.name == name).map(|found| found.ifindex);
        let ifindex = ifindex.ok_or_else(|| missing(0))?;
        let failed = |error| KernelError::map("open", map::ATTACHMENTS, error);
        let data = MapData::from_pin(map_path(&self.folder, map::ATTACHMENTS)).map_err(failed)?;
        let attachments = Array::try_from(Map::Array(data)).map_err(failed)?;
        let found = slots::find(&attachments, ifindex)?;
        found.map(sg_common::abi::Attachment::zone).ok_or(KernelError::NotAttached { name: name.to_owned() })
    }

    /// Opens a port until the time has passed, and reads it back.
    fn unlock(&self, unlock: &Unlock, after: Duration) -> Result<(), KernelError> {
        let now = clock::jiffies(&self.clock, self.rate)?;
        let until = now.saturating_add(clock::jiffies_in(after, self.rate));
        let says = |place: &&Place| place.read().is_some_and(|(found, _)| found == *unlock);
        let is_free = |place: &&Place| place.read().is_none_or(|(_, until)| until <= now);
        let place = match self.places().iter().find(says) {
            Some(place) => place,
            None => {
                let free = self.places().iter().find(is_free);
                let place = free.ok_or(KernelError::NoPlace { limit: self.places().len() })?;
                place.prepare(unlock);
                // No program takes the new words for those of what was open here before.
                syscall::grace_period();
                place
            }
        };
        place.until.store(until);
        let latest = self.places().iter().map(|place| place.until.load()).max().unwrap_or(0);
        self.control().unlock_until(latest);
        let is_written = place.read() == Some((*unlock, until)) && self.control().unlocked_until() >= until;
        if is_written { Ok(()) } else { Err(KernelError::ReadBack { what: "what is unlocked" }) }
    }
}

/// The number of the set in force; where that cannot be told, of the newest.
fn in_force(pins: &Pins) -> Result<u32, KernelError> {
    match pins.current() {
        Ok(Some(number)) => Ok(number),
        Ok(None) | Err(_) => pins.sets()?.into_iter().max().ok_or(KernelError::NothingPublished),
    }
}

/// See [`fn@super::unlock`].
pub(super) fn unlock(paths: &Paths, wanted: &Unlocked) -> Result<bool, KernelError> {
    let Some(pins) = Pins::open(paths)? else { return Ok(false) };
    let _alone = pins.lock()?;
    loop {
        let latch = Latch::open(&pins)?;
        let Unlocked { protocol, port, remote, interface, left } = wanted;
        let zone = interface.as_ref().map(|name| latch.zone(name)).transpose()?;
        latch.unlock(&Unlock { protocol: *protocol, port: *port, remote: *remote, zone }, *left)?;
        // Maps that grew meanwhile took over what was open before.
        if pins.set(in_force(&pins)?) == latch.folder {
            return Ok(true);
        }
    }
}

/// See [`super::end_unlocks`].
pub(super) fn end(paths: &Paths) -> Result<usize, KernelError> {
    let Some(pins) = Pins::open(paths)? else { return Ok(0) };
    let _alone = pins.lock()?;
    let mut ended = 0;
    loop {
        let latch = Latch::open(&pins)?;
        let now = clock::jiffies(&latch.clock, latch.rate)?;
        for place in latch.places() {
            ended += usize::from(place.until.load() > now);
            place.until.store(0);
        }
        latch.control().unlock_until(0);
        if pins.set(in_force(&pins)?) == latch.folder {
            return Ok(ended);
        }
    }
}

impl Set {
    /// What is unlocked now, by zone, and for how long.
    fn unlocked(&self) -> Result<Vec<(Unlock, Duration)>, KernelError> {
        if self.control().unlocked_until() == 0 {
            return Ok(Vec::new());
        }
        let now = clock::jiffies(&self.clock, self.rate)?;
        let all = self.unlocks().places.iter().filter_map(Place::read);
        let alive = all.filter(|(_, until)| *until > now);
        Ok(alive.map(|(unlock, until)| (unlock, clock::duration(until - now, self.rate))).collect())
    }

    /// Ends what is open on a zone alone, before its number is another interface's.
    pub(super) fn end_unlocks_of(&self, zone: u32) {
        for place in &self.unlocks().places {
            if place.read().is_some_and(|(unlock, _)| unlock.zone == Some(zone)) {
                place.until.store(0);
            }
        }
    }
}

impl Kernel {
    /// What is unlocked now.
    ///
    /// # Errors
    ///
    /// When the clock cannot be read.
    pub fn unlocked(&self) -> Result<Vec<Unlocked>, KernelError> {
        let name = |zone| {
            let record = self.records.values().find(|record| record.zone == zone);
            record.map_or_else(|| format!("zone {zone}"), |record| record.name.clone())
        };
        Ok(self.set.unlocked()?.into_iter().map(|one| shown(one, name)).collect())
    }
}

impl Reader {
    /// What is unlocked now, by zone, and for how long; `name` tells the interface of a zone.
    ///
    /// # Errors
    ///
    /// When the clock cannot be read.
    pub fn unlocked(&self, name: impl Fn(u32) -> String) -> Result<Vec<Unlocked>, KernelError> {
        Ok(self.set().unlocked()?.into_iter().map(|one| shown(one, &name)).collect())
    }

    /// What is unlocked now, as the programs see it, and for how long.
    ///
    /// # Errors
    ///
    /// When the clock cannot be read.
    pub fn unlocks(&self) -> Result<Vec<(Unlock, Duration)>, KernelError> {
        self.set().unlocked()
    }
}

fn shown((unlock, left): (Unlock, Duration), name: impl Fn(u32) -> String) -> Unlocked {
    let Unlock { protocol, port, remote, zone } = unlock;
    Unlocked { protocol, port, remote, interface: zone.map(name), left }
}
