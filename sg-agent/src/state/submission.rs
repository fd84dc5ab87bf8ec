//! A policy as its author wrote it: the texts of all documents and list files.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use utoipa::ToSchema;

use crate::document::{self, Files, Limits, Loaded, Source};

/// Everything that a policy was read from. It can be read again without the author's folder.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Submission {
    /// The documents, in the order read.
    pub documents: Vec<Text>,
    /// The list files that the documents name.
    #[serde(default)]
    pub files: Vec<Text>,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Text {
    /// Its path, as its author named it or the document does.
    pub name: String,
    /// What it says.
    pub text: String,
}

impl Submission {
    /// The texts of `sources`, the first of which are documents. Files that are no UTF-8 have led to
    /// errors already, and are left out.
    #[must_use]
    pub fn of(sources: Vec<Source>, documents: usize) -> Self {
        let mut submission = Self::default();
        for (number, Source { name, bytes }) in sources.into_iter().enumerate() {
            let to = if number < documents { &mut submission.documents } else { &mut submission.files };
            to.extend(String::from_utf8(bytes).ok().map(|text| Text { name, text }));
        }
        submission
    }

    /// Reads the policy from the texts.
    #[must_use]
    pub fn load(&self, limits: &Limits) -> Loaded {
        let documents: Vec<(&str, &str)> =
            self.documents.iter().map(|text| (text.name.as_str(), text.text.as_str())).collect();
        let files =
            Sent(self.files.iter().map(|text| (PathBuf::from(&text.name), text.text.as_bytes())).collect());
        document::parse_with(&documents, &files, limits)
    }

    /// SHA-256 over names and texts, in hexadecimal.
    #[must_use]
    pub fn digest(&self) -> String {
        self.digest_with(|text| &text.name)
    }

    fn digest_with(&self, name: fn(&Text) -> &str) -> String {
        let mut sha = Sha256::new();
        for (kind, texts) in [(b"d", &self.documents), (b"f", &self.files)] {
            for text in texts {
                sha.update(kind);
                for part in [name(text), &text.text] {
                    sha.update((part.len() as u64).to_le_bytes());
                    sha.update(part);
                }
            }
        }
        hex(&sha.finalize())
    }

    /// As [`Self::digest`], whatever the files are called and wherever they are.
    #[must_use]
    pub fn content_digest(&self) -> String {
        self.digest_with(|_| "")
    }

    /// The names of the documents.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.documents.iter().map(|text| text.name.clone()).collect()
    }
}

/// Bytes in hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    let digit = |value| char::from_digit(u32::from(value), 16).unwrap_or_default();
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

struct Sent<'t>(BTreeMap<PathBuf, &'t [u8]>);

impl Files for Sent<'_> {
    fn read(&self, path: &Path, _: usize) -> io::Result<Vec<u8>> {
        match self.0.get(path) {
            Some(bytes) => Ok(bytes.to_vec()),
            None => Err(io::Error::new(io::ErrorKind::NotFound, "it was not sent along")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_policy_read_again_from_its_texts_is_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let policy = folder.path().join("p.yaml");
        fs::write(
            &policy,
            "version: 1\nprefix_lists:\n  l: {file: l.txt}\ngroups:\n  g:\n    inbound:\n      \
             - {allow: ssh, from: list:l}\ninterfaces:\n  - {match: eth0, groups: [g]}\n",
        )
        .unwrap();
        fs::write(folder.path().join("l.txt"), "192.0.2.0/24 # lab\n").unwrap();
        let loaded = document::load(&[policy], &Limits::default());
        assert_eq!(loaded.errors, []);
        let submission = Submission::of(loaded.sources.clone(), loaded.documents);
        assert_eq!((submission.documents.len(), submission.files.len()), (1, 1));
        drop(folder);
        let again = submission.load(&Limits::default());
        assert_eq!(again.policy, loaded.policy);
        assert!(again.policy.is_some());

        let mut missing = submission.clone();
        missing.files.clear();
        let errors = missing.load(&Limits::default()).errors;
        assert!(errors[0].message.contains("it was not sent along"), "{errors:?}");
    }

    #[test]
    fn the_digest_tells_names_texts_and_kinds_apart() {
        let text = |name: &str, text: &str| Text { name: name.to_owned(), text: text.to_owned() };
        let submissions = [
            Submission::default(),
            Submission { documents: vec![text("ab", "c")], files: vec![] },
            Submission { documents: vec![text("a", "bc")], files: vec![] },
            Submission { documents: vec![], files: vec![text("a", "bc")] },
            Submission { documents: vec![text("a", "bc"), text("", "")], files: vec![] },
        ];
        for (index, a) in submissions.iter().enumerate() {
            for b in &submissions[index + 1..] {
                assert_ne!(a.digest(), b.digest());
            }
            assert_eq!(a.digest().len(), 64);
        }
    }
}
