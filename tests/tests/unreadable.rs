//! An image that does not hold what a program needs of it never opens anything (docs/semantics.md, section 2).
#![expect(clippy::unwrap_used, reason = "a test: what is written here is there")]

use std::net::{IpAddr, Ipv6Addr};

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
    addr::Addr,
    decide::Hook,
    tuple::{Direction, Protocol},
    unlock::Unlock,
    verdict::{AllowReason, DropReason, Verdict},
    wire::{
        Slice,
        tcp_flag::{ACK, FIN, SYN},
    },
};
use sg_tests::{
    lab::can_run,
    memory::UserSpace,
    packet::{Icmp, Mac, Packet, Tcp, Transport, Udp},
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

/// A frame between the far side, at the first address, and this one, at the second.
fn between(is_inbound: bool, far: [u8; 4], transport: impl Into<Transport>) -> Vec<u8> {
    let (far, near) = (IpAddr::from(far), IpAddr::from([192, 0, 2, 2]));
    let (source, destination) = if is_inbound { (far, near) } else { (near, far) };
    Packet::new(source, destination, transport).frame(Mac::local(1), Mac::local(2)).bytes()
}

/// An ARP question for an address, or a solicitation of a neighbour.
fn question_for_a_neighbour(is_v6: bool, hop_limit: u8) -> Vec<u8> {
    let mut frame = if is_v6 {
        let target = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);
        let source = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
        let packet = Packet::new(source.into(), target.into(), Icmp::new(135, 0, [0; 4], &target.octets()));
        packet.ipv6(|ip| ip.hop_limit = hop_limit).frame(Mac::local(1), Mac::local(2)).bytes()
    } else {
        let mut frame = between(true, [192, 0, 2, 1], Udp::new(1, 2, b""));
        frame.truncate(12);
        frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
        frame.extend([2, 0, 0, 0, 0, 1, 192, 0, 2, 1, 0, 0, 0, 0, 0, 0, 192, 0, 2, 2]);
        frame
    };
    frame.resize(frame.len().max(60), 0);
    frame
}

#[test]
fn an_unlocked_port_is_open_without_a_policy_that_can_be_read() -> Result<()> {
    let image = without_zones();
    let remote = Addr::from(IpAddr::from([198, 51, 100, 7]));
    let ssh = Unlock { protocol: Protocol::TCP, port: 22, remote, zone: None };
    let far = [198, 51, 100, 7];
    let syn = |from, to| Tcp::new(from, to, SYN);
    let rows = [
        ("a question", true, between(true, far, syn(40_000, 22)), true),
        ("its answer", false, between(false, far, Tcp::new(22, 40_000, SYN | ACK)), true),
        ("another port", true, between(true, far, syn(40_000, 23)), false),
        ("another address", true, between(true, [198, 51, 100, 8], syn(40_000, 22)), false),
        ("another protocol", true, between(true, far, Udp::new(40_000, 22, b"")), false),
        ("flags that nobody sends", true, between(true, far, Tcp::new(40_000, 22, SYN | FIN)), false),
        ("a question for a neighbour", true, question_for_a_neighbour(false, 255), true),
        ("a neighbour of IPv6", true, question_for_a_neighbour(true, 255), true),
        ("a neighbour from afar", true, question_for_a_neighbour(true, 254), false),
    ];
    let allowed = Verdict::Allow(AllowReason::Unlock, None);
    let dropped = Verdict::Drop(DropReason::PolicyUnavailable);
    let mut user_space = UserSpace::new(2);
    for (what, is_inbound, frame, passes) in &rows {
        let hook = if *is_inbound { Hook::Ingress } else { Hook::Egress };
        let slice = || Slice { frame, is_gso: false };
        for (tick, unlocked) in [(5, 0), (5, 5), (5, 6)] {
            user_space.unlock(&[(ssh, unlocked)]);
            let outcome = user_space.judge_at(&image, hook, slice(), tick);
            let expected = if *passes && tick < unlocked { allowed } else { dropped };
            ensure!(outcome.verdict == expected, "{what} at {tick}, until {unlocked}: {outcome:?}");
        }
    }
    if !can_run() {
        return Ok(());
    }
    let mut programs = Programs::load(kernel::object(), Sizes { nodes: 64, buckets: 2, rules: 1 })?;
    let slot = counter_slot(allowed, false);
    // Without any image, and with one that has nothing for the interface.
    for generation in [0, 1] {
        if generation > 0 {
            programs.publish(&image, generation)?;
        }
        for (what, is_inbound, frame, passes) in &rows {
            let (entries, direction) = match is_inbound {
                true => (&[Entry::Xdp, Entry::TcIngress][..], Direction::Inbound),
                false => (&[Entry::TcEgress][..], Direction::Outbound),
            };
            for entry in entries {
                programs.unlock(&[])?;
                let (answer, _) = programs.run(entry.program(), frame, 1)?;
                ensure!(!entry.passes(answer), "{what} at {entry:?}, nothing unlocked: {answer}");
                programs.unlock(&[(ssh, u32::MAX)])?;
                let before = programs.counted(direction, slot)?;
                let (answer, _) = programs.run(entry.program(), frame, 1)?;
                ensure!(entry.passes(answer) == *passes, "{what} at {entry:?}, unlocked: {answer}");
                let counted = programs.counted(direction, slot)? - before;
                ensure!(counted == u64::from(*passes), "{what} at {entry:?} is counted {counted} times");
            }
        }
    }
    Ok(())
}
