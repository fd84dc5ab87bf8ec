//! G: packets that stand for many, and are cut by hardware or joined by it: GSO, GRO and BIG TCP.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use sg_tests::{
    counters::Count,
    each_setup,
    lab::{Arena, Namespace, Outcome, Probe, Setup, arena::Family, has_kernel},
    syscall::{self, Offloading},
};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{
    bytes::{ACK, PSH, Path, TCP, UDP, be16, seal_ipv4, sum},
    range::{FLOW, PASSES, Range, Way},
    session::Session,
};

each_setup! {
    g1_gso_of_tcp
    g1_gso_of_udp
    g1_big_tcp
    g1_big_tcp_of_the_kernel
    g1_gro
}

/// `struct virtio_net_hdr`.
#[derive(Clone, Copy, Default)]
pub(crate) struct Offload {
    pub(crate) needs_checksum: bool,
    pub(crate) kind: u8,
    pub(crate) header: u16,
    pub(crate) size: u16,
    pub(crate) checksum_start: u16,
    pub(crate) checksum_offset: u16,
}

const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;

impl Offload {
    /// The header, and the frame behind it.
    pub(crate) fn before(self, frame: &[u8]) -> Vec<u8> {
        let mut bytes = vec![u8::from(self.needs_checksum), self.kind];
        for number in [self.header, self.size, self.checksum_start, self.checksum_offset] {
            bytes.extend(number.to_ne_bytes());
        }
        bytes.extend(frame);
        bytes
    }
}

/// A packet that stands for many: its transport header has the sum of the pseudo-header alone, which
/// the hardware completes for each.
fn superpacket(path: &Path, protocol: u8, transport: Vec<u8>, is_big: bool) -> Vec<u8> {
    let mut transport = transport;
    let at = if protocol == TCP { 16 } else { 6 };
    let length = transport.len();
    let numbers = match path.family {
        Family::V4 => [&path.from.v4[..], &path.to.v4].concat(),
        Family::V6 => [&path.from.v6[..], &path.to.v6].concat(),
    };
    let lengths = (length as u32).to_be_bytes();
    let [high, low] = sum(&[&numbers, &lengths, &[0, 0, 0, protocol]]);
    transport[at..at + 2].copy_from_slice(&[!high, !low]);
    if protocol == UDP {
        transport[4..6].copy_from_slice(&be16(length));
    }
    let mut packet = match (path.family, is_big) {
        // RFC 2675: the length is an option, and the field is 0.
        (Family::V6, true) => {
            let option = [&[protocol, 0, 0xc2, 4][..], &((length + 8) as u32).to_be_bytes()].concat();
            path.ip(0, &[option, transport].concat())
        }
        _ => path.ip(protocol, &transport),
    };
    if is_big {
        let at = if path.family == Family::V4 { 2 } else { 4 };
        packet[at..at + 2].fill(0);
        if path.family == Family::V4 {
            seal_ipv4(&mut packet);
        }
    }
    packet
}

/// Sends a packet that stands for many. XDP on a veth has the sender cut it: then each piece counts.
fn send_superpacket(
    range: &Range,
    what: &str,
    (way, path): (Way, &Path),
    packet: &[u8],
    (protocol, header, size): (u8, usize, usize),
    expected: &'static str,
) -> Result<()> {
    let frame = path.frame(packet);
    let (transport, offset) = if protocol == TCP { (20, 16) } else { (8_usize, 6) };
    let start = 14 + header - transport;
    let kind = match (protocol, path.family) {
        (UDP, _) => GSO_UDP_L4,
        (_, Family::V4) => GSO_TCPV4,
        (_, Family::V6) => GSO_TCPV6,
    };
    let offload = Offload {
        needs_checksum: true,
        kind,
        header: (14 + header) as u16,
        size: size as u16,
        checksum_start: start as u16,
        checksum_offset: offset,
    };
    range.offload_socket(way)?.send(&offload.before(&frame))?;
    let data = frame.len() - 14 - header;
    let is_cut = range.setup == Setup::HostXdp && way == Way::In;
    // Before a hook at ingress, the kernel has taken the option with the length out again.
    let has_option = packet.len() > 65_535 && path.family == Family::V6;
    let is_egress = way == if range.setup == Setup::Guest { Way::In } else { Way::Out };
    let option = if has_option && !is_egress { 8 } else { 0 };
    let pieces: Vec<usize> = if is_cut {
        (0..data).step_by(size).map(|from| 14 + header - option + size.min(data - from)).collect()
    } else {
        vec![frame.len() - option]
    };
    for length in &pieces {
        range.enter(what, way, expected, *length as u64);
    }
    if expected.starts_with(PASSES) {
        let mut left = data;
        let start = Instant::now();
        while left > 0 {
            let Some(found) = range.arrived(way)? else {
                ensure!(start.elapsed().as_secs() < 3, "{what}: {left} octets of {data} do not arrive");
                continue;
            };
            // The kernel takes the option with the length out where it hands a packet to a socket.
            let option = if path.family == Family::V6 && found.get(20) == Some(&0) { 8 } else { 0 };
            let ip = if path.family == Family::V4 { 20 } else { 40 + option };
            let payload = found.get(14 + ip + transport..).context("a frame without payload")?;
            ensure!(payload.iter().all(|octet| *octet == 0x5a), "{what}: other octets arrive");
            left = left.checked_sub(payload.len()).context("more arrives than was sent")?;
        }
    }
    range.settle(what)
}

const HEADERS: [(Family, usize); 2] = [(Family::V4, 20), (Family::V6, 40)];

fn g1_gso_of_tcp(setup: Setup) -> Result<()> {
    let range = Range::open(setup)?;
    for (family, ip) in HEADERS {
        for way in [Way::In, Way::Out] {
            let path = range.path(way, family);
            let (open, shut) = if way == Way::In { (443, 22) } else { (5432, 22) };
            for size in [3000, 60_000] {
                for (port, expected) in [(open, PASSES), (shut, "no_rule")] {
                    let what = format!("{size} octets to {port}, {way:?}, {family:?}");
                    let ports = (range.port(), port);
                    // The flow first, where it is open: then the packets belong to one.
                    let session = match expected {
                        PASSES => Some(Session::open(&range, family, way, ports)?),
                        _ => None,
                    };
                    let numbers = session.as_ref().map_or((1, 1), |session| session.numbers_of(true));
                    let segment = path.tcp(ports, numbers, ACK | PSH, &vec![0x5a; size]);
                    let packet = superpacket(&path, TCP, segment, false);
                    let expected = if expected == PASSES { FLOW } else { expected };
                    send_superpacket(&range, &what, (way, &path), &packet, (TCP, ip + 20, 1400), expected)?;
                    if let Some(session) = &session {
                        session.says(false, b"answer")?;
                        session.is_established()?;
                    }
                }
            }
            // A superpacket that lies is no better than a small one.
            let segment = path.tcp((range.port(), open), (1, 1), 0, &[0x5a; 3000]);
            let packet = superpacket(&path, TCP, segment, false);
            if !(setup == Setup::HostXdp && way == Way::In) {
                let what = format!("flags of nothing, {way:?}, {family:?}");
                send_superpacket(
                    &range,
                    &what,
                    (way, &path),
                    &packet,
                    (TCP, ip + 20, 1400),
                    "invalid_tcp_flags",
                )?;
            }
        }
    }
    Ok(())
}

fn g1_gso_of_udp(setup: Setup) -> Result<()> {
    if !has_kernel([6, 2], "takes no superpackets of UDP from a packet socket") {
        return Ok(());
    }
    let range = Range::open(setup)?;
    for (family, ip) in HEADERS {
        for way in [Way::In, Way::Out] {
            let path = range.path(way, family);
            let open = if way == Way::In { 443 } else { 53 };
            for size in [2800, 40_000] {
                for (port, expected) in [(open, PASSES), (22, "no_rule")] {
                    let what = format!("{size} octets of UDP to {port}, {way:?}, {family:?}");
                    let datagram = path.udp((range.port(), port), &vec![0x5a; size]);
                    let packet = superpacket(&path, UDP, datagram, false);
                    send_superpacket(&range, &what, (way, &path), &packet, (UDP, ip + 8, 1400), expected)?;
                }
            }
        }
    }
    Ok(())
}

/// Lets an interface carry superpackets of 200 000 octets, of both families.
fn allow_big(namespace: &Namespace, interface: &str) -> Result<()> {
    namespace.ip(&[&format!("link set {interface} gso_max_size 200000 gro_max_size 200000")])?;
    namespace.enter(|| {
        const REQUEST_AND_ANSWER: u16 = 5;
        const NEW_LINK: u16 = 16;
        const GSO_IPV4_MAX_SIZE: u16 = 63;
        const GRO_IPV4_MAX_SIZE: u16 = 64;
        let index = syscall::interface_index(interface)?;
        // struct nlmsghdr, struct ifinfomsg, two attributes.
        let mut message = vec![];
        message.extend(48_u32.to_ne_bytes());
        message.extend(NEW_LINK.to_ne_bytes());
        message.extend(REQUEST_AND_ANSWER.to_ne_bytes());
        message.extend([0; 8]);
        message.extend([0; 4]);
        message.extend(index.to_ne_bytes());
        message.extend([0; 8]);
        for kind in [GSO_IPV4_MAX_SIZE, GRO_IPV4_MAX_SIZE] {
            message.extend(8_u16.to_ne_bytes());
            message.extend(kind.to_ne_bytes());
            message.extend(200_000_u32.to_ne_bytes());
        }
        let socket = Socket::new(Domain::from(libc::AF_NETLINK), Type::RAW, Some(Protocol::from(0)))?;
        socket.send(&message)?;
        let mut answer = [0; 64];
        let length = (&socket).read(&mut answer)?;
        // An error message of number 0 says that it is done.
        ensure!(
            length >= 20 && answer[4] == 2 && answer[16..20] == [0; 4],
            "no BIG TCP over IPv4: {answer:?}"
        );
        Ok(())
    })
}

/// Longer than 16 bits can say: the length in the packet is 0.
fn g1_big_tcp(setup: Setup) -> Result<()> {
    if !has_kernel([6, 6], "takes no more than 64 KiB from a packet socket") {
        return Ok(());
    }
    const BIG: usize = 80_000;
    let range = Range::open(setup)?;
    allow_big(&range.arena.machine, "eth0")?;
    allow_big(&range.arena.far, "far0")?;
    for (family, ip) in HEADERS {
        for way in [Way::In, Way::Out] {
            let path = range.path(way, family);
            let (open, shut) = if way == Way::In { (443, 22) } else { (5432, 22) };
            let header = if family == Family::V4 { ip + 20 } else { ip + 8 + 20 };
            for (port, expected) in [(open, FLOW), (shut, "no_rule")] {
                let what = format!("{BIG} octets to {port}, {way:?}, {family:?}");
                let ports = (range.port(), port);
                let session = match expected {
                    FLOW => Some(Session::open(&range, family, way, ports)?),
                    _ => None,
                };
                let numbers = session.as_ref().map_or((1, 1), |session| session.numbers_of(true));
                let segment = path.tcp(ports, numbers, ACK | PSH, &vec![0x5a; BIG]);
                let packet = superpacket(&path, TCP, segment, true);
                send_superpacket(&range, &what, (way, &path), &packet, (TCP, header, 1400), expected)?;
                if let Some(session) = &session {
                    session.says(false, b"answer")?;
                    session.is_established()?;
                }
            }
            // The same length in a packet that stands for itself is a lie.
            let mut small = path.ip(TCP, &path.syn((range.port(), open)));
            let at = if family == Family::V4 { 2 } else { 4 };
            small[at..at + 2].fill(0);
            if family == Family::V4 {
                seal_ipv4(&mut small);
            }
            range.judge("a length of 0", way, &path.frame(&small), "malformed")?;
        }
        if family == Family::V6 {
            let path = range.inward(family);
            let syn = path.syn((range.port(), 443));
            let jumbo = [&[TCP, 0, 0xc2, 4, 0, 1, 0, 0][..], &syn].concat();
            let mut packet = path.ip(0, &jumbo);
            packet[4..6].fill(0);
            range.judge("a jumbogram that is none", Way::In, &path.frame(&packet), "malformed")?;
        }
    }
    Ok(())
}

/// The kernel's own sockets, both ways: every octet arrives, and a closed port stays closed.
fn g1_big_tcp_of_the_kernel(setup: Setup) -> Result<()> {
    let range = Range::of_kernels(setup, WEB)?;
    let arena = &range.arena;
    allow_big(&arena.machine, "eth0")?;
    allow_big(&arena.far, "far0")?;
    for family in Family::ALL {
        let (inward, outward) = pour_both_ways(arena, family)?;
        for count in [inward, outward] {
            ensure!(count.bytes > SIZE as u64, "{family:?}: {count:?}");
        }
        ensure!(arena.inbound(Probe::Tcp(22), family)? == Outcome::Silent, "22 is open");
    }
    Ok(())
}

/// What is open to the kernel's own sockets.
const WEB: &str = "inbound: [{allow: tcp/443, from: anywhere}], outbound: []";
/// How much they send.
const SIZE: usize = 8 << 20;

/// Sends data over a connection to the instance's 443 and back; every octet arrives. Gives what was
/// counted in either direction: all of it is allowed.
fn pour_both_ways(arena: &Arena, family: Family) -> Result<(Count, Count)> {
    let target = SocketAddr::new(arena.instance_address(family), 443);
    let before = arena.counters()?;
    let listener = arena.instance().enter(|| Ok(TcpListener::bind(target)?))?;
    let mut client = arena.peer().enter(|| Ok(TcpStream::connect(target)?))?;
    let (mut server, _) = listener.accept()?;
    let pour = |from: &mut TcpStream, to: &mut TcpStream| {
        let data: Vec<u8> = (0..251).cycle().take(SIZE).collect();
        let mut arrived = vec![0; SIZE];
        to.set_read_timeout(Some(sg_tests::lab::PATIENCE))?;
        thread::scope(|scope| {
            let writer = scope.spawn(|| from.write_all(&data));
            to.read_exact(&mut arrived)?;
            writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })?;
        ensure!(arrived == data, "other octets arrive");
        Ok(())
    };
    pour(&mut client, &mut server).context("in")?;
    pour(&mut server, &mut client).context("out")?;
    let moved = arena.counters()?.since(&before)?;
    let of = |direction: &str| {
        let key = ("eth0".to_owned(), direction.to_owned(), "allowed".to_owned());
        moved.0.get(&key).copied().unwrap_or_default()
    };
    ensure!(moved.0.len() == 2, "something is dropped: {moved:?}");
    Ok((of("inbound"), of("outbound")))
}

/// The sender cuts, the receiver joins: TC ingress sees what was joined.
fn g1_gro(setup: Setup) -> Result<()> {
    let range = Range::of_kernels(setup, WEB)?;
    let arena = &range.arena;
    let set = |joins: bool| {
        range.bend(joins);
        // XDP on the other end has the sender cut in any case.
        if setup != Setup::HostXdp {
            arena.far.enter(|| {
                syscall::set_offloading("far0", Offloading::Gso, !joins)?;
                Ok(syscall::set_offloading("far0", Offloading::Tso, !joins)?)
            })?;
        }
        arena.machine.enter(|| Ok(syscall::set_offloading("eth0", Offloading::Gro, joins)?))
    };
    set(true)?;
    for family in Family::ALL {
        let (inward, outward) = pour_both_ways(arena, family)?;
        let joined = if setup == Setup::Guest { outward } else { inward };
        ensure!(joined.bytes > SIZE as u64, "{family:?}: {joined:?}");
        if setup != Setup::HostXdp {
            ensure!(joined.bytes / joined.packets > 1514, "nothing was joined, {family:?}: {joined:?}");
        }
        ensure!(arena.inbound(Probe::Tcp(22), family)? == Outcome::Silent, "22 is open, {family:?}");
    }
    set(false)
}
