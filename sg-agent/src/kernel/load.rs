//! Makes a set: creates its maps, loads its programs, pins both.

use std::{path::Path, sync::OnceLock};

use aya::{
    EbpfError, EbpfLoader,
    maps::{Array, MapData},
    programs::{ProgramError, SchedClassifier, Xdp},
};
use sg_common::{
    abi::{COUNTER_SLOTS, map, program},
    flow::SLOTS,
    image::CHUNK_NODES,
};
use sha2::{Digest as _, Sha256};

use super::{
    KernelError, Sizes, basis,
    basis::BasisMap,
    clock,
    pins::{make_folder, write_fact},
    preemption,
    set::{CounterWords, FOLDERS, RuleCounterWords, carried_name, fact, map_path, program_path},
};

/// The programs, as compiled with this binary.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/sg-ebpf"));

/// The programs as an ELF object: what this binary loads, for whoever loads it by other ways.
#[must_use]
pub fn object() -> &'static [u8] {
    OBJECT
}

/// SHA-256 of [`OBJECT`], in hexadecimal.
pub(crate) fn build() -> &'static str {
    static DIGEST: OnceLock<String> = OnceLock::new();
    DIGEST.get_or_init(|| {
        Sha256::digest(OBJECT).iter().fold(String::new(), |text, octet| format!("{text}{octet:02x}"))
    })
}

/// Elements of each map whose size is not fixed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MapSizes {
    pub(crate) buffer_nodes: u32,
    pub(crate) buckets: u32,
    pub(crate) zones: u32,
    pub(crate) rules: u32,
    pub(crate) events_bytes: u32,
}

impl MapSizes {
    /// What a configuration asks for, within what a map can have.
    pub(crate) fn of(sizes: &Sizes) -> Self {
        const MOST_BUCKETS: u32 = 1 << 26;
        const PAGE: u32 = 4096;
        Self {
            // In whole elements of the map.
            buffer_nodes: sizes.image_nodes.max(1).next_multiple_of(CHUNK_NODES),
            // Two buckets at least, so that a flow has a choice.
            buckets: sizes.flows.div_ceil(SLOTS).clamp(2, MOST_BUCKETS).next_power_of_two(),
            zones: sizes.zones.max(1),
            rules: sizes.rules.max(1),
            events_bytes: sizes.events_bytes.clamp(PAGE, 1 << 30).next_power_of_two(),
        }
    }

    fn entries(&self) -> Result<[(&'static str, u32); 7], KernelError> {
        let fits = |what, count: u64| {
            u32::try_from(count).map_err(|_| KernelError::TooLarge {
                what,
                found: count,
                limit: u32::MAX.into(),
            })
        };
        let flows = fits("the number of flows", u64::from(self.buckets) * u64::from(SLOTS))?;
        Ok([
            (map::IMAGE, self.buffer_nodes / CHUNK_NODES * 2),
            (map::FLOW_BUCKETS, self.buckets),
            (map::FLOW_ENTRIES, flows),
            (map::FLOW_TAILS, flows),
            (
                map::COUNTERS,
                fits("the number of counters", u64::from(self.zones) * 2 * u64::from(COUNTER_SLOTS))?,
            ),
            (map::RULE_COUNTERS, self.rules),
            (map::EVENTS, self.events_bytes),
        ])
    }
}

/// A set that another shares maps with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Former<'a> {
    pub(crate) folder: &'a Path,
    pub(crate) shares: &'a [&'a str],
    /// Counters that are not shared get a map for what was counted before.
    pub(crate) is_carried_over: bool,
}

/// Makes the set in `folder`, which does not exist yet.
pub(crate) fn load(folder: &Path, sizes: &MapSizes, former: Option<Former<'_>>) -> Result<(), KernelError> {
    preemption::check()?;
    for pins in FOLDERS {
        make_folder(&folder.join(pins))?;
    }
    if let Some(Former { folder: from, shares, is_carried_over }) = former {
        for name in shares {
            share(&map_path(from, name), &map_path(folder, name))?;
        }
        if is_carried_over {
            carry_over(from, folder, shares, sizes)?;
        }
    }
    let path = map_path(folder, basis::NAME);
    if !path.exists() {
        BasisMap::create(&path)?;
    }
    let mut loader = EbpfLoader::new();
    for name in map::ALL {
        loader.map_pin_path(name, map_path(folder, name));
    }
    for (name, entries) in sizes.entries()? {
        loader.map_max_entries(name, entries);
    }
    let mut object = loader.load(OBJECT).map_err(object_error)?;
    let program = |name| program_path(folder, name);
    for name in [program::TC_INGRESS, program::TC_EGRESS, program::CLOCK] {
        let classifier: &mut SchedClassifier = named(&mut object, name)?;
        classifier.load().map_err(|error| KernelError::program("load", name, error))?;
        pin(classifier.pin(program(name)), name)?;
    }
    let xdp: &mut Xdp = named(&mut object, program::XDP)?;
    match xdp.load().map_err(|error| KernelError::program("load", program::XDP, error)) {
        Ok(()) => pin(xdp.pin(program(program::XDP)), program::XDP)?,
        // Kernels before 5.18 have no fragments in XDP. They have TC.
        Err(error) if error.is_permission() => return Err(error),
        Err(error) => write_fact(folder, fact::NO_XDP, &shortened(&error.to_string()))?,
    }
    let classifier: &mut SchedClassifier = named(&mut object, program::CLOCK)?;
    write_fact(folder, fact::RATE, &clock::rate(classifier)?.to_string())?;
    write_fact(folder, fact::BUILD, build())
}

/// Pins a map in a second place.
fn share(from: &Path, to: &Path) -> Result<(), KernelError> {
    let data = MapData::from_pin(from).map_err(|error| KernelError::map("open", from.display(), error))?;
    pin(data.pin(to), &to.display().to_string())
}

/// Gives new counters a map for what was counted in the old ones, and shared counters the map that
/// they had.
fn carry_over(from: &Path, to: &Path, shared: &[&str], sizes: &MapSizes) -> Result<(), KernelError> {
    for (name, entries) in sizes.entries()? {
        let carried = carried_name(name);
        let (old, new) = (map_path(from, &carried), map_path(to, &carried));
        let failed = |error| KernelError::map("make", &carried, error);
        if shared.contains(&name) {
            if old.exists() {
                share(&old, &new)?;
            }
        } else if name == map::COUNTERS {
            let map = Array::<_, CounterWords>::create(entries, 0).map_err(failed)?;
            pin(map.pin(&new), &carried)?;
        } else if name == map::RULE_COUNTERS {
            let map = Array::<_, RuleCounterWords>::create(entries, 0).map_err(failed)?;
            pin(map.pin(&new), &carried)?;
        }
    }
    Ok(())
}

fn named<'a, P>(object: &'a mut aya::Ebpf, name: &str) -> Result<&'a mut P, KernelError>
where
    &'a mut P: TryFrom<&'a mut aya::programs::Program, Error = ProgramError>,
{
    let missing = || KernelError::Foreign {
        object: name.to_owned(),
        detail: "the object has no such program".to_owned(),
    };
    object
        .program_mut(name)
        .ok_or_else(missing)?
        .try_into()
        .map_err(|error| KernelError::program("load", name, error))
}

fn pin(result: Result<(), aya::pin::PinError>, object: &str) -> Result<(), KernelError> {
    result.map_err(|error| match error {
        aya::pin::PinError::SyscallError(error) => KernelError::system("pin", object, error.io_error),
        other => KernelError::system("pin", object, std::io::Error::other(other)),
    })
}

fn object_error(error: EbpfError) -> KernelError {
    match error {
        EbpfError::MapError(error) => KernelError::map("make", "the maps", error),
        EbpfError::ProgramError(error) => KernelError::program("load", "the programs", error),
        other => KernelError::system("load", "the programs", std::io::Error::other(other)),
    }
}

/// As much of a text as a fact may well hold.
fn shortened(text: &str) -> String {
    text.chars().take(500).collect()
}
