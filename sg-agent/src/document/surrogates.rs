//! JSON writes characters beyond the basic plane as two escapes (`\ud83d\ude00`), which YAML does
//! not know. In documents that open as JSON, such pairs become YAML's one escape (`\U0001F600`).

use std::{borrow::Cow, collections::BTreeMap};

/// A document's text, ready for a YAML parser, and how to get from its columns to the file's.
pub(super) struct Text<'t> {
    pub text: Cow<'t, str>,
    /// For each line that was changed, the columns in the new text at which pairs ended.
    changed: BTreeMap<usize, Vec<usize>>,
}

/// How many characters longer two escapes are than the one that replaces them.
const SHORTER: usize = 2;

impl<'t> Text<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        let is_json = text.trim_start_matches('\u{feff}').trim_start().starts_with('{');
        if !is_json || !text.contains(r"\u") {
            return Self { text: Cow::Borrowed(text), changed: BTreeMap::new() };
        }
        let mut output = String::with_capacity(text.len());
        let mut changed: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        let (mut line, mut column) = (1, 0);
        let mut rest = text;
        while let Some(character) = rest.chars().next() {
            if let Some((combined, behind)) = pair(rest) {
                output.push_str(&format!("\\U{:08X}", u32::from(combined)));
                column += 10;
                changed.entry(line).or_default().push(column);
                rest = behind;
                continue;
            }
            // A backslash takes the next character with it, or `\\ud83d` would be read as an escape.
            let taken = if character == '\\' { 2 } else { 1 };
            for character in rest.chars().take(taken) {
                output.push(character);
                column += 1;
                if character == '\n' {
                    (line, column) = (line + 1, 0);
                }
            }
            let mut behind = rest.chars();
            behind.by_ref().take(taken).for_each(drop);
            rest = behind.as_str();
        }
        Self { text: Cow::Owned(output), changed }
    }

    /// The column in the file of a column in `text`, both from 0.
    pub(super) fn column(&self, line: usize, column: usize) -> usize {
        let shorter = self.changed.get(&line).map_or(0, |ends| ends.partition_point(|end| *end <= column));
        column + SHORTER * shorter
    }
}

/// The character of a pair of escapes at the start of `text`, and what is behind them.
fn pair(text: &str) -> Option<(char, &str)> {
    let unit = |text: &str| {
        let digits = text.strip_prefix(r"\u")?.get(..4)?;
        digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| u16::from_str_radix(digits, 16).ok())?
    };
    let units = [unit(text)?, unit(text.get(6..)?)?];
    let combined = char::decode_utf16(units).next()?.ok()?;
    (u32::from(combined) > 0xffff).then_some((combined, text.get(12..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_become_one_escape_and_columns_still_tell_the_file() {
        // (file, text)
        for (file, expected) in [
            (r#"{"a": "\ud83d\ude00"}"#, r#"{"a": "\U0001F600"}"#),
            (r#"{"a": "\\ud83d\\ude00"}"#, r#"{"a": "\\ud83d\\ude00"}"#),
            (r#"{"a": "\\\ud83d\ude00"}"#, r#"{"a": "\\\U0001F600"}"#),
            (r#"{"a": "\u00e9\ud83d"}"#, r#"{"a": "\u00e9\ud83d"}"#),
            (r#"a: "\ud83d\ude00""#, r#"a: "\ud83d\ude00""#),
        ] {
            assert_eq!(Text::new(file).text, expected, "{file}");
        }
        let file = "{\n\"\\ud83d\\ude00\": 1}";
        let text = Text::new(file);
        assert_eq!(text.column(2, 1), 1);
        assert_eq!(text.column(2, 11), 13, "the closing quote");
        assert_eq!(text.column(1, 11), 11);
    }
}
