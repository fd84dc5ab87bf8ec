//! What is known of what the kernel enforces, when an agent comes to it: by the records in the state folder, else
//! by what is attached and the image itself.

use tracing::{info, warn};

use super::{Engine, there};
use crate::{
    agent::{
        memory,
        numbering::Numbering,
        plan::{self, Before, Candidate, Placement},
        zones::{Slot, ZoneTable},
    },
    failure::Failure,
    kernel::{Kernel, Opened},
    state::Record,
};

impl Engine {
    /// Opens the kernel, and remembers which numbers are in use there.
    pub(in crate::agent) fn open_kernel(&mut self) -> Result<&mut Kernel, Failure> {
        let (kernel, opened) = Kernel::open(&self.paths, &self.sizes, &self.settings)
            .map_err(|error| Failure::kernel("open the programs and maps", &error))?;
        let generation = kernel.generation();
        let admitting = if generation == 0 { kernel.latest_generation() } else { generation };
        let record = self.store.store().record(admitting).unwrap_or_else(|error| {
            warn!("the record of generation {admitting} is of no use: {error}");
            None
        });
        match opened {
            Opened::Loaded => info!("programs and maps are loaded; nothing is enforced yet"),
            Opened::Inherited => info!("programs and maps are loaded, with the flows of another version"),
            Opened::Adopted => info!(generation, "adopted what is enforced"),
            Opened::Upgraded => info!(generation, "adopted what is enforced, with new programs"),
        }
        self.before = before(record.as_ref(), &kernel);
        self.in_force = None;
        // Loading the programs takes more than all else that a small policy does.
        self.leftovers.took_memory();
        Ok(self.kernel.insert(kernel))
    }

    /// Remembers which numbers are in use after the kernel has gone back to another generation.
    pub(in crate::agent) fn reread(&mut self) {
        self.in_force = None;
        let Some(kernel) = &self.kernel else { return };
        let record = self.store.store().record(kernel.generation()).unwrap_or_default();
        self.before = before(record.as_ref(), kernel);
    }

    /// The last policy that was in force and can be read: of the generation that the kernel has, else the
    /// newest on disk.
    #[must_use]
    pub fn last_good(&self) -> Option<Candidate> {
        let generation = self.kernel.as_ref().map_or(0, Kernel::generation);
        let mut policies = match self.store.store().policies_since(generation) {
            Ok(policies) => policies,
            Err(error) => {
                warn!("no former policy can be read: {error}");
                return None;
            }
        };
        policies.find_map(|submission| {
            let loaded = submission.load(&crate::document::Limits::default());
            let refused = match Candidate::of(loaded) {
                Ok(candidate) => return Some(candidate),
                Err(diagnostics) => diagnostics,
            };
            for diagnostic in refused {
                warn!("a former policy is not one any more: {diagnostic}");
            }
            None
        })
    }

    /// Whether what the kernel enforces is this policy on the interfaces that are there, by its image: then
    /// it can be put in force without anything being changed.
    #[must_use]
    pub fn is_enforced(&self, candidate: &Candidate) -> bool {
        // One on trial is not to be followed on by whoever does not know what comes after it.
        let Some(kernel) = self.kernel.as_ref().filter(|kernel| kernel.fallback().is_none()) else {
            return false;
        };
        let Ok(interfaces) = there() else { return false };
        let Placement { inputs, .. } = self.place(&candidate.policy, &interfaces, &self.attached());
        let numbering = &self.before.numbering;
        let plan = plan::compile(&candidate.policy, &inputs, numbering, self.sizes.rules, &memory::limit());
        let image = kernel.current_image();
        plan.is_ok_and(|plan| image.is_ok_and(|image| image.digest() == plan.image.digest()))
    }
}

/// The numbers that the kernel uses, as far as they are remembered.
fn before(record: Option<&Record>, kernel: &Kernel) -> Before {
    let is_enforced = kernel.generation() > 0;
    // The zones of interfaces that are yet to be taken over from another version stay theirs.
    let inherited = kernel.inherited();
    let taken = inherited.iter().map(|(ifindex, zone)| (*zone, Slot::Used(*ifindex)));
    let attached = kernel.attached();
    let Some(record) = record.filter(|_| is_enforced) else {
        // Whose zone is whose is told by what is attached, too.
        let attached = attached.iter().filter(|attached| !attached.is_gone);
        let attached = attached.map(|attached| (attached.zone, Slot::Used(attached.ifindex)));
        let zones = ZoneTable(taken.chain(attached).collect());
        let numbering = record.map(Numbering::of).unwrap_or_default();
        return Before { is_forgotten: is_enforced, zones, numbering };
    };
    let mut zones = ZoneTable::of(record);
    // One that was detached meanwhile begins afresh: what flowed since was not seen.
    zones.0.retain(|zone, slot| match slot {
        Slot::Used(ifindex) => {
            attached.iter().any(|attached| (attached.ifindex, attached.zone) == (*ifindex, *zone))
        }
        Slot::Retired(_) => true,
    });
    zones.0.extend(taken);
    Before { numbering: Numbering::of(record), zones, is_forgotten: false }
}
