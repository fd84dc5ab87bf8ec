//! The mutants that survive: as `cargo-mutants` tells of them, and as the page lists them.
//!
//! Lines and columns move with every change, so a mutant is known by its file and by what was
//! changed in which function; several that are alike are counted.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};

/// A change of the code.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mutant {
    /// From the workspace's root.
    pub(crate) path: String,
    /// What was changed, in which function.
    pub(crate) change: String,
}

/// Mutants, and how many are alike.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally(BTreeMap<Mutant, usize>);

impl Tally {
    fn add(&mut self, path: &str, change: &str, count: usize) {
        let mutant = Mutant { path: path.to_owned(), change: change.to_owned() };
        *self.0.entry(mutant).or_default() += count;
    }

    /// How many there are here that the other has not.
    pub(crate) fn beyond(&self, other: &Self) -> Self {
        let more = |(mutant, count): (&Mutant, &usize)| {
            let more = count.saturating_sub(other.0.get(mutant).copied().unwrap_or(0));
            (more > 0).then(|| (mutant.clone(), more))
        };
        Self(self.0.iter().filter_map(more).collect())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Mutant, usize)> {
        self.0.iter().map(|(mutant, count)| (mutant, *count))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.values().sum()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Reads lines such as `src/a.rs:68:9: replace f -> bool with true`.
pub(crate) fn survivors(text: &str) -> Tally {
    let mut tally = Tally::default();
    for line in text.lines() {
        let mut parts = line.splitn(4, ':');
        if let (Some(path), Some(_), Some(_), Some(change)) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        {
            tally.add(path, change.trim(), 1);
        }
    }
    tally
}

/// Reads the page: a heading ``## `FILE` `` before its mutants, and for those with one reason a point
/// ``- `CHANGE`, `CHANGE` ×2: reason``.
///
/// # Errors
///
/// A mutant that has no file or no reason.
pub(crate) fn listed(page: &str) -> Result<Tally> {
    let mut tally = Tally::default();
    let mut path = None;
    for line in page.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            path = heading.trim().strip_prefix('`').and_then(|name| name.strip_suffix('`'));
        } else if line.starts_with("- `") {
            let path = path.with_context(|| format!("no file before: {line}"))?;
            let mut rest = &line[2..];
            loop {
                let (change, behind) = rest
                    .strip_prefix('`')
                    .and_then(|rest| rest.split_once('`'))
                    .with_context(|| format!("expected a change in backquotes: {line}"))?;
                let (count, behind) = counted(behind).with_context(|| format!("no count: {line}"))?;
                tally.add(path, change, count);
                if let Some(next) = behind.strip_prefix(", ") {
                    rest = next;
                    continue;
                }
                let reason = behind.strip_prefix(": ").unwrap_or_default();
                ensure!(!reason.trim().is_empty(), "no reason behind a colon: {line}");
                break;
            }
        }
    }
    Ok(tally)
}

/// The number in ` ×2`, or 1 where there is none, and what comes behind it.
fn counted(text: &str) -> Result<(usize, &str)> {
    let Some(number) = text.strip_prefix(" ×") else { return Ok((1, text)) };
    let end = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
    let (number, behind) = number.split_at(end);
    Ok((number.parse()?, behind))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(mutants: &[(&str, &str, usize)]) -> Tally {
        let mut tally = Tally::default();
        for (path, change, count) in mutants {
            tally.add(path, change, *count);
        }
        tally
    }

    #[test]
    fn survivors_are_known_by_file_and_change() {
        let text = "src/a.rs:68:9: replace | with ^ in F::new\nsrc/a.rs:70:12: replace | with ^ in F::new\n\
                    src/b.rs:1:2: replace g -> bool with true\n";
        let expected =
            [("src/a.rs", "replace | with ^ in F::new", 2), ("src/b.rs", "replace g -> bool with true", 1)];
        assert_eq!(survivors(text), tally(&expected));
        assert_eq!(survivors("").len(), 0);
    }

    #[test]
    fn the_page_lists_them_with_reasons() {
        let page = "# Title\n- a point\n\n## `src/a.rs`\n- `replace | with ^ in F::new` ×2, `delete ! in f`: they \
                    never overlap: see `F`.\n\n## `src/b.rs`\n- `replace g -> bool with true`: nobody asks.\n";
        let expected = [
            ("src/a.rs", "replace | with ^ in F::new", 2),
            ("src/a.rs", "delete ! in f", 1),
            ("src/b.rs", "replace g -> bool with true", 1),
        ];
        assert_eq!(listed(page).unwrap(), tally(&expected));
        for wrong in
            ["- `x`: no file\n", "## `a.rs`\n- `x`\n", "## `a.rs`\n- `x`: \n", "## `a.rs`\n- `x` ×: y\n"]
        {
            assert!(listed(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_one_has_more_than_the_other_is_told() {
        let one = tally(&[("a", "x", 3), ("a", "y", 1)]);
        let other = tally(&[("a", "x", 1), ("b", "y", 1)]);
        assert_eq!(one.beyond(&other), tally(&[("a", "x", 2), ("a", "y", 1)]));
        assert_eq!(other.beyond(&one), tally(&[("b", "y", 1)]));
        assert!(one.beyond(&one).is_empty());
    }
}
