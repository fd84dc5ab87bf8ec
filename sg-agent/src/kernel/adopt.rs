//! How the daemon comes by what it holds: it adopts what is pinned, or loads it for the first time.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::Read as _,
};

use sg_common::abi::Control;

use super::{
    DetachReport, HookChoice, HookKind, Kernel, KernelError, Opened, Paths, Settings, Side, Sizes,
    attach::slot_of,
    attachment::{Record, RecordedHook},
    basis::{self, Inheritance, inheritance},
    detach,
    grace::Grace,
    holdings::Holdings,
    hooks::{Held, is_half_taken, running_pinned},
    links::Interfaces,
    load::{self, Former, MapSizes},
    pins::{Pins, remove_tree, versions},
    presence::Presence,
    set::Set,
    slots,
    zones::CleanZones,
};

/// See [`Kernel::open`].
pub(super) fn open(
    paths: &Paths,
    sizes: &Sizes,
    settings: &Settings,
) -> Result<(Kernel, Opened), KernelError> {
    // From here on no interface leaves unseen.
    let presence = Presence::watch()?;
    let pins = Pins::make(paths)?;
    let (set, mut opened) = match pins.current()? {
        Some(number) => (Set::open(number, pins.set(number))?, Opened::Adopted),
        None => begin(&pins, &MapSizes::of(sizes))?,
    };
    let mut kernel = Kernel {
        paths: paths.clone(),
        settings: *settings,
        pins,
        holdings: Holdings::open(&set.folder)?,
        set,
        held: Held::default(),
        records: BTreeMap::new(),
        presence,
        awaits_xdp: BTreeSet::new(),
        clean: CleanZones::new(opened == Opened::Loaded),
        readers: Grace::Due,
    };
    kernel.tune(settings);
    if opened == Opened::Adopted {
        kernel.adopt()?;
        if kernel.set.build != load::build() {
            let sizes = kernel.map_sizes()?;
            kernel.replace(&sizes)?;
            opened = Opened::Upgraded;
        }
        kernel.remove_leftovers()?;
    }
    Ok((kernel, opened))
}

/// Makes this version's first set, with the flows of another that enforces where they can be had.
fn begin(pins: &Pins, sizes: &MapSizes) -> Result<(Set, Opened), KernelError> {
    if let Some(from) = inheritance(pins) {
        match first(pins, &MapSizes { buckets: from.buckets, ..*sizes }, Some(&from)) {
            Ok(set) => return Ok((set, Opened::Inherited)),
            Err(error) => {
                tracing::warn!("flows begin anew, those of {} are of no use: {error}", from.set.display());
            }
        }
    }
    Ok((first(pins, sizes, None)?, Opened::Loaded))
}

/// Makes the first set. What is left of one that was not finished goes.
fn first(pins: &Pins, sizes: &MapSizes, from: Option<&Inheritance>) -> Result<Set, KernelError> {
    for number in pins.sets()? {
        remove_tree(&pins.set(number))?;
    }
    let folder = pins.set(1);
    let former = from.map(|from| Former { folder: &from.set, shares: &basis::MAPS, is_carried_over: false });
    let made = load::load(&folder, sizes, former).and_then(|()| Set::open(1, folder.clone()));
    let made = made.and_then(|mut set| {
        let hash_keys = match from {
            Some(_) => set.basis.load()?.hash_keys,
            None => hash_keys()?,
        };
        if from.is_none() {
            set.basis.begin(hash_keys)?;
        }
        set.control().store(&Control {
            state: 0,
            fallback: 0,
            fallback_at: Control::NEVER,
            unlocked_until: 0,
            hash_keys,
            buffer_nodes: set.buffer_nodes(),
            bucket_mask: set.buckets.all().len() as u32 - 1,
            timeouts: [u32::MAX; 8],
            events: 0,
            keep_flows: 0,
        });
        pins.switch(1)?;
        Ok(set)
    });
    made.inspect_err(|_| {
        let _ = remove_tree(&folder);
    })
}

/// Six random numbers, five of them odd: factors of a hash that nobody else can compute.
fn hash_keys() -> Result<[u64; 6], KernelError> {
    const SOURCE: &str = "/dev/urandom";
    let mut octets = [0; 48];
    File::open(SOURCE)
        .and_then(|mut source| source.read_exact(&mut octets))
        .map_err(|error| KernelError::system("read", SOURCE, error))?;
    let mut keys = [0; 6];
    for (index, (key, octets)) in keys.iter_mut().zip(octets.chunks_exact(8)).enumerate() {
        let octets = octets.try_into().unwrap_or_default();
        *key = u64::from_ne_bytes(octets) | u64::from(index < 5);
    }
    Ok(keys)
}

impl Kernel {
    /// Takes the attachments over that are noted, gives those of them the present programs that an
    /// interrupted replacement has left, and ends those whose interface is gone. What runs without a note
    /// that can be read is taken over all the same.
    fn adopt(&mut self) -> Result<(), KernelError> {
        let (mut unnoted, mut gone) = (BTreeSet::new(), Vec::new());
        for (ifindex, note) in self.pins.notes()? {
            let record = match note {
                Ok(record) => record,
                Err(error) => {
                    tracing::warn!("{error}");
                    unnoted.insert(ifindex);
                    continue;
                }
            };
            let is_alive = |hook| {
                running_pinned(&self.pins, record.ifindex, hook).is_some()
                    || self
                        .set
                        .program(hook)
                        .is_ok_and(|program| is_half_taken(&self.pins, program, record.ifindex, hook))
            };
            if record.hooks.iter().any(|recorded| is_alive(recorded.hook)) {
                self.take_over(record)?;
            } else {
                tracing::info!("the interface {} is gone, or another by now", record.name);
                gone.push(record.ifindex);
                self.records.insert(record.ifindex, record);
            }
        }
        // All at once: as many waits, one after the other, would keep the others from being covered.
        if let Some((_, error)) = self.end_all(&gone).into_iter().next() {
            return Err(error);
        }
        let links = self.pins.links()?.into_iter().map(|(ifindex, ..)| ifindex);
        unnoted.extend(links.filter(|ifindex| !self.records.contains_key(ifindex)));
        unnoted.into_iter().try_for_each(|ifindex| self.take_over_unnoted(ifindex))
    }

    /// Takes over what runs on an interface whose note is gone or cannot be read: to take it off would
    /// leave the interface open until it is attached anew. Where nothing does, what is left of it goes.
    fn take_over_unnoted(&mut self, ifindex: u32) -> Result<(), KernelError> {
        let is_alive = |hook: &HookKind| running_pinned(&self.pins, ifindex, *hook).is_some();
        let hooks: Vec<_> = HookKind::LINKS.into_iter().chain(HookKind::FILTERS).filter(is_alive).collect();
        let bound = slots::find(&self.set.attachments, ifindex)?;
        let found = Interfaces::get(ifindex)
            .map_err(|error| KernelError::system("look at", format!("interface {ifindex}"), error))?;
        let (Some(bound), Some(interface), false) = (bound, found, hooks.is_empty()) else {
            for hook in HookKind::LINKS {
                self.held.release(&self.pins, ifindex, hook)?;
            }
            return self.pins.remove_record(ifindex);
        };
        tracing::warn!("{}: its note was gone, and is written anew", interface.name);
        let why = || "found there, without a note".to_owned();
        let record = Record {
            ifindex,
            name: interface.name,
            zone: bound.zone(),
            side: if bound.is_guest() { Side::Guest } else { Side::Host },
            wanted: HookChoice::Auto,
            bare_ip: bound.is_bare_ip(),
            hooks: hooks.into_iter().map(|hook| RecordedHook { hook, why: why() }).collect(),
            // Somebody else may have use for it.
            owns_qdisc: false,
        };
        self.pins.write_record(&record)?;
        self.take_over(record)
    }

    /// Holds what an attachment has, and puts back what somebody has taken from it.
    fn take_over(&mut self, record: Record) -> Result<(), KernelError> {
        // The note is written first: what it says may not lie in the slot yet.
        if let Err(error) = slots::put(&mut self.set.attachments, slot_of(&record)) {
            tracing::warn!("{}: {error}", record.name);
        }
        for recorded in &record.hooks {
            let program = self.set.program(recorded.hook).map_err(|reason| KernelError::Lacks {
                what: "what the XDP program needs",
                detail: reason.to_owned(),
            })?;
            if let Err(error) = self.held.hold(&self.pins, program, record.ifindex, recorded.hook) {
                // The others go on, and attaching anew tries again.
                tracing::warn!("{}: {error}", record.name);
            }
        }
        let has_xdp = record.hooks.iter().any(|recorded| recorded.hook == HookKind::Xdp);
        if record.wanted == HookChoice::Xdp && !has_xdp {
            self.awaits_xdp.insert(record.ifindex);
        }
        self.records.insert(record.ifindex, record);
        Ok(())
    }
}

/// See [`Kernel::retire_other_versions`].
pub(super) fn retire_other_versions(pins: &Pins, records: &mut BTreeMap<u32, Record>) -> DetachReport {
    let mut report = DetachReport::default();
    let folders = match versions(pins.root()) {
        Ok(folders) => folders,
        Err(error) => {
            report.errors.push(KernelError::system("list", pins.root().display(), error));
            return report;
        }
    };
    for folder in folders.into_iter().filter(|folder| folder != pins.folder()) {
        match Pins::at(pins.root(), folder) {
            Ok(Some(other)) => {
                inherit_qdiscs(pins, &other, records, &mut report);
                // A link is the old version's or ours; a filter is what lies in the one place of both.
                detach::end_version(&other, &mut report, |ifindex, hook| {
                    let ours = records.get(&ifindex).into_iter().flat_map(|record| &record.hooks);
                    !hook.is_link() && ours.into_iter().any(|recorded| recorded.hook == hook)
                });
            }
            Ok(None) => {}
            Err(error) => report.errors.push(error),
        }
    }
    report
}

/// Takes over the qdiscs that another version has added, and that are in use: they go with the last
/// filter.
fn inherit_qdiscs(pins: &Pins, other: &Pins, records: &mut BTreeMap<u32, Record>, report: &mut DetachReport) {
    // What cannot be read is told when the version ends.
    let notes = other.notes().unwrap_or_default().into_iter();
    for old in notes.filter_map(|(_, note)| note.ok()).filter(|old| old.owns_qdisc) {
        let Some(record) = records.get_mut(&old.ifindex) else { continue };
        if record.hooks.iter().any(|recorded| !recorded.hook.is_link()) {
            record.owns_qdisc = true;
            if let Err(error) = pins.write_record(record) {
                report.errors.push(error);
            }
        }
    }
}
