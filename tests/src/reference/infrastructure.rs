//! The infrastructure set and the source check: sections 2 and 4 of `docs/semantics.md`.

use std::net::IpAddr;

use sg_agent::policy::{InterfaceEntry, Side};
use sg_common::{tuple::Direction, verdict::DropReason};

use super::read::{Arp, Body, Packet};

/// Whether the packet passes as part of the set.
///
/// # Errors
/// Why it never passes.
pub(super) fn passes(
    entry: &InterfaceEntry,
    direction: Direction,
    packet: &Packet,
) -> Result<bool, DropReason> {
    let is_from_guest = entry.side == Side::Guest && direction == Direction::Outbound;
    let on = entry.infrastructure;
    match &packet.body {
        Body::Udp(source, destination) => {
            let (client, server) = if packet.source.is_ipv4() { (68, 67) } else { (546, 547) };
            let is_answer = (*source, *destination) == (server, client);
            let is_request = (*source, *destination) == (client, server);
            if is_answer && is_from_guest {
                return Err(DropReason::DhcpServerFromGuest);
            }
            if direction == Direction::Inbound {
                return Ok(is_answer && on.dhcp);
            }
            if is_request {
                speaks_for_itself(entry, direction, packet.source)?;
            }
            Ok(is_request && on.dhcp)
        }
        Body::Icmp(message) if packet.source.is_ipv6() => match message.kind {
            133..=137 => {
                let is_router = [134, 137].contains(&message.kind);
                if is_from_guest && is_router {
                    return Err(DropReason::RouterAdvertisementFromGuest);
                }
                if packet.hop_limit != 255 || message.code != 0 || packet.is_wrapped {
                    return Err(DropReason::Malformed);
                }
                // A redirect needs a rule.
                if message.kind == 137 {
                    return Ok(false);
                }
                speaks_for_itself(entry, direction, packet.source)?;
                // An advertisement is about the sender; so is the question whether an address is free.
                let is_about_itself = match message.kind {
                    136 => true,
                    135 => packet.source.is_unspecified(),
                    _ => false,
                };
                if let (true, Some(target)) = (is_about_itself, message.target) {
                    speaks_for_itself(entry, direction, target.into())?;
                }
                Ok(on.ndp)
            }
            130..=132 | 143 if on.mld => {
                let is_near = match packet.source {
                    IpAddr::V6(source) => source.is_unicast_link_local() || source.is_unspecified(),
                    IpAddr::V4(_) => false,
                };
                Ok(is_near && packet.hop_limit == 1)
            }
            _ => Ok(false),
        },
        _ => Ok(false),
    }
}

/// Whether what the instance sends comes from an Ethernet address that is its own, where they are
/// listed.
///
/// # Errors
/// It does not.
pub(super) fn hardware(entry: &InterfaceEntry, direction: Direction, mac: [u8; 6]) -> Result<(), DropReason> {
    let number = mac.iter().fold(0, |number, octet| number << 8 | u64::from(*octet));
    let is_own = entry.macs.is_empty() || entry.macs.iter().any(|own| own.to_bits() == number);
    if is_checked(entry, direction) && !is_own { Err(DropReason::SourceCheck) } else { Ok(()) }
}

/// Whether the sender of an ARP message is who it says: the sender of the frame, with an address of its
/// own, or with none yet that asks for such a one.
///
/// # Errors
/// It is not.
pub(super) fn arp(
    entry: &InterfaceEntry,
    direction: Direction,
    mac: [u8; 6],
    arp: &Arp,
) -> Result<(), DropReason> {
    let asks = arp.sender.is_unspecified();
    let is_itself = arp.hardware == Some(mac) && is_own(entry, if asks { arp.target } else { arp.sender });
    if is_checked(entry, direction) && !is_itself { Err(DropReason::SourceCheck) } else { Ok(()) }
}

/// Whether the instance's end of a packet is an address of its own, or one of many hosts that it is
/// sent to.
///
/// # Errors
/// It is not.
pub(super) fn addresses(
    entry: &InterfaceEntry,
    direction: Direction,
    packet: &Packet,
) -> Result<(), DropReason> {
    let local = if direction == Direction::Inbound { packet.destination } else { packet.source };
    let is_group = match local {
        IpAddr::V4(address) => address.is_multicast() || address.is_broadcast(),
        IpAddr::V6(address) => address.is_multicast(),
    };
    let is_known = is_own(entry, local) || (direction == Direction::Inbound && is_group);
    if entry.source_check && !is_known { Err(DropReason::SourceCheck) } else { Ok(()) }
}

/// While an instance finds its place on the network it may also speak from an address that it gives
/// itself for the link, unless such a one is listed, and from none.
fn speaks_for_itself(
    entry: &InterfaceEntry,
    direction: Direction,
    address: IpAddr,
) -> Result<(), DropReason> {
    let is_link_local = |address: IpAddr| match address {
        IpAddr::V4(_) => false,
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    let mut listed = entry.addresses.iter().flatten();
    let lists_one = listed.any(|own| is_link_local(own.first().into()));
    let is_free = address.is_unspecified() || (is_link_local(address) && !lists_one);
    if is_checked(entry, direction) && !is_free && !is_own(entry, address) {
        return Err(DropReason::SourceCheck);
    }
    Ok(())
}

fn is_checked(entry: &InterfaceEntry, direction: Direction) -> bool {
    entry.source_check && direction == Direction::Outbound
}

fn is_own(entry: &InterfaceEntry, address: IpAddr) -> bool {
    entry.addresses.iter().flatten().any(|own| own.contains(address.into()))
}
