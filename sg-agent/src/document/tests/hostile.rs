//! Documents that want to cost time, memory or the process.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

/// The errors under these limits, which must come soon.
fn refused(text: &str, limits: Limits) -> Vec<String> {
    let start = Instant::now();
    let loaded = parse_str("p.yaml", text, &limits);
    // Without optimisation, on a busy machine.
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
    assert!(loaded.policy.is_none());
    loaded.errors.iter().map(|of| of.message.clone()).collect()
}

#[test]
fn every_limit_refuses() {
    let limits = Limits::default();
    let groups = "version: 1\ngroups: {a: &a {tags: {x: y, z: y}}, b: *a, c: *a}";
    assert_eq!(told(groups).iter().filter(|line| line.contains("error")).count(), 0);
    for (limits, text, message) in [
        (Limits { bytes: 10, ..limits }, "version: 1\n", "larger than the 10 bytes"),
        (Limits { document_bytes: 10, ..limits }, "version: 1\n", "larger than the 10 bytes"),
        (Limits { nodes: 10, ..limits }, groups, "more than 10 values"),
        (Limits { nodes: 20, ..limits }, groups, "more than 20 values"),
        (Limits { aliased_nodes: 10, ..limits }, groups, "aliases repeat more than 10 values"),
        (Limits { depth: 3, ..limits }, groups, "nested more than 3 deep"),
        (Limits { diagnostics: 2, ..limits }, "version: 1\na: 1\nb: 1\nc: 1", "further ones are not shown"),
    ] {
        let errors = refused(text, limits);
        assert!(errors.last().is_some_and(|last| last.contains(message)), "{message}: {errors:?}");
    }
    let parsed =
        parse_with(&[("a", "version: 1"), ("b", "version: 1")], &NoFiles, &Limits { bytes: 15, ..limits });
    assert_eq!(&*parsed.errors[0].position.file, "b");
}

#[test]
fn a_file_name_cannot_steer_a_terminal() {
    let loaded = parse_str("a\u{1b}[2J\n.yaml", "version: 1\nversion: 1", &Limits::default());
    let [error] = loaded.errors.as_slice() else { panic!("{:?}", loaded.errors) };
    assert_eq!(&*error.position.file, "a\u{fffd}[2J\u{fffd}.yaml");
    assert!(error.message.ends_with("the first is at a\u{fffd}[2J\u{fffd}.yaml:1:1"), "{}", error.message);
}

#[test]
fn list_files_count_against_the_bytes() {
    struct Endless;
    impl Files for Endless {
        fn read(&self, _: &std::path::Path, limit: usize) -> std::io::Result<Vec<u8>> {
            Ok(vec![b'#'; limit + 1])
        }
    }
    let text = "version: 1\nprefix_lists: {a: {file: /dev/zero}}";
    let limits = Limits { bytes: 100, ..Limits::default() };
    let loaded = parse_with(&[("p.yaml", text)], &Endless, &limits);
    assert_eq!(loaded.errors.len(), 1);
    assert!(loaded.errors[0].message.contains("larger than the 53 bytes"), "{}", loaded.errors[0].message);
}

#[test]
fn a_billion_laughs() {
    let mut text = String::from("version: 1\ntags:\n  a0: &a0 [lol, lol]\n");
    for level in 1..64 {
        let below = level - 1;
        text.push_str(&format!("  a{level}: &a{level} [*a{below}, *a{below}, *a{below}, *a{below}]\n"));
    }
    let errors = refused(&text, Limits::default());
    assert!(
        errors[0].contains("aliases repeat more than") || errors[0].contains("nested more than"),
        "{errors:?}"
    );
}

#[test]
fn a_million_levels() {
    for open in ["[", "{a: ", "- ", "? ", "{? ", "[[a]: "] {
        let errors =
            refused(&format!("version: 1\ngroups:\n  {}", open.repeat(1_000_000)), Limits::default());
        assert!(!errors.is_empty(), "{open}");
    }
    let text: String = (0..2000).map(|level| format!("{}a:\n", " ".repeat(level))).collect();
    let errors = refused(&text, Limits::default());
    assert!(errors[0].contains("nested more than 32 deep"), "{errors:?}");
}

#[test]
fn huge_scalars_and_keys() {
    let huge = "x".repeat(8 << 20);
    let errors = refused(
        &format!("version: 1\n{huge}: 1\ngroups: {{\"{huge}\": {{}}}}"),
        Limits { document_bytes: 32 << 20, ..Limits::default() },
    );
    assert!(errors.iter().all(|error| error.len() < 300), "messages are cut");
}

#[test]
fn a_million_errors_cost_what_a_thousand_do() {
    let items = "tpc/80, ".repeat(200_000);
    let text = format!("version: 1\ngroups: {{g: {{inbound: [{{allow: [{items}], from: [{items}]}}]}}}}");
    assert_eq!(refused(&text, Limits::default()).len(), Limits::default().diagnostics + 1);
}

#[test]
fn many_tokens_before_the_first_value() {
    // A parser keeps all of `[…]` until it knows that it is no key.
    for item in ["a,", "[],", "\"\"", "*a ", "&a ", "!a ", "? ,"] {
        let text = format!("[[{}", item.repeat(4_000_000 / item.len()));
        let errors = refused(&text, Limits { nodes: 100_000, ..Limits::default() });
        assert_eq!(errors.len(), 1, "{item}: {errors:?}");
    }
}

#[test]
fn many_rules_that_cover_each_other_are_compared_for_a_while_only() {
    let rules: String = (0..400).map(|port| format!("{{allow: tcp/0-{port}, from: 10.0.0.0/8}},")).collect();
    let text =
        format!("version: 1\ngroups: {{g: {{inbound: [{rules}]}}}}\ninterfaces: [{{match: a, groups: g}}]");
    let loaded = parse_str("p.yaml", &text, &Limits { comparisons: 100, ..Limits::default() });
    assert!(loaded.policy.is_some());
    assert!(loaded.warnings.iter().any(|of| of.message.contains("too many rules")), "{:?}", loaded.warnings);
    let loaded = parse_str("p.yaml", &text, &Limits::default());
    assert_eq!(loaded.warnings.len(), 399);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_text_is_read_or_refused(text in any::<String>()) {
        let loaded = parse_str("p.yaml", &text, &Limits::default());
        prop_assert_eq!(loaded.policy.is_some(), loaded.errors.is_empty());
    }

    /// Words and signs of documents in any order come deeper than any text does.
    #[test]
    fn any_words_are_read_or_refused(words in prop::collection::vec(prop::sample::select(vec![
        "version: 1\n", "groups:", "g", "inbound", "outbound", "allow", "from", "to", "interfaces", "match",
        "prefix_lists", "entries", "file", "services", ": ", "- ", "[", "]", "{", "}", ", ", "\n", "\n  ", "\n    ",
        "&a ", "*a", "!t ", "\"", "'", "#", "|", ">", "---", "?", "<<", "https", "tcp/80-90", "10.0.0.1/8", "::/0",
        "list:l", "group:g", "anywhere", "icmp/3/4", "\t", "\\ud83d\\ude00", "\u{feff}", "\0", "0x88cc", "null", "~",
    ]), 0..60)) {
        let text = words.concat();
        let loaded = parse_str("p.yaml", &text, &Limits::default());
        prop_assert_eq!(loaded.policy.is_some(), loaded.errors.is_empty());
        for of in loaded.errors.iter().chain(&loaded.warnings) {
            prop_assert!(of.position.line > 0 && of.position.column > 0);
            prop_assert!(!of.to_string().contains('\0'));
        }
    }

    /// One character taken from, or put into, a valid document.
    #[test]
    fn a_damaged_document_is_read_or_refused(place in any::<prop::sample::Index>(), with in proptest::option::of(any::<char>())) {
        let text = include_str!("../../../../examples/all-forms.yaml");
        let at = place.index(text.chars().count());
        let damaged: String = text.chars().take(at).chain(with).chain(text.chars().skip(at + 1)).collect();
        let loaded = parse_str("p.yaml", &damaged, &Limits::default());
        prop_assert_eq!(loaded.policy.is_some(), loaded.errors.is_empty());
    }
}
