//! Compiles a policy into the image that the kernel programs read.
//!
//! For each zone and direction the rules of its groups are one union; for each family of addresses
//! that becomes a rule set: which class an address is of, and what each class opens. The layout is
//! fixed in [`sg_common::image`]. Equal input gives equal bytes, on any host.
//!
//! Nothing here knows where a policy came from or who will hold the image.

use sg_common::{
    addr::{Family, Prefix},
    image::{ETHERTYPES_MAX, MACS_MAX, RuleWord},
    verdict::RuleNumber,
};

use self::build::Build;
use crate::{
    image::Image,
    policy::{GroupIndex, Infrastructure, InterfaceEntry, Mac, Membership, Mode, Policy, RuleIndex, Side},
};

#[cfg(feature = "enforce")]
mod access;
mod address_tree;
mod arena;
mod build;
mod classes;
mod numbers;
mod selector_tree;
mod sweep;
mod table;
#[cfg(test)]
mod tests;
mod union;

#[cfg(feature = "enforce")]
pub(crate) use self::access::{Access, Opened, Ports, access};
pub use self::numbers::RuleNumbers;

/// Everything that an image says.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// The rules.
    pub policy: &'a Policy,
    /// The addresses that carry each group.
    pub members: &'a Membership,
    /// By zone number; `None` where a number is vacant, which compiles to a zone that opens nothing.
    pub zones: &'a [Option<Zone>],
    /// The number of every rule of the policy.
    pub numbers: &'a RuleNumbers,
}

/// One attachment, as the image knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    /// The groups whose union applies. Their order means nothing.
    pub groups: Vec<GroupIndex>,
    /// Which side of the interface is protected.
    pub side: Side,
    /// Whether drops are carried out.
    pub mode: Mode,
    /// Whether only the instance's own addresses may leave and be entered.
    pub source_check: bool,
    /// The parts of the infrastructure set that pass.
    pub infrastructure: Infrastructure,
    /// The instance's own addresses.
    pub own: Vec<Prefix>,
    /// The Ethernet addresses that the instance may send from under the source check; none listed
    /// means: any.
    pub macs: Vec<Mac>,
    /// EtherTypes that pass unseen.
    pub ethertypes: Vec<u16>,
}

impl Zone {
    /// The attachment of an instance with these addresses, as its entry has it, and for its
    /// mode its groups.
    #[must_use]
    pub fn of(policy: &Policy, entry: &InterfaceEntry, addresses: &[Prefix], is_bare_ip: bool) -> Self {
        Self {
            groups: entry.groups.clone(),
            side: entry.side,
            mode: policy.mode_of(entry),
            source_check: entry.source_check,
            infrastructure: entry.infrastructure,
            // Without the check nobody asks: an address that comes or goes then changes no image.
            own: if entry.source_check { addresses.to_vec() } else { Vec::new() },
            // What has no Ethernet header has nothing to compare.
            macs: if entry.source_check && !is_bare_ip { entry.macs.clone() } else { Vec::new() },
            ethertypes: entry.permit_ethertypes.clone(),
        }
    }
}

/// What an image may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Nodes, of 64 bytes each.
    pub nodes: u32,
}

impl Limits {
    /// As far as half numbers of 32 bits reach.
    pub const MAX: Self = Self { nodes: u32::MAX / 2 };
}

/// Why a policy cannot be compiled. Nothing was made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// The image does not fit.
    #[error(
        "the compiled policy takes {}{wanted} nodes of 64 bytes, and {limit} fit; the largest part is \
         {largest}: name fewer prefixes there, or allow more memory",
        if *.exact { "" } else { "more than " }
    )]
    TooLarge {
        /// How many nodes it takes.
        wanted: usize,
        /// Whether that is all; else the build gave up there.
        exact: bool,
        /// How many fit.
        limit: u32,
        /// What takes most of it: a direction of a union of groups.
        largest: String,
    },
    /// One rule set tells apart more runs of addresses than a lookup can.
    #[error("{of} cuts the {family} addresses into {intervals} intervals, and {limit} can be told apart")]
    TooManyIntervals {
        /// A direction of a union of groups, or the own addresses of a zone.
        of: String,
        /// The family whose addresses are cut.
        family: Family,
        /// How many there are.
        intervals: usize,
        /// How many a lookup can tell apart.
        limit: usize,
    },
    /// A zone permits more EtherTypes than its record holds.
    #[error("zone {zone} permits {found} EtherTypes, and {ETHERTYPES_MAX} fit")]
    TooManyEthertypes {
        /// The zone's number.
        zone: usize,
        /// How many it permits.
        found: usize,
    },
    /// A zone lists more Ethernet addresses than its record holds.
    #[error("zone {zone} lists {found} Ethernet addresses, and {MACS_MAX} fit")]
    TooManyMacs {
        /// The zone's number.
        zone: usize,
        /// How many it lists.
        found: usize,
    },
    /// A zone carries a group that the policy does not have.
    #[error("zone {zone} carries group number {}, and the policy has {groups}", .group.0)]
    NoSuchGroup {
        /// The zone's number.
        zone: usize,
        /// The group that it names.
        group: GroupIndex,
        /// How many groups there are.
        groups: usize,
    },
    /// A rule has no number, or one that the image cannot write.
    #[error("rule {rule} has no number from 0 to {}", RuleWord::MAX_RULE)]
    RuleNumber {
        /// The rule's name.
        rule: String,
    },
    /// Two rules have the same number.
    #[error("rules {first} and {second} both have number {}", .number.0)]
    SharedNumber {
        /// One rule's name.
        first: String,
        /// The other's.
        second: String,
        /// Their number.
        number: RuleNumber,
    },
}

/// Compiles `input` into an image that fits `limits`.
///
/// # Errors
///
/// [`CompileError`], when the image would not fit or the input contradicts itself.
pub fn compile(input: &Input<'_>, limits: &Limits) -> Result<Image, CompileError> {
    check_numbers(input)?;
    let mut build = Build::new(*input, limits);
    for (number, zone) in input.zones.iter().enumerate() {
        build.zone(number, zone.as_ref())?;
    }
    build.finish()
}

fn check_numbers(input: &Input<'_>) -> Result<(), CompileError> {
    let mut rules: Vec<(RuleNumber, RuleIndex)> = Vec::new();
    for (rule, _) in input.policy.rules() {
        match input.numbers.get(rule) {
            Some(number) if number.0 <= RuleWord::MAX_RULE => rules.push((number, rule)),
            _ => return Err(CompileError::RuleNumber { rule: input.policy.rule_name(rule) }),
        }
    }
    rules.sort_unstable();
    match rules.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        None => Ok(()),
        Some(pair) => Err(CompileError::SharedNumber {
            first: input.policy.rule_name(pair[0].1),
            second: input.policy.rule_name(pair[1].1),
            number: pair[0].0,
        }),
    }
}
