//! Frames of no conversation: the infrastructure set, other EtherTypes, martians, noise.

use std::net::IpAddr;

use sg_common::tuple::Direction;

use super::{Dice, World, addresses, between, described, parsed};
use crate::packet::{Frame, Icmp, Mac, Packet, Tcp, Transport, Udp};

const NOBODY_V4: [&str; 8] = [
    "127.0.0.1",
    "224.0.0.1",
    "239.1.1.1",
    "255.255.255.255",
    "0.0.0.0",
    "0.0.0.7",
    "10.0.0.255",
    "240.0.0.1",
];
const NOBODY_V6: [&str; 8] =
    ["::1", "::", "ff02::1", "ff0e::1", "::ffff:10.0.0.1", "fe80::1", "::2", "64:ff9b::1"];

/// A frame, which way it goes, and what it is.
pub(super) fn frame(world: &mut World) -> (Direction, Vec<u8>, String) {
    let direction = world.dice.pick(&Direction::ALL);
    let (source, destination) = world.ends(direction);
    let dice = &mut world.dice;
    match dice.below(14) {
        0 => (direction, arp(dice, source, destination).bytes(), "arp".to_owned()),
        1 => {
            let ethertype =
                dice.pick(&[0x0040, 0x05ff, 0x0600, 0x88cc, 0x8847, 0x8864, 0x88e5, 0x9000, 0x0806]);
            let frame = Frame::new(source, destination, ethertype, dice.octets(60));
            let mut bytes = frame.bytes();
            bytes.resize(bytes.len().max(15), 0);
            (direction, bytes, format!("ethertype {ethertype:#06x}"))
        }
        2 => {
            // Noise behind a header that promises something.
            let mut bytes =
                Frame::new(source, destination, dice.pick(&[0x0800, 0x86dd]), dice.octets(80)).bytes();
            bytes.resize(bytes.len().max(15), 0x45);
            (direction, bytes, "noise".to_owned())
        }
        number => {
            let packet = match number {
                3 | 4 => neighbours(dice, direction),
                5..=8 => dhcp(dice, direction),
                9 => listeners(dice, direction),
                _ => martian(dice, direction),
            };
            (direction, packet.frame(source, destination).bytes(), described(&packet))
        }
    }
}

fn arp(dice: &mut Dice, source: Mac, destination: Mac) -> Frame {
    let mut payload = vec![0, 1, 8, 0, 6, 4, 0, dice.pick(&[1, 2])];
    payload.extend(if dice.once_in(4) { Mac::local(66) } else { source }.0);
    payload.extend(dice.pick(&[[192, 0, 2, 10], [192, 0, 2, 11], [0; 4]]));
    payload.extend([0; 6]);
    payload.extend([192, 0, 2, 1]);
    Frame::new(source, destination, 0x0806, payload)
}

fn listeners(dice: &mut Dice, direction: Direction) -> Packet {
    let (local, remote) =
        (dice.pick(&["fe80::10", "::", "2001:db8:ffff::10"]), dice.pick(&["fe80::99", "::"]));
    let from = if direction == Direction::Inbound { remote } else { local };
    let message = Icmp::new(dice.pick(&[130, 131, 132, 143, 151]), 0, [0; 4], &[0; 16]);
    let packet = Packet::new(parsed(from), parsed(dice.pick(&["ff02::1", "ff02::16", "fe80::10"])), message);
    packet.ipv6(|ip| ip.hop_limit = dice.pick(&[1, 1, 1, 2, 255]))
}

fn neighbours(dice: &mut Dice, direction: Direction) -> Packet {
    let (local, remote) = (dice.pick(&["fe80::10", "fe80::66", "2001:db8:ffff::10", "::"]), "fe80::99");
    let (source, destination) = between(direction, parsed(local), parsed(remote));
    let mut payload =
        parsed_octets(dice.pick(&["2001:db8:ffff::10", "fe80::10", "fe80::66", "2001:db8:ffff::66"]));
    if dice.once_in(2) {
        payload.extend([dice.pick(&[1, 2]), 1]);
        payload.extend(if dice.once_in(4) { Mac::local(66) } else { Mac::local(2) }.0);
    }
    let message = Icmp::new(
        dice.pick(&[133, 134, 135, 135, 136, 136, 137]),
        u8::from(dice.once_in(10)),
        [0; 4],
        &payload,
    );
    let mut packet = Packet::new(source, destination, message).ipv6(|ip| ip.hop_limit = 255);
    if dice.once_in(5) {
        packet = packet.ipv6(|ip| ip.hop_limit = 254);
    }
    packet
}

fn parsed_octets(address: &str) -> Vec<u8> {
    match parsed(address) {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn dhcp(dice: &mut Dice, direction: Direction) -> Packet {
    let (client, server, local, remote) = if dice.once_in(2) {
        (68, 67, dice.pick(&["0.0.0.0", "192.0.2.10"]), dice.pick(&["255.255.255.255", "192.0.2.1"]))
    } else {
        (546, 547, "fe80::10", dice.pick(&["ff02::1:2", "fe80::99"]))
    };
    // Most of them go where they should; an answer comes from an address of one host.
    let asks = (direction == Direction::Outbound) != dice.once_in(5);
    let (from, to) = if asks { (client, server) } else { (server, client) };
    let (source, destination) = between(direction, parsed(local), parsed(remote));
    let source = if source.is_multicast() { parsed("fe80::99") } else { source };
    Packet::new(source, destination, Udp::new(from, to, &[1, 1, 6, 0]))
}

fn martian(dice: &mut Dice, direction: Direction) -> Packet {
    let (local, remote) = addresses(dice);
    let nobody = parsed(dice.pick(if remote.is_ipv6() { &NOBODY_V6 } else { &NOBODY_V4 }));
    let (source, destination) = between(direction, local, remote);
    let (source, destination) = if dice.once_in(2) { (nobody, destination) } else { (source, nobody) };
    let transport: Transport = match dice.below(3) {
        0 => Tcp::new(40_000, 443, Tcp::SYN).into(),
        1 => Udp::new(40_000, 53, b"").into(),
        _ => Icmp::echo_request(remote.is_ipv6(), 7, 1).into(),
    };
    Packet::new(source, destination, transport)
}
