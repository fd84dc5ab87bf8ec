//! Interfaces, their addresses, and the sockets that use them; and being told when they change.

use sg_common::{
    addr::{Addr, Prefix},
    flow::FlowState,
    tuple::{Direction, Protocol},
};

use super::KernelError;

/// An interface of this network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// The kernel's index.
    pub ifindex: u32,
    /// The name.
    pub name: String,
    /// The kind that the kernel tells, as `veth` or `wireguard`; `None` for physical ones.
    pub kind: Option<String>,
    /// `ARPHRD_*`: what the interface carries.
    pub arphrd: u16,
    /// Carries bare IP, without an Ethernet header.
    pub bare_ip: bool,
    /// Whether its frames can be read: Ethernet or bare IP.
    pub is_supported: bool,
    /// Link-layer address.
    pub mac: Vec<u8>,
    /// Whether it is up.
    pub is_up: bool,
    /// Its own addresses as host prefixes, link-local ones included, sorted.
    pub addresses: Vec<Prefix>,
}

/// What the kernel knows about interfaces.
pub struct Interfaces;

impl Interfaces {
    /// Every interface with its addresses, by index.
    ///
    /// # Errors
    ///
    /// When netlink cannot be asked.
    pub fn snapshot() -> Result<Vec<Interface>, KernelError> {
        Err(super::unwritten())
    }
}

/// Tells that an interface or address has come, gone or changed: take a new snapshot.
pub struct Watcher {}

impl Watcher {
    /// Begins to watch. Needs a tokio runtime with IO.
    ///
    /// # Errors
    ///
    /// When netlink cannot be asked.
    pub fn open() -> Result<Self, KernelError> {
        Err(super::unwritten())
    }

    /// Waits for a change. Several at once are told once; lost messages are told as a change.
    /// Dropping the future loses nothing.
    ///
    /// # Errors
    ///
    /// When netlink fails; a new watcher and snapshot are needed then.
    pub async fn changed(&mut self) -> Result<(), KernelError> {
        Err(super::unwritten())
    }
}

/// A connected socket of this network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Socket {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Its own address.
    pub local: Addr,
    /// Its own port.
    pub local_port: u16,
    /// The other side's address.
    pub remote: Addr,
    /// The other side's port.
    pub remote_port: u16,
    /// The state that its flow is in.
    pub state: FlowState,
    /// Who opened it, told from this host: inbound where a socket listens on its port.
    pub opener: Direction,
}

/// Every connected TCP and UDP socket of this network namespace.
///
/// # Errors
///
/// When they cannot be listed.
pub fn sockets() -> Result<Vec<Socket>, KernelError> {
    Err(super::unwritten())
}
