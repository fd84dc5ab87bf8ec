//! What the machines say, summed up.

use anyhow::{Result, bail, ensure};

use super::root;
use crate::counts::Counts;
use crate::test::Tally;

/// The sum over all machines.
#[derive(Default)]
pub(super) struct Report {
    /// How many tests ended how.
    pub(super) tally: Tally,
    /// How much the verifier had to do.
    pub(super) counts: Counts,
    /// Test programs and their exit statuses.
    ended: Vec<(String, String)>,
}

impl Report {
    /// Adds a line of a console.
    pub(super) fn add(&mut self, line: &str) {
        self.tally.add(line);
        self.counts.add(line);
        // A test may not have ended its own line.
        if let Some((_, rest)) = line.split_once(root::ENDED)
            && let Some((name, status)) = rest.trim().split_once(' ')
        {
            self.ended.push((name.to_owned(), status.to_owned()));
        }
    }

    /// Whether `count` test programs ended, and all of them well.
    pub(super) fn check(&self, count: usize) -> Result<()> {
        let failed: Vec<_> =
            self.ended.iter().filter(|(_, status)| status != "0").map(|(name, _)| name.as_str()).collect();
        ensure!(failed.is_empty(), "tests failed in {}; see above", failed.join(", "));
        if self.ended.len() != count {
            bail!(
                "machines turned themselves off after {} of {count} test programs; see above",
                self.ended.len()
            );
        }
        Ok(())
    }
}

/// Whether a line tells how one test has ended.
pub(super) fn tells_a_test(line: &str) -> bool {
    line.starts_with("test ") && [" ... ok", " ... FAILED"].iter().any(|end| line.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_a_test_is_told_from_others() {
        assert!(tells_a_test("test a::b ... ok") && tells_a_test("test c ... FAILED"));
        assert!(!tells_a_test("test result: ok. 1 passed") && !tells_a_test("test d ... vm: begun"));
    }

    #[test]
    fn a_failed_program_and_a_missing_one_are_told_apart() {
        let mut report = Report::default();
        report.add("test x ... vm: ended a 0");
        assert!(report.check(2).unwrap_err().to_string().contains("1 of 2"));
        report.add("vm: ended b 101");
        assert!(report.check(2).unwrap_err().to_string().contains("failed in b"));
        let mut report = Report::default();
        report.add("vm: ended a 0");
        report.add("test result: ok. 4 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out");
        report.add("vm: ended b 0");
        report.check(2).unwrap();
        assert_eq!(report.tally.to_string(), "tests: 4 passed, 0 failed, 1 skipped");
    }
}
