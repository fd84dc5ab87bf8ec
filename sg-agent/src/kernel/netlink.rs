//! One netlink socket: asks and reads answers, blocking. What the answers mean is told by
//! [`super::links`], [`super::clsact`] and [`super::sockets()`].
//!
//! Answers are read attribute by attribute and not decoded as a whole: one that a newer kernel
//! writes otherwise must not keep the others from being read.

use std::io;

use rtnetlink::{
    packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload},
    packet_route::RouteNetlinkMessage,
    sys::{
        Socket, SocketAddr,
        protocols::{NETLINK_ROUTE, NETLINK_SOCK_DIAG},
    },
};

const HEADER: usize = 16;
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// `NLM_F_DUMP_INTR`: what was listed changed meanwhile.
const DUMP_INTERRUPTED: u16 = 0x10;
/// Octets of the longest datagram: no answer of the kernel is longer.
const MOST: usize = 1 << 16;
/// How often an interrupted dump is begun anew before it is taken as it is.
const ATTEMPTS: u32 = 8;

/// A connected netlink socket.
pub(crate) struct Netlink {
    socket: Socket,
    sequence: u32,
}

/// One message of an answer, its fixed header still in front.
pub(crate) struct Answer<'a> {
    /// `RTM_*`.
    pub(crate) kind: u16,
    pub(crate) payload: &'a [u8],
}

impl<'a> Answer<'a> {
    /// A host-order number of the fixed header, or 0 past its end.
    pub(crate) fn u32(&self, at: usize) -> u32 {
        self.payload.get(at..at + 4).and_then(u32_of).unwrap_or(0)
    }

    /// A host-order number of the fixed header, or 0 past its end.
    pub(crate) fn u16(&self, at: usize) -> u16 {
        self.payload.get(at..at + 2).and_then(|octets| octets.try_into().ok()).map_or(0, u16::from_ne_bytes)
    }

    /// An octet of the fixed header, or 0 past its end.
    pub(crate) fn u8(&self, at: usize) -> u8 {
        self.payload.get(at).copied().unwrap_or(0)
    }

    /// The attributes that follow a fixed header of `header` octets.
    pub(crate) fn attributes(&self, header: usize) -> Vec<(u16, &'a [u8])> {
        attributes(self.payload.get(header..).unwrap_or_default())
    }
}

/// Attributes by type, as far as they can be told apart.
pub(crate) fn attributes(octets: &[u8]) -> Vec<(u16, &[u8])> {
    const FLAGS: u16 = 0xc000;
    let mut found = Vec::new();
    let mut rest = octets;
    while let [a, b, c, d, ..] = *rest {
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let Some(value) = rest.get(4..length) else { break };
        found.push((u16::from_ne_bytes([c, d]) & !FLAGS, value));
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

/// A host-order number.
pub(crate) fn u32_of(octets: &[u8]) -> Option<u32> {
    octets.get(..4)?.try_into().ok().map(u32::from_ne_bytes)
}

/// A string that ends in a zero octet.
pub(crate) fn string_of(octets: &[u8]) -> String {
    let text = octets.split(|octet| *octet == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

impl Netlink {
    /// Opens a socket to what knows interfaces and filters.
    pub(crate) fn open() -> io::Result<Self> {
        Self::to(NETLINK_ROUTE)
    }

    /// Opens a socket to what knows this namespace's sockets.
    pub(crate) fn to_sockets() -> io::Result<Self> {
        Self::to(NETLINK_SOCK_DIAG)
    }

    fn to(whom: isize) -> io::Result<Self> {
        let mut socket = Socket::new(whom)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Has something done. `flags` beside request and acknowledgement.
    pub(crate) fn request(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.exchange(message, flags | NLM_F_ACK, |_| ()).map(drop)
    }

    /// Asks for one thing.
    pub(crate) fn get<T>(
        &mut self,
        message: RouteNetlinkMessage,
        mut read: impl FnMut(&Answer<'_>) -> Option<T>,
    ) -> io::Result<Option<T>> {
        let mut found = None;
        self.exchange(message, NLM_F_ACK, |answer| found = found.take().or_else(|| read(answer)))?;
        Ok(found)
    }

    /// Asks for a list.
    pub(crate) fn list<T>(
        &mut self,
        message: &RouteNetlinkMessage,
        mut read: impl FnMut(&Answer<'_>) -> Option<T>,
    ) -> io::Result<Vec<T>> {
        let mut found = Vec::new();
        for _ in 0..ATTEMPTS {
            found.clear();
            if !self.exchange(message.clone(), NLM_F_DUMP, |answer| found.extend(read(answer)))? {
                break;
            }
        }
        Ok(found)
    }

    /// Asks for a list by a message of this kind, its header left out.
    pub(crate) fn list_by<T>(
        &mut self,
        kind: u16,
        payload: &[u8],
        mut read: impl FnMut(&Answer<'_>) -> Option<T>,
    ) -> io::Result<Vec<T>> {
        self.sequence += 1;
        let length = (HEADER + payload.len()) as u32;
        let flags = NLM_F_REQUEST | NLM_F_DUMP;
        let mut octets = Vec::with_capacity(HEADER + payload.len());
        octets.extend(length.to_ne_bytes());
        octets.extend([kind, flags].map(u16::to_ne_bytes).as_flattened());
        // The sender's address is the kernel's to fill in.
        octets.extend([self.sequence, 0].map(u32::to_ne_bytes).as_flattened());
        octets.extend(payload);
        let mut found = Vec::new();
        self.converse(&octets, |answer| found.extend(read(answer)))?;
        Ok(found)
    }

    /// Sends and reads to the end of the answer. Tells whether a dump was interrupted.
    fn exchange(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
        read: impl FnMut(&Answer<'_>),
    ) -> io::Result<bool> {
        self.sequence += 1;
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
        message.finalize();
        let mut octets = vec![0; message.buffer_len()];
        message.serialize(&mut octets);
        self.converse(&octets, read)
    }

    /// Sends a message that has the latest sequence number, and reads to the end of the answer.
    fn converse(&mut self, octets: &[u8], mut read: impl FnMut(&Answer<'_>)) -> io::Result<bool> {
        self.socket.send(octets, 0)?;
        let mut interrupted = false;
        // The kernel fills as much of a datagram as was asked for the last time, and no more than this.
        let mut octets = Vec::with_capacity(MOST);
        loop {
            octets.clear();
            self.socket.recv(&mut octets, 0)?;
            let mut rest = octets.as_slice();
            while let Some((message, after)) = split(rest) {
                rest = after;
                if message.sequence != self.sequence {
                    continue;
                }
                interrupted |= message.flags & DUMP_INTERRUPTED != 0;
                match message.kind {
                    DONE => return Ok(interrupted),
                    ERROR => return ended(message.payload).map(|()| interrupted),
                    kind => read(&Answer { kind, payload: message.payload }),
                }
            }
        }
    }
}

/// A message of a datagram.
pub(crate) struct Message<'a> {
    pub(crate) kind: u16,
    flags: u16,
    sequence: u32,
    pub(crate) payload: &'a [u8],
}

/// The first message of a datagram, and what follows it.
pub(crate) fn split(octets: &[u8]) -> Option<(Message<'_>, &[u8])> {
    let length = u32_of(octets)? as usize;
    let answer = Answer { kind: 0, payload: octets };
    let payload = octets.get(HEADER..length)?;
    let message = Message { kind: answer.u16(4), flags: answer.u16(6), sequence: answer.u32(8), payload };
    Some((message, octets.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

/// The error that an acknowledgement carries: 0 for none, else negative.
fn ended(payload: &[u8]) -> io::Result<()> {
    match u32_of(payload).map(u32::cast_signed) {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(code.wrapping_neg())),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_end_where_they_lie() {
        let word = |value: u16| value.to_ne_bytes();
        let octets = [word(6).as_slice(), &word(3), &[7, 8], &[0, 0], &word(4), &word(0x8005)].concat();
        assert_eq!(attributes(&octets), [(3, [7, 8].as_slice()), (5, &[])]);
        for length in [0, 3, 9, 100] {
            let octets = [word(length).as_slice(), &word(3), &[7, 8, 9, 10]].concat();
            assert!(attributes(&octets).is_empty(), "length {length}");
        }
    }

    #[test]
    fn the_kernel_says_what_is_wrong() {
        let mut message = rtnetlink::packet_route::link::LinkMessage::default();
        message.header.index = u32::MAX / 2;
        let mut netlink = Netlink::open().unwrap();
        let error = netlink.get(RouteNetlinkMessage::GetLink(message), |_| Some(())).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
        let all = RouteNetlinkMessage::GetLink(Default::default());
        assert!(!netlink.list(&all, |answer| Some(answer.u32(4))).unwrap().is_empty(), "the socket goes on");
    }
}
