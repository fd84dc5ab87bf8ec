//! Real services on many ports at once: the kernel's TCP listeners and answering UDP sockets.
//!
//! A test of one port at a time uses [`super::traffic`].

use std::{
    io::ErrorKind,
    net::{Ipv6Addr, TcpListener, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result};

use super::Namespace;

/// How long a UDP service sleeps before it looks whether it shall end.
const NAP: Duration = Duration::from_millis(50);

/// Open ports of a namespace, in both families, until it is dropped. TCP connections are taken by the
/// kernel and never read; every datagram is answered.
#[derive(Debug)]
pub struct Services {
    _listeners: Vec<TcpListener>,
    answering: Vec<JoinHandle<()>>,
    over: Arc<AtomicBool>,
}

impl Services {
    /// Opens the ports.
    ///
    /// # Errors
    /// One is taken.
    pub fn open(namespace: &Namespace, tcp: &[u16], udp: &[u16]) -> Result<Self> {
        let (listeners, sockets) = namespace.enter(|| {
            let any = Ipv6Addr::UNSPECIFIED;
            let listen =
                |port: &u16| TcpListener::bind((any, *port)).with_context(|| format!("listen on TCP {port}"));
            let bind = |port: &u16| {
                let socket = UdpSocket::bind((any, *port)).with_context(|| format!("bind UDP {port}"))?;
                socket.set_read_timeout(Some(NAP))?;
                Ok(socket)
            };
            let listeners = tcp.iter().map(listen).collect::<Result<Vec<_>>>()?;
            Ok((listeners, udp.iter().map(bind).collect::<Result<Vec<_>>>()?))
        })?;
        let over = Arc::new(AtomicBool::new(false));
        let start = |socket| {
            let over = Arc::clone(&over);
            thread::spawn(move || answer(&socket, &over))
        };
        Ok(Self { _listeners: listeners, answering: sockets.into_iter().map(start).collect(), over })
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for thread in self.answering.drain(..) {
            // A service that panicked has said so on stderr.
            drop(thread.join());
        }
    }
}

fn answer(socket: &UdpSocket, over: &AtomicBool) {
    let mut buffer = [0; 2048];
    while !over.load(Ordering::Relaxed) {
        match socket.recv_from(&mut buffer) {
            // That the answer is dropped on its way out is the test's subject.
            Ok((_, sender)) => drop(socket.send_to(b"answer", sender)),
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                ) => {}
            // What an ICMP error left behind: the next datagram is served again.
            Err(_) => thread::sleep(NAP),
        }
    }
}
