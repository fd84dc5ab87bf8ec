//! The image under construction: nodes that only grow, with equal blocks, classes and rule sets
//! stored once.
//!
//! Blocks of nodes are appended and get their final numbers at once. Classes and rule sets take half
//! a node each; they are kept apart and laid behind the blocks at the end.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, Hasher as _, RandomState},
};

use sg_common::image::{Node, rule_set_word};

/// Half a node: a class or a rule set.
pub(super) type Half = [u32; 8];

/// The image outgrew what the build may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

/// The class that stands for the instance's own addresses. It opens nothing and is never read for
/// what it opens; only its number counts.
pub(super) const OWN_CLASS: u32 = 1;

/// The growing image.
#[derive(Debug)]
pub(super) struct Arena {
    nodes: Vec<Node>,
    /// The build gives up beyond this.
    ceiling: usize,
    blocks: Blocks,
    classes: Halves,
    rule_sets: Halves,
}

impl Arena {
    /// Reserves `head` nodes at the front, to be written at the end.
    pub(super) fn new(head: usize, ceiling: usize) -> Self {
        let nothing = Half::default();
        Self {
            nodes: vec![Node::ZERO; head],
            ceiling,
            blocks: Blocks::default(),
            // Class 0 has no index entry: what opens nothing is told by its number.
            classes: Halves { stored: vec![nothing, nothing], index: HashMap::new() },
            rule_sets: Halves::default(),
        }
    }

    /// How many nodes the image has so far.
    pub(super) fn len(&self) -> usize {
        self.nodes.len() + self.classes.nodes() + self.rule_sets.nodes()
    }

    pub(super) fn classes(&self) -> usize {
        self.classes.stored.len()
    }

    /// The number of the first of consecutive nodes that equal `block`, which is not empty.
    pub(super) fn block(&mut self, block: &[Node]) -> Result<u32, Full> {
        if let Some(found) = self.blocks.find(&self.nodes, block) {
            return Ok(found);
        }
        if self.len() + block.len() > self.ceiling {
            return Err(Full);
        }
        let start = u32::try_from(self.nodes.len()).map_err(|_| Full)?;
        self.nodes.extend_from_slice(block);
        self.blocks.add(start, block);
        Ok(start)
    }

    /// The number of a class; 0 for one that opens nothing.
    pub(super) fn class(&mut self, class: Half) -> Result<u32, Full> {
        if class == Half::default() {
            return Ok(0);
        }
        let number = self.classes.number(class)?;
        if self.len() > self.ceiling { Err(Full) } else { Ok(number) }
    }

    /// A handle on a rule set, for [`finish`](Self::finish) to turn into a half number. Its word
    /// for the classes is a class number, not yet a half number.
    pub(super) fn rule_set(&mut self, set: Half) -> Result<u32, Full> {
        let number = self.rule_sets.number(set)?;
        if self.len() > self.ceiling { Err(Full) } else { Ok(number) }
    }

    /// All nodes, and the half number of rule set 0.
    pub(super) fn finish(mut self) -> Result<(Vec<Node>, u32), Full> {
        let half = |nodes: usize| u32::try_from(nodes * 2).map_err(|_| Full);
        let first_class = half(self.nodes.len())?;
        self.nodes.extend(self.classes.to_nodes());
        let first_set = half(self.nodes.len())?;
        for set in &mut self.rule_sets.stored {
            set[rule_set_word::CLASSES] += first_class;
        }
        self.nodes.extend(self.rule_sets.to_nodes());
        half(self.nodes.len())?;
        Ok((self.nodes, first_set))
    }
}

/// An array of halves, each stored once.
#[derive(Debug, Default)]
struct Halves {
    stored: Vec<Half>,
    index: HashMap<Half, u32>,
}

impl Halves {
    fn nodes(&self) -> usize {
        self.stored.len().div_ceil(2)
    }

    fn number(&mut self, half: Half) -> Result<u32, Full> {
        if let Some(number) = self.index.get(&half) {
            return Ok(*number);
        }
        let number = u32::try_from(self.stored.len()).map_err(|_| Full)?;
        self.stored.push(half);
        self.index.insert(half, number);
        Ok(number)
    }

    fn to_nodes(&self) -> impl Iterator<Item = Node> {
        self.stored.chunks(2).map(|pair| {
            let mut node = Node::ZERO;
            for (words, half) in node.words.chunks_exact_mut(8).zip(pair) {
                words.copy_from_slice(half);
            }
            node
        })
    }
}

/// Finds blocks by content. The content itself stays in the arena.
#[derive(Debug, Default)]
struct Blocks {
    /// Only ever asked for one key, so that its random seeds cannot show in the image.
    hasher: RandomState,
    /// From a content's hash to the last block that has it.
    heads: HashMap<u64, u32>,
    blocks: Vec<Block>,
}

#[derive(Debug)]
struct Block {
    start: u32,
    len: u32,
    /// Another block with the same hash.
    next: Option<u32>,
}

impl Blocks {
    fn hash(&self, block: &[Node]) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        for node in block {
            for pair in node.words.chunks_exact(2) {
                hasher.write_u64(u64::from(pair[0]) | u64::from(pair[1]) << 32);
            }
        }
        hasher.finish()
    }

    fn find(&self, nodes: &[Node], wanted: &[Node]) -> Option<u32> {
        let mut next = self.heads.get(&self.hash(wanted)).copied();
        while let Some(block) = next.and_then(|index| self.blocks.get(index as usize)) {
            let start = block.start as usize;
            if nodes.get(start..start + block.len as usize) == Some(wanted) {
                return Some(block.start);
            }
            next = block.next;
        }
        None
    }

    fn add(&mut self, start: u32, block: &[Node]) {
        // Every block has a node of its own, so there are no more blocks than node numbers.
        let index = self.blocks.len() as u32;
        let next = self.heads.insert(self.hash(block), index);
        self.blocks.push(Block { start, len: block.len() as u32, next });
    }
}
