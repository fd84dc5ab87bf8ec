//! An image that does not hold what a program needs of it never opens anything (docs/semantics.md, section 2).
#![expect(clippy::unwrap_used, reason = "a test: what is written here is there")]

use anyhow::{Result, ensure};
use sg_agent::{
    compile::{self, Input, Limits, RuleNumbers},
    document,
    image::Image,
    kernel,
    policy::Membership,
};
use sg_common::{
    abi::counter_slot,
    decide::Hook,
    tuple::Direction,
    verdict::{DropReason, Verdict},
};
use sg_tests::{
    lab::can_run,
    memory::UserSpace,
    packet::{Mac, Packet, Udp},
    programs::{Entry, Programs, Sizes},
};

/// An image in which there is no zone at all, hence none for the interface either.
fn without_zones() -> Image {
    let text = "version: 1\ngroups: {a: {inbound: [{allow: all, from: anywhere}]}}\n";
    let policy = document::parse_str("p.yaml", text, &document::Limits::default()).policy.unwrap();
    let (members, numbers) = (Membership::written(&policy), RuleNumbers::in_order(&policy));
    let input = Input { policy: &policy, members: &members, zones: &[], numbers: &numbers };
    compile::compile(&input, &Limits { nodes: 64 }).unwrap()
}

fn frame() -> Vec<u8> {
    let packet = Packet::new([192, 0, 2, 1].into(), [192, 0, 2, 2].into(), Udp::new(5000, 443, b"data"));
    packet.frame(Mac::local(1), Mac::local(2)).bytes()
}

#[test]
fn what_cannot_be_read_drops_everything() -> Result<()> {
    let image = without_zones();
    for hook in [Hook::Ingress, Hook::Egress] {
        let outcome = UserSpace::new(2).judge(&image, hook, &frame());
        ensure!(outcome.verdict == Verdict::Drop(DropReason::PolicyUnavailable), "{hook:?}: {outcome:?}");
    }
    if !can_run() {
        return Ok(());
    }
    let mut programs = Programs::load(kernel::object(), Sizes { nodes: 64, buckets: 2, rules: 1 })?;
    let slot = counter_slot(Verdict::Drop(DropReason::PolicyUnavailable), false);
    let entries = [
        (Entry::Xdp, Direction::Inbound, 1),
        (Entry::TcIngress, Direction::Inbound, 2),
        (Entry::TcEgress, Direction::Outbound, 1),
    ];
    // Before there is a policy at all, and with one that has nothing for the interface.
    for (entry, direction, count) in entries {
        let (answer, _) = programs.run(entry.program(), &frame(), 1)?;
        ensure!(!entry.passes(answer), "{entry:?} without an image: {answer}");
        ensure!(programs.counted(direction, slot)? == count, "{entry:?} counts it");
    }
    let (inbound, outbound) =
        (programs.counted(Direction::Inbound, slot)?, programs.counted(Direction::Outbound, slot)?);
    programs.publish(&image, 1)?;
    for (entry, direction, count) in entries {
        let (answer, _) = programs.run(entry.program(), &frame(), 1)?;
        ensure!(!entry.passes(answer), "{entry:?} without a zone: {answer}");
        let known = if direction == Direction::Inbound { inbound } else { outbound };
        ensure!(programs.counted(direction, slot)? == known + count, "{entry:?} counts it");
    }
    Ok(())
}
