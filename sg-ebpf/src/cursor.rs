//! The packet's memory: the only packet pointers, and the checks that make them good.

use core::marker::PhantomData;

use aya_ebpf::{
    EbpfContext as _,
    bindings::{__sk_buff, xdp_md},
    helpers::bpf_xdp_get_buff_len,
    programs::{TcContext, XdpContext},
};
use sg_common::wire::{
    Bytes, Cursor, ExtensionBits, LinkLayer, Packet, Payload, ReadingBits, Unreadable, ipv4_options,
    ipv6_extension, parse_headers, parse_plain, parse_quote, sum,
};

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
    /// Brings more of the frame into the first buffer. `false` where nothing can be done.
    fn pull(&self) -> bool;
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
    /// [`parse_headers`] as a global function.
    fn read_headers(&self, is_bare_ip: bool, packet: &mut Packet) -> ReadingBits;
    /// [`Cursor::ipv4_options`] as a global function.
    fn ipv4_options(&self, start: usize, end: usize) -> ReadingBits;
    /// [`Cursor::ipv6_extension`] as a global function.
    fn ipv6_extension(&self, kind: u8, at: usize) -> ExtensionBits;
    /// [`Cursor::sum`] as a global function.
    fn sum(&self, at: usize, length: usize) -> Option<u32>;
    /// [`parse_quote`] as a global function.
    fn read_quote(&self, packet: &mut Packet) -> ReadingBits;
}

/// Reads the frame of `source` into `packet`, as [`sg_common::wire::parse`] does.
#[inline(always)]
pub(crate) fn read_packet<S: FrameSource>(
    source: &S,
    is_bare_ip: bool,
    packet: &mut Packet,
) -> Result<Payload, Unreadable> {
    if !is_bare_ip && let Some(plain) = parse_plain(&source.frame()) {
        *packet = plain;
        return Ok(Payload::IP);
    }
    read_whole(source, is_bare_ip, packet)
}

/// As [`read_packet`], whatever frame it is.
#[inline(always)]
pub(crate) fn read_whole<S: FrameSource>(
    source: &S,
    is_bare_ip: bool,
    packet: &mut Packet,
) -> Result<Payload, Unreadable> {
    *packet = Packet::default();
    let payload = source.read_headers(is_bare_ip, packet).unpack();
    if payload == Ok(Payload::IP) && packet.quote.is_unread() {
        return source.read_quote(packet).unpack();
    }
    payload
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
        // Compared as it is added: the verifier bounds the register that it sees compared.
        let offset = opaque(offset);
        if offset > REACH {
            return None;
        }
        let start = opaque(self.data + offset);
        if opaque(start + length) > self.end {
            return None;
        }
        Some(Found { start, frame: PhantomData })
    }

    #[inline(always)]
    fn look_at_start(&self, length: usize) -> Option<Found<'a>> {
        let start = opaque(self.data);
        if opaque(start + length) > self.end { None } else { Some(Found { start, frame: PhantomData }) }
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

    #[inline(always)]
    fn ipv4_options(&self, start: usize, end: usize) -> ReadingBits {
        self.source.ipv4_options(start, end)
    }

    #[inline(always)]
    fn ipv6_extension(&self, kind: u8, at: usize) -> ExtensionBits {
        self.source.ipv6_extension(kind, at)
    }

    #[inline(always)]
    fn sum(&self, at: usize, length: usize) -> Option<u32> {
        self.source.sum(at, length)
    }
}

/// Keeps the optimiser from computing an address or offset in another way.
///
/// The verifier learns what lies behind `start` from `start + length > end`. It learns nothing when
/// the sum is made from other parts than `start`, nor from `start >= end`, which is what the
/// optimiser makes of a single octet.
#[inline(always)]
pub(crate) fn opaque(address: usize) -> usize {
    let mut address = address;
    // SAFETY: moves a register onto itself.
    unsafe {
        core::arch::asm!("{0} = {0}", inout(reg) address, options(nomem, nostack, preserves_flags));
    }
    address
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
    fn u8_anew(self, at: usize) -> u8 {
        // SAFETY: as in `read`.
        unsafe { core::ptr::read_volatile((self.start + at) as *const u8) }
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
    fn pull(&self) -> bool {
        false
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

    #[inline(always)]
    fn read_headers(&self, is_bare_ip: bool, packet: &mut Packet) -> ReadingBits {
        ReadingBits(xdp_read(self.ctx, is_bare_ip.into(), packet))
    }

    #[inline(always)]
    fn ipv4_options(&self, start: usize, end: usize) -> ReadingBits {
        ReadingBits(xdp_ipv4_options(self.ctx, start as u32, end as u32))
    }

    #[inline(always)]
    fn ipv6_extension(&self, kind: u8, at: usize) -> ExtensionBits {
        ExtensionBits(xdp_ipv6_extension(self.ctx, kind.into(), at as u32))
    }

    #[inline(always)]
    fn sum(&self, at: usize, length: usize) -> Option<u32> {
        sum_of(xdp_sum(self.ctx, at as u32, length as u32))
    }

    #[inline(always)]
    fn read_quote(&self, packet: &mut Packet) -> ReadingBits {
        ReadingBits(xdp_quote(self.ctx, packet))
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
    fn pull(&self) -> bool {
        let length = self.len();
        self.pull_data(if length < PULL { length } else { PULL }).is_ok()
    }

    #[inline(always)]
    fn ethertype(&self) -> u16 {
        // SAFETY: the context is the one that the kernel passed to the program. The field is in
        // network order.
        unsafe { u16::from_be((*self.as_ptr().cast::<__sk_buff>()).protocol as u16) }
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

    #[inline(always)]
    fn read_headers(&self, is_bare_ip: bool, packet: &mut Packet) -> ReadingBits {
        ReadingBits(tc_read(self.skb.skb, is_bare_ip.into(), packet))
    }

    #[inline(always)]
    fn ipv4_options(&self, start: usize, end: usize) -> ReadingBits {
        ReadingBits(tc_ipv4_options(self.skb.skb, start as u32, end as u32))
    }

    #[inline(always)]
    fn ipv6_extension(&self, kind: u8, at: usize) -> ExtensionBits {
        ExtensionBits(tc_ipv6_extension(self.skb.skb, kind.into(), at as u32))
    }

    #[inline(always)]
    fn sum(&self, at: usize, length: usize) -> Option<u32> {
        sum_of(tc_sum(self.skb.skb, at as u32, length as u32))
    }

    #[inline(always)]
    fn read_quote(&self, packet: &mut Packet) -> ReadingBits {
        ReadingBits(tc_quote(self.skb.skb, packet))
    }
}

/// Reads the frame of `source`.
#[inline(always)]
fn read<S: FrameSource>(source: &S, is_bare_ip: bool, packet: *mut Packet) -> u32 {
    // SAFETY: callers pass a reference. The verifier takes it for a pointer that may be null.
    let Some(packet) = (unsafe { packet.as_mut() }) else {
        return ReadingBits::pack(Err(Unreadable::SHORT)).0;
    };
    let link =
        if is_bare_ip { LinkLayer::BareIp { ethertype: source.ethertype() } } else { LinkLayer::Ethernet };
    ReadingBits::pack(parse_headers(&source.frame(), link, source.tags_out(), packet)).0
}

/// What stands for a sum that could not be made: no sum is this large.
const NO_SUM: u64 = u64::MAX;

#[inline(always)]
fn sum_of(sum: u64) -> Option<u32> {
    if sum == NO_SUM { None } else { Some(sum as u32) }
}

// Global functions, which the verifier judges once each: what follows `read` it judges for any
// packet at all, instead of once for every way in which a packet can be read. For the others see
// `Cursor::ipv4_options`. Offsets fit into 32 bits, as frames do.

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn xdp_read(context: *mut xdp_md, is_bare_ip: u32, packet: *mut Packet) -> u32 {
    read(&XdpContext::new(context), is_bare_ip != 0, packet)
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn tc_read(context: *mut __sk_buff, is_bare_ip: u32, packet: *mut Packet) -> u32 {
    read(&TcContext::new(context), is_bare_ip != 0, packet)
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn xdp_ipv4_options(context: *mut xdp_md, start: u32, end: u32) -> u32 {
    ipv4_options(&XdpContext::new(context).frame(), start as usize, end as usize).0
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn xdp_ipv6_extension(context: *mut xdp_md, kind: u32, at: u32) -> u64 {
    ipv6_extension(&XdpContext::new(context).frame(), kind as u8, at as usize).0
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn tc_ipv4_options(context: *mut __sk_buff, start: u32, end: u32) -> u32 {
    ipv4_options(&TcContext::new(context).frame(), start as usize, end as usize).0
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn tc_ipv6_extension(context: *mut __sk_buff, kind: u32, at: u32) -> u64 {
    ipv6_extension(&TcContext::new(context).frame(), kind as u8, at as usize).0
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn xdp_sum(context: *mut xdp_md, at: u32, length: u32) -> u64 {
    sum(&XdpContext::new(context).frame(), at as usize, length as usize).map_or(NO_SUM, u64::from)
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn xdp_quote(context: *mut xdp_md, packet: *mut Packet) -> u32 {
    // SAFETY: as in `read`.
    let Some(packet) = (unsafe { packet.as_mut() }) else {
        return ReadingBits::pack(Err(Unreadable::SHORT)).0;
    };
    ReadingBits::pack(parse_quote(&XdpContext::new(context).frame(), packet).map(|()| Payload::IP)).0
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn tc_sum(context: *mut __sk_buff, at: u32, length: u32) -> u64 {
    sum(&TcContext::new(context).frame(), at as usize, length as usize).map_or(NO_SUM, u64::from)
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn tc_quote(context: *mut __sk_buff, packet: *mut Packet) -> u32 {
    // SAFETY: as in `read`.
    let Some(packet) = (unsafe { packet.as_mut() }) else {
        return ReadingBits::pack(Err(Unreadable::SHORT)).0;
    };
    ReadingBits::pack(parse_quote(&TcContext::new(context).frame(), packet).map(|()| Payload::IP)).0
}
