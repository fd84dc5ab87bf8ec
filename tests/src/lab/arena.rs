//! The smallest lab: one machine with an agent, one wire, and a protected instance at either end of it.
//!
//! Whether the instance is the machine itself (`side: host`) or sits behind the wire (`side: guest`),
//! a test asks the same questions: what reaches the instance, what leaves it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::Result;

use super::{
    Agent, Connection, Namespace, Outcome, Probe,
    wire::{self, End},
};
use crate::{
    counters::Counters,
    packet::{Frame, Mac, Packet, PacketSocket},
};

/// Where the instance is and which hook enforces inbound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setup {
    /// The machine's own NIC, at TC.
    HostTc,
    /// The machine's own NIC, at native XDP.
    HostXdp,
    /// A guest behind the machine's end of the wire.
    Guest,
}

impl Setup {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::HostTc, Self::HostXdp, Self::Guest];
}

/// The family of addresses that a row uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// `icmp` or `icmpv6`, as rules spell it.
    #[must_use]
    pub const fn icmp(self) -> &'static str {
        match self {
            Self::V4 => "icmp",
            Self::V6 => "icmpv6",
        }
    }
}

/// The interface on the machine that carries the group.
pub const INTERFACE: &str = "eth0";
const FAR: &str = "far0";
const MACHINE_MAC: Mac = Mac::local(1);
const FAR_MAC: Mac = Mac::local(2);

/// The lab.
#[derive(Debug)]
pub struct Arena {
    /// The agent. Declared first: it ends before the namespaces go.
    pub agent: Agent,
    /// Where the agent runs.
    pub machine: Namespace,
    /// The other end of the wire.
    pub far: Namespace,
    /// Who is protected, and how.
    pub setup: Setup,
}

impl Arena {
    /// The network and a running agent whose one group, `g`, has these rules (see [`Self::policy`]).
    ///
    /// # Errors
    /// The network cannot be made, or the agent does not become ready.
    pub fn start(setup: Setup, rules: &str) -> Result<Self> {
        let mut arena = Self::without_agent(setup)?;
        let policy = arena.policy(rules);
        arena.agent.start_with(&policy)?;
        Ok(arena)
    }

    /// The network alone. Neighbours are permanent, so that only what a test sends is counted.
    ///
    /// # Errors
    /// The network cannot be made.
    pub fn without_agent(setup: Setup) -> Result<Self> {
        let arena = Self::wired(setup, Namespace::machine("machine")?, Namespace::new("far")?)?;
        for family in Family::ALL {
            wire::neighbour(&arena.machine, INTERFACE, arena.far_address(family), FAR_MAC)?;
            wire::neighbour(&arena.far, FAR, arena.machine_address(family), MACHINE_MAC)?;
        }
        Ok(arena)
    }

    /// The network alone, where neighbours have to find each other by ARP and NDP.
    ///
    /// # Errors
    /// The network cannot be made.
    pub fn without_neighbours(setup: Setup) -> Result<Self> {
        let machine = Namespace::machine("machine")?;
        let far = Namespace::new("far")?;
        machine.link_local()?;
        far.link_local()?;
        Self::wired(setup, machine, far)
    }

    fn wired(setup: Setup, machine: Namespace, far: Namespace) -> Result<Self> {
        wire::join(
            &End {
                namespace: &machine,
                interface: INTERFACE,
                mac: MACHINE_MAC,
                addresses: &["10.88.0.1/24", "fd88::1/64"],
            },
            &End {
                namespace: &far,
                interface: FAR,
                mac: FAR_MAC,
                addresses: &["10.88.0.2/24", "fd88::2/64"],
            },
        )?;
        Ok(Self { agent: Agent::new(&machine)?, machine, far, setup })
    }

    /// The interface entry of this setup for `groups`, with more `keys` in flow style (`, mode: audit`).
    #[must_use]
    pub fn entry(&self, groups: &str, keys: &str) -> String {
        let side = match self.setup {
            Setup::HostTc => "side: host, hook: tc",
            Setup::HostXdp => "side: host, hook: xdp",
            Setup::Guest => "side: guest, addresses: [10.88.0.2, \"fd88::2\"]",
        };
        format!("{{match: {INTERFACE}, groups: [{groups}], {side}{keys}}}")
    }

    /// A policy whose one group `g` holds `rules`, the lines below `g:` in flow style
    /// (`inbound: [{allow: https, from: [PEER]}], outbound: []`). `PEER` and `INSTANCE` stand for
    /// both addresses of either.
    #[must_use]
    pub fn policy(&self, rules: &str) -> String {
        self.policy_with(rules, "")
    }

    /// As [`Self::policy`], with more keys for the interface's entry.
    #[must_use]
    pub fn policy_with(&self, rules: &str, keys: &str) -> String {
        let entry = self.entry("g", keys);
        let both = |of: fn(&Self, Family) -> IpAddr| {
            format!("{}, \"{}\"", of(self, Family::V4), of(self, Family::V6))
        };
        let rules = rules
            .replace("PEER", &both(Self::peer_address))
            .replace("INSTANCE", &both(Self::instance_address));
        format!("version: 1\ngroups:\n  g: {{{rules}}}\ninterfaces:\n  - {entry}\n")
    }

    /// Applies other rules for the group.
    ///
    /// # Errors
    /// `apply` fails.
    pub fn apply(&self, rules: &str) -> Result<()> {
        self.agent.apply(&self.policy(rules)).map(drop)
    }

    /// The machine's address.
    #[must_use]
    pub fn machine_address(&self, family: Family) -> IpAddr {
        match family {
            Family::V4 => Ipv4Addr::new(10, 88, 0, 1).into(),
            Family::V6 => Ipv6Addr::new(0xfd88, 0, 0, 0, 0, 0, 0, 1).into(),
        }
    }

    /// The address at the far end.
    #[must_use]
    pub fn far_address(&self, family: Family) -> IpAddr {
        match family {
            Family::V4 => Ipv4Addr::new(10, 88, 0, 2).into(),
            Family::V6 => Ipv6Addr::new(0xfd88, 0, 0, 0, 0, 0, 0, 2).into(),
        }
    }

    /// Where the protected instance is.
    #[must_use]
    pub fn instance(&self) -> &Namespace {
        if self.setup == Setup::Guest { &self.far } else { &self.machine }
    }

    /// Where its peer is.
    #[must_use]
    pub fn peer(&self) -> &Namespace {
        if self.setup == Setup::Guest { &self.machine } else { &self.far }
    }

    /// The protected instance's address.
    #[must_use]
    pub fn instance_address(&self, family: Family) -> IpAddr {
        if self.setup == Setup::Guest { self.far_address(family) } else { self.machine_address(family) }
    }

    /// Its peer's address.
    #[must_use]
    pub fn peer_address(&self, family: Family) -> IpAddr {
        if self.setup == Setup::Guest { self.machine_address(family) } else { self.far_address(family) }
    }

    /// Tries something towards the instance.
    ///
    /// # Errors
    /// A socket fails otherwise than by silence.
    pub fn inbound(&self, probe: Probe, family: Family) -> Result<Outcome> {
        probe.run(self.peer(), None, self.instance(), self.instance_address(family))
    }

    /// Tries something from the instance.
    ///
    /// # Errors
    /// A socket fails otherwise than by silence.
    pub fn outbound(&self, probe: Probe, family: Family) -> Result<Outcome> {
        probe.run(self.instance(), None, self.peer(), self.peer_address(family))
    }

    /// A connection to the instance.
    ///
    /// # Errors
    /// It is refused.
    pub fn connect_in(&self, family: Family, port: u16) -> Result<Option<Connection>> {
        let target = SocketAddr::new(self.instance_address(family), port);
        Connection::open(self.peer(), None, self.instance(), target)
    }

    /// A connection from the instance.
    ///
    /// # Errors
    /// It is refused.
    pub fn connect_out(&self, family: Family, port: u16) -> Result<Option<Connection>> {
        let target = SocketAddr::new(self.peer_address(family), port);
        Connection::open(self.instance(), None, self.peer(), target)
    }

    /// A packet in a frame that the peer sends to the instance.
    #[must_use]
    pub fn frame_in(&self, packet: &Packet) -> Frame {
        match self.setup {
            Setup::Guest => packet.frame(MACHINE_MAC, FAR_MAC),
            Setup::HostTc | Setup::HostXdp => packet.frame(FAR_MAC, MACHINE_MAC),
        }
    }

    /// A packet in a frame that the instance sends to its peer.
    #[must_use]
    pub fn frame_out(&self, packet: &Packet) -> Frame {
        match self.setup {
            Setup::Guest => packet.frame(FAR_MAC, MACHINE_MAC),
            Setup::HostTc | Setup::HostXdp => packet.frame(MACHINE_MAC, FAR_MAC),
        }
    }

    /// A raw socket on the wire, at the machine's end.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn machine_socket(&self) -> Result<PacketSocket> {
        PacketSocket::open(&self.machine, INTERFACE)
    }

    /// A raw socket on the wire, at the far end.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn far_socket(&self) -> Result<PacketSocket> {
        PacketSocket::open(&self.far, FAR)
    }

    /// A raw socket at the peer's end: what it sends is inbound to the instance.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn peer_socket(&self) -> Result<PacketSocket> {
        if self.setup == Setup::Guest { self.machine_socket() } else { self.far_socket() }
    }

    /// A raw socket at the instance's end: what it sends is outbound.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn instance_socket(&self) -> Result<PacketSocket> {
        if self.setup == Setup::Guest { self.far_socket() } else { self.machine_socket() }
    }

    /// Another wire: `interface` on the machine with these addresses, `far1` in a new namespace.
    ///
    /// # Errors
    /// `ip` refuses.
    pub fn another_wire(&self, interface: &str, near: &[&str], far: &[&str]) -> Result<Namespace> {
        let namespace = Namespace::new(interface)?;
        wire::join(
            &End { namespace: &self.machine, interface, mac: Mac::local(3), addresses: near },
            &End { namespace: &namespace, interface: "far1", mac: Mac::local(4), addresses: far },
        )?;
        Ok(namespace)
    }

    /// The product's counters now.
    ///
    /// # Errors
    /// `counters -o json` fails or has another shape.
    pub fn counters(&self) -> Result<Counters> {
        Counters::read(&self.agent)
    }

    /// Runs `act` and compares every counter of the product with what moved: all that moved is named
    /// in `expected`, as (direction, what, packets), where `what` is `allowed` or a drop reason.
    ///
    /// # Errors
    /// `act` fails, or a counter differs.
    pub fn counted<T>(&self, expected: &[(&str, &str, u64)], act: impl FnOnce() -> Result<T>) -> Result<T> {
        let before = self.counters()?;
        let done = act()?;
        let moved = self.counters()?.since(&before)?;
        let expected = expected
            .iter()
            .map(|(direction, what, packets)| {
                ((INTERFACE.to_owned(), (*direction).to_owned(), (*what).to_owned()), *packets)
            })
            .collect();
        moved.expect(&expected)?;
        Ok(done)
    }
}
