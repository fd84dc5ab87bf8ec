//! A question as it is typed: direction, protocol, source, destination.

use std::{fmt, net::IpAddr, str::FromStr};

use sg_common::{
    addr::{Addr, Family},
    tuple::{Direction, Protocol, Table, Tuple},
};

use super::selector;
use crate::document;

/// A packet that is asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The interface.
    pub interface: String,
    /// Which way the packet goes, told from the instance's side.
    pub direction: Direction,
    /// Its protocol.
    pub what: What,
    /// Who sends it.
    pub source: End,
    /// To whom.
    pub destination: End,
}

/// The protocol that is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct What {
    /// Its number.
    pub protocol: Protocol,
    /// For ICMP and ICMPv6: type and code.
    pub icmp: (u8, u8),
}

/// An address, and a port where one was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// The address.
    pub address: Addr,
    /// The port.
    pub port: Option<u16>,
}

/// Why a question makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidQuestion {
    /// The protocol is not known.
    #[error(
        "`{0}` is no protocol: write tcp, udp, icmp, icmpv6, icmp/echo-request, icmp/3/4, a name as gre or a number up to 255"
    )]
    Protocol(String),
    /// An address is none.
    #[error("`{0}` is no address: write 192.0.2.1, 192.0.2.1:443, 2001:db8::1 or [2001:db8::1]:443")]
    Address(String),
    /// IPv4 does not talk to IPv6.
    #[error("{source_address} and {destination} are of two families: write two IPv4 or two IPv6 addresses")]
    Families {
        /// The source.
        source_address: Addr,
        /// The destination.
        destination: Addr,
    },
    /// TCP and UDP go to a port.
    #[error("{protocol} goes to a port: write {}", End { address: *destination, port: Some(443) })]
    NoPort {
        /// The protocol.
        protocol: String,
        /// The destination.
        destination: Addr,
    },
    /// Only TCP and UDP have ports.
    #[error("{0} has no ports: write the addresses alone")]
    Port(String),
}

impl Question {
    /// A question whose parts fit each other.
    ///
    /// # Errors
    ///
    /// They do not.
    pub fn new(
        interface: String,
        direction: Direction,
        what: What,
        source: End,
        destination: End,
    ) -> Result<Self, InvalidQuestion> {
        if source.address.family() != destination.address.family() {
            return Err(InvalidQuestion::Families {
                source_address: source.address,
                destination: destination.address,
            });
        }
        if what.has_ports() {
            if destination.port.is_none() {
                return Err(InvalidQuestion::NoPort {
                    protocol: what.to_string(),
                    destination: destination.address,
                });
            }
        } else if source.port.is_some() || destination.port.is_some() {
            return Err(InvalidQuestion::Port(what.to_string()));
        }
        Ok(Self { interface, direction, what, source, destination })
    }

    /// The instance's end, and the other side's.
    #[must_use]
    pub fn local_and_remote(&self) -> (End, End) {
        match self.direction {
            Direction::Inbound => (self.destination, self.source),
            Direction::Outbound => (self.source, self.destination),
        }
    }

    /// The packet as a rule sees it.
    #[must_use]
    pub fn tuple(&self) -> Tuple {
        let (local, remote) = self.local_and_remote();
        let family = local.address.family();
        let port = self.destination.port.unwrap_or(0);
        Tuple {
            local: local.address,
            remote: remote.address,
            protocol: self.what.protocol,
            selector: selector(family, self.what.protocol, port, self.what.icmp),
        }
    }

    /// Whether this is an ICMP error, which quotes another packet.
    #[must_use]
    pub fn is_icmp_error(&self) -> bool {
        let kind = self.what.icmp.0;
        match (self.tuple().selector.table, self.source.address.family()) {
            (Table::Icmp, Family::V4) => matches!(kind, 3 | 4 | 5 | 11 | 12),
            (Table::Icmp, Family::V6) => kind < 128,
            (Table::Tcp | Table::Udp | Table::Other, _) => false,
        }
    }
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} -> {}", self.what, self.source, self.destination)
    }
}

impl What {
    const fn has_ports(self) -> bool {
        matches!(self.protocol, Protocol::TCP | Protocol::UDP)
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&document::protocol_name(self.protocol))?;
        if matches!(self.protocol, Protocol::ICMP | Protocol::ICMPV6) {
            let family = if self.protocol == Protocol::ICMP { Family::V4 } else { Family::V6 };
            let (kind, code) = self.icmp;
            match document::icmp_name(family, kind) {
                Some(name) => write!(f, "/{name}")?,
                None => write!(f, "/{kind}")?,
            }
            if code != 0 {
                write!(f, "/{code}")?;
            }
        }
        Ok(())
    }
}

impl FromStr for What {
    type Err = InvalidQuestion;

    fn from_str(text: &str) -> Result<Self, InvalidQuestion> {
        let invalid = || InvalidQuestion::Protocol(text.to_owned());
        let (name, rest) = text.split_once('/').map_or((text, None), |(name, rest)| (name, Some(rest)));
        let protocol = document::protocol_number(name).ok_or_else(invalid)?;
        let family = match protocol {
            Protocol::ICMP => Family::V4,
            Protocol::ICMPV6 => Family::V6,
            _ if rest.is_some() => return Err(invalid()),
            _ => return Ok(Self { protocol, icmp: (0, 0) }),
        };
        let Some(rest) = rest else {
            // What people mean by "does ping get through".
            let echo_request = if family == Family::V4 { 8 } else { 128 };
            return Ok(Self { protocol, icmp: (echo_request, 0) });
        };
        let (kind, code) = rest.split_once('/').map_or((rest, None), |(kind, code)| (kind, Some(code)));
        let kind = kind.parse().ok().or_else(|| document::icmp_number(family, kind)).ok_or_else(invalid)?;
        let code = code.map_or(Ok(0), |code| code.parse().map_err(|_| invalid()))?;
        Ok(Self { protocol, icmp: (kind, code) })
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.port, self.address.family()) {
            (None, _) => write!(f, "{}", self.address),
            (Some(port), Family::V4) => write!(f, "{}:{port}", self.address),
            (Some(port), Family::V6) => write!(f, "[{}]:{port}", self.address),
        }
    }
}

impl FromStr for End {
    type Err = InvalidQuestion;

    fn from_str(text: &str) -> Result<Self, InvalidQuestion> {
        let invalid = || InvalidQuestion::Address(text.to_owned());
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self { address: address.into(), port: None });
        }
        let (address, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (address, rest) = rest.split_once(']').ok_or_else(invalid)?;
                let address = address.parse::<std::net::Ipv6Addr>().map_err(|_| invalid())?;
                (
                    IpAddr::V6(address),
                    if rest.is_empty() { None } else { Some(rest.strip_prefix(':').ok_or_else(invalid)?) },
                )
            }
            None => {
                let (address, port) = text.split_once(':').ok_or_else(invalid)?;
                (IpAddr::V4(address.parse().map_err(|_| invalid())?), Some(port))
            }
        };
        let port = port.map(str::parse).transpose().map_err(|_| invalid())?;
        Ok(Self { address: address.into(), port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_are_read_as_policies_write_them() {
        let rows = [
            ("tcp", 6, (0, 0), "tcp"),
            ("udp", 17, (0, 0), "udp"),
            ("icmp", 1, (8, 0), "icmp/echo-request"),
            ("icmpv6", 58, (128, 0), "icmpv6/echo-request"),
            ("icmp/echo-request", 1, (8, 0), "icmp/echo-request"),
            ("icmp/3/4", 1, (3, 4), "icmp/destination-unreachable/4"),
            ("icmpv6/200", 58, (200, 0), "icmpv6/200"),
            ("gre", 47, (0, 0), "gre"),
            ("47", 47, (0, 0), "gre"),
            ("253", 253, (0, 0), "253"),
        ];
        for (text, protocol, icmp, shown) in rows {
            let what: What = text.parse().unwrap();
            assert_eq!(what, What { protocol: Protocol(protocol), icmp }, "{text}");
            assert_eq!(what.to_string(), shown);
        }
        for text in ["", "tpc", "256", "tcp/443", "icmp/", "icmp/nonsense", "icmp/3/256", "icmp/3/4/5"] {
            assert!(text.parse::<What>().is_err(), "{text}");
        }
    }

    #[test]
    fn ends_are_read_and_written_alike() {
        for text in ["192.0.2.1", "192.0.2.1:443", "2001:db8::1", "[2001:db8::1]:443", "255.255.255.255:67"] {
            assert_eq!(text.parse::<End>().unwrap().to_string(), text);
        }
        let bracketed: End = "[2001:db8::1]".parse().unwrap();
        assert_eq!(bracketed.to_string(), "2001:db8::1");
        for text in
            ["", "eth0", "192.0.2.1:", "192.0.2.1:65536", "[192.0.2.1]:1", "[::1", "[::1]1", "10.0.0.0/8"]
        {
            assert!(text.parse::<End>().is_err(), "{text}");
        }
    }

    #[test]
    fn parts_that_do_not_fit_are_refused() {
        let ask = |what: &str, source: &str, destination: &str| {
            Question::new(
                "eth0".to_owned(),
                Direction::Inbound,
                what.parse().unwrap(),
                source.parse().unwrap(),
                destination.parse().unwrap(),
            )
        };
        assert!(ask("tcp", "192.0.2.1", "192.0.2.2:443").is_ok());
        assert!(ask("gre", "192.0.2.1", "192.0.2.2").is_ok());
        let rows = [
            (ask("tcp", "192.0.2.1", "192.0.2.2"), "tcp goes to a port: write 192.0.2.2:443"),
            (ask("icmp", "192.0.2.1", "192.0.2.2:1"), "icmp/echo-request has no ports"),
            (ask("udp", "192.0.2.1", "[2001:db8::1]:53"), "two families"),
        ];
        for (refused, expected) in rows {
            let error = refused.unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
