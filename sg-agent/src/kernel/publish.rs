//! Putting an image in force: into the buffer that is not, read back, and flipped.

use std::time::Instant;

use sg_common::{
    abi::Control,
    image::{Header, Node},
};

use super::{Kernel, KernelError, Published, grace::Grace, set::Set};
use crate::image::Image;

impl Kernel {
    /// See [`Kernel::publish`].
    pub(super) fn publish_image(
        &mut self,
        image: &Image,
        generation: u64,
        rules: u32,
    ) -> Result<Published, KernelError> {
        let begin = Instant::now();
        const LIMIT: u64 = (1 << 62) - 1;
        if generation == 0 || generation > LIMIT {
            return Err(KernelError::TooLarge { what: "the generation", found: generation, limit: LIMIT });
        }
        image.verify().map_err(|cause| KernelError::Image { which: "new", cause })?;
        let set = self.set.number;
        let buffer = self.idle_buffer(image, rules)?;
        let has_grown = self.set.number != set;
        write(&self.set, buffer, image.nodes())?;
        self.set.basis.raise(generation)?;
        self.set.control().flip(Control::state_of(generation, buffer));
        self.readers = Grace::Due;
        Ok(Published { generation, micros: begin.elapsed().as_micros() as u64, has_grown })
    }
}

/// Writes nodes into a buffer that no program reads, and reads them back.
pub(super) fn write(set: &Set, buffer: u32, nodes: &[Node]) -> Result<(), KernelError> {
    let shared = set.buffer(buffer);
    if nodes.len() > shared.len() {
        return Err(KernelError::TooLarge {
            what: "the number of nodes",
            found: nodes.len() as u64,
            limit: shared.len() as u64,
        });
    }
    for (to, from) in shared.iter().zip(nodes) {
        to.store(from);
    }
    if shared.iter().zip(nodes).any(|(found, written)| found.load() != *written) {
        return Err(KernelError::ReadBack { what: "the image" });
    }
    Ok(())
}

impl Set {
    /// The nodes of one buffer.
    fn buffer(&self, buffer: u32) -> &[super::memory::SharedNode] {
        let nodes = self.buffer_nodes() as usize;
        let begin = if buffer == 0 { 0 } else { nodes };
        &self.image.all()[begin..begin + nodes]
    }

    /// The nodes in force, as many as their header tells; `None` where nothing is published.
    pub(super) fn nodes(&self) -> Option<Vec<Node>> {
        let state = self.state();
        (state != 0).then(|| self.nodes_of(state))
    }

    /// The nodes of a state's buffer.
    pub(super) fn nodes_of(&self, state: u64) -> Vec<Node> {
        let shared = self.buffer(Control::buffer(state));
        let count = shared.first().and_then(|node| Header::from_node(&node.load()).ok());
        let count = count.map_or(1, |header| header.nodes as usize);
        shared.iter().take(count).map(super::memory::SharedNode::load).collect()
    }

    /// The image in force, verified.
    pub(super) fn current_image(&self) -> Result<Image, KernelError> {
        let nodes = self.nodes().ok_or(KernelError::NothingPublished)?;
        Image::from_nodes(nodes).map_err(|cause| KernelError::Image { which: "current", cause })
    }
}
