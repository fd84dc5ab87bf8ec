//! Addresses and prefixes in one form for IPv4 and IPv6.
//!
//! The byte-order rule, stated once: an address is a *number*. Its sixteen network-order octets
//! are read big-endian into two `u64` halves, so that comparing numbers compares addresses and a
//! prefix is a contiguous range. IPv4 lives in `::ffff:0:0/96`, which never appears as an IPv6
//! address: the parser drops such packets as martian and the document reader refuses them.

use core::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// Where IPv4 lives in the low half of an [`Addr`].
const V4_MAPPED: u64 = 0x0000_ffff_0000_0000;

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Family {
    /// IPv4.
    V4 = 0,
    /// IPv6.
    V6 = 1,
}

impl Family {
    /// Both families, IPv4 first.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// Number of bits in an address: 32 or 128.
    #[must_use]
    pub const fn bits(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// An IPv4 or IPv6 address as a 128-bit number in two host-order halves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct Addr {
    hi: u64,
    lo: u64,
}

impl Addr {
    /// The IPv6 unspecified address, `::`.
    pub const UNSPECIFIED_V6: Self = Self { hi: 0, lo: 0 };

    /// An IPv4 address from its 32-bit number (`192.0.2.1` is `0xc000_0201`).
    #[inline(always)]
    #[must_use]
    pub const fn v4(bits: u32) -> Self {
        Self { hi: 0, lo: V4_MAPPED | bits as u64 }
    }

    /// An IPv6 address from the numbers of its high and low eight octets.
    #[inline(always)]
    #[must_use]
    pub const fn v6(hi: u64, lo: u64) -> Self {
        Self { hi, lo }
    }

    /// The high eight octets as a number; 0 for IPv4.
    #[inline(always)]
    #[must_use]
    pub const fn hi(self) -> u64 {
        self.hi
    }

    /// The low eight octets as a number.
    #[inline(always)]
    #[must_use]
    pub const fn lo(self) -> u64 {
        self.lo
    }

    /// The low 32 bits: the whole of an IPv4 address.
    #[inline(always)]
    #[must_use]
    pub const fn v4_bits(self) -> u32 {
        (self.lo & 0xffff_ffff) as u32
    }

    /// Whether it is one that a host gives itself for a link: `fe80::/10`.
    #[inline(always)]
    #[must_use]
    pub const fn is_link_local(self) -> bool {
        self.hi >> 54 == 0xfe80 >> 6
    }

    /// Whether the address lies in `::ffff:0:0/96`, that is, whether it is IPv4.
    #[inline(always)]
    #[must_use]
    pub const fn is_v4(self) -> bool {
        self.hi == 0 && self.lo >> 32 == V4_MAPPED >> 32
    }

    /// The family of the address.
    #[inline(always)]
    #[must_use]
    pub const fn family(self) -> Family {
        if self.is_v4() { Family::V4 } else { Family::V6 }
    }

    /// The address as one 128-bit number.
    #[must_use]
    pub const fn to_bits(self) -> u128 {
        (self.hi as u128) << 64 | self.lo as u128
    }

    /// The address of a 128-bit number.
    #[must_use]
    pub const fn from_bits(bits: u128) -> Self {
        Self { hi: (bits >> 64) as u64, lo: bits as u64 }
    }
}

impl From<Ipv4Addr> for Addr {
    fn from(address: Ipv4Addr) -> Self {
        Self::v4(address.to_bits())
    }
}

impl From<Ipv6Addr> for Addr {
    fn from(address: Ipv6Addr) -> Self {
        Self::from_bits(address.to_bits())
    }
}

impl From<IpAddr> for Addr {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => address.into(),
            IpAddr::V6(address) => address.into(),
        }
    }
}

impl From<Addr> for IpAddr {
    fn from(address: Addr) -> Self {
        match address.family() {
            Family::V4 => Self::V4(Ipv4Addr::from_bits(address.v4_bits())),
            Family::V6 => Self::V6(Ipv6Addr::from_bits(address.to_bits())),
        }
    }
}

impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        IpAddr::from(*self).fmt(f)
    }
}

/// A CIDR prefix: a network address and a length in bits of its family.
///
/// Invariant: bits past the length are zero, and the length is at most [`Family::bits`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    network: Addr,
    length: u8,
}

/// Why a text is not a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidPrefix {
    /// The part before the slash is not an address.
    Address,
    /// The part after the slash is not a number from 0 to the given maximum.
    Length {
        /// 32 for IPv4, 128 for IPv6.
        maximum: u8,
    },
    /// The address is IPv4 written as IPv6 (`::ffff:192.0.2.1`).
    Mapped,
}

impl fmt::Display for InvalidPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address => f.write_str("not an IPv4 or IPv6 address"),
            Self::Length { maximum } => write!(f, "the prefix length is not a number from 0 to {maximum}"),
            Self::Mapped => f.write_str("an IPv4-mapped IPv6 address; write it as IPv4"),
        }
    }
}

impl core::error::Error for InvalidPrefix {}

impl Prefix {
    /// `0.0.0.0/0`.
    pub const ANY_V4: Self = Self { network: Addr::v4(0), length: 0 };
    /// `::/0`.
    pub const ANY_V6: Self = Self { network: Addr::UNSPECIFIED_V6, length: 0 };

    /// The network of `length` bits that holds `address`; host bits are cleared.
    ///
    /// Returns `None` when `length` exceeds the family's bits.
    #[must_use]
    pub fn new(address: Addr, length: u8) -> Option<Self> {
        let family = address.family();
        if length > family.bits() {
            return None;
        }
        let host = family.bits() - length;
        let mask = if host == 128 { 0 } else { u128::MAX << host };
        Some(Self { network: Addr::from_bits(address.to_bits() & mask | mapped_bits(family)), length })
    }

    /// The prefix that holds one address only.
    #[must_use]
    pub const fn host(address: Addr) -> Self {
        Self { network: address, length: address.family().bits() }
    }

    /// The whole of a family: `0.0.0.0/0` or `::/0`.
    #[must_use]
    pub const fn any(family: Family) -> Self {
        match family {
            Family::V4 => Self::ANY_V4,
            Family::V6 => Self::ANY_V6,
        }
    }

    /// The network address: the lowest address of the prefix.
    #[must_use]
    pub const fn first(self) -> Addr {
        self.network
    }

    /// The highest address of the prefix.
    #[must_use]
    pub fn last(self) -> Addr {
        let host = self.family().bits() - self.length;
        let ones = if host == 128 { u128::MAX } else { (1 << host) - 1 };
        Addr::from_bits(self.network.to_bits() | ones)
    }

    /// The length in bits of its family.
    #[must_use]
    pub const fn length(self) -> u8 {
        self.length
    }

    /// The family of the prefix.
    #[must_use]
    pub fn family(self) -> Family {
        // `::/0` has the network address `::`, which is not in the mapped range, so the network
        // address always tells.
        self.network.family()
    }

    /// Whether this is the whole of its family.
    #[must_use]
    pub const fn is_any(self) -> bool {
        self.length == 0
    }

    /// Whether `address` lies in the prefix. `0.0.0.0/0` never covers IPv6, nor `::/0` IPv4.
    #[must_use]
    pub fn contains(self, address: Addr) -> bool {
        self.family() == address.family() && self.first() <= address && address <= self.last()
    }

    /// Whether every address of `other` lies in this prefix.
    #[must_use]
    pub fn covers(self, other: Self) -> bool {
        self.contains(other.first()) && self.contains(other.last())
    }

    /// Reads `ADDRESS` or `ADDRESS/LENGTH`. The flag tells whether host bits were cleared.
    ///
    /// # Errors
    ///
    /// [`InvalidPrefix`], when the text is neither.
    pub fn parse(text: &str) -> Result<(Self, bool), InvalidPrefix> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| InvalidPrefix::Address)?;
        let is_v6 = address.is_ipv6();
        let address = Addr::from(address);
        if is_v6 && address.is_v4() {
            return Err(InvalidPrefix::Mapped);
        }
        let maximum = address.family().bits();
        let Some(length) = length else { return Ok((Self::host(address), false)) };
        // `u8::from_str` takes a sign and leading zeros; a prefix length has neither.
        let plain = !length.is_empty()
            && length.len() <= 3
            && length.bytes().all(|byte| byte.is_ascii_digit())
            && (length == "0" || !length.starts_with('0'));
        let length = length
            .parse()
            .ok()
            .filter(|length| plain && *length <= maximum)
            .ok_or(InvalidPrefix::Length { maximum })?;
        let prefix = Self::new(address, length).ok_or(InvalidPrefix::Length { maximum })?;
        Ok((prefix, prefix.first() != address))
    }
}

/// The bits that mark an IPv4 number in 128, which a mask shorter than 96 would clear.
const fn mapped_bits(family: Family) -> u128 {
    match family {
        Family::V4 => V4_MAPPED as u128,
        Family::V6 => 0,
    }
}

impl FromStr for Prefix {
    type Err = InvalidPrefix;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text).map(|(prefix, _)| prefix)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.length)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::string::ToString as _;

    use super::*;

    #[test]
    fn octets_become_numbers_high_half_first() {
        let v4: IpAddr = "192.0.2.1".parse().unwrap();
        assert_eq!(Addr::from(v4), Addr::v4(0xc000_0201));
        let v6: IpAddr = "2001:db8::1".parse().unwrap();
        assert_eq!(Addr::from(v6), Addr::v6(0x2001_0db8_0000_0000, 1));
        for address in [v4, v6] {
            assert_eq!(IpAddr::from(Addr::from(address)), address);
        }
    }

    #[test]
    fn prefixes_hold_their_range_and_nothing_else() {
        // (prefix, inside, outside)
        for (prefix, inside, outside) in [
            ("10.0.0.0/8", "10.255.255.255", "11.0.0.0"),
            ("0.0.0.0/0", "255.255.255.255", "::1"),
            ("::/0", "2001:db8::1", "10.0.0.1"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::"),
            ("192.0.2.1", "192.0.2.1", "192.0.2.2"),
            ("::1/128", "::1", "::2"),
            ("128.0.0.0/1", "128.0.0.1", "127.255.255.255"),
        ] {
            let parsed: Prefix = prefix.parse().unwrap();
            let address = |text: &str| Addr::from(text.parse::<IpAddr>().unwrap());
            assert!(parsed.contains(address(inside)), "{inside} is in {prefix}");
            assert!(!parsed.contains(address(outside)), "{outside} is not in {prefix}");
        }
    }

    #[test]
    fn host_bits_are_cleared_and_told() {
        let (prefix, cleared) = Prefix::parse("100.68.0.18/18").unwrap();
        assert_eq!((prefix.to_string().as_str(), cleared), ("100.68.0.0/18", true));
        assert!(!Prefix::parse("100.68.0.0/18").unwrap().1);
    }

    #[test]
    fn what_is_not_a_prefix_is_refused() {
        for (text, error) in [
            ("", InvalidPrefix::Address),
            ("10.0.0", InvalidPrefix::Address),
            ("10.0.0.0/33", InvalidPrefix::Length { maximum: 32 }),
            ("10.0.0.0/", InvalidPrefix::Length { maximum: 32 }),
            ("10.0.0.0/+8", InvalidPrefix::Length { maximum: 32 }),
            ("10.0.0.0/08", InvalidPrefix::Length { maximum: 32 }),
            ("::/129", InvalidPrefix::Length { maximum: 128 }),
            ("::ffff:10.0.0.1", InvalidPrefix::Mapped),
            ("::ffff:0:0/96", InvalidPrefix::Mapped),
        ] {
            assert_eq!(Prefix::parse(text), Err(error), "{text}");
        }
    }
}
