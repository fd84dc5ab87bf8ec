//! How many instructions the verifier goes through, as the tests tell and `tests/verifier.toml` keeps.
//!
//! The file is a ratchet: the test that loads the programs fails where a count has grown by more
//! than a tenth over the one that is kept. Here the counts are only written.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context as _, Result, ensure};

use crate::{run, workspace};

/// What the test begins its lines with; kernel, program and count follow.
const TOLD: &str = "verifier: ";
const HEADER: &str = "\
# Instructions that the verifier goes through, for each kernel and program. The tests fail where one
# has grown by more than a tenth. Written by `cargo xtask test --record` for the running kernel, and by
# `cargo xtask vm VERSION --record` for another.

";

/// Programs and their counts, by kernel.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts(BTreeMap<String, BTreeMap<String, u32>>);

impl Counts {
    /// Adds a line of output, if it tells a count.
    pub(crate) fn add(&mut self, line: &str) {
        let Some((_, told)) = line.split_once(TOLD) else { return };
        let mut words = told.split_whitespace();
        if let (Some(kernel), Some(program), Some(Ok(count)), None) =
            (words.next(), words.next(), words.next().map(str::parse), words.next())
        {
            self.0.entry(kernel.to_owned()).or_default().insert(program.to_owned(), count);
        }
    }

    /// Writes the counts into the file, over those that it has of the same kernels.
    pub(crate) fn write(self) -> Result<()> {
        ensure!(!self.0.is_empty(), "no test has told how much the verifier had to do");
        let path = workspace::root().join("tests/verifier.toml");
        let mut kept: BTreeMap<String, BTreeMap<String, u32>> = match fs::read_to_string(&path) {
            Ok(text) => toml::from_str(&text).with_context(|| path.display().to_string())?,
            Err(_) => BTreeMap::new(),
        };
        kept.extend(self.0);
        fs::write(&path, format!("{HEADER}{}", toml::to_string(&kept)?))?;
        run::say(&format!("wrote {}", path.display()));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_found_in_the_output_of_tests() {
        let mut counts = Counts::default();
        counts.add("test verified ... verifier: 6.1 sg_xdp 1000");
        counts.add("verifier: 6.1 sg_tc_egress 2000\r");
        counts.add("verifier: nothing");
        let programs = BTreeMap::from([("sg_xdp".to_owned(), 1000), ("sg_tc_egress".to_owned(), 2000)]);
        assert_eq!(counts, Counts(BTreeMap::from([("6.1".to_owned(), programs)])));
    }
}
