//! What identifies a packet to a rule: direction, protocol, addresses, ports.

use core::fmt;

use crate::addr::Addr;

/// Which way a packet goes, told from the protected instance's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Direction {
    /// Towards the instance.
    Inbound = 0,
    /// From the instance.
    Outbound = 1,
}

impl Direction {
    /// Both directions, inbound first.
    pub const ALL: [Self; 2] = [Self::Inbound, Self::Outbound];

    /// The other direction.
    #[inline(always)]
    #[must_use]
    pub const fn reverse(self) -> Self {
        match self {
            Self::Inbound => Self::Outbound,
            Self::Outbound => Self::Inbound,
        }
    }

    /// The stable lower-case name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An IP protocol number. Every number is a value; the named ones are those that the decision knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Protocol(pub u8);

impl Protocol {
    /// ICMP for IPv4, number 1.
    pub const ICMP: Self = Self(1);
    /// TCP, number 6.
    pub const TCP: Self = Self(6);
    /// UDP, number 17.
    pub const UDP: Self = Self(17);
    /// ICMP for IPv6, number 58.
    pub const ICMPV6: Self = Self(58);
}

/// Which of a class's four selector tables answers for a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Table {
    /// TCP; the value is the destination port.
    Tcp = 0,
    /// UDP; the value is the destination port.
    Udp = 1,
    /// The family's own ICMP; the value is `type << 8 | code`.
    Icmp = 2,
    /// Every other protocol; the value is the protocol number.
    Other = 3,
}

impl Table {
    /// All tables in their numeric order.
    pub const ALL: [Self; 4] = [Self::Tcp, Self::Udp, Self::Icmp, Self::Other];
}

/// What a rule matches besides the address: a table and a 16-bit value in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Selector {
    /// The table that answers.
    pub table: Table,
    /// Destination port, `type << 8 | code`, or protocol number.
    pub value: u16,
}

impl Selector {
    /// Bits 0–15: the value; 16–17: the table.
    #[inline(always)]
    #[must_use]
    pub const fn to_bits(self) -> u32 {
        (self.table as u32) << 16 | self.value as u32
    }

    /// The selector of such bits; higher ones are ignored.
    #[inline(always)]
    #[must_use]
    pub const fn from_bits(bits: u32) -> Self {
        let table = match bits >> 16 & 3 {
            0 => Table::Tcp,
            1 => Table::Udp,
            2 => Table::Icmp,
            _ => Table::Other,
        };
        Self { table, value: bits as u16 }
    }
}

/// A packet as a rule sees it, told from the instance's side: `local` is the protected instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tuple {
    /// The instance's address.
    pub local: Addr,
    /// The other side's address.
    pub remote: Addr,
    /// The IP protocol.
    pub protocol: Protocol,
    /// What rules match.
    pub selector: Selector,
}
