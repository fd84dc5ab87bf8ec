//! Documents and what they give, in rows.

use super::*;

mod errors;
mod forms;
mod hostile;
mod merging;
mod places;
mod warned;

/// What a text gives, one line each: `LINE:COLUMN: severity: message → suggestion`.
fn told(text: &str) -> Vec<String> {
    let loaded = parse_str("p.yaml", text, &Limits::default());
    assert_eq!(loaded.policy.is_some(), loaded.errors.is_empty(), "{text}");
    loaded.errors.iter().chain(&loaded.warnings).map(line).collect()
}

fn line(of: &Diagnostic) -> String {
    let Diagnostic { position, severity, message, suggestion, .. } = of;
    let suggestion = suggestion.as_ref().map_or_else(String::new, |text| format!(" → {text}"));
    format!("{}:{}: {severity}: {message}{suggestion}", position.line, position.column)
}

/// A policy that must be valid.
fn policy(text: &str) -> Policy {
    let loaded = parse_str("p.yaml", text, &Limits::default());
    assert_eq!(loaded.errors, [], "{text}");
    loaded.policy.unwrap()
}

fn check(rows: &[(&str, &[&str])]) {
    for (text, expected) in rows {
        assert_eq!(told(text), *expected, "\n{text}");
    }
}
