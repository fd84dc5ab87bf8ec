//! Interfaces and their addresses, and being told when they change.
//!
//! Sockets that use them are the business of `sockets`.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
};

use rtnetlink::{
    packet_route::{
        RouteNetlinkMessage,
        address::AddressMessage,
        link::{LinkAttribute, LinkExtentMask, LinkHeader, LinkMessage},
    },
    sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE},
};
use sg_common::addr::{Addr, Prefix};
use tokio::io::unix::AsyncFd;

use super::{
    KernelError,
    netlink::{Answer, Netlink, attributes, string_of, u32_of},
    syscall,
};

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
    /// The program on the XDP hook, by its id.
    pub(crate) xdp_program: Option<u32>,
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
        Self::list().map_err(|error| KernelError::system("list", "interfaces", error))
    }

    fn list() -> io::Result<Vec<Interface>> {
        let mut netlink = Netlink::open()?;
        let mut links = LinkMessage::default();
        // Statistics are most of what the kernel would tell, and gather.
        links.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
        let links = RouteNetlinkMessage::GetLink(links);
        let mut interfaces = netlink.list(&links, read_link)?;
        interfaces.sort_by_key(|interface| interface.ifindex);
        let addresses = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        for (ifindex, address) in netlink.list(&addresses, read_address)? {
            if let Ok(at) = interfaces.binary_search_by_key(&ifindex, |interface| interface.ifindex) {
                interfaces[at].addresses.push(Prefix::host(address));
            }
        }
        for interface in &mut interfaces {
            interface.addresses.sort_unstable();
            interface.addresses.dedup();
        }
        Ok(interfaces)
    }

    /// The interface with this index, without its addresses.
    pub(crate) fn get(ifindex: u32) -> io::Result<Option<Interface>> {
        let header = LinkHeader { index: ifindex, ..LinkHeader::default() };
        let mut message = LinkMessage::default();
        message.header = header;
        match Netlink::open()?.get(RouteNetlinkMessage::GetLink(message), read_link) {
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            result => result,
        }
    }
}

const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;

/// Reads an `ifinfomsg` and its attributes.
fn read_link(answer: &Answer<'_>) -> Option<Interface> {
    const HEADER: usize = 16;
    const IFF_UP: u32 = 1;
    const IFLA_ADDRESS: u16 = 1;
    const IFLA_IFNAME: u16 = 3;
    const IFLA_LINKINFO: u16 = 18;
    const IFLA_XDP: u16 = 43;
    const IFLA_INFO_KIND: u16 = 1;
    const IFLA_XDP_PROG_ID: u16 = 4;
    const IFLA_XDP_DRV_PROG_ID: u16 = 5;
    if answer.kind != RTM_NEWLINK {
        return None;
    }
    let arphrd = answer.u16(2);
    let (bare_ip, is_supported) = carries(arphrd);
    let mut interface = Interface {
        ifindex: answer.u32(4),
        name: String::new(),
        kind: None,
        arphrd,
        bare_ip,
        is_supported,
        xdp_program: None,
        mac: Vec::new(),
        is_up: answer.u32(8) & IFF_UP != 0,
        addresses: Vec::new(),
    };
    for (kind, value) in answer.attributes(HEADER) {
        match kind {
            IFLA_ADDRESS => interface.mac = value.to_vec(),
            IFLA_IFNAME => interface.name = string_of(value),
            IFLA_LINKINFO => interface.kind = nested(value, IFLA_INFO_KIND).map(string_of),
            IFLA_XDP => {
                // Beside a program in the hardware there is no one program, but one in the driver.
                let found = |kind| nested(value, kind).and_then(u32_of).filter(|id| *id != 0);
                interface.xdp_program = found(IFLA_XDP_PROG_ID).or_else(|| found(IFLA_XDP_DRV_PROG_ID));
            }
            _ => {}
        }
    }
    Some(interface)
}

fn nested(octets: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(octets).into_iter().find_map(|(kind, value)| (kind == wanted).then_some(value))
}

/// Whether an interface of this `ARPHRD_*` carries bare IP, and whether its frames can be read.
///
/// Tunnels that put a header of their own where a hook sees it are not among them.
const fn carries(arphrd: u16) -> (bool, bool) {
    const ETHER: u16 = 1;
    const RAWIP: u16 = 519;
    const TUNNEL: u16 = 768;
    const TUNNEL6: u16 = 769;
    const LOOPBACK: u16 = 772;
    const SIT: u16 = 776;
    const NONE: u16 = 0xfffe;
    match arphrd {
        ETHER | LOOPBACK => (false, true),
        RAWIP | TUNNEL | TUNNEL6 | SIT | NONE => (true, true),
        _ => (false, false),
    }
}

/// Reads an `ifaddrmsg`: the index of an interface and an address of its own.
fn read_address(answer: &Answer<'_>) -> Option<(u32, Addr)> {
    const HEADER: usize = 8;
    const IFA_ADDRESS: u16 = 1;
    const IFA_LOCAL: u16 = 2;
    if answer.kind != RTM_NEWADDR {
        return None;
    }
    let attributes = answer.attributes(HEADER);
    // On a link with a peer, the address is the peer's and the local one is its own.
    let value = [IFA_LOCAL, IFA_ADDRESS]
        .into_iter()
        .find_map(|wanted| attributes.iter().find_map(|(kind, value)| (*kind == wanted).then_some(*value)))?;
    let address = match i32::from(answer.u8(0)) {
        libc::AF_INET => Addr::v4(u32::from_be_bytes(value.try_into().ok()?)),
        libc::AF_INET6 => {
            let bits = u128::from_be_bytes(value.try_into().ok()?);
            Addr::v6((bits >> 64) as u64, bits as u64)
        }
        _ => return None,
    };
    Some((answer.u32(4), address))
}

/// Tells that an interface or address has come, gone or changed: take a new snapshot.
pub struct Watcher {
    socket: Socket,
    readiness: AsyncFd<OwnedFd>,
}

impl Watcher {
    /// Begins to watch. Needs a tokio runtime with IO.
    ///
    /// # Errors
    ///
    /// When netlink cannot be asked.
    pub fn open() -> Result<Self, KernelError> {
        Self::subscribe().map_err(|error| KernelError::system("watch", "interfaces", error))
    }

    fn subscribe() -> io::Result<Self> {
        /// Interfaces, IPv4 addresses, IPv6 addresses.
        const GROUPS: [u32; 3] = [1, 5, 9];
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.set_non_blocking(true)?;
        socket.bind(&SocketAddr::new(0, 0))?;
        for group in GROUPS {
            socket.add_membership(group)?;
        }
        Ok(Self { readiness: syscall::readiness(socket.as_fd())?, socket })
    }

    /// Waits for a change. Several at once are told once; lost messages are told as a change.
    /// Dropping the future loses nothing.
    ///
    /// # Errors
    ///
    /// When netlink fails; a new watcher and snapshot are needed then.
    pub async fn changed(&mut self) -> Result<(), KernelError> {
        let failed = |error| KernelError::system("watch", "interfaces", error);
        loop {
            let mut guard = self.readiness.readable().await.map_err(failed)?;
            guard.clear_ready();
            if drain(&self.socket).map_err(failed)? {
                return Ok(());
            }
        }
    }
}

/// Reads what there is. Tells whether there was anything, losses included.
fn drain(socket: &Socket) -> io::Result<bool> {
    let mut has_changed = false;
    let mut octets = Vec::with_capacity(1 << 15);
    loop {
        octets.clear();
        match socket.recv(&mut octets, 0) {
            Ok(_) => has_changed = true,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(has_changed),
            // The socket's buffer overran.
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => has_changed = true,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
