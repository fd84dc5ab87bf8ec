//! Veth pairs between namespaces: names, MAC addresses, addresses, neighbours.

use std::net::IpAddr;

use anyhow::Result;

use super::{Namespace, namespace};
use crate::packet::Mac;

/// One end of a wire.
#[derive(Clone, Debug)]
pub struct End<'a> {
    /// Where it is.
    pub namespace: &'a Namespace,
    /// The interface's name there.
    pub interface: &'a str,
    /// Its MAC address, fixed so that frames can be written by hand.
    pub mac: Mac,
    /// Its addresses with their prefix lengths.
    pub addresses: &'a [&'a str],
}

/// Joins two namespaces by a veth pair, both ends up with their addresses.
///
/// # Errors
/// `ip` refuses: the name is taken, for instance.
pub fn join(left: &End<'_>, right: &End<'_>) -> Result<()> {
    left.namespace.ip(&[&format!(
        "link add {} address {} type veth peer name {} address {} netns {}",
        left.interface,
        left.mac,
        right.interface,
        right.mac,
        right.namespace.path(),
    )])?;
    for end in [left, right] {
        let mut lines = vec![format!("link set {} up", end.interface)];
        lines.extend(end.addresses.iter().map(|address| {
            let nodad = if address.contains(':') { " nodad" } else { "" };
            format!("address add {address} dev {}{nodad}", end.interface)
        }));
        end.namespace.ip(&lines.iter().map(String::as_str).collect::<Vec<_>>())?;
    }
    namespace::wait_for_carrier(left.namespace, left.interface)
}

/// Enters a permanent neighbour, so that no ARP or NDP packet is sent for it.
///
/// # Errors
/// `ip` refuses.
pub fn neighbour(namespace: &Namespace, interface: &str, address: IpAddr, mac: Mac) -> Result<()> {
    namespace
        .ip(&[&format!("neighbour replace {address} lladdr {mac} dev {interface} nud permanent")])
        .map(drop)
}
