//! An attachment as the agent asks for it, as it is in force, and as it is remembered on the BPF
//! file system. Making one is [`super::attach`]'s business.

use std::fmt;

use serde::{Deserialize, Serialize};
use sg_common::tuple::Direction;

/// Which side of an interface is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// This machine: inbound is what it receives.
    Host,
    /// A guest behind the interface: inbound is what this machine sends out of it.
    Guest,
}

/// The ingress hook that is wanted. Egress is always TC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HookChoice {
    /// Native XDP where the driver runs it at no cost to the stack, else TC.
    #[default]
    Auto,
    /// Native XDP; where it is not to be had, TC for as long.
    Xdp,
    /// TC.
    Tc,
}

/// An interface to be bound to a zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachRequest {
    /// The kernel's interface index.
    pub ifindex: u32,
    /// The interface's present name.
    pub name: String,
    /// The zone, at most 24 bits, that the published image has a record for.
    pub zone: u32,
    /// Which side is protected.
    pub side: Side,
    /// The ingress hook that is wanted.
    pub hook: HookChoice,
    /// The interface carries bare IP, without an Ethernet header.
    pub bare_ip: bool,
}

/// Where a program sits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HookKind {
    /// XDP, in the driver.
    Xdp,
    /// A TCX link on ingress.
    TcxIngress,
    /// A TCX link on egress.
    TcxEgress,
    /// A filter of the clsact qdisc on ingress.
    ClsactIngress,
    /// A filter of the clsact qdisc on egress.
    ClsactEgress,
}

impl HookKind {
    /// The hooks that a link holds.
    pub(crate) const LINKS: [Self; 3] = [Self::Xdp, Self::TcxIngress, Self::TcxEgress];
    /// The hooks that a filter holds.
    pub(crate) const FILTERS: [Self; 2] = [Self::ClsactIngress, Self::ClsactEgress];

    /// The stable name, which is also part of a link's pin.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Xdp => "xdp",
            Self::TcxIngress => "tcx_ingress",
            Self::TcxEgress => "tcx_egress",
            Self::ClsactIngress => "clsact_ingress",
            Self::ClsactEgress => "clsact_egress",
        }
    }

    /// How the program is held there.
    #[must_use]
    pub const fn mode(self) -> &'static str {
        match self {
            Self::Xdp => "native",
            Self::TcxIngress | Self::TcxEgress => "tcx",
            Self::ClsactIngress | Self::ClsactEgress => "clsact",
        }
    }

    /// Whether the hook sees what the kernel receives, rather than what it sends.
    #[must_use]
    pub const fn is_ingress(self) -> bool {
        matches!(self, Self::Xdp | Self::TcxIngress | Self::ClsactIngress)
    }

    /// Whether a link holds the program: it is pinned, and outlives rename and namespace moves.
    #[must_use]
    pub const fn is_link(self) -> bool {
        matches!(self, Self::Xdp | Self::TcxIngress | Self::TcxEgress)
    }

    /// The direction that the hook sees, told from the protected side.
    #[must_use]
    pub const fn direction(self, side: Side) -> Direction {
        match (side, self.is_ingress()) {
            (Side::Host, true) | (Side::Guest, false) => Direction::Inbound,
            (Side::Host, false) | (Side::Guest, true) => Direction::Outbound,
        }
    }
}

impl fmt::Display for HookKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An attachment in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// The kernel's interface index.
    pub ifindex: u32,
    /// The interface's name when it was attached, or last asked for.
    pub name: String,
    /// The zone.
    pub zone: u32,
    /// Which side is protected.
    pub side: Side,
    /// The ingress hook that was wanted.
    pub wanted: HookChoice,
    /// The interface carries bare IP.
    pub bare_ip: bool,
    /// The hooks in force, ingress first.
    pub hooks: Vec<HookState>,
    /// The interface has left this network namespace. One of its index may be there all the same: it
    /// is another.
    pub is_gone: bool,
    /// XDP was asked for and another program had the hook, which is free by now.
    pub is_xdp_free: bool,
}

impl Attached {
    /// What asks for this attachment, by the name that the interface has now.
    #[must_use]
    pub fn request(&self, name: String) -> AttachRequest {
        let Self { ifindex, zone, side, wanted, bare_ip, .. } = *self;
        AttachRequest { ifindex, name, zone, side, hook: wanted, bare_ip }
    }

    /// What is wrong where XDP was asked for and is not to be had. Enforced it is all the same.
    #[must_use]
    pub fn lacks_xdp(&self) -> Option<String> {
        let ingress = self.hooks.iter().find(|state| state.hook.is_ingress())?;
        if self.wanted != HookChoice::Xdp || self.hooks.iter().any(|state| state.hook == HookKind::Xdp) {
            return None;
        }
        let HookState { direction, hook, why, .. } = ingress;
        Some(format!("{}: {direction} is enforced at {hook}: {why}", self.name))
    }
}

/// One hook in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookState {
    /// What it sees, told from the protected side.
    pub direction: Direction,
    /// Where it is.
    pub hook: HookKind,
    /// `native`, `tcx` or `clsact`.
    pub mode: &'static str,
    /// Why this hook and no other.
    pub why: String,
    /// Whether the program is really there: the link is alive and runs this program.
    pub is_alive: bool,
    /// Programs of others on the same hook that run before this one, by name and id. One that
    /// lets a packet pass for good keeps it from being judged.
    pub programs_before: Vec<String>,
    /// Every program of others on the same hook, by name and id.
    pub other_programs: Vec<String>,
}

/// What is kept about an attachment beside its links, for whoever comes later: a restarted agent,
/// or a command while no agent runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) ifindex: u32,
    pub(crate) name: String,
    pub(crate) zone: u32,
    pub(crate) side: Side,
    pub(crate) wanted: HookChoice,
    pub(crate) bare_ip: bool,
    pub(crate) hooks: Vec<RecordedHook>,
    /// The clsact qdisc was not there before, so that it goes when the filters go.
    pub(crate) owns_qdisc: bool,
}

/// A hook of a [`Record`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RecordedHook {
    pub(crate) hook: HookKind,
    pub(crate) why: String,
}
