//! Packets cut into fragments: in order, late, lost, overlapping, forged.

use sg_common::tuple::Direction;

use super::{Dice, Sent, World};
use crate::packet::{Extension, Ip, Packet, Transport};

/// The identifications are few, so that datagrams meet.
const IDS: u64 = 6;

/// Cuts a packet. Gives the first part; the others wait for their time.
pub(super) fn cut(world: &mut World, sent: &Sent) -> Sent {
    let dice = &mut world.dice;
    let mut packet = sent.packet.clone();
    if let Transport::Udp(udp) = &mut packet.transport {
        udp.payload.resize(24, 7);
    }
    let bytes = packet.transport.bytes(&packet.ip);
    let protocol = match (&packet.transport, &packet.ip) {
        (Transport::Tcp(_), _) => 6,
        (Transport::Udp(_), _) => 17,
        (Transport::Icmp(_), Ip::V4(_)) => 1,
        (Transport::Icmp(_), Ip::V6(_)) => 58,
        (Transport::Other(number, _), _) => *number,
    };
    // Mostly behind the transport header, sometimes within.
    let length = (dice.pick(&[24, 24, 24, 32, 8, 16])).min(bytes.len() / 8 * 8);
    // Over IPv6, an extension header can be part of what is cut.
    let is_extended = dice.once_in(3) && matches!(packet.ip, Ip::V6(_));
    let id = dice.below(IDS) as u32;
    let part = |offset: usize, bytes: &[u8], more| {
        let transport = Transport::Other(protocol, bytes.to_vec());
        let part = Packet { ip: packet.ip.clone(), transport };
        extended(placed(part, offset as u16 / 8, more, id), is_extended)
    };
    let mut at = length;
    while at < bytes.len() {
        let end = (at + 8).min(bytes.len());
        let later = part(at, &bytes[at..end], end < bytes.len());
        world.waiting.push(Sent { direction: sent.direction, packet: later });
        at = end;
    }
    let lone = lone(&mut world.dice, sent.direction, &packet, protocol);
    world.waiting.push(Sent { packet: extended(lone.packet, is_extended), ..lone });
    let more = !world.dice.once_in(10);
    Sent { direction: sent.direction, packet: part(0, &bytes[..length], more) }
}

/// A fragment of a packet that has an extension header behind the fragment header, if it is to have one:
/// the first part holds it, and the others lie so much further back.
fn extended(packet: Packet, is_extended: bool) -> Packet {
    const DESTINATION_OPTIONS: u8 = 60;
    packet.ipv6(|ip| match ip.extensions.last_mut() {
        Some(Extension::Fragment(0, ..)) if is_extended => ip.extensions.push(Extension::Destination(vec![])),
        Some(Extension::Fragment(offset, ..)) if is_extended => {
            *offset += 1;
            ip.protocol = Some(DESTINATION_OPTIONS);
        }
        _ => {}
    })
}

/// A later fragment that belongs to nothing, or to what another has begun.
fn lone(dice: &mut Dice, direction: Direction, packet: &Packet, protocol: u8) -> Sent {
    let id = dice.below(IDS) as u32;
    let offset = dice.pick(&[0, 1, 2, 3, 3, 4, 100, 8189, 8190]);
    let transport = Transport::Other(protocol, vec![0; dice.pick(&[8, 16, 24])]);
    let more = dice.once_in(2);
    let packet = placed(Packet { ip: packet.ip.clone(), transport }, offset, more, id);
    Sent { direction, packet }
}

fn placed(packet: Packet, offset: u16, more: bool, id: u32) -> Packet {
    packet
        .ipv4(|ip| {
            (ip.offset, ip.more_fragments, ip.dont_fragment) = (offset, more, false);
            ip.identification = id as u16;
        })
        .ipv6(|ip| ip.extensions.push(Extension::Fragment(offset, more, id)))
}
