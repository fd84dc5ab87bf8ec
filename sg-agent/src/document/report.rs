//! Collects what is wrong, with the sources that it is wrong in, and says it all at the end.

use std::sync::Arc;

use super::{
    Limits, Source,
    diagnostic::{Diagnostic, Severity, excerpt, visible},
    spelling,
};
use crate::policy::Position;

/// A place in a source: 12 bytes, however long the file's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Mark {
    /// The number of the source in the report.
    pub source: u32,
    /// From 1.
    pub line: u32,
    /// In characters, from 1.
    pub column: u32,
}

impl Mark {
    /// The file as a whole.
    pub(super) const fn file(source: u32) -> Self {
        Self { source, line: 1, column: 1 }
    }
}

/// A value and where it was written.
#[derive(Clone, Debug)]
pub(super) struct Spanned<T> {
    pub value: T,
    pub at: Mark,
}

#[derive(Debug)]
struct Finding {
    at: Mark,
    message: String,
    suggestion: Option<String>,
}

/// Findings of one severity, kept up to a limit.
#[derive(Debug, Default)]
struct Findings {
    kept: Vec<Finding>,
    overflowed: bool,
}

/// How many words may be compared for suggestions in one load.
const SPELLINGS: usize = 1 << 20;

/// The state of one load: sources, findings and what is left of the limits.
#[derive(Debug)]
pub(super) struct Report {
    pub limits: Limits,
    sources: Vec<Source>,
    /// The names of the sources as messages show them.
    shown: Vec<Arc<str>>,
    errors: Findings,
    warnings: Findings,
    bytes: usize,
    complete: bool,
    spellings_left: usize,
}

impl Report {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            sources: Vec::new(),
            shown: Vec::new(),
            errors: Findings::default(),
            warnings: Findings::default(),
            bytes: 0,
            complete: true,
            spellings_left: SPELLINGS,
        }
    }

    /// How many bytes may still be read, out of `limit` for this file.
    pub(super) fn bytes_left(&self, limit: usize) -> usize {
        limit.min(self.limits.bytes.saturating_sub(self.bytes))
    }

    /// Counts what was read against the limit of all bytes.
    pub(super) fn charge(&mut self, read: Result<Vec<u8>, String>) -> Result<Vec<u8>, String> {
        if let Ok(bytes) = &read {
            self.bytes += bytes.len();
        }
        read
    }

    /// Lends the bytes of a source out; [`Report::give_back`] ends the loan.
    pub(super) fn lend(&mut self, source: u32) -> Vec<u8> {
        self.sources.get_mut(source as usize).map_or_else(Vec::new, |of| std::mem::take(&mut of.bytes))
    }

    /// Takes back what [`Report::lend`] gave.
    pub(super) fn give_back(&mut self, source: u32, bytes: Vec<u8>) {
        if let Some(of) = self.sources.get_mut(source as usize) {
            of.bytes = bytes;
        }
    }

    pub(super) fn add_source(&mut self, name: String, bytes: Vec<u8>) -> u32 {
        self.shown.push(name.chars().map(visible).collect::<String>().into());
        self.sources.push(Source { name, bytes });
        u32::try_from(self.sources.len() - 1).unwrap_or(u32::MAX)
    }

    /// The bytes as text; an error at the first byte that is not UTF-8.
    pub(super) fn utf8<'b>(&mut self, source: u32, bytes: &'b [u8]) -> Option<&'b str> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Some(text),
            Err(error) => {
                let (valid, _) = bytes.split_at(error.valid_up_to());
                let valid = String::from_utf8_lossy(valid);
                let line = lines(valid.as_bytes()).count().max(1);
                let last = valid.rsplit(['\n', '\r']).next().unwrap_or_default();
                let at = Mark { source, line: small(line), column: small(last.chars().count() + 1) };
                self.error(at, "the file is not UTF-8; save it as UTF-8".to_owned());
                None
            }
        }
    }

    /// Notes that a part of the policy could not be read, so that a name which is not found may
    /// well be in it.
    pub(super) fn unreadable(&mut self) {
        self.complete = false;
    }

    /// Whether everything that was named could be read.
    pub(super) fn is_complete(&self) -> bool {
        self.complete
    }

    pub(super) fn has_errors(&self) -> bool {
        !self.errors.kept.is_empty() || self.errors.overflowed
    }

    /// Whether no further error would be kept: nothing more is looked for then, so that a document
    /// cannot buy time with errors.
    pub(super) fn is_full(&self) -> bool {
        self.errors.kept.len() >= self.limits.diagnostics
    }

    /// The candidate that `word` was probably meant to be.
    pub(super) fn nearest<'c>(
        &mut self,
        word: &str,
        candidates: impl IntoIterator<Item = &'c str>,
    ) -> Option<String> {
        let mut left = if self.is_full() { 0 } else { self.spellings_left };
        let candidates = candidates.into_iter().take_while(|_| {
            let more = left > 0;
            left = left.saturating_sub(1);
            more
        });
        let found = spelling::nearest(word, candidates).map(str::to_owned);
        self.spellings_left = left;
        found
    }

    pub(super) fn error(&mut self, at: Mark, message: String) {
        self.suggest(at, message, None);
    }

    pub(super) fn suggest(&mut self, at: Mark, message: String, suggestion: Option<String>) {
        let limit = self.limits.diagnostics;
        self.errors.add(Finding { at, message, suggestion }, limit);
    }

    pub(super) fn warn(&mut self, at: Mark, message: String) {
        self.warn_suggest(at, message, None);
    }

    pub(super) fn warn_suggest(&mut self, at: Mark, message: String, suggestion: Option<String>) {
        let limit = self.limits.diagnostics;
        self.warnings.add(Finding { at, message, suggestion }, limit);
    }

    /// The place as messages name it.
    pub(super) fn position(&self, at: Mark) -> Position {
        position(&self.shown, at)
    }

    /// The name of a source.
    pub(super) fn name(&self, source: u32) -> &str {
        self.sources.get(source as usize).map_or("", |of| of.name.as_str())
    }

    /// Errors, warnings and sources.
    pub(super) fn finish(self) -> (Vec<Diagnostic>, Vec<Diagnostic>, Vec<Source>) {
        let Self { sources, shown, errors, warnings, .. } = self;
        // Lines are found once for each source that anything is said about.
        let mut starts: Vec<Option<Vec<&[u8]>>> = vec![None; sources.len()];
        let mut told = |findings: Findings, severity| {
            let mut kept = findings.kept;
            kept.sort_by_key(|finding| finding.at);
            if let Some(last) = kept.last().filter(|_| findings.overflowed) {
                let message = format!("{} of these are enough; further ones are not shown", kept.len());
                kept.push(Finding { at: last.at, message, suggestion: None });
            }
            let mut told = Vec::with_capacity(kept.len());
            for Finding { at, message, suggestion } in kept {
                let source = sources.get(at.source as usize);
                let line = source.zip(starts.get_mut(at.source as usize)).and_then(|(source, starts)| {
                    let starts = starts.get_or_insert_with(|| lines(&source.bytes).collect());
                    starts.get((at.line as usize).saturating_sub(1)).copied()
                });
                let line = String::from_utf8_lossy(line.unwrap_or_default());
                // The parser counts octets behind some signs (`%`), and so past the line's end.
                let before = line.chars().take((at.column as usize).saturating_sub(1)).count();
                let at = Mark { column: small(before + 1), ..at };
                let (source_line, caret) = excerpt(&line, before + 1);
                let position = position(&shown, at);
                told.push(Diagnostic { position, severity, message, source_line, suggestion, caret });
            }
            told
        };
        let errors = told(errors, Severity::Error);
        let warnings = told(warnings, Severity::Warning);
        (errors, warnings, sources)
    }
}

fn position(shown: &[Arc<str>], at: Mark) -> Position {
    let file = shown.get(at.source as usize).map_or_else(|| "".into(), Arc::clone);
    Position { file, line: at.line as usize, column: at.column as usize }
}

impl Findings {
    fn add(&mut self, finding: Finding, limit: usize) {
        if self.kept.len() < limit {
            self.kept.push(finding);
        } else {
            self.overflowed = true;
        }
    }
}

/// A count as marks hold it; files are far smaller.
pub(super) fn small(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// The lines of a text as YAML counts them: ended by LF, CR LF or CR.
pub(super) fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(bytes);
    std::iter::from_fn(move || {
        let text = rest?;
        let Some(end) = text.iter().position(|byte| matches!(byte, b'\n' | b'\r')) else {
            rest = None;
            return Some(text);
        };
        let (line, ended) = text.split_at(end);
        rest = ended.strip_prefix(b"\r\n").or_else(|| ended.get(1..));
        Some(line)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_as_yaml_ends_them() {
        for (text, expected) in [
            ("", vec![""]),
            ("a", vec!["a"]),
            ("a\nb\r\nc\rd\n", vec!["a", "b", "c", "d", ""]),
            ("\n\n", vec!["", "", ""]),
        ] {
            let found: Vec<_> = lines(text.as_bytes()).map(|line| str::from_utf8(line).unwrap()).collect();
            assert_eq!(found, expected, "{text:?}");
        }
    }
}
