//! What is open past the policy: section 9 of `docs/semantics.md`.

use std::net::IpAddr;

use sg_common::{tuple::Direction, verdict::DropReason};

use super::{question::Question, read::Body};

/// A port that is open to one address for a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// 6 or 17.
    pub protocol: u8,
    /// The instance's port.
    pub port: u16,
    /// The other side's address.
    pub address: IpAddr,
    /// The tick at which it is over.
    pub until: u32,
}

/// Whether such a drop is for an open port to overrule.
pub(super) fn is_overruled(reason: DropReason) -> bool {
    [DropReason::NoRule, DropReason::Revoked, DropReason::FlowTableFull].contains(&reason)
}

/// Whether one of these is open for a packet.
pub(super) fn passes(open: &[Open], question: &Question<'_>) -> bool {
    let (source, destination) = match &question.packet.body {
        Body::Tcp(segment) => segment.ports,
        Body::Udp(source, destination) => (*source, *destination),
        Body::Icmp(_) | Body::Opaque => return false,
    };
    let (_, remote) = question.ends();
    let here = if question.direction == Direction::Inbound { destination } else { source };
    open.iter().any(|open| {
        question.now < open.until
            && (question.packet.protocol, here, remote) == (open.protocol, open.port, open.address)
    })
}
