//! What packets do to states, and what a state means to the table.

use super::*;

const NOTHING: Signal =
    Signal { from_opener: true, syn: false, ack: false, fin: false, rst: false, acks_all: false };
const ACK: Signal = Signal { ack: true, acks_all: true, ..NOTHING };
const FIN: Signal = Signal { fin: true, ..ACK };
const RST: Signal = Signal { rst: true, ..NOTHING };
const SYN_ACK: Signal = Signal { syn: true, ..ACK };

const fn back(signal: Signal) -> Signal {
    Signal { from_opener: false, ..signal }
}

#[test]
fn states_follow_the_packets() {
    use FlowState::*;
    for (what, before, signal, after) in [
        ("the server answers", Opening, back(SYN_ACK), Answered),
        ("a forged answer", Opening, back(Signal { acks_all: false, ..SYN_ACK }), Opening),
        ("the client repeats itself", Opening, ACK, Opening),
        ("the handshake completes", Answered, ACK, Established),
        ("a forged last packet", Answered, Signal { acks_all: false, ..ACK }, Answered),
        ("the answer is repeated", Answered, back(SYN_ACK), Answered),
        ("picked up in the middle", Opening, back(ACK), Established),
        ("connection refused", Opening, back(RST), Closing),
        ("the opener closes", Established, FIN, FinOpener),
        ("the other side closes", Established, back(FIN), FinReplier),
        ("half closed, data goes on", FinOpener, back(ACK), FinOpener),
        ("the opener repeats its FIN", FinOpener, FIN, FinOpener),
        ("closed both ways", FinOpener, back(FIN), Closing),
        ("closed both ways, the other first", FinReplier, FIN, Closing),
        ("reset", Established, RST, Closing),
        ("nothing wakes the dead", Closing, ACK, Closing),
        ("datagrams one way", UdpOneWay, ACK, UdpOneWay),
        ("one exchange", UdpOneWay, back(NOTHING), UdpExchange),
        ("a longer answer", UdpExchange, back(NOTHING), UdpExchange),
        ("a stream", UdpExchange, NOTHING, UdpStream),
        ("a stream stays", UdpStream, back(NOTHING), UdpStream),
        ("ping", Icmp, back(NOTHING), Icmp),
        ("revoked stays", Revoked, back(ACK), Revoked),
    ] {
        assert_eq!(before.advance(signal), after, "{what}");
    }
}

#[test]
fn numbers_survive() {
    for number in 0..=255 {
        if let Some(state) = FlowState::from_number(number) {
            assert_eq!(state as u8, number);
            assert!(number < 16, "a state has four bits");
        }
    }
}

/// Every state, its number, timeout and name.
const STATES: [(FlowState, u8, Timeout, &str); 13] = [
    (FlowState::Opening, 2, Timeout::TcpOpening, "opening"),
    (FlowState::Answered, 3, Timeout::TcpOpening, "answered"),
    (FlowState::Established, 4, Timeout::TcpEstablished, "established"),
    (FlowState::FinOpener, 5, Timeout::TcpEstablished, "fin_opener"),
    (FlowState::FinReplier, 6, Timeout::TcpEstablished, "fin_replier"),
    (FlowState::Closing, 7, Timeout::TcpClosing, "closing"),
    (FlowState::UdpOneWay, 8, Timeout::Udp, "udp_one_way"),
    (FlowState::UdpExchange, 9, Timeout::Udp, "udp_exchange"),
    (FlowState::UdpStream, 10, Timeout::UdpStream, "udp_stream"),
    (FlowState::Icmp, 11, Timeout::Icmp, "icmp"),
    (FlowState::Other, 12, Timeout::Other, "other"),
    (FlowState::Revoked, 13, Timeout::UdpStream, "revoked"),
    (FlowState::RevokedTcp, 14, Timeout::TcpEstablished, "revoked"),
];

#[test]
fn every_state_has_its_number_timeout_and_name() {
    for (state, number, timeout, name) in STATES {
        assert_eq!((state as u8, state.timeout(), state.name()), (number, timeout, name));
        assert_eq!(FlowState::from_number(number), Some(state));
    }
    for number in (0..=255).filter(|number| !(2..=14).contains(number)) {
        assert_eq!(FlowState::from_number(number), None, "{number}");
    }
}

#[test]
fn what_is_unanswered_or_over_may_give_way() {
    use FlowState::*;
    for (state, ..) in STATES {
        let is_revoked = matches!(state, Revoked | RevokedTcp);
        assert_eq!(state.is_revoked(), is_revoked, "{state:?}");
        assert_eq!(state.is_over(), is_revoked || state == Closing, "{state:?}");
        let is_expendable = is_revoked || matches!(state, Opening | Answered | Closing | UdpOneWay);
        assert_eq!(state.is_expendable(), is_expendable, "{state:?}");
    }
}

#[test]
fn timeouts_have_their_settings_and_defaults() {
    let expected = [
        ("tcp_opening", 30),
        ("tcp_established", 432_000),
        ("tcp_closing", 10),
        ("udp", 30),
        ("udp_stream", 180),
        ("icmp", 30),
        ("other", 600),
        ("fragment", 30),
    ];
    let found = Timeout::ALL.map(|timeout| (timeout.name(), timeout.default_seconds()));
    assert_eq!(found, expected);
    for (place, timeout) in Timeout::ALL.into_iter().enumerate() {
        assert_eq!(timeout as usize, place);
    }
}

#[test]
fn only_the_one_signal_that_belongs_moves_a_state() {
    use FlowState::*;
    let bits = [false, true];
    for from_opener in bits {
        for (syn, ack, fin) in bits
            .into_iter()
            .flat_map(|syn| bits.map(|ack| (syn, ack)))
            .flat_map(|(syn, ack)| bits.map(|fin| (syn, ack, fin)))
        {
            for (acks_all, rst) in bits.into_iter().flat_map(|acks_all| bits.map(|rst| (acks_all, rst))) {
                let signal = Signal { from_opener, syn, ack, fin, rst, acks_all };
                let closed = if from_opener { FinOpener } else { FinReplier };
                let established = if fin { closed } else { Established };
                for (state, ..) in STATES {
                    let is_tcp = matches!(state, Opening | Answered | Established | FinOpener | FinReplier);
                    let expected = match state {
                        _ if is_tcp && rst => Closing,
                        Opening if !from_opener && syn && acks_all => Answered,
                        Opening if !from_opener && ack && !syn => established,
                        Answered if from_opener && acks_all && !syn => established,
                        Established => established,
                        FinOpener if fin && !from_opener => Closing,
                        FinReplier if fin && from_opener => Closing,
                        UdpOneWay if !from_opener => UdpExchange,
                        UdpExchange if from_opener => UdpStream,
                        same => same,
                    };
                    assert_eq!(state.advance(signal), expected, "{state:?} {signal:?}");
                }
            }
        }
    }
}
