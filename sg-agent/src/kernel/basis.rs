//! What the flows of a set were made with, kept beside them: by it another ABI version tells whether it
//! can go on with them. The programs do not read it.
//!
//! Flows outlive a change of ABI wherever [`FLOW_LAYOUT`] stays: the maps that hold them are pinned by
//! both versions, whose programs judge by them side by side until the last hook is taken over. What an
//! older version admitted carries an older generation, and is judged again at its next packet.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
};

use aya::maps::{Array, Map, MapData};
use sg_common::{abi::map, flow::FLOW_LAYOUT};

use super::{
    Kernel, KernelError,
    attachment::Record,
    hooks::running_pinned,
    pins::{CURRENT, Pins, versions},
    set::map_path,
    syscall,
};

/// The map's name, as pinned. Every version finds it by this, and the layout in its first word.
pub(crate) const NAME: &str = "FLOW_BASIS";

/// The maps that flows consist of.
pub(crate) const MAPS: [&str; 5] =
    [map::FLOW_BUCKETS, map::FLOW_ENTRIES, map::FLOW_TAILS, map::DATAGRAMS, NAME];

/// The words of a [`Basis`].
pub(crate) type Words = [u64; 8];

/// What flows were made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Basis {
    /// The [`FLOW_LAYOUT`] of whoever made them.
    layout: u64,
    /// The highest generation that may have admitted one.
    pub(crate) generation: u64,
    /// The keys of their hash.
    pub(crate) hash_keys: [u64; 6],
}

impl Basis {
    const fn from_words(words: Words) -> Self {
        let [layout, generation, a, b, c, d, e, f] = words;
        Self { layout, generation, hash_keys: [a, b, c, d, e, f] }
    }

    const fn to_words(self) -> Words {
        let [a, b, c, d, e, f] = self.hash_keys;
        [self.layout, self.generation, a, b, c, d, e, f]
    }
}

/// The map that holds a [`Basis`].
pub(crate) struct BasisMap(Array<MapData, Words>);

impl BasisMap {
    /// Of a map that was opened and found to have such values.
    pub(crate) fn of(data: MapData) -> Result<Self, KernelError> {
        Array::try_from(Map::Array(data)).map(Self).map_err(|error| KernelError::map("open", NAME, error))
    }

    /// Makes one, of no generation yet.
    pub(crate) fn create(path: &Path) -> Result<(), KernelError> {
        let map = Array::<_, Words>::create(1, 0).map_err(|error| KernelError::map("make", NAME, error))?;
        map.pin(path).map_err(|error| KernelError::system("pin", NAME, std::io::Error::other(error)))
    }

    /// What it says.
    pub(crate) fn load(&self) -> Result<Basis, KernelError> {
        let words = self.0.get(&0, 0).map_err(|error| KernelError::map("read", NAME, error))?;
        Ok(Basis::from_words(words))
    }

    /// Flows of this layout begin, with these keys.
    pub(crate) fn begin(&mut self, hash_keys: [u64; 6]) -> Result<(), KernelError> {
        self.store(Basis { layout: FLOW_LAYOUT, generation: 0, hash_keys })
    }

    /// A generation is about to admit flows.
    pub(crate) fn raise(&mut self, generation: u64) -> Result<(), KernelError> {
        let basis = self.load()?;
        if generation <= basis.generation { Ok(()) } else { self.store(Basis { generation, ..basis }) }
    }

    fn store(&mut self, basis: Basis) -> Result<(), KernelError> {
        self.0.set(0, basis.to_words(), 0).map_err(|error| KernelError::map("write", NAME, error))
    }
}

/// Flows of another version that this one can go on with.
#[derive(Debug)]
pub(crate) struct Inheritance {
    /// The folder of that version's set.
    pub(crate) set: PathBuf,
    /// Buckets of its table.
    pub(crate) buckets: u32,
}

/// The flows of another ABI version that still enforces, if they are laid out as this one's.
pub(crate) fn inheritance(pins: &Pins) -> Option<Inheritance> {
    others(pins).into_iter().find_map(|other| {
        let set = other.folder().join(CURRENT);
        let data = MapData::from_pin(map_path(&set, NAME)).ok()?;
        let is_alike = data.info().is_ok_and(|info| info.value_size() as usize == size_of::<Words>());
        let basis = BasisMap::of(data).ok().filter(|_| is_alike)?.load().ok()?;
        let buckets = MapData::from_pin(map_path(&set, map::FLOW_BUCKETS)).ok()?.info().ok()?.max_entries();
        let enforces = !alive(&other).is_empty();
        // By its own path: where `current` leads may change.
        let set = fs::canonicalize(set).ok()?;
        (basis.layout == FLOW_LAYOUT && enforces).then_some(Inheritance { set, buckets })
    })
}

/// The versions beside this one that can be read.
fn others(pins: &Pins) -> Vec<Pins> {
    let folders = versions(pins.root()).unwrap_or_default().into_iter();
    let others = folders.filter(|folder| folder != pins.folder());
    others.filter_map(|folder| Pins::at(pins.root(), folder).ok().flatten()).collect()
}

/// The attachments of another version that are alive.
fn alive(other: &Pins) -> Vec<Record> {
    let is_alive = |record: &Record| {
        record.hooks.iter().any(|recorded| running_pinned(other, record.ifindex, recorded.hook).is_some())
    };
    let notes = other.notes().unwrap_or_default().into_iter();
    notes.filter_map(|(_, note)| note.ok()).filter(is_alive).collect()
}

impl Kernel {
    /// Interfaces that another ABI version still enforces by the flows that this one has too, and their
    /// zones, which must stay theirs: flows are told apart by them. None is attached by this version.
    #[must_use]
    pub fn inherited(&self) -> BTreeMap<u32, u32> {
        let flows = |set: &Path| {
            let entries = syscall::open_pin(&map_path(set, map::FLOW_ENTRIES)).ok()?;
            syscall::object_id(entries.as_fd()).ok()
        };
        let Some(ours) = flows(&self.set.folder) else { return BTreeMap::new() };
        let same =
            others(&self.pins).into_iter().filter(|other| flows(&other.folder().join(CURRENT)) == Some(ours));
        let zones = same.flat_map(|other| alive(&other)).map(|record| (record.ifindex, record.zone));
        zones.filter(|(ifindex, _)| !self.records.contains_key(ifindex)).collect()
    }

    /// Interfaces that another ABI version enforces, by whatever flows.
    #[must_use]
    pub fn enforced_by_others(&self) -> BTreeSet<u32> {
        others(&self.pins).iter().flat_map(alive).map(|record| record.ifindex).collect()
    }

    /// The highest generation that may have admitted a flow: no other may be published under a number
    /// that is not above it.
    #[must_use]
    pub fn latest_generation(&self) -> u64 {
        self.set.basis.load().map_or(0, |basis| basis.generation).max(self.generation())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_as_they_were_written() {
        let basis = Basis { layout: 1, generation: 2, hash_keys: [3, 4, 5, 6, 7, 8] };
        assert_eq!(basis.to_words(), [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(Basis::from_words(basis.to_words()), basis);
    }
}
