//! The packet that an ICMP error quotes, as far as it names a flow: section 7 of `docs/semantics.md`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use sg_common::verdict::DropReason;

use super::read::{self, octet, short};

/// A quoted packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quote {
    /// Who sent it.
    pub source: IpAddr,
    /// To whom.
    pub destination: IpAddr,
    /// The protocol behind all headers.
    pub protocol: u8,
    /// The first eight octets of what that protocol has.
    pub head: [u8; 8],
}

/// Reads the quotation of an error that goes to `receiver`, in the octets that are left of the error.
///
/// What is cut short before it tells the flow, quotes a later fragment, or was not sent by
/// `receiver`, quotes nothing.
pub(super) fn read(bytes: &[u8], receiver: IpAddr) -> Option<Quote> {
    let (source, destination, protocol, at) = match receiver {
        IpAddr::V4(_) => ipv4(bytes),
        IpAddr::V6(_) => ipv6(bytes),
    }
    .ok()??;
    let mut head = [0; 8];
    head.copy_from_slice(bytes.get(at..at + 8)?);
    (source == receiver).then_some(Quote { source, destination, protocol, head })
}

type Found = Option<(IpAddr, IpAddr, u8, usize)>;

fn ipv4(bytes: &[u8]) -> Result<Found, DropReason> {
    let first = octet(bytes, 0)?;
    let header = usize::from(first & 0x0f) * 4;
    let source = Ipv4Addr::from(read::number(bytes, 12, 4)?);
    let destination = Ipv4Addr::from(read::number(bytes, 16, 4)?);
    let is_later = short(bytes, 6)? & 0x1fff != 0;
    let is_whole = first >> 4 == 4 && header >= 20 && !is_later;
    Ok(is_whole.then_some((source.into(), destination.into(), octet(bytes, 9)?, header)))
}

fn ipv6(bytes: &[u8]) -> Result<Found, DropReason> {
    let address = |at: usize| {
        let mut octets = [0; 16];
        octets.copy_from_slice(bytes.get(at..at + 16).ok_or(DropReason::Malformed)?);
        Ok::<IpAddr, DropReason>(Ipv6Addr::from(octets).into())
    };
    let (source, destination) = (address(8)?, address(24)?);
    let chain = read::chain(bytes)?;
    let is_later = chain.fragment.is_some_and(|fragment| fragment.offset > 0);
    let is_whole = octet(bytes, 0)? >> 4 == 6 && !is_later;
    Ok(is_whole.then_some((source, destination, chain.protocol, chain.at)))
}
