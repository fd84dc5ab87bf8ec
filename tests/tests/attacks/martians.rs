//! M: addresses that nobody may use on a wire.

use anyhow::Result;
use sg_tests::{
    each_setup,
    lab::{Setup, arena::Family},
};

use crate::{
    bytes::{Path, TCP, UDP, fragment, ipv4, ipv4_fragment, ipv6},
    range::{DROPPED, INFRASTRUCTURE, PASSES, RULE, RULES, Range},
    rows::judge,
};

each_setup! {
    m1_sources
    m1_destinations
    m1_unspecified_sources
}

/// An IPv6 address of eight numbers.
fn v6(words: [u16; 8]) -> [u8; 16] {
    let mut address = [0; 16];
    for (pair, word) in address.chunks_mut(2).zip(words) {
        pair.copy_from_slice(&word.to_be_bytes());
    }
    address
}

/// The path from or to another address of the family.
fn between(path: Path, from: Option<[u8; 16]>, to: Option<[u8; 16]>) -> Path {
    let mut path = path;
    let four = |address: [u8; 16]| [address[0], address[1], address[2], address[3]];
    if let Some(from) = from {
        (path.from.v4, path.from.v6) = (four(from), from);
    }
    if let Some(to) = to {
        (path.to.v4, path.to.v6) = (four(to), to);
    }
    path
}

fn v4(address: [u8; 4]) -> [u8; 16] {
    let mut all = [0; 16];
    all[..4].copy_from_slice(&address);
    all
}

/// What a source or destination is tried with: a TCP SYN, a datagram, a ping, a first fragment, and a
/// protocol without ports.
fn packets(path: &Path, ports: (u16, u16)) -> Vec<(&'static str, Vec<u8>)> {
    let udp = path.udp(ports, &[0x42; 40]);
    let piece = match path.family {
        Family::V4 => ipv4_fragment(&path.ip(UDP, &udp[..24]), 7, 0, true),
        Family::V6 => path.ip(44, &[&fragment(UDP, 7, 0, true)[..], &udp[..24]].concat()),
    };
    vec![
        ("a SYN", path.ip(TCP, &path.syn(ports))),
        ("a datagram", path.ip(UDP, &udp)),
        ("a ping", path.ip(path.icmp_number(), &path.echo(1, 1))),
        ("a fragment", piece),
        ("another protocol", path.ip(201, &[0; 32])),
    ]
}

/// Everything is open here: addresses alone decide.
const ALL: &str = "inbound: [{allow: all, from: anywhere}], outbound: []";

fn m1_sources(setup: Setup) -> Result<()> {
    let range = Range::open_with(setup, ALL, "")?;
    judge(&range, &Family::ALL, |at| {
        let bad: Vec<[u8; 16]> = match at.family {
            Family::V4 => [
                [127, 0, 0, 0],
                [127, 0, 0, 1],
                [127, 255, 255, 255],
                [224, 0, 0, 0],
                [224, 0, 0, 1],
                [239, 255, 255, 255],
                [255, 255, 255, 255],
                [0, 0, 0, 0],
            ]
            .map(v4)
            .to_vec(),
            Family::V6 => [
                [0, 0, 0, 0, 0, 0, 0, 1],
                [0; 8],
                [0xff00, 0, 0, 0, 0, 0, 0, 0],
                [0xff02, 0, 0, 0, 0, 0, 0, 1],
                [0xffff; 8],
                [0, 0, 0, 0, 0, 0xffff, 0x0a58, 0x0042],
                [0, 0, 0, 0, 0, 0xffff, 0x7f00, 1],
                [0, 0, 0, 0, 0, 0xffff, 0, 0],
            ]
            .map(v6)
            .to_vec(),
        };
        let good: Vec<[u8; 16]> = match at.family {
            Family::V4 => {
                [[126, 255, 255, 255], [128, 0, 0, 1], [223, 255, 255, 254], [10, 88, 0, 66]].map(v4).to_vec()
            }
            Family::V6 => [
                [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1],
                [0xfeff, 0, 0, 0, 0, 0, 0, 1],
                [0, 0, 0, 0, 0, 0xfffe, 0x0a58, 0x0042],
                [0, 0, 0, 0, 1, 0xffff, 0x0a58, 0x0042],
                [1, 0, 0, 0, 0, 0, 0, 1],
            ]
            .map(v6)
            .to_vec(),
        };
        for (addresses, expected) in [(bad, "martian"), (good, PASSES)] {
            for source in addresses {
                let path = between(at.inward, Some(source), None);
                for (what, packet) in packets(&path, (at.port(), 443)) {
                    at.packet(format!("{what} from {source:02x?}"), &packet, expected);
                }
            }
        }
    })
}

fn m1_destinations(setup: Setup) -> Result<()> {
    // Whose address it is does not matter here.
    let range = Range::open_with(setup, ALL, ", source_check: false")?;
    judge(&range, &Family::ALL, |at| {
        let bad: Vec<[u8; 16]> = match at.family {
            Family::V4 => [[127, 0, 0, 1], [127, 255, 255, 255], [0, 0, 0, 0]].map(v4).to_vec(),
            Family::V6 => [
                [0, 0, 0, 0, 0, 0, 0, 1],
                [0; 8],
                [0, 0, 0, 0, 0, 0xffff, 0x0a58, 0x004d],
                [0, 0, 0, 0, 0, 0xffff, 0x7f00, 1],
            ]
            .map(v6)
            .to_vec(),
        };
        // Many may be meant by a destination.
        let good: Vec<[u8; 16]> = match at.family {
            Family::V4 => {
                [[224, 0, 0, 251], [255, 255, 255, 255], [10, 88, 0, 255], [10, 88, 0, 77]].map(v4).to_vec()
            }
            Family::V6 => {
                [[0xff02, 0, 0, 0, 0, 0, 0, 0xfb], [0xfd88, 0, 0, 0, 0, 0, 0, 0x77]].map(v6).to_vec()
            }
        };
        for (addresses, expected) in [(bad, "martian"), (good, PASSES)] {
            for target in addresses {
                let path = between(at.inward, None, Some(target));
                for (what, packet) in packets(&path, (at.port(), 443)) {
                    at.packet(format!("{what} to {target:02x?}"), &packet, expected);
                }
            }
        }
        // They do not leave either.
        let back = at.inward.back();
        let loopback =
            if at.family == Family::V4 { v4([127, 0, 0, 1]) } else { v6([0, 0, 0, 0, 0, 0, 0, 1]) };
        for path in [between(back, Some(loopback), None), between(back, None, Some(loopback))] {
            let syn = path.syn_frame((at.port(), 5432));
            at.frame_out("loopback on the way out", syn, "martian");
        }
    })
}

/// Whoever has no address yet asks for one, and says nothing else.
fn m1_unspecified_sources(setup: Setup) -> Result<()> {
    let range = Range::open(setup)?;
    judge(&range, &Family::ALL, |at| {
        let nobody = [0; 4];
        if at.family == Family::V4 {
            let path = between(at.inward, Some(v4(nobody)), Some(v4([255; 4])));
            for (ports, way_in, way_out) in [
                ((68, 67), "no_rule", INFRASTRUCTURE),
                ((68, 69), "martian", "martian"),
                ((69, 67), "martian", "martian"),
                ((67, 67), "martian", "martian"),
                ((1, 443), "martian", "martian"),
            ] {
                at.packet(
                    format!("{ports:?} from 0.0.0.0"),
                    &path.ip(UDP, &path.udp(ports, &[0; 240])),
                    way_in,
                );
                let back = between(at.inward.back(), Some(v4(nobody)), Some(v4([255; 4])));
                let frame = back.udp_frame(ports, &[0; 240]);
                at.frame_out(format!("{ports:?} from 0.0.0.0, out"), frame, way_out);
            }
            let igmp = ipv4(2, nobody, [224, 0, 0, 22], &[0x16, 0, 0, 0, 224, 0, 0, 251]);
            at.packet("IGMP from 0.0.0.0", &igmp, DROPPED);
            return;
        }
        let nobody = [0; 16];
        let solicited = v6([0xff02, 0, 0, 0, 0, 1, 0xff00, 0x77]);
        let path = between(at.inward, Some(nobody), Some(solicited));
        let target = v6([0xfd88, 0, 0, 0, 0, 0, 0, 0x99]);
        let record = [&[4, 0, 0, 0][..], &solicited].concat();
        for (what, kind, rest, body, hops, expected) in [
            ("address detection", 135, [0; 4], target.to_vec(), 255, INFRASTRUCTURE),
            ("a router solicitation", 133, [0; 4], vec![], 255, INFRASTRUCTURE),
            ("a listener report", 143, [0, 0, 0, 1], record, 1, INFRASTRUCTURE),
            ("an old listener report", 131, [0; 4], solicited.to_vec(), 1, INFRASTRUCTURE),
            ("an advertisement", 136, [0x20, 0, 0, 0], target.to_vec(), 255, "martian"),
            ("a router's advertisement", 134, [64, 0, 7, 8], vec![0; 8], 255, "martian"),
            ("a ping", 128, [0, 1, 0, 1], vec![], 64, "martian"),
            ("an error", 1, [0; 4], vec![0; 48], 64, "martian"),
        ] {
            let mut packet = ipv6(58, nobody, solicited, &path.icmp(kind, 0, rest, &body));
            packet[7] = hops;
            at.packet(format!("{what} from ::"), &packet, expected);
        }
        let tcp = path.syn((at.port(), 443));
        for (what, next, rest) in [
            ("a SYN", TCP, tcp.clone()),
            ("a SYN behind options", 60, [&[TCP, 0, 1, 4, 0, 0, 0, 0][..], &tcp].concat()),
            ("a datagram", UDP, path.udp((at.port(), 443), b"data")),
            ("DHCP of the other family", UDP, path.udp((68, 67), &[0; 240])),
            ("ICMP of the other family", 1, path.icmp(135, 0, [0; 4], &target)),
        ] {
            at.packet(format!("{what} from ::"), &ipv6(next, nobody, solicited, &rest), "martian");
        }
    })?;
    // The same SYN of somebody.
    range.apply(RULES, "")?;
    range.judge("a SYN", crate::range::Way::In, &range.inward(Family::V6).syn_frame((1, 443)), RULE)
}
