//! Which attached interfaces have left this network namespace, deleted or moved away, told as it
//! happens.
//!
//! A link that is dead does not say whether somebody took it off an interface or the interface is
//! gone, and an index alone does not say that an interface is still the same. This does.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    io,
};

use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use super::{
    HookKind, Kernel, KernelError,
    links::Interfaces,
    netlink::{Answer, split},
};

const RTM_DELLINK: u16 = 17;
/// `RTNLGRP_LINK`
const LINKS: u32 = 1;

/// What is known of interfaces that have left.
pub(crate) struct Presence {
    socket: Socket,
    /// Attached interfaces that have left, until their attachments are ended.
    departed: RefCell<BTreeSet<u32>>,
    /// Others may have, too: messages were lost.
    has_lost: Cell<bool>,
}

impl Presence {
    /// Begins to listen.
    pub(crate) fn watch() -> Result<Self, KernelError> {
        let socket = subscribe().map_err(|error| KernelError::system("watch", "interfaces", error))?;
        Ok(Self { socket, departed: RefCell::default(), has_lost: Cell::new(false) })
    }

    /// Whether an attached interface has left, as far as is known.
    pub(crate) fn has_left(&self, ifindex: u32) -> bool {
        self.departed.borrow().contains(&ifindex)
    }

    /// The indices of interfaces that have left since the last time.
    fn read(&self) -> Vec<u32> {
        let mut left = Vec::new();
        let mut octets = Vec::with_capacity(1 << 15);
        loop {
            octets.clear();
            match self.socket.recv(&mut octets, 0) {
                Ok(_) => left.extend(departures(&octets)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return left,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The socket's buffer overran; what is left of it follows.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => self.has_lost.set(true),
                Err(_) => {
                    self.has_lost.set(true);
                    return left;
                }
            }
        }
    }
}

fn subscribe() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.set_non_blocking(true)?;
    socket.bind(&SocketAddr::new(0, 0))?;
    socket.add_membership(LINKS)?;
    Ok(socket)
}

/// The indices in messages about interfaces that leave. A bridge tells so of its ports, which stay.
fn departures(octets: &[u8]) -> Vec<u32> {
    let mut found = Vec::new();
    let mut rest = octets;
    while let Some((message, after)) = split(rest) {
        rest = after;
        let answer = Answer { kind: message.kind, payload: message.payload };
        if answer.kind == RTM_DELLINK && i32::from(answer.u8(0)) == libc::AF_UNSPEC {
            found.push(answer.u32(4));
        }
    }
    found
}

impl Kernel {
    /// Whether an attached interface has left. What has its index now is another.
    pub(super) fn has_departed(&self, ifindex: u32) -> bool {
        self.notice_departures();
        self.presence.has_left(ifindex)
    }

    /// An attachment is ended, and with it what is known of its interface.
    pub(super) fn forget(&mut self, ifindex: u32) {
        self.presence.departed.borrow_mut().remove(&ifindex);
        self.awaits_xdp.remove(&ifindex);
    }

    /// Brings what is known of departures up to date.
    pub(super) fn notice_departures(&self) {
        let left = self.presence.read();
        let mut departed = self.presence.departed.borrow_mut();
        departed.extend(left.into_iter().filter(|ifindex| self.records.contains_key(ifindex)));
        if self.presence.has_lost.get()
            && let Ok(interfaces) = Interfaces::snapshot()
        {
            // One that was made anew has none of our programs: in doubt, it is another.
            let is_same = |ifindex: u32, hook| match hook {
                HookKind::Xdp => interfaces.iter().any(|interface| {
                    interface.ifindex == ifindex
                        && interface.xdp_program.is_some()
                        && interface.xdp_program == self.held.running(ifindex, HookKind::Xdp)
                }),
                _ => self.held.is_there(ifindex, hook),
            };
            for (ifindex, record) in &self.records {
                if !record.hooks.iter().any(|recorded| is_same(*ifindex, recorded.hook)) {
                    departed.insert(*ifindex);
                }
            }
            self.presence.has_lost.set(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, family: u8, ifindex: u32) -> Vec<u8> {
        let header = [32_u32.to_ne_bytes().as_slice(), &kind.to_ne_bytes(), &[0; 10]].concat();
        [header, vec![family, 0, 1, 0], ifindex.to_ne_bytes().to_vec(), vec![0; 8]].concat()
    }

    #[test]
    fn only_interfaces_that_leave_are_told() {
        let octets =
            [message(16, 0, 4), message(RTM_DELLINK, 0, 5), message(RTM_DELLINK, 7, 6), message(17, 0, 9)];
        assert_eq!(departures(&octets.concat()), [5, 9]);
        assert_eq!(departures(&octets[1][..20]), [0; 0], "cut off");
    }
}
