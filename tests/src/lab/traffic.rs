//! Real traffic: TCP, UDP and ping from one namespace to another, by the kernel's own sockets.

use std::{
    io::{self, ErrorKind, Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use socket2::{Domain, Protocol, Socket, Type};

use super::{Namespace, SILENCE};

/// Something to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Connect to a TCP port and exchange data both ways.
    Tcp(u16),
    /// Send a datagram to a UDP port and have it answered.
    Udp(u16),
    /// One echo request.
    Ping,
}

/// What became of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The target never saw it (TCP, ping: or its answer was lost).
    Silent,
    /// The target saw the datagram, but its answer was lost.
    Unanswered,
    /// There and back again.
    Answered,
}

impl Probe {
    /// Tries it, from `source` or whatever address the route gives.
    ///
    /// # Errors
    /// A socket fails otherwise than by silence: a refused connection means that a packet arrived.
    pub fn run(
        self,
        from: &Namespace,
        source: Option<IpAddr>,
        to: &Namespace,
        target: IpAddr,
    ) -> Result<Outcome> {
        let what = || format!("{self:?} from {} to {target} in {}", from.name(), to.name());
        match self {
            Self::Tcp(port) => tcp(from, source, to, SocketAddr::new(target, port)),
            Self::Udp(port) => udp(from, source, to, SocketAddr::new(target, port)),
            Self::Ping => ping(from, source, target),
        }
        .with_context(what)
    }
}

fn tcp(from: &Namespace, source: Option<IpAddr>, to: &Namespace, target: SocketAddr) -> Result<Outcome> {
    let Some(mut connection) = Connection::open(from, source, to, target)? else {
        return Ok(Outcome::Silent);
    };
    Ok(if connection.works()? { Outcome::Answered } else { Outcome::Silent })
}

fn udp(from: &Namespace, source: Option<IpAddr>, to: &Namespace, target: SocketAddr) -> Result<Outcome> {
    let server = to.enter(|| bind_udp(target))?;
    let client = from.enter(|| bind_udp(SocketAddr::new(source.unwrap_or(any(target)), 0)))?;
    client.send_to(b"question", target)?;
    let mut buffer = [0; 16];
    let Some((_, sender)) = in_time(server.recv_from(&mut buffer))? else { return Ok(Outcome::Silent) };
    server.send_to(b"answer", sender)?;
    match in_time(client.recv_from(&mut buffer))? {
        Some((6, sender)) if sender == target => Ok(Outcome::Answered),
        Some(other) => bail!("an answer of {} bytes from {}", other.0, other.1),
        None => Ok(Outcome::Unanswered),
    }
}

fn ping(from: &Namespace, source: Option<IpAddr>, target: IpAddr) -> Result<Outcome> {
    let socket = from.enter(|| {
        let (domain, protocol) = match target {
            IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
            IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
        };
        // What ping uses: the kernel sets and matches the identifier and the checksum.
        let socket = Socket::new(domain, Type::DGRAM, Some(protocol)).context("open a ping socket")?;
        if let Some(source) = source {
            socket.bind(&SocketAddr::new(source, 0).into())?;
        }
        socket.connect(&SocketAddr::new(target, 0).into())?;
        socket.set_read_timeout(Some(SILENCE))?;
        Ok(UdpSocket::from(socket))
    })?;
    let (request, reply) = if target.is_ipv6() { (128, 129) } else { (8, 0) };
    // Type, code, checksum and identifier (the kernel's), sequence number, data.
    match socket.send(&[request, 0, 0, 0, 0, 0, 0, 1, b'p', b'i', b'n', b'g']) {
        // TC dropped it on its way out, and the kernel tells ping.
        Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => return Ok(Outcome::Silent),
        sent => drop(sent?),
    }
    let mut buffer = [0; 64];
    match in_time(socket.recv(&mut buffer))? {
        Some(12) if buffer[0] == reply && &buffer[8..12] == b"ping" => Ok(Outcome::Answered),
        Some(length) => bail!("a strange reply to a ping: {:02x?}", &buffer[..length]),
        None => Ok(Outcome::Silent),
    }
}

fn any(like: SocketAddr) -> IpAddr {
    if like.is_ipv6() { IpAddr::from([0; 16]) } else { IpAddr::from([0; 4]) }
}

/// A UDP socket that waits no longer than [`SILENCE`]; made inside the namespace of the caller.
///
/// # Errors
/// The address is taken or not there.
pub fn bind_udp(address: SocketAddr) -> Result<UdpSocket> {
    let socket = UdpSocket::bind(address).with_context(|| format!("bind UDP {address}"))?;
    socket.set_read_timeout(Some(SILENCE))?;
    Ok(socket)
}

/// `None` for a timeout.
fn in_time<T>(result: io::Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Both ends of an open TCP connection.
#[derive(Debug)]
pub struct Connection {
    /// The end that opened it.
    pub client: TcpStream,
    /// The end that accepted it.
    pub server: TcpStream,
    sent: u64,
}

impl Connection {
    /// Listens on `target` in `to` and connects to it from `from`; `None` when nothing answers.
    ///
    /// # Errors
    /// The connection is refused, or a socket cannot be made.
    pub fn open(
        from: &Namespace,
        source: Option<IpAddr>,
        to: &Namespace,
        target: SocketAddr,
    ) -> Result<Option<Self>> {
        let listener = to.enter(|| {
            let listener =
                once_free(|| TcpListener::bind(target)).with_context(|| format!("listen on {target}"))?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        })?;
        let connected = from.enter(|| {
            let socket = Socket::new(Domain::for_address(target), Type::STREAM, None)?;
            if let Some(source) = source {
                socket.bind(&SocketAddr::new(source, 0).into())?;
            }
            Ok(socket.connect_timeout(&target.into(), SILENCE).map(|()| TcpStream::from(socket)))
        })?;
        let Some(client) = in_time(connected).with_context(|| format!("connect to {target}"))? else {
            return Ok(None);
        };
        let until = Instant::now() + SILENCE;
        let server = loop {
            match listener.accept() {
                Ok((server, _)) => break server,
                Err(error) if error.kind() == ErrorKind::WouldBlock && Instant::now() < until => {
                    thread::sleep(Duration::from_millis(1));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error).context("accept"),
            }
        };
        server.set_nonblocking(false)?;
        for end in [&client, &server] {
            end.set_nodelay(true)?;
        }
        Ok(Some(Self { client, server, sent: 0 }))
    }

    /// Whether new data gets through in both directions.
    ///
    /// # Errors
    /// The connection broke: a firewall that drops in silence never does that.
    pub fn works(&mut self) -> Result<bool> {
        Ok(self.to_server()? && self.to_client()?)
    }

    /// Whether new data of the client reaches the server.
    ///
    /// # Errors
    /// As [`Self::works`].
    pub fn to_server(&mut self) -> Result<bool> {
        let token = self.token();
        deliver(&mut self.client, &mut self.server, &token)
    }

    /// Whether new data of the server reaches the client.
    ///
    /// # Errors
    /// As [`Self::works`].
    pub fn to_client(&mut self) -> Result<bool> {
        let token = self.token();
        deliver(&mut self.server, &mut self.client, &token)
    }

    fn token(&mut self) -> String {
        self.sent += 1;
        format!("<{}>", self.sent)
    }
}

/// Takes an address, also where somebody let go of it a moment ago: a program that another thread
/// starts holds all sockets until it has become another program.
///
/// # Errors
/// Those of `take`; that the address is taken, when it stays so.
pub fn once_free<T>(mut take: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let until = Instant::now() + SILENCE;
    loop {
        match take() {
            Err(error)
                if matches!(error.kind(), ErrorKind::AddrInUse | ErrorKind::AddrNotAvailable)
                    && Instant::now() < until =>
            {
                thread::sleep(Duration::from_millis(1));
            }
            done => return done,
        }
    }
}

/// Writes `token` and waits for it behind whatever was still on its way.
fn deliver(from: &mut TcpStream, to: &mut TcpStream, token: &str) -> Result<bool> {
    from.write_all(token.as_bytes()).context("write to the connection")?;
    let until = Instant::now() + SILENCE;
    let mut seen = String::new();
    let mut buffer = [0; 512];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        to.set_read_timeout(Some(left))?;
        match in_time(to.read(&mut buffer)).context("read from the connection")? {
            Some(0) => bail!("the connection was closed"),
            Some(length) => seen.push_str(&String::from_utf8_lossy(&buffer[..length])),
            None => return Ok(false),
        }
        if seen.contains(token) {
            return Ok(true);
        }
    }
}
