//! What people see of a plan.

use super::{table, text};
use crate::view::{
    AccessChange, AccessLine, Coverage, CutFlow, FlowChange, Plan, PlannedInterface, PlannedRule,
    RuleChanges, SettingChange, Size, SizeChange,
};

fn rule(rule: &str, says: &str, was: Option<&str>) -> PlannedRule {
    PlannedRule {
        rule: text(rule),
        id: was.map(|_| text("office")),
        source: text("policy.yaml:9"),
        says: text(says),
        was: was.map(text),
    }
}

pub(super) fn plan() -> Plan {
    let interface =
        |name: &str, coverage, settings| PlannedInterface { name: text(name), coverage, settings };
    let mode = SettingChange { name: text("mode"), before: text("audit"), after: text("enforce") };
    let line = |services: &[&str], addresses: Vec<String>, more_addresses| AccessLine {
        services: services.iter().copied().map(text).collect(),
        addresses,
        more_addresses,
    };
    let many = (0..20).map(|number| format!("198.51.100.{}/32", number * 2)).collect();
    Plan {
        changed: true,
        generation: 7,
        interfaces: vec![
            interface("eth0", Coverage::Stays, vec![mode]),
            interface("eth1", Coverage::Ends, vec![]),
            interface("tap0", Coverage::Begins, vec![]),
        ],
        access: vec![AccessChange {
            interfaces: vec![text("eth0"), text("eth2")],
            direction: text("inbound"),
            gains: vec![line(&["tcp/443", "udp/443"], vec![text("anywhere")], 0)],
            losses: vec![line(&["tcp/22"], many, 5)],
        }],
        rules: RuleChanges {
            added: vec![rule("web/inbound/1", "allow tcp/443, udp/443 from anywhere", None)],
            removed: vec![rule("web/inbound/0", "allow tcp/22 from list:office", None)],
            changed: vec![rule(
                "web/inbound/2",
                "allow tcp/80 from anywhere",
                Some("allow tcp/81 from anywhere"),
            )],
        },
        flows: FlowChange {
            live: 1234,
            cut: 3,
            kept: 1,
            first: vec![
                CutFlow {
                    interface: text("eth0"),
                    direction: text("inbound"),
                    protocol: text("tcp"),
                    source: text("2001:db8::7"),
                    source_port: 40_000,
                    destination: text("2001:db8::1"),
                    destination_port: 22,
                    rule: Some(text("web/inbound/0")),
                },
                CutFlow {
                    interface: text("eth0"),
                    direction: text("outbound"),
                    protocol: text("gre"),
                    source: text("192.0.2.1"),
                    destination: text("192.0.2.9"),
                    ..CutFlow::default()
                },
            ],
        },
        size: SizeChange {
            now: Size { bytes: 81_920, rules: 9, prefixes: 1204 },
            then: Size { bytes: 512, rules: 1, prefixes: 1 },
        },
        ..Plan::default()
    }
}

#[test]
fn a_plan_tells_what_comes_and_what_goes() {
    assert_eq!(
        table(&plan()),
        "\
generation 7 is in force
INTERFACES
~ eth0 mode: audit -> enforce
- eth1 is not covered any more: everything passes
+ tap0 is covered from then on: only what its rules allow passes
ACCESS
eth0, eth2 inbound
+ tcp/443, udp/443 from anywhere
- tcp/22 from 198.51.100.0/32, 198.51.100.2/32, 198.51.100.4/32, 198.51.100.6/32, 198.51.100.8/32,
    198.51.100.10/32, 198.51.100.12/32, 198.51.100.14/32, 198.51.100.16/32, 198.51.100.18/32,
    198.51.100.20/32, 198.51.100.22/32 … and 13 more
RULES
+ web/inbound/1 policy.yaml:9: allow tcp/443, udp/443 from anywhere
- web/inbound/0 policy.yaml:9: allow tcp/22 from list:office
~ web/inbound/2 (office) policy.yaml:9: allow tcp/80 from anywhere; it was: allow tcp/81 from
    anywhere
FLOWS
3 of 1 234 live flows would end:
- eth0 inbound tcp [2001:db8::7]:40000 -> [2001:db8::1]:22: web/inbound/0 admitted it
- eth0 outbound gre 192.0.2.1 -> 192.0.2.9: no rule admitted it: it was open before
… and 1 more
1 flow no rule admits any more: on_change is keep, so it lives on
SIZE
now 80 KiB (9 rules, 1 204 prefixes), then 512 B (1 rule, 1 prefix)
"
    );
}

#[test]
fn a_plan_without_changes_says_so() {
    let unchanged = Plan { generation: 7, ..Plan::default() };
    assert_eq!(table(&unchanged), "nothing would change: generation 7 is in force\n");
    assert_eq!(table(&Plan::default()), "nothing would change: nothing is in force\n");
}
