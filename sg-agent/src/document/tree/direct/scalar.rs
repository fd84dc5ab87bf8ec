//! Scalars that are their own text, with or without quotes, and where they end; and keys, which are such
//! scalars with a colon behind.

use super::{LONGEST_KEY, Reader};

impl<'t> Reader<'t, '_> {
    /// A scalar that begins and ends in this line, and whether it has no quotes.
    pub(super) fn one_line(&mut self, is_flow: bool) -> Option<(&'t str, bool)> {
        match self.peek()? {
            quote @ (b'"' | b'\'') => Some((self.quoted(quote)?, false)),
            _ => Some((self.plain(is_flow)?, true)),
        }
    }

    /// A key and the colon behind it.
    pub(super) fn key(&mut self, is_flow: bool) -> Option<&'t str> {
        let begin = self.at;
        let (key, is_plain) = self.one_line(is_flow)?;
        let behind = self.at;
        self.skip_spaces();
        // As JSON has it, a colon may follow a quote at once, and its value that.
        let is_adjacent = is_flow && !is_plain && self.at == behind;
        let is_key = self.peek() == Some(b':') && (is_adjacent || is_end_of_key(self.second(), is_flow));
        // The parser counts from where a key begins to its colon.
        let is_long = self.at - begin > LONGEST_KEY;
        if !is_key || is_long || (is_plain && key == "<<") {
            return None;
        }
        self.at += 1;
        self.count()?;
        self.keys += 1;
        Some(key)
    }

    fn quoted(&mut self, quote: u8) -> Option<&'t str> {
        let begin = self.at + 1;
        let rest = self.bytes.get(begin..)?;
        let length = rest.iter().position(|byte| {
            *byte == quote || *byte == b'\n' || !byte.is_ascii() || (*byte == b'\\' && quote == b'"')
        })?;
        let end = begin + length;
        // Two single quotes are one that is meant.
        if self.bytes.get(end) != Some(&quote) || (quote == b'\'' && self.bytes.get(end + 1) == Some(&quote))
        {
            return None;
        }
        self.at = end + 1;
        self.text.get(begin..end)
    }

    fn plain(&mut self, is_flow: bool) -> Option<&'t str> {
        let begin = self.at;
        let begins_well = match self.peek()? {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'_' | b'+' | b'~' => true,
            // `...` ends documents.
            b'.' => self.second() != Some(b'.'),
            // So begin `-1` and `::1`.
            b'-' => self.second()?.is_ascii_alphanumeric(),
            b':' => self.second() == Some(b':'),
            _ => false,
        };
        if !begins_well {
            return None;
        }
        let mut end = begin;
        loop {
            match self.peek() {
                None | Some(b'\n') => break,
                Some(b' ') => {
                    self.skip_spaces();
                    match self.peek() {
                        None | Some(b'\n' | b'#') => break,
                        Some(b':') if is_end_of_key(self.second(), is_flow) => break,
                        Some(b',' | b']' | b'}') if is_flow => break,
                        // In a flow collection some signs begin something else there.
                        Some(byte) if is_flow && !byte.is_ascii_alphanumeric() => return None,
                        Some(_) => {}
                    }
                }
                Some(b':') if is_end_of_key(self.second(), is_flow) => break,
                Some(b',' | b'[' | b']' | b'{' | b'}') if is_flow => break,
                Some(byte) if byte.is_ascii() => {
                    self.at += 1;
                    end = self.at;
                }
                Some(_) => return None,
            }
        }
        self.text.get(begin..end)
    }
}

/// Whether a colon ends a key when this follows. The parser wants no collection right behind it.
fn is_end_of_key(next: Option<u8>, is_flow: bool) -> bool {
    match next {
        None | Some(b' ' | b'\n') => true,
        Some(b',' | b']' | b'}') => is_flow,
        Some(_) => false,
    }
}
