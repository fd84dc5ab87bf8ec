//! The packet's memory: the only packet pointers, and the checks that make them good.

use core::marker::PhantomData;

use aya_ebpf::{
    EbpfContext as _,
    helpers::bpf_xdp_get_buff_len,
    programs::{TcContext, XdpContext},
};
use sg_common::wire::{Bytes, Cursor};

/// Headers that lie further back than this are not looked for: two tags, an IPv6 header and eight
/// extension headers of common size fit.
const REACH: usize = 1024;
/// How much of a frame is made contiguous when a header is not in its first buffer.
const PULL: u32 = 512;

/// A hook's context, as a source of frames.
pub(crate) trait FrameSource {
    /// The interface that the packet came in or goes out by.
    fn ifindex(&self) -> u32;
    /// The frame as it is.
    fn frame(&self) -> Frame<'_, Self>
    where
        Self: Sized;
    /// The frame with more of it in the first buffer, or `None` where nothing can be done.
    fn pull(&self) -> Option<Frame<'_, Self>>
    where
        Self: Sized;
    /// The EtherType as the kernel knows it, in host order; 0 where it does not tell.
    fn ethertype(&self) -> u16;
    /// VLAN tags that the NIC has taken out of the frame.
    fn tags_out(&self) -> u32;
    /// Length of the frame over all its buffers; may cost a helper call.
    fn full_length(&self) -> usize;
    /// Length of the frame, or of its first buffer where the whole is not known without cost.
    fn cheap_length(&self) -> usize;
    /// Whether the frame stands for several packets.
    fn is_gso(&self) -> bool;
}

/// The first buffer of a frame.
pub(crate) struct Frame<'a, S> {
    data: usize,
    end: usize,
    source: &'a S,
}

impl<'a, S: FrameSource> Cursor for Frame<'a, S> {
    type Bytes = Found<'a>;

    #[inline(always)]
    fn look(&self, offset: usize, length: usize) -> Option<Found<'a>> {
        if offset > REACH {
            return None;
        }
        let start = self.data + offset;
        // The verifier learns from `start + length > end`, and from nothing that the optimiser
        // might make of it: `start >= end` says the same of one octet, but teaches it nothing.
        let mut stop = start + length;
        // SAFETY: no instruction; the value only passes through a register.
        unsafe { core::arch::asm!("/* {0} */", inout(reg) stop, options(nomem, nostack, preserves_flags)) };
        if stop > self.end {
            return None;
        }
        Some(Found { start, frame: PhantomData })
    }

    #[inline(always)]
    fn has(&self, length: usize) -> bool {
        length <= self.source.cheap_length() || length <= self.source.full_length()
    }

    #[inline(always)]
    fn length(&self) -> usize {
        self.source.cheap_length()
    }

    #[inline(always)]
    fn is_gso(&self) -> bool {
        self.source.is_gso()
    }
}

/// Octets of the packet that [`Frame::look`] has found.
#[derive(Clone, Copy)]
pub(crate) struct Found<'a> {
    start: usize,
    frame: PhantomData<&'a [u8]>,
}

impl Found<'_> {
    #[inline(always)]
    fn read<T: Copy>(self, at: usize) -> T {
        // SAFETY: `look` compared the end of what it found with the end of the buffer, and callers
        // stay within what they looked for; the verifier proves both anew at every load. BPF
        // targets that run this have unaligned loads.
        unsafe { *((self.start + at) as *const T) }
    }
}

impl Bytes for Found<'_> {
    #[inline(always)]
    fn u8(self, at: usize) -> u8 {
        self.read(at)
    }

    #[inline(always)]
    fn u16(self, at: usize) -> u16 {
        u16::from_be(self.read(at))
    }

    #[inline(always)]
    fn u32(self, at: usize) -> u32 {
        u32::from_be(self.read(at))
    }

    #[inline(always)]
    fn u64(self, at: usize) -> u64 {
        u64::from_be(self.read(at))
    }
}

impl FrameSource for XdpContext {
    #[inline(always)]
    fn ifindex(&self) -> u32 {
        self.ingress_ifindex() as u32
    }

    #[inline(always)]
    fn frame(&self) -> Frame<'_, Self> {
        Frame { data: self.data(), end: self.data_end(), source: self }
    }

    #[inline(always)]
    fn pull(&self) -> Option<Frame<'_, Self>> {
        None
    }

    #[inline(always)]
    fn ethertype(&self) -> u16 {
        0
    }

    #[inline(always)]
    fn tags_out(&self) -> u32 {
        0
    }

    #[inline(always)]
    fn full_length(&self) -> usize {
        // SAFETY: the context is the one that the kernel passed to the program.
        unsafe { bpf_xdp_get_buff_len(self.ctx) as usize }
    }

    #[inline(always)]
    fn cheap_length(&self) -> usize {
        self.data_end() - self.data()
    }

    #[inline(always)]
    fn is_gso(&self) -> bool {
        false
    }
}

impl FrameSource for TcContext {
    #[inline(always)]
    fn ifindex(&self) -> u32 {
        // SAFETY: the context is the one that the kernel passed to the program.
        unsafe { (*self.skb.skb).ifindex }
    }

    #[inline(always)]
    fn frame(&self) -> Frame<'_, Self> {
        Frame { data: self.data(), end: self.data_end(), source: self }
    }

    #[inline(always)]
    fn pull(&self) -> Option<Frame<'_, Self>> {
        let length = self.len();
        self.pull_data(if length < PULL { length } else { PULL }).ok()?;
        Some(self.frame())
    }

    #[inline(always)]
    fn ethertype(&self) -> u16 {
        // SAFETY: the context is the one that the kernel passed to the program. The field is in
        // network order.
        unsafe { u16::from_be((*self.as_ptr().cast::<aya_ebpf::bindings::__sk_buff>()).protocol as u16) }
    }

    #[inline(always)]
    fn tags_out(&self) -> u32 {
        // SAFETY: the context is the one that the kernel passed to the program.
        unsafe { (*self.skb.skb).vlan_present }
    }

    #[inline(always)]
    fn full_length(&self) -> usize {
        self.len() as usize
    }

    #[inline(always)]
    fn cheap_length(&self) -> usize {
        self.len() as usize
    }

    #[inline(always)]
    fn is_gso(&self) -> bool {
        // SAFETY: the context is the one that the kernel passed to the program.
        unsafe { (*self.skb.skb).gso_size != 0 }
    }
}
