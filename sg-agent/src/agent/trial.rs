//! A policy on trial: unless somebody confirms it in time, the former one comes back.
//!
//! The programs themselves go back ([`Kernel::fall_back_after`]): for that the former policy's image
//! stays in the other buffer, and meanwhile the programs are on each interface that either policy covers.
//! What one of the two does not cover passes whole under it. Both are compiled with one set of rule
//! numbers and zones, so that neither has to change when they change places.
//!
//! The note in the state folder is for an agent that is started later: it goes on with the trial, or finds
//! that it is over. Without the note there is no trial: it goes first when a policy is confirmed.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tracing::{info, warn};

use super::{
    engine::{self, Engine},
    memory,
    numbering::Numbering,
    order::Order,
    plan::{self, Candidate, Entry, Inputs, Placement},
};
use crate::{
    document::Limits,
    failure::{Exit, Failure},
    image::Image,
    kernel::{Attached, Kernel, links::Interface},
    policy::Policy,
    state::{Record, Submission, TrialRecord},
    view::{Applied, timestamp},
};

/// A policy that waits for its confirmation.
pub(super) struct Trial {
    /// The digest of what is on trial.
    policy: String,
    /// What comes back without it; none: nothing was enforced.
    former: Option<Candidate>,
    /// The numbers of the former policy's rules.
    numbering: Numbering,
    /// Interfaces that the former policy leaves alone, because they were detached by name.
    excluded: BTreeSet<String>,
    /// What the way back's image says; `None` where it is to be written anew.
    inputs: Option<Inputs>,
    /// The generation before the trial. All that came later is of the trial.
    since: u64,
    until: Instant,
    /// The same as people read it.
    shown: String,
}

/// The former policy, as things are now: compiled, and its record on disk.
pub(super) struct WayBack {
    image: Image,
    record: Record,
    inputs: Inputs,
}

/// How a trial ended, or goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It waits.
    Not,
    /// The former policy is in force again.
    Unconfirmed,
}

impl Trial {
    /// The numbers of the former policy's rules.
    pub(super) fn numbering(&self) -> &Numbering {
        &self.numbering
    }
}

impl Engine {
    /// Until when the policy in force waits for its confirmation.
    #[must_use]
    pub fn confirm_by(&self) -> Option<(Instant, &str)> {
        self.trial.as_ref().map(|trial| (trial.until, trial.shown.as_str()))
    }

    /// Puts a policy in force until the time has passed, and then the former one again, whatever
    /// becomes of this process. Interfaces that were detached by name are covered meanwhile.
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
        let excluded = std::mem::take(&mut self.excluded);
        // Two policies may mean the same until an interface comes that only one of them covers.
        let is_other =
            self.in_force.as_ref().is_none_or(|in_force| in_force.candidate.policy != candidate.policy);
        match self.begin_trial(candidate, within, order, excluded.clone()) {
            Ok(applied) if applied.changed || is_other => Ok(applied),
            // It is in force already, and there is nothing to return to.
            Ok(_) => {
                self.call_off();
                self.follow()?.ok_or_else(|| Failure::new(Exit::Failed, WHAT, "nothing is enforced"))
            }
            Err(failure) => {
                self.call_off();
                self.excluded = excluded;
                if let Err(failure) = self.follow() {
                    warn!("{failure}");
                }
                Err(failure)
            }
        }
    }

    fn begin_trial(
        &mut self,
        candidate: Candidate,
        within: Duration,
        order: &Order,
        excluded: BTreeSet<String>,
    ) -> Result<Applied, Failure> {
        let highest = self.store.store().highest().map_err(Failure::state)?;
        let former = self.in_force.as_ref().map(|in_force| in_force.candidate.clone());
        let (interfaces, attached) = (engine::there()?, self.attached());
        let next = self.place(&candidate.policy, &interfaces, &attached);

        // What is in force lets pass whatever only the next policy covers, so that it can come back with
        // nobody there to detach.
        let nothing = nothing();
        let back = former.as_ref().unwrap_or(&nothing);
        let placement = plan::place(&back.policy, &interfaces, &excluded, &attached, &next.table);
        let placement = placement.beside(&next);
        if self.in_force.as_ref().is_none_or(|in_force| in_force.inputs != placement.inputs) {
            let ready = Order { own: None, ..order.clone() };
            let ready = Order { author: "agent".to_owned(), cause: MADE_READY.to_owned(), ..ready };
            self.settle_as(back.clone(), &placement, &attached, &interfaces, &ready)?;
        }
        let since = if former.is_some() { self.generation() } else { highest };

        let note = TrialRecord {
            policy: candidate.digest.clone(),
            former: former.as_ref().map(|former| former.digest.clone()),
            until: timestamp(Timestamp::now() + within),
            since,
            author: order.author.clone(),
        };
        self.store.begin_trial(&note, &candidate.submission).map_err(Failure::state)?;
        let trial = Trial {
            policy: note.policy,
            former,
            numbering: self.before.numbering.clone(),
            excluded,
            inputs: Some(placement.inputs.clone()),
            since,
            until: Instant::now() + within,
            shown: note.until,
        };
        if let Some(kernel) = &mut self.kernel {
            kernel
                .fall_back_after(within)
                .map_err(|error| Failure::kernel("apply the policy; nothing was changed", &error))?;
        }
        let shown = trial.shown.clone();
        self.trial = Some(trial);
        let next = next.beside(&placement);
        let applied = self.settle_as(candidate, &next, &attached, &interfaces, order)?;
        Ok(Applied { confirm_by: Some(shown), ..applied })
    }

    /// Refuses a change that would take the way back from a policy on trial.
    pub(super) fn not_on_trial(&self, what: &str) -> Result<(), Failure> {
        let Some(trial) = &self.trial else { return Ok(()) };
        let why = format!("the policy in force waits for its confirmation until {}", trial.shown);
        let remedy = "`sg-agent confirm` or `sg-agent rollback` first";
        Err(Failure::new(Exit::Failed, what, why).with_remedy(remedy))
    }

    /// After a change of interfaces: the policy on trial is in force as they are now, and the way back
    /// leads to the former one as they are now.
    pub(super) fn settle_on_trial(
        &mut self,
        candidate: Candidate,
        next: Placement,
        attached: &[Attached],
        interfaces: &[Interface],
        order: &Order,
    ) -> Result<Applied, Failure> {
        let Some(trial) = &self.trial else {
            return self.settle_as(candidate, &next, attached, interfaces, order);
        };
        let nothing = nothing();
        let former = trial.former.as_ref().unwrap_or(&nothing);
        let back = plan::place(&former.policy, interfaces, &trial.excluded, attached, &next.table);
        let next = next.beside(&back);
        let back = back.beside(&next);
        let is_planned = self.kernel.as_ref().is_some_and(|kernel| kernel.fallback().is_some());
        let is_same = self.in_force.as_ref().is_some_and(|in_force| in_force.inputs == next.inputs);
        if !(is_planned && is_same && trial.inputs.as_ref() == Some(&back.inputs)) {
            // On disk before anything changes: what follows must be quick.
            self.way_back = Some(self.compile_way_back(former, &back, order)?);
        }
        let settled = self.settle_as(candidate, &next, attached, interfaces, order);
        self.way_back = None;
        settled
    }

    fn compile_way_back(
        &self,
        former: &Candidate,
        placement: &Placement,
        order: &Order,
    ) -> Result<WayBack, Failure> {
        let numbering = &self.before.numbering;
        let plan =
            plan::compile(&former.policy, &placement.inputs, numbering, self.sizes.rules, &memory::limit())
                .map_err(|error| no_way_back(&error))?;
        let ready = Order::event("the former policy, should the new one not be confirmed");
        let record = plan::record(former, placement, &plan, Entry::new(self.next_generation()?, &ready));
        match self.write(&record, former) {
            Err(failure) if order.goes_unwritten => warn!("the way back is not written down: {failure}"),
            written => written?,
        }
        Ok(WayBack { image: plan.image, record, inputs: placement.inputs.clone() })
    }

    /// Has the programs return to the way back that was made for the image that has just come into force.
    /// It took the place of the old one.
    pub(super) fn plan_way_back(&mut self) {
        let (Some(WayBack { image, record, inputs }), Some(trial), Some(kernel)) =
            (self.way_back.take(), &mut self.trial, &mut self.kernel)
        else {
            return;
        };
        let left = trial.until.saturating_duration_since(Instant::now());
        match kernel.fall_back_to(&image, record.generation, record.next_number, left) {
            Ok(()) => trial.inputs = Some(inputs),
            Err(error) => {
                trial.inputs = None;
                // It is tried again, as every problem is.
                self.problems.push(no_way_back(&error).to_string());
            }
        }
    }

    /// Keeps the policy that is on trial.
    ///
    /// # Errors
    ///
    /// None is, or it is too late, or that it was confirmed cannot be written down.
    pub fn confirm(&mut self) -> Result<Applied, Failure> {
        const WHAT: &str = "confirm the policy";
        let Some(trial) = &self.trial else {
            return Err(Failure::new(Exit::Failed, WHAT, "none waits for it"));
        };
        let since = trial.since;
        let is_over = self.in_force.is_none() || self.is_taken();
        if !is_over {
            // First: whoever starts later must not undo what is kept.
            self.store.end_trial().map_err(Failure::state)?;
        }
        if is_over || !self.kernel.as_mut().is_some_and(Kernel::stay) {
            self.give_up()?;
            return Err(Failure::new(Exit::Failed, WHAT, "it is too late")
                .with_remedy("the former policy is in force again; apply the new one once more"));
        }
        self.trial = None;
        // What was made ready for the way back never was in force.
        if let Some(in_force) = &self.in_force {
            let Record { generation, policy, .. } = &in_force.record;
            let store = self.store.store();
            let is_other =
                |found| store.record(found).ok().flatten().is_none_or(|record| record.policy != *policy);
            let is_to_go = |found: u64| found > *generation || is_other(found);
            told(self.store.forget_above(since, is_to_go));
            self.forget_refusal(&in_force.candidate);
        }
        // Now it may leave alone what it does not cover.
        self.follow()?.ok_or_else(|| Failure::new(Exit::Failed, WHAT, "nothing is enforced"))
    }

    /// The policy that comes back unless the one on trial is confirmed.
    #[must_use]
    pub fn former(&self) -> Option<&Candidate> {
        self.trial.as_ref()?.former.as_ref()
    }

    /// Ends the trial at once: the former policy is in force again.
    ///
    /// # Errors
    ///
    /// It cannot be put in force; the programs return to it by themselves when the time has passed.
    pub fn give_up(&mut self) -> Result<Option<Applied>, Failure> {
        let Some(trial) = self.trial.take() else { return Ok(None) };
        self.way_back = None;
        match self.store.store().submission(&trial.policy) {
            Ok(Some(tried)) => told(self.store.refuse(Some(&tried.content_digest()))),
            Ok(None) => {}
            Err(error) => warn!("that a policy was not confirmed is not noted: {error}"),
        }
        let order = Order::event("the new policy was not confirmed").even_unwritten();
        let excluded = std::mem::replace(&mut self.excluded, trial.excluded.clone());
        let ended = match &trial.former {
            None => self.detach_all().map(|_| Applied::default()),
            Some(former) => {
                // The programs do not go back behind what follows.
                if let Some(kernel) = &mut self.kernel {
                    kernel.go_back();
                }
                self.in_force = None;
                self.settle(former.clone(), &order)
            }
        };
        match ended {
            Ok(applied) => {
                // What never was confirmed must not be taken for the last good policy.
                told(self.store.forget_above(trial.since, |tried| tried != applied.generation));
                self.end_note();
                Ok(Some(Applied { changed: true, ..applied }))
            }
            Err(failure) => {
                self.excluded = excluded;
                self.trial = Some(Trial { until: Instant::now() + RETRY, ..trial });
                Err(failure)
            }
        }
    }

    /// Looks whether the time has passed, by this process's clock or the kernel's.
    ///
    /// # Errors
    ///
    /// As [`Self::give_up`].
    pub fn look_at_trial(&mut self) -> Result<Ended, Failure> {
        match &self.trial {
            Some(trial) if trial.until <= Instant::now() || self.is_taken() => {
                self.give_up()?;
                Ok(Ended::Unconfirmed)
            }
            _ => Ok(Ended::Not),
        }
    }

    /// Whether the programs have gone back by themselves.
    fn is_taken(&self) -> bool {
        self.kernel.as_ref().and_then(Kernel::fallback).is_some_and(|found| found.left.is_zero())
    }

    /// Goes on with a trial that another process has begun, or ends it where its time has passed. Tells
    /// whether there was one: then the policy in force is decided.
    ///
    /// # Errors
    ///
    /// Neither policy can be put in force.
    pub fn resume_trial(&mut self) -> Result<bool, Failure> {
        let Some(note) = self.store.store().trial().map_err(Failure::state)? else {
            self.forget_the_unborn();
            return Ok(false);
        };
        let fallback = self.kernel.as_ref().and_then(Kernel::fallback);
        let former = match &note.former {
            Some(digest) => Some(self.kept(digest)?),
            None => None,
        };
        let record = fallback.and_then(|found| self.store.store().record(found.generation).ok().flatten());
        let left = fallback.map_or(Duration::ZERO, |found| found.left);
        let had_former = former.is_some();
        self.trial = Some(Trial {
            policy: note.policy.clone(),
            former,
            numbering: record.as_ref().map_or_else(Numbering::default, Numbering::of),
            excluded: BTreeSet::new(),
            inputs: None,
            since: note.since,
            until: Instant::now() + left,
            shown: note.until,
        });
        if left.is_zero() {
            self.give_up()?;
            warn!("a policy was not confirmed in time: the former one is in force");
            return Ok(had_former);
        }
        if let Some(trial) = &self.trial {
            self.before.numbering = self.before.numbering.clone().with(&trial.numbering);
        }
        let candidate = self.kept(&note.policy)?;
        self.settle(candidate, &Order::event("the agent was started").even_unwritten())?;
        info!("the policy in force waits for its confirmation");
        Ok(true)
    }

    /// Without a trial: whatever was written down and did not come into force is no generation, and a way
    /// back that is still planned was called off by whoever took the note away. In a folder that is out of
    /// reach there may be a note: the programs go back by themselves.
    fn forget_the_unborn(&mut self) {
        let Some(kernel) = self.kernel.as_mut().filter(|_| self.store.is_there()) else { return };
        kernel.stay();
        let generation = kernel.generation();
        if generation > 0 {
            told(self.store.forget_above(generation, |_| true));
        }
    }

    /// Ends a trial that cannot be gone on with: the former policy is in force again, as far as the
    /// kernel has it.
    pub fn forget_trial(&mut self) {
        self.trial = None;
        self.way_back = None;
        let note = self.store.store().trial().ok().flatten();
        if let Some(kernel) = &mut self.kernel {
            kernel.go_back();
        }
        self.reread();
        let since = match (note, self.generation()) {
            (Some(note), generation) => Some(note.since.max(generation)),
            (None, 0) => None,
            (None, generation) => Some(generation),
        };
        if let Some(since) = since {
            told(self.store.forget_above(since, |_| true));
        }
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

    /// Why a policy is not put in force unless somebody asks for it: it was tried, and not confirmed.
    #[must_use]
    pub fn refusal(&self, candidate: &Candidate) -> Option<Failure> {
        let refused = self.store.store().refused().ok().flatten()?;
        (refused == candidate.submission.content_digest()).then(|| {
            Failure::new(Exit::Failed, "put the policy in force", "it was on trial, and nobody confirmed it")
                .with_remedy("`sg-agent apply` it, or change it")
        })
    }

    /// A policy that somebody asked for is not refused any more.
    pub(super) fn forget_refusal(&self, policy: &Candidate) {
        if self.refusal(policy).is_some() {
            told(self.store.refuse(None));
        }
    }

    fn call_off(&mut self) {
        if let Some(kernel) = &mut self.kernel {
            kernel.stay();
        }
        self.trial = None;
        self.way_back = None;
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
/// What a generation of the former policy is for that lets pass what only the next one covers.
const MADE_READY: &str = "made ready to come back, should the next policy not be confirmed";

fn no_way_back(error: &dyn std::fmt::Display) -> Failure {
    Failure::new(Exit::Failed, "keep the way back to the former policy", error.to_string())
}

/// Records that stay are no reason to stop: what is in force is decided.
fn told(result: Result<(), crate::state::StateError>) {
    if let Err(error) = result {
        warn!("what was not confirmed stays on record: {error}");
    }
}

/// The policy of a host that has none.
fn nothing() -> Candidate {
    Candidate::new(Policy::default(), Submission::default())
}
