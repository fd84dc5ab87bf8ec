//! What first fragments told: section 3 of `docs/semantics.md`.
//!
//! There is always room here: sequences have few datagrams beside the places that there are.

use std::net::IpAddr;

use sg_common::verdict::DropReason;

use super::read::{Body, Fragment, Packet};

/// Every datagram whose first fragment was seen.
#[derive(Clone, Debug, Default)]
pub(super) struct Datagrams(Vec<Datagram>);

#[derive(Clone, Debug)]
struct Datagram {
    source: IpAddr,
    destination: IpAddr,
    fragment: Fragment,
    /// The first fragment, with all that only it tells.
    first: Packet,
    /// Why later ones are dropped.
    reason: Option<DropReason>,
    generation: u64,
    began: u32,
}

impl Datagrams {
    /// All began this many ticks earlier.
    pub(super) fn age(&mut self, ticks: u32) {
        for datagram in &mut self.0 {
            datagram.began = datagram.began.wrapping_sub(ticks);
        }
    }

    /// Forgets what began more than `longest` ticks ago.
    pub(super) fn end(&mut self, now: u32, longest: u32) {
        self.0.retain(|datagram| now.wrapping_sub(datagram.began) <= longest);
    }

    /// A later fragment, with all that the first one told.
    pub(super) fn rejoin(&self, packet: &Packet) -> Result<Packet, DropReason> {
        let known = self.0.iter().find(|datagram| datagram.is_of(packet));
        let Datagram { first, reason, .. } = known.ok_or(DropReason::FragmentWithoutFirst)?;
        if let Some(reason) = reason {
            return Err(*reason);
        }
        if packet.fragment.is_some_and(|fragment| fragment.offset < first.headers) {
            // It would replace what was judged.
            return Err(DropReason::Malformed);
        }
        let mut body = first.body.clone();
        match &mut body {
            Body::Tcp(segment) => segment.flags = 0,
            Body::Icmp(message) => (message.quote, message.target) = (None, None),
            Body::Udp(..) | Body::Opaque => {}
        }
        Ok(Packet { protocol: first.protocol, body, ..packet.clone() })
    }

    /// Remembers what a first fragment told, and why it was dropped, if it was: that never replaces one
    /// that has passed. One that tells something else under another policy replaces it, but is not
    /// followed.
    pub(super) fn keep(&mut self, packet: &Packet, reason: Option<DropReason>, generation: u64, now: u32) {
        let Some(fragment) = packet.fragment.filter(|fragment| fragment.offset == 0) else { return };
        let Packet { source, destination, .. } = *packet;
        let first = packet.clone();
        let mut datagram = Datagram { source, destination, fragment, first, reason, generation, began: now };
        let Some(known) = self.0.iter_mut().find(|known| known.is_of(packet)) else {
            self.0.push(datagram);
            return;
        };
        if known.reason.is_none() {
            if reason.is_some() {
                return;
            }
            if known.generation != generation && told(&known.first) != told(packet) {
                datagram.reason = Some(DropReason::FragmentWithoutFirst);
            }
        }
        *known = datagram;
    }
}

impl Datagram {
    /// Whether a fragment is of it.
    fn is_of(&self, packet: &Packet) -> bool {
        let Self { source, destination, fragment: Fragment { id, protocol, .. }, .. } = *self;
        packet.fragment.is_some_and(|fragment| (fragment.id, fragment.protocol) == (id, protocol))
            && (packet.source, packet.destination) == (source, destination)
    }
}

/// What later fragments are judged by.
fn told(first: &Packet) -> (u8, usize, u16, u16, u16) {
    let (one, other, id) = match &first.body {
        Body::Tcp(segment) => (segment.ports.0, segment.ports.1, 0),
        Body::Udp(source, destination) => (*source, *destination, 0),
        Body::Icmp(message) => (message.kind.into(), message.code.into(), message.id),
        Body::Opaque => (0, 0, 0),
    };
    (first.protocol, first.headers, one, other, id)
}
