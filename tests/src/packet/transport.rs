//! TCP (RFC 9293), UDP (RFC 768), ICMP (RFC 792, RFC 4443), and any other protocol's bytes.

use super::{
    checksum,
    ip::{Ip, low8, low16},
};

/// What an IP packet carries.
#[derive(Clone, Debug)]
pub enum Transport {
    /// TCP.
    Tcp(Tcp),
    /// UDP.
    Udp(Udp),
    /// ICMP or `ICMPv6`, as the packet's family says.
    Icmp(Icmp),
    /// A protocol number and all of its bytes.
    Other(u8, Vec<u8>),
}

/// A TCP segment.
#[derive(Clone, Debug)]
pub struct Tcp {
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgement number.
    pub acknowledgement: u32,
    /// The eight flags from CWR (0x80) to FIN (0x01).
    pub flags: u8,
    /// The receive window.
    pub window: u16,
    /// Options, padded with zeroes to a multiple of 4.
    pub options: Vec<u8>,
    /// The header's length in units of 4 bytes.
    pub data_offset: Option<u8>,
    /// The checksum.
    pub checksum: Option<u16>,
    /// The data.
    pub payload: Vec<u8>,
}

impl Tcp {
    /// FIN.
    pub const FIN: u8 = 0x01;
    /// SYN.
    pub const SYN: u8 = 0x02;
    /// RST.
    pub const RST: u8 = 0x04;
    /// PSH.
    pub const PSH: u8 = 0x08;
    /// ACK.
    pub const ACK: u8 = 0x10;
    /// URG.
    pub const URG: u8 = 0x20;

    /// A segment without data or options.
    #[must_use]
    pub fn new(source_port: u16, destination_port: u16, flags: u8) -> Self {
        Self {
            source_port,
            destination_port,
            sequence: 1_000,
            acknowledgement: 0,
            flags,
            window: 64_240,
            options: vec![],
            data_offset: None,
            checksum: None,
            payload: vec![],
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut options = self.options.clone();
        options.resize(options.len().next_multiple_of(4), 0);
        let words = self.data_offset.unwrap_or(low8(5 + options.len() / 4));
        let mut bytes = vec![];
        bytes.extend(self.source_port.to_be_bytes());
        bytes.extend(self.destination_port.to_be_bytes());
        bytes.extend(self.sequence.to_be_bytes());
        bytes.extend(self.acknowledgement.to_be_bytes());
        bytes.extend([words << 4, self.flags]);
        bytes.extend(self.window.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(options);
        bytes.extend(&self.payload);
        bytes
    }
}

/// A UDP datagram.
#[derive(Clone, Debug)]
pub struct Udp {
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// Header and payload in bytes.
    pub length: Option<u16>,
    /// The checksum.
    pub checksum: Option<u16>,
    /// The data.
    pub payload: Vec<u8>,
}

impl Udp {
    /// An honest datagram.
    #[must_use]
    pub fn new(source_port: u16, destination_port: u16, payload: &[u8]) -> Self {
        Self { source_port, destination_port, length: None, checksum: None, payload: payload.to_vec() }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![];
        bytes.extend(self.source_port.to_be_bytes());
        bytes.extend(self.destination_port.to_be_bytes());
        bytes.extend(self.length.unwrap_or(low16(8 + self.payload.len())).to_be_bytes());
        bytes.extend([0; 2]);
        bytes.extend(&self.payload);
        bytes
    }
}

/// An ICMP or `ICMPv6` message.
#[derive(Clone, Debug)]
pub struct Icmp {
    /// The type.
    pub kind: u8,
    /// The code.
    pub code: u8,
    /// The second four bytes: identifier and sequence number of an echo, for instance.
    pub rest: [u8; 4],
    /// The checksum.
    pub checksum: Option<u16>,
    /// What follows the first 8 bytes.
    pub payload: Vec<u8>,
}

impl Icmp {
    /// A message.
    #[must_use]
    pub fn new(kind: u8, code: u8, rest: [u8; 4], payload: &[u8]) -> Self {
        Self { kind, code, rest, checksum: None, payload: payload.to_vec() }
    }

    /// An echo request of the family.
    #[must_use]
    pub fn echo_request(ipv6: bool, identifier: u16, sequence: u16) -> Self {
        let [a, b] = identifier.to_be_bytes();
        let [c, d] = sequence.to_be_bytes();
        Self::new(if ipv6 { 128 } else { 8 }, 0, [a, b, c, d], b"echo")
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![self.kind, self.code, 0, 0];
        bytes.extend(self.rest);
        bytes.extend(&self.payload);
        bytes
    }
}

impl Transport {
    pub(super) fn protocol(&self, ip: &Ip) -> u8 {
        match (self, ip) {
            (Self::Tcp(_), _) => 6,
            (Self::Udp(_), _) => 17,
            (Self::Icmp(_), Ip::V4(_)) => 1,
            (Self::Icmp(_), Ip::V6(_)) => 58,
            (Self::Other(number, _), _) => *number,
        }
    }

    /// The header and data, checksum filled in.
    #[must_use]
    pub fn bytes(&self, ip: &Ip) -> Vec<u8> {
        let (mut bytes, at, given) = match self {
            Self::Tcp(tcp) => (tcp.bytes(), 16, tcp.checksum),
            Self::Udp(udp) => (udp.bytes(), 6, udp.checksum),
            Self::Icmp(icmp) => (icmp.bytes(), 2, icmp.checksum),
            Self::Other(_, bytes) => return bytes.clone(),
        };
        let pseudo = match (self, ip) {
            (Self::Icmp(_), Ip::V4(_)) => vec![],
            _ => ip.pseudo_header(self.protocol(ip), bytes.len()),
        };
        let sum = given.unwrap_or_else(|| match (self, checksum(&[&pseudo, &bytes])) {
            (Self::Udp(_), 0) => 0xffff, // Zero would mean: no checksum.
            (_, sum) => sum,
        });
        bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        bytes
    }
}

impl From<Tcp> for Transport {
    fn from(tcp: Tcp) -> Self {
        Self::Tcp(tcp)
    }
}

impl From<Udp> for Transport {
    fn from(udp: Udp) -> Self {
        Self::Udp(udp)
    }
}

impl From<Icmp> for Transport {
    fn from(icmp: Icmp) -> Self {
        Self::Icmp(icmp)
    }
}
