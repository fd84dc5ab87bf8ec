//! Flows: their keys, their states, and how long they live.
//!
//! What a packet does to a flow is a pure function here ([`FlowState::advance`]); where flows are
//! kept, and how several CPUs share them, is [`table`]'s business.

use crate::{
    addr::Addr,
    tuple::{Direction, Protocol},
};

mod count;
pub mod datagram;
mod entry;
pub mod follow;
pub mod identity;
pub mod open;
pub mod state;
pub mod table;
pub mod track;

/// The version of everything in this module that outlives a packet: of what the maps of flows and of
/// datagrams hold, of the keys and their hash, and of the tick that they are timed by. Whatever changes
/// there changes this number, and the ABI version with it. One that changes otherwise goes on with the
/// flows of the former.
pub const FLOW_LAYOUT: u64 = 2;

pub use count::Count;
pub use datagram::Datagram;
pub use entry::{Bucket, Entry, Life, Origin, SLOTS, Tail};
pub use state::{FlowState, Signal, Timeout};

/// Identifies a flow, the same for both directions.
///
/// Five words: remote high and low, local high and low, and
/// `zone << 40 | protocol << 32 | local port << 16 | remote port`. The zone comes along, so two
/// interfaces never see each other's flows.
///
/// ICMP queries have their id as local port, and as remote port their type and the direction in which
/// they went: both sides may ping each other with one id, and a ping admits no other type. Protocols without ports have zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowKey(pub [u64; 5]);

impl FlowKey {
    /// The key of a TCP or UDP flow, or with zero ports of another protocol.
    #[inline(always)]
    #[must_use]
    pub const fn new(
        zone: u32,
        protocol: Protocol,
        local: Addr,
        local_port: u16,
        remote: Addr,
        remote_port: u16,
    ) -> Self {
        let last =
            (zone as u64) << 40 | (protocol.0 as u64) << 32 | (local_port as u64) << 16 | remote_port as u64;
        Self([remote.hi(), remote.lo(), local.hi(), local.lo(), last])
    }

    /// The key of an ICMP query flow whose queries, of type `kind`, go in direction `query`.
    #[inline(always)]
    #[must_use]
    pub const fn icmp(
        zone: u32,
        protocol: Protocol,
        local: Addr,
        remote: Addr,
        id: u16,
        kind: u8,
        query: Direction,
    ) -> Self {
        Self::new(zone, protocol, local, id, remote, (kind as u16) << 8 | query as u16)
    }

    /// The zone.
    #[must_use]
    pub const fn zone(self) -> u32 {
        (self.0[4] >> 40) as u32
    }

    /// The IP protocol.
    #[must_use]
    pub const fn protocol(self) -> Protocol {
        Protocol((self.0[4] >> 32) as u8)
    }

    /// The instance's address.
    #[inline(always)]
    #[must_use]
    pub const fn local(self) -> Addr {
        Addr::v6(self.0[2], self.0[3])
    }

    /// The other side's address.
    #[inline(always)]
    #[must_use]
    pub const fn remote(self) -> Addr {
        Addr::v6(self.0[0], self.0[1])
    }

    /// The instance's port, or the id of an ICMP query.
    #[must_use]
    pub const fn local_port(self) -> u16 {
        (self.0[4] >> 16) as u16
    }

    /// The other side's port, or the type and direction of an ICMP query.
    #[must_use]
    pub const fn remote_port(self) -> u16 {
        self.0[4] as u16
    }

    /// What stands for this key in an entry and chooses its place.
    #[inline(always)]
    #[must_use]
    pub const fn short(self, keys: &[u64; 6]) -> ShortKey {
        let (local, remote) = (self.local(), self.remote());
        let Self([a, b, c, d, ports]) = self;
        if local.is_v4() && remote.is_v4() {
            let addresses = (local.v4_bits() as u64) << 32 | remote.v4_bits() as u64;
            return ShortKey { ports, addresses, family: 0, sum: addresses.wrapping_mul(keys[0]) };
        }
        let sum = mixed(a, keys[0])
            .wrapping_add(mixed(b, keys[1]))
            .wrapping_add(mixed(c, keys[2]))
            .wrapping_add(mixed(d, keys[3]));
        ShortKey { ports, addresses: sum, family: Life::IPV6, sum }
    }

    /// [`ShortKey::hash`].
    #[inline(always)]
    #[must_use]
    pub const fn hash(self, keys: &[u64; 6]) -> u64 {
        self.short(keys).hash(keys)
    }

    /// The words that are addresses: remote high and low, local high and low.
    #[inline(always)]
    #[must_use]
    pub const fn addresses(self) -> [u64; 4] {
        let Self([a, b, c, d, _]) = self;
        [a, b, c, d]
    }

    /// The key of the flow that lies in an entry and what goes with it.
    #[must_use]
    pub fn of(entry: &Entry, tail: &Tail) -> Self {
        let ports = entry.ports.load();
        if Life(entry.life.load()).family() == Life::IPV6 {
            let [a, b, c, d] = &tail.addresses;
            return Self([a.load(), b.load(), c.load(), d.load(), ports]);
        }
        let addresses = entry.addresses.load();
        let (local, remote) = (Addr::v4((addresses >> 32) as u32), Addr::v4(addresses as u32));
        Self([remote.hi(), remote.lo(), local.hi(), local.lo(), ports])
    }
}

/// The product of a word's halves, each added to the key's. Sums of such products are those of NH (Black, Halevi,
/// Krawczyk, Krovetz, Rogaway, "UMAC", 1999): two lists of words, whichever they are, have the same one under one
/// in 2^32 keys at most. Of products of whole words the high bits of a word would reach the high bits alone, and
/// those of two words could be chosen to cancel each other out under every key.
#[inline(always)]
const fn mixed(word: u64, key: u64) -> u64 {
    let high = ((word >> 32) as u32).wrapping_add((key >> 32) as u32);
    let low = (word as u32).wrapping_add(key as u32);
    (high as u64).wrapping_mul(low as u64)
}

/// A key as an entry has it: of an IPv4 flow all of it; of an IPv6 flow a mixture of the addresses, so
/// that the tail is read only where it agrees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShortKey {
    /// The last word of the key.
    pub ports: u64,
    /// Local and remote address of IPv4, or the mixture.
    pub addresses: u64,
    /// [`Life::IPV6`], or 0.
    pub family: u64,
    sum: u64,
}

impl ShortKey {
    /// A keyed hash: a sum of products, mixed downwards.
    ///
    /// Without the keys nobody can aim flows at one bucket.
    #[inline(always)]
    #[must_use]
    pub const fn hash(self, keys: &[u64; 6]) -> u64 {
        let mut hash = keys[5].wrapping_add(self.sum).wrapping_add(self.ports.wrapping_mul(keys[4]));
        hash ^= hash >> 32;
        hash = hash.wrapping_mul(0xd6e8_feb8_6659_fd93);
        hash ^ hash >> 32
    }
}

#[cfg(test)]
pub(crate) mod tests;
