//! One policy in the words of each who enforces it: stateful, default drop, both ways.
//!
//! Anybody may connect to [`OPEN`]; so many networks, to [`LISTED`] and the port behind it as well; nobody
//! to anything else, and nothing new goes out.

use std::{fmt::Write as _, net::Ipv4Addr};

use sg_tests::generator::Sources;

/// Open to anybody.
pub(crate) const OPEN: u16 = 443;
/// Open to the networks, as the next one is.
pub(crate) const LISTED: u16 = 5432;
/// Open to anybody's datagrams; only ours has this.
pub(crate) const DATAGRAMS: u16 = 4433;

/// So many networks of /24.
pub(crate) fn networks(count: u32) -> Vec<Ipv4Addr> {
    let mut random = 1_u64;
    let mut network = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        Ipv4Addr::from_bits(Sources::network((random >> 32) as u32, false))
    };
    let mut networks: Vec<_> = (0..count).map(|_| network()).collect();
    networks.sort_unstable();
    networks.dedup();
    networks
}

fn joined(networks: &[Ipv4Addr], each: impl Fn(&Ipv4Addr) -> String) -> String {
    networks.iter().map(each).collect::<Vec<_>>().join(", ")
}

/// Ours; `entry` is the interface's.
pub(crate) fn document(networks: &[Ipv4Addr], entry: &str) -> String {
    document_with(networks, 1, &[entry])
}

/// The same with so many rules for the networks, each for another port, and these interfaces. Anybody may
/// send datagrams to [`DATAGRAMS`].
pub(crate) fn document_with(networks: &[Ipv4Addr], rules: u32, entries: &[&str]) -> String {
    let list = joined(networks, |network| format!("{network}/24"));
    let mut text = format!(
        "version: 1\nprefix_lists:\n  peers: {{entries: [{list}]}}\ngroups:\n  g:\n    outbound: []\n    inbound:\n      \
         - {{allow: [tcp/{OPEN}, udp/{DATAGRAMS}], from: anywhere}}\n      - {{allow: tcp/{LISTED}-{}, from: \
         'list:peers'}}\n",
        LISTED + 1
    );
    for rule in 1..rules {
        let _ =
            writeln!(text, "      - {{allow: tcp/{}, from: 'list:peers'}}", u32::from(LISTED) + 10 + rule);
    }
    text.push_str("interfaces:\n");
    for entry in entries {
        let _ = writeln!(text, "  - {entry}");
    }
    text
}

/// How nftables looks a network up, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// A set of intervals, at input.
    Intervals,
    /// A set of networks and ports in one, at input.
    Concatenation,
    /// A set of intervals, before routing: behind connection tracking, where a drop is soonest.
    BeforeRouting,
}

/// For `nft -f`. What is dropped is counted.
pub(crate) fn ruleset(networks: &[Ipv4Addr], form: Form) -> String {
    let (set, matches) = match form {
        Form::Intervals | Form::BeforeRouting => {
            let elements = joined(networks, |network| format!("{network}/24"));
            let set = format!(
                "set peers {{ type ipv4_addr; flags interval; elements = {{ {elements} }}; }}\n  set listed {{ \
                 type inet_service; elements = {{ {LISTED}, {} }}; }}",
                LISTED + 1
            );
            (set, "tcp dport @listed ip saddr @peers")
        }
        Form::Concatenation => {
            let elements = joined(networks, |network| format!("{network}/24 . {LISTED}-{}", LISTED + 1));
            let set = format!(
                "set allowed {{ type ipv4_addr . inet_service; flags interval; elements = {{ {elements} }}; }}"
            );
            (set, "ip saddr . tcp dport @allowed")
        }
    };
    let hook = match form {
        Form::Intervals | Form::Concatenation => "input priority filter",
        Form::BeforeRouting => "prerouting priority mangle",
    };
    format!(
        "table inet sg {{\n  {set}\n  chain inbound {{\n    type filter hook {hook}; policy drop;\n    ct state \
         established,related accept\n    iifname \"lo\" accept\n    tcp dport {OPEN} accept\n    {matches} accept\n    \
         counter drop\n  }}\n  chain outbound {{\n    type filter hook output priority filter; policy drop;\n    ct state \
         established,related accept\n    oifname \"lo\" accept\n  }}\n}}\n"
    )
}

/// For `ipset restore`.
pub(crate) fn ipset(networks: &[Ipv4Addr], name: &str) -> String {
    let most = networks.len().max(1024).next_power_of_two();
    let mut text = format!("create {name} hash:net family inet hashsize {most} maxelem {most}\n");
    for network in networks {
        let _ = writeln!(text, "add {name} {network}/24");
    }
    text
}

/// For `iptables-restore`, with a set called `peers`.
pub(crate) fn iptables() -> String {
    format!(
        "*filter\n:INPUT DROP [0:0]\n:FORWARD DROP [0:0]\n:OUTPUT DROP [0:0]\n-A INPUT -m conntrack --ctstate \
         ESTABLISHED,RELATED -j ACCEPT\n-A INPUT -i lo -j ACCEPT\n-A INPUT -p tcp --dport {OPEN} -j ACCEPT\n-A INPUT -p \
         tcp -m multiport --dports {LISTED},{} -m set --match-set peers src -j ACCEPT\n-A OUTPUT -m conntrack \
         --ctstate ESTABLISHED,RELATED -j ACCEPT\n-A OUTPUT -o lo -j ACCEPT\nCOMMIT\n",
        LISTED + 1
    )
}
