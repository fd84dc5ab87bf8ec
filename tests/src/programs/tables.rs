//! What a test of sequences needs of the maps: a clean flow table, another clock, every word.

use std::os::fd::AsFd as _;

use anyhow::{Context as _, Result, bail};
use aya::{
    TestRun as _,
    maps::{Array, Map, PerCpuArray},
    programs::{Program, SchedClassifier, TestRunOptions, Xdp},
};
use sg_common::{
    abi::{COUNTER_SLOTS, map, program},
    flow::{Bucket, Datagram, SLOTS, datagram::DATAGRAMS},
    shared::Word,
    unlock::{Place, Unlock, Unlocks},
};

use super::{Entry as Hook, Programs};
use crate::{memory::written, syscall::mapping::Mapping};

pub use crate::memory::ENTRY_WORDS;

/// Words of a bucket.
pub const BUCKET_WORDS: usize = size_of::<Bucket>() / 8;
/// Words of what is kept of a datagram.
pub const DATAGRAM_WORDS: usize = size_of::<Datagram>() / 8;

/// The flow table's memory.
#[derive(Debug)]
pub struct FlowMaps {
    /// The buckets' words.
    pub buckets: Mapping,
    /// The entries' words.
    pub entries: Mapping,
    /// The words of what goes with the entries.
    pub tails: Mapping,
    /// The words of what is kept of datagrams.
    pub datagrams: Mapping,
}

impl Programs {
    /// Maps the flow table of `buckets` buckets.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn flow_maps(&mut self, buckets: u32) -> Result<FlowMaps> {
        let buckets = buckets as usize;
        Ok(FlowMaps {
            buckets: self.mapping(map::FLOW_BUCKETS, buckets * BUCKET_WORDS)?,
            entries: self.mapping(map::FLOW_ENTRIES, buckets * SLOTS as usize * ENTRY_WORDS)?,
            tails: self.mapping(map::FLOW_TAILS, buckets * SLOTS as usize * ENTRY_WORDS)?,
            datagrams: self.mapping(map::DATAGRAMS, DATAGRAMS as usize * DATAGRAM_WORDS)?,
        })
    }

    pub(super) fn mapping(&mut self, name: &str, words: usize) -> Result<Mapping> {
        let Map::Array(data) = self.map(name)? else { bail!("map {name} is no array") };
        Mapping::open(data.fd().as_fd(), words).with_context(|| format!("map {name} into memory"))
    }

    /// Uses the first `buckets` buckets alone, with these timeouts in ticks.
    ///
    /// # Errors
    /// The map cannot be written.
    pub fn tune(&mut self, buckets: u32, timeouts: [u32; 8], keeps_flows: bool) -> Result<()> {
        self.control.bucket_mask = buckets - 1;
        self.control.timeouts = timeouts;
        self.control.keep_flows = keeps_flows.into();
        self.write_control()
    }

    /// These ports are open past the policy, each until its tick, and no others.
    ///
    /// # Errors
    /// A map cannot be written.
    pub fn unlock(&mut self, unlocked: &[(Unlock, u32)]) -> Result<()> {
        const WORDS: usize = size_of::<Unlocks>() / 8;
        let unlocks = Unlocks::default();
        self.control.unlocked_until = written(&unlocks, unlocked);
        let words = unlocks.places.iter().flat_map(|place| {
            let Place { until, remote: [high, low], what, mask } = place;
            [until, high, low, what, mask].map(Word::load)
        });
        let words: Vec<u64> = words.collect();
        let words: [u64; WORDS] = words.try_into().map_err(|_| anyhow::anyhow!("Unlocks has grown"))?;
        Array::<_, [u64; WORDS]>::try_from(self.map(map::UNLOCKS)?)?.set(0, words, 0)?;
        self.write_control()
    }

    /// The present tick.
    ///
    /// # Errors
    /// The kernel refuses the run.
    pub fn clock(&mut self) -> Result<u32> {
        let (jiffies, _) = self.run(program::CLOCK, &[0; 64], 1)?;
        Ok(jiffies)
    }

    /// Runs the program of `hook` on a frame that stands for several packets where `is_gso`, which
    /// XDP never sees. Gives its answer.
    ///
    /// # Errors
    /// The kernel refuses the run.
    pub fn answer(&mut self, hook: Hook, frame: &[u8], is_gso: bool) -> Result<u32> {
        // The place and size of `gso_size` in the kernel's `__sk_buff`.
        const GSO_SIZE: usize = 176;
        const SK_BUFF: usize = 192;
        let mut context = [0; SK_BUFF];
        context[GSO_SIZE..GSO_SIZE + 2].copy_from_slice(&1_448_u16.to_ne_bytes());
        let data_in = Some(frame);
        let name = hook.program();
        match self.ebpf.program_mut(name).with_context(|| format!("no program {name}"))? {
            Program::Xdp(xdp) => {
                Ok(Xdp::test_run(xdp, TestRunOptions { data_in, ..TestRunOptions::new() })?.return_value)
            }
            Program::SchedClassifier(classifier) => {
                let ctx_in = is_gso.then_some(&context[..]);
                let options = TestRunOptions { data_in, ctx_in, ..TestRunOptions::new() };
                Ok(SchedClassifier::test_run(classifier, options)?.return_value)
            }
            _ => bail!("program {name} is of a kind that is not ours"),
        }
    }

    /// Packets by counter of zone 0: inbound, then outbound.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn all_counted(&mut self) -> Result<Vec<u64>> {
        let counters = PerCpuArray::<_, [u64; 2]>::try_from(self.map(map::COUNTERS)?)?;
        (0..2 * COUNTER_SLOTS)
            .map(|index| Ok(counters.get(&index, 0)?.iter().map(|[packets, _]| packets).sum()))
            .collect()
    }

    /// Packets counted for one rule.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn counted_for(&mut self, rule: u32) -> Result<u64> {
        let counters = PerCpuArray::<_, [u64; 4]>::try_from(self.map(map::RULE_COUNTERS)?)?;
        Ok(counters.get(&rule, 0)?.iter().map(|[_, packets, ..]| packets).sum())
    }
}
