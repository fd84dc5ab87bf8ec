//! The open sockets of this network namespace, to be entered as flows before enforcement starts.

use std::{collections::HashSet, fs, io};

use sg_common::{
    addr::{Addr, Family},
    flow::FlowState,
    tuple::{Direction, Protocol},
};

use super::{
    KernelError,
    netlink::{Answer, Netlink},
};

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
    let mut table = Table::default();
    // The files of TCP are the slow way: for each line the kernel looks through a table that has room for
    // hundreds of thousands.
    match diagnosed() {
        Ok(listed) => listed.into_iter().for_each(|line| table.enter(Protocol::TCP, line)),
        Err(_) => {
            table.read(Protocol::TCP, "tcp", true)?;
            table.read(Protocol::TCP, "tcp6", false)?;
        }
    }
    table.read(Protocol::UDP, "udp", true)?;
    table.read(Protocol::UDP, "udp6", false)?;
    Ok(table.finish())
}

/// A socket as the kernel lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Line {
    local: (Addr, u16),
    remote: (Addr, u16),
    state: u8,
}

/// The sockets of TCP, as `ss` asks for them.
///
/// See `linux/inet_diag.h` for the layouts.
fn diagnosed() -> io::Result<Vec<Line>> {
    const SOCK_DIAG_BY_FAMILY: u16 = 20;
    const REQUEST: usize = 56;
    let mut netlink = Netlink::to_sockets()?;
    let mut found = Vec::new();
    for family in Family::ALL {
        let number = match family {
            Family::V4 => libc::AF_INET,
            Family::V6 => libc::AF_INET6,
        };
        let mut request = [0; REQUEST];
        request[..2].copy_from_slice(&[number as u8, Protocol::TCP.0]);
        request[4..8].copy_from_slice(&state::ASKED.to_ne_bytes());
        found.extend(netlink.list_by(SOCK_DIAG_BY_FAMILY, &request, |answer| line(family, answer))?);
    }
    Ok(found)
}

/// A line of the kernel's answer.
fn line(family: Family, answer: &Answer<'_>) -> Option<Line> {
    let port = |at: usize| Some(u16::from_be_bytes(answer.payload.get(at..at + 2)?.try_into().ok()?));
    let address = |at: usize| match family {
        Family::V4 => Some(Addr::v4(u32::from_be_bytes(answer.payload.get(at..at + 4)?.try_into().ok()?))),
        // IPv4 over an IPv6 socket is `::ffff:0:0/96`, which is where `Addr` keeps it too.
        Family::V6 => {
            Some(Addr::from_bits(u128::from_be_bytes(answer.payload.get(at..at + 16)?.try_into().ok()?)))
        }
    };
    Some(Line { local: (address(8)?, port(4)?), remote: (address(24)?, port(6)?), state: answer.u8(1) })
}

/// States of a socket, as `/proc/net` numbers them.
mod state {
    pub(super) const ESTABLISHED: u8 = 1;
    pub(super) const FIN_WAIT1: u8 = 4;
    pub(super) const FIN_WAIT2: u8 = 5;
    pub(super) const CLOSE: u8 = 7;
    pub(super) const CLOSE_WAIT: u8 = 8;
    pub(super) const LISTEN: u8 = 10;
    /// Those that say something of TCP, as bits.
    pub(super) const ASKED: u32 =
        1 << ESTABLISHED | 1 << FIN_WAIT1 | 1 << FIN_WAIT2 | 1 << CLOSE_WAIT | 1 << LISTEN;
}

/// Connected sockets with their state, and the ports that are listened on.
#[derive(Default)]
struct Table {
    found: Vec<(u8, Socket)>,
    listening: HashSet<(Protocol, u16)>,
}

impl Table {
    /// Reads a file of `/proc/net`.
    fn read(&mut self, protocol: Protocol, name: &str, is_required: bool) -> Result<(), KernelError> {
        let path = format!("/proc/thread-self/net/{name}");
        match fs::read_to_string(&path) {
            Ok(text) => text.lines().skip(1).filter_map(written).for_each(|line| self.enter(protocol, line)),
            // A kernel without IPv6 has no such file.
            Err(_) if !is_required => {}
            Err(error) => return Err(KernelError::system("read", path, error)),
        }
        Ok(())
    }

    fn enter(&mut self, protocol: Protocol, line: Line) {
        let Line { local: (local, local_port), remote: (remote, remote_port), state } = line;
        match (protocol, state) {
            (Protocol::TCP, state::LISTEN) | (Protocol::UDP, state::CLOSE) => {
                self.listening.insert((protocol, local_port));
            }
            (_, state::ESTABLISHED)
            | (Protocol::TCP, state::FIN_WAIT1 | state::FIN_WAIT2 | state::CLOSE_WAIT) => {
                let (opener, flow) = (Direction::Outbound, FlowState::Established);
                let socket = Socket { protocol, local, local_port, remote, remote_port, state: flow, opener };
                self.found.push((state, socket));
            }
            // Handshakes begin anew when they are cut, and the others are over.
            _ => {}
        }
    }

    fn finish(self) -> Vec<Socket> {
        let Self { found, listening } = self;
        found.into_iter().map(|(state, socket)| finish(state, socket, &listening)).collect()
    }
}

/// A line of `/proc/net`.
fn written(line: &str) -> Option<Line> {
    let mut words = line.split_whitespace().skip(1);
    Some(Line {
        local: endpoint(words.next()?)?,
        remote: endpoint(words.next()?)?,
        state: u8::from_str_radix(words.next()?, 16).ok()?,
    })
}

/// Settles who opened a socket, and what its flow is doing.
fn finish(state: u8, socket: Socket, listening: &HashSet<(Protocol, u16)>) -> Socket {
    let opener = if listening.contains(&(socket.protocol, socket.local_port)) {
        Direction::Inbound
    } else {
        Direction::Outbound
    };
    let by = |closer: Direction| if closer == opener { FlowState::FinOpener } else { FlowState::FinReplier };
    let state = match (socket.protocol, state) {
        (Protocol::UDP, _) => FlowState::UdpStream,
        (_, state::FIN_WAIT1 | state::FIN_WAIT2) => by(Direction::Outbound),
        (_, state::CLOSE_WAIT) => by(Direction::Inbound),
        _ => FlowState::Established,
    };
    Socket { state, opener, ..socket }
}

/// `0100007F:0016`, or 32 digits for IPv6: network order, printed as host-order words.
fn endpoint(text: &str) -> Option<(Addr, u16)> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let words = address.len() / 8;
    let mut bits = 0_u128;
    for index in 0..words {
        let word = u32::from_str_radix(address.get(index * 8..index * 8 + 8)?, 16).ok()?;
        bits = bits << 32 | u128::from(u32::from_be_bytes(word.to_ne_bytes()));
    }
    match words {
        1 => Some((Addr::v4(bits as u32), port)),
        // IPv4 over an IPv6 socket is `::ffff:0:0/96`, which is where `Addr` keeps it too.
        4 => Some((Addr::from_bits(bits), port)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};

    use super::*;

    fn addr(text: &str) -> Addr {
        text.parse::<std::net::IpAddr>().unwrap().into()
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn tables_are_read() {
        for (text, expected) in [
            ("0100007F:0016", Some(("127.0.0.1", 22))),
            ("B80D0120000000000000000001000000:01BB", Some(("2001:db8::1", 443))),
            ("0000000000000000FFFF00000101A8C0:1F90", Some(("192.168.1.1", 8080))),
            ("0100007F", None),
            ("01007F:0016", None),
            ("01000zzF:0016", None),
        ] {
            let expected = expected.map(|(address, port)| (addr(address), port));
            assert_eq!(endpoint(text), expected, "{text}");
        }
    }

    #[test]
    fn open_sockets_are_listed_from_both_ends() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = listener.local_addr().unwrap();
        let client = TcpStream::connect(server).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        udp.connect(server).unwrap();
        let of = |protocol, port| {
            let all = sockets().unwrap();
            all.into_iter().find(|socket| socket.protocol == protocol && socket.local_port == port)
        };
        let client_port = client.local_addr().unwrap().port();
        let opened = of(Protocol::TCP, client_port).unwrap();
        assert_eq!((opened.state, opened.opener), (FlowState::Established, Direction::Outbound));
        assert_eq!((opened.remote, opened.remote_port), (addr("127.0.0.1"), server.port()));
        assert_eq!(of(Protocol::TCP, server.port()).unwrap().opener, Direction::Inbound);
        assert_eq!(of(Protocol::UDP, udp.local_addr().unwrap().port()).unwrap().state, FlowState::UdpStream);
        client.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(of(Protocol::TCP, client_port).unwrap().state, FlowState::FinOpener);
        drop(accepted);
    }

    #[test]
    fn both_lists_of_tcp_say_the_same() {
        let mut open = Vec::new();
        for address in ["127.0.0.1:0", "[::1]:0"] {
            // Without IPv6 one of them.
            let Ok(listener) = TcpListener::bind(address) else { continue };
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            open.push((client, listener.accept().unwrap().0, listener));
        }
        // An IPv6 socket that talks IPv4.
        if let Ok(listener) = TcpListener::bind("[::]:0") {
            let client = TcpStream::connect(("127.0.0.1", listener.local_addr().unwrap().port())).unwrap();
            open.push((client, listener.accept().unwrap().0, listener));
        }
        let ports: HashSet<u16> = open
            .iter()
            .flat_map(|(client, server, _)| [client, server].map(|end| end.local_addr().unwrap().port()))
            .collect();
        let mut slow = Table::default();
        slow.read(Protocol::TCP, "tcp", true).unwrap();
        slow.read(Protocol::TCP, "tcp6", false).unwrap();
        let mut quick = Table::default();
        diagnosed().unwrap().into_iter().for_each(|line| quick.enter(Protocol::TCP, line));
        let of = |table: Table| {
            let own = table.finish().into_iter().filter(|socket| ports.contains(&socket.local_port));
            let mut own: Vec<String> = own.map(|socket| format!("{socket:?}")).collect();
            own.sort();
            own
        };
        let (slow, quick) = (of(slow), of(quick));
        assert_eq!(slow.len(), 2 * open.len(), "{slow:#?}");
        assert_eq!(slow, quick);
    }
}
