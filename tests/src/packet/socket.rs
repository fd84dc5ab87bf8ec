//! Sends and captures whole frames on one interface of a namespace.
//!
//! A capture sees what an interface receives before TC ingress judges it, and after native XDP did.
//! So it proves arrival on the *far* end of a wire; on the near end a socket or a forwarded copy does.

use std::{
    io::ErrorKind,
    net::UdpSocket,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use crate::{lab::Namespace, syscall};

/// A raw socket bound to one interface.
#[derive(Debug)]
pub struct PacketSocket(UdpSocket);

impl PacketSocket {
    /// Opens it; frames are kept from now on.
    ///
    /// # Errors
    /// There is no such interface.
    pub fn open(namespace: &Namespace, interface: &str) -> Result<Self> {
        namespace.enter(|| {
            let socket = syscall::packet_socket(interface);
            socket.map(Self).with_context(|| format!("capture on {interface} in {}", namespace.name()))
        })
    }

    /// As [`Self::open`], for what reaches the stack as this EtherType: behind XDP and TC ingress,
    /// where an allowed frame arrives and a dropped one does not.
    ///
    /// # Errors
    /// There is no such interface.
    pub fn behind_hooks(namespace: &Namespace, interface: &str, ethertype: u16) -> Result<Self> {
        namespace.enter(|| {
            let socket = syscall::packet_socket_of(interface, ethertype);
            socket.map(Self).with_context(|| format!("listen on {interface} in {}", namespace.name()))
        })
    }

    /// From here on every frame begins with a `virtio_net_hdr` of ten octets.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn with_offload_header(self) -> Result<Self> {
        syscall::with_offload_header(&self.0)?;
        Ok(self)
    }

    /// A frame that is there already.
    ///
    /// # Errors
    /// The kernel's.
    pub fn pending(&self) -> Result<Option<Vec<u8>>> {
        let mut buffer = vec![0; 1 << 18];
        self.0.set_nonblocking(true)?;
        let received = self.0.recv(&mut buffer);
        self.0.set_nonblocking(false)?;
        match received {
            Ok(length) => Ok(Some(buffer[..length].to_vec())),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error).context("capture"),
        }
    }

    /// Sends a frame. That TC drops it on its way out is no error here.
    ///
    /// # Errors
    /// The kernel refuses it: too short or too long for the interface.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        match self.0.send(frame) {
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => Ok(()),
            sent => sent.map(drop).with_context(|| format!("send a frame of {} bytes", frame.len())),
        }
    }

    /// The next frame that `wanted` accepts, if one comes in time.
    ///
    /// # Errors
    /// The kernel's, other than the timeout.
    pub fn receive(&self, within: Duration, wanted: impl Fn(&[u8]) -> bool) -> Result<Option<Vec<u8>>> {
        let until = Instant::now() + within;
        let mut buffer = vec![0; 65_536 + 64];
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.0.set_read_timeout(Some(left))?;
            match self.0.recv(&mut buffer) {
                Ok(length) if wanted(&buffer[..length]) => return Ok(Some(buffer[..length].to_vec())),
                Ok(_) => {}
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                    ) => {}
                Err(error) => return Err(error).context("capture"),
            }
        }
    }

    /// Whether a frame with these bytes somewhere in it comes in time.
    ///
    /// # Errors
    /// As [`Self::receive`].
    pub fn sees(&self, within: Duration, bytes: &[u8]) -> Result<bool> {
        let found = self.receive(within, |frame| frame.windows(bytes.len()).any(|window| window == bytes))?;
        Ok(found.is_some())
    }
}
