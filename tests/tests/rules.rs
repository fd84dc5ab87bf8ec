//! What rules open and what they leave closed, by real TCP, UDP and ping. A row that is silent is
//! counted as one dropped packet; the same probe is answered in another row.

use Direction::{In, Out};
use anyhow::{Context as _, Result};
use sg_tests::{
    each_setup,
    lab::{Arena, Outcome, Probe, Setup, arena::Family},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    In,
    Out,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    Neither,
    Only4,
    Only6,
    Both,
}
use Which::{Both, Neither, Only4, Only6};

type Row = (Direction, Probe, Which);

each_setup! {
    rules_open_what_they_name
    addresses_are_matched_by_family_and_prefix
    outbound_is_open_unless_rules_are_written
}

const TCP: Probe = Probe::Tcp(443);
const UDP: Probe = Probe::Udp(443);
const PING: Probe = Probe::Ping;

fn rules_open_what_they_name(setup: Setup) -> Result<()> {
    check(
        setup,
        &[
            ("inbound: []", &[(In, TCP, Neither), (In, UDP, Neither), (In, PING, Neither)]),
            (
                "inbound: [{allow: https, from: anywhere}]",
                &[(In, TCP, Both), (In, Probe::Tcp(80), Neither), (In, UDP, Neither), (In, PING, Neither)],
            ),
            ("inbound: [{allow: udp/443, from: anywhere}]", &[(In, UDP, Both), (In, TCP, Neither)]),
            (
                "inbound: [{allow: tcp/8000-8010, from: anywhere}]",
                &[
                    (In, Probe::Tcp(7999), Neither),
                    (In, Probe::Tcp(8000), Both),
                    (In, Probe::Tcp(8010), Both),
                    (In, Probe::Tcp(8011), Neither),
                ],
            ),
            (
                "inbound: [{allow: [tcp/80, udp/53], from: anywhere}, {allow: tcp/81, from: anywhere}]",
                &[(In, Probe::Tcp(80), Both), (In, Probe::Tcp(81), Both), (In, Probe::Udp(53), Both)],
            ),
            (
                "inbound: [{allow: all, from: anywhere}]",
                &[(In, TCP, Both), (In, UDP, Both), (In, PING, Both)],
            ),
            ("inbound: [{allow: icmp/echo-request, from: anywhere-ipv4}]", &[(In, PING, Only4)]),
            ("inbound: [{allow: icmpv6/echo-request, from: anywhere-ipv6}]", &[(In, PING, Only6)]),
            ("inbound: [{allow: icmp/3, from: anywhere-ipv4}]", &[(In, PING, Neither)]),
        ],
    )
}

fn addresses_are_matched_by_family_and_prefix(setup: Setup) -> Result<()> {
    check(
        setup,
        &[
            ("inbound: [{allow: all, from: 0.0.0.0/0}]", &[(In, TCP, Only4), (In, PING, Only4)]),
            ("inbound: [{allow: all, from: \"::/0\"}]", &[(In, TCP, Only6), (In, PING, Only6)]),
            ("inbound: [{allow: all, from: anywhere-ipv4}]", &[(In, UDP, Only4)]),
            ("inbound: [{allow: https, from: [PEER]}]", &[(In, TCP, Both)]),
            ("inbound: [{allow: https, from: [INSTANCE]}]", &[(In, TCP, Neither)]),
            ("inbound: [{allow: https, from: [10.88.0.0/24, \"fd88::/64\"]}]", &[(In, TCP, Both)]),
            ("inbound: [{allow: https, from: [10.88.1.0/24, \"fd88:1::/64\"]}]", &[(In, TCP, Neither)]),
            ("members: [PEER], inbound: [{allow: https, from: group:g}]", &[(In, TCP, Both)]),
            ("members: [192.0.2.1], inbound: [{allow: https, from: group:g}]", &[(In, TCP, Neither)]),
        ],
    )
}

fn outbound_is_open_unless_rules_are_written(setup: Setup) -> Result<()> {
    check(
        setup,
        &[
            ("inbound: []", &[(Out, TCP, Both), (Out, UDP, Both), (Out, PING, Both)]),
            ("outbound: []", &[(Out, TCP, Neither), (Out, UDP, Neither), (Out, PING, Neither)]),
            (
                "outbound: [{allow: tcp/443, to: [PEER]}]",
                &[(Out, TCP, Both), (Out, Probe::Tcp(80), Neither), (Out, UDP, Neither), (In, TCP, Neither)],
            ),
            // An answer goes out without an outbound rule.
            (
                "inbound: [{allow: [https, udp/443], from: anywhere}], outbound: []",
                &[(In, TCP, Both), (In, UDP, Both), (Out, TCP, Neither)],
            ),
        ],
    )
}

fn check(setup: Setup, policies: &[(&str, &[Row])]) -> Result<()> {
    let arena = Arena::start(setup, "inbound: []")?;
    for (rules, rows) in policies {
        arena.apply(rules)?;
        for (direction, probe, which) in *rows {
            for family in Family::ALL {
                let passes = match family {
                    Family::V4 => matches!(which, Only4 | Both),
                    Family::V6 => matches!(which, Only6 | Both),
                };
                try_one(&arena, *direction, *probe, family, passes)
                    .with_context(|| format!("{rules}: {direction:?} {probe:?} {family:?}"))?;
            }
        }
    }
    Ok(())
}

fn try_one(arena: &Arena, direction: Direction, probe: Probe, family: Family, passes: bool) -> Result<()> {
    let run = || match direction {
        In => arena.inbound(probe, family),
        Out => arena.outbound(probe, family),
    };
    let name = if direction == In { "inbound" } else { "outbound" };
    let (outcome, expected) = if passes {
        let before = arena.counters()?;
        let outcome = run()?;
        let moved = arena.counters()?.since(&before)?;
        for (counter, count) in &moved.0 {
            assert_eq!(counter.2, "allowed", "{count:?} counted for a probe that passes");
        }
        (outcome, Outcome::Answered)
    } else {
        (arena.counted(&[(name, "no_rule", 1)], run)?, Outcome::Silent)
    };
    assert_eq!(outcome, expected);
    Ok(())
}
