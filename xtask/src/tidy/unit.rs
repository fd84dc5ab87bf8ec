//! The systemd unit: systemd itself finds nothing wrong with it, and its exposure is what the page on
//! installing says.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::run;
use crate::tidy::{Finding, Severity};
use crate::toolchain::find_program;

const UNIT: &str = "packaging/systemd/sg-agent.service";
const PAGE: &str = "docs/install.md";
/// What the page says before the exposure, and before the version of systemd that told it.
const SAYS: (&str, &str) = ("exposure is **", "** by systemd ");
/// The highest exposure that no version of systemd may tell: in tenths, as all that follow.
const HIGHEST: u32 = 20;

/// What is wrong with the unit or the page. Without `systemd-analyze` nothing is known.
pub(crate) fn findings(root: &Path) -> Result<Vec<Finding>> {
    if find_program("systemd-analyze").is_none() {
        run::say("tidy: no `systemd-analyze`: the unit was not checked");
        return Ok(Vec::new());
    }
    let page = fs::read_to_string(root.join(PAGE)).with_context(|| format!("cannot read {PAGE}"))?;
    let analyze = |arguments: &[&str]| -> Result<(String, String)> {
        let mut command = Command::new("systemd-analyze");
        command.current_dir(root).env("LC_ALL", "C").args(arguments);
        let output = command.output().context("cannot start `systemd-analyze`")?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok((text(&output.stdout), text(&output.stderr)))
    };
    let mut found: Vec<_> =
        complaints(&analyze(&["verify", UNIT])?.1).map(|what| finding(UNIT, what)).collect();
    let version = version(&analyze(&["--version"])?.0);
    let (told, error) = analyze(&["security", "--offline=true", "--no-pager", UNIT])?;
    match exposure(&told) {
        Some(exposure) => found.extend(compare(&page, exposure, version).map(|what| finding(PAGE, what))),
        // Versions before 250 only look at units that are installed.
        None => run::say(&format!("tidy: the unit's exposure was not checked: {}", error.trim())),
    }
    Ok(found)
}

fn finding(path: &str, what: String) -> Finding {
    Finding { severity: Severity::Error, path: path.to_owned(), line: 1, what }
}

/// What `verify` says of this unit: all but that the agent is not installed here.
fn complaints(said: &str) -> impl Iterator<Item = String> {
    let ours = said.lines().filter(|line| line.contains("sg-agent.service"));
    ours.filter(|line| !line.contains("Command /usr/sbin/sg-agent is not executable")).map(str::to_owned)
}

/// The first number of `systemd 252 (252.38-1)`.
fn version(told: &str) -> Option<u32> {
    told.split_whitespace().nth(1)?.parse().ok()
}

/// The exposure in tenths, from the last line of `security`.
fn exposure(told: &str) -> Option<u32> {
    let (_, rest) = told.split_once("Overall exposure level for sg-agent.service: ")?;
    tenths(rest.split_whitespace().next()?)
}

fn tenths(text: &str) -> Option<u32> {
    text.replace('.', "").parse().ok()
}

/// What is wrong with an exposure that this version of systemd tells. Other versions than the page's
/// count otherwise.
fn compare(page: &str, exposure: u32, version: Option<u32>) -> Option<String> {
    let said = page.split_once(SAYS.0).and_then(|(_, rest)| {
        let (said, rest) = rest.split_once(SAYS.1)?;
        let version: String = rest.chars().take_while(char::is_ascii_digit).collect();
        Some((tenths(said)?, version.parse::<u32>().ok()?))
    });
    let shown = format!("{}.{}", exposure / 10, exposure % 10);
    match said {
        None => Some(format!("does not say that the {}{shown}{}…", SAYS.0, SAYS.1)),
        Some((said, by)) if Some(by) == version && said != exposure => {
            Some(format!("says that the unit's exposure is {}.{}; it is {shown}", said / 10, said % 10))
        }
        Some(_) if exposure > HIGHEST => Some(format!(
            "the unit's exposure is {shown}, and may be {}.{} at most",
            HIGHEST / 10,
            HIGHEST % 10
        )),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exposure_is_read_from_the_last_line() {
        let told = "  NAME\n✗ User=  0.4\n\n→ Overall exposure level for sg-agent.service: 1.5 OK 🙂\n";
        assert_eq!(exposure(told), Some(15));
        assert_eq!(exposure("Failed to connect to bus"), None);
        assert_eq!(version("systemd 252 (252.38-1~deb12u1)\n+PAM"), Some(252));
    }

    #[test]
    fn a_page_that_says_otherwise_is_stale() {
        let page = "Its exposure is **1.5** by systemd 252.";
        assert_eq!(compare(page, 15, Some(252)), None);
        assert!(compare(page, 16, Some(252)).unwrap().contains("is 1.5; it is 1.6"));
        assert_eq!(compare(page, 16, Some(257)), None, "another version counts otherwise");
        assert!(compare(page, 21, Some(257)).unwrap().contains("at most"));
        assert!(compare("nothing", 15, Some(252)).is_some());
    }

    #[test]
    fn an_agent_that_is_not_installed_is_no_complaint() {
        let said = "sg-agent.service: Command /usr/sbin/sg-agent is not executable: No such file or directory\n\
                    other.service: Unknown key name\n\
                    /w/sg-agent.service:4: Unknown key name 'Restrat' in section 'Service', ignoring.\n";
        let found: Vec<_> = complaints(said).collect();
        assert_eq!(found.len(), 1);
        assert!(found[0].contains("Restrat"));
    }
}
