//! Puts tables where the documents want them: between `<!-- bench:ID -->` and `<!-- /bench -->`. What else
//! the documents say is written by people.

use anyhow::{Context as _, Result, ensure};

use crate::report::Table;

const END: &str = "<!-- /bench -->";

/// The document with these tables in their places; those that were not measured stay as they are.
///
/// # Errors
/// A table has no place, or a place no end.
pub(crate) fn with_tables(document: &str, tables: &[Table]) -> Result<String> {
    let mut text = document.to_owned();
    for table in tables {
        let mark = format!("<!-- bench:{} -->\n", table.id);
        let (before, rest) =
            text.split_once(&mark).with_context(|| format!("the document has no place {}", mark.trim()))?;
        let (_, after) = rest.split_once(END).with_context(|| format!("no {END} after {}", mark.trim()))?;
        text = format!("{before}{mark}{}{END}{after}", table.markdown());
    }
    ensure!(!text.contains("\n\n\n"), "an empty table leaves a hole");
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_measured_is_replaced() {
        let document = "# A\n<!-- bench:a -->\nold a\n<!-- /bench -->\nwords\n<!-- bench:b -->\nold b\n<!-- /bench -->\n";
        let mut table = Table::new("b", "B", &["x"]);
        table.rows.push(vec!["new".into()]);
        let written = with_tables(document, &[table]).unwrap();
        assert!(written.contains("old a") && written.contains("| new |") && !written.contains("old b"));
        let again = with_tables(&written, &[]).unwrap();
        assert_eq!(again, written);
        assert!(with_tables(document, &[Table::new("c", "C", &["x"])]).is_err());
    }
}
