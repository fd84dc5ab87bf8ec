//! What is asked for on the command line. `cargo xtask bench --help` explains it to people.

use anyhow::{Result, bail, ensure};

/// A part of the benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Section {
    /// What the programs cost.
    Program,
    /// What crosses a wire.
    Wire,
    /// What a change of policy costs.
    Change,
    /// What more of everything costs.
    Scale,
}

impl Section {
    /// All of them, in the order in which they run.
    pub(crate) const ALL: [Self; 4] = [Self::Program, Self::Wire, Self::Change, Self::Scale];

    /// As it is asked for.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Program => "program",
            Self::Wire => "wire",
            Self::Change => "change",
            Self::Scale => "scale",
        }
    }
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// Which parts, in their order.
    pub(crate) sections: Vec<Section>,
    /// Fewer cases and rounds: to see that it works.
    pub(crate) is_short: bool,
    /// Whether tables and charts go into the documents.
    pub(crate) docs: bool,
    /// Only the ratchet, and what it does.
    pub(crate) ratchet: Option<Ratchet>,
}

/// What becomes of the ratios that the ratchet measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ratchet {
    /// They are compared with those that are kept.
    Compare,
    /// They are kept.
    Record,
}

impl Options {
    /// Reads the arguments.
    ///
    /// # Errors
    /// One is unknown.
    pub(crate) fn parse(arguments: impl Iterator<Item = String>) -> Result<Self> {
        let mut options =
            Self { sections: Section::ALL.to_vec(), is_short: false, docs: false, ratchet: None };
        let mut arguments = arguments;
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--short" => options.is_short = true,
                "--docs" => options.docs = true,
                "--ratchet" => options.ratchet = Some(Ratchet::Compare),
                "--record" => options.ratchet = Some(Ratchet::Record),
                "--only" => options.sections = sections(&arguments.next().unwrap_or_default())?,
                _ => bail!("unknown argument `{argument}`; see cargo xtask bench --help"),
            }
        }
        Ok(options)
    }
}

fn sections(names: &str) -> Result<Vec<Section>> {
    let names: Vec<_> = names.split(',').collect();
    for name in &names {
        let known = Section::ALL.map(Section::name);
        ensure!(known.contains(name), "there is no part `{name}`; the parts are {}", known.join(", "));
    }
    Ok(Section::ALL.into_iter().filter(|section| names.contains(&section.name())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Options> {
        Options::parse(text.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn parts_run_in_their_order_whatever_the_order_asked_for() {
        assert_eq!(parse("").unwrap().sections, Section::ALL);
        let some = parse("--short --only scale,wire").unwrap();
        assert_eq!((some.sections, some.is_short), (vec![Section::Wire, Section::Scale], true));
    }

    #[test]
    fn what_is_unknown_is_named() {
        for (text, expected) in
            [("--only wires", "no part `wires`"), ("--fast", "`--fast`"), ("--only", "``")]
        {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
