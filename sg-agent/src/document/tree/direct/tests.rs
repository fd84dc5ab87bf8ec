//! The short way and the parser give the same tree, or there is no short way.

use proptest::prelude::*;

use super::*;
use crate::document::{report::Report, surrogates::Text, tree::Tree};

mod written;

/// A tree as text, with every place.
fn shown(tree: &Tree<'_>, id: NodeId, to: &mut String) {
    let node = tree.node(id);
    to.push_str(&format!("@{}:{}", node.at.line, node.at.column));
    match &node.value {
        Value::Scalar(text, is_plain) => to.push_str(&format!("{text:?}/{is_plain} ")),
        Value::Sequence(items) => {
            to.push_str("[ ");
            items.iter().for_each(|item| shown(tree, *item, to));
            to.push_str("] ");
        }
        Value::Mapping(entries) => {
            to.push_str("{ ");
            for Entry { key, at, value } in entries {
                to.push_str(&format!("@{}:{}{key:?}: ", at.line, at.column));
                shown(tree, *value, to);
            }
            to.push_str("} ");
        }
    }
}

fn whole(tree: &Tree<'_>) -> String {
    let mut to = String::new();
    shown(tree, tree.root(), &mut to);
    to
}

/// What each way says; the short one nothing where it does not apply.
fn both(text: &str, limits: Limits) -> (Option<String>, Result<String, Vec<String>>) {
    let short = read(text, 0, &limits).map(|(nodes, root)| whole(&Tree { nodes, root }));
    let mut report = Report::new(limits);
    let source = report.add_source("p.yaml".to_owned(), Vec::new());
    let text = Text::new(text);
    let long = Tree::parse_any(&text, source, &mut report).map(|tree| whole(&tree));
    let (errors, _, _) = report.finish();
    match long {
        Some(long) if errors.is_empty() => (short, Ok(long)),
        _ => (short, Err(errors.into_iter().map(|error| error.message).collect())),
    }
}

fn agree(text: &str) -> Result<(), TestCaseError> {
    if let (Some(short), long) = both(text, Limits::default()) {
        prop_assert_eq!(Ok(short), long, "{}", text);
    }
    Ok(())
}

#[test]
fn what_policies_are_written_in_goes_the_short_way() {
    for text in [
        "version: 1\n",
        "---\n# a comment\nversion: 1 # and one more\n\ngroups: {}\n",
        "a:\n  b: [10.0.0.0/8, ::1, ::/0, 2001:db8::/32]\n  c:\n  - x\n  - y: 1\n    z: two words\n",
        "a:\n  - {allow: tcp/443, from: [list:l, group:g]}\n  - allow: [ssh]\n    from: anywhere\n",
        "a: [\n    # a list of its own\n    b, # with remarks: ä\n    c,\n  ]\nd: 'quoted: #'\ne: \"as well\"\n",
        "a:\nb:\n  c:\n",
        "{\"a\": [1, 2, {\"b\": \"c\"}], \"d\":{}}",
        "{\n  \"a\": {\n    \"b\": [\n      \"c\"\n    ]\n  }\n}\n",
        "a:\n  -\n    b: 1\n  - - c\n    - d\n",
    ] {
        let (short, long) = both(text, Limits::default());
        assert!(short.is_some(), "{text}");
        assert_eq!(Ok(short.unwrap()), long, "{text}");
    }
}

#[test]
fn whatever_is_not_certain_is_for_the_parser() {
    for text in [
        "",
        "# nothing\n",
        "a: &x 1\nb: *x\n",
        "a: !!str 1\n",
        "a: |\n  text\n",
        "a: two\n  lines\n",
        "a: [two\n  lines]\n",
        "a: \"\\u0041\"\n",
        "a: 'it''s'\n",
        "a: 1\na: 2\n",
        "<<: {a: 1}\n",
        "a: 1\n---\nb: 2\n",
        "a: 1\n...\n",
        "a:\n\t- b\n",
        "a: 1\r\nb: 2\r\n",
        "a: [b\n",
        "a: [b]]\n",
        "a: {b: 1, b: 2}\n",
        "a: [b: c]\n",
        "? a\n: b\n",
        "a: b: c\n",
        "a: ä\n",
        "\u{feff}a: 1\n",
        "  a: 1\n b: 2\n",
        "a: 1\n- b\n",
        "a: {b, c}\n",
        "a: [b]#c\n",
        "%YAML 1.2\n---\na: 1\n",
        "{a:[]}\n",
        "{a:{}}\n",
        "b: [{a:[c]}]\n",
    ] {
        assert!(read(text, 0, &Limits::default()).is_none(), "{text}");
    }
}

#[test]
fn a_key_is_as_long_as_the_parser_has_it() {
    // (before the key, what it is made of, behind it)
    for (before, key, behind) in [
        ("", "k", ": 1\n"),
        ("", "k ", ": 1\n"),
        ("- '", "k", "': 1\n"),
        ("{\"", "k", "\": 1}\n"),
        ("{", "k ", ": 1}\n"),
    ] {
        for gap in [0, 1, 20, 500, 1000, 2000] {
            for times in (0..40).chain(480..520).chain(960..1040) {
                let text = format!("{before}{}{}{behind}", key.repeat(times + 1), " ".repeat(gap));
                if let (Some(short), long) = both(&text, Limits::default()) {
                    assert_eq!(Ok(short), long, "{text}");
                }
            }
        }
    }
}

#[test]
fn limits_are_those_of_the_parser() {
    let text = "a: [b, {c: d}]\ne: f\n";
    for nodes in 0..20 {
        let (short, long) = both(text, Limits { nodes, ..Limits::default() });
        assert_eq!(short.is_some(), long.is_ok(), "{nodes} nodes: {long:?}");
    }
    for depth in 0..5 {
        let (short, long) = both(text, Limits { depth, ..Limits::default() });
        assert_eq!(short.is_some(), long.is_ok(), "{depth} deep: {long:?}");
    }
}

/// What documents are made of, put together at random.
fn tokens() -> impl Strategy<Value = String> {
    let token = prop::sample::select(vec![
        "a",
        "b",
        "c d",
        "1",
        "- ",
        "-",
        ": ",
        ":",
        "\n",
        "\n",
        "\n  ",
        "\n    ",
        "\n- ",
        " ",
        "  ",
        "[",
        "]",
        "{",
        "}",
        ", ",
        ",",
        "'q'",
        "\"r\"",
        "'",
        "\"",
        " # n",
        "#",
        "::1",
        "10.0.0.0/8",
        "list:l",
        "?",
        "a: ",
        "b: ",
        "\n  - ",
        "\n  c: ",
        "<<",
        "---",
        "...",
        "&",
        "*",
        "!",
        "|",
        ">",
        "%",
        "@",
        "~",
        "ä",
        "\u{2028}",
        "\u{85}",
        "\u{feff}",
        "null",
        "-1",
        "x: {y: z}",
        "[a, b]",
        "{a:",
        "[]",
        "- - ",
        "\\",
    ]);
    prop::collection::vec(token, 0..14).prop_map(|tokens| tokens.concat())
}

/// A document that is well-formed, in one of many ways to write it.
fn lines() -> impl Strategy<Value = String> {
    let scalar =
        prop::sample::select(vec!["a", "'b'", "\"c\"", "::1", "10.0.0.0/8", "two words", "1", "tcp/443"]);
    let key = prop::sample::select(vec!["k", "'l'", "\"m\"", "n o", "p-q"]);
    let flow = scalar.clone().prop_map(str::to_owned).prop_recursive(3, 12, 4, move |inner| {
        let key = prop::sample::select(vec!["k", "'l'", "\"m\"", "n o"]);
        let gap =
            prop::sample::select(vec!["", " ", "\n        ", " # n\n          ", "\n    ", "\n\n      "]);
        prop_oneof![
            (prop::collection::vec(inner.clone(), 0..4), gap.clone(), gap.clone())
                .prop_map(|(items, gap, end)| format!("[{gap}{}{end}]", items.join(&format!(",{gap}")))),
            (prop::collection::vec((key, inner), 0..3), gap.clone(), gap).prop_map(|(entries, gap, end)| {
                let entries: Vec<_> = entries.iter().map(|(key, value)| format!("{key}: {value}")).collect();
                format!("{{{gap}{}{end}}}", entries.join(&format!(",{gap}")))
            }),
        ]
    });
    let lines = prop::collection::vec(
        (
            0..4_usize,
            prop::sample::select(vec!["", "- ", "- - "]),
            prop::option::of(key),
            flow,
            any::<bool>(),
        ),
        1..8,
    );
    lines.prop_map(|lines| {
        let mut text = String::new();
        for (indent, dash, key, value, is_there) in lines {
            let key = key.map_or_else(String::new, |key| format!("{key}: "));
            let value = if is_there { value } else { String::new() };
            text.push_str(&format!("{}{dash}{key}{value}\n", "  ".repeat(indent)));
        }
        text
    })
}

/// How many documents are compared: more where somebody asks for it.
fn cases() -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|asked| asked.parse().ok());
    ProptestConfig { cases: asked.unwrap_or(4096), ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn tokens_at_random_are_read_alike(text in tokens()) {
        agree(&text)?;
    }

    #[test]
    fn documents_are_read_alike(text in lines(), cut in any::<prop::sample::Index>(), token in tokens(), is_whole in any::<bool>()) {
        agree(&text)?;
        if !is_whole {
            let at = cut.index(text.len() + 1);
            if text.is_char_boundary(at) {
                agree(&format!("{}{token}{}", &text[..at], &text[at..]))?;
            }
        }
    }
    #[test]
    fn documents_by_the_grammar_are_read_alike(
        seed: u64,
        odd in prop::sample::select(vec![4_usize, 10, 40, 1000]),
        cut in any::<prop::sample::Index>(),
        token in tokens(),
    ) {
        let text = written::written(seed, odd);
        agree(&text)?;
        let at = cut.index(text.len() + 1);
        if text.is_char_boundary(at) {
            agree(&format!("{}{token}{}", &text[..at], &text[at..]))?;
        }
    }
}

#[test]
fn most_of_what_is_usual_goes_the_short_way() {
    let mut short = 0;
    for seed in 1..1000 {
        let text = written::written(seed << 20, 1_000_000);
        short += usize::from(both(&text, Limits::default()).0.is_some());
    }
    // Else the comparisons above compare nothing.
    assert!(short > 300, "{short}");
}
