//! The ratios that are kept, by processor.

use std::{collections::BTreeMap, fs};

use anyhow::{Context as _, Result};

/// Where they are.
pub(crate) const FILE: &str = "tests/bench.toml";
const HEADER: &str = "\
# What a packet costs in the programs, by what it costs in a reference program in the same run, for each
# processor: vendor, family and model. `cargo xtask ci bench` fails where one has grown by more than 15 %.
# Written by `cargo xtask bench --record` for the processor that it runs on.

";

/// Ratios by the names of their cases.
pub(crate) type Ratios = BTreeMap<String, f64>;

/// All that is kept.
///
/// # Errors
/// The file is no such file.
pub(crate) fn read() -> Result<BTreeMap<String, Ratios>> {
    parse(&fs::read_to_string(FILE).context(FILE)?).context(FILE)
}

/// The file's text.
///
/// # Errors
/// It is none of ratios.
pub(crate) fn parse(text: &str) -> Result<BTreeMap<String, Ratios>> {
    Ok(toml::from_str(text)?)
}

/// Keeps these, over those of the same processor.
///
/// # Errors
/// The file cannot be written.
pub(crate) fn write(processor: &str, ratios: Ratios) -> Result<()> {
    let mut kept = read()?;
    let ratios = ratios.into_iter().map(|(name, ratio)| (name, (ratio * 1000.0).round() / 1000.0));
    kept.insert(processor.to_owned(), ratios.collect());
    fs::write(FILE, format!("{HEADER}{}", toml::to_string(&kept)?)).context(FILE)
}

/// The processor that this runs on, as `AuthenticAMD 25.17`.
///
/// # Errors
/// The kernel does not tell.
pub(crate) fn processor() -> Result<String> {
    named(&fs::read_to_string("/proc/cpuinfo")?)
}

fn named(text: &str) -> Result<String> {
    let field = |name: &str| {
        let mut lines = text.lines().filter_map(|line| line.split_once(':'));
        lines.find_map(|(key, value)| (key.trim() == name).then(|| value.trim()))
    };
    match (field("vendor_id"), field("cpu family"), field("model")) {
        (Some(vendor), Some(family), Some(model)) => Ok(format!("{vendor} {family}.{model}")),
        // Arm's have other words.
        _ => field("CPU part").map(|part| format!("part {part}")).context("no processor in /proc/cpuinfo"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_named_by_what_does_not_change() {
        let amd = "processor\t: 0\nvendor_id\t: AuthenticAMD\ncpu family\t: 25\nmodel\t\t: 17\nmodel name\t: AMD EPYC\n";
        assert_eq!(named(amd).unwrap(), "AuthenticAMD 25.17");
        assert_eq!(named("processor : 0\nCPU part : 0xd0c\n").unwrap(), "part 0xd0c");
        assert!(named("").is_err());
    }
}
