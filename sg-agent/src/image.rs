//! A compiled policy in memory: its nodes, what they add up to, and whether they are whole.
//!
//! The layout and the lookup are [`sg_common::image`]'s. [`crate::compile`] makes images; whoever
//! puts one into the kernel reads the nodes here, and checks what it reads back with [`verify()`].

use sg_common::decide::network::Network;
use sg_common::image::{Header, Node, Nodes};
use sha2::{Digest as _, Sha256};

mod verify;

pub use self::verify::{Invalid, verify};

/// A whole image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    nodes: Vec<Node>,
    header: Header,
    stats: Stats,
}

/// What an image was made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Rules of the policy.
    pub rules: usize,
    /// Different prefixes that each rule set distinguishes, added up.
    pub prefixes: usize,
    /// Runs of addresses with one answer that each rule set distinguishes, added up.
    pub intervals: usize,
    /// Different things that addresses may do, in the whole image; two are always there.
    pub classes: usize,
}

impl Image {
    /// Writes the header of `nodes`, whose first node is free and followed by `zones` zones. The
    /// caller holds no more nodes than a `u32` counts.
    pub(crate) fn seal(mut nodes: Vec<Node>, zones: usize, stats: Stats) -> Self {
        let mut header =
            Header { nodes: nodes.len() as u32, zones: 1, zone_count: zones as u32, digest: [0; 8] };
        header.digest = digest(&header, &nodes[1..]);
        nodes[0] = header.to_node();
        Self { nodes, header, stats }
    }

    /// An image from nodes that were written earlier, checked as [`verify()`] does. What it was made
    /// of is not known: its [`Stats`] are zeros.
    ///
    /// # Errors
    ///
    /// [`Invalid`], when they are not a whole image.
    pub fn from_nodes(nodes: Vec<Node>) -> Result<Self, Invalid> {
        let header = verify(&nodes)?;
        Ok(Self { nodes, header, stats: Stats::default() })
    }

    /// The nodes in order, the header first.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// What node 0 says.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// SHA-256 of the image with the digest itself taken as zero. Equal policies have equal digests.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        let mut digest = [0; 32];
        for (bytes, word) in digest.chunks_exact_mut(4).zip(self.header.digest) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        digest
    }

    /// What the image was made of.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Size in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        size_of_val(&self.nodes[..])
    }

    /// The words of all nodes, little-endian: the same bytes on any host.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        self.nodes.iter().flat_map(|node| node.words).flat_map(u32::to_le_bytes).collect()
    }

    /// Checks the image as [`verify()`] does.
    ///
    /// # Errors
    ///
    /// [`Invalid`], when it is not what was compiled.
    pub fn verify(&self) -> Result<(), Invalid> {
        verify(&self.nodes).map(drop)
    }
}

impl Nodes for Image {
    fn node(&self, index: u32) -> Option<&Node> {
        self.nodes.get(index as usize)
    }
}

impl Network for Image {}

/// What a header's digest must be, given the nodes behind it. The digest that it has is left out.
fn digest(header: &Header, rest: &[Node]) -> [u32; 8] {
    let header = Header { digest: [0; 8], ..*header }.to_node();
    let mut sha = Sha256::new();
    // Sixteen nodes at a time: hashing single words would spend its time on buffering.
    let mut bytes = [0; 64 * 16];
    for nodes in std::iter::once(&[header][..]).chain(rest.chunks(16)) {
        let words = nodes.iter().flat_map(|node| &node.words);
        for (bytes, word) in bytes.chunks_exact_mut(4).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        sha.update(&bytes[..nodes.len() * 64]);
    }
    let mut words = [0; 8];
    for (word, bytes) in words.iter_mut().zip(sha.finalize().chunks_exact(4)) {
        let mut octets = [0; 4];
        octets.copy_from_slice(bytes);
        *word = u32::from_le_bytes(octets);
    }
    words
}
