//! The operator's own connection, which a policy must not cut by accident.

use std::net::{IpAddr, SocketAddr};

use sg_common::{
    addr::Addr,
    image,
    tuple::{Direction, Protocol, Selector, Table},
};

use super::plan::Placement;
use crate::{
    failure::{Exit, Failure},
    image::Image,
    kernel::{Socket, links::Interface},
};

/// A TCP connection into this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Where the operator sits.
    pub client: SocketAddr,
    /// What the operator is connected to.
    pub server: SocketAddr,
}

impl Connection {
    /// Reads what `sshd` puts into `SSH_CONNECTION`: both addresses, each with its port.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let mut next = || -> Option<SocketAddr> {
            // A link-local address carries its interface.
            let address = words.next()?.split('%').next()?.parse::<IpAddr>().ok()?;
            Some(SocketAddr::new(address.to_canonical(), words.next()?.parse().ok()?))
        };
        Some(Self { client: next()?, server: next()? })
    }

    /// The same as text, to be [read](Self::read) again.
    #[must_use]
    pub fn written(&self) -> String {
        let Self { client, server } = self;
        format!("{} {} {} {}", client.ip(), client.port(), server.ip(), server.port())
    }

    /// Whether a socket of this host is its end.
    #[must_use]
    pub fn is(&self, socket: &Socket) -> bool {
        let [local, remote] = [self.server, self.client].map(|end| (Addr::from(end.ip()), end.port()));
        socket.protocol == Protocol::TCP
            && (socket.local, socket.local_port) == local
            && (socket.remote, socket.remote_port) == remote
    }

    /// Refuses a policy under which the connection could not be made again.
    ///
    /// What comes to an address of an interface that is not covered, or in audit, is not dropped. An address
    /// that no interface carries which frames come in by is reached by any other: then all that are covered
    /// have to let the connection in.
    ///
    /// # Errors
    ///
    /// No rule opens it on an interface that carries the address of this host.
    pub fn check(
        &self,
        image: &Image,
        placement: &Placement,
        interfaces: &[Interface],
    ) -> Result<(), Failure> {
        let server = Addr::from(self.server.ip());
        let selector = Selector { table: Table::Tcp, value: self.server.port() };
        let is_carried = interfaces
            .iter()
            .filter(|interface| receives(interface))
            .any(|interface| interface.addresses.iter().any(|address| address.contains(server)));
        let enforced = placement.zones.iter().filter(|zone| is_enforced(zone));
        for found in enforced.filter(|zone| !is_carried || carries(zone, server)) {
            let opened = image::zone(image.nodes(), found.zone).and_then(|zone| {
                image::rule(image.nodes(), zone, Direction::Inbound, self.client.ip().into(), selector)
            });
            if !opened.is_ok_and(|rule| rule.rule().is_some()) {
                let why = format!(
                    "your own connection from {} to {} would be cut: no inbound rule of {} opens tcp/{} to {} on {}",
                    self.client,
                    self.server,
                    found.groups.join(", "),
                    self.server.port(),
                    self.client.ip(),
                    found.name
                );
                return Err(Failure::new(Exit::Failed, "apply the policy; nothing was changed", why)
                    .with_remedy("add a rule, `apply` it with --confirm-within 60s, or insist with --yes"));
            }
        }
        Ok(())
    }
}

/// Whether frames come in by an interface.
fn receives(interface: &Interface) -> bool {
    const ARPHRD_LOOPBACK: u16 = 772;
    interface.arphrd != ARPHRD_LOOPBACK && interface.kind.as_deref() != Some("dummy")
}

fn is_enforced(zone: &crate::state::ZoneRecord) -> bool {
    !zone.is_retired && zone.side == "host" && zone.mode == "enforce" && zone.audit_groups.is_empty()
}

fn carries(zone: &crate::state::ZoneRecord, address: Addr) -> bool {
    let prefixes = zone.addresses.iter().filter_map(|text| text.parse::<sg_common::addr::Prefix>().ok());
    prefixes.into_iter().any(|prefix| prefix.contains(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_in_by_all_but_the_loopback_and_dummies() {
        let of = |arphrd, kind: Option<&str>| Interface {
            ifindex: 7,
            name: "x0".to_owned(),
            kind: kind.map(str::to_owned),
            arphrd,
            bare_ip: false,
            is_supported: true,
            xdp_program: None,
            mac: vec![],
            is_up: true,
            addresses: vec![],
        };
        let rows = [
            (1, None, true),
            (1, Some("veth"), true),
            (65534, Some("wireguard"), true),
            (1, Some("dummy"), false),
            (772, None, false),
        ];
        for (arphrd, kind, expected) in rows {
            assert_eq!(receives(&of(arphrd, kind)), expected, "{arphrd} {kind:?}");
        }
    }

    #[test]
    fn the_variable_of_sshd_is_read() {
        let read =
            |text: &str| Connection::read(text).map(|of| (of.client.to_string(), of.server.to_string()));
        let pair = |client: &str, server: &str| Some((client.to_owned(), server.to_owned()));
        assert_eq!(read("192.0.2.1 50000 10.0.1.5 22"), pair("192.0.2.1:50000", "10.0.1.5:22"));
        assert_eq!(read("::ffff:192.0.2.1 50000 ::ffff:10.0.1.5 22"), pair("192.0.2.1:50000", "10.0.1.5:22"));
        assert_eq!(read("fe80::1%eth0 50000 fe80::2%eth0 22"), pair("[fe80::1]:50000", "[fe80::2]:22"));
        let own = Connection::read("fe80::1%eth0 50000 fe80::2%eth0 22").unwrap();
        assert_eq!(Connection::read(&own.written()), Some(own));
        for text in ["", "192.0.2.1", "192.0.2.1 50000 10.0.1.5", "a 1 b 2", "192.0.2.1 99999 10.0.1.5 22"] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
