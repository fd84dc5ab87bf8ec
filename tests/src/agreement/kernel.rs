//! The loaded programs, made ready for one case after the other.

use anyhow::{Context as _, Result, ensure};
use sg_agent::image::Image;
use sg_common::{
    abi::{COUNTER_SLOTS, TICK_SHIFT, counter_index},
    decide::Outcome,
    flow::{self, Life},
    unlock::Unlock,
    verdict::{RuleNumber, Verdict},
};

use super::{
    case::{Case, Frame},
    compiled::NODES,
    tables,
};
use crate::programs::{
    Entry, Programs, Sizes,
    tables::{DATAGRAM_WORDS, ENTRY_WORDS, FlowMaps},
};

/// How large the maps are: no case has more buckets or rules.
pub(super) const SIZES: Sizes = Sizes { nodes: NODES, buckets: 64, rules: 256 };

/// Bits of the tick that the clock program tells.
const TOLD: u32 = (1 << (32 - TICK_SHIFT)) - 1;

/// The programs, their flow table, and what their counters ought to say.
#[derive(Debug)]
pub struct Kernel {
    programs: Programs,
    maps: FlowMaps,
    counted: Vec<u64>,
    by_rule: Vec<u64>,
    /// The bits of the tick that the clock program does not tell.
    era: u32,
}

impl Kernel {
    /// Loads them.
    ///
    /// # Errors
    /// The kernel refuses them.
    pub fn load() -> Result<Self> {
        let mut programs = Programs::load(sg_agent::kernel::object(), SIZES)?;
        let maps = programs.flow_maps(SIZES.buckets)?;
        let mut kernel = Self { programs, maps, counted: vec![], by_rule: vec![], era: 0 };
        kernel.read_era().context("read the kernel's clock")?;
        Ok(kernel)
    }

    /// Opens a flow and looks at its time.
    fn read_era(&mut self) -> Result<()> {
        let case = Case::parse(ANY_FLOW)?;
        let [super::Step::Policy(document), super::Step::Frame(entry, frame)] = &case.steps[..] else {
            anyhow::bail!("the case is another")
        };
        self.reset(&case)?;
        let (_, image) = tables::compiled(document)?;
        self.publish(&image, 1)?;
        let answer = self.programs.answer(*entry, &frame.bytes, false)?;
        ensure!(entry.passes(answer), "the packet does not pass");
        let lives = self.maps.entries.words().iter().step_by(ENTRY_WORDS).map(|life| Life(life.load()));
        let life = lives.into_iter().find(|life| life.state().is_some()).context("no flow was opened")?;
        self.era = life.seen() & !TOLD;
        Ok(())
    }

    /// Forgets every flow and takes the settings of a case.
    ///
    /// # Errors
    /// A map cannot be read or written.
    pub fn reset(&mut self, case: &Case) -> Result<()> {
        ensure!(case.buckets <= SIZES.buckets, "at most {} buckets", SIZES.buckets);
        for map in [&self.maps.buckets, &self.maps.entries, &self.maps.tails, &self.maps.datagrams] {
            map.words().iter().for_each(|word| word.store(0));
        }
        self.programs.unlock(&[])?;
        self.programs.tune(case.buckets, case.timeouts, case.keeps_flows)?;
        self.counted = self.programs.all_counted()?;
        self.by_rule = self.programs.counted_by_rule(SIZES.rules)?;
        Ok(())
    }

    /// Puts an image in force.
    ///
    /// # Errors
    /// It does not fit, or cannot be written.
    pub fn publish(&mut self, image: &Image, generation: u64) -> Result<()> {
        self.programs.publish(image, generation)
    }

    /// These ports are open past the policy, each until its tick, and no others.
    ///
    /// # Errors
    /// A map cannot be written.
    pub fn unlock(&mut self, unlocked: &[(Unlock, u32)]) -> Result<()> {
        self.programs.unlock(unlocked)
    }

    /// The present tick.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn tick(&mut self) -> Result<u32> {
        Ok(self.era | self.programs.clock()? >> TICK_SHIFT)
    }

    /// All that happened lies this many ticks further back.
    pub fn age(&self, ticks: u32) {
        for entry in self.maps.entries.words().chunks_exact(ENTRY_WORDS) {
            let opening = std::mem::offset_of!(flow::Entry, opening) / size_of::<u64>();
            tables::age(&entry[0], &entry[opening], ticks);
        }
        for place in self.maps.datagrams.words().chunks_exact(DATAGRAM_WORDS) {
            tables::age_datagram(&place[0], ticks);
        }
    }

    /// Runs a frame through the program of `entry`. Gives its answer.
    ///
    /// # Errors
    /// The kernel refuses the run.
    pub fn answer(&mut self, entry: Entry, frame: &Frame) -> Result<u32> {
        self.programs.answer(entry, &frame.bytes, frame.is_gso)
    }

    /// Whether the programs have counted one more packet, as `outcome` says, and for its rule.
    ///
    /// # Errors
    /// They have not, or it cannot be read.
    pub fn has_counted(&mut self, outcome: &Outcome) -> Result<()> {
        let slot = sg_common::abi::counter_slot(outcome.verdict, outcome.is_audited);
        let index = counter_index(0, outcome.direction, slot) as usize;
        self.counted[index] += 1;
        let counted = self.programs.counted(outcome.direction, slot)?;
        ensure!(counted == self.counted[index], "the program has counted something else");
        if let Verdict::Allow(_, Some(RuleNumber(rule))) = outcome.verdict {
            let expected = self.by_rule.get_mut(rule as usize).context("a rule without a counter")?;
            *expected += 1;
            ensure!(self.programs.counted_for(rule)? == *expected, "the program has counted another rule");
        }
        Ok(())
    }

    /// Whether no counter has moved but those that [`Self::has_counted`] was asked for.
    ///
    /// # Errors
    /// One has, or it cannot be read.
    pub fn has_counted_nothing_else(&mut self) -> Result<()> {
        let counted = self.programs.all_counted()?;
        for (index, (found, expected)) in counted.iter().zip(&self.counted).enumerate() {
            let (direction, slot) = (index as u32 / COUNTER_SLOTS, index as u32 % COUNTER_SLOTS);
            ensure!(found == expected, "counter {slot} of direction {direction}: {found}, not {expected}");
        }
        let by_rule = self.programs.counted_by_rule(SIZES.rules)?;
        ensure!(by_rule == self.by_rule, "the rules' counters: {by_rule:?}, not {:?}", self.by_rule);
        Ok(())
    }

    /// The flow table.
    #[must_use]
    pub const fn maps(&self) -> &FlowMaps {
        &self.maps
    }
}

const ANY_FLOW: &str = "policy
    version: 1
    groups:
      a: {inbound: []}
    interfaces:
      - {match: eth0, groups: [a]}
tc_egress 02000000000202000000000108004500001c00004000401100000a0000010a0000020001000200080000
";
