//! What is done to honest packets: options, extensions, fragments, tags, and lengths that lie.

use super::Dice;
use crate::packet::{Extension, Frame, Ip, Packet, Transport};

/// Changes the headers of some packets, and says what it did.
pub(super) fn headers(dice: &mut Dice, packet: &mut Packet) -> String {
    if dice.once_in(40) {
        return transport(dice, &mut packet.transport);
    }
    if !dice.once_in(8) {
        return String::new();
    }
    match &mut packet.ip {
        Ip::V4(ip) => match dice.below(7) {
            0..=2 => {
                ip.options = options(dice);
                format!(", options {:02x?}", ip.options)
            }
            3 => {
                (ip.more_fragments, ip.dont_fragment) = (true, false);
                ip.identification = dice.below(4) as u16;
                ", first fragment".to_owned()
            }
            4 => {
                ip.header_length = Some(dice.below(16) as u8);
                ", another header length".to_owned()
            }
            5 => {
                ip.total_length = Some(dice.pick(&[0, 19, 20, 27, 28, 39, 40, 60, 1500, 65535]));
                ", another length".to_owned()
            }
            _ => {
                ip.version = Some(dice.pick(&[0, 5, 6]));
                ", another version".to_owned()
            }
        },
        Ip::V6(ip) => match dice.below(6) {
            0..=3 => {
                let count = dice.pick(&[1, 1, 2, 3, 7, 8, 9]);
                ip.extensions = (0..count).map(|number| extension(dice, number)).collect();
                format!(", {:?}", ip.extensions)
            }
            4 => {
                ip.payload_length = Some(dice.pick(&[0, 7, 8, 19, 20, 1500, 65535]));
                ", another length".to_owned()
            }
            _ => {
                ip.version = Some(dice.pick(&[0, 4, 5]));
                ", another version".to_owned()
            }
        },
    }
}

fn transport(dice: &mut Dice, transport: &mut Transport) -> String {
    match transport {
        Transport::Tcp(tcp) if dice.once_in(2) => {
            tcp.options = dice.octets(40);
            ", TCP options".to_owned()
        }
        Transport::Tcp(tcp) => {
            tcp.data_offset = Some(dice.below(16) as u8);
            ", another data offset".to_owned()
        }
        Transport::Udp(udp) => {
            udp.length = Some(dice.pick(&[0, 7, 8, 9, 200, 65535]));
            ", another UDP length".to_owned()
        }
        Transport::Icmp(_) | Transport::Other(..) => String::new(),
    }
}

/// Options of IPv4: padding, a record of the route, time stamps, source routes, and lies.
fn options(dice: &mut Dice) -> Vec<u8> {
    let mut options = vec![];
    for _ in 0..=dice.below(4) {
        let option: &[u8] = match dice.below(10) {
            0..=2 => &[1],
            3 => &[0],
            4 => &[7, 7, 4, 0, 0, 0, 0],
            5 => &[68, 8, 5, 0, 0, 0, 0, 0],
            6 => &[148, 4, 0, 0],
            7 => &[131, 7, 4, 10, 0, 0, 1],
            8 => &[137, 7, 4, 10, 0, 0, 1],
            _ => dice.pick(&[&[7, 1][..], &[7, 0], &[7, 60], &[7, 2], &[1, 1, 1, 187]]),
        };
        options.extend(option);
    }
    options.truncate(40);
    options
}

fn extension(dice: &mut Dice, number: usize) -> Extension {
    match dice.below(12) {
        0 | 1 if number == 0 => Extension::HopByHop(vec![]),
        0 => Extension::HopByHop(vec![5, 2, 0, 0]),
        1..=6 => Extension::Destination(if dice.once_in(4) { vec![1; 20] } else { vec![] }),
        7 => Extension::Routing(2, 0, vec![0; 20]),
        8 => Extension::Routing(dice.pick(&[0, 2, 4]), dice.pick(&[0, 1]), vec![0; 4]),
        9 => Extension::Fragment(0, dice.once_in(2), dice.below(4) as u32),
        10 => Extension::Authentication(vec![0; dice.pick(&[4, 12, 16])]),
        _ => Extension::Mobility,
    }
}

/// Puts some frames behind VLAN tags.
pub(super) fn link(dice: &mut Dice, frame: &mut Frame) -> String {
    if !dice.once_in(20) {
        return String::new();
    }
    let count = dice.pick(&[1, 1, 2, 2, 3, 10]);
    frame.tags = (0..count).map(|_| (dice.pick(&[0x8100, 0x88a8]), dice.pick(&[0, 5]))).collect();
    format!(", tags {:04x?}", frame.tags)
}

/// Shortens some frames, lengthens others, and flips an octet of a few.
pub(super) fn bytes(dice: &mut Dice, bytes: &mut Vec<u8>) -> String {
    match dice.below(120) {
        0 | 1 => {
            // The kernel takes no frame for a test that has nothing behind the Ethernet header.
            let length = 15 + dice.below(bytes.len() as u64 - 14) as usize;
            bytes.truncate(length);
            format!(", cut at {length}")
        }
        2..=5 => {
            let padding = dice.octets(40);
            bytes.extend(&padding);
            format!(", {} octets of padding", padding.len())
        }
        6 | 7 => {
            let at = 12 + dice.below(bytes.len() as u64 - 12) as usize;
            bytes[at] = dice.roll() as u8;
            format!(", octet {at} is {:#04x}", bytes[at])
        }
        _ => String::new(),
    }
}
