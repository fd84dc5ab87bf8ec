//! Shell globs over interface names: `*`, `?`, `[a-z]`, `[!a-z]`, and `\` before a character that
//! stands for itself.
//!
//! They are read here and not by a library because a warning needs to know whether one glob
//! covers another, which takes the parts of both.

use std::{collections::HashSet, fmt};

/// The longest name that the kernel gives an interface, in bytes (`IFNAMSIZ` less its NUL).
pub const LONGEST_NAME: usize = 15;

/// How many states [`Pattern::covers`] looks at before it gives up and answers no.
const COVER_STATES: usize = 4096;

/// An exact interface name or a glob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    /// The character itself.
    Literal(char),
    /// `?`, or a class: one character out of the ranges, or out of all others.
    Class { negated: bool, ranges: Vec<(char, char)> },
    /// `*`: any number of any characters.
    Star,
}

impl Part {
    fn takes(&self, character: char) -> bool {
        match self {
            Self::Literal(literal) => *literal == character,
            Self::Class { negated, ranges } => {
                ranges.iter().any(|(first, last)| (*first..=*last).contains(&character)) != *negated
            }
            Self::Star => true,
        }
    }
}

/// Why a text is not a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidPattern {
    /// There is nothing in it.
    Empty,
    /// A `[` has no `]`.
    Unclosed,
    /// A range such as `[z-a]` ends before it begins.
    Backwards,
    /// A `\` at the end escapes nothing.
    Escape,
}

impl fmt::Display for InvalidPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "an empty name matches no interface",
            Self::Unclosed => "the `[` has no closing `]`",
            Self::Backwards => "a range in `[…]` ends before it begins",
            Self::Escape => "the `\\` at the end escapes nothing",
        })
    }
}

impl std::error::Error for InvalidPattern {}

impl Pattern {
    /// Reads an exact name or a glob.
    ///
    /// # Errors
    ///
    /// [`InvalidPattern`], when a bracket or an escape is left open.
    pub fn parse(text: &str) -> Result<Self, InvalidPattern> {
        let mut parts = Vec::new();
        let mut rest = text.chars().peekable();
        while let Some(character) = rest.next() {
            parts.push(match character {
                '*' if parts.last() == Some(&Part::Star) => continue,
                '*' => Part::Star,
                '?' => Part::Class { negated: true, ranges: vec![] },
                '\\' => Part::Literal(rest.next().ok_or(InvalidPattern::Escape)?),
                '[' => class(&mut rest)?,
                other => Part::Literal(other),
            });
        }
        if parts.is_empty() { Err(InvalidPattern::Empty) } else { Ok(Self { parts }) }
    }

    /// The name that this matches, when it is an exact name and no glob.
    #[must_use]
    pub fn literal(&self) -> Option<String> {
        self.parts
            .iter()
            .map(|part| match part {
                Part::Literal(character) => Some(*character),
                Part::Class { .. } | Part::Star => None,
            })
            .collect()
    }

    /// Whether the whole of `name` fits.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let mut states = self.start();
        for character in name.chars() {
            states = self.step(&states, character);
            if states.is_empty() {
                return false;
            }
        }
        states.contains(&self.parts.len())
    }

    /// Why no interface can have a name that this matches, if that is so.
    #[must_use]
    pub fn impossible(&self) -> Option<&'static str> {
        let shortest = self.parts.iter().map(|part| match part {
            Part::Literal(character) => character.len_utf8(),
            Part::Class { .. } => 1,
            Part::Star => 0,
        });
        if shortest.sum::<usize>() > LONGEST_NAME {
            return Some("an interface name has at most 15 bytes");
        }
        let literals = || {
            self.parts.iter().filter_map(|part| match part {
                Part::Literal(character) => Some(*character),
                Part::Class { .. } | Part::Star => None,
            })
        };
        if literals().any(|character| character == '/' || character == ':' || character.is_whitespace()) {
            return Some("an interface name has no `/`, no `:` and no spaces");
        }
        matches!(self.literal().as_deref(), Some("." | "..")).then_some("no interface may have this name")
    }

    /// Whether every name that `other` matches is matched by this too. A `false` may mean that the
    /// patterns are too intricate to tell.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        if let Some(name) = other.literal() {
            return self.matches(&name);
        }
        // Walk all names that `other` takes, by one character of every kind that either pattern
        // tells apart, and look for one that this does not take.
        let alphabet = alphabet([self, other]);
        let first = (other.start(), self.start());
        let mut seen = HashSet::from([first.clone()]);
        let mut open = vec![first];
        while let Some((theirs, ours)) = open.pop() {
            if theirs.contains(&other.parts.len()) && !ours.contains(&self.parts.len()) {
                return false;
            }
            for character in &alphabet {
                let next = (other.step(&theirs, *character), self.step(&ours, *character));
                if next.0.is_empty() || !seen.insert(next.clone()) {
                    continue;
                }
                if seen.len() > COVER_STATES {
                    return false;
                }
                open.push(next);
            }
        }
        true
    }

    /// The places in `parts` where a match can stand before the first character, in order.
    fn start(&self) -> Vec<usize> {
        let mut states = Vec::new();
        self.enter(0, &mut states);
        states
    }

    /// The places where it can stand after `character`.
    fn step(&self, states: &[usize], character: char) -> Vec<usize> {
        let mut next = Vec::new();
        for state in states {
            match self.parts.get(*state) {
                Some(Part::Star) => self.enter(*state, &mut next),
                Some(part) if part.takes(character) => self.enter(state + 1, &mut next),
                Some(_) | None => {}
            }
        }
        next
    }

    /// Adds `state` and, past stars that match nothing, those behind it. `states` stays in order
    /// because a step adds them in order.
    fn enter(&self, state: usize, states: &mut Vec<usize>) {
        let mut state = state;
        loop {
            if states.last().is_none_or(|last| *last < state) {
                states.push(state);
            }
            if self.parts.get(state) != Some(&Part::Star) {
                return;
            }
            state += 1;
        }
    }
}

/// Reads a class after its `[`.
fn class(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Part, InvalidPattern> {
    let negated = rest.next_if(|next| matches!(next, '!' | '^')).is_some();
    let mut ranges = Vec::new();
    loop {
        let first = match rest.next().ok_or(InvalidPattern::Unclosed)? {
            // A `]` right at the start stands for itself.
            ']' if !ranges.is_empty() => break,
            '\\' => rest.next().ok_or(InvalidPattern::Unclosed)?,
            other => other,
        };
        let mut last = first;
        if rest.peek() == Some(&'-') {
            let mut ahead = rest.clone();
            ahead.next();
            // A `-` at the end stands for itself.
            if ahead.peek().is_some_and(|next| *next != ']') {
                rest.next();
                last = match rest.next().ok_or(InvalidPattern::Unclosed)? {
                    '\\' => rest.next().ok_or(InvalidPattern::Unclosed)?,
                    other => other,
                };
            }
        }
        if last < first {
            return Err(InvalidPattern::Backwards);
        }
        ranges.push((first, last));
    }
    Ok(Part::Class { negated, ranges })
}

/// One character of every kind that the patterns tell apart: the first of each range, and the one
/// behind each range's last.
fn alphabet(patterns: [&Pattern; 2]) -> Vec<char> {
    let mut alphabet = vec!['\0'];
    let mut add = |first: char, last: char| {
        alphabet.push(first);
        alphabet.extend((last..=char::MAX).nth(1));
    };
    for part in patterns.into_iter().flat_map(|pattern| &pattern.parts) {
        match part {
            Part::Literal(character) => add(*character, *character),
            Part::Class { ranges, .. } => ranges.iter().for_each(|(first, last)| add(*first, *last)),
            Part::Star => {}
        }
    }
    alphabet.sort_unstable();
    alphabet.dedup();
    alphabet
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for (text, error) in [
            ("", InvalidPattern::Empty),
            ("eth[0-3", InvalidPattern::Unclosed),
            ("eth[]", InvalidPattern::Unclosed),
            ("eth[3-0]", InvalidPattern::Backwards),
            ("eth\\", InvalidPattern::Escape),
        ] {
            assert_eq!(Pattern::parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn a_glob_covers_what_it_takes_in_whole() {
        // (this, other, covers)
        for (this, other, covers) in [
            ("*", "tap*", true),
            ("tap*", "*", false),
            ("tap*", "tap?", true),
            ("tap?", "tap*", false),
            ("tap?", "tap[0-9]", true),
            ("tap[0-9]", "tap?", false),
            ("tap[0-9]", "tap[2-4]", true),
            ("tap[!0-9]", "tap[a-z]", true),
            ("*0", "eth*0", true),
            ("eth*0", "*0", false),
            ("tap*", "tap*", true),
            ("?*", "*?", true),
            ("tap*", "tap7", true),
            ("tap7", "tap*", false),
        ] {
            assert_eq!(pattern(this).covers(&pattern(other)), covers, "{this} over {other}");
        }
    }

    #[test]
    fn names_that_the_kernel_refuses_are_told() {
        for (text, possible) in [
            ("eth0", true),
            ("abcdefghijklmno", true),
            ("abcdefghijklmnop", false),
            ("abcdefghijklmnop*", false),
            ("a/b", false),
            ("a b", false),
            ("..", false),
            ("*", true),
        ] {
            assert_eq!(pattern(text).impossible().is_none(), possible, "{text}");
        }
    }

    proptest! {
        #[test]
        fn globs_match_as_an_independent_library_does(glob in r"[ab*?]{1,3}(\[!?[a-c]\])?[ab*?]{0,3}",
                                                      name in "[a-d]{0,8}") {
            let theirs = globset::GlobBuilder::new(&glob).build().unwrap().compile_matcher();
            prop_assert_eq!(pattern(&glob).matches(&name), theirs.is_match(&name), "{} {}", glob, name);
        }

        #[test]
        fn what_is_covered_is_matched(this in "[ab*?]{1,5}", other in "[ab*?]{1,5}", name in "[a-c]{0,6}") {
            let (this, other) = (pattern(&this), pattern(&other));
            if this.covers(&other) && other.matches(&name) {
                prop_assert!(this.matches(&name));
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text in any::<String>(), name in any::<String>()) {
            if let Ok(pattern) = Pattern::parse(&text) {
                let _ = pattern.matches(&name);
                let _ = pattern.covers(&pattern);
            }
        }
    }
}
