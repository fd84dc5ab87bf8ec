//! Which test holds which promise: the tables of [`PAGE`] name tests that exist, for every section, for
//! every attack and for every drop reason, and leave no attack test out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use sg_common::verdict::DropReason;

use crate::tidy::source::Source;
use crate::tidy::{Finding, Severity, test_names};

/// Where the promises and the tables are.
const PAGE: &str = "docs/semantics.md";
/// Sections that promise something.
const PROMISES: [&str; 9] = ["1", "2", "3", "4", "5", "6", "7", "8", "9"];
/// The section whose table lists the attacks: id, packet, what happens, tests.
const ATTACKS: &str = "10";
/// The section whose table lists the promises: section, promise, tests.
const TESTS: &str = "11";
/// How many attacks each letter has.
const COUNTS: [(char, usize); 12] = [
    ('L', 4),
    ('I', 3),
    ('F', 6),
    ('X', 3),
    ('T', 5),
    ('U', 2),
    ('C', 4),
    ('M', 1),
    ('Z', 2),
    ('S', 2),
    ('G', 1),
    ('R', 1),
];

/// What the page leaves out, or names though it is not there.
pub(crate) fn stale(root: &Path, sources: &[Source]) -> Result<Vec<Finding>> {
    let page = fs::read_to_string(root.join(PAGE)).with_context(|| format!("cannot read {PAGE}"))?;
    let reasons: Vec<_> = DropReason::ALL.iter().map(|reason| reason.name()).collect();
    Ok(check(&page, &test_names::all(sources), &reasons))
}

/// Names, in the rows of the attacks, the tests of the attack suite that there are, and no test any more that
/// there is not. Tells whether the page has changed.
pub(crate) fn write(root: &Path, sources: &[Source]) -> Result<bool> {
    let path = root.join(PAGE);
    let page = fs::read_to_string(&path).with_context(|| format!("cannot read {PAGE}"))?;
    let written = rewritten(&page, &test_names::all(sources));
    if written == page {
        return Ok(false);
    }
    fs::write(&path, written).with_context(|| format!("cannot write {PAGE}"))?;
    Ok(true)
}

fn rewritten(page: &str, tests: &BTreeSet<String>) -> String {
    let rows = Page::read(page).attacks;
    let mut written = String::with_capacity(page.len());
    for (index, line) in page.lines().enumerate() {
        match rows.iter().find(|row| row.line == index + 1) {
            Some(Row { key, text, tests: named, .. }) => {
                let is_own = |test: &str| is_of_an_attack(test) && id(test).as_deref() == Some(*key);
                let suite = tests.iter().map(String::as_str).filter(|test| is_own(test));
                let others = named.iter().copied().filter(|test| tests.contains(*test) && !is_own(test));
                let all: Vec<_> = suite.chain(others).map(|test| format!("`{test}`")).collect();
                written += &format!("| {key} | {text} | {} |", all.join(", "));
            }
            None => written += line,
        }
        written.push('\n');
    }
    written
}

fn check(page: &str, tests: &BTreeSet<String>, reasons: &[&str]) -> Vec<Finding> {
    let page = Page::read(page);
    let mut found = Findings::default();
    page.names_only_what_exists(tests, &mut found);
    page.covers_every_promise(&mut found);
    page.covers_every_reason(reasons, &mut found);
    page.covers_every_attack(tests, &mut found);
    found.0
}

#[derive(Debug, Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, line: usize, what: String) {
        self.0.push(Finding { severity: Severity::Error, path: PAGE.to_owned(), line, what });
    }
}

/// A row of one of the two tables.
#[derive(Debug)]
struct Row<'a> {
    line: usize,
    /// The attack's id, or the number of the section that promises.
    key: &'a str,
    /// What is between the key and the tests.
    text: &'a str,
    tests: Vec<&'a str>,
}

/// The page as far as it matters here.
#[derive(Debug, Default)]
struct Page<'a> {
    /// Bullets, numbered items and rows of tables, by section.
    statements: BTreeMap<&'a str, usize>,
    /// Where each section begins.
    begins: BTreeMap<&'a str, usize>,
    attacks: Vec<Row<'a>>,
    promises: Vec<Row<'a>>,
}

impl<'a> Page<'a> {
    fn read(text: &'a str) -> Self {
        let mut page = Self::default();
        let mut section = "";
        // A table's head and the line below it are no rows.
        let mut row_of_table = 0;
        for (index, line) in text.lines().enumerate() {
            row_of_table = if line.starts_with('|') { row_of_table + 1 } else { 0 };
            if let Some((number, _)) = line.strip_prefix("## ").and_then(|title| title.split_once(". ")) {
                section = number;
                page.begins.insert(section, index + 1);
            }
            if row_of_table > 2 {
                match section {
                    ATTACKS => page.attacks.extend(Row::read(index + 1, line)),
                    TESTS => page.promises.extend(Row::read(index + 1, line)),
                    _ => {}
                }
            }
            if row_of_table > 2 || is_item(line) {
                *page.statements.entry(section).or_default() += 1;
            }
        }
        page
    }

    fn rows(&self) -> impl Iterator<Item = &Row<'a>> {
        self.attacks.iter().chain(&self.promises)
    }

    fn names_only_what_exists(&self, tests: &BTreeSet<String>, found: &mut Findings) {
        for row in self.rows() {
            if row.tests.is_empty() {
                found.add(row.line, format!("no test is named for `{}` ({})", row.key, row.text));
            }
            // A promise may name an attack instead, whose row names the tests.
            let is_attack = |name: &str| self.attacks.iter().any(|attack| attack.key == name);
            for test in row.tests.iter().filter(|name| !tests.contains(**name) && !is_attack(name)) {
                let (_, function) = test.rsplit_once("::").unwrap_or(("", test));
                let near = tests.iter().find(|name| name.ends_with(&format!("::{function}")));
                let hint = near.map_or(String::new(), |name| format!("; there is `{name}`"));
                found.add(row.line, format!("there is no test `{test}`{hint}"));
            }
        }
    }

    fn covers_every_promise(&self, found: &mut Findings) {
        for row in &self.promises {
            if !PROMISES.contains(&row.key) {
                found.add(row.line, format!("there is no section `{}` that promises", row.key));
            }
        }
        for section in PROMISES {
            let line = self.begins.get(section).copied().unwrap_or(1);
            let rows = self.promises.iter().filter(|row| row.key == section).count();
            let statements = self.statements.get(section).copied().unwrap_or_default().max(1);
            if rows < statements {
                found.add(
                    line,
                    format!(
                        "section {section} has {statements} items, section {TESTS} tests for {rows} of them"
                    ),
                );
            }
        }
    }

    fn covers_every_reason(&self, reasons: &[&str], found: &mut Findings) {
        let line = self.begins.get(TESTS).copied().unwrap_or(1);
        for reason in reasons {
            let begin = format!("`{reason}`");
            if !self.promises.iter().any(|row| row.key == "8" && row.text.starts_with(&begin)) {
                found.add(line, format!("no row of section 8 begins with {begin}: every reason has a test"));
            }
        }
    }

    fn covers_every_attack(&self, tests: &BTreeSet<String>, found: &mut Findings) {
        let line = self.begins.get(ATTACKS).copied().unwrap_or(1);
        let expected: Vec<_> = COUNTS
            .iter()
            .flat_map(|&(letter, count)| (1..=count).map(move |number| format!("{letter}{number}")))
            .collect();
        let listed: Vec<_> = self.attacks.iter().map(|row| row.key.to_owned()).collect();
        if listed != expected {
            found.add(
                line,
                format!("the attacks are {}; listed are {}", expected.join(" "), listed.join(" ")),
            );
        }
        for test in tests.iter().filter(|test| is_of_an_attack(test)) {
            let id = id(test);
            let is_named = |row: &&Row<'_>| row.tests.contains(&test.as_str());
            match self.attacks.iter().find(|row| Some(row.key) == id.as_deref()) {
                Some(row) if !is_named(&row) => {
                    found.add(row.line, format!("`{}` leaves out its test `{test}`", row.key));
                }
                None if !self.rows().any(|row| is_named(&row)) => {
                    found.add(line, format!("no row names the test `{test}`"));
                }
                _ => {}
            }
        }
    }
}

impl<'a> Row<'a> {
    /// `| key | … | tests |`; nothing where there are fewer than three cells.
    fn read(line: usize, text: &'a str) -> Option<Self> {
        let (key, rest) = text.strip_prefix('|')?.split_once('|')?;
        let (text, tests) = rest.trim_end().strip_suffix('|')?.rsplit_once('|')?;
        // Every second piece stands between two backticks.
        let tests = tests.split('`').skip(1).step_by(2).collect();
        Some(Self { line, key: key.trim(), text: text.trim(), tests })
    }
}

/// `- bullet` or `1. item`.
fn is_item(line: &str) -> bool {
    let is_numbered =
        |line: &str| line.split_once(". ").is_some_and(|(number, _)| number.parse::<u8>().is_ok());
    line.starts_with("- ") || is_numbered(line)
}

/// Whether the test is one of the attack suite.
fn is_of_an_attack(test: &str) -> bool {
    test.starts_with("attacks::") || test.starts_with("attacks/")
}

/// The attack that a test's name begins with: `L1` of `attacks/link::l1_vlan_tags`.
fn id(test: &str) -> Option<String> {
    let (_, function) = test.rsplit_once("::")?;
    let (id, _) = function.split_once('_')?;
    let mut characters = id.chars();
    let is_id = characters.next()?.is_ascii_lowercase()
        && !characters.as_str().is_empty()
        && characters.all(|c| c.is_ascii_digit());
    is_id.then(|| id.to_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEST: &str = "flows::a_test";

    /// A page without a fault, and the tests that it names.
    fn sound() -> (String, BTreeSet<String>) {
        let mut page = String::from("# Packets\n");
        for section in PROMISES {
            page += &format!("\n## {section}. A section\n\n- one thing\n");
        }
        page += &format!(
            "\n## {ATTACKS}. Attacks\n\n| id | packet | what happens | tests |\n| --- | --- | --- | --- |\n"
        );
        let mut tests = BTreeSet::from([TEST.to_owned()]);
        for (letter, count) in COUNTS {
            for number in 1..=count {
                let test = format!("attacks::{}{number}_a_packet", letter.to_ascii_lowercase());
                page += &format!("| {letter}{number} | a packet | dropped | `{test}` |\n");
                tests.insert(test);
            }
        }
        page += &format!("\n## {TESTS}. Tests\n\n| section | what | tests |\n| --- | --- | --- |\n");
        for section in PROMISES {
            page += &format!("| {section} | `no_rule` | `{TEST}` |\n");
        }
        (page, tests)
    }

    /// The findings after this change of a sound page.
    fn told(change: impl FnOnce(&mut String, &mut BTreeSet<String>)) -> Vec<String> {
        let (mut page, mut tests) = sound();
        page = page.replacen("| 7 | `no_rule` | `flows::a_test` |", "| 7 | a promise | `L1` |", 1);
        change(&mut page, &mut tests);
        check(&page, &tests, &["no_rule"]).into_iter().map(|finding| finding.what).collect()
    }

    fn replaced(from: &str, to: &str) -> Vec<String> {
        told(|page, _| {
            assert!(page.contains(from), "{page}");
            *page = page.replacen(from, to, 1);
        })
    }

    #[test]
    fn a_sound_page_is_left_alone() {
        assert_eq!(told(|_, _| {}), [""; 0]);
        let more = "attacks/link::l1_another";
        let both = "`attacks::l1_a_packet`, `attacks/link::l1_another`";
        let found = told(|page, tests| {
            tests.insert(more.to_owned());
            *page = page.replacen("`attacks::l1_a_packet`", both, 1);
        });
        assert_eq!(found, [""; 0]);
    }

    #[test]
    fn the_suite_is_written_into_its_rows() {
        let (page, mut tests) = sound();
        let stale = page
            .replace("`attacks::l1_a_packet`", "`flows::a_test`, `flows::gone`, `attacks::gone`")
            .replace("`attacks::t4_a_packet`", "");
        tests.insert("attacks/tcp::t4_another".to_owned());
        let written = rewritten(&stale, &tests);
        assert_eq!(check(&written, &tests, &["no_rule"]), []);
        assert!(
            written.contains("| L1 | a packet | dropped | `attacks::l1_a_packet`, `flows::a_test` |\n"),
            "{written}"
        );
        assert!(written.contains("| `attacks/tcp::t4_another`, `attacks::t4_a_packet` |"), "{written}");
        assert_eq!(rewritten(&written, &tests), written);
    }

    #[test]
    fn what_goes_stale_is_found() {
        let rows = [
            (replaced("| 4 | `no_rule` | `flows::a_test` |\n", ""), "section 4 has 1 items"),
            (replaced("- one thing\n", "- one thing\n- another\n"), "section 1 has 2 items"),
            (
                replaced("- one thing\n", "| a | b |\n| --- | --- |\n| c | d |\n| e | f |\n"),
                "section 1 has 2 items",
            ),
            (replaced("| `flows::a_test` |", "| |"), "no test is named for `1`"),
            (
                replaced("`flows::a_test`", "`rules::a_test`"),
                "there is no test `rules::a_test`; there is `flows::a_test`",
            ),
            (replaced("| 8 | `no_rule` |", "| 8 | a reason |"), "no row of section 8 begins with `no_rule`"),
            (replaced("| 9 |", "| 12 |"), "there is no section `12`"),
            (replaced("| T4 |", "| T6 |"), "the attacks are L1"),
            (
                replaced("`attacks::t4_a_packet`", "`flows::a_test`"),
                "`T4` leaves out its test `attacks::t4_a_packet`",
            ),
            (
                told(|_, tests| {
                    tests.insert("attacks/tcp::t4_another".to_owned());
                }),
                "`T4` leaves out its test `attacks/tcp::t4_another`",
            ),
            (
                told(|_, tests| {
                    tests.insert("attacks/tcp::something".to_owned());
                }),
                "no row names the test `attacks/tcp::something`",
            ),
        ];
        for (found, expected) in rows {
            assert!(found.iter().any(|what| what.contains(expected)), "{expected}: {found:#?}");
        }
    }
}
