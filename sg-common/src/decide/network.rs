//! What a host needs to stay on its network, and whether it speaks for itself there: the
//! infrastructure set and the source check.

use super::{Judge, Judgement};
use crate::{
    addr::Addr,
    flow::table::Memory,
    image::{self, Nodes, flag},
    tuple::{Direction, Protocol},
    verdict::{AllowReason, DropReason},
    wire::Transport,
};

const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;

impl<N: Nodes + ?Sized, M: Memory + ?Sized> Judge<'_, N, M> {
    /// Section 4: whether the packet is one that a host needs to stay on its network. What a guest may
    /// never send is refused whether its part of the set passes or not.
    #[inline(always)]
    pub(super) fn infrastructure(&self) -> Result<bool, DropReason> {
        let packet = self.packet;
        let Transport { source_port, destination_port, icmp, protocol, .. } = packet.transport;
        let is_from_guest = self.flags & flag::GUEST != 0 && self.way.direction == Direction::Outbound;
        if protocol == Protocol::UDP.0 {
            let (client, server) = if packet.source.is_v4() { (68, 67) } else { (546, 547) };
            let ports = (source_port, destination_port);
            let is_request = ports == (client, server);
            let is_answer = ports == (server, client);
            if is_from_guest && is_answer {
                return Err(DropReason::DhcpServerFromGuest);
            }
            let is_client = match self.way.direction {
                Direction::Inbound => is_answer,
                Direction::Outbound => is_request,
            };
            if is_client && self.is_source_checked() {
                self.may_speak_as(packet.source)?;
            }
            return Ok(is_client && self.flags & flag::DHCP != 0);
        }
        if protocol != Protocol::ICMPV6.0 || packet.source.is_v4() {
            return Ok(false);
        }
        let kind = (icmp >> 8) as u8;
        match kind {
            133..=137 => {
                if is_from_guest && (kind == 134 || kind == 137) {
                    return Err(DropReason::RouterAdvertisementFromGuest);
                }
                // RFC 4861 has every receiver discard what a router may have forwarded; RFC 6980
                // what is fragmented.
                if packet.hop_limit != 255 || icmp & 0xff != 0 || packet.is_wrapped {
                    return Err(DropReason::Malformed);
                }
                if kind != 137 && self.is_source_checked() {
                    self.may_speak_as(packet.source)?;
                    // Whoever has no address yet asks for the one that it is about to take.
                    let is_probe = kind == NEIGHBOUR_SOLICITATION && packet.source == Addr::UNSPECIFIED_V6;
                    if kind == NEIGHBOUR_ADVERTISEMENT || is_probe {
                        self.may_speak_as(packet.subject)?;
                    }
                }
                Ok(kind != 137 && self.flags & flag::NDP != 0)
            }
            130..=132 | 143 if self.flags & flag::MLD != 0 => {
                // RFC 3810: from a link-local address, or none yet, with hop limit 1.
                let source = packet.source;
                Ok(packet.hop_limit == 1 && (source.is_link_local() || source == Addr::UNSPECIFIED_V6))
            }
            _ => Ok(false),
        }
    }

    /// Whether it is asked who the instance claims to be.
    #[inline(always)]
    pub(super) fn is_source_checked(&self) -> bool {
        self.flags & flag::SOURCE_CHECK != 0 && self.way.direction == Direction::Outbound
    }

    /// Section 2, step 4: only the instance's own addresses leave, and are entered.
    #[inline(always)]
    pub(super) fn source_check(&self) -> Result<(), DropReason> {
        let local = self.local();
        if self.way.direction == Direction::Inbound && is_group_address(local) {
            return Ok(());
        }
        self.must_own(local)
    }

    #[inline(always)]
    fn must_own(&self, address: Addr) -> Result<(), DropReason> {
        if image::is_own(self.tables.nodes, self.zone, address)? {
            Ok(())
        } else {
            Err(DropReason::SourceCheck)
        }
    }

    /// Whether the instance may use an address while it finds its place on the network: its own, one
    /// that it gives itself for the link, or none yet.
    #[inline(always)]
    fn may_speak_as(&self, address: Addr) -> Result<(), DropReason> {
        let is_free = address.is_link_local() && self.flags & flag::ANY_LINK_LOCAL != 0;
        if is_free || address == Addr::UNSPECIFIED_V6 || address == Addr::v4(0) {
            return Ok(());
        }
        self.must_own(address)
    }

    /// Whether a frame comes from one of the Ethernet addresses that the policy lists, if it does.
    #[inline(always)]
    pub(super) fn mac_check(&self) -> Result<(), DropReason> {
        if image::permits_mac(self.tables.nodes, self.zone, self.packet.source_mac)? {
            Ok(())
        } else {
            Err(DropReason::SourceCheck)
        }
    }

    /// Sections 2 and 4: ARP, in which an instance speaks for itself.
    #[inline(always)]
    pub(super) fn arp(&self) -> Judgement {
        if self.is_source_checked() {
            if self.packet.subject.lo() != self.packet.source_mac {
                return Err(DropReason::SourceCheck);
            }
            // Whoever has no address yet asks for the one that it is about to take.
            let is_probe = self.packet.source == Addr::v4(0);
            self.must_own(if is_probe { self.packet.destination } else { self.packet.source })?;
        }
        Ok(AllowReason::Infrastructure)
    }
}

/// Whether the address stands for many: multicast, or IPv4's limited broadcast.
#[inline(always)]
const fn is_group_address(address: Addr) -> bool {
    if address.is_v4() {
        address.v4_bits() >> 28 == 0xe || address.v4_bits() == u32::MAX
    } else {
        address.hi() >> 56 == 0xff
    }
}
