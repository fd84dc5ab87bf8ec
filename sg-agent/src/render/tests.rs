//! Golden rows: what people see, to the character.

use std::collections::BTreeMap;

use super::*;

mod plan;

use crate::view::{
    AgentStatus, Amount, Applied, AttachmentStatus, Audited, AuditedTraffic, ByGroup, ByInterface, ByReason,
    ByRule, Check, Counters, Detached, DirectionCounters, Drop, Explanation, Fill, Flow, FlowList,
    HookStatus, InterfaceCounters, MapFill, Plan, ReasonCounters, Repair, Repairs, RuleAnswer, RuleCounters,
    Status, Uncovered, UnlockedPort,
};

fn table<V: Show>(view: &V) -> String {
    let mut out = Vec::new();
    write(&mut out, Format::Table, Style::default(), view).unwrap();
    let text = String::from_utf8(out).unwrap();
    for line in text.lines() {
        assert!(line.chars().count() <= 100, "{} columns: {line}", line.chars().count());
        assert_eq!(line, line.trim_end(), "blanks at the end");
    }
    text
}

fn text(text: &str) -> String {
    text.to_owned()
}

fn amount(packets: u64) -> Amount {
    Amount { packets, bytes: packets * 60 }
}

fn by_interface() -> ByInterface {
    let inbound = DirectionCounters {
        allowed: amount(12_345_678),
        dropped: amount(3),
        reasons: BTreeMap::from([(text("martian"), amount(1)), (text("no_rule"), amount(2))]),
        ..DirectionCounters::default()
    };
    let outbound = DirectionCounters {
        allowed: amount(5),
        audited: amount(2),
        audited_reasons: BTreeMap::from([(text("no_rule"), amount(2))]),
        ..DirectionCounters::default()
    };
    let interface = |name: &str, mode: &str, inbound: &DirectionCounters| InterfaceCounters {
        name: text(name),
        ifindex: 4,
        side: text("host"),
        mode: text(mode),
        groups: vec![text("web")],
        inbound: inbound.clone(),
        outbound: outbound.clone(),
    };
    ByInterface {
        generation: 7,
        interfaces: vec![
            interface("eth0", "enforce", &inbound),
            interface("tap-fifteen-cha", "audit", &DirectionCounters::default()),
        ],
    }
}

#[test]
fn counters_by_interface() {
    assert_eq!(
        table(&Counters::Interfaces(by_interface())),
        "\
generation 7
INTERFACE        DIRECTION     ALLOWED        BYTES  DROPPED  BYTES  WHY
eth0             inbound    12 345 678  740 740 680        3    180  martian 1, no_rule 2
                 outbound            5          300        0      0  would drop: no_rule 2
tap-fifteen-cha  inbound             0            0        0      0
(audit)
                 outbound            5          300        0      0  would drop: no_rule 2
"
    );
    assert_eq!(
        table(&Counters::Interfaces(ByInterface { generation: 7, interfaces: vec![] })),
        "generation 7\nnothing is enforced on any interface\n"
    );
}

fn by_rule() -> ByRule {
    let rule = |rule: &str, id: Option<&str>, packets, last_hit: Option<&str>| RuleCounters {
        rule: text(rule),
        id: id.map(text),
        group: text(rule.split('/').next().unwrap()),
        direction: text(rule.split('/').nth(1).unwrap()),
        source: text("/etc/sg-agent/policy.d/10-a-long-name.yaml:22"),
        flows: packets / 5,
        packets,
        bytes: packets * 90,
        last_hit: last_hit.map(text),
    };
    ByRule {
        generation: 7,
        rules: vec![
            rule("web/inbound/0", None, 10, Some("2026-11-23T14:00:00Z")),
            rule("a-group-with-a-rather-long-name-as-people-like-them/outbound/17", Some("ssh-in"), 0, None),
        ],
    }
}

#[test]
fn counters_by_rule() {
    assert_eq!(
        table(&Counters::Rules(by_rule())),
        "\
generation 7
RULE                            SOURCE                  FLOWS  PACKETS  BYTES  LAST HIT (UTC)
web/inbound/0                   /etc/sg-agent/policy.d      2       10    900  2026-11-23 14:00:00
                                /10-a-long-name.yaml:2
                                2
a-group-with-a-rather-long-nam  /etc/sg-agent/policy.d      0        0      0  never
e-as-people-like-them/outbound  /10-a-long-name.yaml:2
/17 (ssh-in)                    2
"
    );
}

#[test]
fn counters_by_group() {
    assert_eq!(
        table(&Counters::Groups(ByGroup::from(&by_rule()))),
        "\
generation 7
GROUP                               DIRECTION  RULES  FLOWS  PACKETS  BYTES
a-group-with-a-rather-long-name-as  inbound        0      0        0      0
-people-like-them
                                    outbound       1      0        0      0
web                                 inbound        1      2       10    900
                                    outbound       0      0        0      0
"
    );
}

#[test]
fn counters_by_reason() {
    let reasons = ByReason {
        generation: 7,
        reasons: vec![ReasonCounters {
            reason: text("router_advertisement_from_guest"),
            summary: text("a guest may not act as an IPv6 router"),
            inbound: amount(1),
            outbound: amount(1_000_000),
            audited: amount(0),
        }],
    };
    assert_eq!(
        table(&Counters::Reasons(reasons)),
        "\
generation 7
REASON                           INBOUND   OUTBOUND  AUDITED       BYTES  MEANING
router_advertisement_from_guest        1  1 000 000        0  60 000 060  a guest may not act as
                                                                          an IPv6 router
"
    );
    assert_eq!(
        table(&Counters::Reasons(ByReason { generation: 7, reasons: vec![] })),
        "generation 7\nnothing was dropped\n"
    );
}

fn status() -> Status {
    let hook = |direction: &str, hook: &str, why: &str| HookStatus {
        direction: text(direction),
        hook: text(hook),
        mode: text("tcx"),
        why: text(why),
        other_programs: vec![],
    };
    let fill = |used, capacity| Fill { used, capacity };
    Status {
        agent: AgentStatus {
            files_refused: false,
            running: true,
            pid: Some(812),
            version: Some(text("0.1.0")),
            started: Some(text("2026-11-23T13:59:58Z")),
            policy: Some(text("/etc/sg-agent/policy.d")),
            watching: true,
            last_error: Some(text(
                "read the policy /etc/sg-agent/policy.d: it has 2 errors; nothing was changed; correct it and try again",
            )),
            last_diagnostics: vec![
                text("policy.d/a.yaml:3:5: error: unknown key `inbond`\n        inbond:\n        ^"),
                text("policy.d/b.yaml:1:1: error: cannot be read: not a regular file"),
            ],
        },
        generation: 7,
        applied: Some(text("2026-11-23T14:00:00Z")),
        confirm_by: None,
        unlocked: vec![UnlockedPort {
            service: text("tcp/22"),
            address: text("192.0.2.7"),
            interface: None,
            until: text("2026-11-23T14:10:00Z"),
        }],
        passed_unlocked: Amount { packets: 12, bytes: 720 },
        digest: Some("0123456789abcdef".repeat(4)),
        documents: vec![text("policy.yaml")],
        rules: 9,
        attachments: vec![AttachmentStatus {
            name: text("eth0"),
            ifindex: 4,
            zone: 0,
            entry: text("eth0"),
            side: text("host"),
            mode: text("audit"),
            audit_groups: vec![text("web")],
            groups: vec![text("web"), text("db")],
            addresses: vec![
                text("10.0.1.5/32"),
                text("2001:db8::5/128"),
                text("fe80::aaaa:bbbb:cccc:dddd/128"),
            ],
            source_check: true,
            infrastructure: ["arp", "ndp", "dhcp", "mld"].map(text).to_vec(),
            permit_ethertypes: vec![text("0x88cc")],
            hooks: vec![
                hook(
                    "inbound",
                    "tcx_ingress",
                    "native XDP on a veth takes segmentation offload from the stack",
                ),
                HookStatus {
                    other_programs: vec![text("cil_to_netdev (12)")],
                    ..hook("outbound", "tcx_egress", "")
                },
            ],
        }],
        maps: Some(MapFill {
            flows: fill(120, 262_144),
            image_nodes: fill(64, 65_536),
            rules: fill(9, 8192),
            zones: fill(1, 256),
        }),
        repairs: Repairs {
            by_kind: [(text("hook"), 1)].into(),
            count: 2,
            last: Some(Repair {
                time: text("2026-11-23T15:00:00Z"),
                interface: Some(text("eth0")),
                what: text("the program was gone from tcx_ingress"),
            }),
        },
        not_covered: vec![
            Uncovered { name: text("lo"), why: text("loopback is never filtered"), is_wanted: false },
            Uncovered {
                name: text("eth1"),
                why: text("no entry of the policy matches it"),
                is_wanted: false,
            },
        ],
        problems: vec![text(
            "wlan0: the XDP hook of wlan0 is occupied by program other (7); detach that program",
        )],
    }
}

#[test]
fn status_of_a_running_agent() {
    assert_eq!(
        table(&status()),
        "\
agent         running, process 812, version 0.1.0, since 2026-11-23T13:59:58Z
reloads from  /etc/sg-agent/policy.d, as its files change
last error    read the policy /etc/sg-agent/policy.d: it has 2 errors; nothing was changed; correct
              it and try again
              policy.d/a.yaml:3:5: error: unknown key `inbond`
              policy.d/b.yaml:1:1: error: cannot be read: not a regular file
generation    7, applied 2026-11-23T14:00:00Z
unlocked      tcp/22 for 192.0.2.7 on every interface until 2026-11-23T14:10:00Z, past the policy
by unlock     12 packets so far
policy        0123456789abcdef: 9 rules from policy.yaml

eth0 (host, audit (group web); index 4, zone 0, entry `eth0`)
  groups      web, db
  addresses   10.0.1.5/32, 2001:db8::5/128, fe80::aaaa:bbbb:cccc:dddd/128; source check
  passes      arp, ndp, dhcp, mld, 0x88cc
  inbound     tcx_ingress (tcx): native XDP on a veth takes segmentation offload from the stack
  outbound    tcx_egress (tcx); beside cil_to_netdev (12)

flows         120 of 262 144 (0.0 %)
image nodes   64 of 65 536 (0.1 %)
rules         9 of 8 192 (0.1 %)
zones         1 of 256 (0.4 %)

repairs       2; the latest at 2026-11-23T15:00:00Z: eth0: the program was gone from tcx_ingress

not covered   lo (loopback is never filtered), eth1 (no entry of the policy matches it)

problem       wlan0: the XDP hook of wlan0 is occupied by program other (7); detach that program
"
    );
}

#[test]
fn status_without_agent_or_policy() {
    let dead = Status { generation: 7, ..Status::default() };
    assert_eq!(
        table(&dead),
        "\
agent         not running; the kernel goes on enforcing
generation    7, applied ?
interfaces    none is covered
"
    );
    assert_eq!(
        table(&Status::default()),
        "\
agent         not running
policy        none: nothing is enforced
"
    );
}

fn explanation() -> Explanation {
    let rule = |rule: &str, allows, why: &str| RuleAnswer {
        rule: text(rule),
        source: text("policy.yaml:22"),
        allows,
        mismatch: None,
        why: text(why),
    };
    Explanation {
        verdict: text("allow"),
        via: Some(text("rule")),
        rule: Some(text("web/inbound/1")),
        source: Some(text("policy.yaml:22")),
        rule_id: Some(text("site")),
        interface: text("eth0"),
        direction: text("inbound"),
        tuple: text("tcp [2001:db8::1]:40000 -> [2001:db8::2]:443"),
        entry: Some(text("eth0")),
        mode: Some(text("enforce")),
        groups: vec![text("web")],
        generation: Some(7),
        rules: vec![
            rule("web/inbound/0", false, "opens tcp/22, tcp/80, tcp/8080-8090, icmp/echo-request and 3 more"),
            rule("web/inbound/1", true, "allows it"),
        ],
        ..Explanation::default()
    }
}

#[test]
fn explanations() {
    assert_eq!(
        table(&explanation()),
        "\
allow
packet        tcp [2001:db8::1]:40000 -> [2001:db8::2]:443 (inbound on eth0)
via           rule
rule          web/inbound/1 (site) at policy.yaml:22
entry         `eth0`, enforce, groups web
generation    7

RULE           SOURCE          SAYS
web/inbound/0  policy.yaml:22  no match: opens tcp/22, tcp/80, tcp/8080-8090, icmp/echo-request
                               and 3 more
web/inbound/1  policy.yaml:22  allows it
"
    );
    let dropped = Explanation {
        verdict: text("drop"),
        via: None,
        rule: None,
        reason: Some(text("martian")),
        note: Some(text("a source or destination that no host may use on the wire")),
        generation: None,
        ..explanation()
    };
    assert_eq!(
        table(&dropped),
        "\
drop: martian
              a source or destination that no host may use on the wire
packet        tcp [2001:db8::1]:40000 -> [2001:db8::2]:443 (inbound on eth0)
entry         `eth0`, enforce, groups web

RULE           SOURCE          SAYS
web/inbound/0  policy.yaml:22  no match: opens tcp/22, tcp/80, tcp/8080-8090, icmp/echo-request
                               and 3 more
web/inbound/1  policy.yaml:22  allows it
rules are asked after what dropped it
"
    );
}

#[test]
fn lists_and_reports() {
    let flow = Flow {
        interface: text("eth0"),
        direction: text("inbound"),
        protocol: text("tcp"),
        local: text("10.0.1.5"),
        local_port: 443,
        remote: text("203.0.113.9"),
        remote_port: 40_000,
        state: text("established"),
        inbound_packets: 10,
        outbound_packets: 9,
        idle_seconds: 3,
        ..Flow::default()
    };
    let ping = Flow {
        protocol: text("icmp"),
        direction: text("outbound"),
        local_port: 77,
        remote_port: 0,
        ..flow.clone()
    };
    assert_eq!(
        table(&FlowList { generation: 7, flows: vec![flow, ping] }),
        "\
generation 7, 2 flows
INTERFACE  FLOW                                   STATE        IN  OUT  IDLE
eth0       tcp 203.0.113.9:40000 -> 10.0.1.5:443  established  10    9   3 s
eth0       icmp 10.0.1.5 -> 203.0.113.9 id 77     established  10    9   3 s
"
    );
    let drop = Drop {
        time: text("2026-11-23T14:00:00.123Z"),
        interface: text("eth0"),
        direction: text("inbound"),
        protocol: Some(text("tcp")),
        source: Some(text("203.0.113.9")),
        source_port: 40_000,
        destination: Some(text("10.0.1.5")),
        destination_port: 22,
        reason: text("no_rule"),
        length: 60,
        audited: false,
    };
    assert_eq!(
        table(&drop),
        "\
2026-11-23T14:00:00.123Z eth0 inbound tcp 203.0.113.9:40000 -> 10.0.1.5:22 no_rule 60
"
    );
    let applied = Applied {
        generation: 8,
        changed: true,
        groups: 2,
        rules: 9,
        prefixes: 1204,
        bytes: 81_920,
        interfaces: vec![text("eth0"), text("tap0")],
        compile_ms: 1.25,
        publish_ms: 0.34,
        ..Applied::default()
    };
    assert_eq!(
        table(&applied),
        "\
generation 8 is in force
2 groups, 9 rules, 1 204 prefixes; compiled in 1.2 ms to 80 KiB, published in 0.3 ms
enforced on eth0, tap0
"
    );
    assert_eq!(
        table(&Applied { changed: false, ..applied.clone() }),
        "\
generation 8 is in force already
enforced on eth0, tap0
"
    );
    let told = table(&Applied { plan: Some(plan::plan()), ..applied.clone() });
    let (changes, report) = told.split_once("\n\n").unwrap();
    assert!(changes.starts_with("INTERFACES\n") && !changes.contains("SIZE"), "{changes}");
    assert!(changes.contains("3 of 1 234 live flows ended:"), "{changes}");
    assert!(report.starts_with("generation 8 is in force\n2 groups"), "{report}");
    let same = Plan { changed: false, ..Plan::default() };
    assert_eq!(table(&Applied { plan: Some(same), ..applied.clone() }), table(&applied), "nothing to tell");
    let detached = Detached { interfaces: vec![text("eth0")], all: true };
    assert_eq!(
        table(&detached),
        "\
no longer enforced on eth0; nothing is left in the kernel
"
    );
    let check = Check {
        groups: 2,
        rules: 9,
        prefixes: 1204,
        bytes: 81_920,
        read_ms: 2.0,
        compile_ms: 0.5,
        ..Check::default()
    };
    assert_eq!(
        table(&check),
        "\
valid: 2 groups, 9 rules, 1 204 prefixes, 0 warnings
read in 2.0 ms, compiled in 0.5 ms to 80 KiB
"
    );
}

#[test]
fn colour_only_where_it_is_wanted() {
    let coloured = |colour| {
        let mut out = Vec::new();
        write(&mut out, Format::Table, Style { colour }, &status()).unwrap();
        write(&mut out, Format::Table, Style { colour }, &Counters::Interfaces(by_interface())).unwrap();
        String::from_utf8(out).unwrap().contains('\x1b')
    };
    assert!(coloured(true));
    assert!(!coloured(false));
}

#[test]
fn json_and_yaml_are_the_view() {
    let written = |format, many| {
        let mut out = Vec::new();
        let view = Counters::Interfaces(by_interface());
        if many {
            write_next(&mut out, format, Style::default(), &view).unwrap();
        } else {
            write(&mut out, format, Style::default(), &view).unwrap();
        }
        String::from_utf8(out).unwrap()
    };
    let expected = serde_json::to_value(by_interface()).unwrap();
    for many in [false, true] {
        let json = written(Format::Json, many);
        assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap(), expected);
        assert_eq!(json.lines().count() == 1, many, "one of many is a line");
        let yaml = written(Format::Yaml, many);
        assert_eq!(serde_saphyr::from_str::<serde_json::Value>(&yaml).unwrap(), expected);
        assert_eq!(yaml.starts_with("---\n"), many);
    }
}

#[test]
fn what_was_audited_is_one_line_a_service() {
    let line =
        |service: Option<&str>, reason: &str, remotes: &[&str], remote_count, packets| AuditedTraffic {
            interface: text("eth0"),
            direction: text("inbound"),
            service: service.map(text),
            reason: text(reason),
            remotes: remotes.iter().map(|remote| text(remote)).collect(),
            remote_count,
            packets,
            bytes: packets * 60,
            first_seen: text("2026-11-23T14:00:00Z"),
            last_seen: text("2026-11-23T15:00:00Z"),
        };
    let audited = Audited {
        loses: true,
        lost: vec![
            line(
                Some("tcp/443"),
                "no_rule",
                &["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"],
                1204,
                90_000,
            ),
            line(None, "martian", &[], 0, 1),
        ],
        passes: Amount { packets: 7, bytes: 420 },
        ..Audited::default()
    };
    assert_eq!(
        table(&audited),
        "\
INTERFACE  DIRECTION  SERVICE     REASON   PACKETS  LAST SEEN (UTC)
eth0       inbound    tcp/443     no_rule   90 000  2026-11-23 15:00:00
eth0       inbound    unreadable  martian        1  2026-11-23 15:00:00

eth0 tcp/443 from 192.0.2.1, 192.0.2.2, 192.0.2.3 … and 1 201 more
7 packets would pass by now
"
    );
    let nothing = Audited { is_full: true, ..Audited::default() };
    assert_eq!(
        table(&nothing),
        "\
more kinds of traffic were seen than are remembered; the longest unseen are forgotten
nothing that was seen under audit would be lost; 0 packets would pass by now
"
    );
}
