//! Brings about what the policy says: plan, record, publish, attach, in this order, and what is
//! left as it was when one of them fails. The one place where policies meet the kernel.

use std::collections::BTreeSet;

use tracing::{info, warn};

use super::{
    memory,
    order::{Occasion, Order},
    plan::{self, Before, Candidate, Entry, Inputs, Placement, Plan},
    steps::{Steps, steps},
    trial::{Trial, WayBack},
};
use crate::{
    failure::{Exit, Failure},
    kernel::{
        Attached, Kernel, KernelError, Paths, Reader, Settings, Sizes, Unlocked,
        links::{Interface, Interfaces},
    },
    policy::Policy,
    state::{LockedStore, Record, hex},
    view::Applied,
};

mod attaching;
mod leftovers;
mod mending;
mod preview;
mod remembering;
mod writing;

pub use self::{attaching::detached, preview::LISTED};
use self::{leftovers::Leftovers, mending::Mending, preview::Prepared, writing::Writing};

/// What enforces, and all that is known about it.
pub struct Engine {
    paths: Paths,
    pub(super) sizes: Sizes,
    settings: Settings,
    pub(super) store: LockedStore,
    /// None after everything was detached, until the next policy.
    pub(super) kernel: Option<Kernel>,
    pub(super) in_force: Option<InForce>,
    pub(super) before: Before,
    /// Interfaces that were detached by name: left alone until the next policy.
    pub(super) excluded: BTreeSet<String>,
    pub(super) problems: Vec<String>,
    /// What became of what others took.
    mending: Mending,
    /// A policy that waits for its confirmation.
    pub(super) trial: Option<Trial>,
    /// What is to be returned to from the next change on, should nobody confirm it.
    pub(super) way_back: Option<WayBack>,
    /// What changes have left to be done when whoever waits for them has the answer.
    leftovers: Leftovers,
    /// What was compiled to tell what the change that follows does.
    prepared: Option<Prepared>,
    /// What could not be written down.
    writing: Writing,
}

/// The generation in force.
pub(super) struct InForce {
    pub(super) candidate: Candidate,
    pub(super) record: Record,
    pub(super) inputs: Inputs,
    bytes: usize,
}

impl Engine {
    /// Adopts what is enforced, or loads the programs.
    ///
    /// # Errors
    ///
    /// The kernel refuses; what was enforced still is.
    pub fn open(paths: Paths, sizes: Sizes, settings: Settings, store: LockedStore) -> Result<Self, Failure> {
        let mut engine = Self {
            paths,
            sizes,
            settings,
            store,
            kernel: None,
            in_force: None,
            before: Before::default(),
            excluded: BTreeSet::new(),
            problems: Vec::new(),
            mending: Mending::default(),
            trial: None,
            way_back: None,
            leftovers: Leftovers::default(),
            prepared: None,
            writing: Writing::default(),
        };
        engine.open_kernel()?;
        Ok(engine)
    }

    /// The generation in force; 0: none.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.kernel.as_ref().map_or(0, Kernel::generation)
    }

    /// What is not as the policy says.
    #[must_use]
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    /// Reads what is enforced.
    ///
    /// # Errors
    ///
    /// The maps cannot be read.
    pub fn reader(&self) -> Result<Option<Reader>, KernelError> {
        self.kernel.as_ref().map(Kernel::reader).transpose()
    }

    /// Where records are.
    #[must_use]
    pub fn store(&self) -> &crate::state::Store {
        self.store.store()
    }

    /// What is open past the policy.
    ///
    /// # Errors
    ///
    /// The clock cannot be read.
    pub fn unlocked(&self) -> Result<Vec<Unlocked>, KernelError> {
        self.kernel.as_ref().map_or_else(|| Ok(Vec::new()), Kernel::unlocked)
    }

    /// Puts a policy in force. Interfaces that were detached by name are covered again.
    ///
    /// # Errors
    ///
    /// It does not fit, cannot be written or, on [`Occasion::Request`], an interface cannot be
    /// attached as it says: then nothing has changed. What shows only when it is tried is no error
    /// here but in [`Applied::problems`].
    pub fn apply(&mut self, candidate: Candidate, order: &Order) -> Result<Applied, Failure> {
        self.expect_writing();
        self.not_on_trial("apply the policy; nothing was changed")?;
        let excluded = std::mem::take(&mut self.excluded);
        let result = self.settle(candidate, order);
        match &result {
            Ok(_) => {
                if let Some(in_force) = &self.in_force {
                    self.forget_refusal(&in_force.candidate);
                }
            }
            Err(_) => self.excluded = excluded,
        }
        result
    }

    /// Follows interfaces and addresses under the policy in force.
    ///
    /// # Errors
    ///
    /// As [`Self::apply`].
    pub fn follow(&mut self) -> Result<Option<Applied>, Failure> {
        match (&self.in_force, &self.kernel) {
            (Some(in_force), Some(_)) => {
                let candidate = in_force.candidate.clone();
                self.keep_pins();
                // Until a new interface is covered everything passes it. Whether the others are as they
                // were left is for the next look.
                let attached = self.kernel.as_ref().map_or_else(Vec::new, Kernel::recorded);
                // A disk that is full must not leave a new interface open.
                let order = Order::event("interfaces changed").even_unwritten();
                self.settle_beside(candidate, &attached, &order).map(Some)
            }
            _ => Ok(None),
        }
    }

    pub(super) fn settle(&mut self, candidate: Candidate, order: &Order) -> Result<Applied, Failure> {
        if self.kernel.is_none() {
            self.open_kernel()?;
        }
        self.keep_pins();
        let attached = self.attached();
        self.settle_beside(candidate, &attached, order)
    }

    /// As [`Self::settle`], beside what is attached.
    fn settle_beside(
        &mut self,
        candidate: Candidate,
        attached: &[Attached],
        order: &Order,
    ) -> Result<Applied, Failure> {
        let interfaces = there()?;
        let placement = self.place(&candidate.policy, &interfaces, attached);
        if self.trial.is_some() {
            return self.settle_on_trial(candidate, placement, attached, &interfaces, order);
        }
        self.settle_as(candidate, &placement, attached, &interfaces, order)
    }

    /// What is attached, as the kernel has it.
    pub(super) fn attached(&self) -> Vec<Attached> {
        self.kernel.as_ref().map_or_else(Vec::new, Kernel::attached)
    }

    /// Puts the interfaces that are there in relation to a policy.
    pub(super) fn place(
        &self,
        policy: &Policy,
        interfaces: &[Interface],
        attached: &[Attached],
    ) -> Placement {
        plan::place(policy, interfaces, &self.excluded, attached, &self.before.zones)
    }

    pub(super) fn settle_as(
        &mut self,
        candidate: Candidate,
        placement: &Placement,
        attached: &[Attached],
        interfaces: &[Interface],
        order: &Order,
    ) -> Result<Applied, Failure> {
        if order.occasion == Occasion::Request {
            self.check(&steps(&placement.requests, attached))?;
        }
        let mut applied = Applied {
            digest: candidate.digest.clone(),
            groups: candidate.counts.groups,
            rules: candidate.counts.rules,
            prefixes: candidate.counts.prefixes,
            warnings: candidate.warnings.iter().map(ToString::to_string).collect(),
            ..Applied::default()
        };
        match &self.in_force {
            Some(in_force)
                if in_force.inputs == placement.inputs
                    && in_force.candidate.policy == candidate.policy
                    && in_force.record.policy == applied.digest
                    && !self.is_outnumbered() => {}
            _ => self.change(candidate, placement, order, &mut applied)?,
        }
        self.write_down();
        let known = std::mem::replace(&mut self.problems, placement.problems.clone());
        self.plan_way_back();
        let steps = steps(&placement.requests, attached);
        self.carry_out(&steps, attached, interfaces, &known);
        self.problems.extend(self.writing.problem());
        if let Some(kernel) = &mut self.kernel {
            kernel.rest();
        }
        if let Some(in_force) = &self.in_force {
            applied.generation = in_force.record.generation;
            applied.bytes = in_force.bytes;
            if applied.changed {
                self.leftovers.added_generation();
            }
        }
        applied.problems.clone_from(&self.problems);
        applied.interfaces = placement.requests.iter().map(|request| request.name.clone()).collect();
        Ok(applied)
    }

    /// Refuses what could not be attached.
    fn check(&self, steps: &Steps) -> Result<(), Failure> {
        let Some(kernel) = &self.kernel else { return Ok(()) };
        steps.attach.iter().try_for_each(|request| {
            // One that has just gone is for the event that tells of it.
            match kernel.check(request) {
                Ok(()) | Err(KernelError::NoInterface { .. }) => Ok(()),
                Err(error) => Err(Failure::kernel("apply the policy; nothing was changed", &error)),
            }
        })
    }

    /// Compiles, and publishes if that gave another image than the one in force.
    fn change(
        &mut self,
        candidate: Candidate,
        placement: &Placement,
        order: &Order,
        applied: &mut Applied,
    ) -> Result<(), Failure> {
        let plan = self.compile(&candidate, placement)?;
        applied.compile_ms = plan.compile_ms;
        if let Some(own) = &order.own {
            own.check(&plan.image, placement, &there()?)?;
        }

        let is_outnumbered = self.is_outnumbered();
        let Some(kernel) = &mut self.kernel else {
            return Err(Failure::new(Exit::Failed, "publish the policy", "the programs are not loaded"));
        };
        let generation = kernel.generation();
        let read;
        let recorded = match &self.in_force {
            Some(in_force) if in_force.record.generation == generation => Some(&in_force.record),
            _ => {
                read = self.store.store().record(generation).ok().flatten();
                read.as_ref()
            }
        };
        let is_its =
            |kernel: &Kernel| kernel.current_image().is_ok_and(|image| image.digest() == plan.image.digest());
        let is_in_force = generation > 0
            && !is_outnumbered
            && recorded.is_none_or(|record| record.image == hex(&plan.image.digest()))
            && (self.in_force.is_some() || is_its(kernel));
        let record = match recorded {
            // Nothing says so, but the image itself.
            None if is_in_force => {
                clear(kernel, &placement.given, &[])
                    .map_err(|error| Failure::kernel("clear zones", &error))?;
                let record = plan::record(&candidate, placement, &plan, Entry::new(generation, order));
                self.write_for(order, &record, &candidate)?;
                record
            }
            Some(old) if is_in_force => {
                // The image knows a zone by its number alone: another interface may have it now.
                clear(kernel, &placement.given, &[])
                    .map_err(|error| Failure::kernel("clear zones", &error))?;
                let record = plan::record(&candidate, placement, &plan, Entry::of(old));
                // The policy reads otherwise, or an interface has another name.
                if record != *old {
                    self.write_for(order, &record, &candidate)?;
                }
                record
            }
            _ => {
                let next = self.next_generation()?;
                let record = plan::record(&candidate, placement, &plan, Entry::new(next, order));
                self.publish(&candidate, placement, &plan, &record, order, applied)?;
                record
            }
        };
        let bytes = plan.image.size();
        let numbering = plan.renumbered.numbering;
        self.before = Before {
            numbering: match &self.trial {
                Some(trial) => numbering.with(trial.numbering()),
                None => numbering,
            },
            zones: placement.table.clone(),
            is_forgotten: false,
        };
        let next = InForce { candidate, record, inputs: placement.inputs.clone(), bytes };
        if let Some(former) = self.in_force.replace(next) {
            self.leftovers.free_later(former);
        }
        self.leftovers.took_memory();
        Ok(())
    }

    /// The next generation's image; not anew where it has just been made to tell what it changes.
    fn compile(&mut self, candidate: &Candidate, placement: &Placement) -> Result<Plan, Failure> {
        let (policy, inputs, before) = (&candidate.policy, &placement.inputs, &self.before.numbering);
        let prepared = self.prepared.take().and_then(|prepared| prepared.of(policy, inputs, before));
        prepared.map_or_else(
            || {
                plan::compile(policy, inputs, before, self.sizes.rules, &memory::limit())
                    .map_err(|error| Failure::new(Exit::Invalid, "compile the policy", error))
            },
            Ok,
        )
    }

    /// Forgets what was compiled for a change that needed it not.
    pub(super) fn drop_prepared(&mut self) {
        self.prepared = None;
    }

    /// A number that no generation ever had: flows tell by it which policy admitted them.
    pub(super) fn next_generation(&self) -> Result<u64, Failure> {
        let highest = self.store.store().highest().map_err(Failure::state)?;
        let latest = self.kernel.as_ref().map_or(0, Kernel::latest_generation);
        Ok(latest.max(highest) + 1)
    }

    fn publish(
        &mut self,
        candidate: &Candidate,
        placement: &Placement,
        plan: &Plan,
        record: &Record,
        order: &Order,
        applied: &mut Applied,
    ) -> Result<(), Failure> {
        self.write_for(order, record, candidate)?;
        let Some(kernel) = &mut self.kernel else { return Ok(()) };
        let numbers = match self.before.is_forgotten {
            true => (0..record.next_number).collect(),
            false => plan.renumbered.reused.clone(),
        };
        let published = clear(kernel, &placement.given, &numbers)
            .and_then(|()| kernel.publish(&plan.image, record.generation, record.next_number));
        match published {
            Ok(published) => {
                applied.changed = true;
                applied.publish_ms = published.micros as f64 / 1000.0;
                let bytes = plan.image.size();
                info!(generation = record.generation, bytes, micros = published.micros, "policy in force");
                Ok(())
            }
            Err(error) => {
                if let Err(error) = self.store.forget(record.generation) {
                    warn!("the record of a generation that never came to be stays: {error}");
                }
                Err(Failure::kernel("publish the policy", &error))
            }
        }
    }
}

/// Clears what changes hands.
fn clear(kernel: &mut Kernel, zones: &[u32], rules: &[u32]) -> Result<(), KernelError> {
    for zone in zones {
        kernel.clear_zone(*zone)?;
    }
    if rules.is_empty() { Ok(()) } else { kernel.clear_rules(rules) }
}

/// The interfaces that are there.
pub(super) fn there() -> Result<Vec<Interface>, Failure> {
    Interfaces::snapshot().map_err(|error| Failure::kernel("list interfaces", &error))
}
