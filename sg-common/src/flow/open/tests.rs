//! What becomes of a flow that is asked for.

extern crate std;

use super::*;
use crate::{
    addr::Addr,
    flow::{
        SLOTS,
        tests::{Heap, Seen},
    },
    tuple::Direction::{self, Inbound, Outbound},
    wire::Transport,
};
use tcp_flag::{ACK, SYN};

const KEYS: [u64; 6] = [0x9e37_79b9_7f4a_7c15, 0xbf58_476d_1ce4_e5b9, 0x94d0_49bb_1331_11eb, 3, 5, 7];
const TIMEOUTS: [u32; 8] = [100; 8];

const fn at(now: u32) -> Context<'static> {
    Context { hash_keys: &KEYS, bucket_mask: 0, timeouts: &TIMEOUTS, now }
}

const fn way(direction: Direction) -> Way {
    Way { zone: 3, direction }
}

/// A packet from port 40 000 to port 443; inbound the instance is 7, outbound 5.
fn packet(direction: Direction, protocol: Protocol, tcp_flags: u8) -> Packet {
    let (source_port, destination_port) = if direction == Inbound { (40_000, 443) } else { (443, 40_000) };
    let (source, destination) = if direction == Inbound { (5, 7) } else { (7, 5) };
    Packet {
        source: Addr::v4(source),
        destination: Addr::v4(destination),
        transport: Transport { source_port, destination_port, protocol: protocol.0, ..Transport::default() },
        sequence: 1000,
        payload: 10,
        tcp_flags,
        ..Packet::default()
    }
}

const FIRST: Admission = Admission { rule: 1, generation: 7 };
const SECOND: Admission = Admission { rule: 2, generation: 8 };

fn only(heap: &Heap) -> Seen {
    let flows = heap.flows();
    assert_eq!(flows.len(), 1, "{flows:?}");
    flows[0]
}

/// A flow in this state, opened inbound at 10.
fn with(state: FlowState) -> Heap {
    let heap = Heap::new(1);
    let opened = open(&heap, &at(10), &packet(Inbound, Protocol::TCP, SYN), way(Inbound), FIRST, 60);
    assert_eq!(opened, Opened::NEW);
    let entry = heap.entries.iter().find(|entry| entry.life.load() != 0).unwrap();
    let life = crate::flow::Life(entry.life.load());
    entry.life.store(life.with(state, 10).0);
    heap
}

#[test]
fn a_flow_begins_with_what_its_packet_says() {
    for (protocol, state) in [
        (Protocol::TCP, FlowState::Opening),
        (Protocol::UDP, FlowState::UdpOneWay),
        (Protocol::ICMP, FlowState::Icmp),
        (Protocol(47), FlowState::Other),
        (Protocol::ICMPV6, FlowState::Other),
    ] {
        for direction in Direction::ALL {
            let heap = Heap::new(1);
            let packet = packet(direction, protocol, if protocol == Protocol::TCP { SYN } else { 0 });
            assert_eq!(open(&heap, &at(10), &packet, way(direction), FIRST, 60), Opened::NEW);
            let flow = only(&heap);
            assert_eq!((flow.state, flow.opener, flow.seen), (state, direction, 10), "{protocol:?}");
            assert_eq!((flow.rule, flow.generation), (1, 7));
            assert_eq!(flow.key, way(direction).key(&packet));
            let mine = |number| if direction == Inbound { [number, 0] } else { [0, number] };
            assert_eq!((flow.packets, flow.bytes), (mine(1), mine(60)));
            let next = if protocol == Protocol::TCP { 1011 } else { 1010 };
            assert_eq!(flow.next, mine(next), "what follows the packet");
        }
    }
}

#[test]
fn the_entry_tells_when_it_was_opened_and_what_was_asked() {
    let heap = with(FlowState::Opening);
    let entry = heap.entries.iter().find(|entry| entry.life.load() != 0).unwrap();
    assert_eq!(entry.opening.load(), 443 << 32 | 10);
}

#[test]
fn without_room_there_is_no_flow() {
    let heap = Heap::new(1);
    for port in 0..=SLOTS as u16 {
        let mut packet = packet(Inbound, Protocol::TCP, ACK);
        packet.transport.source_port += port;
        let opened = open(&heap, &at(10), &packet, way(Inbound), FIRST, 60);
        let expected = if u32::from(port) < SLOTS { Opened::NEW } else { Opened::FULL };
        assert_eq!(opened, expected, "flow {port}");
        for entry in heap.entries.iter().filter(|entry| entry.life.load() != 0) {
            let life = crate::flow::Life(entry.life.load());
            entry.life.store(life.with(FlowState::Established, 10).0);
        }
    }
}

#[test]
fn a_syn_starts_afresh_what_is_over_and_what_is_an_attempt_of_the_same_side() {
    use FlowState::*;
    for (state, from, expected, begins) in [
        (Opening, Inbound, Opened::KNOWN, true),
        (Opening, Outbound, Opened::KNOWN, false),
        (Answered, Inbound, Opened::KNOWN, true),
        (Answered, Outbound, Opened::KNOWN, false),
        (Established, Inbound, Opened::KNOWN, false),
        (Established, Outbound, Opened::KNOWN, false),
        (FinOpener, Inbound, Opened::KNOWN, false),
        (FinReplier, Inbound, Opened::KNOWN, false),
        (Closing, Inbound, Opened::NEW, true),
        (Closing, Outbound, Opened::NEW, true),
        (RevokedTcp, Inbound, Opened::NEW, true),
        (RevokedTcp, Outbound, Opened::NEW, true),
    ] {
        let heap = with(state);
        let again = Packet { sequence: 7000, ..packet(from, Protocol::TCP, SYN) };
        assert_eq!(open(&heap, &at(50), &again, way(from), SECOND, 80), expected, "{state:?} {from}");
        let flow = only(&heap);
        let mine = |number| if from == Inbound { [number, 0] } else { [0, number] };
        if begins {
            assert_eq!((flow.state, flow.opener, flow.seen), (Opening, from, 50), "{state:?} {from}");
            assert_eq!((flow.rule, flow.generation), (2, 8), "{state:?} {from}");
            assert_eq!((flow.packets, flow.bytes, flow.next), (mine(1), mine(80), mine(7011)));
        } else {
            assert_eq!((flow.state, flow.opener, flow.seen), (state, Inbound, 50), "{state:?} {from}");
            assert_eq!((flow.rule, flow.generation), (1, 7), "{state:?} {from}");
            assert_eq!(flow.packets, if from == Inbound { [2, 0] } else { [1, 1] });
            assert_eq!(flow.bytes, if from == Inbound { [140, 0] } else { [60, 80] });
            assert_eq!(flow.next, [1011, 0], "a forged SYN moves no mark");
        }
    }
}

#[test]
fn a_syn_that_is_answered_finds_what_is_there() {
    let heap = with(FlowState::Established);
    let again = packet(Inbound, Protocol::TCP, SYN | ACK);
    assert_eq!(open(&heap, &at(50), &again, way(Inbound), SECOND, 80), Opened::KNOWN);
    assert_eq!(only(&heap).packets, [2, 0]);
}

#[test]
fn only_a_tcp_syn_looks_for_its_flow() {
    for (protocol, flags) in [(Protocol::TCP, ACK), (Protocol::UDP, SYN)] {
        let heap = Heap::new(1);
        for count in 1..=2 {
            let packet = packet(Inbound, protocol, flags);
            assert_eq!(open(&heap, &at(10), &packet, way(Inbound), FIRST, 60), Opened::NEW);
            assert_eq!(heap.flows().len(), count, "of all others none is there: they have been looked for");
        }
    }
}

/// Memory that is asked for a slot in one step alone.
struct AtOnce(Heap);

impl Memory for AtOnce {
    fn bucket(&self, index: u32) -> Option<&crate::flow::Bucket> {
        self.0.bucket(index)
    }

    fn entry(&self, index: u32) -> Option<&crate::flow::Entry> {
        self.0.entry(index)
    }

    fn tail(&self, index: u32) -> Option<&crate::flow::Tail> {
        self.0.tail(index)
    }

    fn reserve(&self, _: &Context<'_>, _: &Packet, _: Way) -> Place {
        panic!("there is room at once")
    }
}

#[test]
fn a_flow_goes_in_at_once_where_there_is_room() {
    let empty = AtOnce(Heap::new(4));
    let opened = open(&empty, &at(10), &packet(Inbound, Protocol::TCP, SYN), way(Inbound), FIRST, 60);
    assert_eq!((opened, empty.0.flows().len()), (Opened::NEW, 1));
}

/// Memory in which another CPU writes first: every slot that is found is taken at once.
struct Contended(Heap);

impl Memory for Contended {
    fn bucket(&self, index: u32) -> Option<&crate::flow::Bucket> {
        self.0.bucket(index)
    }

    fn entry(&self, index: u32) -> Option<&crate::flow::Entry> {
        self.0.entry(index)
    }

    fn tail(&self, index: u32) -> Option<&crate::flow::Tail> {
        self.0.tail(index)
    }

    fn enter(&self, _: &Context<'_>, _: &Packet, _: Way, _: Admission, _: u64) -> bool {
        false
    }

    fn write(&self, _: &Context<'_>, place: Place, _: &Packet, _: Way, _: Admission, _: u64) -> bool {
        assert_ne!(place, Place::NOWHERE, "there was something to take");
        false
    }
}

#[test]
fn where_another_cpu_is_faster_each_time_the_sender_tries_again() {
    let known = Contended(with(FlowState::Closing));
    let again = packet(Inbound, Protocol::TCP, SYN);
    assert_eq!(open(&known, &at(50), &again, way(Inbound), SECOND, 80), Opened::FULL);
    let empty = Contended(Heap::new(1));
    assert_eq!(open(&empty, &at(50), &again, way(Inbound), SECOND, 80), Opened::FULL);
}

/// Memory in which another CPU's SYN has begun the flow afresh just before this one's.
struct Overtaken(Heap, core::cell::Cell<bool>);

impl Memory for Overtaken {
    fn bucket(&self, index: u32) -> Option<&crate::flow::Bucket> {
        self.0.bucket(index)
    }

    fn entry(&self, index: u32) -> Option<&crate::flow::Entry> {
        self.0.entry(index)
    }

    fn tail(&self, index: u32) -> Option<&crate::flow::Tail> {
        self.0.tail(index)
    }

    fn write(
        &self,
        context: &Context<'_>,
        place: Place,
        packet: &Packet,
        way: Way,
        admission: Admission,
        bytes: u64,
    ) -> bool {
        let is_written = write(self, context, place, packet, way, admission, bytes);
        is_written && self.1.replace(true)
    }
}

#[test]
fn what_another_cpu_has_begun_is_known() {
    let memory = Overtaken(with(FlowState::Closing), core::cell::Cell::new(false));
    let again = packet(Inbound, Protocol::TCP, SYN);
    assert_eq!(open(&memory, &at(50), &again, way(Inbound), SECOND, 80), Opened::KNOWN);
    assert_eq!(only(&memory.0).state, FlowState::Opening);
}
