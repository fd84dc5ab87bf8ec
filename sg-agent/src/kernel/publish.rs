//! Putting an image in force: into the buffer that is not, read back, and flipped.

use std::time::Instant;

use sg_common::{
    abi::Control,
    image::{Header, Node, ZONES},
};

use super::{Kernel, KernelError, Published, grace::Grace, memory::SharedNode, set::Set};
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

/// Writes nodes into a buffer that no program reads, and reads them back. Where records of zones could
/// lie behind them nothing is left of what was there before: a zone that the image lacks must not be
/// found in an older one.
pub(super) fn write(set: &Set, buffer: u32, nodes: &[Node]) -> Result<(), KernelError> {
    let count = u32::try_from(nodes.len()).unwrap_or(u32::MAX);
    let reach = ZONES.saturating_add(set.zones()).min(set.buffer_nodes());
    let shared = set.buffer(buffer, count.max(reach))?;
    let wanted = || shared.all().iter().zip(nodes.iter().chain(std::iter::repeat(&Node::ZERO)));
    for (to, from) in wanted() {
        to.store(from);
    }
    if wanted().any(|(found, written)| found.load() != *written) {
        return Err(KernelError::ReadBack { what: "the image" });
    }
    Ok(())
}

impl Set {
    /// The nodes in force, as many as their header tells; `None` where nothing is published.
    pub(super) fn nodes(&self) -> Result<Option<Vec<Node>>, KernelError> {
        let state = self.state();
        if state == 0 { Ok(None) } else { self.nodes_of(state).map(Some) }
    }

    /// The nodes of a state's buffer.
    pub(super) fn nodes_of(&self, state: u64) -> Result<Vec<Node>, KernelError> {
        let buffer = Control::buffer(state);
        let first = self.buffer(buffer, 1)?.all().first().map(SharedNode::load);
        let header = first.and_then(|node| Header::from_node(&node).ok());
        // What says it has more than there is is no image, which whoever verifies it tells.
        let count = header.map_or(1, |header| header.nodes).min(self.buffer_nodes()).max(1);
        Ok(self.buffer(buffer, count)?.all().iter().map(SharedNode::load).collect())
    }

    /// The image in force, verified.
    pub(super) fn current_image(&self) -> Result<Image, KernelError> {
        let nodes = self.nodes()?.ok_or(KernelError::NothingPublished)?;
        Image::from_nodes(nodes).map_err(|cause| KernelError::Image { which: "current", cause })
    }
}
