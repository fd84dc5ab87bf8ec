//! The image map: the buffer that is in force, and the searches in it.

use aya_ebpf::{bindings::BPF_F_MMAPABLE, macros::map, maps::Array};
use sg_common::{
    abi::Control,
    addr::Addr,
    decide::network::{self, AnswerBits, Network},
    flow::identity::Way,
    image::{self, CHUNK_NODES, Chunk, Node, Nodes},
    verdict::DropReason,
    wire::{Packet, Payload},
};

use crate::cursor::opaque;

#[map]
static IMAGE: Array<Chunk> = Array::with_max_entries(2, BPF_F_MMAPABLE);

/// The buffer of the image map that is in force. Its first chunk is looked up once, and the nodes in
/// it, which are all of most images, are then only an offset away.
#[derive(Clone, Copy)]
pub(crate) struct Image {
    chunk: u32,
    first: &'static Chunk,
}

impl Image {
    #[inline(always)]
    pub(crate) fn new(control: &Control, state: u64) -> Option<Self> {
        /// No map is so large: the image cannot be read, since there is none.
        const NOWHERE: u32 = 1 << 31;
        let chunk = if Control::buffer(state) == 0 { 0 } else { control.buffer_nodes / CHUNK_NODES };
        Self::at(if state == 0 { NOWHERE } else { chunk })
    }

    #[inline(always)]
    fn at(chunk: u32) -> Option<Self> {
        IMAGE.get(chunk).map(|first| Self { chunk, first })
    }
}

impl Image {
    /// A node of the first chunk.
    #[inline(always)]
    fn near(&self, index: u32) -> Option<&'static Node> {
        // Compared as it is used: the verifier bounds the register that it sees compared.
        let index = opaque(index as usize);
        if index < CHUNK_NODES as usize { self.first.get(index) } else { None }
    }
}

/// An image as the functions see it that search it.
struct Whole(Image);

impl Nodes for Whole {
    #[inline(always)]
    fn node(&self, index: u32) -> Option<&Node> {
        let Self(image) = self;
        if let Some(node) = image.near(index) {
            return Some(node);
        }
        let chunk = IMAGE.get(image.chunk.wrapping_add(index / CHUNK_NODES))?;
        chunk.get((index % CHUNK_NODES) as usize)
    }

    #[inline(always)]
    fn class_of(&self, set: u32, address: Addr) -> u64 {
        image_class(self.0.chunk, set, address.hi(), address.lo())
    }

    #[inline(always)]
    fn key_v6(&self, keys: u32, key_nodes: u32, half: u64) -> u32 {
        image_key_v6(self.0.chunk, keys, key_nodes, half)
    }
}

impl Nodes for Image {
    /// The programs themselves read the records of zones alone, which lie at the beginning.
    #[inline(always)]
    fn node(&self, index: u32) -> Option<&Node> {
        self.near(index)
    }

    #[inline(always)]
    fn class_of(&self, set: u32, address: Addr) -> u64 {
        image_class(self.chunk, set, address.hi(), address.lo())
    }

    #[inline(always)]
    fn answer(&self, set: u32, address: Addr, selector: u32) -> u64 {
        image_answer(self.chunk, set, address.hi(), address.lo(), selector)
    }
}

impl Network for Image {
    #[inline(always)]
    fn network(&self, packet: &Packet, payload: Payload, way: Way) -> AnswerBits {
        AnswerBits(image_network(packet, self.chunk, payload.0.into(), way.to_bits()))
    }
}

// Functions of their own, as in [`crate::maps`].

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn image_class(chunk: u32, set: u32, high: u64, low: u64) -> u64 {
    match Image::at(chunk) {
        Some(image) => image::class_of(&Whole(image), set, Addr::v6(high, low)),
        None => image::CORRUPT,
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn image_answer(chunk: u32, set: u32, high: u64, low: u64, selector: u32) -> u64 {
    match Image::at(chunk) {
        Some(image) => image::answer(&Whole(image), set, Addr::v6(high, low), selector),
        None => image::CORRUPT,
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn image_key_v6(chunk: u32, keys: u32, key_nodes: u32, half: u64) -> u32 {
    match Image::at(chunk) {
        Some(image) => image::key_v6(&Whole(image), keys, key_nodes, half),
        None => image::NO_KEY,
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn image_network(packet: *const Packet, chunk: u32, payload: u32, way: u32) -> u32 {
    // SAFETY: callers pass a reference. The verifier takes it for a pointer that may be null.
    let (Some(packet), Some(image)) = (unsafe { packet.as_ref() }, Image::at(chunk)) else {
        return AnswerBits::pack(Err(DropReason::PolicyUnavailable)).0;
    };
    network::answer(&Whole(image), packet, Payload(payload as u16), Way::from_bits(way)).0
}
