//! IPv4 (RFC 791) and IPv6 (RFC 8200) headers, with options and extension headers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::checksum;

/// A network header.
#[derive(Clone, Debug)]
pub enum Ip {
    /// IPv4.
    V4(Ipv4),
    /// IPv6.
    V6(Ipv6),
}

/// An IPv4 header.
#[derive(Clone, Debug)]
pub struct Ipv4 {
    /// Source address.
    pub source: Ipv4Addr,
    /// Destination address.
    pub destination: Ipv4Addr,
    /// Time to live.
    pub ttl: u8,
    /// Identification, which fragments of one datagram share.
    pub identification: u16,
    /// The DF bit.
    pub dont_fragment: bool,
    /// The MF bit.
    pub more_fragments: bool,
    /// Fragment offset in units of 8 bytes.
    pub offset: u16,
    /// Options, padded with zeroes to a multiple of 4.
    pub options: Vec<u8>,
    /// The version; right is 4.
    pub version: Option<u8>,
    /// The header's length in units of 4 bytes.
    pub header_length: Option<u8>,
    /// Header and payload in bytes.
    pub total_length: Option<u16>,
    /// The protocol number.
    pub protocol: Option<u8>,
    /// The header checksum.
    pub checksum: Option<u16>,
}

/// An IPv6 header.
#[derive(Clone, Debug)]
pub struct Ipv6 {
    /// Source address.
    pub source: Ipv6Addr,
    /// Destination address.
    pub destination: Ipv6Addr,
    /// Hop limit.
    pub hop_limit: u8,
    /// Extension headers in the order on the wire.
    pub extensions: Vec<Extension>,
    /// The version; right is 6.
    pub version: Option<u8>,
    /// Everything after the 40 bytes of header.
    pub payload_length: Option<u16>,
    /// The next header of the last header in the chain: the transport's protocol.
    pub protocol: Option<u8>,
}

/// An IPv6 extension header.
#[derive(Clone, Debug)]
pub enum Extension {
    /// Hop-by-hop options: the options' bytes, padded with `PadN`.
    HopByHop(Vec<u8>),
    /// Destination options: the same.
    Destination(Vec<u8>),
    /// Routing: type, segments left, and data padded with zeroes to 4 bytes modulo 8.
    Routing(u8, u8, Vec<u8>),
    /// Fragment: offset in units of 8 bytes, whether more follow, identification.
    Fragment(u16, bool, u32),
    /// Authentication (RFC 4302): data after its first 8 bytes, a multiple of 4.
    Authentication(Vec<u8>),
    /// Mobility (RFC 6275): a binding refresh request.
    Mobility,
}

impl Ip {
    /// An ordinary header; where the families differ, the destination's counts and the source is
    /// unspecified.
    #[must_use]
    pub fn between(source: IpAddr, destination: IpAddr) -> Self {
        match destination {
            IpAddr::V4(destination) => {
                let source = if let IpAddr::V4(source) = source { source } else { Ipv4Addr::UNSPECIFIED };
                Self::V4(Ipv4 {
                    source,
                    destination,
                    ttl: 64,
                    identification: 0,
                    dont_fragment: true,
                    more_fragments: false,
                    offset: 0,
                    options: vec![],
                    version: None,
                    header_length: None,
                    total_length: None,
                    protocol: None,
                    checksum: None,
                })
            }
            IpAddr::V6(destination) => {
                let source = if let IpAddr::V6(source) = source { source } else { Ipv6Addr::UNSPECIFIED };
                Self::V6(Ipv6 {
                    source,
                    destination,
                    hop_limit: 64,
                    extensions: vec![],
                    version: None,
                    payload_length: None,
                    protocol: None,
                })
            }
        }
    }

    /// The header, followed by `payload`.
    pub(super) fn bytes(&self, protocol: u8, payload: &[u8]) -> Vec<u8> {
        match self {
            Self::V4(header) => header.bytes(protocol, payload),
            Self::V6(header) => header.bytes(protocol, payload),
        }
    }

    /// The pseudo-header of a transport checksum, for `length` bytes of `protocol`.
    pub(super) fn pseudo_header(&self, protocol: u8, length: usize) -> Vec<u8> {
        let length = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
        let mut bytes = Vec::with_capacity(40);
        match self {
            Self::V4(header) => {
                bytes.extend(header.source.octets());
                bytes.extend(header.destination.octets());
                bytes.extend([0, protocol, length[2], length[3]]);
            }
            Self::V6(header) => {
                bytes.extend(header.source.octets());
                bytes.extend(header.destination.octets());
                bytes.extend(length);
                bytes.extend([0, 0, 0, protocol]);
            }
        }
        bytes
    }
}

impl Ipv4 {
    fn bytes(&self, protocol: u8, payload: &[u8]) -> Vec<u8> {
        let mut options = self.options.clone();
        options.resize(options.len().next_multiple_of(4), 0);
        let length = 20 + options.len();
        let words = self.header_length.unwrap_or(low8(length / 4));
        let flags = u16::from(self.dont_fragment) << 14 | u16::from(self.more_fragments) << 13 | self.offset;

        let mut header = vec![self.version.unwrap_or(4) << 4 | words, 0];
        header.extend(self.total_length.unwrap_or(low16(length + payload.len())).to_be_bytes());
        header.extend(self.identification.to_be_bytes());
        header.extend(flags.to_be_bytes());
        header.extend([self.ttl, self.protocol.unwrap_or(protocol), 0, 0]);
        header.extend(self.source.octets());
        header.extend(self.destination.octets());
        header.extend(options);
        let sum = self.checksum.unwrap_or_else(|| checksum(&[&header]));
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        header.extend(payload);
        header
    }
}

impl Ipv6 {
    fn bytes(&self, protocol: u8, payload: &[u8]) -> Vec<u8> {
        let protocol = self.protocol.unwrap_or(protocol);
        let next = |after: usize| self.extensions.get(after).map_or(protocol, Extension::number);
        let mut chain = vec![];
        for (index, extension) in self.extensions.iter().enumerate() {
            chain.extend(extension.bytes(next(index + 1)));
        }
        let length = self.payload_length.unwrap_or(low16(chain.len() + payload.len()));

        let mut bytes = vec![self.version.unwrap_or(6) << 4, 0, 0, 0];
        bytes.extend(length.to_be_bytes());
        bytes.extend([next(0), self.hop_limit]);
        bytes.extend(self.source.octets());
        bytes.extend(self.destination.octets());
        bytes.extend(chain);
        bytes.extend(payload);
        bytes
    }
}

impl Extension {
    const fn number(&self) -> u8 {
        match self {
            Self::HopByHop(_) => 0,
            Self::Routing(..) => 43,
            Self::Fragment(..) => 44,
            Self::Authentication(_) => 51,
            Self::Destination(_) => 60,
            Self::Mobility => 135,
        }
    }

    fn bytes(&self, next: u8) -> Vec<u8> {
        match self {
            Self::HopByHop(options) | Self::Destination(options) => {
                let mut bytes = vec![next, 0];
                bytes.extend(options);
                match bytes.len().next_multiple_of(8) - bytes.len() {
                    0 => {}
                    1 => bytes.push(0), // Pad1
                    gap => {
                        bytes.extend([1, low8(gap - 2)]); // PadN
                        bytes.resize(bytes.len() + gap - 2, 0);
                    }
                }
                bytes[1] = low8(bytes.len() / 8 - 1);
                bytes
            }
            Self::Routing(kind, left, data) => {
                let mut bytes = vec![next, 0, *kind, *left];
                bytes.extend(data);
                bytes.resize(bytes.len().next_multiple_of(8), 0);
                bytes[1] = low8(bytes.len() / 8 - 1);
                bytes
            }
            Self::Fragment(offset, more, identification) => {
                let mut bytes = vec![next, 0];
                bytes.extend((offset << 3 | u16::from(*more)).to_be_bytes());
                bytes.extend(identification.to_be_bytes());
                bytes
            }
            Self::Authentication(data) => {
                let mut bytes = vec![next, low8((8 + data.len()) / 4 - 2), 0, 0, 0, 0, 0, 1];
                bytes.extend(data);
                bytes
            }
            Self::Mobility => vec![next, 0, 0, 0, 0, 0, 0, 0],
        }
    }
}

/// The low byte of a length: a test that overflows a field wants the field to overflow.
pub(super) fn low8(length: usize) -> u8 {
    length.to_le_bytes()[0]
}

/// The low two bytes of a length, likewise.
pub(super) fn low16(length: usize) -> u16 {
    let [low, high, ..] = length.to_le_bytes();
    u16::from_le_bytes([low, high])
}
