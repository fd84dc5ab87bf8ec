//! Packets that must not get through: rows of (what, packet, verdict and reason), in both families, at
//! TC, at XDP and for a guest. Port 443 of TCP and UDP is open, everything else is closed; each row has
//! a neighbour that differs in one thing and passes.

use std::{cell::Cell, net::IpAddr, thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use sg_tests::{
    each_setup,
    lab::{Arena, Setup, arena::Family},
    packet::{Extension, Frame, Icmp, Packet, PacketSocket, Tcp, Transport, Udp},
};

each_setup! {
    frames_that_hide_their_packet
    ipv4_headers_that_lie
    ipv6_chains_that_hide_their_packet
    fragments_that_hide_their_packet
    transport_headers_that_lie
    icmp_that_nobody_asked_for
    martians
}

const RULES: &str = "inbound: [{allow: [tcp/443, udp/443], from: anywhere}], outbound: []";
const PASSES: &str = "allowed";
/// Dropped, whatever the reason.
const DROPPED: &str = "";

/// A lab, and the raw socket at the peer's end of the wire.
struct Range {
    arena: Arena,
    wire: PacketSocket,
    family: Family,
    next_port: Cell<u16>,
}

impl Range {
    fn open(setup: Setup) -> Result<Self> {
        let arena = Arena::start(setup, RULES)?;
        let wire = arena.peer_socket()?;
        Ok(Self { arena, wire, family: Family::V4, next_port: Cell::new(20_000) })
    }

    fn packet(&self, transport: impl Into<Transport>) -> Packet {
        let (peer, instance) =
            (self.arena.peer_address(self.family), self.arena.instance_address(self.family));
        Packet::new(peer, instance, transport)
    }

    /// A port that no row has used: each row is a flow of its own.
    fn port(&self) -> u16 {
        self.next_port.set(self.next_port.get() + 1);
        self.next_port.get()
    }

    fn syn(&self, port: u16) -> Packet {
        let tcp = Tcp::new(self.port(), port, Tcp::SYN);
        self.packet(tcp)
    }

    fn udp(&self, port: u16) -> Packet {
        let udp = Udp::new(self.port(), port, b"data");
        self.packet(udp)
    }

    /// The TCP header of a SYN, and whatever else, as bytes for a fragment.
    fn syn_bytes(&self, port: u16, more: usize) -> Vec<u8> {
        let tcp = Tcp { payload: vec![0; more], ..Tcp::new(self.port(), port, Tcp::SYN) };
        let packet = self.packet(tcp);
        packet.transport.bytes(&packet.ip)
    }

    fn send(&self, what: &str, packet: &Packet, expected: &str) -> Result<()> {
        self.send_frame(what, &self.arena.frame_in(packet), expected)
    }

    fn send_frame(&self, what: &str, frame: &Frame, expected: &str) -> Result<()> {
        self.send_bytes(what, &frame.bytes(), expected)
    }

    /// Sends one frame: exactly one inbound counter moves, by one, and it is the expected one.
    fn send_bytes(&self, what: &str, bytes: &[u8], expected: &str) -> Result<()> {
        let before = self.arena.counters()?;
        self.wire.send(bytes)?;
        thread::sleep(Duration::from_millis(10));
        let moved = self.arena.counters()?.since(&before)?;
        let inbound: Vec<_> =
            moved.packets().into_iter().filter(|((_, direction, _), _)| direction == "inbound").collect();
        let [((_, _, counter), 1)] = inbound.as_slice() else {
            return Err(anyhow::anyhow!("{what}, {:?}: counted as {inbound:?}", self.family));
        };
        if expected == DROPPED {
            ensure!(counter != PASSES, "{what}, {:?}: passes", self.family);
        } else {
            ensure!(counter == expected, "{what}, {:?}: {counter}, expected {expected}", self.family);
        }
        Ok(())
    }
}

fn frames_that_hide_their_packet(setup: Setup) -> Result<()> {
    let mut range = Range::open(setup)?;
    for family in Family::ALL {
        range.family = family;
        for (port, verdict) in [(443, PASSES), (22, "no_rule")] {
            for tags in [&[0x8100][..], &[0x88a8], &[0x88a8, 0x8100], &[0x8100, 0x8100]] {
                let mut frame = range.arena.frame_in(&range.syn(port));
                for tag in tags.iter().rev() {
                    frame = frame.tagged(*tag, 0);
                }
                range.send_frame(&format!("SYN to {port} behind {tags:x?}"), &frame, verdict)?;
            }
            for count in [3, 10] {
                let mut frame = range.arena.frame_in(&range.syn(port));
                for _ in 0..count {
                    frame = frame.tagged(0x8100, 0);
                }
                range.send_frame(&format!("{count} tags, {port}"), &frame, "unsupported_ethertype")?;
            }
        }
        let inner = range.syn(443);
        let plain = range.arena.frame_in(&inner);
        for (what, ethertype) in
            [("MPLS", 0x8847), ("PPPoE", 0x8864), ("MACsec", 0x88e5), ("experimental", 0x88b5)]
        {
            let frame = Frame { ethertype, ..plain.clone() };
            range.send_frame(what, &frame, "unsupported_ethertype")?;
        }
        let mut snap = vec![0xaa, 0xaa, 0x03, 0, 0, 0];
        snap.extend(plain.ethertype.to_be_bytes());
        snap.extend(inner.bytes());
        let length = u16::try_from(snap.len())?;
        let frame = Frame { ethertype: length, payload: snap, ..plain.clone() };
        range.send_frame("802.3 with LLC/SNAP", &frame, "unsupported_ethertype")?;
        let whole = plain.bytes();
        for length in [14, 15, 20, 33] {
            range.send_bytes(&format!("a runt of {length} bytes"), &whole[..length], "malformed")?;
        }
        range.send_frame("the whole of it", &plain, PASSES)?;
    }
    Ok(())
}

fn ipv4_headers_that_lie(setup: Setup) -> Result<()> {
    let range = Range::open(setup)?;
    let options = vec![0x01, 0x01, 0x01, 0xbb, 0x04, 0, 0, 0];
    let hidden = range.syn(22).ipv4(|ip| ip.options.clone_from(&options));
    range.send("options that look like ports, 22", &hidden, "no_rule")?;
    let open = range.syn(443).ipv4(|ip| ip.options = vec![1; 40]);
    range.send("40 bytes of options, 443", &open, PASSES)?;
    for (what, kind) in [("LSRR", 131), ("SSRR", 137)] {
        let routed = range.syn(443).ipv4(|ip| ip.options = vec![kind, 7, 4, 10, 0, 0, 1, 0]);
        range.send(what, &routed, "malformed")?;
    }
    type Change = fn(&mut sg_tests::packet::Ipv4);
    let changes: [(&str, Change); 6] = [
        ("IHL 4", |ip| ip.header_length = Some(4)),
        ("IHL past the packet", |ip| ip.header_length = Some(15)),
        ("version 6 under 0x0800", |ip| ip.version = Some(6)),
        ("longer than the frame", |ip| ip.total_length = Some(1400)),
        ("shorter than its own header", |ip| ip.total_length = Some(19)),
        ("ends inside the ports", |ip| ip.total_length = Some(23)),
    ];
    for (what, change) in changes {
        let packet = range.syn(443).ipv4(change);
        range.send(what, &packet, "malformed")?;
    }
    let inner = range.syn(443);
    let wrong = Frame { ethertype: 0x86dd, ..range.arena.frame_in(&inner) };
    range.send_frame("version 4 under 0x86dd", &wrong, "malformed")?;
    // An IP packet without payload, and a SYN to 443 where the padding is.
    let syn = range.syn(443);
    let bytes = syn.transport.bytes(&syn.ip);
    let padded =
        Packet { transport: Transport::Other(6, bytes), ..syn }.ipv4(|ip| ip.total_length = Some(20));
    range.send("the SYN lies in the padding", &padded, "malformed")?;
    let mut frame = range.arena.frame_in(&range.syn(443));
    frame.payload.resize(200, 0xff);
    range.send_frame("honest padding", &frame, PASSES)
}

fn ipv6_chains_that_hide_their_packet(setup: Setup) -> Result<()> {
    use Extension::{Authentication, Destination, Fragment, HopByHop, Routing};
    let mut range = Range::open(setup)?;
    range.family = Family::V6;
    let rows: [(&str, Vec<Extension>, &str); 12] = [
        ("one of each", vec![HopByHop(vec![]), Destination(vec![]), Authentication(vec![0; 4])], PASSES),
        ("AH of 12 bytes", vec![Authentication(vec![0; 4])], PASSES),
        ("AH of 24 bytes", vec![Authentication(vec![0; 16])], PASSES),
        ("atomic fragment", vec![Fragment(0, false, 7)], PASSES),
        ("8 destination options", vec![Destination(vec![]); 8], PASSES),
        ("9 destination options", vec![Destination(vec![]); 9], "extension_chain_too_long"),
        ("64 destination options", vec![Destination(vec![]); 64], "extension_chain_too_long"),
        ("a long destination option", vec![Destination(vec![0; 254])], PASSES),
        ("routing 2, none left", vec![Routing(2, 0, vec![0; 20])], PASSES),
        ("routing 2 with one left", vec![Routing(2, 1, vec![0; 20])], "martian"),
        ("routing 0", vec![Routing(0, 0, vec![0; 20])], "martian"),
        ("hop-by-hop not first", vec![Destination(vec![]), HopByHop(vec![])], DROPPED),
    ];
    for (what, extensions, open) in rows {
        for (port, verdict) in [(443, open), (22, if open == PASSES { "no_rule" } else { open })] {
            let packet = range.syn(port).ipv6(|ip| ip.extensions.clone_from(&extensions));
            range.send(&format!("{what}, {port}"), &packet, verdict)?;
        }
    }
    let longer = range.syn(443).ipv6(|ip| ip.payload_length = Some(1400));
    range.send("longer than the frame", &longer, "malformed")?;
    let shorter = range.syn(443).ipv6(|ip| ip.payload_length = Some(3));
    range.send("ends inside the ports", &shorter, "malformed")?;
    let version = range.syn(443).ipv6(|ip| ip.version = Some(4));
    range.send("version 4", &version, "malformed")
}

fn fragments_that_hide_their_packet(setup: Setup) -> Result<()> {
    let mut range = Range::open(setup)?;
    for (family, protocol) in [(Family::V4, 6), (Family::V6, 6)] {
        range.family = family;
        let fragment = |range: &Range, id: u16, offset: u16, more: bool, bytes: &[u8]| {
            range
                .packet(Transport::Other(protocol, bytes.to_vec()))
                .ipv4(|ip| {
                    ip.dont_fragment = false;
                    (ip.identification, ip.offset, ip.more_fragments) = (id, offset, more);
                })
                .ipv6(|ip| ip.extensions = vec![Extension::Fragment(offset, more, id.into())])
        };
        let open = range.syn_bytes(443, 12);
        let shut = range.syn_bytes(22, 12);
        let later = [0x42; 16];

        range.send("8 bytes of TCP", &fragment(&range, 1, 0, true, &open[..8]), "malformed")?;
        range.send("offset 1 of TCP", &fragment(&range, 2, 1, false, &later), DROPPED)?;
        let lone = fragment(&range, 3, 4, false, &open[..16]);
        range.send("a lone later one", &lone, "fragment_without_first")?;
        range.send("a denied first", &fragment(&range, 4, 0, true, &shut), "no_rule")?;
        range.send("what follows it", &fragment(&range, 4, 4, false, &later), DROPPED)?;
        range.send("an allowed first", &fragment(&range, 5, 0, true, &open), PASSES)?;
        // Verdicts are not yet kept for the datagram: what follows is dropped, never passed unseen.
        range.send("what follows it", &fragment(&range, 5, 4, false, &later), "fragment_without_first")?;
        range.send("its offset 0 again, to 22", &fragment(&range, 5, 0, true, &shut), DROPPED)?;
    }
    range.family = Family::V6;
    let inside = Packet { transport: Transport::Other(60, vec![6, 3, 1, 4, 0, 0, 0, 0]), ..range.syn(443) };
    let inside = inside.ipv6(|ip| ip.extensions = vec![Extension::Fragment(0, true, 9)]);
    range.send("ends inside the chain", &inside, "malformed")?;
    let two = vec![Extension::Fragment(0, true, 9), Extension::Fragment(0, false, 10)];
    let two = range.syn(443).ipv6(|ip| ip.extensions = two);
    range.send("two fragment headers", &two, DROPPED)
}

fn transport_headers_that_lie(setup: Setup) -> Result<()> {
    let mut range = Range::open(setup)?;
    for family in Family::ALL {
        range.family = family;
        for (words, verdict) in [(4, "malformed"), (0, "malformed"), (15, "malformed"), (5, PASSES)] {
            let tcp = Tcp { data_offset: Some(words), ..Tcp::new(range.port(), 443, Tcp::SYN) };
            let packet = range.packet(tcp);
            range.send(&format!("data offset {words}"), &packet, verdict)?;
        }
        for (length, verdict) in [(0, "malformed"), (7, "malformed"), (100, "malformed"), (12, PASSES)] {
            let udp = Udp { length: Some(length), ..Udp::new(range.port(), 443, b"data") };
            let packet = range.packet(udp);
            range.send(&format!("UDP of length {length}"), &packet, verdict)?;
        }
        let empty = Udp::new(range.port(), 443, b"");
        let empty = range.packet(empty);
        range.send("UDP without payload", &empty, PASSES)?;
        for flags in [Tcp::ACK, Tcp::RST, Tcp::SYN | Tcp::ACK, Tcp::FIN | Tcp::ACK] {
            let stray = Tcp::new(range.port(), 22, flags);
            let stray = range.packet(stray);
            range.send(&format!("stray flags {flags:#x} to 22"), &stray, "no_rule")?;
        }
        for (what, number) in [("UDP-Lite", 136), ("SCTP", 132), ("DCCP", 33), ("GRE", 47), ("IP-in-IP", 4)] {
            let udp = range.udp(443);
            let like_udp =
                Packet { transport: Transport::Other(number, udp.transport.bytes(&udp.ip)), ..udp };
            range.send(&format!("{what} with port 443"), &like_udp, "no_rule")?;
        }
    }
    Ok(())
}

fn icmp_that_nobody_asked_for(setup: Setup) -> Result<()> {
    let mut range = Range::open(setup)?;
    for family in Family::ALL {
        range.family = family;
        let ours = Packet::new(
            range.arena.instance_address(family),
            range.arena.peer_address(family),
            Udp::new(4000, 5000, b"never sent"),
        );
        let errors: &[(u8, u8)] = match family {
            Family::V4 => &[(3, 0), (3, 3), (3, 4), (11, 0), (12, 0)],
            Family::V6 => &[(1, 0), (1, 4), (2, 0), (3, 0), (4, 0)],
        };
        for (kind, code) in errors {
            let error = range.packet(Icmp::new(*kind, *code, [0; 4], &ours.bytes()));
            range.send(&format!("error {kind}/{code}"), &error, "icmp_error_without_flow")?;
        }
        let redirect = if family == Family::V4 { 5 } else { 137 };
        let redirect = range.packet(Icmp::new(redirect, 0, [0; 4], &ours.bytes()));
        range.send("redirect", &redirect, DROPPED)?;
        let reply = if family == Family::V4 { 0 } else { 129 };
        let reply = range.packet(Icmp::new(reply, 0, [0, 1, 0, 1], b"echo"));
        range.send("an echo reply", &reply, "no_rule")?;
    }
    Ok(())
}

fn martians(setup: Setup) -> Result<()> {
    let mut range = Range::open(setup)?;
    let sources: [(Family, IpAddr); 10] = [
        (Family::V4, [127, 0, 0, 1].into()),
        (Family::V4, [127, 255, 0, 1].into()),
        (Family::V4, [224, 0, 0, 1].into()),
        (Family::V4, [255, 255, 255, 255].into()),
        (Family::V4, [0, 0, 0, 0].into()),
        (Family::V6, [0, 0, 0, 0, 0, 0, 0, 1].into()),
        (Family::V6, [0xff02, 0, 0, 0, 0, 0, 0, 1].into()),
        (Family::V6, [0, 0, 0, 0, 0, 0xffff, 0x0a58, 2].into()),
        (Family::V6, [0; 8].into()),
        (Family::V6, [0, 0, 0, 0, 0, 0xffff, 0x7f00, 1].into()),
    ];
    for (family, source) in sources {
        range.family = family;
        let tcp = Tcp::new(range.port(), 443, Tcp::SYN);
        let packet = Packet::new(source, range.arena.instance_address(family), tcp);
        range.send(&format!("from {source}"), &packet, "martian")?;
        let honest = range.syn(443);
        range.send("from the peer", &honest, PASSES).context("the same packet from an honest source")?;
    }
    for (family, target) in [
        (Family::V4, IpAddr::from([127, 0, 0, 1])),
        (Family::V6, [0, 0, 0, 0, 0, 0, 0, 1].into()),
        (Family::V6, [0, 0, 0, 0, 0, 0xffff, 0x0a58, 1].into()),
    ] {
        range.family = family;
        let tcp = Tcp::new(range.port(), 443, Tcp::SYN);
        let packet = Packet::new(range.arena.peer_address(family), target, tcp);
        range.send(&format!("to {target}"), &packet, DROPPED)?;
    }
    Ok(())
}
