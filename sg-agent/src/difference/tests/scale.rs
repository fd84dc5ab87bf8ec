//! Policies that would take too long if the time grew faster than they do.

use std::{fmt::Write as _, time::Instant};

use super::*;

/// Rules over lists that hold a hundred thousand prefixes, the first port being `from`.
fn large(rules: u32, prefixes: u32, from: u32) -> Policy {
    let mut text = String::from("prefix_lists:\n");
    for list in 0..100 {
        write!(text, "  l{list}: {{entries: [").unwrap();
        for entry in 0..prefixes / 100 {
            let [_, a, b, c] = ((list * (prefixes / 100) + entry) * 2).to_be_bytes();
            write!(text, "{}.{b}.{c}.0/24, ", 100 + a).unwrap();
        }
        text.push_str("]}\n");
    }
    text.push_str("groups:\n  g:\n    outbound: []\n    inbound:\n");
    for port in from..from + rules {
        writeln!(text, "      - {{allow: tcp/{port}, from: list:l{}}}", port % 100).unwrap();
    }
    policy(&text)
}

#[test]
fn ten_thousand_rules_over_a_hundred_thousand_prefixes_are_compared_at_once() {
    let (before, after) = (large(10_000, 100_000, 1), large(10_000, 100_000, 2));
    let start = Instant::now();
    let (old, new) = (Membership::written(&before), Membership::written(&after));
    let change = change(reach(&before, &old), reach(&after, &new), Direction::Inbound).unwrap();
    let took = start.elapsed();
    // Port 1 is lost to list 1, port 10 001 gained by the same.
    let [lost] = &change.losses[..] else { panic!("{} lines", change.losses.len()) };
    let [gained] = &change.gains[..] else { panic!("{} lines", change.gains.len()) };
    assert_eq!(
        (lost.services(), gained.services()),
        (vec!["tcp/1".to_owned()], vec!["tcp/10001".to_owned()])
    );
    assert_eq!(lost.addresses(usize::MAX).0.len(), 1000);
    assert_eq!(lost.addresses(usize::MAX), gained.addresses(usize::MAX));
    // A fraction of a second where it is optimised; what grows with the square takes hours.
    assert!(took.as_secs() < 20, "{took:?}");
}
