//! Runs a case all three ways and tells where they part.

use std::fmt;

use anyhow::{Context as _, Error, Result, ensure};
use sg_agent::image::Image;
use sg_common::{
    abi::{COUNTER_SLOTS, counter_slot},
    decide::{Hook, Outcome},
    unlock::{UNLOCKS, Unlock},
    verdict::{AllowReason, DropReason, Verdict},
    wire::Slice,
};

use super::{
    case::{Case, Frame, Step},
    kernel::Kernel,
    tables,
};
use crate::{
    memory::UserSpace,
    programs::Entry,
    reference::{Answer, Reference, unlocked::Open},
};

/// Where the answers part.
#[derive(Debug)]
pub struct Difference {
    /// The number of the step, from 0; the number of steps where only the end shows it.
    pub step: usize,
    /// What differs.
    pub what: Error,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "step {}: {:#}", self.step, self.what)
    }
}

/// How often each verdict was given, and whether it was audited: what a run has shown.
#[derive(Clone, Debug)]
pub struct Tally(pub [u64; COUNTER_SLOTS as usize]);

impl Default for Tally {
    fn default() -> Self {
        Self([0; COUNTER_SLOTS as usize])
    }
}

impl Tally {
    /// How often `verdict` was given and carried out.
    #[must_use]
    pub const fn of(&self, verdict: Verdict) -> u64 {
        self.0[counter_slot(verdict, false) as usize]
    }

    /// Packets in all.
    #[must_use]
    pub fn packets(&self) -> u64 {
        self.0.iter().sum()
    }
}

/// Tables of so few buckets may be full.
const SMALL: u32 = 4;
/// The tick of user space where there is no kernel to tell one.
const STILL: u32 = 1 << 20;

/// One case in progress.
#[derive(Debug)]
pub struct Trial<'a> {
    case: &'a Case,
    kernel: Option<&'a mut Kernel>,
    user_space: UserSpace,
    reference: Reference,
    image: Image,
    generation: u64,
    now: u32,
    /// What is open past the policy, and until which tick.
    unlocked: Vec<(Unlock, u32)>,
}

impl<'a> Trial<'a> {
    /// Runs a case; without a kernel, in user space and by the reference alone.
    ///
    /// The programs read the clock more than once for a packet. Where it moves between two of their
    /// looks, and that shows, nobody can follow: the case ends there.
    ///
    /// # Errors
    /// Where the answers part, or what could not be done.
    pub fn run(case: &'a Case, kernel: Option<&'a mut Kernel>, tally: &mut Tally) -> Result<(), Difference> {
        let at = |step| move |what| Difference { step, what };
        let mut trial = Self::begin(case, kernel).map_err(at(0))?;
        for (number, step) in case.steps.iter().enumerate().skip(1) {
            if !trial.step(step, tally).map_err(at(number))? {
                return Ok(());
            }
        }
        trial.compare().map_err(at(case.steps.len()))
    }

    fn begin(case: &'a Case, mut kernel: Option<&'a mut Kernel>) -> Result<Self> {
        let Some(Step::Policy(document)) = case.steps.first() else {
            anyhow::bail!("a case begins with a policy")
        };
        let (policy, image) = tables::compiled(document)?;
        let mut now = STILL;
        if let Some(kernel) = &mut kernel {
            kernel.reset(case)?;
            kernel.publish(&image, 1)?;
            now = kernel.tick()?;
        }
        Ok(Self {
            case,
            kernel,
            user_space: UserSpace::tuned(case.buckets, case.timeouts, case.keeps_flows),
            reference: Reference::new(&policy, 1, case.keeps_flows, case.timeouts),
            image,
            generation: 1,
            now,
            unlocked: vec![],
        })
    }

    /// Takes one step. `false`: nothing more can be said.
    fn step(&mut self, step: &Step, tally: &mut Tally) -> Result<bool> {
        match step {
            Step::Policy(document) => {
                self.compare()?;
                self.generation += 1;
                let (policy, image) = tables::compiled(document)?;
                if let Some(kernel) = &mut self.kernel {
                    kernel.publish(&image, self.generation)?;
                }
                self.user_space.set_generation(self.generation);
                self.reference.publish(&policy, self.generation);
                self.image = image;
            }
            Step::Wait(ticks) => {
                self.compare()?;
                if let Some(kernel) = &self.kernel {
                    kernel.age(*ticks);
                }
                tables::age_all(&self.user_space, *ticks);
                self.reference.age(*ticks);
                for (_, until) in &mut self.unlocked {
                    *until = until.saturating_sub(*ticks);
                }
                self.write_unlocked()?;
            }
            Step::Unlock(opened) => {
                if let Some(kernel) = &mut self.kernel {
                    self.now = kernel.tick()?;
                }
                if self.unlocked.len() == UNLOCKS {
                    self.unlocked.remove(0);
                }
                self.unlocked.push((opened.of_every_zone(), self.now.saturating_add(opened.ticks)));
                self.write_unlocked()?;
            }
            Step::Frame(entry, frame) => {
                let Some(outcome) = self.frame(*entry, frame)? else { return Ok(false) };
                tally.0[counter_slot(outcome.verdict, outcome.is_audited) as usize] += 1;
            }
        }
        Ok(true)
    }

    /// Tells all three what is open past the policy.
    fn write_unlocked(&mut self) -> Result<()> {
        if let Some(kernel) = &mut self.kernel {
            kernel.unlock(&self.unlocked)?;
        }
        self.user_space.unlock(&self.unlocked);
        let open = |(unlock, until): &(Unlock, u32)| Open {
            protocol: unlock.protocol.0,
            port: unlock.port,
            address: unlock.remote.into(),
            until: *until,
        };
        self.reference.unlock(self.unlocked.iter().map(open).collect());
        Ok(())
    }

    fn frame(&mut self, entry: Entry, frame: &Frame) -> Result<Option<Outcome>> {
        let outcome = match self.kernel.take() {
            None => Some(self.in_user_space(entry, frame)),
            Some(kernel) => {
                let outcome = self.in_both(kernel, entry, frame);
                self.kernel = Some(kernel);
                outcome?
            }
        };
        let Some(outcome) = outcome else { return Ok(None) };
        let is_ingress = entry != Entry::TcEgress;
        // XDP sees no packet before the kernel has joined it with others.
        let is_gso = frame.is_gso && entry != Entry::Xdp;
        let is_full = outcome.verdict == Verdict::Drop(DropReason::FlowTableFull);
        ensure!(!is_full || self.case.buckets <= SMALL, "so many buckets are not full yet");
        // What an unlock overrules is not told: in a small table it may have been that.
        let may_be_full =
            self.case.buckets <= SMALL && outcome.verdict == Verdict::Allow(AllowReason::Unlock, None);
        self.reference.has_room = !is_full && !may_be_full;
        let answer = self.reference.judge(is_ingress, &frame.bytes, is_gso, self.now);
        let Outcome { verdict, direction, is_audited, has_opened } = outcome;
        let told = Answer { verdict, direction, is_audited, has_opened };
        ensure!(told == answer, "user space: {told:?}, the reference: {answer:?}");
        if self.case.buckets <= SMALL {
            self.make_room(&outcome)?;
            self.compare_flows()?;
        }
        Ok(Some(outcome))
    }

    fn in_user_space(&self, entry: Entry, frame: &Frame) -> Outcome {
        self.judged_at(entry, frame, self.now)
    }

    fn judged_at(&self, entry: Entry, frame: &Frame, now: u32) -> Outcome {
        let hook = if entry == Entry::TcEgress { Hook::Egress } else { Hook::Ingress };
        let is_gso = frame.is_gso && entry != Entry::Xdp;
        self.user_space.judge_at(&self.image, hook, Slice { frame: &frame.bytes, is_gso }, now)
    }

    /// Judges a frame in the kernel and in user space, at the tick that the kernel saw; `None` where it
    /// saw two, and that shows.
    fn in_both(&mut self, kernel: &mut Kernel, entry: Entry, frame: &Frame) -> Result<Option<Outcome>> {
        self.now = kernel.tick()?;
        let answer = kernel.answer(entry, frame)?;
        let after = kernel.tick()?;
        let outcome = if after == self.now {
            self.in_user_space(entry, frame)
        } else if self.unlocked.iter().any(|(_, until)| (self.now..=after).contains(until)) {
            return Ok(None);
        } else {
            // The tick changed on the way: the tables tell on which side of it the packet was.
            let maps = kernel.maps();
            let heap = self.user_space.heap();
            let is_same =
                || tables::same(maps, heap).and_then(|()| tables::same_datagrams(maps, heap)).is_ok();
            let before = tables::snapshot(heap);
            let early = self.in_user_space(entry, frame);
            if is_same() {
                early
            } else {
                tables::restore(heap, &before);
                let late = self.judged_at(entry, frame, after);
                if !is_same() {
                    return Ok(None);
                }
                self.now = after;
                late
            }
        };
        ensure!(
            entry.passes(answer) == outcome.passes(),
            "the program answers {answer:#x}, user space {outcome:?}"
        );
        kernel.has_counted(&outcome).with_context(|| format!("user space: {outcome:?}"))?;
        Ok(Some(outcome))
    }

    /// The reference knows of no buckets: it is told what had to give way, and checks that it may.
    fn make_room(&mut self, outcome: &Outcome) -> Result<()> {
        let live = tables::live(&self.user_space, &self.case.timeouts, self.now);
        let gone: Vec<_> =
            self.reference.flows(self.now).filter(|flow| !tables::holds(&live, flow)).cloned().collect();
        if let [flow] = &gone[..] {
            ensure!(outcome.has_opened && flow.is_expendable(), "a flow gave way that must not: {flow:?}");
        }
        ensure!(gone.len() < 2, "one packet made {} flows give way: {gone:?}", gone.len());
        self.reference.forget(|flow| gone.iter().any(|gone| gone.identity == flow.identity));
        Ok(())
    }

    /// Compares everything that is kept.
    fn compare(&mut self) -> Result<()> {
        if let Some(kernel) = &mut self.kernel {
            kernel.has_counted_nothing_else()?;
            tables::same_datagrams(kernel.maps(), self.user_space.heap())?;
        }
        self.compare_flows()
    }

    /// Compares the flow tables.
    fn compare_flows(&self) -> Result<()> {
        if let Some(kernel) = &self.kernel {
            tables::same(kernel.maps(), self.user_space.heap())?;
        }
        let live = tables::live(&self.user_space, &self.case.timeouts, self.now);
        tables::agrees(&live, self.reference.flows(self.now))
    }
}
