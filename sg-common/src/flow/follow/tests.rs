//! Segments in order, out of order, forged; and what becomes of their flow.

use super::*;
use crate::{
    addr::Addr,
    flow::{
        identity::Way,
        open::{Admission, open},
        tests::{Heap, Seen},
    },
    wire::Transport,
};
use Direction::{Inbound, Outbound};
use tcp_flag::{ACK, FIN, PSH, RST, SYN};

const KEYS: [u64; 6] = [0x9e37_79b9_7f4a_7c15, 0xbf58_476d_1ce4_e5b9, 1, 3, 5, 7];
const TIMEOUTS: [u32; 8] = [100, 1000, 10, 20, 200, 40, 400, 30];
/// How far off a sequence number may be.
const REACH: u32 = 32 << 20;

fn packet(direction: Direction, protocol: Protocol) -> Packet {
    let (source, destination) = if direction == Inbound { (5, 7) } else { (7, 5) };
    let (source_port, destination_port) = if direction == Inbound { (40_000, 443) } else { (443, 40_000) };
    Packet {
        source: Addr::v4(source),
        destination: Addr::v4(destination),
        transport: Transport { source_port, destination_port, protocol: protocol.0, ..Transport::default() },
        is_sum_right: true,
        ..Packet::default()
    }
}

fn segment(direction: Direction, tcp_flags: u8, sequence: u32, acknowledgement: u32, payload: u32) -> Packet {
    Packet { tcp_flags, sequence, acknowledgement, payload, ..packet(direction, Protocol::TCP) }
}

struct Flow {
    heap: Heap,
    now: u32,
}

impl Flow {
    /// A flow that this packet has opened.
    fn begun(opener: Direction, first: &Packet) -> Self {
        let flow = Self { heap: Heap::new(1), now: 1000 };
        let admission = Admission { rule: 1, generation: 1 };
        let way = Way { zone: 3, direction: opener };
        let opened = open(&flow.heap, &flow.context(), first, way, admission, 60);
        assert_eq!(opened, crate::flow::open::Opened::NEW);
        flow
    }

    /// A connection after its handshake: the opener's next octet is 1000, the other side's 5000.
    fn established(opener: Direction) -> Self {
        let flow = Self::begun(opener, &segment(opener, SYN, 999, 0, 0));
        flow.goes(&segment(opener.reverse(), SYN | ACK, 4999, 1000, 0), FlowState::Answered);
        flow.goes(&segment(opener, ACK, 1000, 5000, 0), FlowState::Established);
        flow
    }

    fn context(&self) -> Context<'static> {
        Context { hash_keys: &KEYS, bucket_mask: 0, timeouts: &TIMEOUTS, now: self.now }
    }

    fn follow(&self, packet: &Packet, bytes: u64) {
        let direction = if packet.source == Addr::v4(7) { Outbound } else { Inbound };
        let context = self.context();
        let place = self.heap.lookup(&context, packet, Way { zone: 3, direction });
        let state = Found::at(&self.heap, place).expect("there is a flow").state;
        let step = Step { found: state, state, direction };
        assert!(follow(&self.heap, &context, place, packet, step, bytes));
    }

    fn goes(&self, packet: &Packet, state: FlowState) {
        self.follow(packet, 60);
        assert_eq!(self.seen().state, state, "{packet:?}");
    }

    fn seen(&self) -> Seen {
        let flows = self.heap.flows();
        assert_eq!(flows.len(), 1);
        flows[0]
    }

    /// The next octets of the opener and of the other side.
    fn marks(&self) -> (u64, u64) {
        let Seen { opener, next: [inbound, outbound], .. } = self.seen();
        if opener == Inbound { (inbound, outbound) } else { (outbound, inbound) }
    }
}

#[test]
fn steps_survive_their_bits() {
    for direction in Direction::ALL {
        for number in 2..=14 {
            let state = FlowState::from_number(number).unwrap();
            let step = Step { found: FlowState::Icmp, state, direction };
            assert_eq!(step.to_bits(), u32::from(number) | (direction as u32) << 8 | 11 << 16);
            assert_eq!(Step::from_bits(step.to_bits()), Some(step));
            let back = Step { found: state, state: FlowState::Icmp, direction };
            assert_eq!(Step::from_bits(back.to_bits()), Some(back));
            assert_eq!(
                Step::from_bits(step.to_bits() | 0xff00_fe00),
                Step::from_bits(step.to_bits()),
                "others are ignored"
            );
        }
        assert_eq!(Step::from_bits((direction as u32) << 8), None);
        assert_eq!(Step::from_bits((direction as u32) << 8 | 2), None, "no state that was found");
        assert_eq!(Step::from_bits((direction as u32) << 8 | 2 << 16), None, "no state now");
    }
}

#[test]
fn a_segment_is_followed_by_its_octets_and_a_syn_and_a_fin_count_as_one() {
    for (flags, payload, expected) in [
        (ACK, 0, 1000),
        (ACK | PSH, 10, 1010),
        (SYN, 0, 1001),
        (SYN, 10, 1011),
        (FIN | ACK, 0, 1001),
        (FIN | ACK, 10, 1011),
        (SYN | FIN, 10, 1012),
    ] {
        assert_eq!(next_sequence(&segment(Inbound, flags, 1000, 0, payload)), expected, "{flags:#x}");
    }
    assert_eq!(next_sequence(&segment(Inbound, FIN | ACK, u32::MAX, 0, 3)), 3, "they wrap");
}

#[test]
fn a_connection_goes_through_its_states() {
    for opener in Direction::ALL {
        let other = opener.reverse();
        let flow = Flow::established(opener);
        assert_eq!(flow.marks(), (1000, 5000));
        flow.goes(&segment(opener, ACK | PSH, 1000, 5000, 100), FlowState::Established);
        assert_eq!(flow.marks(), (1100, 5000));
        flow.goes(&segment(other, ACK, 5000, 1100, 1400), FlowState::Established);
        assert_eq!(flow.marks(), (1100, 6400));
        flow.goes(&segment(opener, FIN | ACK, 1100, 6400, 0), FlowState::FinOpener);
        assert_eq!(flow.marks(), (1101, 6400));
        flow.goes(&segment(other, ACK, 6400, 1101, 10), FlowState::FinOpener);
        flow.goes(&segment(other, FIN | ACK, 6410, 1101, 0), FlowState::Closing);
        let seen = flow.seen();
        let (mine, theirs) = (4, 4);
        assert_eq!(seen.packets, if opener == Inbound { [mine, theirs] } else { [theirs, mine] });
    }
    let flow = Flow::established(Inbound);
    flow.goes(&segment(Outbound, FIN | ACK, 5000, 1000, 0), FlowState::FinReplier);
    flow.goes(&segment(Inbound, FIN | ACK, 1000, 5001, 0), FlowState::Closing);
}

#[test]
fn a_handshake_is_complete_when_both_have_acknowledged_what_the_other_sent() {
    let begun = || Flow::begun(Inbound, &segment(Inbound, SYN, 999, 0, 0));
    for (what, answer, state) in [
        ("right", segment(Outbound, SYN | ACK, 4999, 1000, 0), FlowState::Answered),
        ("acknowledges too little", segment(Outbound, SYN | ACK, 4999, 999, 0), FlowState::Opening),
        ("acknowledges too much", segment(Outbound, SYN | ACK, 4999, 1001, 0), FlowState::Opening),
        ("acknowledges nothing", segment(Outbound, SYN, 4999, 1000, 0), FlowState::Opening),
        ("comes from the opener", segment(Inbound, SYN | ACK, 999, 1000, 0), FlowState::Opening),
    ] {
        begun().goes(&answer, state);
        assert_eq!(begun().seen().state, FlowState::Opening, "{what}");
    }
    for (what, last, state) in [
        ("right", segment(Inbound, ACK, 1000, 5000, 0), FlowState::Established),
        ("with data", segment(Inbound, ACK, 1000, 5000, 10), FlowState::Established),
        ("acknowledges too little", segment(Inbound, ACK, 1000, 4999, 0), FlowState::Answered),
        ("comes from the other side", segment(Outbound, ACK, 5000, 1000, 0), FlowState::Answered),
        ("is a SYN", segment(Inbound, SYN | ACK, 1000, 5000, 0), FlowState::Answered),
    ] {
        let flow = begun();
        flow.goes(&segment(Outbound, SYN | ACK, 4999, 1000, 0), FlowState::Answered);
        flow.follow(&last, 60);
        assert_eq!(flow.seen().state, state, "{what}");
    }
}

#[test]
fn a_connection_picked_up_in_the_middle_is_established_by_an_answer() {
    let flow = Flow::begun(Outbound, &segment(Outbound, ACK, 1000, 5000, 10));
    assert_eq!((flow.seen().state, flow.marks()), (FlowState::Opening, (1010, 0)));
    flow.goes(&segment(Outbound, ACK, 1010, 5000, 10), FlowState::Opening);
    flow.goes(&segment(Inbound, ACK, 5000, 1010, 0), FlowState::Established);
    assert_eq!(flow.marks(), (1020, 5000));
    let flow = Flow::begun(Outbound, &segment(Outbound, ACK, 1000, 0xc000_0000, 10));
    flow.goes(&segment(Outbound, ACK, 1010, 0xc000_0000, 10), FlowState::Opening);
    assert_eq!(flow.marks(), (1020, 0), "what was not heard may be any number");
}

#[test]
fn marks_move_ahead_only_and_no_further_than_any_window() {
    for (what, packet, marks) in [
        ("in order", segment(Inbound, ACK, 1000, 5000, 10), (1010, 5000)),
        ("sent again", segment(Inbound, ACK, 900, 5000, 100), (1000, 5000)),
        ("sent again and more", segment(Inbound, ACK, 900, 5000, 101), (1001, 5000)),
        ("a segment was lost", segment(Inbound, ACK, 1400, 5000, 100), (1500, 5000)),
        (
            "as far as it may be",
            segment(Inbound, ACK, 1000 + REACH, 5000, 0),
            (1000 + u64::from(REACH), 5000),
        ),
        ("one further", segment(Inbound, ACK, 1001 + REACH, 5000, 0), (1000, 5000)),
        ("far behind", segment(Inbound, ACK, 1000_u32.wrapping_sub(REACH + 1), 5000, 0), (1000, 5000)),
        ("acknowledges far ahead", segment(Inbound, ACK, 1000, 5001 + REACH, 10), (1000, 5000)),
        ("acknowledges as far as may be", segment(Inbound, ACK, 1000, 5000 + REACH, 10), (1010, 5000)),
        (
            "acknowledges far behind",
            segment(Inbound, ACK, 1000, 4999_u32.wrapping_sub(REACH), 10),
            (1000, 5000),
        ),
        (
            "acknowledges as far behind",
            segment(Inbound, ACK, 1000, 5000_u32.wrapping_sub(REACH), 10),
            (1010, 5000),
        ),
        ("of the other side", segment(Outbound, ACK, 5000, 1000, 10), (1000, 5010)),
        ("a reset", segment(Inbound, RST, 1001, 0, 10), (1000, 5000)),
    ] {
        let flow = Flow::established(Inbound);
        flow.goes(&packet, FlowState::Established);
        assert_eq!(flow.marks(), marks, "{what}");
    }
}

#[test]
fn marks_wrap() {
    let flow = Flow::begun(Inbound, &segment(Inbound, SYN, u32::MAX - 9, 0, 0));
    flow.goes(&segment(Outbound, SYN | ACK, 4999, u32::MAX - 8, 0), FlowState::Answered);
    flow.goes(&segment(Inbound, ACK, u32::MAX - 8, 5000, 20), FlowState::Established);
    assert_eq!(flow.marks(), (11, 5000));
    flow.goes(&segment(Inbound, ACK, u32::MAX - 8, 5000, 10), FlowState::Established);
    assert_eq!(flow.marks(), (11, 5000), "what was sent before the wrap lies behind");
}

#[test]
fn a_fin_counts_near_what_both_have_sent() {
    for (what, packet, state) in [
        ("in order", segment(Inbound, FIN | ACK, 1000, 5000, 0), FlowState::FinOpener),
        ("with data", segment(Inbound, FIN | ACK, 1000, 5000, 10), FlowState::FinOpener),
        ("of the other side", segment(Outbound, FIN | ACK, 5000, 1000, 0), FlowState::FinReplier),
        ("at the end of reach", segment(Inbound, FIN | ACK, 999 + REACH, 5000, 0), FlowState::FinOpener),
        ("one further", segment(Inbound, FIN | ACK, 1000 + REACH, 5000, 0), FlowState::Established),
        (
            "acknowledges elsewhere",
            segment(Inbound, FIN | ACK, 1000, 5001 + REACH, 0),
            FlowState::Established,
        ),
        ("without FIN", segment(Inbound, ACK, 1000, 5000, 0), FlowState::Established),
    ] {
        let flow = Flow::established(Inbound);
        flow.follow(&packet, 60);
        assert_eq!(flow.seen().state, state, "{what}");
    }
}

#[test]
fn a_reset_counts_if_it_is_the_very_next_octet_and_its_sum_is_right() {
    for (what, packet, state) in [
        ("next", segment(Inbound, RST, 1000, 0, 0), FlowState::Closing),
        ("next, with ACK", segment(Inbound, RST | ACK, 1000, 5000, 0), FlowState::Closing),
        ("next, acknowledges anything", segment(Inbound, RST | ACK, 1000, 77, 0), FlowState::Closing),
        ("next of the other side", segment(Outbound, RST, 5000, 0, 0), FlowState::Closing),
        ("one ahead", segment(Inbound, RST, 1001, 0, 0), FlowState::Established),
        ("one behind", segment(Inbound, RST, 999, 0, 0), FlowState::Established),
        ("the other side's number", segment(Inbound, RST, 5000, 0, 0), FlowState::Established),
        ("acknowledges all", segment(Inbound, RST | ACK, 1001, 5000, 0), FlowState::Established),
        (
            "a wrong sum",
            Packet { is_sum_right: false, ..segment(Inbound, RST, 1000, 0, 0) },
            FlowState::Established,
        ),
        ("zero", segment(Inbound, RST, 0, 0, 0), FlowState::Established),
    ] {
        let flow = Flow::established(Inbound);
        let before = flow.seen();
        flow.follow(&packet, 60);
        assert_eq!(flow.seen().state, state, "{what}");
        assert_eq!(flow.seen().next, before.next, "{what}: a reset moves no mark");
    }
}

#[test]
fn a_refusal_proves_itself_by_what_it_acknowledges() {
    for (what, packet, state) in [
        ("right", segment(Outbound, RST | ACK, 0, 1000, 0), FlowState::Closing),
        ("acknowledges too little", segment(Outbound, RST | ACK, 0, 999, 0), FlowState::Opening),
        ("acknowledges nothing", segment(Outbound, RST, 0, 1000, 0), FlowState::Opening),
        ("without an octet sent", segment(Outbound, RST, 0, 0, 0), FlowState::Opening),
        (
            "a wrong sum",
            Packet { is_sum_right: false, ..segment(Outbound, RST | ACK, 0, 1000, 0) },
            FlowState::Opening,
        ),
        ("from the opener", segment(Inbound, RST | ACK, 1000, 0, 0), FlowState::Opening),
        ("from the opener, its next", segment(Inbound, RST, 1000, 0, 0), FlowState::Opening),
    ] {
        let flow = Flow::begun(Inbound, &segment(Inbound, SYN, 999, 0, 0));
        flow.follow(&packet, 60);
        assert_eq!(flow.seen().state, state, "{what}");
    }
    // Once it is answered, only the next octet counts.
    let flow = Flow::begun(Inbound, &segment(Inbound, SYN, 999, 0, 0));
    flow.goes(&segment(Outbound, SYN | ACK, 4999, 1000, 0), FlowState::Answered);
    flow.goes(&segment(Outbound, RST | ACK, 7, 1000, 0), FlowState::Answered);
    flow.goes(&segment(Inbound, RST, 1000, 0, 0), FlowState::Closing);
}

#[test]
fn a_side_that_was_not_heard_cannot_reset() {
    let flow = Flow::begun(Inbound, &segment(Inbound, ACK, 1000, 5000, 0));
    let entry = flow.heap.entries.iter().find(|entry| entry.life.load() != 0).unwrap();
    let life = crate::flow::Life(entry.life.load());
    entry.life.store(life.with(FlowState::Established, 1000).0);
    flow.goes(&segment(Outbound, RST, 0, 0, 0), FlowState::Established);
}

#[test]
fn datagrams_and_queries_go_through_their_states() {
    use FlowState::*;
    for (protocol, steps) in [
        (
            Protocol::UDP,
            &[(Inbound, UdpOneWay), (Outbound, UdpExchange), (Outbound, UdpExchange), (Inbound, UdpStream)][..],
        ),
        (Protocol::ICMP, &[(Inbound, Icmp), (Inbound, Icmp)]),
        (Protocol(47), &[(Inbound, Other), (Outbound, Other)]),
    ] {
        let flow = Flow::begun(Inbound, &packet(Inbound, protocol));
        for (direction, state) in steps {
            let odd = Packet { tcp_flags: RST, ..packet(*direction, protocol) };
            flow.goes(&odd, *state);
        }
    }
    let flow = Flow::begun(Outbound, &packet(Outbound, Protocol::UDP));
    flow.goes(&packet(Outbound, Protocol::UDP), UdpOneWay);
    flow.goes(&packet(Inbound, Protocol::UDP), UdpExchange);
}

#[test]
fn packets_and_bytes_are_counted_each_way() {
    let flow = Flow::established(Inbound);
    flow.follow(&segment(Inbound, ACK, 1000, 5000, 0), 1000);
    flow.follow(&segment(Outbound, ACK, 5000, 1000, 0), 7);
    flow.follow(&segment(Outbound, ACK, 5000, 1000, 0), 8);
    let seen = flow.seen();
    assert_eq!((seen.packets, seen.bytes), ([3, 3], [1120, 75]));
}

#[test]
fn time_is_kept_where_it_matters_and_no_reset_or_fin_lengthens_a_life() {
    let data = segment(Inbound, ACK, 1000, 5000, 0);
    for (what, packet, later, seen) in [
        ("soon after", data, 8, 1000),
        ("some time after", data, 9, 1009),
        ("just before its end", data, 1000, 2000),
        ("a reset that does not count", segment(Inbound, RST, 7, 0, 0), 900, 1000),
        ("a FIN that does not count", segment(Inbound, FIN | ACK, 7 + REACH * 2, 5000, 0), 900, 1000),
        ("a FIN that does", segment(Inbound, FIN | ACK, 1000, 5000, 0), 900, 1000),
        ("a reset that does", segment(Inbound, RST, 1000, 0, 0), 900, 1900),
        ("a clock that is behind", data, 0_u32.wrapping_sub(3), 1000),
    ] {
        let mut flow = Flow::established(Inbound);
        flow.now = flow.now.wrapping_add(later);
        flow.follow(&packet, 60);
        assert_eq!(flow.seen().seen, seen, "{what}");
    }
    // Of other protocols these bits mean nothing.
    let mut flow = Flow::begun(Inbound, &packet(Inbound, Protocol(47)));
    flow.now += 300;
    flow.follow(&Packet { tcp_flags: RST | FIN, ..packet(Inbound, Protocol(47)) }, 60);
    assert_eq!(flow.seen().seen, 1300);
}

#[test]
fn short_timeouts_are_kept_to_a_quarter() {
    for (later, seen) in [(2, 1000), (3, 1003)] {
        let flow = Flow::established(Inbound);
        flow.goes(&segment(Inbound, RST, 1000, 0, 0), FlowState::Closing);
        let flow = Flow { now: 1000 + later, ..flow };
        flow.goes(&segment(Inbound, ACK, 1000, 5000, 0), FlowState::Closing);
        assert_eq!(flow.seen().seen, seen, "of ten ticks, after {later}");
    }
}

#[test]
fn a_later_fragment_is_counted_and_changes_nothing() {
    let flow = Flow::begun(Inbound, &packet(Inbound, Protocol::UDP));
    let later = Packet { fragment_offset: 1, ..packet(Outbound, Protocol::UDP) };
    flow.goes(&later, FlowState::UdpOneWay);
    assert_eq!(flow.seen().packets, [1, 1]);
    let flow = Flow { now: 1015, ..flow };
    flow.goes(&later, FlowState::UdpOneWay);
    assert_eq!(flow.seen().seen, 1015, "but keeps it alive");
    let mut flow = Flow::established(Inbound);
    flow.now += 100;
    let later = Packet { fragment_offset: 3, ..segment(Inbound, 0, 7, 7, 7) };
    flow.goes(&later, FlowState::Established);
    let seen = flow.seen();
    assert_eq!((seen.next, seen.packets), ([1000, 5000], [3, 1]));
    assert_eq!(seen.seen, 1000, "of TCP it may belong to what ended the flow");
}

#[test]
fn what_is_revoked_is_kept_and_not_counted() {
    for state in [FlowState::RevokedTcp, FlowState::Revoked] {
        let mut flow = Flow::established(Inbound);
        let packet = segment(Outbound, ACK, 5000, 1000, 10);
        flow.now += 100;
        let context = flow.context();
        let place = flow.heap.lookup(&context, &packet, Way { zone: 3, direction: Outbound });
        let before = flow.seen();
        let step = Step { found: FlowState::Established, state, direction: Outbound };
        assert!(follow(&flow.heap, &context, place, &packet, step, 60));
        let after = Seen { state, seen: 1100, ..before };
        assert_eq!(flow.seen(), after);
    }
}

#[test]
fn a_flow_that_is_gone_is_left_alone() {
    let flow = Flow::established(Inbound);
    let packet = segment(Inbound, ACK, 1000, 5000, 10);
    let place = flow.heap.lookup(&flow.context(), &packet, Way { zone: 3, direction: Inbound });
    let found = Found::at(&flow.heap, place).unwrap();
    let busy = found.retake();
    let step = Step { found: FlowState::Established, state: FlowState::Established, direction: Inbound };
    for place in [place, busy, Place::NOWHERE] {
        assert!(follow(&flow.heap, &flow.context(), place, &packet, step, 60), "nothing to be tried again");
        let counted = flow.heap.entries.iter().map(|entry| entry.counts[0].load() >> 40).sum::<u64>();
        assert_eq!(counted, 2);
    }
}

#[test]
fn what_ends_a_flow_never_lengthens_it() {
    let closing = |flow: &Flow| flow.goes(&segment(Inbound, RST, 1000, 0, 0), FlowState::Closing);
    // Idle so long, the connection had 1000 ticks left less that; closed it has ten, or what was left.
    for (idle, seen) in [(0, 1000), (100, 1100), (989, 1989), (990, 1990), (991, 1990), (1000, 1990)] {
        let mut flow = Flow::established(Inbound);
        flow.now += idle;
        closing(&flow);
        assert_eq!(flow.seen().seen, seen, "idle for {idle}");
    }
    // The same where the clock wraps between.
    let mut flow = Flow::established(Inbound);
    let entry = flow.heap.entries.iter().find(|entry| entry.life.load() != 0).unwrap();
    let life = crate::flow::Life(entry.life.load());
    entry.life.store(life.with(FlowState::Established, u32::MAX - 499).0);
    flow.now = 495;
    closing(&flow);
    assert_eq!(flow.seen().seen, 490, "five ticks are left");
    // One that is refused had a hundred.
    let mut flow = Flow::begun(Inbound, &segment(Inbound, SYN, 999, 0, 0));
    flow.now += 95;
    flow.goes(&segment(Outbound, RST | ACK, 0, 1000, 0), FlowState::Closing);
    assert_eq!(flow.seen().seen, 1090);
}

#[test]
fn what_another_cpu_has_done_meanwhile_is_gone_on_from() {
    let flow = Flow::established(Inbound);
    let packet = segment(Outbound, FIN | ACK, 5000, 1000, 0);
    let context = flow.context();
    let place = flow.heap.lookup(&context, &packet, Way { zone: 3, direction: Outbound });
    let step = Step { found: FlowState::Answered, state: FlowState::Answered, direction: Outbound };
    assert!(follow(&flow.heap, &context, place, &packet, step, 60));
    assert_eq!(flow.seen().state, FlowState::FinReplier, "it was established by then");
    // What the policy says of the state that was found holds.
    let step = Step { found: FlowState::FinReplier, state: FlowState::RevokedTcp, direction: Outbound };
    assert!(follow(&flow.heap, &context, place, &packet, step, 60));
    assert_eq!(flow.seen().state, FlowState::RevokedTcp);
}

#[test]
fn a_packet_that_is_tried_again_is_counted_once() {
    let flow = Flow::established(Inbound);
    flow.follow(&segment(Inbound, FIN | ACK, 1000, 5000, 0), 0);
    let seen = flow.seen();
    assert_eq!((seen.state, seen.packets, seen.bytes), (FlowState::FinOpener, [2, 1], [120, 60]));
}

#[test]
fn a_change_that_loses_is_told() {
    let flow = Flow::established(Inbound);
    let context = Context { now: 1100, ..flow.context() };
    let data = segment(Inbound, ACK, 1000, 5000, 0);
    let place = flow.heap.lookup(&context, &data, Way { zone: 3, direction: Inbound });
    let found = Found::at(&flow.heap, place).unwrap();
    assert!(found.change(FlowState::Established, 1050), "another CPU's packet");
    let step = Step { found: FlowState::Established, state: FlowState::Established, direction: Inbound };
    for (what, packet, is_done) in [
        ("time", data, false),
        ("a FIN", segment(Inbound, FIN | ACK, 1000, 5000, 0), false),
        ("a reset", segment(Inbound, RST, 1001, 0, 0), false),
        ("a reset that does not count", segment(Inbound, RST, 7, 0, 0), true),
    ] {
        assert_eq!(move_on(&found, &context, &packet, step), is_done, "{what}");
        assert_eq!(flow.seen().seen, 1050, "{what}");
    }
}
