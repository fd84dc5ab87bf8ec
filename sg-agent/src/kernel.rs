//! Everything that touches BPF, its file system, and netlink. It sees images, never policies.
//!
//! [`Kernel`] is the daemon's handle: it loads the programs or adopts those that are pinned,
//! publishes images, attaches interfaces. [`Reader`] reads what is enforced, with or without a
//! daemon. [`detach_all`] and [`detach_interface`] end enforcement, and [`fn@unlock`] opens a port past it,
//! with or without one.
//! [`links`] tells of interfaces and their addresses.
//!
//! What the parts have to keep true between them:
//! * nothing is attached before a first image is published, and an interface has its slot in the
//!   attachments map before a program is attached to it and until after it is detached;
//! * the buffer that is not in force is written only after a grace period since it was, and while no way
//!   back leads to it;
//! * what is pinned is enough to go on from at any moment, whenever the process dies.

mod adopt;
mod attach;
mod attachment;
mod audited;
mod basis;
mod clock;
mod clsact;
mod counters;
mod detach;
mod error;
mod events;
mod fallback;
mod flows;
mod grace;
mod holdings;
mod hooks;
pub mod links;
mod load;
mod memory;
mod netlink;
mod pins;
mod preemption;
mod presence;
mod publish;
mod reader;
mod repair;
mod replace;
mod set;
mod settings;
mod sightings;
mod slots;
mod sockets;
mod stand_in;
mod syscall;
mod unlock;
mod xdp;
mod zones;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use sg_common::abi::Control;

pub(crate) use self::syscall::{give_back_memory, readiness};
use self::{
    attachment::Record, grace::Grace, holdings::Holdings, hooks::Held, pins::Pins, presence::Presence,
    set::Set, zones::CleanZones,
};
pub use self::{
    attachment::{AttachRequest, Attached, HookChoice, HookKind, HookState, Side},
    counters::ZoneCounters,
    error::KernelError,
    events::DropEvents,
    flows::FlowView,
    load::object,
    reader::{Capacities, Reader},
    repair::{Look, Repair},
    settings::{Paths, Settings, Sizes},
    sockets::{Socket, sockets},
    unlock::Unlocked,
};
use crate::image::Image;

/// One more than the highest zone: a zone has 24 bits.
const NO_ZONE: u32 = 1 << 24;

/// How [`Kernel::open`] came by what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// Nothing was pinned: programs and maps are new, and nothing is enforced yet.
    Loaded,
    /// Another ABI version enforces, and its flows are laid out as this one's: programs are new, and go
    /// on with them.
    Inherited,
    /// The pinned programs are this build's: they go on, with their flows.
    Adopted,
    /// The pinned programs were another build's: this build's took their places, with their maps.
    Upgraded,
}

/// What [`Kernel::publish`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// The generation now in force.
    pub generation: u64,
    /// Microseconds from the beginning to the flip, read-back and verification included.
    pub micros: u64,
    /// Whether maps had to grow for it.
    pub has_grown: bool,
}

/// A way back that was planned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fallback {
    /// The generation that it leads to.
    pub generation: u64,
    /// How long until it is taken; zero: it has been.
    pub left: Duration,
}

/// A flow to be entered before enforcement starts, from an open socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed {
    /// The zone of the interface that the socket's packets take.
    pub zone: u32,
    /// The socket.
    pub socket: Socket,
}

/// What a detach ended.
#[derive(Debug, Default)]
pub struct DetachReport {
    /// Names of the interfaces that are no longer enforced.
    pub interfaces: Vec<String>,
    /// What failed; everything else was done all the same.
    pub errors: Vec<KernelError>,
}

/// The daemon's handle. At most one process holds it for a pin folder; the caller sees to that.
pub struct Kernel {
    paths: Paths,
    settings: Settings,
    pins: Pins,
    set: Set,
    holdings: Holdings,
    held: Held,
    records: BTreeMap<u32, Record>,
    presence: Presence,
    /// Interfaces whose XDP hook was asked for while another program had it.
    awaits_xdp: BTreeSet<u32>,
    clean: CleanZones,
    /// Programs that may still read the buffer that is not in force.
    readers: Grace,
}

impl Kernel {
    /// Adopts what is pinned under [`Paths::bpffs`] by this ABI, or loads and pins anew.
    ///
    /// # Errors
    ///
    /// Nothing that was enforced before stops being enforced.
    pub fn open(paths: &Paths, sizes: &Sizes, settings: &Settings) -> Result<(Self, Opened), KernelError> {
        adopt::open(paths, sizes, settings)
    }

    /// The generation in force; 0 while nothing has been published.
    #[must_use]
    pub fn generation(&self) -> u64 {
        Control::generation(self.set.state())
    }

    /// Flows that fit, as the table was made.
    #[must_use]
    pub fn flow_capacity(&self) -> u32 {
        self.set.flow_capacity()
    }

    /// Changes timeouts and what becomes of flows when the policy changes.
    pub fn tune(&mut self, settings: &Settings) {
        self.settings = *settings;
        let timeouts = settings.timeouts_seconds.map(|seconds| clock::ticks(seconds, self.set.rate));
        self.set.control().tune(&timeouts, settings.keep_flows);
    }

    /// Puts `image` in force as `generation`, on all interfaces between two packets, having read it
    /// back and verified it. `rules` is the number of rule numbers in use: the highest plus one.
    /// Maps that are too small are replaced by larger ones, without a gap.
    ///
    /// # Errors
    ///
    /// The image that was in force still is.
    pub fn publish(&mut self, image: &Image, generation: u64, rules: u32) -> Result<Published, KernelError> {
        self.publish_image(image, generation, rules)
    }

    /// Plans the way back to what is in force now: from then on the programs go by it again, whether
    /// or not a process of this agent lives, unless [`Self::stay`] calls that off. The next image
    /// that is published comes into force until then; another one after it would take the place of
    /// the way back, which then is no more.
    ///
    /// # Errors
    ///
    /// When nothing is in force, or the clock cannot be read.
    pub fn fall_back_after(&mut self, after: Duration) -> Result<(), KernelError> {
        self.plan_fallback(after)
    }

    /// Plans the way back to `image` as `generation`, beside what is in force. Otherwise like
    /// [`Self::fall_back_after`] and [`Self::publish`].
    ///
    /// # Errors
    ///
    /// What is in force still is, and there is no way back.
    pub fn fall_back_to(
        &mut self,
        image: &Image,
        generation: u64,
        rules: u32,
        after: Duration,
    ) -> Result<(), KernelError> {
        self.plan_fallback_to(image, generation, rules, after)
    }

    /// The way back, if one is planned or was taken and not yet [settled](Self::stay).
    #[must_use]
    pub fn fallback(&self) -> Option<Fallback> {
        self.planned_fallback()
    }

    /// Has the wait for programs that may still read what is not in force any more begin beside, so
    /// that the next image need not wait for it.
    pub fn rest(&mut self) {
        self.readers.begin();
    }

    /// Calls the way back off. False: it was taken before, and what it led to stays in force.
    pub fn stay(&mut self) -> bool {
        self.call_fallback_off()
    }

    /// Takes the way back now, if one is planned.
    pub fn go_back(&mut self) {
        self.take_fallback();
    }

    /// The image in force, read from the kernel and verified.
    ///
    /// # Errors
    ///
    /// When nothing is published, or the image is not whole.
    pub fn current_image(&self) -> Result<Image, KernelError> {
        self.set.current_image()
    }

    /// Enforces on an interface, or changes how. Asked again for what is in force, it mends what is
    /// missing of it.
    ///
    /// # Errors
    ///
    /// An interface that was not attached is not attached; one that was is enforced as before, and one that
    /// another version enforced by the programs of either.
    pub fn attach(&mut self, request: &AttachRequest) -> Result<Attached, KernelError> {
        self.attach_interface(request)
    }

    /// Puts this agent's programs before those that others have put in front since, without a gap:
    /// one that lets a packet pass for good keeps it from being judged
    /// ([`HookState::programs_before`]). Tells whether there was anything to do.
    ///
    /// # Errors
    ///
    /// Everything is enforced as before.
    pub fn put_first(&mut self) -> Result<bool, KernelError> {
        self.put_programs_first()
    }

    /// Tells what [`Self::attach`] would be refused for, as far as that can be seen without trying:
    /// the interface is gone, or insists on an XDP hook that another program holds. Changes nothing.
    ///
    /// # Errors
    ///
    /// What `attach` would say.
    pub fn check(&self, request: &AttachRequest) -> Result<(), KernelError> {
        self.check_request(request)
    }

    /// Ends enforcement on an interface, which may be gone already, and forgets its flows and counts.
    /// None attached: nothing to do.
    ///
    /// # Errors
    ///
    /// The first of those met; what could be ended has been.
    pub fn detach(&mut self, ifindex: u32) -> Result<(), KernelError> {
        self.end(ifindex)
    }

    /// Like [`Self::detach`] for several interfaces, in about the time that one takes. Returns what
    /// failed, and for which.
    pub fn detach_each(&mut self, interfaces: &[u32]) -> Vec<(u32, KernelError)> {
        self.end_all(interfaces)
    }

    /// Every attachment, those adopted included, as it is now. Programs of others are told only where
    /// they run before this agent's.
    #[must_use]
    pub fn attached(&self) -> Vec<Attached> {
        self.notice_departures();
        self.records.values().map(|record| self.inspect(record)).collect()
    }

    /// Every attachment as it was left: whether its programs are still there is for [`Self::look`].
    /// Which interfaces have gone is told all the same.
    #[must_use]
    pub fn recorded(&self) -> Vec<Attached> {
        self.notice_departures();
        let of = |record: &Record| Attached {
            is_gone: self.presence.has_left(record.ifindex),
            ..hooks::recorded(record)
        };
        self.records.values().map(of).collect()
    }

    fn inspect(&self, record: &Record) -> Attached {
        let ifindex = record.ifindex;
        let running = |ifindex, hook| self.held.running(ifindex, hook);
        let is_free =
            || matches!(links::Interfaces::get(ifindex), Ok(Some(found)) if found.xdp_program.is_none());
        Attached {
            is_gone: self.presence.has_left(ifindex),
            is_xdp_free: self.awaits_xdp.contains(&ifindex) && is_free(),
            ..hooks::inspect(record, &self.set, hooks::Depth::Whole, running)
        }
    }

    /// Looks whether programs, links, pins and the file system that they are on are as they were left,
    /// and mends what is not. Enforcement goes on from what is held, whatever became of pins.
    pub fn look(&mut self) -> Look {
        self.look_and_mend()
    }

    /// Like [`Self::look`], for pins alone.
    pub fn keep_pins(&mut self) -> Look {
        let mut look = Look::default();
        if !self.pins.is_whole() {
            self.restore_pins(&mut look);
        }
        look
    }

    /// Ends what other ABI versions enforce, once everything that should be is attached by this one.
    /// Attaching takes over their links one by one; what they still hold is theirs alone.
    #[must_use]
    pub fn retire_other_versions(&mut self) -> DetachReport {
        adopt::retire_other_versions(&self.pins, &mut self.records)
    }

    /// Zeroes a zone's counters, forgets its flows and what audit mode has seen there, and ends what is unlocked on it
    /// alone, before its number is used for another
    /// interface. Nothing is attached to the zone.
    ///
    /// # Errors
    ///
    /// Some counters may be left as they were.
    pub fn clear_zone(&mut self, zone: u32) -> Result<(), KernelError> {
        self.clear_zones(&[zone])
    }

    /// Like [`Self::clear_zone`] for several, but for those that are known to be clean.
    fn clear_zones(&mut self, zones: &[u32]) -> Result<(), KernelError> {
        let zones: BTreeSet<u32> = zones.iter().copied().filter(|zone| !self.clean.has(*zone)).collect();
        if !zones.is_empty() {
            self.set.flows(&self.set.entries()?).forget_zones(&zones);
        }
        for zone in zones {
            self.set.end_unlocks_of(zone);
            self.set.forget_audited(zone)?;
            self.set.clear_zone_counters(zone)?;
            self.clean.set(zone, true);
        }
        Ok(())
    }

    /// Zeroes the counters of rule numbers before they are used for other rules.
    ///
    /// # Errors
    ///
    /// Some counters may be left as they were.
    pub fn clear_rules(&mut self, numbers: &[u32]) -> Result<(), KernelError> {
        numbers.iter().try_for_each(|number| self.set.clear_rule_counter(*number))
    }

    /// Enters open sockets as flows, before their interface is attached. Returns how many went in:
    /// those that are there already, and those that find no room, do not.
    ///
    /// # Errors
    ///
    /// When the clock cannot be read.
    pub fn seed_flows(&mut self, seeds: &[Seed]) -> Result<usize, KernelError> {
        let now = clock::tick(&self.set.clock, self.set.rate)?;
        seeds.iter().for_each(|seed| self.clean.set(seed.zone, false));
        if seeds.is_empty() {
            return Ok(0);
        }
        let entries = self.set.entries()?;
        let flows = self.set.flows(&entries);
        Ok(seeds.iter().filter(|seed| flows.seed(seed.zone, &seed.socket, now)).count())
    }

    /// Reads what this holds. A later growth of the maps leaves the reader with the old ones: ask
    /// anew for each round.
    ///
    /// # Errors
    ///
    /// When the pins cannot be read.
    pub fn reader(&self) -> Result<Reader, KernelError> {
        let missing =
            || KernelError::system("open", self.paths.bpffs.display(), std::io::ErrorKind::NotFound.into());
        // Not by the path, which may lead elsewhere.
        let pins = Pins::at(self.pins.root(), self.pins.folder().to_owned())?.ok_or_else(missing)?;
        Reader::of(pins)?.ok_or_else(missing)
    }
}

/// Lets this process hold as many descriptors as it may: an attachment takes two.
///
/// # Errors
///
/// The kernel refuses; nothing has changed.
pub fn raise_descriptor_limit() -> std::io::Result<()> {
    syscall::raise_descriptor_limit()
}

/// How long the calling thread has used a processor.
#[must_use]
pub fn thread_time() -> Duration {
    syscall::thread_time()
}

/// The clock that drop events are dated by, in nanoseconds: `CLOCK_MONOTONIC`.
#[must_use]
pub fn monotonic_nanos() -> u64 {
    syscall::monotonic().as_nanos() as u64
}

/// Opens a port to one address past the policy, until the time has passed: the programs end it
/// themselves. Asked again for the same, it counts from now on. False: this version enforces nothing
/// here. Works with or without a daemon, a state folder, and a policy that can be read.
///
/// # Errors
///
/// When nothing more can be unlocked, the interface is not enforced, or the pins cannot be read.
pub fn unlock(paths: &Paths, wanted: &Unlocked) -> Result<bool, KernelError> {
    unlock::unlock(paths, wanted)
}

/// Ends everything that is unlocked, and tells how many ports that were.
///
/// # Errors
///
/// When the pins cannot be read.
pub fn end_unlocks(paths: &Paths) -> Result<usize, KernelError> {
    unlock::end(paths)
}

/// Ends all enforcement under a pin folder, of every ABI version, and removes what is pinned. Works
/// with or without a daemon.
///
/// # Errors
///
/// When the folder cannot be read; what fails after that is in the report.
pub fn detach_all(paths: &Paths) -> Result<DetachReport, KernelError> {
    detach::all(paths)
}

/// Ends enforcement on one interface, by the name it has now or, if it is gone, had when it was
/// attached.
///
/// # Errors
///
/// When the folder cannot be read; what fails after that is in the report.
pub fn detach_interface(paths: &Paths, name: &str) -> Result<DetachReport, KernelError> {
    detach::interface(paths, name)
}
