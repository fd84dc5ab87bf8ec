//! Programs for the benchmark only: the shipped object is built without them (`--cfg=bench`).
//!
//! Test-run shows a program the same packet again and again, which flatters every cache. These write
//! another source address and port into the packet before each run; [`sg_bench_empty`] does nothing
//! else, so that what it costs can be taken off.

use aya_ebpf::{bindings::xdp_action, macros::map, macros::xdp, maps::Array, programs::XdpContext};
use sg_common::decide::Hook;

use crate::{Action, judge};

/// How packets change. Word 0: runs so far; 1: number of different sources less one, of the form
/// 2^n - 1; 2: the first source address; 3: not 0 to scatter the sources over all addresses.
#[map]
static BENCH: Array<[u32; 4]> = Array::with_max_entries(1, 0);

/// Offsets in an Ethernet frame of the source address's last four octets.
const SOURCE_V4: usize = 26;
const SOURCE_V6: usize = 34;

/// The packet changes, and passes.
#[xdp]
pub fn sg_bench_empty(context: XdpContext) -> u32 {
    change(&context);
    xdp_action::XDP_PASS
}

/// The packet changes, and is judged as by [`crate::sg_xdp`].
#[xdp]
pub fn sg_bench_xdp(context: XdpContext) -> u32 {
    change(&context);
    match judge(&context, Hook::Ingress) {
        Action::Pass => xdp_action::XDP_PASS,
        Action::Drop => xdp_action::XDP_DROP,
    }
}

#[inline(always)]
fn change(context: &XdpContext) {
    let Some(bench) = BENCH.get_ptr_mut(0) else { return };
    // SAFETY: one program at a time runs in the benchmark, and the element is there.
    let (number, span, first, scatter) = unsafe {
        (*bench)[0] = (*bench)[0].wrapping_add(1);
        ((*bench)[0], (*bench)[1], (*bench)[2], (*bench)[3])
    };
    // An odd factor visits all of a power of two, in an order that no prefetcher follows.
    let number = number.wrapping_mul(0x9e37_79b1) & span;
    let source = if scatter == 0 { first.wrapping_add(number) } else { number.wrapping_mul(0x85eb_ca6b) };
    let start = context.data();
    if start + SOURCE_V6 + 4 > context.data_end() {
        return;
    }
    // SAFETY: the octets up to `SOURCE_V6 + 4` are in the packet.
    unsafe {
        let is_v4 = *((start + 12) as *const u16) == 0x0800_u16.to_be();
        if is_v4 {
            *((start + SOURCE_V4) as *mut u32) = source.to_be();
        } else {
            // The high half of the address selects the prefix, the low half the flow.
            *((start + SOURCE_V6) as *mut u32) = source.to_be();
            *((start + 24) as *mut u32) = source.wrapping_mul(0xc2b2_ae35);
        }
    }
}
