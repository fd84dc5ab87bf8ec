//! What is followed at once, and what is left to be judged.

extern crate std;

use super::*;
use crate::{
    addr::Addr,
    flow::{
        FlowState, Life, Origin,
        open::{Admission, Opened, open},
        tests::Heap,
    },
    tuple::{Direction, Protocol},
    wire::Transport,
};

const KEYS: [u64; 6] = [0x9e37_79b9_7f4a_7c15, 0xbf58_476d_1ce4_e5b9, 1, 3, 5, 7];
const TIMEOUTS: [u32; 8] = [100; 8];
const CONTEXT: Context<'static> =
    Context { hash_keys: &KEYS, bucket_mask: 0, timeouts: &TIMEOUTS, now: 1000 };
const INBOUND: Way = Way { zone: 3, direction: Direction::Inbound };
const RULE: u32 = 9;
const GENERATION: u64 = 7;

fn packet() -> Packet {
    Packet {
        source: Addr::v4(5),
        destination: Addr::v4(7),
        transport: Transport {
            source_port: 40_000,
            destination_port: 443,
            protocol: Protocol::UDP.0,
            ..Transport::default()
        },
        ..Packet::default()
    }
}

/// A flow in this state, admitted by the rule under the generation.
fn with(state: FlowState) -> Heap {
    let heap = Heap::new(1);
    let admission = Admission { rule: RULE, generation: GENERATION };
    assert_eq!(open(&heap, &CONTEXT, &packet(), INBOUND, admission, 60), Opened::NEW);
    let entry = heap.entries.iter().find(|entry| entry.life.load() != 0).unwrap();
    entry.life.store(Life(entry.life.load()).with(state, 1000).0);
    heap
}

#[test]
fn what_the_policy_in_force_admits_is_followed_and_all_else_is_to_be_judged() {
    use FlowState::{Revoked, RevokedTcp, UdpOneWay, UdpStream};
    let same = Terms::new(GENERATION, false);
    let newer = Terms::new(GENERATION + 1, false);
    let kept = Terms::new(GENERATION + 1, true);
    // Generations wrap at 24 bits.
    let wrapped = Terms::new(GENERATION + (1 << 24), false);
    for (what, state, terms, is_followed) in [
        ("of this generation", UdpOneWay, same, true),
        ("of this generation", UdpStream, same, true),
        ("of an older one", UdpOneWay, newer, false),
        ("of an older one that is kept", UdpOneWay, kept, true),
        ("wrapped", UdpOneWay, wrapped, true),
        ("revoked", Revoked, same, false),
        ("revoked, and kept", RevokedTcp, kept, false),
        ("only looked for", UdpOneWay, same.looking(), false),
        ("only looked for, and kept", UdpOneWay, kept.looking(), false),
    ] {
        let heap = with(state);
        let tracked = track(&heap, &CONTEXT, &packet(), INBOUND, terms, 40);
        assert_eq!(tracked.rule(), is_followed.then_some(RULE), "{what}");
        let packets = heap.flows()[0].packets;
        assert_eq!(packets, if is_followed { [2, 0] } else { [1, 0] }, "{what}: counted");
        if !is_followed {
            assert!(Found::at(&heap, tracked.place()).is_some(), "{what}: where it is");
        }
    }
}

#[test]
fn a_flow_that_is_not_there_is_nothing() {
    let heap = Heap::new(1);
    let tracked = track(&heap, &CONTEXT, &packet(), INBOUND, Terms::new(GENERATION, false), 40);
    assert_eq!(tracked, Tracked::NOTHING);
    assert_eq!(tracked.rule(), None);
    assert!(Found::at(&heap, tracked.place()).is_none());
}

#[test]
fn a_flow_without_a_rule_is_followed_as_such() {
    let heap = with(FlowState::UdpStream);
    let entry = heap.entries.iter().find(|entry| entry.life.load() != 0).unwrap();
    let life = Life(entry.life.load());
    entry.origin.store(Origin::new(life.version(), GENERATION, Origin::NO_RULE).0);
    let tracked = track(&heap, &CONTEXT, &packet(), INBOUND, Terms::new(GENERATION, false), 40);
    assert_eq!(tracked.rule(), Some(Origin::NO_RULE));
}

#[test]
fn what_loses_to_another_cpu_is_not_lost() {
    const OUTBOUND: Way = Way { zone: 3, direction: Direction::Outbound };
    let answer = {
        let Packet { source, destination, transport, .. } = packet();
        let Transport { source_port, destination_port, .. } = transport;
        Packet {
            source: destination,
            destination: source,
            transport: Transport {
                source_port: destination_port,
                destination_port: source_port,
                ..transport
            },
            ..Packet::default()
        }
    };
    let terms = Terms::new(GENERATION, false);
    // One CPU records the time, the other that there is an answer: both at once, many times.
    let later = Context { now: 1050, ..CONTEXT };
    for _ in 0..2000 {
        let heap = with(FlowState::UdpOneWay);
        let begin = std::sync::Barrier::new(2);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                begin.wait();
                assert_eq!(track(&heap, &later, &packet(), INBOUND, terms, 40).rule(), Some(RULE));
            });
            begin.wait();
            assert_eq!(track(&heap, &later, &answer, OUTBOUND, terms, 40).rule(), Some(RULE));
        });
        let flow = heap.flows()[0];
        let is_answered = matches!(flow.state, FlowState::UdpExchange | FlowState::UdpStream);
        assert!(is_answered, "{flow:?}");
        assert_eq!((flow.seen, flow.packets), (1050, [2, 1]));
    }
}
