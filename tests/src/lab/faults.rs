//! What others do to an agent's hold on the kernel: pins that go, links that are taken off, programs
//! put in its way. Each fault is one call; that the agent mends it is for the caller to see.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};

use super::{Agent, Cli, Output, Setup, is_kernel};
use crate::syscall::{
    self,
    program::{self, Foreign, Hook},
};

/// Something that somebody does to what the agent has in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The pin of a program is removed.
    ProgramPin,
    /// The pin of a map is removed.
    MapPin,
    /// The pin of a link is removed.
    LinkPin,
    /// The note of an attachment is removed.
    Note,
    /// What leads to the set in force is removed.
    Current,
    /// A map's pin is replaced by that of another map.
    SwappedPin,
    /// Everything that is pinned is removed, with the folders.
    AllPins,
    /// The BPF file system is unmounted.
    Unmounted,
    /// Another file system is mounted over the BPF file system.
    Covered,
    /// The ingress link is detached.
    IngressLink,
    /// The egress link is detached.
    EgressLink,
    /// Both links are detached.
    BothLinks,
    /// The clsact qdisc is deleted, with the filters in it.
    Clsact,
    /// A program that lets everything pass is put before the agent's on TC ingress.
    IngressInFront,
    /// The same on TC egress.
    EgressInFront,
    /// The agent's XDP link is detached, and another program takes the hook.
    TakenXdp,
}

/// What a fault has left behind. A program of somebody else stays attached until this is dropped.
#[derive(Debug, Default)]
pub struct Inflicted {
    foreign: Option<Foreign>,
}

impl Inflicted {
    /// Whether a program of somebody else is part of it.
    #[must_use]
    pub const fn has_foreign(&self) -> bool {
        self.foreign.is_some()
    }

    /// Whether that program is still attached; true where there is none.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn is_there(&self) -> Result<bool> {
        Ok(self.foreign.as_ref().map_or(Ok(true), Foreign::is_attached)?)
    }
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::ProgramPin,
        Self::MapPin,
        Self::LinkPin,
        Self::Note,
        Self::Current,
        Self::SwappedPin,
        Self::AllPins,
        Self::Unmounted,
        Self::Covered,
        Self::IngressLink,
        Self::EgressLink,
        Self::BothLinks,
        Self::Clsact,
        Self::IngressInFront,
        Self::EgressInFront,
        Self::TakenXdp,
    ];

    /// Whether it can be done to an attachment of this setup on the running kernel.
    #[must_use]
    pub fn applies(self, setup: Setup) -> bool {
        let has_tcx = is_kernel([6, 6]);
        let at_xdp = setup == Setup::HostXdp;
        match self {
            Self::ProgramPin
            | Self::MapPin
            | Self::Note
            | Self::Current
            | Self::SwappedPin
            | Self::AllPins
            | Self::Unmounted
            | Self::Covered
            | Self::EgressInFront => true,
            Self::LinkPin | Self::IngressLink => has_tcx || at_xdp,
            Self::EgressLink | Self::BothLinks => has_tcx,
            Self::Clsact => !has_tcx,
            Self::IngressInFront => !at_xdp,
            Self::TakenXdp => at_xdp,
        }
    }

    /// Whether packets pass unjudged until it is mended. Otherwise enforcement never ends.
    #[must_use]
    pub const fn opens(self) -> bool {
        match self {
            Self::ProgramPin
            | Self::MapPin
            | Self::LinkPin
            | Self::Note
            | Self::Current
            | Self::SwappedPin
            | Self::AllPins
            | Self::Unmounted
            | Self::Covered => false,
            Self::IngressLink
            | Self::EgressLink
            | Self::BothLinks
            | Self::Clsact
            | Self::IngressInFront
            | Self::EgressInFront
            | Self::TakenXdp => true,
        }
    }

    /// Does it to what `agent` has attached to `interface`. It is done when this returns.
    ///
    /// # Errors
    /// There is nothing to do it to, or the kernel refuses.
    pub fn inflict(self, agent: &Agent, interface: &str) -> Result<Inflicted> {
        self.inflict_on(agent, interface).with_context(|| format!("inflict {self:?} on {interface}"))
    }

    fn inflict_on(self, agent: &Cli, interface: &str) -> Result<Inflicted> {
        match self {
            Self::ProgramPin => remove_one(agent, "current/programs/sg_tc_egress")?,
            Self::MapPin => remove_one(agent, "current/maps/FLOW_ENTRIES")?,
            Self::LinkPin => remove_in(agent, "links")?,
            Self::Note => remove_in(agent, "notes")?,
            Self::Current => remove_one(agent, "current")?,
            Self::SwappedPin => swap_pin(agent)?,
            Self::AllPins => remove_all_pins(agent)?,
            Self::Unmounted => unmount(agent)?,
            Self::Covered => cover(agent)?,
            Self::IngressLink => detach(agent, interface, &[Hook::Xdp, Hook::TcIngress])?,
            Self::EgressLink => detach(agent, interface, &[Hook::TcEgress])?,
            Self::BothLinks => detach(agent, interface, &[Hook::Xdp, Hook::TcIngress, Hook::TcEgress])?,
            Self::Clsact => delete_clsact(agent, interface)?,
            Self::IngressInFront => return in_front(agent, interface, Hook::TcIngress),
            Self::EgressInFront => return in_front(agent, interface, Hook::TcEgress),
            Self::TakenXdp => return take_xdp(agent, interface),
        }
        Ok(Inflicted::default())
    }
}

/// The folders of every version that pins something.
fn versions(agent: &Cli) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(agent.bpffs()).with_context(|| format!("list {}", agent.bpffs()))?;
    let folders: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    ensure!(!folders.is_empty(), "nothing is pinned below {}", agent.bpffs());
    Ok(folders)
}

/// Removes the pin at this place of every version's folder.
///
/// # Errors
/// There is none.
pub fn remove_one(agent: &Cli, place: &str) -> Result<()> {
    agent.namespace().enter_all(|| {
        for folder in versions(agent)? {
            let path = folder.join(place);
            fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
        }
        Ok(())
    })
}

/// Removes every pin in a folder of every version's.
///
/// # Errors
/// There is none.
pub fn remove_in(agent: &Cli, folder: &str) -> Result<()> {
    agent.namespace().enter_all(|| {
        let mut removed = 0;
        for version in versions(agent)? {
            for entry in fs::read_dir(version.join(folder))? {
                fs::remove_file(entry?.path())?;
                removed += 1;
            }
        }
        ensure!(removed > 0, "{folder} is empty");
        Ok(())
    })
}

/// Puts the pin of one map in the place of another's.
fn swap_pin(agent: &Cli) -> Result<()> {
    agent.namespace().enter_all(|| {
        for folder in versions(agent)? {
            let maps = folder.join("current/maps");
            fs::rename(maps.join("EVENTS"), maps.join("DATAGRAMS"))?;
        }
        Ok(())
    })
}

/// Removes everything that is pinned, and the folders.
///
/// # Errors
/// There is nothing, or it stays.
pub fn remove_all_pins(agent: &Cli) -> Result<()> {
    agent.namespace().enter_all(|| Ok(fs::remove_dir_all(agent.bpffs())?))
}

/// Where the BPF file system of the agent's pins is mounted.
fn mount_point(agent: &Cli) -> Result<&Path> {
    Path::new(agent.bpffs()).parent().context("the pins lie in the root folder")
}

/// Unmounts the BPF file system. Whoever holds something on it goes on holding it.
///
/// # Errors
/// It is not mounted.
pub fn unmount(agent: &Cli) -> Result<()> {
    agent.namespace().enter_all(|| Ok(syscall::unmount(super::text(mount_point(agent)?)?)?))
}

/// Mounts another file system over the BPF file system.
///
/// # Errors
/// The kernel refuses.
pub fn cover(agent: &Cli) -> Result<()> {
    let point = super::text(mount_point(agent)?)?;
    agent.namespace().enter_all(|| Ok(syscall::mount("tmpfs", point, "tmpfs", 0)?))
}

/// Detaches the links that run programs of the agent on these hooks of an interface, by their ids.
///
/// # Errors
/// There is none.
pub fn detach(agent: &Cli, interface: &str, hooks: &[Hook]) -> Result<()> {
    agent.namespace().enter(|| {
        let mut detached = 0;
        for hook in hooks {
            for link in program::links(interface, *hook, "sg_")? {
                program::detach_link(link)?;
                detached += 1;
            }
        }
        ensure!(detached > 0, "no link of the agent's on {hooks:?}");
        Ok(())
    })
}

/// Deletes the clsact qdisc of an interface.
///
/// # Errors
/// There is none.
pub fn delete_clsact(agent: &Cli, interface: &str) -> Result<()> {
    let mut command = agent.namespace().command("tc");
    command.args(["qdisc", "del", "dev", interface, "clsact"]);
    Output::of(command, "tc qdisc del")?.expect_status(0).map(drop)
}

/// `TC_ACT_OK`: the packet passes, and no other program is asked.
const TC_PASS: i32 = 0;
const XDP_PASS: i32 = 2;

/// Puts a program before all others on a TC hook, which lets everything pass for good.
///
/// # Errors
/// The kernel refuses.
pub fn in_front(agent: &Cli, interface: &str, hook: Hook) -> Result<Inflicted> {
    let foreign =
        agent.namespace().enter(|| Ok(Foreign::attach_first(interface, hook, "stranger", TC_PASS)?))?;
    Ok(Inflicted { foreign: Some(foreign) })
}

/// Detaches the agent's XDP link and puts another program there, which lets everything pass.
///
/// # Errors
/// There is no such link, or the agent was back faster.
pub fn take_xdp(agent: &Cli, interface: &str) -> Result<Inflicted> {
    detach(agent, interface, &[Hook::Xdp])?;
    let foreign =
        agent.namespace().enter(|| Ok(Foreign::attach(interface, Hook::Xdp, "stranger", XDP_PASS)?))?;
    Ok(Inflicted { foreign: Some(foreign) })
}
