//! Packets of a session that the flow table must take, or must not take, for what they claim to be.
//! Rows over `decide` in user space; that the programs decide alike is what `agreement` shows.
#![expect(clippy::unwrap_used, reason = "a test: what is written here is there")]

use std::net::IpAddr;

use sg_agent::{
    compile::{self, Input, RuleNumbers, Zone},
    document,
    image::Image,
    policy::{Infrastructure, Membership, Mode, Side},
};
use sg_common::{
    decide::Hook,
    verdict::{AllowReason, DropReason, Verdict},
};
use sg_tests::{
    memory::UserSpace,
    packet::{Icmp, Mac, Packet, Tcp, Transport},
};

const PEER: &str = "198.51.100.7";
const LOCAL: &str = "192.0.2.10";
const OPEN: &str = "inbound: [{allow: [tcp/443, icmp/echo-request], from: 198.51.100.0/24}], outbound: []";
const SHUT: &str = "inbound: [], outbound: []";
const IN: Hook = Hook::Ingress;
const OUT: Hook = Hook::Egress;

fn image(rules: &str) -> Image {
    let text =
        format!("version: 1\ngroups: {{a: {{{rules}}}}}\ninterfaces: [{{match: eth0, groups: [a]}}]\n");
    let policy = document::parse_str("rows.yaml", &text, &document::Limits::default()).policy.unwrap();
    let zone = Zone {
        groups: vec![policy.group("a").unwrap()],
        side: Side::Host,
        mode: Mode::Enforce,
        source_check: false,
        infrastructure: Infrastructure::default(),
        own: vec![],
        macs: vec![],
        ethertypes: vec![],
    };
    let (members, numbers) = (Membership::written(&policy), RuleNumbers::in_order(&policy));
    let input = Input { policy: &policy, members: &members, zones: &[Some(zone)], numbers: &numbers };
    compile::compile(&input, &compile::Limits { nodes: 1024 }).unwrap()
}

/// One interface, and what it knows.
struct Session {
    user_space: UserSpace,
    image: Image,
}

impl Session {
    fn new(buckets: u32) -> Self {
        let mut user_space = UserSpace::new(buckets);
        user_space.set_generation(1);
        Self { user_space, image: image(OPEN) }
    }

    fn apply(&mut self, rules: &str, generation: u64) {
        self.image = image(rules);
        self.user_space.set_generation(generation);
    }

    fn judge_from(&self, peer: &str, hook: Hook, transport: impl Into<Transport>) -> &'static str {
        let (peer, local): (IpAddr, IpAddr) = (peer.parse().unwrap(), LOCAL.parse().unwrap());
        let (source, destination) = if hook == IN { (peer, local) } else { (local, peer) };
        let frame = Packet::new(source, destination, transport).frame(Mac::local(1), Mac::local(2)).bytes();
        match self.user_space.judge(&self.image, hook, &frame).verdict {
            Verdict::Allow(reason, _) => AllowReason::name(reason),
            Verdict::Drop(reason) => DropReason::name(reason),
        }
    }

    fn judge(&self, hook: Hook, transport: impl Into<Transport>) -> &'static str {
        self.judge_from(PEER, hook, transport)
    }

    /// A segment between the peer's `port` and the instance's 443.
    fn tcp(&self, hook: Hook, port: u16, flags: u8, sequence: u32, acknowledgement: u32) -> &'static str {
        let (source, destination) = if hook == IN { (port, 443) } else { (443, port) };
        let mut tcp = Tcp::new(source, destination, flags);
        (tcp.sequence, tcp.acknowledgement) = (sequence, acknowledgement);
        self.judge(hook, tcp)
    }

    /// A handshake from `port`; the peer's next number is 1001, the instance's 5001.
    fn open(&self, port: u16) {
        assert_eq!(self.tcp(IN, port, Tcp::SYN, 1000, 0), "rule");
        assert_eq!(self.tcp(OUT, port, Tcp::SYN | Tcp::ACK, 5000, 1001), "flow");
        assert_eq!(self.tcp(IN, port, Tcp::ACK, 1001, 5001), "flow");
    }

    /// Whether half-open newcomers can push the flow of `port` out of a table of 32 slots.
    fn gives_way(&self, port: u16) -> bool {
        for newcomer in 2000..2200 {
            self.tcp(IN, newcomer, Tcp::SYN, 1, 0);
        }
        self.tcp(OUT, port, Tcp::ACK, 5001, 1001) != "flow"
    }
}

#[test]
fn a_ping_admits_no_other_query() {
    let session = Session::new(2);
    assert_eq!(session.judge(IN, Icmp::new(8, 0, [0, 7, 0, 1], b"")), "rule");
    assert_eq!(session.judge(IN, Icmp::new(8, 0, [0, 7, 0, 2], b"")), "flow");
    for kind in [13, 15, 17] {
        assert_eq!(session.judge(IN, Icmp::new(kind, 0, [0, 7, 0, 1], b"")), "no_rule", "query {kind}");
    }
    for kind in [14, 16, 18] {
        assert_eq!(session.judge(OUT, Icmp::new(kind, 0, [0, 7, 0, 1], b"")), "no_rule", "reply {kind}");
    }
    assert_eq!(session.judge(OUT, Icmp::new(0, 0, [0, 8, 0, 1], b"")), "no_rule", "another id");
    assert_eq!(session.judge(OUT, Icmp::new(0, 0, [0, 7, 0, 1], b"")), "flow", "its own reply");
}

#[test]
fn nobody_off_the_path_ends_a_connection() {
    for (what, forged) in [
        ("a reset one off", &[(Tcp::RST, 1002, 0)][..]),
        ("a reset far away", &[(Tcp::RST, 0x8000_0000, 0)]),
        ("a reset with number 0", &[(Tcp::RST, 0, 0)]),
        (
            "marks moved by guesses, then the resets that fit them",
            &[
                (Tcp::ACK, 1, 77),
                (Tcp::RST, 1, 0),
                (Tcp::ACK, 0x8000_0001, 77),
                (Tcp::RST, 0x8000_0001, 0),
                (Tcp::ACK, 0x8000_0001, 5001),
                (Tcp::RST, 0x8000_0001, 0),
            ],
        ),
        (
            "FINs that fit nothing",
            &[(Tcp::FIN | Tcp::ACK, 0x7000_0000, 5001), (Tcp::FIN | Tcp::ACK, 1001, 9)],
        ),
        ("another SYN", &[(Tcp::SYN, 0x4000_0000, 0)]),
    ] {
        let session = Session::new(2);
        session.open(1500);
        for &(flags, sequence, acknowledgement) in forged {
            session.tcp(IN, 1500, flags, sequence, acknowledgement);
        }
        assert!(!session.gives_way(1500), "{what}");
    }
    // What the endpoints themselves send does end it.
    for (what, true_ones) in [
        ("a reset that fits", &[(IN, Tcp::RST, 1001, 0)][..]),
        (
            "closed both ways",
            &[(IN, Tcp::FIN | Tcp::ACK, 1001, 5001), (OUT, Tcp::FIN | Tcp::ACK, 5001, 1002)],
        ),
    ] {
        let session = Session::new(2);
        session.open(1500);
        for &(hook, flags, sequence, acknowledgement) in true_ones {
            assert_eq!(session.tcp(hook, 1500, flags, sequence, acknowledgement), "flow", "{what}");
        }
        assert!(session.gives_way(1500), "{what}");
    }
}

#[test]
fn a_handshake_is_complete_when_both_sides_acknowledge() {
    let session = Session::new(2);
    assert_eq!(session.tcp(IN, 1500, Tcp::SYN, 1000, 0), "rule");
    assert_eq!(session.tcp(OUT, 1500, Tcp::SYN | Tcp::ACK, 5000, 1001), "flow");
    session.tcp(IN, 1500, Tcp::ACK, 1001, 4242);
    assert!(session.gives_way(1500), "a forged last packet");
    // The same ports once more, with numbers that lie behind those of before.
    let session = Session::new(2);
    assert_eq!(session.tcp(IN, 1500, Tcp::SYN, 9000, 0), "rule");
    assert_eq!(session.tcp(OUT, 1500, Tcp::SYN | Tcp::ACK, 0xf000_0000, 9001), "flow");
    session.open(1500);
    assert!(!session.gives_way(1500), "a port reused before the handshake was complete");
}

#[test]
fn what_the_policy_has_ended_stays_ended_until_it_is_allowed_again() {
    let mut session = Session::new(2);
    session.open(1500);
    session.apply(SHUT, 2);
    for _ in 0..3 {
        assert_eq!(session.tcp(IN, 1500, Tcp::ACK, 1001, 5001), "revoked");
        assert_eq!(session.tcp(OUT, 1500, Tcp::ACK, 5001, 1001), "revoked");
    }
    session.apply(OPEN, 3);
    assert_eq!(session.tcp(OUT, 1500, Tcp::ACK, 5001, 1001), "flow");
    // A CPU that is late judges by the generation before once more.
    session.apply(SHUT, 2);
    assert_eq!(session.tcp(IN, 1500, Tcp::ACK, 1001, 5001), "revoked");
    session.apply(OPEN, 3);
    assert_eq!(session.tcp(IN, 1500, Tcp::ACK, 1001, 5001), "flow", "and its word is not the last");
}

#[test]
fn unanswered_pings_give_way_and_answered_ones_do_not() {
    let session = Session::new(2);
    assert_eq!(session.judge(IN, Icmp::new(8, 0, [0, 1, 0, 1], b"")), "rule");
    assert_eq!(session.judge(OUT, Icmp::new(0, 0, [0, 1, 0, 1], b"")), "flow");
    for id in 2..=200_u8 {
        assert_eq!(
            session.judge_from("198.51.100.99", IN, Icmp::new(8, 0, [0, id, 0, 1], b"")),
            "rule",
            "ping {id}"
        );
    }
    assert_eq!(session.tcp(IN, 1500, Tcp::SYN, 1, 0), "rule", "a flood of pings denies nobody");
    assert_eq!(session.judge(IN, Icmp::new(8, 0, [0, 1, 0, 2], b"")), "flow");
}
