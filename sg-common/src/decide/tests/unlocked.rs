//! Section 9 of `docs/semantics.md`: what is unlocked overrules the policy, and nothing else.

use super::{
    fragments::{first, later},
    *,
};
use crate::unlock::Unlock;

/// [`PEER`] may use port 22, whatever the policy says.
fn unlock(world: &mut World) {
    let unlock = Unlock { protocol: Protocol::TCP, port: 22, remote: PEER, zone: Some(ZONE) };
    let until = abi::jiffies(world.now + 10);
    world.heap.unlocks.places[3].prepare(&unlock);
    world.heap.unlocks.places[3].until.store(until);
    world.control.unlocked_until = until;
}

const SYN_IN: fn() -> Packet = || tcp(Inbound, 22, 40_000, SYN);
const ANSWER: fn() -> Packet = || tcp(Outbound, 22, 40_000, SYN | ACK);

#[test]
fn what_no_rule_allows_passes_both_ways_until_its_time_is_over() {
    for flags in [0, flag::GUEST] {
        let mut world = World::new(Policy { flags, ..Policy::default() });
        assert_eq!(world.judge(Inbound, SYN_IN()), "no_rule");
        unlock(&mut world);
        assert_eq!(world.judge(Inbound, SYN_IN()), "unlock");
        assert_eq!(world.judge(Outbound, ANSWER()), "unlock");
        assert_eq!(world.judge(Inbound, tcp(Inbound, 23, 40_000, SYN)), "no_rule", "another port");
        assert_eq!(world.judge(Inbound, Packet { source: STRANGER, ..SYN_IN() }), "no_rule");
        assert!(world.heap.flows().is_empty(), "no flow is opened");
        world.now += 9;
        assert_eq!(world.judge(Inbound, SYN_IN()), "unlock");
        world.now += 1;
        assert_eq!(world.judge(Inbound, SYN_IN()), "no_rule");
    }
}

#[test]
fn without_the_moment_in_the_control_element_nobody_looks() {
    let mut world = World::new(Policy::default());
    unlock(&mut world);
    world.control.unlocked_until = 0;
    assert_eq!(world.judge(Inbound, SYN_IN()), "no_rule");
}

#[test]
fn what_a_rule_allows_passes_by_the_rule() {
    let mut world = World::new(&[peer(Inbound, Table::Tcp, 22)][..]);
    unlock(&mut world);
    assert_eq!(world.judge(Inbound, SYN_IN()), "rule 1, opened");
    assert_eq!(world.judge(Outbound, ANSWER()), "flow 1");
    world.apply(Policy::default());
    assert_eq!(world.judge(Inbound, tcp(Inbound, 22, 40_000, ACK)), "unlock", "its flow is revoked");
    assert_eq!(world.flow().state, FlowState::RevokedTcp, "and stays so");
    let mut full = World::new(&[peer(Inbound, Table::Tcp, 0).every_value()][..]);
    full.control.bucket_mask = 0;
    for remote_port in 0..16 {
        full.connect(Inbound, 443, 50_000 + remote_port, 1);
    }
    assert_eq!(full.judge(Inbound, SYN_IN()), "flow_table_full");
    unlock(&mut full);
    assert_eq!(full.judge(Inbound, SYN_IN()), "unlock");
}

#[test]
fn what_a_packet_is_and_whose_it_is_matters_all_the_same() {
    let mut world = World::new(Policy { flags: flag::SOURCE_CHECK, ..Policy::default() });
    unlock(&mut world);
    let spoofed = Packet { source: STRANGER, ..ANSWER() };
    assert_eq!(world.judge(Outbound, spoofed), "source_check");
    assert_eq!(world.judge(Inbound, tcp(Inbound, 22, 40_000, SYN | FIN)), "invalid_tcp_flags");
    let unread = world.outcome(Hook::Ingress, Err(Unreadable::drop(DropReason::Malformed)), SYN_IN(), BYTES);
    assert_eq!(told(&unread), "malformed");
    let foreign = world.outcome(Hook::Ingress, Ok(Payload(0x88cc)), SYN_IN(), BYTES);
    assert_eq!(told(&foreign), "unsupported_ethertype");
}

#[test]
fn fragments_follow_the_first_one() {
    let mut world = World::remembering(Policy::default());
    unlock(&mut world);
    assert_eq!(world.judge(Inbound, later(SYN_IN())), "fragment_without_first");
    assert_eq!(world.judge(Inbound, first(SYN_IN())), "unlock");
    assert_eq!(world.judge(Inbound, later(SYN_IN())), "unlock");
    world.now += 10;
    assert_eq!(world.judge(Inbound, later(SYN_IN())), "no_rule");
}

#[test]
fn without_a_policy_it_passes_and_the_hosts_neighbours_are_found() {
    let solicitation = Packet { hop_limit: 255, ..icmp_v6(Inbound, 135, 0, 0) };
    let advertisement = Packet { hop_limit: 255, ..icmp_v6(Inbound, 136, 0, 0) };
    let arp = (Ok(Payload::ARP), Packet::default());
    let ip = |packet| (Ok(Payload::IP), packet);
    let rows = [
        ("a question", ip(SYN_IN()), true, true),
        ("flags that nobody sends", ip(tcp(Inbound, 22, 40_000, SYN | FIN)), false, false),
        ("another port", ip(tcp(Inbound, 23, 40_000, SYN)), false, false),
        ("ARP", arp, true, false),
        ("a solicitation", ip(solicitation), true, false),
        ("an advertisement", ip(advertisement), true, false),
        ("one from afar", ip(Packet { hop_limit: 254, ..solicitation }), false, false),
        ("one with a code", ip(Packet { hop_limit: 255, ..icmp_v6(Inbound, 135, 1, 0) }), false, false),
        ("one in fragments", ip(Packet { is_wrapped: true, ..solicitation }), false, false),
        ("a router", ip(Packet { hop_limit: 255, ..icmp_v6(Inbound, 134, 0, 0) }), false, false),
        ("of IPv4", ip(Packet { hop_limit: 255, ..icmp(Inbound, 135, 0, 0) }), false, false),
        ("another EtherType", (Ok(Payload(0x88cc)), SYN_IN()), false, false),
        ("a later fragment", (Ok(Payload::LATER_FRAGMENT), later(SYN_IN())), false, false),
        ("unreadable", (Err(Unreadable::SHORT), SYN_IN()), false, false),
    ];
    for (side, flags, hook) in [("host", 0, Hook::Ingress), ("guest", flag::GUEST, Hook::Egress)] {
        let mut world = World::new(Policy { flags, ..Policy::default() });
        world.nodes.clear();
        for (what, (payload, packet), at_host, at_guest) in rows {
            world.control.unlocked_until = 0;
            let before = world.outcome(hook, payload, packet, BYTES);
            assert_eq!(told(&before), "policy_unavailable", "{what}, {side}");
            unlock(&mut world);
            let passes = if flags == 0 { at_host } else { at_guest };
            let outcome = world.outcome(hook, payload, packet, BYTES);
            let expected = if passes { "unlock" } else { "policy_unavailable" };
            assert_eq!(told(&outcome), expected, "{what}, {side}");
            assert_eq!(outcome.direction, Inbound, "{what}, {side}");
        }
    }
}
