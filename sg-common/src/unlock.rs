//! Ports that the operator has opened past the policy, each to one address and for a time: how they
//! are kept, and which packets pass by them.
//!
//! Whoever unlocks writes here and into [`Control::unlocked_until`](crate::abi::Control), with the agent
//! alive or dead; the programs look only on the way to a drop, and compare with their own clock. Which
//! drops may be overruled is [`DropReason::is_overruled_by_unlock`](crate::verdict::DropReason)'s
//! business. Nothing here opens a flow: each packet of either direction is asked for by itself.

use crate::{
    addr::Addr,
    branchless::below_u64,
    flow::identity::Way,
    shared::Word,
    tuple::{Direction, Protocol},
    wire::{Packet, Transport, tcp_flag},
};

/// How many ports can be unlocked at a time.
pub const UNLOCKS: usize = 8;

/// Everything that is unlocked.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Unlocks {
    /// The places, of which any may be empty.
    pub places: [Place; UNLOCKS],
}

/// One place for an unlocked port.
///
/// A place is free when its time is over. Whoever takes one writes all else first, waits until no
/// program can still be reading what was there, and then writes the time.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Place {
    /// Until when, in jiffies; 0: empty.
    pub until: Word,
    /// The other side's address, high half first.
    pub remote: [Word; 2],
    /// `zone << 32 | protocol << 16 | port`.
    pub what: Word,
    /// The bits of `what` that count.
    pub mask: Word,
}

const _: () = assert!(size_of::<Unlocks>() == UNLOCKS * 40, "a place is made of words alone");

/// The bits of [`Place::what`] for every zone.
const EVERY_ZONE: u64 = 0xffff_ffff;

/// [`Place::what`] of a zone, a protocol and a port.
#[inline(always)]
const fn what(zone: u32, protocol: u8, port: u16) -> u64 {
    (zone as u64) << 32 | (protocol as u64) << 16 | port as u64
}

/// What one place says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unlock {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The instance's port.
    pub port: u16,
    /// The other side's address.
    pub remote: Addr,
    /// The zone; `None`: every one.
    pub zone: Option<u32>,
}

impl Place {
    /// What lies here, however late it is, and until when.
    #[must_use]
    pub fn read(&self) -> Option<(Unlock, u64)> {
        let until = self.until.load();
        let [high, low] = &self.remote;
        let bits = self.what.load();
        let unlock = Unlock {
            protocol: Protocol((bits >> 16) as u8),
            port: bits as u16,
            remote: Addr::v6(high.load(), low.load()),
            zone: (self.mask.load() != EVERY_ZONE).then_some((bits >> 32) as u32),
        };
        (until != 0).then_some((unlock, until))
    }

    /// Writes everything but the time, which is up to then.
    pub fn prepare(&self, unlock: &Unlock) {
        let Unlock { protocol, port, remote, zone } = *unlock;
        self.until.store(0);
        self.remote[0].store(remote.hi());
        self.remote[1].store(remote.lo());
        self.what.store(what(zone.unwrap_or(0), protocol.0, port));
        self.mask.store(if zone.is_some() { u64::MAX } else { EVERY_ZONE });
    }
}

/// Whether a packet passes by what is unlocked at `jiffies`: of a zone, inbound to the port from the
/// address, or outbound from the port to it.
///
/// The packet has been read, and is IP. Flags that no TCP endpoint sends are refused here once more,
/// because without a policy nobody has looked at them yet.
#[inline(always)]
pub fn opens(unlocks: &Unlocks, packet: &Packet, way: Way, jiffies: u64) -> bool {
    let Transport { protocol, source_port, destination_port, .. } = packet.transport;
    let (remote, port) = match way.direction {
        Direction::Inbound => (packet.source, destination_port),
        Direction::Outbound => (packet.destination, source_port),
    };
    let asked = what(way.zone, protocol, port);
    let mut found = 0;
    for place in &unlocks.places {
        let differs = (place.remote[0].load() ^ remote.hi())
            | (place.remote[1].load() ^ remote.lo())
            | ((place.what.load() ^ asked) & place.mask.load());
        found |= below_u64(differs, 1) & below_u64(jiffies, place.until.load());
    }
    let has_flags = Protocol(protocol) == Protocol::TCP && packet.fragment_offset == 0;
    found != 0 && (!has_flags || tcp_flag::are_sane(packet.tcp_flags))
}

#[cfg(test)]
mod tests;
