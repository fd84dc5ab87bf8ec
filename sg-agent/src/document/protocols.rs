//! IP protocol numbers by name: IANA's registry of assigned internet protocol numbers.
//!
//! <https://www.iana.org/assignments/protocol-numbers/protocol-numbers.xhtml>

/// The names in lower case. Those that IANA writes with a slash or a space are left out: they
/// have a number like all others. `rdp` (27) is left out because the word means Remote Desktop.
pub(super) const NAMES: &[(&str, u8)] = &[
    ("hopopt", 0),
    ("igmp", 2),
    ("ggp", 3),
    ("ipv4", 4),
    ("ipencap", 4),
    ("st", 5),
    ("cbt", 7),
    ("egp", 8),
    ("igp", 9),
    ("bbn-rcc-mon", 10),
    ("nvp-ii", 11),
    ("pup", 12),
    ("argus", 13),
    ("emcon", 14),
    ("xnet", 15),
    ("chaos", 16),
    ("mux", 18),
    ("dcn-meas", 19),
    ("hmp", 20),
    ("prm", 21),
    ("xns-idp", 22),
    ("trunk-1", 23),
    ("trunk-2", 24),
    ("leaf-1", 25),
    ("leaf-2", 26),
    ("irtp", 28),
    ("iso-tp4", 29),
    ("netblt", 30),
    ("mfe-nsp", 31),
    ("merit-inp", 32),
    ("dccp", 33),
    ("3pc", 34),
    ("idpr", 35),
    ("xtp", 36),
    ("ddp", 37),
    ("idpr-cmtp", 38),
    ("il", 40),
    ("ipv6", 41),
    ("sdrp", 42),
    ("ipv6-route", 43),
    ("ipv6-frag", 44),
    ("idrp", 45),
    ("rsvp", 46),
    ("gre", 47),
    ("dsr", 48),
    ("bna", 49),
    ("esp", 50),
    ("ah", 51),
    ("i-nlsp", 52),
    ("swipe", 53),
    ("min-ipv4", 55),
    ("mobile", 55),
    ("narp", 54),
    ("tlsp", 56),
    ("skip", 57),
    ("ipv6-nonxt", 59),
    ("ipv6-opts", 60),
    ("cftp", 62),
    ("sat-expak", 64),
    ("kryptolan", 65),
    ("rvd", 66),
    ("ippc", 67),
    ("sat-mon", 69),
    ("visa", 70),
    ("ipcv", 71),
    ("cpnx", 72),
    ("cphb", 73),
    ("wsn", 74),
    ("pvp", 75),
    ("br-sat-mon", 76),
    ("sun-nd", 77),
    ("wb-mon", 78),
    ("wb-expak", 79),
    ("iso-ip", 80),
    ("vmtp", 81),
    ("secure-vmtp", 82),
    ("vines", 83),
    ("iptm", 84),
    ("ttp", 84),
    ("nsfnet-igp", 85),
    ("dgp", 86),
    ("tcf", 87),
    ("eigrp", 88),
    ("ospf", 89),
    ("ospfigp", 89),
    ("sprite-rpc", 90),
    ("larp", 91),
    ("mtp", 92),
    ("ax.25", 93),
    ("ipip", 94),
    ("micp", 95),
    ("scc-sp", 96),
    ("etherip", 97),
    ("encap", 98),
    ("gmtp", 100),
    ("ifmp", 101),
    ("pnni", 102),
    ("pim", 103),
    ("aris", 104),
    ("scps", 105),
    ("qnx", 106),
    ("ipcomp", 108),
    ("snp", 109),
    ("compaq-peer", 110),
    ("ipx-in-ip", 111),
    ("carp", 112),
    ("vrrp", 112),
    ("pgm", 113),
    ("l2tp", 115),
    ("ddx", 116),
    ("iatp", 117),
    ("stp", 118),
    ("srp", 119),
    ("uti", 120),
    ("smp", 121),
    ("sm", 122),
    ("ptp", 123),
    ("isis", 124),
    ("fire", 125),
    ("crtp", 126),
    ("crudp", 127),
    ("sscopmce", 128),
    ("iplt", 129),
    ("sps", 130),
    ("pipe", 131),
    ("sctp", 132),
    ("fc", 133),
    ("rsvp-e2e-ignore", 134),
    ("mobility-header", 135),
    ("udplite", 136),
    ("mpls-in-ip", 137),
    ("manet", 138),
    ("hip", 139),
    ("shim6", 140),
    ("wesp", 141),
    ("rohc", 142),
    ("ethernet", 143),
    ("aggfrag", 144),
    ("nsh", 145),
    ("homa", 146),
    ("bit-emu", 147),
];

/// The names of the protocols whose packets have ports or types, and their numbers.
pub(super) const TCP: (&str, u8) = ("tcp", 6);
/// UDP.
pub(super) const UDP: (&str, u8) = ("udp", 17);
/// IPv4's ICMP.
pub(super) const ICMP: (&str, u8) = ("icmp", 1);
/// IPv6's ICMP.
pub(super) const ICMPV6: (&str, u8) = ("icmpv6", 58);
/// What IANA calls [`ICMPV6`].
pub(super) const IPV6_ICMP: &str = "ipv6-icmp";

/// The number of a protocol of [`NAMES`].
pub(super) fn number(name: &str) -> Option<u8> {
    NAMES.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
}

/// A name of a protocol number, for messages.
pub(super) fn name(number: u8) -> Option<&'static str> {
    let with_parts = [TCP, UDP, ICMP, ICMPV6];
    with_parts.iter().chain(NAMES).find(|(_, known)| *known == number).map(|(name, _)| *name)
}

/// Every word of `allow` that is no service: no service of the user's own may take it.
pub(super) fn reserved() -> impl Iterator<Item = &'static str> {
    ["all", TCP.0, UDP.0, ICMP.0, ICMPV6.0, IPV6_ICMP].into_iter().chain(NAMES.iter().map(|(name, _)| *name))
}
