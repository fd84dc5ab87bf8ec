//! Which interface entry an interface gets: exact names before globs, then the order written.
//!
//! It compares names only and knows no interfaces.

use std::collections::HashMap;

use super::Policy;

mod pattern;

pub use pattern::{InvalidPattern, LONGEST_NAME, Pattern};

/// The interface entries of one policy, read once and asked many times.
#[derive(Clone, Debug)]
pub struct Matcher {
    exact: HashMap<String, usize>,
    globs: Vec<(Pattern, usize)>,
}

impl Matcher {
    /// Reads the patterns of `policy`. One that is no pattern, which no document yields, matches
    /// nothing but itself.
    #[must_use]
    pub fn new(policy: &Policy) -> Self {
        let mut matcher = Self { exact: HashMap::new(), globs: Vec::new() };
        for (index, entry) in policy.interfaces.iter().enumerate() {
            let exact = match Pattern::parse(&entry.pattern) {
                Ok(pattern) => match pattern.literal() {
                    Some(name) => name,
                    None => {
                        matcher.globs.push((pattern, index));
                        continue;
                    }
                },
                Err(_) => entry.pattern.clone(),
            };
            matcher.exact.entry(exact).or_insert(index);
        }
        matcher
    }

    /// The index in [`Policy::interfaces`] of the entry of the interface called `name`. `None`:
    /// the interface is left alone.
    #[must_use]
    pub fn entry_for(&self, name: &str) -> Option<usize> {
        self.exact
            .get(name)
            .copied()
            .or_else(|| self.globs.iter().find(|(pattern, _)| pattern.matches(name)).map(|(_, index)| *index))
    }
}

/// The index in [`Policy::interfaces`] of the entry of the interface called `name`. Whoever asks
/// for more than one interface builds a [`Matcher`].
#[must_use]
pub fn entry_for(policy: &Policy, name: &str) -> Option<usize> {
    Matcher::new(policy).entry_for(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Hook, Infrastructure, InterfaceEntry, Mode, Position, Side};

    fn policy(patterns: &[&str]) -> Policy {
        let interfaces = patterns
            .iter()
            .map(|pattern| InterfaceEntry {
                pattern: (*pattern).to_owned(),
                groups: vec![],
                side: Side::Host,
                addresses: None,
                macs: vec![],
                source_check: false,
                mode: Mode::Enforce,
                hook: Hook::Auto,
                infrastructure: Infrastructure::default(),
                permit_ethertypes: vec![],
                position: Position { file: "".into(), line: 1, column: 1 },
            })
            .collect();
        Policy { interfaces, ..Policy::default() }
    }

    #[test]
    fn exact_names_come_before_globs_and_the_first_match_wins() {
        let policy = policy(&["tap*", "tap1", "tap?", "eth[0-3]", "*", "tap1", r"odd\*"]);
        // (interface, entry)
        for (name, entry) in
            [("tap1", 1), ("tap2", 0), ("tap", 0), ("eth3", 3), ("eth4", 4), ("odd*", 6), ("odds", 4)]
        {
            assert_eq!(entry_for(&policy, name), Some(entry), "{name}");
        }
    }

    #[test]
    fn what_no_entry_matches_is_left_alone() {
        for (patterns, name) in
            [(&["eth0"][..], "eth1"), (&["tap*"], "veth"), (&[], "eth0"), (&["eth[0-3]"], "eth9")]
        {
            assert_eq!(entry_for(&policy(patterns), name), None, "{name}");
        }
    }
}
