//! The policy document as users write it: YAML or JSON text in, a validated [`Policy`] out, or
//! everything that is wrong with it.
//!
//! It goes in steps: `files` finds and reads what was named, `tree` turns text into positioned
//! values, `decode` turns those into drafts, `resolve` merges the drafts and resolves names,
//! `warnings` looks at the finished policy. It knows nothing of packets, images or the kernel,
//! and all that a hostile document can cost is bounded by [`Limits`].

use std::path::PathBuf;

use crate::policy::{Peer, Policy};

mod addresses;
mod allow;
mod covering;
mod decode;
mod diagnostic;
mod draft;
mod files;
mod icmp;
mod keys;
mod limits;
mod lists;
mod names;
mod protocols;
mod report;
mod resolve;
pub mod schema;
pub mod services;
mod spelling;
mod surrogates;
mod tree;
mod unjudged;
mod warnings;

#[cfg(test)]
mod tests;

pub use self::{
    diagnostic::{Diagnostic, Severity},
    files::{Disk, Files, NoFiles, documents, is_document},
    limits::Limits,
    names::{icmp_name, icmp_number, protocol_name, protocol_number},
    schema::schema,
    unjudged::Unjudged,
};
use self::{draft::Draft, report::Report};

/// What reading a policy gave.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The policy; present if and only if there are no errors.
    pub policy: Option<Policy>,
    /// Every error, in the order of files, lines and columns.
    pub errors: Vec<Diagnostic>,
    /// Every warning, in the same order.
    pub warnings: Vec<Diagnostic>,
    /// How much the policy holds; nothing when there are errors.
    pub counts: Counts,
    /// Every file that was read, in the order read, documents before the list files.
    pub sources: Vec<Source>,
    /// How many of them are documents: the first ones.
    pub documents: usize,
}

/// How much a policy holds, as written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Groups.
    pub groups: usize,
    /// Rules that a document states; the default outbound rules are not among them.
    pub rules: usize,
    /// Prefixes: the entries of prefix lists, the members of groups, and those in rules.
    pub prefixes: usize,
}

/// One file that a policy was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The path as diagnostics show it: as the user named it, or a name below it.
    pub name: String,
    /// What was read.
    pub bytes: Vec<u8>,
}

/// Reads the documents at `paths`, each a file or a directory whose `*.yaml`, `*.yml` and `*.json`
/// are read in name order, and merges them into one policy.
#[must_use]
pub fn load(paths: &[PathBuf], limits: &Limits) -> Loaded {
    load_with(paths, &Disk, limits)
}

/// As [`load`]; list files come from `files`.
#[must_use]
pub fn load_with(paths: &[PathBuf], files: &dyn Files, limits: &Limits) -> Loaded {
    Unjudged::read(paths, limits).judge_with(files)
}

/// Reads one document from memory. Prefix lists with a `file` are errors: there are no files.
#[must_use]
pub fn parse_str(name: &str, text: &str, limits: &Limits) -> Loaded {
    parse_with(&[(name, text)], &NoFiles, limits)
}

/// Reads documents, names and texts, from memory and merges them; list files come from `files`.
#[must_use]
pub fn parse_with(documents: &[(&str, &str)], files: &dyn Files, limits: &Limits) -> Loaded {
    let mut report = Report::new(*limits);
    let documents = documents
        .iter()
        .map(|(name, text)| {
            let limit = report.bytes_left(limits.document_bytes);
            let bytes =
                if text.len() > limit { Err(files::too_large(limit)) } else { Ok(text.as_bytes().to_vec()) };
            ((*name).to_owned(), report.charge(bytes))
        })
        .collect();
    assemble(documents, files, report)
}

/// Names and contents of documents, or why they could not be read.
type Documents = Vec<(String, Result<Vec<u8>, String>)>;

fn assemble(documents: Documents, files: &dyn Files, mut report: Report) -> Loaded {
    let document_count = documents.len();
    let mut draft = Draft::default();
    for (name, bytes) in documents {
        match bytes {
            Ok(bytes) => {
                let source = report.add_source(name, bytes);
                read(source, &mut report, &mut draft);
            }
            Err(message) => {
                let source = report.add_source(name, Vec::new());
                report.error(report::Mark::file(source), message);
                report.unreadable();
            }
        }
    }
    let resolved = resolve::policy(draft, files, &mut report);
    if !report.has_errors() {
        warnings::look(&resolved, &mut report);
    }
    let failed = report.has_errors();
    let (errors, warnings, sources) = report.finish();
    let policy = (!failed).then_some(resolved.policy);
    Loaded {
        counts: policy.as_ref().map_or_else(Counts::default, Counts::of),
        policy,
        errors,
        warnings,
        sources,
        documents: document_count,
    }
}

/// Reads one document into `draft`.
fn read(source: u32, report: &mut Report, draft: &mut Draft) {
    let bytes = report.lend(source);
    let text = report.utf8(source, &bytes).map(surrogates::Text::new);
    match text.as_ref().and_then(|text| tree::Tree::parse(text, source, report)) {
        Some(tree) => decode::document(&tree, report, draft),
        None => report.unreadable(),
    }
    drop(text);
    report.give_back(source, bytes);
}

impl Counts {
    /// Counts what `policy` holds.
    #[must_use]
    pub fn of(policy: &Policy) -> Self {
        let mut counts = Self { groups: policy.groups.len(), rules: 0, prefixes: 0 };
        counts.prefixes += policy.prefix_lists.iter().map(|list| list.entries.len()).sum::<usize>();
        counts.prefixes += policy.groups.iter().map(|group| group.members.len()).sum::<usize>();
        for (_, rule) in policy.rules().filter(|(_, rule)| !rule.is_default) {
            counts.rules += 1;
            counts.prefixes += rule.peers.iter().filter(|peer| matches!(peer, Peer::Prefix(_))).count();
        }
        counts
    }
}
