//! ICMP errors that quote what was sent, and some that quote it wrong.

use std::net::IpAddr;

use sg_common::tuple::Direction;

use super::{Dice, Sent, parsed};
use crate::packet::{Icmp, Ip, Packet};

/// An error about a packet that went in `direction`.
pub(super) fn about(dice: &mut Dice, direction: Direction, quoted: &Packet) -> Sent {
    let (source, destination): (IpAddr, IpAddr) = match &quoted.ip {
        Ip::V4(ip) => (ip.source.into(), ip.destination.into()),
        Ip::V6(ip) => (ip.source.into(), ip.destination.into()),
    };
    let is_v6 = source.is_ipv6();
    let (kind, code) = if is_v6 {
        dice.pick(&[(1, 0), (1, 4), (2, 0), (3, 0), (4, 1), (137, 0), (5, 0)])
    } else {
        dice.pick(&[(3, 1), (3, 3), (3, 4), (11, 0), (12, 0), (4, 0), (5, 1)])
    };
    let mut bytes = quoted.bytes();
    match dice.below(10) {
        // Cut short, as most senders do, and too short.
        0 => bytes.truncate(dice.pick(&[8, 20, 24, 27, 40, 44, 47])),
        1 => bytes.truncate(if is_v6 { 48 } else { 28 }),
        // Another packet.
        2 => {
            let at = dice.below(bytes.len() as u64) as usize;
            bytes[at] ^= 1;
        }
        // Of IPv4, a later fragment.
        3 if !is_v6 => bytes[7] = 3,
        // An error that quotes an error.
        4 => {
            let inner = Packet::new(source, destination, Icmp::new(kind, code, [0; 4], &bytes));
            bytes = inner.bytes();
        }
        _ => {}
    }
    // Whoever is on the way tells of it, and mostly those whom it concerns.
    let router = parsed(if is_v6 { "2001:db8:1::8" } else { "198.51.100.8" });
    let teller = if dice.once_in(3) { router } else { destination };
    let (teller, told) = if dice.once_in(10) { (source, destination) } else { (teller, source) };
    let told = if dice.once_in(12) { parsed(if is_v6 { "fe80::10" } else { "192.0.2.10" }) } else { told };
    let direction = if dice.once_in(10) { direction } else { direction.reverse() };
    Sent { direction, packet: Packet::new(teller, told, Icmp::new(kind, code, [0, 0, 5, 0], &bytes)) }
}
