//! The lab of `examples/three-tier.yaml`: a client and an attacker outside, a host with its NIC, and a
//! web and a database guest behind it.
//!
//! ```text
//! client   10.77.0.10 ─┐
//!                      ├─ switch ── uplink 10.77.0.1 [host] veth-web 10.77.1.1 ── web 10.77.1.10
//! attacker 10.77.0.66 ─┘                                    veth-db  10.77.2.1 ── db  10.77.2.10
//! ```
//! IPv6 likewise: `fd77::10`, `fd77:1::10` and so on.

use std::{net::IpAddr, path::Path};

use anyhow::{Context as _, Result};

use super::{
    Agent, Namespace,
    arena::Family,
    wire::{self, End},
};
use crate::packet::Mac;

/// The lab.
#[derive(Debug)]
pub struct ThreeTier {
    /// The agent on the host. Declared first: it ends before the namespaces go.
    pub agent: Agent,
    /// Where the agent runs; forwards between the segments.
    pub host: Namespace,
    /// An honest client outside.
    pub client: Namespace,
    /// Someone else outside.
    pub attacker: Namespace,
    /// The web guest.
    pub web: Namespace,
    /// The database guest.
    pub db: Namespace,
    _switch: Namespace,
}

impl ThreeTier {
    /// The network; the agent is not started.
    ///
    /// # Errors
    /// The network cannot be made.
    pub fn new() -> Result<Self> {
        let host = Namespace::machine("host")?;
        let [switch, client, attacker, web, db] =
            ["switch", "client", "attacker", "web", "db"].map(Namespace::new);
        let (switch, client, attacker, web, db) = (switch?, client?, attacker?, web?, db?);
        for namespace in [&host, &client, &attacker, &web, &db] {
            namespace.link_local()?;
        }
        host.forward()?;
        switch.ip(&["link add bridge type bridge mcast_snooping 0", "link set bridge up"])?;
        let plugs = [
            (&client, "eth0", Mac::local(0x10), &["10.77.0.10/24", "fd77::10/64"]),
            (&attacker, "eth0", Mac::local(0x66), &["10.77.0.66/24", "fd77::66/64"]),
            (&host, "uplink", Mac::local(0x01), &["10.77.0.1/24", "fd77::1/64"]),
        ];
        for (number, (namespace, interface, mac, addresses)) in (1..).zip(plugs) {
            let port = format!("port{number}");
            let mac_of_port = Mac::local(0x80 + number);
            wire::join(
                &End { namespace, interface, mac, addresses },
                &End { namespace: &switch, interface: &port, mac: mac_of_port, addresses: &[] },
            )?;
            switch.ip(&[&format!("link set {port} master bridge")])?;
        }
        let guests = [
            (&web, "veth-web", 0x20, ["10.77.1.1/24", "fd77:1::1/64"], ["10.77.1.10/24", "fd77:1::10/64"]),
            (&db, "veth-db", 0x30, ["10.77.2.1/24", "fd77:2::1/64"], ["10.77.2.10/24", "fd77:2::10/64"]),
        ];
        for (guest, interface, mac, near, far) in guests {
            wire::join(
                &End { namespace: &host, interface, mac: Mac::local(mac), addresses: &near },
                &End { namespace: guest, interface: "eth0", mac: Mac::local(mac + 1), addresses: &far },
            )?;
        }
        let routers = [
            (&client, ["10.77.0.1", "fd77::1"]),
            (&attacker, ["10.77.0.1", "fd77::1"]),
            (&web, ["10.77.1.1", "fd77:1::1"]),
            (&db, ["10.77.2.1", "fd77:2::1"]),
        ];
        for (namespace, [v4, v6]) in routers {
            namespace
                .ip(&[&format!("route add default via {v4}"), &format!("route add default via {v6}")])?;
        }
        Ok(Self { agent: Agent::new(&host)?, host, client, attacker, web, db, _switch: switch })
    }

    /// The policy that the lab is made for, as shipped.
    ///
    /// # Errors
    /// It is not there.
    pub fn policy() -> Result<String> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/three-tier.yaml");
        std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
    }

    /// The web guest's address.
    #[must_use]
    pub fn web_address(family: Family) -> IpAddr {
        match family {
            Family::V4 => [10, 77, 1, 10].into(),
            Family::V6 => [0xfd77, 1, 0, 0, 0, 0, 0, 0x10].into(),
        }
    }

    /// The database guest's address.
    #[must_use]
    pub fn db_address(family: Family) -> IpAddr {
        match family {
            Family::V4 => [10, 77, 2, 10].into(),
            Family::V6 => [0xfd77, 2, 0, 0, 0, 0, 0, 0x10].into(),
        }
    }
}
