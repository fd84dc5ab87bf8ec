//! G: packets whose headers do not lie where a hook looks first, and frames of more than one buffer.

use std::io::{Read as _, Write as _};

use anyhow::{Context as _, Result, ensure};
use sg_tests::{
    each_setup,
    lab::{Namespace, Setup, arena::Family, can_run},
    packet::PacketSocket,
    syscall::tun,
};

use crate::{
    bytes::{Host, Path, SYN, TCP, UDP, be16, fragment, ipv4_with, tagged},
    range::{PASSES, Range, Way},
    session::Session,
    superpackets::Offload,
};

each_setup! {
    g1_fourteen_octets_in_front
    g1_jumbo_frames
}

/// A wire that takes frames of 9000 octets, until it is told to be as before.
fn set_mtu(range: &Range, octets: u32) -> Result<()> {
    range.bend(octets != 1500);
    range.arena.machine.ip(&[&format!("link set eth0 mtu {octets}")])?;
    range.arena.far.ip(&[&format!("link set far0 mtu {octets}")])?;
    range.forget()
}

/// Frames of more than a page, of which the kernel leaves the Ethernet header alone in the linear part.
fn g1_fourteen_octets_in_front(setup: Setup) -> Result<()> {
    let range = Range::open(setup)?;
    set_mtu(&range, 9000)?;
    let in_pieces = Offload { header: 14, ..Offload::default() };
    for family in Family::ALL {
        let session = Session::outbound(&range, family)?;
        for way in [Way::In, Way::Out] {
            let wire = range.offload_socket(way)?;
            let path = range.path(way, family);
            let (open, shut) = if way == Way::In { (443, 22) } else { (5432, 5433) };
            let question = if way == Way::In { 443 } else { 53 };
            let data: Vec<u8> = (0..5000_u16).map(|number| (number % 251) as u8).collect();
            let mut rows = vec![];
            for (tcp_port, udp_port, by_rule) in [(open, question, PASSES), (shut, 54, "no_rule")] {
                let segment = path.tcp((range.port(), tcp_port), (1, 0), SYN, &data);
                let datagram = path.udp((range.port(), udp_port), &data);
                rows.push(("TCP", path.ip(TCP, &segment), by_rule));
                rows.push(("UDP", path.ip(UDP, &datagram), by_rule));
                rows.push((
                    "a first fragment",
                    path.fragment(UDP, range.port(), 0, true, &datagram[..4800]),
                    by_rule,
                ));
                match family {
                    Family::V4 => {
                        let mut options = vec![1; 40];
                        options[..8].copy_from_slice(&[1, 1, 1, 0xbb, 4, 0, 1, 1]);
                        options[2] = 1;
                        let packet = ipv4_with(&options, &path.ip(TCP, &segment));
                        rows.push(("TCP behind options", packet, by_rule));
                        let routed = ipv4_with(&[0x83, 7, 4, 10, 88, 0, 77, 0], &path.ip(TCP, &segment));
                        rows.push(("a source route", routed, "malformed"));
                    }
                    Family::V6 => {
                        let mut chain = vec![];
                        for left in (0..8).rev() {
                            chain.extend([if left == 0 { TCP } else { 60 }, 0, 1, 4, 0, 0, 0, 0]);
                        }
                        let packet = path.ip(60, &[&chain[..], &segment].concat());
                        rows.push(("TCP behind 8 headers", packet, by_rule));
                        let atomic = [&fragment(TCP, 7, 0, false)[..], &segment].concat();
                        rows.push(("an atomic fragment", path.ip(44, &atomic), by_rule));
                    }
                }
                let mut lying = path.ip(TCP, &segment);
                lying[if family == Family::V4 { 2 } else { 4 }] = 0xff;
                rows.push(("a length that lies", lying, "malformed"));
            }
            rows.push((
                "a later fragment",
                path.fragment(UDP, range.port(), 100, true, &data[..4800]),
                "fragment_without_first",
            ));
            let mad = path.tcp((range.port(), open), (1, 1), 0, &data);
            rows.push(("flags of nothing", path.ip(TCP, &mad), "invalid_tcp_flags"));
            for (what, packet, expected) in rows {
                let what = format!("{what} in pieces, {way:?}, {family:?}");
                let plain = path.frame(&packet);
                for frame in [plain.clone(), tagged(&plain, &[(0x8100, 0)])] {
                    wire.send(&in_pieces.before(&frame))?;
                    range.enter(&what, way, expected, range.seen(way, &frame));
                    if expected == PASSES {
                        range.arrives(way, &frame).with_context(|| what.clone())?;
                    }
                    session.goes_on()?;
                    range.settle(&what)?;
                }
            }
        }
        session.is_established()?;
    }
    set_mtu(&range, 1500)
}

/// Frames of 9000 octets, which XDP gets in several buffers.
fn g1_jumbo_frames(setup: Setup) -> Result<()> {
    let range = Range::open(setup)?;
    set_mtu(&range, 9000)?;
    for family in Family::ALL {
        let session = Session::inbound(&range, family)?;
        let path = range.inward(family);
        for size in [1500, 3000, 4096, 8000, 8900] {
            let data = vec![0x5a; size];
            for (port, expected) in [(443, PASSES), (22, "no_rule")] {
                let what = format!("{size} octets to {port}, {family:?}");
                range.send(&what, Way::In, &path.udp_frame((range.port(), port), &data), expected)?;
                let segment = path.tcp((range.port(), port), (1, 0), SYN, &data);
                range.send(&what, Way::In, &path.frame(&path.ip(TCP, &segment)), expected)?;
                session.says(true, &data)?;
                session.says(false, &data)?;
                range.settle(&what)?;
            }
            // The length lies by one octet, beyond all buffers.
            let mut packet = path.ip(UDP, &path.udp((range.port(), 443), &data));
            let at = if family == Family::V4 { 2 } else { 4 };
            let length = usize::from(u16::from_be_bytes([packet[at], packet[at + 1]])) + 1;
            packet[at..at + 2].copy_from_slice(&be16(length));
            range.judge("one octet too few", Way::In, &path.frame(&packet), "malformed")?;
        }
    }
    set_mtu(&range, 1500)
}

/// A guest behind a tap that hands over every frame in two pieces: the Ethernet header, and the rest.
#[test]
fn g1_a_tap_whose_frames_lie_in_pieces() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    for kind in [tun::Kind::TapFragments, tun::Kind::Tap] {
        let machine = Namespace::machine("machine")?;
        let mut tap = machine.enter(|| Ok(tun::open("tap0", kind)?))?;
        machine.ip(&["link set tap0 address 02:00:00:00:00:01 up"])?;
        let mut agent = sg_tests::lab::Agent::new(&machine)?;
        agent.start_with(
            "version: 1\ngroups:\n  g: {inbound: [{allow: udp/443, from: anywhere}], \
             outbound: [{allow: [udp/53, tcp/5432], to: [10.88.0.66, \"fd88::66\"]}]}\n\
             interfaces:\n  - {match: \"tap*\", groups: [g], side: guest, \
             addresses: [10.88.0.77, \"fd88::77\", \"02:00:00:00:00:02\"]}\n",
        )?;
        let behind = [0x0800, 0x86dd].map(|kind| PacketSocket::behind_hooks(&machine, "tap0", kind));
        let [v4, v6] = behind;
        let (v4, v6) = (v4?, v6?);
        let host = |mac, v4: u8, v6: u8| Host {
            mac,
            v4: [10, 88, 0, v4],
            v6: [0xfd, 0x88, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, v6],
        };
        for family in Family::ALL {
            let path = Path {
                family,
                from: host([2, 0, 0, 0, 0, 2], 77, 0x77),
                to: host([2, 0, 0, 0, 0, 1], 66, 0x66),
            };
            let mut spoofed = path;
            (spoofed.from.v4[3], spoofed.from.v6[15]) = (78, 0x78);
            let mut other = path;
            other.from.mac[5] = 9;
            let small = path.udp_frame((1000, 53), b"data");
            let rows = [
                ("a datagram", small.clone(), "allowed"),
                ("a long one", path.udp_frame((1001, 53), &[7; 1400]), "allowed"),
                ("a SYN", path.syn_frame((1002, 5432)), "allowed"),
                ("a closed port", path.udp_frame((1003, 54), b"data"), "no_rule"),
                ("a closed port, long", path.udp_frame((1004, 54), &[7; 1400]), "no_rule"),
                ("of another", spoofed.udp_frame((1005, 53), b"data"), "source_check"),
                ("from another", other.udp_frame((1006, 53), b"data"), "source_check"),
            ];
            for (what, frame, expected) in rows {
                let before = sg_tests::counters::Counters::read(&agent)?;
                let pieces = [std::io::IoSlice::new(&frame[..14]), std::io::IoSlice::new(&frame[14..])];
                let written = tap.write_vectored(&pieces)?;
                ensure!(written == frame.len(), "{what}: {written} octets written");
                sg_tests::lab::eventually("it is counted", || {
                    Ok(!sg_tests::counters::Counters::read(&agent)?.since(&before)?.0.is_empty())
                })?;
                let moved = sg_tests::counters::Counters::read(&agent)?.since(&before)?;
                let key = ("tap0".to_owned(), "outbound".to_owned(), expected.to_owned());
                let count = sg_tests::counters::Count { packets: 1, bytes: frame.len() as u64 };
                ensure!(moved.0 == [(key, count)].into(), "{what}, {kind:?}, {family:?}: {moved:?}");
                let seen = if family == Family::V4 { v4.pending()? } else { v6.pending()? };
                ensure!(seen == (expected == "allowed").then_some(frame), "{what}: arrives {seen:02x?}");
            }
            // And what the kernel sends to the guest is read from the file.
            let wire = PacketSocket::open(&machine, "tap0")?;
            for (port, expected) in [(443, true), (22, false)] {
                let frame = path.back().udp_frame((2000, port), b"question");
                wire.send(&frame)?;
                let mut buffer = [0; 2000];
                let seen = match tap.read(&mut buffer) {
                    Ok(length) => Some(buffer[..length].to_vec()),
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => None,
                    Err(error) => return Err(error.into()),
                };
                ensure!(seen == expected.then_some(frame), "to {port}: {seen:02x?}");
            }
        }
    }
    Ok(())
}
