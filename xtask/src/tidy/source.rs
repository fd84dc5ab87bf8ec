//! One source file as the rules see it: without comments, strings and tests, with line numbers.

use crate::tidy::{Finding, Severity};

/// A file's code.
#[derive(Debug)]
pub(crate) struct Source {
    /// From the workspace's root, with `/`.
    pub(crate) path: String,
    /// Line by line, what is left of comments and strings blanked out.
    lines: Vec<String>,
    /// How many of them stand before the tests.
    code: usize,
}

impl Source {
    /// Reads a file's text. Tests are whole files called so, and what follows the first
    /// `#[cfg(test)]` that opens a module at a line's beginning: by habit it closes the file.
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let lines: Vec<_> = blank(text).lines().map(str::to_owned).collect();
        let opens_tests = |pair: &[String]| pair[0].starts_with("#[cfg(test)]") && pair[1].ends_with('{');
        let end = if is_test_file(path) { Some(0) } else { lines.windows(2).position(opens_tests) };
        Self { path: path.to_owned(), code: end.unwrap_or(lines.len()), lines }
    }

    /// What stands before the tests, numbered from 1.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.all_lines().take(self.code)
    }

    /// Every line, tests and all, numbered from 1.
    pub(crate) fn all_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.lines.iter().enumerate().map(|(index, line)| (index + 1, line.as_str()))
    }

    /// How many lines stand before the tests, comments included.
    pub(crate) const fn code_lines(&self) -> usize {
        self.code
    }

    /// A finding in this file.
    pub(crate) fn finding(&self, severity: Severity, line: usize, what: String) -> Finding {
        Finding { severity, path: self.path.clone(), line, what }
    }
}

/// Whether a module of a crate is nothing but tests: `tests.rs`, or anything below a `tests/`.
fn is_test_file(path: &str) -> bool {
    let module = path.split_once("/src/").map_or("", |(_, module)| module);
    module.split('/').any(|part| part == "tests" || part == "tests.rs")
}

/// Replaces comments and the insides of strings by nothing, and keeps the line breaks.
fn blank(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if rest.starts_with("r#\"") {
            rest.find("\"#").map_or(rest.len(), |end| end + 2)
        } else if next == '"' {
            string_end(rest)
        } else if rest.starts_with("'\"'") {
            3
        } else {
            out.push(next);
            rest = &rest[next.len_utf8()..];
            continue;
        };
        let (gone, kept) = rest.split_at(skipped);
        out.extend(gone.chars().filter(|&c| c == '\n'));
        rest = kept;
    }
    out
}

/// Where the string that `text` begins with ends.
fn string_end(text: &str) -> usize {
    let mut escaped = false;
    for (index, character) in text.char_indices().skip(1) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return index + 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_strings_are_gone_and_lines_keep_their_numbers() {
        let source = Source::new(
            "a.rs",
            "//! aya\nlet a = \"aya \\\" // aya\"; /* aya\naya */ let b = '\"';\nlet c = r#\"aya\n\"aya\"#; // aya\nend\n",
        );
        let text: Vec<_> = source.lines().map(|(_, line)| line.trim()).collect();
        assert_eq!(text, ["", "let a = ;", "let b = ;", "let c =", ";", "end"]);
    }

    #[test]
    fn tests_are_left_out() {
        let rows = [
            ("x/src/a.rs", "fn a() {}\n#[cfg(test)]\nmod tests {\n}\n", 1),
            ("x/src/a.rs", "#[cfg(test)]\nmod tests;\nfn a() {}\n", 3),
            ("x/src/a/tests.rs", "fn a() {}\n", 0),
            ("x/src/a/tests/b.rs", "fn a() {}\n", 0),
            ("x/src/attests.rs", "fn a() {}\n", 1),
            ("tests/src/lab.rs", "fn a() {}\n", 1),
        ];
        for (path, text, lines) in rows {
            assert_eq!(Source::new(path, text).code_lines(), lines, "{path}: {text}");
        }
    }
}
