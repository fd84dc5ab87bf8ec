//! Makes the frame that a question asks about. Checksums are left out: nothing here reads them.

use sg_common::{
    addr::{Addr, Family},
    tuple::Protocol,
    wire::tcp_flag,
};

use super::Question;

/// A port that a client would choose, where the question names none.
const EPHEMERAL: u16 = 49_152;

/// The frame. With a known flow, TCP continues it; else it asks for a connection.
pub(super) fn frame(question: &Question, continues: bool) -> Vec<u8> {
    let family = question.source.address.family();
    let payload = payload(question, continues);
    let length = payload.len() as u16;
    let protocol = question.what.protocol.0;
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
    match family {
        Family::V4 => {
            frame.extend([0x08, 0x00, 0x45, 0]);
            frame.extend((length + 20).to_be_bytes());
            frame.extend([0, 1, 0x40, 0, hop_limit(question), protocol, 0, 0]);
        }
        Family::V6 => {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend(length.to_be_bytes());
            frame.extend([protocol, hop_limit(question)]);
        }
    }
    for end in [question.source, question.destination] {
        frame.extend(octets(end.address));
    }
    frame.extend(payload);
    frame
}

fn octets(address: Addr) -> Vec<u8> {
    match address.family() {
        Family::V4 => address.v4_bits().to_be_bytes().to_vec(),
        Family::V6 => address.to_bits().to_be_bytes().to_vec(),
    }
}

/// What honest senders of such a packet write there.
fn hop_limit(question: &Question) -> u8 {
    match (question.what.protocol, question.what.icmp.0) {
        (Protocol::ICMPV6, 133..=137) => 255,
        (Protocol::ICMPV6, 130..=132 | 143) => 1,
        _ => 64,
    }
}

fn payload(question: &Question, continues: bool) -> Vec<u8> {
    let source_port = question.source.port.unwrap_or(EPHEMERAL).to_be_bytes();
    let destination_port = question.destination.port.unwrap_or(0).to_be_bytes();
    let ports = [source_port, destination_port].concat();
    match question.what.protocol {
        Protocol::TCP => {
            let (acknowledgement, flags) = if continues { (1, tcp_flag::ACK) } else { (0, tcp_flag::SYN) };
            [&ports[..], &[0, 0, 0, 1, 0, 0, 0, acknowledgement, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]]
                .concat()
        }
        Protocol::UDP => [&ports[..], &[0, 8, 0, 0]].concat(),
        Protocol::ICMP | Protocol::ICMPV6 => {
            let (kind, code) = question.what.icmp;
            // Long enough for every message of neighbour and listener discovery.
            let mut message = vec![0; 32];
            message[..2].copy_from_slice(&[kind, code]);
            message[5] = 1;
            message
        }
        _ => vec![0; 32],
    }
}
