//! Makes a failing case small: fewer steps first, then a simpler policy.

use super::case::{Case, Step};

/// The smallest case found for which `fails` still holds, as it does for `case`.
///
/// Delta debugging: halves, quarters and so on are left out until no single step can be; then the
/// same with the lines of every policy that can be missed.
pub fn shrink(case: &Case, mut fails: impl FnMut(&Case) -> bool) -> Case {
    let mut case = case.clone();
    loop {
        let before = case.steps.len();
        let steps = without(&case.steps[1..], |steps| {
            let steps = case.steps[..1].iter().chain(steps).cloned().collect();
            fails(&Case { steps, ..case.clone() })
        });
        case.steps.truncate(1);
        case.steps.extend(steps);
        for number in 0..case.steps.len() {
            simplify(&mut case, number, &mut fails);
        }
        if case.steps.len() == before {
            return case;
        }
    }
}

/// What is left of `items` when as many as possible are left out while `fails` holds.
fn without<T: Clone>(items: &[T], mut fails: impl FnMut(&[T]) -> bool) -> Vec<T> {
    let mut items = items.to_vec();
    let mut chunk = items.len().div_ceil(2).max(1);
    loop {
        let mut at = 0;
        while at < items.len() {
            let end = (at + chunk).min(items.len());
            let rest: Vec<T> = items[..at].iter().chain(&items[end..]).cloned().collect();
            if fails(&rest) {
                items = rest;
            } else {
                at = end;
            }
        }
        if chunk == 1 {
            return items;
        }
        chunk = chunk.div_ceil(2);
    }
}

/// Leaves out what can be missed of the policy that step `number` is, if it is one.
fn simplify(case: &mut Case, number: usize, fails: &mut impl FnMut(&Case) -> bool) {
    let Step::Policy(document) = case.steps[number].clone() else { return };
    let lines: Vec<String> = document.lines().map(str::to_owned).collect();
    let optional: Vec<usize> = (0..lines.len()).filter(|at| is_optional(&lines[*at])).collect();
    let with = |kept: &[usize]| {
        let kept = |at: &usize| !optional.contains(at) || kept.contains(at);
        let lines: Vec<_> = (0..lines.len()).filter(kept).map(|at| lines[at].clone()).collect();
        Step::Policy(written(&lines))
    };
    let mut candidate = case.clone();
    let kept = without(&optional, |kept| {
        candidate.steps[number] = with(kept);
        fails(&candidate)
    });
    case.steps[number] = with(&kept);
}

/// Whether a document is one without this line: a rule, or a setting of the interface.
fn is_optional(line: &str) -> bool {
    let setting = line.strip_prefix("    ").unwrap_or("");
    line.starts_with("      - {allow")
        || ["mode:", "source_check:", "infrastructure:", "permit_ethertypes:"]
            .iter()
            .any(|key| setting.starts_with(key))
}

/// The lines of a document, in which a list that has lost all of its rules is an empty one.
fn written(lines: &[String]) -> String {
    let mut text = String::new();
    for (at, line) in lines.iter().enumerate() {
        let is_list = ["    inbound:", "    outbound:"].contains(&line.as_str());
        let has_rules = lines.get(at + 1).is_some_and(|next| next.starts_with("      - "));
        text.push_str(line);
        text.push_str(if is_list && !has_rules { " []\n" } else { "\n" });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = "version: 1\ngroups:\n  a:\n    inbound:\n      - {allow: tcp, from: anywhere}\n      \
                            - {allow: udp, from: anywhere}\ninterfaces:\n  - match: eth0\n    groups: [a]\n    \
                            mode: audit\n";

    fn case(steps: Vec<Step>) -> Case {
        Case { keeps_flows: false, buckets: 1, timeouts: [1; 8], steps }
    }

    #[test]
    fn what_does_not_matter_is_left_out() {
        let mut steps = vec![Step::Policy(DOCUMENT.to_owned())];
        steps.extend((0..100).map(Step::Wait));
        let small = shrink(&case(steps), |case| {
            let waits = |ticks| case.steps.contains(&Step::Wait(ticks));
            let Step::Policy(document) = &case.steps[0] else { return false };
            waits(17) && waits(80) && document.contains("udp")
        });
        let expected =
            DOCUMENT.replace("      - {allow: tcp, from: anywhere}\n", "").replace("    mode: audit\n", "");
        assert_eq!(small.steps, [Step::Policy(expected), Step::Wait(17), Step::Wait(80)]);
    }

    #[test]
    fn a_list_without_rules_is_an_empty_one() {
        let steps = vec![Step::Policy(DOCUMENT.to_owned())];
        let small = shrink(&case(steps), |_| true);
        let [Step::Policy(document)] = &small.steps[..] else { panic!("{small}") };
        assert!(document.contains("    inbound: []\n") && !document.contains("allow"), "{document}");
    }
}
