//! What people see: the line, the caret, the right spelling.

use super::*;

fn shown(name: &str, text: &str) -> String {
    let loaded = parse_str(name, text, &Limits::default());
    let lines: Vec<_> = loaded.errors.iter().chain(&loaded.warnings).map(ToString::to_string).collect();
    lines.join("\n")
}

#[test]
fn the_caret_stands_under_the_place() {
    assert_eq!(
        shown(
            "policy.yaml",
            "version: 1\r\ngroups:\r\n  web:\r\n    inbound:\r\n      - {allow: htps, from: anywhere}\r\n"
        ),
        "policy.yaml:5:17: error: there is no service or protocol `htps`
          - {allow: htps, from: anywhere}
                    ^
    did you mean `https`?"
    );
}

#[test]
fn json_has_places_too() {
    let text = r#"{"version": 1, "groups": {"a\u0062\ud83d\ude00": {}, "b": {"description": "\ud83d\ude00\/\t", "inbond": []}}}"#;
    assert_eq!(
        told(text),
        [
            "1:27: error: `ab\u{1f600}` cannot name a group: a name has 1 to 63 letters, digits, `.`, `_` and `-`, and begins with a letter or digit",
            "1:95: error: unknown key `inbond` in group `b` → inbound",
        ]
    );
    assert_eq!(&text[94..96], "\"i", "the column counts the file's characters");
}

#[test]
fn an_alias_is_wrong_where_its_anchor_is() {
    check(&[(
        "version: 1\ngroups:\n  a: {members: &m [10.0.0.300]}\n  b: {members: *m}",
        &[
            "3:20: error: `10.0.0.300`: not an IPv4 or IPv6 address or CIDR",
            "3:20: error: `10.0.0.300`: not an IPv4 or IPv6 address or CIDR",
        ],
    )]);
}

#[test]
fn no_place_lies_past_the_end_of_its_line() {
    for text in ["%äääääääääääää\u{1}", "version: 1\n%äöü äöüäöüäöü", "a: \"ä\\xä"]
    {
        for of in parse_str("p.yaml", text, &Limits::default()).errors {
            let line = text.lines().nth(of.position.line - 1).unwrap_or_default();
            assert!(of.position.column <= line.chars().count() + 1, "{text:?}: {of}");
            assert!(of.caret <= of.source_line.chars().count(), "{text:?}: {of}");
        }
    }
}
