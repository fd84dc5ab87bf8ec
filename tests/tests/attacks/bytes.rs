//! Octets of frames, as they stand in the RFCs. Nothing here knows what the product makes of them.

use sg_tests::lab::arena::Family;

pub(crate) const IPV4: u16 = 0x0800;
pub(crate) const IPV6: u16 = 0x86dd;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const FIN: u8 = 0x01;
pub(crate) const SYN: u8 = 0x02;
pub(crate) const RST: u8 = 0x04;
pub(crate) const PSH: u8 = 0x08;
pub(crate) const ACK: u8 = 0x10;
pub(crate) const URG: u8 = 0x20;
pub(crate) const BROADCAST: [u8; 6] = [0xff; 6];

/// One end of a wire.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Host {
    pub(crate) mac: [u8; 6],
    pub(crate) v4: [u8; 4],
    pub(crate) v6: [u8; 16],
}

/// From whom to whom, in one family.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Path {
    pub(crate) family: Family,
    pub(crate) from: Host,
    pub(crate) to: Host,
}

/// The Internet checksum of RFC 1071.
pub(crate) fn sum(parts: &[&[u8]]) -> [u8; 2] {
    let octets: Vec<u8> = parts.concat();
    let mut sum = 0_u32;
    for pair in octets.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
    }
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let [_, _, high, low] = (!sum).to_be_bytes();
    [high, low]
}

/// The low octets of a length, in network order.
pub(crate) fn be16(number: usize) -> [u8; 2] {
    [(number >> 8 & 0xff) as u8, (number & 0xff) as u8]
}

/// Writes an IPv4 packet's header checksum anew.
pub(crate) fn seal_ipv4(packet: &mut [u8]) {
    packet[10] = 0;
    packet[11] = 0;
    let length = (usize::from(packet[0] & 0xf) * 4).min(packet.len());
    let header = sum(&[&packet[..length]]);
    packet[10..12].copy_from_slice(&header);
}

/// An IPv4 header without options, and what it carries.
pub(crate) fn ipv4(protocol: u8, from: [u8; 4], to: [u8; 4], rest: &[u8]) -> Vec<u8> {
    let [high, low] = be16(20 + rest.len());
    let mut packet = vec![0x45, 0, high, low, 0, 0, 0x40, 0, 64, protocol, 0, 0];
    packet.extend(from);
    packet.extend(to);
    packet.extend(rest);
    seal_ipv4(&mut packet);
    packet
}

/// The same with options: a multiple of four octets.
pub(crate) fn ipv4_with(options: &[u8], packet: &[u8]) -> Vec<u8> {
    let mut packet = [&packet[..20], options, &packet[20..]].concat();
    packet[0] = 0x45 + (options.len() / 4) as u8;
    let length = be16(packet.len());
    packet[2..4].copy_from_slice(&length);
    seal_ipv4(&mut packet);
    packet
}

/// A fragment of an IPv4 datagram: `offset` in units of 8 octets.
pub(crate) fn ipv4_fragment(packet: &[u8], id: u16, offset: u16, more: bool) -> Vec<u8> {
    let mut packet = packet.to_vec();
    packet[4..6].copy_from_slice(&id.to_be_bytes());
    packet[6..8].copy_from_slice(&(u16::from(more) << 13 | offset).to_be_bytes());
    seal_ipv4(&mut packet);
    packet
}

/// An IPv6 header, and what it carries.
pub(crate) fn ipv6(next: u8, from: [u8; 16], to: [u8; 16], rest: &[u8]) -> Vec<u8> {
    let [high, low] = be16(rest.len());
    let mut packet = vec![0x60, 0, 0, 0, high, low, next, 64];
    packet.extend(from);
    packet.extend(to);
    packet.extend(rest);
    packet
}

/// A fragment header: what follows, `offset` in units of 8 octets, whether more fragments come.
pub(crate) fn fragment(next: u8, id: u32, offset: u16, more: bool) -> Vec<u8> {
    let mut header = vec![next, 0];
    header.extend((offset << 3 | u16::from(more)).to_be_bytes());
    header.extend(id.to_be_bytes());
    header
}

/// An Ethernet II frame, or with a length instead of the kind an 802.3 one.
pub(crate) fn ethernet(to: [u8; 6], from: [u8; 6], kind: u16, rest: &[u8]) -> Vec<u8> {
    [&to[..], &from, &kind.to_be_bytes(), rest].concat()
}

/// The frame behind VLAN tags: (tag protocol, priority and VLAN id), outermost first.
pub(crate) fn tagged(frame: &[u8], tags: &[(u16, u16)]) -> Vec<u8> {
    let tags: Vec<u8> =
        tags.iter().flat_map(|(kind, id)| [kind.to_be_bytes(), id.to_be_bytes()].concat()).collect();
    [&frame[..12], &tags, &frame[12..]].concat()
}

/// The frame without its tags, and how many they were.
pub(crate) fn untagged(frame: &[u8]) -> (Vec<u8>, usize) {
    let mut frame = frame.to_vec();
    let mut tags = 0;
    while frame.len() >= 18 && matches!(frame[12..14], [0x81, 0x00] | [0x88, 0xa8]) {
        frame.drain(12..16);
        tags += 1;
    }
    (frame, tags)
}

impl Path {
    /// The way back.
    pub(crate) fn back(self) -> Self {
        Self { family: self.family, from: self.to, to: self.from }
    }

    /// RFC 9293 and RFC 8200: what a transport checksum covers beside the segment.
    fn pseudo_header(&self, protocol: u8, length: usize) -> Vec<u8> {
        let [high, low] = be16(length);
        match self.family {
            Family::V4 => [&self.from.v4[..], &self.to.v4, &[0, protocol, high, low]].concat(),
            Family::V6 => [&self.from.v6[..], &self.to.v6, &[0, 0, high, low, 0, 0, 0, protocol]].concat(),
        }
    }

    /// Writes the checksum of a segment at `at`.
    pub(crate) fn seal(&self, protocol: u8, at: usize, segment: &mut [u8]) {
        segment[at] = 0;
        segment[at + 1] = 0;
        let checksum = sum(&[&self.pseudo_header(protocol, segment.len()), segment]);
        segment[at..at + 2].copy_from_slice(&checksum);
    }

    /// A TCP segment with its checksum.
    pub(crate) fn tcp(&self, ports: (u16, u16), numbers: (u32, u32), flags: u8, data: &[u8]) -> Vec<u8> {
        let mut segment = vec![];
        segment.extend(ports.0.to_be_bytes());
        segment.extend(ports.1.to_be_bytes());
        segment.extend(numbers.0.to_be_bytes());
        segment.extend(numbers.1.to_be_bytes());
        segment.extend([0x50, flags, 0xfa, 0xf0, 0, 0, 0, 0]);
        segment.extend(data);
        self.seal(TCP, 16, &mut segment);
        segment
    }

    /// A SYN without options.
    pub(crate) fn syn(&self, ports: (u16, u16)) -> Vec<u8> {
        self.tcp(ports, (1000, 0), SYN, &[])
    }

    /// A UDP datagram with its checksum.
    pub(crate) fn udp(&self, ports: (u16, u16), data: &[u8]) -> Vec<u8> {
        let mut datagram = vec![];
        datagram.extend(ports.0.to_be_bytes());
        datagram.extend(ports.1.to_be_bytes());
        datagram.extend(be16(8 + data.len()));
        datagram.extend([0, 0]);
        datagram.extend(data);
        self.seal(UDP, 6, &mut datagram);
        datagram
    }

    /// ICMP's or `ICMPv6`'s protocol number.
    pub(crate) fn icmp_number(&self) -> u8 {
        if self.family == Family::V4 { 1 } else { 58 }
    }

    /// An ICMP or `ICMPv6` message with its checksum.
    pub(crate) fn icmp(&self, kind: u8, code: u8, rest: [u8; 4], data: &[u8]) -> Vec<u8> {
        let mut message = vec![kind, code, 0, 0];
        message.extend(rest);
        message.extend(data);
        let checksum = match self.family {
            Family::V4 => sum(&[&message]),
            Family::V6 => sum(&[&self.pseudo_header(58, message.len()), &message]),
        };
        message[2..4].copy_from_slice(&checksum);
        message
    }

    /// An echo request.
    pub(crate) fn echo(&self, id: u16, number: u16) -> Vec<u8> {
        let [a, b] = id.to_be_bytes();
        let [c, d] = number.to_be_bytes();
        self.icmp(if self.family == Family::V4 { 8 } else { 128 }, 0, [a, b, c, d], b"echo")
    }

    /// The reply to it, from the other side: the path is the reply's.
    pub(crate) fn echo_reply(&self, id: u16, number: u16) -> Vec<u8> {
        let [a, b] = id.to_be_bytes();
        let [c, d] = number.to_be_bytes();
        self.icmp(if self.family == Family::V4 { 0 } else { 129 }, 0, [a, b, c, d], b"echo")
    }

    /// An IP packet with an ordinary header.
    pub(crate) fn ip(&self, protocol: u8, rest: &[u8]) -> Vec<u8> {
        match self.family {
            Family::V4 => ipv4(protocol, self.from.v4, self.to.v4, rest),
            Family::V6 => ipv6(protocol, self.from.v6, self.to.v6, rest),
        }
    }

    /// A fragment of a datagram of `protocol`; the offset in units of 8 octets.
    pub(crate) fn fragment(&self, protocol: u8, id: u16, offset: u16, more: bool, rest: &[u8]) -> Vec<u8> {
        match self.family {
            Family::V4 => ipv4_fragment(&self.ip(protocol, rest), id, offset, more),
            Family::V6 => {
                let header = fragment(protocol, id.into(), offset, more);
                self.ip(44, &[&header, rest].concat())
            }
        }
    }

    /// The EtherType of the family.
    pub(crate) fn ethertype(&self) -> u16 {
        if self.family == Family::V4 { IPV4 } else { IPV6 }
    }

    /// An IP packet in a frame.
    pub(crate) fn frame(&self, packet: &[u8]) -> Vec<u8> {
        ethernet(self.to.mac, self.from.mac, self.ethertype(), packet)
    }

    /// A SYN in a packet in a frame.
    pub(crate) fn syn_frame(&self, ports: (u16, u16)) -> Vec<u8> {
        self.frame(&self.ip(TCP, &self.syn(ports)))
    }

    /// A UDP datagram in a packet in a frame.
    pub(crate) fn udp_frame(&self, ports: (u16, u16), data: &[u8]) -> Vec<u8> {
        self.frame(&self.ip(UDP, &self.udp(ports, data)))
    }
}
