//! Writes the seeds of `packet` and `differential` into `corpus/`: a shape each, by name. To be run
//! again when the form of an input changes. The seeds of `document` are texts, written by hand.

use std::{fs, io, net::IpAddr, path::Path};

use sg_tests::packet::{Extension, Frame, Icmp, Ipv6, Mac, Packet, Tcp, Transport, Udp};

/// An input and its name.
type Seed = (&'static str, Vec<u8>);

fn main() -> io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (target, seeds) in [("packet", packets()), ("differential", cases())] {
        fs::create_dir_all(corpus.join(target))?;
        for (name, input) in seeds {
            fs::write(corpus.join(target).join(name), input)?;
        }
    }
    Ok(())
}

const ETHERNET: u8 = 0;
const GSO: u8 = 1;
const TAG_OUT: u8 = 2;
const BARE_V4: u8 = 8;
const BARE_V6: u8 = 12;

fn v4(transport: impl Into<Transport>) -> Packet {
    Packet::new([198, 51, 100, 7].into(), [192, 0, 2, 10].into(), transport)
}

fn v6(transport: impl Into<Transport>) -> Packet {
    let [source, destination] =
        [[0x2001, 0xdb8, 1, 0, 0, 0, 0, 7], [0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 0x10]].map(IpAddr::from);
    Packet::new(source, destination, transport)
}

fn chain(extensions: Vec<Extension>) -> Packet {
    v6(syn()).ipv6(|ip| ip.extensions = extensions)
}

fn syn() -> Tcp {
    Tcp::new(40_000, 443, Tcp::SYN)
}

fn question() -> Udp {
    Udp::new(40_000, 53, b"question")
}

fn framed(packet: &Packet) -> Frame {
    packet.frame(Mac::local(1), Mac::local(2))
}

fn input(circumstances: u8, bytes: &[u8]) -> Vec<u8> {
    [&[circumstances], bytes].concat()
}

fn ethernet(packet: &Packet) -> Vec<u8> {
    input(ETHERNET, &framed(packet).bytes())
}

/// A shape of a packet each: protocols, headers, and the rows of attacks that are a single packet.
fn packets() -> Vec<Seed> {
    let fragment = |offset, more| {
        v4(question()).ipv4(|ip| (ip.offset, ip.more_fragments, ip.identification) = (offset, more, 7))
    };
    let padded =
        [framed(&v4(question()).ipv4(|ip| ip.total_length = Some(20))).bytes(), vec![0; 18]].concat();
    // As the side that an error goes to has sent it.
    let back = |packet: Packet| {
        let turned = packet
            .ipv4(|ip| std::mem::swap(&mut ip.source, &mut ip.destination))
            .ipv6(|ip| std::mem::swap(&mut ip.source, &mut ip.destination));
        turned.bytes()
    };
    let quoted = back(v4(question()));
    let quoted_v6 = back(v6(question()));
    let snap = [&[0xaa, 0xaa, 3, 0, 0, 0, 8, 0][..], &v4(syn()).bytes()].concat();
    let tagged = |tags: &[u16]| {
        let frame = tags.iter().rev().fold(framed(&v4(syn())), |frame, tag| frame.tagged(*tag, 0));
        input(ETHERNET, &frame.bytes())
    };
    let arp = [&[0, 1, 8, 0, 6, 4, 0, 1][..], &[2; 20]].concat();
    let open = |packet: Packet| {
        input(
            GSO,
            &framed(&packet.ipv4(|ip| ip.total_length = Some(0)).ipv6(|ip| ip.payload_length = Some(0)))
                .bytes(),
        )
    };
    let options = |options: &[u8]| ethernet(&v4(syn()).ipv4(|ip| ip.options = options.to_vec()));
    let hops = |packet: Packet, hops| ethernet(&packet.ipv6(|ip: &mut Ipv6| ip.hop_limit = hops));
    vec![
        ("tcp4", ethernet(&v4(syn()))),
        ("tcp6", ethernet(&v6(syn()))),
        ("tcp_options", ethernet(&v4(Tcp { options: vec![2, 4, 5, 180], ..syn() }))),
        ("udp4", ethernet(&v4(question()))),
        ("udp6", ethernet(&v6(question()))),
        ("echo4", ethernet(&v4(Icmp::echo_request(false, 7, 1)))),
        ("echo6", ethernet(&v6(Icmp::echo_request(true, 7, 1)))),
        ("unreachable4", ethernet(&v4(Icmp::new(3, 3, [0; 4], &quoted)))),
        ("too_big6", ethernet(&v6(Icmp::new(2, 0, [0, 0, 5, 0], &quoted_v6)))),
        (
            "quotes_an_error",
            ethernet(&v4(Icmp::new(3, 3, [0; 4], &v4(Icmp::new(3, 1, [0; 4], &quoted)).bytes()))),
        ),
        (
            "c1_quotes_options",
            ethernet(&v4(Icmp::new(
                3,
                3,
                [0; 4],
                &back(v4(question()).ipv4(|ip| ip.options = vec![7, 7, 4, 0, 0, 0, 0])),
            ))),
        ),
        (
            "c1_quotes_a_chain",
            ethernet(&v6(Icmp::new(1, 4, [0; 4], &back(chain(vec![Extension::Destination(vec![]); 2]))))),
        ),
        ("c1_quotes_a_later_fragment", ethernet(&v4(Icmp::new(11, 1, [0; 4], &back(fragment(4, false)))))),
        ("c1_quotes_too_little", ethernet(&v4(Icmp::new(3, 3, [0; 4], &quoted[..27])))),
        ("redirect4", ethernet(&v4(Icmp::new(5, 1, [192, 0, 2, 1], &quoted)))),
        ("neighbour_solicitation", hops(v6(Icmp::new(135, 0, [0; 4], &[0xfe; 24])), 255)),
        ("listener_report", hops(v6(Icmp::new(143, 0, [0, 0, 0, 1], &[4; 20])), 1)),
        ("dhcp4", ethernet(&Packet::new([0; 4].into(), [255; 4].into(), Udp::new(68, 67, &[1; 20])))),
        ("gre", ethernet(&v4(Transport::Other(47, vec![0, 0, 8, 0, 0x45, 0, 0, 20])))),
        ("sctp", ethernet(&v4(Transport::Other(132, vec![0x9c, 0x40, 1, 0xbb, 0, 0, 0, 0])))),
        ("esp6", ethernet(&v6(Transport::Other(50, vec![1; 24])))),
        ("arp", input(ETHERNET, &Frame::new(Mac::local(1), Mac::BROADCAST, 0x0806, arp).bytes())),
        ("lldp", input(ETHERNET, &Frame::new(Mac::local(1), Mac::local(2), 0x88cc, vec![2, 7, 4]).bytes())),
        ("l1_one_tag", tagged(&[0x8100])),
        ("l1_two_tags", tagged(&[0x88a8, 0x8100])),
        ("l1_three_tags", tagged(&[0x8100, 0x8100, 0x8100])),
        ("l1_tag_out", input(TAG_OUT, &framed(&v6(syn())).bytes())),
        (
            "l2_snap",
            input(ETHERNET, &Frame::new(Mac::local(1), Mac::local(2), snap.len() as u16, snap).bytes()),
        ),
        ("l2_mpls", input(ETHERNET, &Frame { ethertype: 0x8847, ..framed(&v4(syn())) }.bytes())),
        ("l3_runt", input(ETHERNET, &framed(&v4(syn())).bytes()[..30])),
        ("l3_frame_shorter_than_ip", ethernet(&v4(syn()).ipv4(|ip| ip.total_length = Some(1500)))),
        ("l3_ip_shorter_than_tcp", ethernet(&v4(syn()).ipv4(|ip| ip.total_length = Some(39)))),
        ("l3_ip_shorter_than_its_header", ethernet(&v4(syn()).ipv4(|ip| ip.total_length = Some(19)))),
        ("i2_option_of_one_octet", options(&[7, 1, 0, 0])),
        (
            "x1_extension_past_the_packet",
            ethernet(
                &chain(vec![Extension::Destination(vec![1; 20])]).ipv6(|ip| ip.payload_length = Some(16)),
            ),
        ),
        ("i1_options_that_look_like_ports", options(&[1, 1, 1, 0xbb, 4, 0, 0, 0])),
        ("i1_record_route", options(&[7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0])),
        ("i2_short_header", ethernet(&v4(syn()).ipv4(|ip| ip.header_length = Some(4)))),
        ("i2_version_6_under_ipv4", ethernet(&v4(syn()).ipv4(|ip| ip.version = Some(6)))),
        ("i2_loose_source_route", options(&[1, 131, 7, 4, 10, 0, 0, 1])),
        ("i2_strict_source_route", options(&[137, 7, 4, 10, 0, 0, 1, 0])),
        ("i3_header_in_the_padding", input(ETHERNET, &padded)),
        (
            "f1_first_fragment_of_eight_octets",
            ethernet(&Packet {
                transport: Transport::Other(6, vec![0x9c, 0x40, 1, 0xbb, 0, 0, 0, 1]),
                ..fragment(0, true)
            }),
        ),
        ("f1_offset_one_of_tcp", ethernet(&v4(syn()).ipv4(|ip| ip.offset = 1))),
        ("f2_later_fragment", ethernet(&fragment(4, false))),
        ("f3_first_fragment", ethernet(&fragment(0, true))),
        ("f4_atomic_fragment", ethernet(&chain(vec![Extension::Fragment(0, false, 9)]))),
        (
            "f5_two_fragment_headers",
            ethernet(&chain(vec![Extension::Fragment(0, true, 9), Extension::Fragment(0, false, 9)])),
        ),
        (
            "f5_first_fragment_ends_in_the_chain",
            ethernet(
                &chain(vec![Extension::Fragment(0, true, 9), Extension::Destination(vec![])])
                    .ipv6(|ip| ip.payload_length = Some(12)),
            ),
        ),
        ("x1_one_extension", ethernet(&chain(vec![Extension::Destination(vec![])]))),
        ("x1_eight_extensions", ethernet(&chain(vec![Extension::Destination(vec![]); 8]))),
        ("x1_nine_extensions", ethernet(&chain(vec![Extension::Destination(vec![]); 9]))),
        (
            "x2_hop_by_hop_second",
            ethernet(&chain(vec![Extension::Destination(vec![]), Extension::HopByHop(vec![])])),
        ),
        ("x2_routing_header_0", ethernet(&chain(vec![Extension::Routing(0, 0, vec![0; 20])]))),
        ("x2_segments_left", ethernet(&chain(vec![Extension::Routing(2, 1, vec![0; 20])]))),
        (
            "x3_authentication_of_four_octet_units",
            ethernet(&chain(vec![
                Extension::HopByHop(vec![]),
                Extension::Authentication(vec![0; 12]),
                Extension::Mobility,
            ])),
        ),
        ("t1_null", ethernet(&v4(Tcp::new(40_000, 443, 0)))),
        ("t5_data_offset_4", ethernet(&v4(Tcp { data_offset: Some(4), ..syn() }))),
        ("t5_data_offset_past_the_packet", ethernet(&v6(Tcp { data_offset: Some(15), ..syn() }))),
        ("u1_length_7", ethernet(&v4(Udp { length: Some(7), ..question() }))),
        ("u1_length_past_the_packet", ethernet(&v6(Udp { length: Some(900), ..question() }))),
        ("m1_loopback", ethernet(&Packet::new([127, 0, 0, 1].into(), [192, 0, 2, 10].into(), syn()))),
        ("m1_multicast_source", ethernet(&Packet::new([224, 0, 0, 1].into(), [192, 0, 2, 10].into(), syn()))),
        (
            "m1_mapped",
            ethernet(&v6(syn()).ipv6(|ip| ip.source = std::net::Ipv4Addr::LOCALHOST.to_ipv6_mapped())),
        ),
        ("m1_unspecified", ethernet(&v6(syn()).ipv6(|ip| ip.source = std::net::Ipv6Addr::UNSPECIFIED))),
        ("g1_big_tcp4", open(v4(Tcp { payload: vec![1; 64], ..syn() }))),
        ("g1_big_tcp6", open(v6(Tcp { payload: vec![1; 64], ..syn() }))),
        ("bare4", input(BARE_V4, &v4(syn()).bytes())),
        ("bare6", input(BARE_V6, &v6(question()).bytes())),
    ]
}

/// The words of a case: see `differential/script.rs`.
mod word {
    pub(super) type Step = [u8; 8];

    pub(super) const IN: u8 = 0;
    pub(super) const OUT: u8 = 1;
    pub(super) const V6: u8 = 2;
    pub(super) const TCP: u8 = 0;
    pub(super) const UDP: u8 = 7;
    pub(super) const ICMP: u8 = 11;
    pub(super) const OTHER: u8 = 15;
    pub(super) const SYN: u8 = 0;
    pub(super) const SYN_ACK: u8 = 1;
    pub(super) const ACK: u8 = 2;
    pub(super) const FIN: u8 = 4;
    pub(super) const RST: u8 = 5;

    /// From port 40000 of the first remote to port 443 of the instance, or back.
    pub(super) const fn fresh(way: u8, transport: u8, detail: u8) -> Step {
        [0, way, 0, 0xf0, transport, detail, 0, 0]
    }

    /// As [`fresh`], with the ports of PORTS at these places: the instance's, the other side's.
    pub(super) const fn between(way: u8, local: u8, remote: u8, transport: u8, detail: u8) -> Step {
        [0, way, 0, remote << 4 | local, transport, detail, 0, 0]
    }

    /// The same side goes on.
    pub(super) const fn on(flags: u8) -> Step {
        [5, 0, flags, 0, 0, 0, 0, 0]
    }

    /// The other side answers.
    pub(super) const fn back(flags: u8) -> Step {
        [5, 1, flags, 0, 0, 0, 0, 0]
    }

    /// The other side answers with numbers that are off.
    pub(super) const fn forged(flags: u8, off: u8) -> Step {
        [5, 1, flags, off, 0, 0, 0, 0]
    }

    /// An ICMP error about the last packet: kind, from whom, cut to so many octets.
    pub(super) const fn error(kind: u8, from: u8, cut: u8) -> Step {
        [9, kind, from, cut, 0, 0, 0, 0]
    }

    /// The last packet once more, damaged.
    pub(super) const fn damaged(how: u8, a: u8, b: u8, c: u8, d: u8) -> Step {
        [10, how, a, b, c, d, 0, 0]
    }

    pub(super) const fn wait(which: u8) -> Step {
        [12, which, 0, 0, 0, 0, 0, 0]
    }

    pub(super) const fn change(how: u8) -> Step {
        [13, how, 0, 0, 0, 0, 0, 0]
    }

    pub(super) const fn foreign(which: u8) -> Step {
        [15, which, 28, 1, 0, 0, 0, 0]
    }
}

/// A story each, under several policies: what the policy does with it, the fuzzer varies.
fn cases() -> Vec<Seed> {
    use word::*;

    let session = |way| vec![fresh(way, TCP, SYN), back(SYN_ACK), back(ACK), back(ACK), on(ACK)];
    let with = |more: &[Step], way| [session(way), more.to_vec()].concat();
    let stories: Vec<(&'static str, Vec<Step>)> = vec![
        ("session_in", session(IN)),
        ("session_out", session(OUT)),
        ("session6_out", session(OUT | V6)),
        ("half_close", with(&[on(FIN), back(ACK), on(ACK), back(FIN), back(ACK)], OUT)),
        ("reset", with(&[back(RST), on(ACK), fresh(OUT, TCP, SYN)], OUT)),
        ("reset_off_by_one", with(&[forged(RST, 1), back(ACK)], IN)),
        ("reset_far_off", with(&[forged(RST, 6), back(ACK)], OUT)),
        ("syn_on_the_reversed_tuple", with(&[back(SYN)], OUT)),
        ("refused", vec![fresh(OUT, TCP, SYN), back(6), fresh(OUT, TCP, SYN)]),
        ("picked_up", vec![fresh(OUT, TCP, ACK), back(ACK), on(ACK)]),
        ("opening_dies", vec![fresh(OUT, TCP, SYN), wait(11), back(SYN_ACK)]),
        ("established_lives", with(&[wait(14), on(ACK), wait(15), on(ACK)], OUT)),
        ("closing_dies", with(&[on(FIN), back(FIN), wait(5), on(ACK)], OUT)),
        ("udp", vec![fresh(OUT, UDP, 0), back(0), back(0), back(0), wait(9), on(0), wait(12), on(0)]),
        ("udp_one_way", vec![fresh(OUT, UDP, 0), on(0), on(0), wait(9), on(0), wait(10), on(0)]),
        ("udp_to_the_tick", vec![fresh(OUT, UDP, 0), wait(9), back(0), on(0), wait(12), back(0)]),
        ("other_again_and_again", [fresh(OUT, OTHER, 7), wait(13)].repeat(6)),
        ("udp6_in", vec![fresh(IN | V6, UDP, 0), back(0), wait(9), back(0)]),
        ("ping", vec![fresh(OUT, ICMP, 0), back(0), wait(8), back(0), wait(10), on(0)]),
        ("ping6", vec![fresh(OUT | V6, ICMP, 2), back(0), back(0)]),
        ("ping_both_ways", vec![fresh(OUT, ICMP, 0), fresh(IN, ICMP, 0), back(0)]),
        ("gre", vec![fresh(OUT, OTHER, 0), back(0), wait(13), on(0)]),
        ("unreachable", vec![fresh(OUT, UDP, 0), error(0, 0, 0)]),
        ("unreachable_cut", vec![fresh(OUT, UDP, 0), error(0, 0, 0x9c)]),
        ("unreachable_from_a_router", vec![fresh(OUT, TCP, SYN), error(1, 3, 0)]),
        ("redirect", vec![fresh(OUT, TCP, SYN), error(4, 0, 0)]),
        (
            "revoked",
            with(&[change(1), on(ACK), change(2), back(ACK), change(3), on(ACK), change(1), on(ACK)], IN),
        ),
        ("revoked_out", with(&[change(4), on(ACK), change(5), back(ACK), change(6), on(ACK)], OUT)),
        ("flags", (7..14).map(|flags| fresh(IN, TCP, flags)).collect()),
        (
            "infrastructure",
            vec![
                foreign(0),
                foreign(0x10),
                between(OUT, 8, 9, UDP, 0),
                between(IN, 8, 9, UDP, 0),
                between(OUT | V6, 10, 11, UDP, 0),
                [0, OUT | V6, 5, 0, ICMP, 13, 1, 0],
                [0, IN | V6, 5, 0, ICMP, 12, 1, 0],
                [0, OUT | V6, 5, 0, ICMP, 15, 2, 0],
            ],
        ),
        (
            "fragments",
            vec![
                fresh(OUT, UDP, 0),
                damaged(4, 1, 0, 7, 0),
                damaged(4, 0, 3, 7, 0),
                damaged(4, 0, 1, 7, 0),
                damaged(4, 0, 3, 8, 0),
            ],
        ),
        (
            "fragments6",
            vec![
                fresh(OUT | V6, UDP, 0),
                damaged(0, 4, 7, 0, 1),
                damaged(0, 4, 7, 3, 0),
                damaged(0, 4, 8, 3, 0),
            ],
        ),
        (
            "options_and_chains",
            vec![
                fresh(IN, TCP, SYN),
                damaged(0, 1, 1, 1, 0xbb),
                damaged(1, 4, 0, 0, 0),
                fresh(IN | V6, TCP, SYN),
                damaged(0xf0, 1, 0, 0, 0),
            ],
        ),
    ];
    let mut seeds = vec![];
    for (number, (name, steps)) in (0_u8..).zip(stories) {
        // Keep or revalidate; a policy of its own.
        let head = [number & 1, number.wrapping_mul(37), number % 16, 0];
        seeds.push((name, [&head[..], steps.as_flattened()].concat()));
    }
    seeds
}
