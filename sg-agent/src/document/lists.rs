//! List files: one CIDR a line, `#` comments, blank lines.

use std::path::Path;

use sg_common::addr::Prefix;

use super::{
    addresses,
    diagnostic::quote,
    files::{self, Files},
    report::{Mark, Report, Spanned, lines, small},
};

/// Reads the list file that a document names. Errors in it carry its own lines.
pub(super) fn read(file: &Spanned<String>, files: &dyn Files, report: &mut Report) -> Vec<Prefix> {
    let folder = Path::new(report.name(file.at.source)).parent().unwrap_or(Path::new(""));
    let path = folder.join(&file.value);
    let limit = report.bytes_left(usize::MAX - 1);
    let read = files::bounded(files.read(&path, limit), limit);
    let bytes = match report.charge(read) {
        Ok(bytes) => bytes,
        Err(message) => {
            report.error(file.at, format!("the list file {}: {message}", quote(&path.display().to_string())));
            return Vec::new();
        }
    };
    let source = report.add_source(path.display().to_string(), bytes);
    let bytes = report.lend(source);
    let entries = report.utf8(source, &bytes).map(|text| entries(text, source, report));
    report.give_back(source, bytes);
    entries.unwrap_or_default()
}

fn entries(text: &str, source: u32, report: &mut Report) -> Vec<Prefix> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut entries = Vec::new();
    for (index, line) in lines(text.as_bytes()).enumerate() {
        if report.is_full() {
            break;
        }
        // A line of UTF-8 text that was cut at ASCII characters is UTF-8.
        let line = str::from_utf8(line).unwrap_or_default();
        let content = line.split('#').next().unwrap_or_default();
        let entry = content.trim();
        if entry.is_empty() {
            continue;
        }
        let before = content.len() - content.trim_start().len();
        let column = content.get(..before).unwrap_or_default().chars().count() + 1;
        let at = Mark { source, line: small(index + 1), column: small(column) };
        entries.extend(addresses::prefix(entry, at, report));
    }
    entries
}
