//! The sum of what several test programs report.

use std::fmt;

/// How many tests ended how.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    passed: u64,
    failed: u64,
    skipped: u64,
}

impl Tally {
    /// Adds a line of output, if it is a test program's last:
    /// `test result: ok. 4 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; …`
    pub(crate) fn add(&mut self, line: &str) {
        let Some((_, counts)) = line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". "))
        else {
            return;
        };
        for count in counts.split("; ") {
            let Some((number, what)) = count.split_once(' ') else { continue };
            let Ok(number) = number.parse::<u64>() else { continue };
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.skipped += number,
                _ => {}
            }
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "tests: {} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_add_up_and_other_lines_do_not_count() {
        let mut tally = Tally::default();
        for line in [
            "running 5 tests",
            "test lab::tests::a ... ok",
            "test result: ok. 4 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.01s",
            "test result: FAILED. 10 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.5s",
            "3 failed",
        ] {
            tally.add(line);
        }
        assert_eq!(tally, Tally { passed: 14, failed: 3, skipped: 1 });
        assert_eq!(tally.to_string(), "tests: 14 passed, 3 failed, 1 skipped");
    }
}
