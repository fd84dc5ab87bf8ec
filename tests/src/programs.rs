//! The programs in the kernel without an agent: loaded by hand, fed with packets by test-run.
//!
//! What it loads is what the agent embeds. Maps are this
//! process's alone; nothing is pinned or attached.

use std::{
    os::fd::{AsFd as _, BorrowedFd},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use aya::{
    Ebpf, EbpfLoader, TestRun as _,
    maps::{Array, Map, PerCpuArray},
    programs::{Program, SchedClassifier, TestRunOptions, TestRunResult, Xdp},
};
use sg_agent::image::Image;
use sg_common::{
    abi::{ATTACHMENT_SLOTS, COUNTER_SLOTS, Control, counter_index, map},
    flow::{SLOTS, Timeout},
    image::{CHUNK_NODES, Node},
    tuple::Direction,
};

pub use crate::entry::Entry;
use crate::memory::HASH_KEYS;

pub mod tables;

/// The interface that test-run gives a packet: loopback, in every network namespace.
pub const IFINDEX: u32 = 1;

/// 64-bit words of a node.
const NODE_WORDS: usize = size_of::<Node>() / 8;

/// How large the maps are made.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Nodes in one image buffer.
    pub nodes: u32,
    /// Flow buckets: a power of two.
    pub buckets: u32,
    /// Rules that have counters.
    pub rules: u32,
}

/// The programs and their maps.
#[derive(Debug)]
pub struct Programs {
    ebpf: Ebpf,
    control: Control,
}

impl Programs {
    /// Loads `object`. The zone number of [`IFINDEX`] is 0.
    ///
    /// # Errors
    ///
    /// When the kernel refuses it, with the verifier's reasons.
    pub fn load(object: &[u8], sizes: Sizes) -> Result<Self> {
        let mut loader = EbpfLoader::new();
        loader
            .map_max_entries(map::IMAGE, sizes.nodes.div_ceil(CHUNK_NODES) * 2)
            .map_max_entries(map::FLOW_BUCKETS, sizes.buckets)
            .map_max_entries(map::FLOW_ENTRIES, sizes.buckets * SLOTS)
            .map_max_entries(map::FLOW_TAILS, sizes.buckets * SLOTS)
            .map_max_entries(map::COUNTERS, 2 * COUNTER_SLOTS)
            .map_max_entries(map::RULE_COUNTERS, sizes.rules.max(1))
            .map_max_entries(map::EVENTS, 4096);
        let mut ebpf = loader.load(object).context("cannot load the programs")?;
        for (name, program) in ebpf.programs_mut() {
            match program {
                Program::Xdp(program) => program.load(),
                Program::SchedClassifier(program) => program.load(),
                _ => bail!("program {name} is of a kind that is not ours"),
            }
            .with_context(|| format!("program {name}"))?;
        }
        let control = Control {
            state: 0,
            fallback: 0,
            fallback_at: Control::NEVER,
            unlocked_until: 0,
            hash_keys: HASH_KEYS,
            buffer_nodes: sizes.nodes.next_multiple_of(CHUNK_NODES),
            bucket_mask: sizes.buckets - 1,
            timeouts: [1 << 24; 8],
            events: 0,
            keep_flows: 0,
        };
        let mut programs = Self { ebpf, control };
        programs.write_control()?;
        let slot = sg_common::abi::attachment_slot(IFINDEX, 0);
        debug_assert!(slot < ATTACHMENT_SLOTS);
        Array::<_, [u32; 2]>::try_from(programs.map(map::ATTACHMENTS)?)?.set(slot, [IFINDEX, 0], 0)?;
        Ok(programs)
    }

    fn map(&mut self, name: &str) -> Result<&mut Map> {
        self.ebpf.map_mut(name).with_context(|| format!("no map {name} in the object"))
    }

    fn write_control(&mut self) -> Result<()> {
        const WORDS: usize = size_of::<Control>() / 8;
        let Control {
            state,
            fallback,
            fallback_at,
            unlocked_until,
            hash_keys,
            buffer_nodes,
            bucket_mask,
            timeouts,
            events,
            keep_flows,
        } = self.control;
        let pair = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
        let mut words = vec![state, fallback, fallback_at, unlocked_until];
        words.extend(hash_keys);
        words.push(pair(buffer_nodes, bucket_mask));
        words.extend(timeouts.chunks(2).map(|two| pair(two[0], two[1])));
        words.push(pair(events, keep_flows));
        let words: [u64; WORDS] = words.try_into().map_err(|_| anyhow::anyhow!("Control has grown"))?;
        Array::<_, [u64; WORDS]>::try_from(self.map(map::CONTROL)?)?.set(0, words, 0)?;
        Ok(())
    }

    /// Puts `image` in force as `generation`.
    ///
    /// # Errors
    ///
    /// When it does not fit, or cannot be written.
    pub fn publish(&mut self, image: &Image, generation: u64) -> Result<()> {
        let buffer = (generation & 1) as u32;
        let base = buffer * self.control.buffer_nodes;
        let words = 2 * self.control.buffer_nodes as usize * NODE_WORDS;
        let memory = self.mapping(map::IMAGE, words)?;
        let written = memory.words().iter().skip(base as usize * NODE_WORDS);
        let pairs = image.nodes().iter().flat_map(|node| node.words.as_chunks::<2>().0);
        for (word, [low, high]) in written.zip(pairs) {
            word.store(u64::from(*low) | u64::from(*high) << 32);
        }
        self.control.state = Control::state_of(generation, buffer);
        self.write_control()
    }

    /// Sets one idle timeout in ticks.
    ///
    /// # Errors
    ///
    /// When the map cannot be written.
    pub fn set_timeout(&mut self, timeout: Timeout, ticks: u32) -> Result<()> {
        self.control.timeouts[timeout as usize] = ticks;
        self.write_control()
    }

    /// A program's descriptor, for others to call it.
    ///
    /// # Errors
    ///
    /// When the object has no such program.
    pub fn descriptor(&self, program: &str) -> Result<BorrowedFd<'_>> {
        let found = self.ebpf.program(program).with_context(|| format!("no program {program}"))?;
        Ok(found.fd()?.as_fd())
    }

    /// Runs a program on `frame`, `repeat` times. Gives its last answer and the mean time of a run.
    ///
    /// # Errors
    ///
    /// When the kernel refuses the run.
    pub fn run(&mut self, program: &str, frame: &[u8], repeat: u32) -> Result<(u32, Duration)> {
        let options = TestRunOptions { data_in: Some(frame), repeat, ..TestRunOptions::new() };
        let found = self.ebpf.program_mut(program).with_context(|| format!("no program {program}"))?;
        let TestRunResult { return_value, duration, .. } = match found {
            Program::Xdp(xdp) => Xdp::test_run(xdp, options)?,
            Program::SchedClassifier(classifier) => SchedClassifier::test_run(classifier, options)?,
            _ => bail!("program {program} is of a kind that is not ours"),
        };
        Ok((return_value, duration))
    }

    /// Packets counted in a direction's slot, since loading.
    ///
    /// # Errors
    ///
    /// When the map cannot be read.
    pub fn counted(&mut self, direction: Direction, slot: u32) -> Result<u64> {
        let counters = PerCpuArray::<_, [u64; 2]>::try_from(self.map(map::COUNTERS)?)?;
        let values = counters.get(&counter_index(0, direction, slot), 0)?;
        Ok(values.iter().map(|[packets, _]| packets).sum())
    }

    /// Packets counted for each rule number below `count`, since loading.
    ///
    /// # Errors
    ///
    /// When the map cannot be read.
    pub fn counted_by_rule(&mut self, count: u32) -> Result<Vec<u64>> {
        let counters = PerCpuArray::<_, [u64; 4]>::try_from(self.map(map::RULE_COUNTERS)?)?;
        (0..count)
            .map(|rule| Ok(counters.get(&rule, 0)?.iter().map(|[_, packets, ..]| packets).sum()))
            .collect()
    }

    /// How many instructions the verifier went through for each program.
    ///
    /// # Errors
    ///
    /// When the kernel does not tell.
    pub fn verified_instructions(&self) -> Result<Vec<(String, u32)>> {
        let mut counts = Vec::new();
        for (name, program) in self.ebpf.programs() {
            let info = match program {
                Program::Xdp(program) => program.info()?,
                Program::SchedClassifier(program) => program.info()?,
                _ => continue,
            };
            counts.push((name.to_owned(), info.verified_instruction_count().unwrap_or_default()));
        }
        counts.sort();
        Ok(counts)
    }
}
