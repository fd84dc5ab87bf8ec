//! The programs: entry points at XDP and TC.
//!
//! They find the interface's zone, let [`sg_common::wire`] read the frame and
//! [`sg_common::decide`] judge it, and count. They decide nothing themselves, and never log.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]
#![expect(unsafe_code, reason = "maps, helpers and packet memory are reached through pointers")]
#![expect(
    missing_docs,
    unreachable_pub,
    reason = "the entry points' macros wrap them in public functions without documentation"
)]

mod cursor;
mod image;
mod maps;
mod report;

use aya_ebpf::{
    bindings::{TC_ACT_SHOT, xdp_action},
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};
use sg_common::{
    abi::{self, Control},
    decide::{Hook, Tables, decide},
    flow::identity::Way,
    verdict::Verdict,
    wire::{Payload, Unreadable},
};

use crate::{
    cursor::{FrameSource, read_packet, read_whole},
    image::Image,
    maps::Flows,
};

/// TCX: the next program decides; clsact knows it as "continue with the next filter".
const TC_NEXT: i32 = -1;

/// Inbound of a host's interface, or outbound of a guest's, before the stack.
#[xdp(frags)]
#[expect(clippy::needless_pass_by_value, reason = "the macro hands it over")]
pub fn sg_xdp(context: XdpContext) -> u32 {
    match judge(&context, Hook::Ingress) {
        Action::Pass => xdp_action::XDP_PASS,
        Action::Drop => xdp_action::XDP_DROP,
    }
}

/// The same as [`sg_xdp`], in the traffic control layer.
#[classifier]
#[expect(clippy::needless_pass_by_value, reason = "the macro hands it over")]
pub fn sg_tc_ingress(context: TcContext) -> i32 {
    tc(&context, Hook::Ingress)
}

/// Outbound of a host's interface, or inbound of a guest's.
#[classifier]
#[expect(clippy::needless_pass_by_value, reason = "the macro hands it over")]
pub fn sg_tc_egress(context: TcContext) -> i32 {
    tc(&context, Hook::Egress)
}

/// Tells the tick clock: the low 32 bits of jiffies.
#[classifier]
pub fn sg_clock(_context: TcContext) -> i32 {
    maps::jiffies() as i32
}

#[inline(always)]
fn tc(context: &TcContext, hook: Hook) -> i32 {
    match judge(context, hook) {
        Action::Pass => TC_NEXT,
        Action::Drop => TC_ACT_SHOT,
    }
}

/// The longest frame without jumbo frames: it lies in one buffer.
const ONE_BUFFER: usize = 1522;

/// What becomes of a packet.
enum Action {
    Pass,
    Drop,
}

#[inline(always)]
fn judge<S: FrameSource>(source: &S, hook: Hook) -> Action {
    let ifindex = source.ifindex();
    // An interface without a zone has no groups: the program should not be there.
    let Some(attachment) = maps::attachment(ifindex) else { return Action::Pass };
    let Some(control) = maps::control() else { return Action::Drop };
    let Some(packet) = maps::packet() else { return Action::Drop };
    let mut payload = read_packet(source, attachment.is_bare_ip(), packet);
    if payload == Err(Unreadable::SHORT) && source.pull() {
        payload = read_whole(source, attachment.is_bare_ip(), packet);
    }
    let jiffies = maps::jiffies();
    let state = maps::state(control, jiffies);
    // The first buffer of several is not the whole frame. The IP packet in it tells how long that is;
    // where there is none to tell, only a jumbo frame costs the call.
    let first_buffer = source.cheap_length();
    let known = if first_buffer > ONE_BUFFER { source.full_length() } else { first_buffer };
    let bytes = known.max(packet.end as usize) as u64;
    let zone = attachment.zone();
    let image = Image::new(control, state);
    let tables = Tables {
        nodes: image.as_ref(),
        memory: &Flows,
        control,
        generation: Control::generation(state),
        jiffies,
        is_guest: attachment.is_guest(),
    };
    let outcome = decide(&tables, zone, hook, payload, packet, bytes);
    let slot = abi::counter_slot(outcome.verdict, outcome.is_audited);
    report::count(abi::counter_index(zone, outcome.direction, slot), bytes);
    match outcome.verdict {
        Verdict::Allow(_, rule) => {
            if let Some(rule) = rule {
                report::count_rule(rule, bytes, outcome.has_opened, abi::tick(jiffies));
            }
            Action::Pass
        }
        Verdict::Drop(reason) => {
            if control.events != 0 {
                let drop = report::Drop::new(reason, outcome.direction, outcome.is_audited);
                report::event(packet, drop, ifindex, bytes);
            }
            if !outcome.is_audited {
                return Action::Drop;
            }
            let way = Way { zone, direction: outcome.direction };
            report::remember(packet, way, reason, payload == Ok(Payload::IP), bytes);
            Action::Pass
        }
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // Nothing panics: the object is checked for it. The verifier refuses a loop without an end.
    loop {}
}
