//! ICMP types by name, of both families: IANA's registries, in the spelling of other firewalls.
//!
//! <https://www.iana.org/assignments/icmp-parameters/icmp-parameters.xhtml>,
//! <https://www.iana.org/assignments/icmpv6-parameters/icmpv6-parameters.xhtml>

use sg_common::addr::Family;

const V4: &[(&str, u8)] = &[
    ("echo-reply", 0),
    ("destination-unreachable", 3),
    ("source-quench", 4),
    ("redirect", 5),
    ("echo-request", 8),
    ("router-advertisement", 9),
    ("router-solicitation", 10),
    ("time-exceeded", 11),
    ("parameter-problem", 12),
    ("timestamp-request", 13),
    ("timestamp-reply", 14),
    ("info-request", 15),
    ("info-reply", 16),
    ("address-mask-request", 17),
    ("address-mask-reply", 18),
    ("traceroute", 30),
    ("extended-echo-request", 42),
    ("extended-echo-reply", 43),
];

const V6: &[(&str, u8)] = &[
    ("destination-unreachable", 1),
    ("packet-too-big", 2),
    ("time-exceeded", 3),
    ("parameter-problem", 4),
    ("echo-request", 128),
    ("echo-reply", 129),
    ("mld-listener-query", 130),
    ("mld-listener-report", 131),
    ("mld-listener-done", 132),
    ("router-solicitation", 133),
    ("router-advertisement", 134),
    ("neighbor-solicitation", 135),
    ("neighbor-advertisement", 136),
    ("redirect", 137),
    ("router-renumbering", 138),
    ("node-information-query", 139),
    ("node-information-response", 140),
    ("inverse-neighbor-solicitation", 141),
    ("inverse-neighbor-advertisement", 142),
    ("mld2-listener-report", 143),
    ("home-agent-discovery-request", 144),
    ("home-agent-discovery-reply", 145),
    ("mobile-prefix-solicitation", 146),
    ("mobile-prefix-advertisement", 147),
    ("certification-path-solicitation", 148),
    ("certification-path-advertisement", 149),
    ("multicast-router-advertisement", 151),
    ("multicast-router-solicitation", 152),
    ("multicast-router-termination", 153),
    ("rpl-control", 155),
    ("extended-echo-request", 160),
    ("extended-echo-reply", 161),
];

/// The named types of a family.
pub(super) const fn types(family: Family) -> &'static [(&'static str, u8)] {
    match family {
        Family::V4 => V4,
        Family::V6 => V6,
    }
}

/// The number of a named type.
pub(super) fn number(family: Family, name: &str) -> Option<u8> {
    types(family).iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
}
