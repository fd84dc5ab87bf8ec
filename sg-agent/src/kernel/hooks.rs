//! One program on one hook of one interface: put there, looked at, taken away.

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsFd as _, OwnedFd},
    time::Duration,
};

use super::{
    KernelError,
    attachment::{Attached, HookKind, HookState, Record},
    clsact, holdings,
    links::Interfaces,
    pins,
    pins::{Pins, unlink},
    set::{Loaded, Set},
    sightings::Sightings,
    stand_in::StandIn,
    syscall,
};

/// The links that the daemon holds: a removed pin does not end them.
#[derive(Default)]
pub(crate) struct Held {
    links: BTreeMap<(u32, HookKind), Link>,
    pins: Sightings,
}

/// A link, and its id, by which a hook tells of it.
struct Link {
    fd: OwnedFd,
    id: Option<u32>,
}

impl From<OwnedFd> for Link {
    fn from(fd: OwnedFd) -> Self {
        let id = syscall::object_id(fd.as_fd()).ok();
        Self { fd, id }
    }
}

/// The program that a live link runs on this interface.
fn program_of(link: &OwnedFd, ifindex: u32) -> Option<u32> {
    let info = syscall::link_info(link.as_fd()).ok()?;
    (info.ifindex == ifindex && ifindex != 0).then_some(info.program)
}

/// The program that a live link runs on this interface of this network namespace. One that has moved away
/// takes its link along, and may have left its index to another.
fn program_here(link: &OwnedFd, ifindex: u32, hook: HookKind) -> Option<u32> {
    program_of(link, ifindex).filter(|program| is_on(ifindex, hook, *program))
}

/// Whether a hook that takes links runs a program. What the kernel does not tell is taken to be so: a
/// link that is let go in error leaves a gap.
fn is_on(ifindex: u32, hook: HookKind, program: u32) -> bool {
    let found = match attach_type(hook) {
        Some(attach_type) => syscall::tcx_programs(ifindex, attach_type),
        None => Interfaces::get(ifindex)
            .map(|found| found.and_then(|found| found.xdp_program).into_iter().collect()),
    };
    match found {
        Ok(programs) => programs.contains(&program),
        Err(error) => error.raw_os_error() != Some(libc::ENODEV),
    }
}

fn attach_type(hook: HookKind) -> Option<u32> {
    match hook {
        HookKind::TcxIngress => Some(syscall::TCX_INGRESS),
        HookKind::TcxEgress => Some(syscall::TCX_EGRESS),
        HookKind::Xdp | HookKind::ClsactIngress | HookKind::ClsactEgress => None,
    }
}

fn object(ifindex: u32, hook: HookKind) -> String {
    format!("{hook} of interface {ifindex}")
}

impl Held {
    /// Sees to it that `program` sits on a hook. A link that is there, held or pinned, by this ABI
    /// version or another, is given the program; else a new one is made, and pinned.
    pub(crate) fn hold(
        &mut self,
        pins: &Pins,
        program: &Loaded,
        ifindex: u32,
        hook: HookKind,
    ) -> Result<(), KernelError> {
        let failed = |error| KernelError::system("attach to", object(ifindex, hook), error);
        if !hook.is_link() {
            return clsact::put(ifindex, hook.is_ingress(), program.fd.as_fd(), program.name).map_err(failed);
        }
        let path = pins.link(ifindex, hook);
        if let Some(link) = self.links.remove(&(ifindex, hook))
            && let Some(running) = program_here(&link.fd, ifindex, hook)
        {
            update(&link.fd, running, program).map_err(failed)?;
            if !path.exists() {
                syscall::pin(link.fd.as_fd(), &path).map_err(failed)?;
            }
            self.links.insert((ifindex, hook), link);
            return Ok(());
        }
        let foreign = pins::foreign_links(pins, ifindex, hook).map_err(failed)?;
        for candidate in std::iter::once(&path).chain(&foreign) {
            let Ok(link) = syscall::open_pin(candidate) else { continue };
            if let Some(running) = program_here(&link, ifindex, hook) {
                update(&link, running, program).map_err(failed)?;
                if candidate != &path {
                    std::fs::rename(candidate, &path).map_err(failed)?;
                }
                self.links.insert((ifindex, hook), link.into());
                return Ok(());
            }
        }
        unlink(&path)?;
        let link = link(program, ifindex, hook).map_err(failed)?;
        syscall::pin(link.as_fd(), &path).map_err(failed)?;
        self.links.insert((ifindex, hook), link.into());
        Ok(())
    }

    /// Gives a hook that is alive another program. One that died with its interface stays dead.
    pub(crate) fn refresh(&self, program: &Loaded, ifindex: u32, hook: HookKind) -> Result<(), KernelError> {
        let Some(running) = self.running(ifindex, hook) else { return Ok(()) };
        let result = match self.links.get(&(ifindex, hook)) {
            Some(link) => update(&link.fd, running, program),
            None => clsact::put(ifindex, hook.is_ingress(), program.fd.as_fd(), program.name),
        };
        match result {
            // The interface went away at this moment.
            Err(_) if self.running(ifindex, hook).is_none() => Ok(()),
            result => result.map_err(|error| KernelError::system("update", object(ifindex, hook), error)),
        }
    }

    /// Whether a TC hook of this network namespace has our program on it.
    pub(crate) fn is_there(&self, ifindex: u32, hook: HookKind) -> bool {
        let running = self.running(ifindex, hook);
        running.is_some() && programs(ifindex, hook, Depth::Whole).iter().any(|(id, _)| *id == running)
    }

    /// Whether somebody else's program runs before ours on a TC hook: one that lets a packet pass
    /// for good keeps ours from judging it.
    pub(crate) fn is_behind(&self, ifindex: u32, hook: HookKind) -> bool {
        if !hook.is_link() {
            return clsact::is_behind(ifindex, hook.is_ingress()).unwrap_or(false);
        }
        let (Some(attach_type), Some(ours)) = (attach_type(hook), self.running(ifindex, hook)) else {
            return false;
        };
        let programs = syscall::tcx_programs(ifindex, attach_type).unwrap_or_default();
        programs.first().is_some_and(|first| *first != ours)
    }

    /// Puts a program at the head of a TC hook, and only then takes ours off its place.
    pub(crate) fn lead(
        &mut self,
        pins: &Pins,
        program: &Loaded,
        ifindex: u32,
        hook: HookKind,
    ) -> Result<(), KernelError> {
        let failed = |error| KernelError::system("attach to", object(ifindex, hook), error);
        if !hook.is_link() {
            let (program, name) = (program.fd.as_fd(), program.name);
            return clsact::lead(ifindex, hook.is_ingress(), program, name).map_err(failed);
        }
        let (path, beside) = (pins.link(ifindex, hook), pins.link_beside(ifindex, hook));
        // A TCX hook has no program twice.
        let stand_in =
            match programs(ifindex, hook, Depth::Whole).iter().any(|(id, _)| *id == Some(program.id)) {
                true => Some(StandIn::of(program).map_err(failed)?),
                false => None,
            };
        let first = stand_in.as_ref().map_or(program, |stand_in| &stand_in.program);
        let new = link(first, ifindex, hook).map_err(failed)?;
        // One of them is pinned at every moment.
        unlink(&beside)?;
        syscall::pin(new.as_fd(), &beside).and_then(|()| std::fs::rename(&beside, &path)).map_err(failed)?;
        if let Some(old) = self.links.remove(&(ifindex, hook)) {
            syscall::link_detach(old.fd.as_fd()).map_err(failed)?;
        }
        if stand_in.is_some() {
            syscall::link_update(new.as_fd(), program.fd.as_fd()).map_err(failed)?;
        }
        self.links.insert((ifindex, hook), new.into());
        Ok(())
    }

    /// Pins links again whose pins are gone, or another's. Tells whose those were.
    pub(crate) fn restore_pins(&mut self, pins: &Pins) -> (Vec<u32>, Vec<KernelError>) {
        let Self { links, pins: seen } = self;
        let wanted = links
            .iter()
            .map(|(&(ifindex, hook), link)| ((ifindex, hook, link), pins::link_name(ifindex, hook)));
        let (restored, errors) = seen.look(&pins.links_folder(), wanted, |(ifindex, hook, link)| {
            holdings::restore(&pins.link(*ifindex, *hook), &link.fd)
        });
        let mut restored: Vec<u32> = restored.into_iter().map(|(ifindex, ..)| ifindex).collect();
        restored.dedup();
        (restored, errors)
    }

    /// Whether a hook is known to be as it should be: `program` is on it, and before all others. Asks the
    /// kernel one thing. False: it has to be looked at.
    pub(crate) fn is_sound(&self, program: &Loaded, ifindex: u32, hook: HookKind) -> bool {
        if let Some(attach_type) = attach_type(hook) {
            let first = syscall::tcx_first(ifindex, attach_type).ok().flatten();
            let link = self.links.get(&(ifindex, hook)).and_then(|link| link.id);
            return first.is_some_and(|(of, by)| of == program.id && Some(by) == link);
        }
        if hook.is_link() {
            return self.running(ifindex, hook) == Some(program.id);
        }
        let attach_type = if hook.is_ingress() { syscall::TCX_INGRESS } else { syscall::TCX_EGRESS };
        // Whatever is linked runs before every filter.
        let is_first = !matches!(syscall::tcx_first(ifindex, attach_type), Ok(Some(_)));
        let filters = clsact::filters(ifindex, hook.is_ingress()).unwrap_or_default();
        let is_ours = |first: &clsact::Filter| first.is_ours() && first.program == Some(program.id);
        is_first && filters.first().is_some_and(is_ours)
    }

    /// Takes the program off a hook, for everybody who holds it. Not there: nothing to do.
    pub(crate) fn release(&mut self, pins: &Pins, ifindex: u32, hook: HookKind) -> Result<(), KernelError> {
        let held = self.links.remove(&(ifindex, hook)).map(|link| link.fd);
        release(pins, held, ifindex, hook)
    }

    /// The program that a hook runs, if it is ours and alive.
    pub(crate) fn running(&self, ifindex: u32, hook: HookKind) -> Option<u32> {
        if hook.is_link() {
            self.links.get(&(ifindex, hook)).and_then(|link| program_of(&link.fd, ifindex))
        } else {
            running_filter(ifindex, hook)
        }
    }
}

/// Makes a link. One that nobody holds any more is still in the way for as long as the kernel takes
/// to free it.
fn link(program: &Loaded, ifindex: u32, hook: HookKind) -> io::Result<OwnedFd> {
    const ATTEMPTS: u32 = 5;
    const PAUSE: Duration = Duration::from_millis(10);
    let mut attempt = 0;
    loop {
        let link = match attach_type(hook) {
            Some(attach_type) => syscall::link_tcx(program.fd.as_fd(), ifindex, attach_type),
            None => syscall::link_xdp(program.fd.as_fd(), ifindex),
        };
        match link {
            Err(error)
                if attempt < ATTEMPTS && matches!(error.raw_os_error(), Some(libc::EEXIST | libc::EBUSY)) =>
            {
                attempt += 1;
                std::thread::sleep(PAUSE);
            }
            result => return result,
        }
    }
}

fn update(link: &OwnedFd, running: u32, program: &Loaded) -> io::Result<()> {
    if running == program.id { Ok(()) } else { syscall::link_update(link.as_fd(), program.fd.as_fd()) }
}

fn running_filter(ifindex: u32, hook: HookKind) -> Option<u32> {
    let filters = clsact::filters(ifindex, hook.is_ingress()).ok()?;
    filters.into_iter().find(clsact::Filter::is_ours)?.program
}

/// The program that a hook runs, as a pin tells it.
pub(crate) fn running_pinned(pins: &Pins, ifindex: u32, hook: HookKind) -> Option<u32> {
    if hook.is_link() {
        program_here(&syscall::open_pin(&pins.link(ifindex, hook)).ok()?, ifindex, hook)
    } else {
        running_filter(ifindex, hook)
    }
}

/// Whether a link that another version has pinned runs this program: the agent died when it had taken the
/// link over, and before its pin was moved.
pub(crate) fn is_half_taken(pins: &Pins, program: &Loaded, ifindex: u32, hook: HookKind) -> bool {
    let foreign = pins::foreign_links(pins, ifindex, hook).unwrap_or_default();
    let links = foreign.iter().filter_map(|path| syscall::open_pin(path).ok());
    hook.is_link() && links.into_iter().any(|link| program_here(&link, ifindex, hook) == Some(program.id))
}

/// Takes the program off a hook. `held` is its link, if the caller has it.
pub(crate) fn release(
    pins: &Pins,
    held: Option<OwnedFd>,
    ifindex: u32,
    hook: HookKind,
) -> Result<(), KernelError> {
    let failed = |error| KernelError::system("detach from", object(ifindex, hook), error);
    if !hook.is_link() {
        return clsact::remove(ifindex, hook.is_ingress()).map_err(failed);
    }
    let path = pins.link(ifindex, hook);
    let link = held.map_or_else(|| syscall::open_pin(&path), Ok);
    let detached = match link {
        Ok(link) => syscall::link_detach(link.as_fd()).map_err(failed),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(error)),
    };
    // A link without its pin lives for as long as somebody holds it: better one than none.
    unlink(&path).and(detached)
}

/// How much is told of a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Whether it is as it should be.
    Whole,
    /// Also every program of others, and its name.
    Others,
}

/// An attachment as it is now. `running` tells the program on a hook.
pub(crate) fn inspect(
    record: &Record,
    set: &Set,
    depth: Depth,
    running: impl Fn(u32, HookKind) -> Option<u32>,
) -> Attached {
    let hooks = record.hooks.iter().map(|recorded| {
        let hook = recorded.hook;
        let ours = set.program(hook).ok().map(|program| program.id);
        let running = running(record.ifindex, hook).filter(|id| Some(*id) == ours);
        let there = programs(record.ifindex, hook, depth);
        // A link may be alive on an interface that has moved away and left its index to another.
        let is_there = hook == HookKind::Xdp || there.iter().any(|(id, _)| id.is_some() && *id == running);
        let is_alive = running.is_some() && is_there;
        let (programs_before, other_programs) = others(there, running.filter(|_| is_alive), depth);
        HookState {
            direction: hook.direction(record.side),
            hook,
            mode: hook.mode(),
            why: recorded.why.clone(),
            is_alive,
            programs_before,
            other_programs,
        }
    });
    assembled(record, hooks.collect())
}

/// An attachment as it was left.
pub(crate) fn recorded(record: &Record) -> Attached {
    let hooks = record.hooks.iter().map(|recorded| HookState {
        direction: recorded.hook.direction(record.side),
        hook: recorded.hook,
        mode: recorded.hook.mode(),
        why: recorded.why.clone(),
        is_alive: true,
        programs_before: Vec::new(),
        other_programs: Vec::new(),
    });
    assembled(record, hooks.collect())
}

/// An attachment of hooks in the state that they are in.
fn assembled(record: &Record, mut hooks: Vec<HookState>) -> Attached {
    hooks.sort_by_key(|state| !state.hook.is_ingress());
    Attached {
        ifindex: record.ifindex,
        name: record.name.clone(),
        zone: record.zone,
        side: record.side,
        wanted: record.wanted,
        bare_ip: record.bare_ip,
        is_gone: hooks.iter().all(|state| !state.is_alive),
        is_xdp_free: false,
        hooks,
    }
}

/// A program on a hook by its id, or a filter that is none, and the name of a filter.
type Found = (Option<u32>, Option<String>);

/// What is on a TC hook, in the order in which it runs. What runs after a TCX link of ours is left out
/// unless others are asked for.
fn programs(ifindex: u32, hook: HookKind, depth: Depth) -> Vec<Found> {
    if hook == HookKind::Xdp {
        return Vec::new();
    }
    let attach_type = if hook.is_ingress() { syscall::TCX_INGRESS } else { syscall::TCX_EGRESS };
    // Kernels without TCX have nobody there.
    let linked = syscall::tcx_programs(ifindex, attach_type).unwrap_or_default();
    let mut found: Vec<Found> = linked.into_iter().map(|id| (Some(id), None)).collect();
    if depth == Depth::Others || !hook.is_link() {
        let filters = clsact::filters(ifindex, hook.is_ingress()).unwrap_or_default();
        found.extend(filters.into_iter().map(|filter| (filter.program, Some(filter.name))));
    }
    found
}

/// The names of programs of others: those that run before ours, and all of them as far as asked for.
fn others(there: Vec<Found>, ours: Option<u32>, depth: Depth) -> (Vec<String>, Vec<String>) {
    let (mut before, mut all, mut is_before) = (Vec::new(), Vec::new(), ours.is_some());
    for (id, filter) in there {
        if id.is_some() && id == ours {
            is_before = false;
            continue;
        }
        if !is_before && depth == Depth::Whole {
            continue;
        }
        let name = match (id, filter) {
            (Some(id), None) => program_name(id),
            (Some(id), Some(name)) => format!("{name} (id {id})"),
            (None, name) => name.unwrap_or_default(),
        };
        if is_before {
            before.push(name.clone());
        }
        all.push(name);
    }
    (before, all)
}

/// Name and id of a loaded program, for people.
pub(crate) fn program_name(id: u32) -> String {
    let name = syscall::program_by_id(id).and_then(|program| syscall::program_info(program.as_fd()));
    match name {
        Ok((_, name)) if !name.is_empty() => format!("{name} (id {id})"),
        _ => format!("id {id}"),
    }
}
