//! What a host needs to stay on its network, and whether it speaks for itself there: the
//! infrastructure set and the source check.

use crate::{
    addr::Addr,
    flow::identity::Way,
    image::{self, Node, Nodes, flag},
    tuple::{Direction, Protocol},
    verdict::DropReason,
    wire::{Packet, Payload, Transport},
};

const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;

/// An image's nodes, asked for what a network needs.
pub trait Network: Nodes {
    /// [`answer`] of these nodes. The programs make it a function of its own, as they do with those
    /// of [`Nodes`].
    #[inline(always)]
    fn network(&self, packet: &Packet, payload: Payload, way: Way) -> AnswerBits {
        answer(self, packet, payload, way)
    }
}

impl Network for [Node] {}

/// What becomes of a packet by the infrastructure set and the source check, in one register.
///
/// 0: that is for flows and rules to say; 256: it passes; else it is the number of the reason for a
/// drop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct AnswerBits(pub u32);

impl AnswerBits {
    const PASSES: u32 = 256;
    /// It is for flows and rules to say.
    pub(super) const OPEN: Self = Self(0);

    /// Packs an answer.
    #[inline(always)]
    #[must_use]
    pub const fn pack(answer: Result<bool, DropReason>) -> Self {
        match answer {
            Ok(false) => Self::OPEN,
            Ok(true) => Self(Self::PASSES),
            Err(reason) => Self(reason.number() as u32),
        }
    }

    /// Whether the packet passes.
    ///
    /// # Errors
    ///
    /// The reason, where it is dropped.
    #[inline(always)]
    pub const fn unpack(self) -> Result<bool, DropReason> {
        match DropReason::from_number(self.0 as u8) {
            Some(reason) => Err(reason),
            None => Ok(self.0 == Self::PASSES),
        }
    }
}

/// Whether flows and rules alone say what becomes of an IP packet: nothing that the infrastructure
/// set knows, and nobody asks whose it is.
#[inline(always)]
pub(super) const fn is_no_concern(packet: &Packet, flags: u32) -> bool {
    let Transport { protocol, destination_port, .. } = packet.transport;
    flags & flag::SOURCE_CHECK == 0
        && match Protocol(protocol) {
            // DHCP of either version and either side.
            Protocol::UDP => !matches!(destination_port, 67 | 68 | 546 | 547),
            protocol => !matches!(protocol, Protocol::ICMPV6),
        }
}

/// Whether a packet asks for a neighbour's Ethernet address, or answers, as the infrastructure set has
/// it pass.
#[inline(always)]
pub(super) const fn finds_neighbours(packet: &Packet) -> bool {
    let Transport { protocol, icmp, .. } = packet.transport;
    let kind = (icmp >> 8) as u8;
    matches!(Protocol(protocol), Protocol::ICMPV6)
        && !packet.source.is_v4()
        && (kind == NEIGHBOUR_SOLICITATION || kind == NEIGHBOUR_ADVERTISEMENT)
        && icmp & 0xff == 0
        && packet.hop_limit == 255
        && !packet.is_wrapped
}

/// Sections 2 and 4 up to the source check.
#[inline(always)]
pub fn answer<N: Nodes + ?Sized>(nodes: &N, packet: &Packet, payload: Payload, way: Way) -> AnswerBits {
    let zone = image::zone(nodes, way.zone);
    let answer = zone.map_err(DropReason::from).and_then(|zone| {
        let flags = zone.words[image::zone_word::FLAGS];
        Question { nodes, zone, flags, direction: way.direction, packet }.answer(payload)
    });
    AnswerBits::pack(answer)
}

/// One packet before the image.
struct Question<'a, N: ?Sized> {
    nodes: &'a N,
    zone: &'a Node,
    flags: u32,
    direction: Direction,
    packet: &'a Packet,
}

impl<N: Nodes + ?Sized> Question<'_, N> {
    #[inline(always)]
    fn answer(&self, payload: Payload) -> Result<bool, DropReason> {
        // Whose frame it is can be told of everything that an instance sends.
        if self.is_source_checked() {
            self.mac_check()?;
        }
        match payload {
            Payload::IP => {
                if self.infrastructure()? {
                    return Ok(true);
                }
                if self.flags & flag::SOURCE_CHECK != 0 {
                    self.source_check()?;
                }
                Ok(false)
            }
            Payload::ARP if self.flags & flag::ARP != 0 => self.arp(),
            Payload(ethertype) if image::permits_ethertype(self.zone, ethertype) => Ok(true),
            _ => Err(DropReason::UnsupportedEthertype),
        }
    }

    /// Section 4: whether the packet is one that a host needs to stay on its network. What a guest may
    /// never send is refused whether its part of the set passes or not.
    #[inline(always)]
    fn infrastructure(&self) -> Result<bool, DropReason> {
        let packet = self.packet;
        let Transport { source_port, destination_port, icmp, protocol, .. } = packet.transport;
        let is_from_guest = self.flags & flag::GUEST != 0 && self.direction == Direction::Outbound;
        if protocol == Protocol::UDP.0 {
            let (client, server) = if packet.source.is_v4() { (68, 67) } else { (546, 547) };
            let ports = (source_port, destination_port);
            let is_request = ports == (client, server);
            let is_answer = ports == (server, client);
            if is_from_guest && is_answer {
                return Err(DropReason::DhcpServerFromGuest);
            }
            let is_client = match self.direction {
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
    fn is_source_checked(&self) -> bool {
        self.flags & flag::SOURCE_CHECK != 0 && self.direction == Direction::Outbound
    }

    /// Section 2, step 4: only the instance's own addresses leave, and are entered.
    #[inline(always)]
    fn source_check(&self) -> Result<(), DropReason> {
        let local = match self.direction {
            Direction::Inbound => self.packet.destination,
            Direction::Outbound => self.packet.source,
        };
        if self.direction == Direction::Inbound && is_group_address(local) {
            return Ok(());
        }
        self.must_own(local)
    }

    #[inline(always)]
    fn must_own(&self, address: Addr) -> Result<(), DropReason> {
        if image::is_own(self.nodes, self.zone, address)? { Ok(()) } else { Err(DropReason::SourceCheck) }
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
    fn mac_check(&self) -> Result<(), DropReason> {
        if image::permits_mac(self.nodes, self.zone, self.packet.source_mac)? {
            Ok(())
        } else {
            Err(DropReason::SourceCheck)
        }
    }

    /// Sections 2 and 4: ARP, in which an instance speaks for itself.
    #[inline(always)]
    fn arp(&self) -> Result<bool, DropReason> {
        if self.is_source_checked() {
            if self.packet.subject.lo() != self.packet.source_mac {
                return Err(DropReason::SourceCheck);
            }
            // Whoever has no address yet asks for the one that it is about to take.
            let is_probe = self.packet.source == Addr::v4(0);
            self.must_own(if is_probe { self.packet.destination } else { self.packet.source })?;
        }
        Ok(true)
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
