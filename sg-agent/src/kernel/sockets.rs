//! The open sockets of this network namespace, to be entered as flows before enforcement starts.

use std::{collections::HashSet, fs};

use sg_common::{
    addr::Addr,
    flow::FlowState,
    tuple::{Direction, Protocol},
};

use super::KernelError;

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
    let mut found = Vec::new();
    let mut listening = HashSet::new();
    for (protocol, name, is_required) in [
        (Protocol::TCP, "tcp", true),
        (Protocol::TCP, "tcp6", false),
        (Protocol::UDP, "udp", true),
        (Protocol::UDP, "udp6", false),
    ] {
        let path = format!("/proc/thread-self/net/{name}");
        match fs::read_to_string(&path) {
            Ok(text) => read(protocol, &text, &mut found, &mut listening),
            // A kernel without IPv6 has no such file.
            Err(_) if !is_required => {}
            Err(error) => return Err(KernelError::system("read", path, error)),
        }
    }
    Ok(found.into_iter().map(|(state, socket)| finish(state, socket, &listening)).collect())
}

/// States of a socket, as `/proc/net` numbers them.
mod state {
    pub(super) const ESTABLISHED: u8 = 1;
    pub(super) const FIN_WAIT1: u8 = 4;
    pub(super) const FIN_WAIT2: u8 = 5;
    pub(super) const CLOSE: u8 = 7;
    pub(super) const CLOSE_WAIT: u8 = 8;
    pub(super) const LISTEN: u8 = 10;
}

/// Reads a table: connected sockets with their state, and the ports that are listened on.
fn read(
    protocol: Protocol,
    text: &str,
    found: &mut Vec<(u8, Socket)>,
    listening: &mut HashSet<(Protocol, u16)>,
) {
    for line in text.lines().skip(1) {
        let mut words = line.split_whitespace().skip(1);
        let (Some(local), Some(remote), Some(state)) = (words.next(), words.next(), words.next()) else {
            continue;
        };
        let (Some((local, local_port)), Some((remote, remote_port)), Ok(state)) =
            (endpoint(local), endpoint(remote), u8::from_str_radix(state, 16))
        else {
            continue;
        };
        match (protocol, state) {
            (Protocol::TCP, state::LISTEN) | (Protocol::UDP, state::CLOSE) => {
                listening.insert((protocol, local_port));
            }
            (_, state::ESTABLISHED)
            | (Protocol::TCP, state::FIN_WAIT1 | state::FIN_WAIT2 | state::CLOSE_WAIT) => {
                let (opener, flow) = (Direction::Outbound, FlowState::Established);
                let socket = Socket { protocol, local, local_port, remote, remote_port, state: flow, opener };
                found.push((state, socket));
            }
            // Handshakes begin anew when they are cut, and the others are over.
            _ => {}
        }
    }
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
}
