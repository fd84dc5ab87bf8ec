//! Documents that were read from disk and not looked into: for whoever has somebody else judge them,
//! and judges them only where that fails.

use std::path::PathBuf;

use super::{Disk, Documents, Files, Limits, Loaded, Source, assemble, files, report::Report};

/// What the files say, or why they could not be read.
#[derive(Debug)]
pub struct Unjudged {
    documents: Documents,
    report: Report,
}

impl Unjudged {
    /// Reads the documents that [`super::load`] would read. Each is read once: it may be a pipe.
    #[must_use]
    pub fn read(paths: &[PathBuf], limits: &Limits) -> Self {
        let mut report = Report::new(*limits);
        let mut read = Vec::new();
        for path in paths {
            match files::documents(path) {
                Ok(found) => {
                    read.extend(found.into_iter().map(|found| {
                        let limit = report.bytes_left(limits.document_bytes);
                        let bytes = files::read_document(&found, found == *path, limit);
                        (found.display().to_string(), report.charge(bytes))
                    }));
                }
                Err(message) => read.push((path.display().to_string(), Err(message))),
            }
        }
        Self { documents: read, report }
    }

    /// The documents, if they are all that a policy is read from. `None` where one of them could not be
    /// read, is no text, or may name a list file.
    #[must_use]
    pub fn sources(&self) -> Option<Vec<Source>> {
        let source = |(name, bytes): &(String, Result<Vec<u8>, String>)| {
            let bytes = bytes.as_ref().ok()?;
            let text = str::from_utf8(bytes).ok()?;
            // Without an escape, the key that names a list file is there as it is.
            let names_none = !text.contains("file") && !text.contains('\\');
            names_none.then(|| Source { name: name.clone(), bytes: bytes.clone() })
        };
        self.documents.iter().map(source).collect()
    }

    /// Judges them.
    #[must_use]
    pub fn judge(self) -> Loaded {
        self.judge_with(&Disk)
    }

    /// The same; list files come from `files`.
    pub(super) fn judge_with(self, files: &dyn Files) -> Loaded {
        assemble(self.documents, files, self.report)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::document::{NoFiles, parse_with};

    #[test]
    fn only_documents_that_are_all_there_is_are_handed_on() {
        let folder = tempfile::tempdir().unwrap();
        // (text, whether it is handed on)
        for (text, is_whole) in [
            (&b"version: 1\n"[..], true),
            (b"version: 2\nnot: valid\n", true),
            (b"prefix_lists: {l: {file: l.txt}}\n", false),
            (b"prefix_lists: {l: {\"\\x66ile\": l.txt}}\n", false),
            (b"version: 1 # \xff\n", false),
        ] {
            let path = folder.path().join("p.yaml");
            fs::write(&path, text).unwrap();
            let unjudged = Unjudged::read(std::slice::from_ref(&path), &Limits::default());
            let Some(sources) = unjudged.sources() else {
                assert!(!is_whole, "{text:?}");
                continue;
            };
            assert!(is_whole, "{text:?}");
            // Whoever gets them says the same.
            let [Source { name, bytes }] = &sources[..] else { panic!("{sources:?}") };
            let texts = [(name.as_str(), str::from_utf8(bytes).unwrap())];
            let theirs = parse_with(&texts, &NoFiles, &Limits::default());
            let ours = unjudged.judge();
            assert_eq!((theirs.errors, theirs.policy), (ours.errors, ours.policy), "{text:?}");
        }
        let missing = Unjudged::read(&[folder.path().join("none")], &Limits::default());
        assert!(missing.sources().is_none());
        assert!(!missing.judge().errors.is_empty());
    }
}
