//! A set of programs and the maps that they use, opened from its pins.
//!
//! A set is made whole by [`super::load`] and never changes after that: what grows is replaced by
//! another set ([`super::replace`]).

use std::{
    fs,
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
};

use aya::{
    maps::{Array, HashMap, Map, MapData, MapType, PerCpuArray},
    programs::SchedClassifier,
};
use sg_common::{
    abi::{ATTACHMENT_SLOTS, Attachment, COUNTER_SLOTS, Control, Counter, RuleCounter, map, program},
    audited::{Key, Seen},
    flow::{Bucket, Datagram, Entry, SLOTS, Tail, datagram::DATAGRAMS},
    image::{CHUNK_NODES, Chunk},
    unlock::Unlocks,
};

use super::{
    KernelError,
    attachment::HookKind,
    basis,
    basis::BasisMap,
    flows::Entries,
    memory::{Mapping, SharedControl, SharedNode},
    pins::read_fact,
    syscall,
};

/// Facts about a set, beside its pins.
pub(crate) mod fact {
    /// SHA-256 of the object that the programs came from.
    pub(crate) const BUILD: &str = "build";
    /// Jiffies a second.
    pub(crate) const RATE: &str = "rate";
    /// Why there is no XDP program.
    pub(crate) const NO_XDP: &str = "no-xdp";
    /// All of them.
    pub(crate) const ALL: [&str; 3] = [BUILD, RATE, NO_XDP];
}

/// The folders of a set's pins.
pub(crate) const FOLDERS: [&str; 2] = [MAPS, PROGRAMS];
const MAPS: &str = "maps";
const PROGRAMS: &str = "programs";

/// Packets and bytes, as aya knows them.
pub(crate) type CounterWords = [u64; 2];
/// A [`RuleCounter`], as aya knows it.
pub(crate) type RuleCounterWords = [u64; 4];
/// What audit mode remembers, as aya knows it: a [`Seen`] by a [`Key`].
pub(crate) type Audited = HashMap<MapData, [u64; 4], [u64; 4]>;

/// A loaded program.
pub(crate) struct Loaded {
    pub(crate) fd: OwnedFd,
    pub(crate) id: u32,
    pub(crate) name: &'static str,
}

/// Counters per CPU, and what was counted in maps that these have replaced.
pub(crate) struct Counters<const WORDS: usize> {
    pub(crate) now: PerCpuArray<MapData, [u64; WORDS]>,
    pub(crate) carried: Option<Array<MapData, [u64; WORDS]>>,
}

/// An opened set.
pub(crate) struct Set {
    pub(crate) number: u32,
    pub(crate) folder: PathBuf,
    /// SHA-256 of the object, in hexadecimal.
    pub(crate) build: String,
    /// Jiffies a second.
    pub(crate) rate: u32,
    control: Mapping<SharedControl>,
    /// This and the flows are most of the memory there is, and mapped while somebody looks.
    image: MapData,
    image_nodes: u32,
    pub(crate) buckets: Mapping<Bucket>,
    entries: MapData,
    tails: MapData,
    entry_count: u32,
    pub(crate) datagrams: Mapping<Datagram>,
    pub(crate) basis: BasisMap,
    pub(crate) attachments: Array<MapData, u64>,
    pub(crate) counters: Counters<2>,
    pub(crate) rule_counters: Counters<4>,
    pub(crate) events: MapData,
    unlocks: Mapping<Unlocks>,
    pub(crate) audited: Audited,
    pub(crate) clock: SchedClassifier,
    xdp: Result<Loaded, String>,
    tc_ingress: Loaded,
    tc_egress: Loaded,
}

/// Where a set keeps a map.
pub(crate) fn map_path(set: &Path, name: &str) -> PathBuf {
    set.join(MAPS).join(name)
}

/// Where a set keeps a program.
pub(crate) fn program_path(set: &Path, name: &str) -> PathBuf {
    set.join(PROGRAMS).join(name)
}

/// The map of what was counted before a counters map was replaced.
pub(crate) fn carried_name(name: &str) -> String {
    format!("{name}_CARRIED")
}

impl Set {
    /// Opens a set, having checked that its maps are those of this ABI.
    pub(crate) fn open(number: u32, folder: PathBuf) -> Result<Self, KernelError> {
        let fact = |name: &str| -> Result<String, KernelError> {
            read_fact(&folder, name)?.ok_or_else(|| KernelError::Foreign {
                object: folder.display().to_string(),
                detail: format!("it has no {name}"),
            })
        };
        let rate = fact(fact::RATE)?.parse().map_err(|_| KernelError::Foreign {
            object: folder.join(fact::RATE).display().to_string(),
            detail: "it is no number".to_owned(),
        })?;
        let xdp = match read_fact(&folder, fact::NO_XDP)? {
            Some(reason) => Err(reason),
            None => Ok(open_program(&folder, program::XDP)?),
        };
        let (control, _) = mapped::<Control, _>(&folder, map::CONTROL)?;
        let (image, chunks) = open_map::<Chunk>(&folder, map::IMAGE, MapType::Array)?;
        let (buckets, bucket_count) = mapped::<Bucket, _>(&folder, map::FLOW_BUCKETS)?;
        let (entries, entry_count) = open_map::<Entry>(&folder, map::FLOW_ENTRIES, MapType::Array)?;
        let (tails, tail_count) = open_map::<Tail>(&folder, map::FLOW_TAILS, MapType::Array)?;
        let (datagrams, datagram_count) = mapped::<Datagram, _>(&folder, map::DATAGRAMS)?;
        let (attachments, slots) = open_map::<Attachment>(&folder, map::ATTACHMENTS, MapType::Array)?;
        let (basis, _) = open_map::<basis::Words>(&folder, basis::NAME, MapType::Array)?;
        let (unlocks, _) = mapped::<Unlocks, _>(&folder, map::UNLOCKS)?;
        let (events, _) = open_map::<()>(&folder, map::EVENTS, MapType::RingBuf)?;
        if entry_count != bucket_count.saturating_mul(SLOTS)
            || tail_count != entry_count
            || !bucket_count.is_power_of_two()
            || slots != ATTACHMENT_SLOTS
            || datagram_count != DATAGRAMS
        {
            return Err(KernelError::Foreign {
                object: folder.display().to_string(),
                detail: format!(
                    "{bucket_count} buckets, {entry_count} entries, {tail_count} tails, {slots} attachment slots, \
                     {datagram_count} datagrams"
                ),
            });
        }
        let clock_path = program_path(&folder, program::CLOCK);
        Ok(Self {
            number,
            build: fact(fact::BUILD)?,
            rate,
            control,
            image,
            image_nodes: chunks.saturating_mul(CHUNK_NODES),
            buckets,
            entries,
            tails,
            entry_count,
            datagrams,
            basis: BasisMap::of(basis)?,
            attachments: Array::try_from(Map::Array(attachments))
                .map_err(|error| KernelError::map("open", map::ATTACHMENTS, error))?,
            counters: open_counters::<Counter, 2>(&folder, map::COUNTERS)?,
            rule_counters: open_counters::<RuleCounter, 4>(&folder, map::RULE_COUNTERS)?,
            events,
            unlocks,
            audited: open_audited(&folder)?,
            clock: SchedClassifier::from_pin(&clock_path)
                .map_err(|error| KernelError::program("open", clock_path.display(), error))?,
            xdp,
            tc_ingress: open_program(&folder, program::TC_INGRESS)?,
            tc_egress: open_program(&folder, program::TC_EGRESS)?,
            folder,
        })
    }

    /// The control element.
    pub(crate) fn control(&self) -> &SharedControl {
        &self.control.all()[0]
    }

    /// What is unlocked.
    pub(crate) fn unlocks(&self) -> &Unlocks {
        &self.unlocks.all()[0]
    }

    /// Nodes of one image buffer.
    pub(crate) fn buffer_nodes(&self) -> u32 {
        self.image_nodes / 2
    }

    /// The first `count` nodes of one image buffer, as long as what this gives is held.
    pub(crate) fn buffer(&self, buffer: u32, count: u32) -> Result<Mapping<SharedNode>, KernelError> {
        let nodes = self.buffer_nodes();
        if count > nodes {
            return Err(KernelError::TooLarge {
                what: "the number of nodes",
                found: count.into(),
                limit: nodes.into(),
            });
        }
        let first = if buffer == 0 { 0 } else { nodes };
        Mapping::open_part(self.image.fd().as_fd(), first, count)
            .map_err(|error| KernelError::system("map", map_path(&self.folder, map::IMAGE).display(), error))
    }

    /// Flows that fit.
    pub(crate) fn flow_capacity(&self) -> u32 {
        self.entry_count
    }

    /// The flows' entries, as long as what this gives is held.
    pub(crate) fn entries(&self) -> Result<Entries, KernelError> {
        let failed = |name, error| KernelError::system("map", map_path(&self.folder, name).display(), error);
        let entries = Mapping::open(self.entries.fd().as_fd(), self.entry_count)
            .map_err(|error| failed(map::FLOW_ENTRIES, error))?;
        let tails = Mapping::open(self.tails.fd().as_fd(), self.entry_count)
            .map_err(|error| failed(map::FLOW_TAILS, error))?;
        Ok(Entries::new(entries, tails))
    }

    /// Zones that have counters.
    pub(crate) fn zones(&self) -> u32 {
        self.counters.now.len() / (2 * COUNTER_SLOTS)
    }

    /// Rules that have counters.
    pub(crate) fn rules(&self) -> u32 {
        self.rule_counters.now.len()
    }

    /// The program for a hook; for XDP, why there is none.
    pub(crate) fn program(&self, hook: HookKind) -> Result<&Loaded, &str> {
        match hook {
            HookKind::Xdp => self.xdp.as_ref().map_err(String::as_str),
            HookKind::TcxIngress | HookKind::ClsactIngress => Ok(&self.tc_ingress),
            HookKind::TcxEgress | HookKind::ClsactEgress => Ok(&self.tc_egress),
        }
    }
}

fn open_program(folder: &Path, name: &'static str) -> Result<Loaded, KernelError> {
    let path = program_path(folder, name);
    let failed = |error| KernelError::system("open", path.display(), error);
    let fd = syscall::open_pin(&path).map_err(failed)?;
    let (id, found) = syscall::program_info(fd.as_fd()).map_err(failed)?;
    if found != name {
        return Err(KernelError::Foreign {
            object: path.display().to_string(),
            detail: format!("it is called {found}"),
        });
    }
    Ok(Loaded { fd, id, name })
}

/// Opens a map of values `V`, and tells how many there are. Rings and `()` have no values.
fn open_map<V>(folder: &Path, name: &str, kind: MapType) -> Result<(MapData, u32), KernelError> {
    let key = if size_of::<V>() == 0 { 0 } else { size_of::<u32>() as u32 };
    open_keyed::<V>(folder, name, kind, key)
}

/// Opens a map of values `V` with keys of this size, and tells how many fit.
fn open_keyed<V>(folder: &Path, name: &str, kind: MapType, key: u32) -> Result<(MapData, u32), KernelError> {
    let path = map_path(folder, name);
    let failed = |error| KernelError::map("open", path.display(), error);
    let data = MapData::from_pin(&path).map_err(failed)?;
    let info = data.info().map_err(failed)?;
    let found = (info.map_type().map_err(failed)?, info.key_size(), info.value_size());
    let expected = (kind, key, size_of::<V>() as u32);
    if found != expected {
        return Err(KernelError::Foreign {
            object: path.display().to_string(),
            detail: format!("type, key and value sizes are {found:?}, expected {expected:?}"),
        });
    }
    Ok((data, info.max_entries()))
}

fn open_audited(folder: &Path) -> Result<Audited, KernelError> {
    const { assert!(size_of::<Key>() == 32 && size_of::<Seen>() == 32) }
    let (data, _) = open_keyed::<Seen>(folder, map::AUDITED, MapType::LruHash, size_of::<Key>() as u32)?;
    HashMap::try_from(Map::LruHashMap(data)).map_err(|error| KernelError::map("open", map::AUDITED, error))
}

/// Maps a map of values `V` into memory as `T`, which mirrors it.
pub(crate) fn mapped<V, T: super::memory::Shared>(
    folder: &Path,
    name: &str,
) -> Result<(Mapping<T>, u32), KernelError> {
    const { assert!(size_of::<T>() == size_of::<V>()) }
    let (data, count) = open_map::<V>(folder, name, MapType::Array)?;
    let mapping = Mapping::open(data.fd().as_fd(), count)
        .map_err(|error| KernelError::system("map", map_path(folder, name).display(), error))?;
    Ok((mapping, count))
}

fn open_counters<V, const WORDS: usize>(folder: &Path, name: &str) -> Result<Counters<WORDS>, KernelError> {
    const { assert!(WORDS * 8 == size_of::<V>()) }
    let failed = |error| KernelError::map("open", map_path(folder, name).display(), error);
    let (now, count) = open_map::<V>(folder, name, MapType::PerCpuArray)?;
    let carried = carried_name(name);
    let carried = if fs::exists(map_path(folder, &carried)).unwrap_or(false) {
        let (data, of) = open_map::<V>(folder, &carried, MapType::Array)?;
        if of != count {
            return Err(KernelError::Foreign {
                object: map_path(folder, &carried).display().to_string(),
                detail: format!("{of} elements, expected {count}"),
            });
        }
        Some(Array::try_from(Map::Array(data)).map_err(failed)?)
    } else {
        None
    };
    Ok(Counters { now: PerCpuArray::try_from(Map::PerCpuArray(now)).map_err(failed)?, carried })
}
