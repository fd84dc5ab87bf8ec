//! The short way from text to a tree, for documents that keep to the plain part of YAML, as nearly
//! all policies do: block and flow collections, and scalars of one line that are their own text.
//!
//! It never finds an error. Whatever it does not know for certain (anchors, tags, escapes, scalars
//! of several lines, an odd indentation, a key given twice, a limit that is passed) it leaves to
//! the parser, which reads the document again from its beginning and has the say. What it does read
//! is the tree that the parser would have given, places included.

use std::{borrow::Cow, collections::HashSet};

use super::{Entry, Mark, Node, NodeId, Value};
use crate::document::{Limits, report::small};

mod flow;
mod scalar;

/// The longest key, with its quotes and what is between it and its colon: the parser has a limit of its
/// own, not far above.
const LONGEST_KEY: usize = 1000;
/// Up to here, comparing each key with each is quicker than hashing them.
const FEW_KEYS: usize = 16;

/// Reads a document. `None`: it is for the parser.
pub(super) fn read<'t>(text: &'t str, source: u32, limits: &Limits) -> Option<(Vec<Node<'t>>, NodeId)> {
    let bytes = text.as_bytes();
    // Only line feeds end lines here, and nothing moves the column. A byte order mark is an error even
    // in a comment.
    let is_odd = |byte: &u8| (*byte < b' ' && *byte != b'\n') || *byte == 0x7f;
    if bytes.iter().any(is_odd) || text.contains('\u{feff}') {
        return None;
    }
    let mut reader = Reader {
        text,
        bytes,
        source,
        limits,
        at: 0,
        line: 1,
        begin: 0,
        column: None,
        depth: 0,
        keys: 0,
        nodes: Vec::new(),
    };
    let root = reader.document()?;
    Some((reader.nodes, root))
}

struct Reader<'t, 'l> {
    text: &'t str,
    bytes: &'t [u8],
    source: u32,
    limits: &'l Limits,
    /// Where the reader is.
    at: usize,
    /// The number of the line, from 1, and where it begins.
    line: usize,
    begin: usize,
    /// Between two nodes of a block: the column of what comes next, from 0; none at the end.
    column: Option<usize>,
    depth: usize,
    /// Keys are no nodes, and count against the limit of nodes.
    keys: usize,
    nodes: Vec<Node<'t>>,
}

impl<'t> Reader<'t, '_> {
    fn document(&mut self) -> Option<NodeId> {
        self.next_content();
        if self.column == Some(0) && self.bytes.get(self.at..)?.starts_with(b"---") {
            self.at += 3;
            self.end_line()?;
        }
        let root = match self.peek()? {
            b'[' | b'{' => {
                let root = self.flow(None)?;
                self.end_line()?;
                root
            }
            _ => self.block(self.column?)?,
        };
        self.column.is_none().then_some(root)
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// The byte behind the next one.
    fn second(&self) -> Option<u8> {
        self.bytes.get(self.at + 1).copied()
    }

    fn mark(&self) -> Mark {
        // No line has other than ASCII characters before a comment.
        Mark { source: self.source, line: small(self.line), column: small(self.at - self.begin + 1) }
    }

    fn skip_spaces(&mut self) {
        while self.peek() == Some(b' ') {
            self.at += 1;
        }
    }

    /// Goes to the beginning of the next line, or to the end.
    fn skip_line(&mut self) {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        match rest.iter().position(|byte| *byte == b'\n') {
            Some(end) => {
                self.at += end + 1;
                self.line += 1;
                self.begin = self.at;
            }
            None => self.at = self.bytes.len(),
        }
    }

    /// Goes from the beginning of a line to what is no space, no blank line and no comment.
    fn next_content(&mut self) {
        loop {
            self.skip_spaces();
            match self.peek() {
                Some(b'\n' | b'#') => self.skip_line(),
                Some(_) => {
                    self.column = Some(self.at - self.begin);
                    return;
                }
                None => {
                    self.column = None;
                    return;
                }
            }
        }
    }

    /// Whether nothing but a comment is left of the line; the reader is behind a token, or behind
    /// the spaces that follow one.
    fn is_line_end(&self) -> bool {
        match self.peek() {
            None | Some(b'\n') => true,
            Some(b'#') => self.at > 0 && self.bytes.get(self.at - 1) == Some(&b' '),
            Some(_) => false,
        }
    }

    /// Ends a line of a block, and goes to what comes next.
    fn end_line(&mut self) -> Option<()> {
        self.skip_spaces();
        if !self.is_line_end() {
            return None;
        }
        self.skip_line();
        self.next_content();
        Some(())
    }

    fn is_dash(&self) -> bool {
        self.peek() == Some(b'-') && matches!(self.second(), None | Some(b' ' | b'\n'))
    }

    fn count(&self) -> Option<()> {
        (self.nodes.len() + self.keys < self.limits.nodes).then_some(())
    }

    fn push(&mut self, at: Mark, value: Value<'t>) -> Option<NodeId> {
        self.count()?;
        self.nodes.push(Node { at, value });
        Some(NodeId(self.nodes.len() - 1))
    }

    fn scalar(&mut self, at: Mark, text: &'t str, is_plain: bool) -> Option<NodeId> {
        self.push(at, Value::Scalar(Cow::Borrowed(text), is_plain))
    }

    fn open(&mut self) -> Option<()> {
        self.depth += 1;
        (self.depth <= self.limits.depth).then_some(())
    }

    fn close(&mut self, at: Mark, value: Value<'t>) -> Option<NodeId> {
        self.depth -= 1;
        self.push(at, value)
    }

    fn close_mapping(&mut self, at: Mark, entries: Vec<Entry<'t>>) -> Option<NodeId> {
        let is_distinct = if entries.len() <= FEW_KEYS {
            let mut rest = &entries[..];
            loop {
                let Some((entry, behind)) = rest.split_first() else { break true };
                if behind.iter().any(|other| other.key == entry.key) {
                    break false;
                }
                rest = behind;
            }
        } else {
            let mut seen = HashSet::with_capacity(entries.len());
            entries.iter().all(|entry| seen.insert(entry.key.as_ref()))
        };
        if !is_distinct {
            return None;
        }
        self.close(at, Value::Mapping(entries))
    }

    /// A mapping or sequence of a block, at its first key or dash in this column.
    fn block(&mut self, column: usize) -> Option<NodeId> {
        if self.is_dash() { self.block_sequence(column, false) } else { self.block_mapping(column) }
    }

    fn block_mapping(&mut self, column: usize) -> Option<NodeId> {
        self.open()?;
        let at = self.mark();
        let mut entries = Vec::new();
        loop {
            let place = self.mark();
            let key = self.key(false)?;
            let value = self.block_value(column, place)?;
            entries.push(Entry { key: Cow::Borrowed(key), at: place, value });
            match self.column {
                Some(next) if next == column && !self.is_dash() => {}
                Some(next) if next >= column => return None,
                Some(_) | None => return self.close_mapping(at, entries),
            }
        }
    }

    /// What a key of a block in this column has, and the way to what comes behind it.
    fn block_value(&mut self, column: usize, key: Mark) -> Option<NodeId> {
        self.skip_spaces();
        if !self.is_line_end() {
            return self.inline(column);
        }
        self.end_line()?;
        match self.column {
            Some(next) if next > column => self.block(next),
            Some(next) if next == column && self.is_dash() => self.block_sequence(column, true),
            // A value that is not there is missing at its key.
            Some(_) | None => self.scalar(key, "", true),
        }
    }

    /// A sequence; with `is_beside` its dashes stand in the column of the mapping that it is in.
    fn block_sequence(&mut self, column: usize, is_beside: bool) -> Option<NodeId> {
        self.open()?;
        let mut at = self.mark();
        let mut items = Vec::new();
        loop {
            self.at += 1;
            self.skip_spaces();
            if is_beside && items.is_empty() {
                // The parser has such a sequence begin behind its first dash, and any comment there.
                at = self.mark();
                if self.peek() == Some(b'#') {
                    return None;
                }
            }
            let item = if self.is_line_end() {
                self.end_line()?;
                let next = self.column.filter(|next| *next > column)?;
                self.block(next)?
            } else if self.is_dash() || self.is_key() {
                self.block(self.at - self.begin)?
            } else {
                self.inline(column)?
            };
            items.push(item);
            match self.column {
                Some(next) if next == column && self.is_dash() => {}
                Some(next) if next > column || (next == column && !is_beside) => return None,
                Some(_) | None => return self.close(at, Value::Sequence(items)),
            }
        }
    }

    /// Whether a key and its colon come next.
    fn is_key(&mut self) -> bool {
        let (at, keys) = (self.at, self.keys);
        let is_key = self.key(false).is_some();
        (self.at, self.keys) = (at, keys);
        is_key
    }

    /// A scalar or flow collection in a line of a block, and the way to what comes behind it.
    fn inline(&mut self, column: usize) -> Option<NodeId> {
        let node = match self.peek()? {
            b'[' | b'{' => self.flow(Some(column))?,
            _ => {
                let at = self.mark();
                let (text, is_plain) = self.one_line(false)?;
                self.scalar(at, text, is_plain)?
            }
        };
        self.end_line()?;
        // Further in, it would go on.
        self.column.is_none_or(|next| next <= column).then_some(node)
    }
}

#[cfg(test)]
mod tests;
