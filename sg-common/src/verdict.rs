//! Verdicts and the reasons for them, with numbers and names that never change.

use core::fmt;

/// Why a packet was dropped.
///
/// Numbers and names are stable: counters, events and scripts rely on them. A retired reason keeps
/// its number. The numbers start at 1 and stay below [`DropReason::LIMIT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum DropReason {
    /// No rule of the interface's groups allows the packet.
    NoRule = 1,
    /// A length, version or header that lies or ends too early.
    Malformed = 2,
    /// Neither IP nor anything that the infrastructure set names.
    UnsupportedEthertype = 3,
    /// More IPv6 extension headers than the parser follows.
    ExtensionChainTooLong = 4,
    /// A source or destination that no host may use on the wire.
    Martian = 5,
    /// A later fragment whose first fragment was not seen or not allowed.
    FragmentWithoutFirst = 6,
    /// A guest behaves as an IPv6 router.
    RouterAdvertisementFromGuest = 7,
    /// A guest answers as a DHCP server.
    DhcpServerFromGuest = 8,
    /// The instance sends from, or is sent to, an address that it does not own.
    SourceCheck = 9,
    /// A combination of TCP flags that no endpoint sends.
    InvalidTcpFlags = 10,
    /// A new flow found no room.
    FlowTableFull = 11,
    /// The flow was admitted by rules that no longer allow it.
    Revoked = 12,
    /// An ICMP error or redirect that belongs to no live flow.
    IcmpErrorWithoutFlow = 13,
    /// The policy in force could not be read; nothing passes without one.
    PolicyUnavailable = 14,
}

impl DropReason {
    /// Every reason, in numeric order.
    pub const ALL: [Self; 14] = [
        Self::NoRule,
        Self::Malformed,
        Self::UnsupportedEthertype,
        Self::ExtensionChainTooLong,
        Self::Martian,
        Self::FragmentWithoutFirst,
        Self::RouterAdvertisementFromGuest,
        Self::DhcpServerFromGuest,
        Self::SourceCheck,
        Self::InvalidTcpFlags,
        Self::FlowTableFull,
        Self::Revoked,
        Self::IcmpErrorWithoutFlow,
        Self::PolicyUnavailable,
    ];

    /// Every number is below this; counters reserve this many slots.
    pub const LIMIT: usize = 28;

    /// Whether an unlocked port overrules it: what only the policy says, or the lack of one. What a
    /// packet is, or whose it claims to be, no unlock makes good.
    #[inline(always)]
    #[must_use]
    pub const fn is_overruled_by_unlock(self) -> bool {
        matches!(self, Self::NoRule | Self::FlowTableFull | Self::Revoked | Self::PolicyUnavailable)
    }

    /// The stable number.
    #[inline(always)]
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The reason with this number.
    #[inline(always)]
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::NoRule,
            2 => Self::Malformed,
            3 => Self::UnsupportedEthertype,
            4 => Self::ExtensionChainTooLong,
            5 => Self::Martian,
            6 => Self::FragmentWithoutFirst,
            7 => Self::RouterAdvertisementFromGuest,
            8 => Self::DhcpServerFromGuest,
            9 => Self::SourceCheck,
            10 => Self::InvalidTcpFlags,
            11 => Self::FlowTableFull,
            12 => Self::Revoked,
            13 => Self::IcmpErrorWithoutFlow,
            14 => Self::PolicyUnavailable,
            _ => return None,
        })
    }

    /// The stable `snake_case` name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoRule => "no_rule",
            Self::Malformed => "malformed",
            Self::UnsupportedEthertype => "unsupported_ethertype",
            Self::ExtensionChainTooLong => "extension_chain_too_long",
            Self::Martian => "martian",
            Self::FragmentWithoutFirst => "fragment_without_first",
            Self::RouterAdvertisementFromGuest => "router_advertisement_from_guest",
            Self::DhcpServerFromGuest => "dhcp_server_from_guest",
            Self::SourceCheck => "source_check",
            Self::InvalidTcpFlags => "invalid_tcp_flags",
            Self::FlowTableFull => "flow_table_full",
            Self::Revoked => "revoked",
            Self::IcmpErrorWithoutFlow => "icmp_error_without_flow",
            Self::PolicyUnavailable => "policy_unavailable",
        }
    }

    /// One line for people.
    #[must_use]
    pub const fn summary(self) -> &'static str {
        match self {
            Self::NoRule => "no rule of the interface's groups allows it",
            Self::Malformed => "a length, version or header lies or ends too early",
            Self::UnsupportedEthertype => "neither IP nor part of the infrastructure set",
            Self::ExtensionChainTooLong => "more than 8 IPv6 extension headers",
            Self::Martian => "a source or destination that no host may use on the wire",
            Self::FragmentWithoutFirst => "a later fragment whose first one was not seen or not allowed",
            Self::RouterAdvertisementFromGuest => "a guest may not act as an IPv6 router",
            Self::DhcpServerFromGuest => "a guest may not act as a DHCP server",
            Self::SourceCheck => "the instance does not own the address",
            Self::InvalidTcpFlags => "TCP flags that no endpoint sends together",
            Self::FlowTableFull => "the flow table has no room for a new flow",
            Self::Revoked => "the flow was admitted by rules that no longer allow it",
            Self::IcmpErrorWithoutFlow => "an ICMP error or redirect that belongs to no live flow",
            Self::PolicyUnavailable => "the policy in force could not be read",
        }
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What let a packet pass. Numbers are stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum AllowReason {
    /// A rule; the packet opened a flow or belongs to an untracked one.
    Rule = 0,
    /// A live flow.
    Flow = 1,
    /// The infrastructure set: ARP, neighbour discovery, DHCP client, MLD.
    Infrastructure = 2,
    /// A port that the operator has opened past the policy for a time.
    Unlock = 3,
}

impl AllowReason {
    /// Every reason, in numeric order.
    pub const ALL: [Self; 4] = [Self::Rule, Self::Flow, Self::Infrastructure, Self::Unlock];

    /// The stable lower-case name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rule => "rule",
            Self::Flow => "flow",
            Self::Infrastructure => "infrastructure",
            Self::Unlock => "unlock",
        }
    }
}

/// The number of a rule in the image: an index into the rule counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct RuleNumber(pub u32);

/// The answer for one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// The packet passes; the rule is the one that admitted it or its flow, where one did.
    Allow(AllowReason, Option<RuleNumber>),
    /// The packet is dropped.
    Drop(DropReason),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_distinct_and_within_the_limit() {
        for (index, reason) in DropReason::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(reason.number()), index + 1);
            assert!(usize::from(reason.number()) < DropReason::LIMIT);
            assert_eq!(DropReason::from_number(reason.number()), Some(reason));
            let same = DropReason::ALL.iter().filter(|other| other.name() == reason.name());
            assert_eq!(same.count(), 1, "{reason}");
        }
        assert_eq!(DropReason::from_number(0), None);
    }
}
