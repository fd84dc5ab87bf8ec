//! Frames, written byte by byte: every field can be set to what no honest sender would send.
//!
//! A field that is `None` is filled in right: lengths, checksums, next headers. The layouts come from
//! the RFCs and share no code with the datapath's parser. Sending and receiving is [`socket`]'s.

use std::{fmt, net::IpAddr};

pub mod ip;
#[cfg(feature = "lab")]
pub mod socket;
pub mod transport;

pub use ip::{Extension, Ip, Ipv4, Ipv6};
#[cfg(feature = "lab")]
pub use socket::PacketSocket;
pub use transport::{Icmp, Tcp, Transport, Udp};

/// A MAC address, in the order on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// `ff:ff:ff:ff:ff:ff`.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// A locally administered address that ends in `number`.
    #[must_use]
    pub const fn local(number: u8) -> Self {
        Self([0x02, 0, 0, 0, 0, number])
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// An Ethernet II frame around bytes.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Destination MAC address.
    pub destination: Mac,
    /// Source MAC address.
    pub source: Mac,
    /// VLAN tags from the outermost: tag protocol (0x8100, 0x88a8) and VLAN id.
    pub tags: Vec<(u16, u16)>,
    /// The EtherType, or the length of an 802.3 frame.
    pub ethertype: u16,
    /// All that follows.
    pub payload: Vec<u8>,
}

impl Frame {
    /// An untagged frame.
    #[must_use]
    pub fn new(source: Mac, destination: Mac, ethertype: u16, payload: impl Into<Vec<u8>>) -> Self {
        Self { destination, source, tags: vec![], ethertype, payload: payload.into() }
    }

    /// The same frame inside one more VLAN tag.
    #[must_use]
    pub fn tagged(mut self, protocol: u16, vlan: u16) -> Self {
        self.tags.insert(0, (protocol, vlan));
        self
    }

    /// The bytes on the wire, without padding to the minimum and without FCS.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(18 + self.payload.len());
        bytes.extend(self.destination.0);
        bytes.extend(self.source.0);
        for (protocol, vlan) in &self.tags {
            bytes.extend(protocol.to_be_bytes());
            bytes.extend(vlan.to_be_bytes());
        }
        bytes.extend(self.ethertype.to_be_bytes());
        bytes.extend(&self.payload);
        bytes
    }
}

/// An IP packet.
#[derive(Clone, Debug)]
pub struct Packet {
    /// The network header.
    pub ip: Ip,
    /// What it carries.
    pub transport: Transport,
}

impl Packet {
    /// A packet with ordinary headers. Both addresses are of one family; of two, the destination's
    /// counts and the source is unspecified.
    #[must_use]
    pub fn new(source: IpAddr, destination: IpAddr, transport: impl Into<Transport>) -> Self {
        Self { ip: Ip::between(source, destination), transport: transport.into() }
    }

    /// The same packet with its IPv4 header changed; an IPv6 packet stays as it is.
    #[must_use]
    pub fn ipv4(mut self, change: impl FnOnce(&mut Ipv4)) -> Self {
        if let Ip::V4(header) = &mut self.ip {
            change(header);
        }
        self
    }

    /// The same packet with its IPv6 header changed; an IPv4 packet stays as it is.
    #[must_use]
    pub fn ipv6(mut self, change: impl FnOnce(&mut Ipv6)) -> Self {
        if let Ip::V6(header) = &mut self.ip {
            change(header);
        }
        self
    }

    /// The bytes from the IP header on.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let payload = self.transport.bytes(&self.ip);
        self.ip.bytes(self.transport.protocol(&self.ip), &payload)
    }

    /// The packet in a frame with the EtherType of its family.
    #[must_use]
    pub fn frame(&self, source: Mac, destination: Mac) -> Frame {
        let ethertype = match self.ip {
            Ip::V4(_) => 0x0800,
            Ip::V6(_) => 0x86dd,
        };
        Frame::new(source, destination, ethertype, self.bytes())
    }
}

/// The Internet checksum (RFC 1071) over `parts` laid end to end; each but the last has an even length.
#[must_use]
pub fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0_u32;
    for part in parts {
        for pair in part.chunks(2) {
            let low = pair.get(1).copied().unwrap_or(0);
            sum += u32::from(u16::from_be_bytes([pair[0], low]));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksum_of_rfc_1071() {
        assert_eq!(checksum(&[&[0x00, 0x01, 0xf2, 0x03], &[0xf4, 0xf5, 0xf6, 0xf7]]), !0xddf2);
        assert_eq!(checksum(&[&[0x01]]), !0x0100, "an odd byte is the high half");
    }

    #[test]
    fn tags_come_outermost_first() {
        let frame = Frame::new(Mac::local(1), Mac::local(2), 0x0800, [7]).tagged(0x8100, 5).tagged(0x88a8, 6);
        assert_eq!(frame.bytes()[12..], [0x88, 0xa8, 0, 6, 0x81, 0, 0, 5, 8, 0, 7]);
    }

    /// A datagram of RFC 768 and 791, checked by hand.
    #[test]
    fn bytes_of_a_udp_packet() {
        let packet = Packet::new([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), Udp::new(1, 2, b"a"));
        let expected = [
            0x45, 0, 0, 29, 0, 0, 0x40, 0, 64, 17, 0x26, 0xce, 10, 0, 0, 1, 10, 0, 0, 2, // IPv4
            0, 1, 0, 2, 0, 9, 0x8a, 0xd6, b'a', // UDP
        ];
        assert_eq!(packet.bytes(), expected);
    }
}
