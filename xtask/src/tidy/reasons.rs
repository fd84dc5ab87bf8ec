//! Every drop reason is explained to users.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context as _, Result};
use sg_common::verdict::DropReason;

use crate::tidy::{Finding, Severity};

/// Where users look a reason up.
const PAGE: &str = "docs/semantics.md";

/// The reasons that the page does not name; none as long as there is no page.
pub(crate) fn undocumented(root: &Path) -> Result<Vec<Finding>> {
    match fs::read_to_string(root.join(PAGE)) {
        Ok(page) => Ok(missing(&page)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).with_context(|| format!("cannot read {PAGE}")),
    }
}

fn missing(page: &str) -> Vec<Finding> {
    let absent = DropReason::ALL
        .iter()
        .map(|reason| reason.name())
        .filter(|name| !page.contains(&format!("`{name}`")));
    absent
        .map(|name| Finding {
            severity: Severity::Error,
            path: PAGE.to_owned(),
            line: 1,
            what: format!("does not explain the drop reason `{name}`"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_that_the_page_leaves_out_is_found() {
        let all: String =
            DropReason::ALL.iter().map(|reason| format!("| `{}` | … |\n", reason.name())).collect();
        assert_eq!(missing(&all), []);
        let without = all.replace("`martian`", "`other`");
        assert!(missing(&without)[0].what.contains("martian"));
    }
}
