//! Conversations by hand: every packet of both sides is written by the test, and no kernel answers.
//!
//! The other side is an address that is nobody's, and neither end has a way to it. So a flow
//! sees the packets that a test sends, at the moments at which it sends them, and nothing else.

use std::net::IpAddr;

use anyhow::{Context as _, Result};

use super::{Arena, arena::Family, eventually};
use crate::packet::{Packet, PacketSocket, Transport};

/// What rules call both of the other side's networks.
pub const NOBODY: &str = "198.51.100.0/24, \"2001:db8:51::/48\"";

/// The two raw sockets of a conversation.
#[derive(Debug)]
pub struct Hand<'a> {
    arena: &'a Arena,
    there: PacketSocket,
    here: PacketSocket,
}

impl<'a> Hand<'a> {
    /// Takes the ways there and opens the sockets.
    ///
    /// # Errors
    /// `ip` refuses, or a socket cannot be opened.
    pub fn take(arena: &'a Arena) -> Result<Self> {
        let lines = ["route replace blackhole 198.51.100.0/24", "route replace blackhole 2001:db8:51::/48"];
        for end in [arena.instance(), arena.peer()] {
            end.ip(&lines)?;
        }
        Ok(Self { arena, there: arena.peer_socket()?, here: arena.instance_socket()? })
    }

    /// The other side's address.
    #[must_use]
    pub fn nobody(family: Family) -> IpAddr {
        match family {
            Family::V4 => [198, 51, 100, 7].into(),
            Family::V6 => [0x2001, 0xdb8, 0x51, 0, 0, 0, 0, 7].into(),
        }
    }

    /// The other side sends this to the instance.
    ///
    /// # Errors
    /// The kernel refuses the frame.
    pub fn inbound(&self, family: Family, transport: impl Into<Transport>) -> Result<()> {
        let (nobody, instance) = (Self::nobody(family), self.arena.instance_address(family));
        self.there.send(&self.arena.frame_in(&Packet::new(nobody, instance, transport)).bytes())
    }

    /// The instance sends this to the other side.
    ///
    /// # Errors
    /// The kernel refuses the frame.
    pub fn outbound(&self, family: Family, transport: impl Into<Transport>) -> Result<()> {
        let (nobody, instance) = (Self::nobody(family), self.arena.instance_address(family));
        self.here.send(&self.arena.frame_out(&Packet::new(instance, nobody, transport)).bytes())
    }

    /// Sends these, `true` from outside, and waits until each is counted: a busy kernel hands packets on
    /// later, and those of the two sides then pass each other.
    ///
    /// # Errors
    /// The kernel refuses a frame, or one is not counted.
    pub fn delivered(&self, packets: impl IntoIterator<Item = (bool, Family, Transport)>) -> Result<()> {
        let before = self.arena.counters()?;
        let mut sent = 0;
        for (from_outside, family, transport) in packets {
            match from_outside {
                true => self.inbound(family, transport)?,
                false => self.outbound(family, transport)?,
            }
            sent += 1;
        }
        let counted =
            || Ok(self.arena.counters()?.since(&before)?.packets().into_values().sum::<u64>() == sent);
        eventually("packets are counted", counted)
    }

    /// Sends in the direction named, `inbound` or `outbound`, in both families, and compares every
    /// counter: each packet is counted as `expected`, `allowed` or a drop reason.
    ///
    /// # Errors
    /// A counter differs.
    pub fn judged<T: Into<Transport>>(
        &self,
        what: &str,
        direction: &str,
        expected: &str,
        transport: impl Fn(Family) -> T,
    ) -> Result<()> {
        let send = || {
            Family::ALL.into_iter().try_for_each(|family| match direction {
                "inbound" => self.inbound(family, transport(family)),
                _ => self.outbound(family, transport(family)),
            })
        };
        self.arena
            .counted(&[(direction, expected, 2)], send)
            .with_context(|| format!("{what}: {direction}, expected {expected}"))
    }
}
