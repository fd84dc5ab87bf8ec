//! Sets of addresses of one family as ranges, and as the fewest prefixes.

use sg_common::addr::{Addr, Family, Prefix};

/// Addresses of one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses {
    family: Family,
    /// First and last as numbers, ascending, never touching.
    ranges: Vec<(u128, u128)>,
}

impl Addresses {
    pub(super) fn of(family: Family, ranges: Vec<(u128, u128)>) -> Self {
        Self { family, ranges }
    }

    #[cfg(test)]
    pub(super) const fn family(&self) -> Family {
        self.family
    }

    #[cfg(test)]
    pub(super) fn ranges(&self) -> &[(u128, u128)] {
        &self.ranges
    }

    /// The fewest prefixes that hold these addresses and no others, in address order.
    pub fn prefixes(&self) -> impl Iterator<Item = Prefix> {
        self.ranges.iter().flat_map(|range| Blocks { family: self.family, rest: Some(*range) })
    }
}

/// A range as the largest blocks that begin where they may.
struct Blocks {
    family: Family,
    rest: Option<(u128, u128)>,
}

impl Iterator for Blocks {
    type Item = Prefix;

    fn next(&mut self) -> Option<Prefix> {
        let (first, last) = self.rest?;
        let bits = u32::from(self.family.bits());
        let aligned = first.trailing_zeros().min(bits);
        // The number of addresses that are left; there is none for the whole of IPv6.
        let fits = (last - first).checked_add(1).map_or(bits, u128::ilog2);
        let host = aligned.min(fits);
        let size_less_one = if host == 128 { u128::MAX } else { (1 << host) - 1 };
        let end = first + size_less_one;
        self.rest = (end < last).then(|| (end + 1, last));
        let address = match self.family {
            Family::V4 => Addr::v4(first as u32),
            Family::V6 => Addr::from_bits(first),
        };
        Prefix::new(address, (bits - host) as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_become_the_fewest_prefixes() {
        let v4 = |text: &str| u128::from(text.parse::<std::net::Ipv4Addr>().unwrap().to_bits());
        let v6 = |text: &str| text.parse::<std::net::Ipv6Addr>().unwrap().to_bits();
        let rows = [
            (Family::V4, vec![(0, u128::from(u32::MAX))], "0.0.0.0/0"),
            (Family::V6, vec![(0, u128::MAX)], "::/0"),
            (Family::V4, vec![(v4("10.0.0.1"), v4("10.0.0.1"))], "10.0.0.1/32"),
            (Family::V4, vec![(v4("10.0.0.1"), v4("10.0.0.4"))], "10.0.0.1/32 10.0.0.2/31 10.0.0.4/32"),
            (Family::V4, vec![(0, 0), (v4("128.0.0.0"), v4("255.255.255.255"))], "0.0.0.0/32 128.0.0.0/1"),
            (Family::V4, vec![(v4("255.255.255.254"), v4("255.255.255.255"))], "255.255.255.254/31"),
            (Family::V6, vec![(1, u128::MAX >> 1)], ""),
            (Family::V6, vec![(v6("2001:db8::"), v6("2001:db8::1:ffff"))], "2001:db8::/111"),
            (Family::V4, vec![], ""),
        ];
        for (family, ranges, expected) in rows {
            let texts: Vec<_> = Addresses::of(family, ranges).prefixes().map(|one| one.to_string()).collect();
            match expected {
                "" if !texts.is_empty() => assert_eq!(texts.len(), 127),
                _ => assert_eq!(texts.join(" "), expected),
            }
        }
    }
}
