//! A policy on trial: unless somebody confirms it in time, the former one comes back.
//!
//! The programs themselves go back ([`Kernel::fall_back_after`]): for that the former policy's image
//! stays in the other buffer, and no interface is detached meanwhile. What one of the two policies does
//! not cover passes whole under it. The note in the state folder is for an agent that is started later:
//! it goes on with the trial, or finds that it is over.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use tracing::{info, warn};

use super::{
    engine::Engine,
    memory,
    order::Order,
    plan::{self, Candidate, Entry, Inputs, Placement},
    zones::{Slot, ZoneTable},
};
use crate::{
    document::Limits,
    failure::{Exit, Failure},
    kernel::Kernel,
    policy::Policy,
    state::TrialRecord,
    view::{Applied, timestamp},
};

/// A policy that waits for its confirmation.
pub(super) struct Trial {
    /// What comes back without it; none: nothing was enforced.
    former: Option<Candidate>,
    /// What the former policy's image says.
    inputs: Inputs,
    until: Instant,
    /// The same as people read it.
    shown: String,
}

/// How a trial ended, or goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It waits.
    Not,
    /// The former policy is in force again.
    Unconfirmed,
}

impl Engine {
    /// Until when the policy in force waits for its confirmation.
    #[must_use]
    pub fn confirm_by(&self) -> Option<(Instant, &str)> {
        self.trial.as_ref().map(|trial| (trial.until, trial.shown.as_str()))
    }

    /// Puts a policy in force until the time has passed, and then the former one again, whatever
    /// becomes of this process.
    ///
    /// # Errors
    ///
    /// As [`Engine::apply`]; or another policy is on trial.
    pub fn try_out(
        &mut self,
        candidate: Candidate,
        within: Duration,
        order: &Order,
    ) -> Result<Applied, Failure> {
        const WHAT: &str = "apply the policy; nothing was changed";
        self.not_on_trial(WHAT)?;
        if self.kernel.is_none() {
            self.open_kernel()?;
        }
        if self.in_force.is_none() && self.generation() > 0 {
            // To call that nothing would open everything.
            let why = format!("nobody remembers what generation {} says", self.generation());
            return Err(Failure::new(Exit::Failed, WHAT, why)
                .with_remedy("apply a policy once without --confirm-within"));
        }
        let former = self.in_force.as_ref().map(|in_force| in_force.candidate.clone());
        let (interfaces, attached, next) = self.place(&candidate.policy)?;
        let inputs = self.make_way_back(former.as_ref(), &next, order)?;
        let shown = timestamp(Timestamp::now() + within);
        let note = TrialRecord {
            policy: candidate.submission.digest(),
            former: former.as_ref().map(|former| former.submission.digest()),
            until: shown.clone(),
            author: order.author.clone(),
        };
        self.store.begin_trial(&note, &candidate.submission).map_err(Failure::state)?;
        let until = Instant::now() + within;
        let planned = self.kernel.as_mut().map(|kernel| kernel.fall_back_after(within));
        if let Some(Err(error)) = planned {
            self.end_note();
            return Err(Failure::kernel(WHAT, &error));
        }
        self.trial = Some(Trial { former, inputs, until, shown });
        match self.settle_as(candidate, &next, &attached, &interfaces, order) {
            Ok(mut applied) if applied.changed => {
                applied.confirm_by = self.trial.as_ref().map(|trial| trial.shown.clone());
                Ok(applied)
            }
            // It is in force already, and there is nothing to return to.
            Ok(_) => {
                self.call_off();
                self.follow()?.ok_or_else(|| Failure::new(Exit::Failed, WHAT, "nothing is enforced"))
            }
            Err(failure) => {
                self.call_off();
                if let Err(failure) = self.follow() {
                    warn!("{failure}");
                }
                Err(failure)
            }
        }
    }

    /// Refuses a change that would take the way back from a policy on trial.
    pub(super) fn not_on_trial(&self, what: &str) -> Result<(), Failure> {
        let Some(trial) = &self.trial else { return Ok(()) };
        let why = format!("the policy in force waits for its confirmation until {}", trial.shown);
        let remedy = "`sg-agent confirm` or `sg-agent rollback` first";
        Err(Failure::new(Exit::Failed, what, why).with_remedy(remedy))
    }

    /// Has what is in force let pass whatever only the next policy covers, so that it can come back
    /// with nobody there to detach. Returns what its image then says.
    fn make_way_back(
        &mut self,
        former: Option<&Candidate>,
        next: &Placement,
        order: &Order,
    ) -> Result<Inputs, Failure> {
        let nothing = nothing();
        let candidate = former.unwrap_or(&nothing);
        let (interfaces, attached, placement) = self.place(&candidate.policy)?;
        let placement = beside(placement, &next.table);
        let is_ready = self.in_force.as_ref().is_some_and(|in_force| in_force.inputs == placement.inputs);
        if !is_ready {
            let order = Order { own: None, ..order.clone() };
            self.settle_as(candidate.clone(), &placement, &attached, &interfaces, &order)?;
        }
        Ok(placement.inputs)
    }

    /// After a change of interfaces: the way back leads to the former policy as they are now.
    pub(super) fn keep_way_back(&mut self) -> Result<(), Failure> {
        let Some(trial) = &self.trial else { return Ok(()) };
        let policy = trial.former.as_ref().map_or_else(Policy::default, |former| former.policy.clone());
        let (_, _, placement) = self.place(&policy)?;
        let placement = beside(placement, &self.before.zones);
        let is_planned = self.kernel.as_ref().is_some_and(|kernel| kernel.fallback().is_some());
        if is_planned && trial.inputs == placement.inputs {
            return Ok(());
        }
        let failed = |error| Failure::new(Exit::Failed, "keep the way back to the former policy", error);
        let former = trial.former.clone().unwrap_or_else(nothing);
        let left = trial.until.saturating_duration_since(Instant::now());
        let numbering = &self.before.numbering;
        let plan = plan::compile(&policy, &placement.inputs, numbering, self.sizes.rules, &memory::limit())
            .map_err(|error| failed(error.to_string()))?;
        let newest = self.store.store().recorded().map_err(Failure::state)?.last().copied().unwrap_or(0);
        let order = Order::event("the former policy, should the new one not be confirmed");
        let record = plan::record(&former, &placement, &plan, Entry::new(newest + 1, &order));
        self.write(&record, &former)?;
        let Some(kernel) = &mut self.kernel else { return Ok(()) };
        kernel
            .fall_back_to(&plan.image, record.generation, record.next_number, left)
            .map_err(|error| failed(error.to_string()))?;
        self.before.numbering = plan.renumbered.numbering;
        if let Some(trial) = &mut self.trial {
            trial.inputs = placement.inputs;
        }
        Ok(())
    }

    /// Keeps the policy that is on trial.
    ///
    /// # Errors
    ///
    /// None is, or it is too late.
    pub fn confirm(&mut self) -> Result<Applied, Failure> {
        const WHAT: &str = "confirm the policy";
        if self.trial.is_none() {
            return Err(Failure::new(Exit::Failed, WHAT, "none waits for it"));
        }
        let in_time = self.kernel.as_mut().is_some_and(Kernel::stay);
        if !in_time {
            self.give_up()?;
            return Err(Failure::new(Exit::Failed, WHAT, "it is too late")
                .with_remedy("the former policy is in force again; apply the new one once more"));
        }
        self.trial = None;
        self.end_note();
        // Now it may leave alone what it does not cover.
        self.follow()?.ok_or_else(|| Failure::new(Exit::Failed, WHAT, "nothing is enforced"))
    }

    /// Ends the trial at once: the former policy is in force again.
    ///
    /// # Errors
    ///
    /// It cannot be put in force; the programs return to it by themselves when the time has passed.
    pub fn give_up(&mut self) -> Result<Option<Applied>, Failure> {
        let Some(trial) = self.trial.take() else { return Ok(None) };
        let order = Order::event("the new policy was not confirmed");
        let tried = self.in_force.as_ref().map(|in_force| in_force.record.generation);
        let Some(former) = trial.former.clone() else {
            self.detach_all()?;
            self.forget_after(tried.map_or(0, |tried| tried - 1));
            self.end_note();
            return Ok(Some(Applied { changed: true, ..Applied::default() }));
        };
        // The programs do not go back behind what follows.
        if let Some(kernel) = &mut self.kernel {
            kernel.go_back();
        }
        self.in_force = None;
        match self.settle(former, &order) {
            Ok(applied) => {
                self.forget_after(applied.generation);
                self.end_note();
                Ok(Some(Applied { changed: true, ..applied }))
            }
            Err(failure) => {
                self.trial = Some(Trial { until: Instant::now() + RETRY, ..trial });
                Err(failure)
            }
        }
    }

    /// Looks whether the time has passed.
    ///
    /// # Errors
    ///
    /// As [`Self::give_up`].
    pub fn look_at_trial(&mut self) -> Result<Ended, Failure> {
        match &self.trial {
            Some(trial) if trial.until <= Instant::now() => {
                self.give_up()?;
                Ok(Ended::Unconfirmed)
            }
            _ => Ok(Ended::Not),
        }
    }

    /// Goes on with a trial that another process has begun, or ends it where its time has passed. Tells
    /// whether there was one: then the policy in force is decided.
    ///
    /// # Errors
    ///
    /// Neither policy can be put in force.
    pub fn resume_trial(&mut self) -> Result<bool, Failure> {
        let Some(note) = self.store.store().trial().map_err(Failure::state)? else { return Ok(false) };
        let left = self.kernel.as_ref().and_then(Kernel::fallback).map_or(Duration::ZERO, |found| found.left);
        let former = match &note.former {
            Some(digest) => Some(self.kept(digest)?),
            None => None,
        };
        let until = Instant::now() + left;
        let inputs = Inputs { members: Default::default(), zones: Vec::new() };
        self.trial = Some(Trial { former, inputs, until, shown: note.until });
        if left.is_zero() {
            self.give_up()?;
            warn!("a policy was not confirmed in time: the former one is in force");
            return Ok(true);
        }
        let candidate = self.kept(&note.policy)?;
        self.settle(candidate, &Order::event("the agent was started"))?;
        self.keep_way_back()?;
        info!("the policy in force waits for its confirmation");
        Ok(true)
    }

    /// Forgets a trial that cannot be gone on with. The programs take the way back, or another policy
    /// its place.
    pub fn forget_trial(&mut self) {
        self.trial = None;
        self.end_note();
    }

    /// The policy with this digest, from the state folder.
    pub(super) fn kept(&self, digest: &str) -> Result<Candidate, Failure> {
        let what = format!("read the policy {digest}");
        let submission = self.store.store().submission(digest).map_err(Failure::state)?;
        let submission =
            submission.ok_or_else(|| Failure::new(Exit::Failed, what.clone(), "it is not kept any more"))?;
        super::read(submission.load(&Limits::default()), &what)
    }

    /// What never was confirmed must not be taken for the last good policy.
    fn forget_after(&self, generation: u64) {
        let recorded = self.store.store().recorded().unwrap_or_default();
        for tried in recorded.into_iter().filter(|recorded| *recorded > generation) {
            if let Err(error) = self.store.forget(tried) {
                warn!("the record of a policy that was not confirmed stays: {error}");
            }
        }
    }

    fn call_off(&mut self) {
        if let Some(kernel) = &mut self.kernel {
            kernel.stay();
        }
        self.trial = None;
        self.end_note();
    }

    pub(super) fn end_note(&self) {
        if let Err(error) = self.store.end_trial() {
            warn!("the note of a policy on trial stays: {error}");
        }
    }
}

/// How long after a failure the former policy is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// The policy of a host that has none.
fn nothing() -> Candidate {
    Candidate {
        policy: Policy::default(),
        submission: Default::default(),
        counts: Default::default(),
        warnings: Vec::new(),
    }
}

/// The placement with a zone, in which everything passes, for each interface that `other` has and it
/// has not.
fn beside(mut placement: Placement, other: &ZoneTable) -> Placement {
    for (zone, slot) in &other.0 {
        let (Slot::Used(ifindex) | Slot::Retired(ifindex)) = *slot;
        if placement.table.zone_of(ifindex).is_none() && !placement.table.0.contains_key(zone) {
            placement.table.0.insert(*zone, Slot::Retired(ifindex));
        }
    }
    placement.inputs.zones = super::desired::with_retired(&placement.table, &placement.inputs.zones);
    placement
}
