//! One error or warning, and how people see it.

use std::fmt;

use crate::policy::Position;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The policy is refused.
    Error,
    /// The policy stands, and does perhaps not do what was meant.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// Something that is wrong, or looks wrong, in a document or a list file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Where.
    pub position: Position,
    /// How bad.
    pub severity: Severity,
    /// What, in lower case and on one line.
    pub message: String,
    /// The offending line without control characters, shortened around the place when it is long.
    /// Empty when there is none, as for a file that cannot be read.
    pub source_line: String,
    /// The nearest right spelling, where there is one.
    pub suggestion: Option<String>,
    /// Which character of `source_line` the position means, from 0.
    pub caret: usize,
}

/// Characters of a long line that are shown before and after the place.
const BEFORE: usize = 60;
const AFTER: usize = 60;

/// The part of a line that is shown, and the place in it. `column` counts from 1.
pub(super) fn excerpt(line: &str, column: usize) -> (String, usize) {
    let place = column.saturating_sub(1);
    let start = place.saturating_sub(BEFORE);
    let mut shown: String = line.chars().skip(start).take(BEFORE + AFTER).map(visible).collect();
    let mut caret = place - start;
    if start > 0 {
        shown.insert(0, '…');
        caret += 1;
    }
    if line.chars().nth(start + BEFORE + AFTER).is_some() {
        shown.push('…');
    }
    let shown = shown.trim_end().to_owned();
    (shown, caret)
}

/// The character as a terminal may see it: one for one, so that columns stay.
pub(super) fn visible(character: char) -> char {
    match character {
        '\t' => ' ',
        control if control.is_control() => '\u{fffd}',
        other => other,
    }
}

/// A text from a document for use in a message: in backticks, escaped, and cut when it is long.
pub(super) fn quote(text: &str) -> String {
    const LONGEST: usize = 64;
    let mut quoted = String::from("`");
    for character in text.chars().take(LONGEST) {
        if character.is_control() {
            quoted.extend(character.escape_default());
        } else {
            quoted.push(character);
        }
    }
    quoted.push_str(if text.chars().nth(LONGEST).is_some() { "…`" } else { "`" });
    quoted
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.position, self.severity, self.message)?;
        if !self.source_line.is_empty() {
            write!(f, "\n    {}\n    {:caret$}^", self.source_line, "", caret = self.caret)?;
        }
        if let Some(suggestion) = &self.suggestion {
            write!(f, "\n    did you mean {}?", quote(suggestion))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diagnostic_shows_the_line_the_place_and_the_right_spelling() {
        let position = Position { file: "policy.yaml".into(), line: 4, column: 5 };
        let (source_line, caret) = excerpt("    inbond:", 5);
        let diagnostic = Diagnostic {
            position,
            severity: Severity::Error,
            message: "unknown key `inbond`".to_owned(),
            source_line,
            suggestion: Some("inbound".to_owned()),
            caret,
        };
        assert_eq!(
            diagnostic.to_string(),
            "policy.yaml:4:5: error: unknown key `inbond`\n        inbond:\n        ^\n    did you mean `inbound`?"
        );
    }

    #[test]
    fn long_lines_and_control_characters_do_not_reach_the_terminal() {
        let line = format!("{}\u{1b}[31mred{}", "x".repeat(1000), "y".repeat(1000));
        let (shown, caret) = excerpt(&line, 1001);
        assert_eq!(shown.chars().count(), BEFORE + AFTER + 2);
        assert_eq!(shown.chars().nth(caret), Some('\u{fffd}'));
        assert_eq!(quote("a\u{1b}b"), r"`a\u{1b}b`");
        assert_eq!(quote(&"x".repeat(1000)).chars().count(), 67);
    }
}
