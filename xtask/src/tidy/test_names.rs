//! Which tests there are, by their sources.
//!
//! A test's name is its file and its function, `sg-common/src/addr::what_is_not_a_prefix_is_refused`;
//! files of the lab's tests are named from `tests/tests/` on: `flows::a_bare_syn_is_no_reply`.

use std::collections::BTreeSet;

use crate::tidy::source::Source;

/// Where names of tests begin when they name no crate.
const LAB: &str = "tests/tests/";
/// The macro that makes tests of the functions that it lists.
const MACRO: &str = "each_setup! {";

/// The names of all tests of these files.
pub(crate) fn all(sources: &[Source]) -> BTreeSet<String> {
    sources.iter().flat_map(in_file).collect()
}

fn in_file(source: &Source) -> Vec<String> {
    let path = source.path.strip_suffix(".rs").unwrap_or(&source.path);
    let file = path.strip_prefix(LAB).unwrap_or(path);
    functions(source).into_iter().map(|function| format!("{file}::{function}")).collect()
}

/// Functions with a `#[test]` of whatever kind before them, and what the macro lists.
fn functions(source: &Source) -> Vec<&str> {
    let mut found = Vec::new();
    let (mut is_test, mut is_listed) = (false, false);
    for (_, line) in source.all_lines() {
        let line = line.trim();
        if is_listed {
            is_listed = line != "}";
            found.extend(line.split_whitespace().filter(|word| is_name(word)));
        } else if line.ends_with(MACRO) {
            is_listed = true;
        } else if line == "#[test]" || line.ends_with("::test]") {
            is_test = true;
        } else if let Some(function) = function(line).filter(|_| is_test) {
            is_test = false;
            found.push(function);
        }
    }
    found
}

/// The name of the function that begins on this line.
fn function(line: &str) -> Option<&str> {
    let (before, rest) = line.split_once("fn ")?;
    let is_declared = before.split_whitespace().all(|word| matches!(word, "pub" | "async"));
    let name = rest.split(['(', '<']).next()?;
    (is_declared && is_name(name)).then_some(name)
}

fn is_name(word: &str) -> bool {
    !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(path: &str, text: &str) -> Vec<String> {
        all(&[Source::new(path, text)]).into_iter().collect()
    }

    #[test]
    fn tests_are_found_wherever_they_are() {
        let text = "//! #[test]\nfn helper() {}\neach_setup! {\n    one // two\n    three\n}\nfn one(s: Setup) {}\n\
                    #[test]\n#[ignore = \"fn four\"]\nfn five() -> Result<()> {\n}\nfn six() {}\n\
                    proptest! {\n    #[test]\n    fn seven(a in any::<u8>()) {}\n}\n\
                    #[cfg(test)]\nmod tests {\n    #[tokio::test]\n    async fn eight() {}\n}\n";
        let expected = ["five", "one", "seven", "three"].map(|name| format!("attacks/link::{name}"));
        let found = names("tests/tests/attacks/link.rs", text);
        assert_eq!(found, [&["attacks/link::eight".to_owned()], &expected[..]].concat());
        assert_eq!(names("sg-common/src/a.rs", "#[test]\nfn b() {}\n"), ["sg-common/src/a::b"]);
    }

    #[test]
    fn what_is_no_test_is_not_found() {
        assert_eq!(names("a.rs", "fn b() {}\n#[cfg(test)]\nfn c() {}\nlet fn_ptr: fn (u8) = d;\n"), [""; 0]);
    }
}
