//! Collections in brackets and braces, as JSON has them too. In them, lines and indentation mean little.

use std::borrow::Cow;

use super::{
    super::{Entry, NodeId, Value},
    Reader,
};

/// Where a flow collection is: in a block of this indentation; none at the root.
type Within = Option<usize>;

impl<'t> Reader<'t, '_> {
    pub(super) fn flow(&mut self, within: Within) -> Option<NodeId> {
        if self.peek() == Some(b'[') { self.flow_sequence(within) } else { self.flow_mapping(within) }
    }

    /// Goes over spaces, comments and ends of lines in a flow collection, which stays further in than
    /// its block.
    fn skip_flow_space(&mut self, within: Within) -> Option<u8> {
        self.skip_spaces();
        if self.is_line_end() {
            self.skip_line();
            self.next_content();
            if self.column? < within.map_or(0, |column| column + 1) {
                return None;
            }
        }
        // Behind the end of a line, what comes next is no comment.
        self.peek()
    }

    fn flow_sequence(&mut self, within: Within) -> Option<NodeId> {
        self.open()?;
        let at = self.mark();
        self.at += 1;
        let mut items = Vec::new();
        loop {
            match self.skip_flow_space(within)? {
                b']' => break,
                _ => items.push(self.flow_item(within)?),
            }
            match self.skip_flow_space(within)? {
                b',' => self.at += 1,
                b']' => break,
                _ => return None,
            }
        }
        self.at += 1;
        self.close(at, Value::Sequence(items))
    }

    fn flow_mapping(&mut self, within: Within) -> Option<NodeId> {
        self.open()?;
        let at = self.mark();
        self.at += 1;
        let mut entries = Vec::new();
        loop {
            if self.skip_flow_space(within)? == b'}' {
                break;
            }
            let place = self.mark();
            let key = self.key(true)?;
            if self.peek() == Some(b':') {
                return None;
            }
            let value = match self.skip_flow_space(within)? {
                b',' | b'}' => self.scalar(place, "", true)?,
                _ => self.flow_item(within)?,
            };
            entries.push(Entry { key: Cow::Borrowed(key), at: place, value });
            match self.skip_flow_space(within)? {
                b',' => self.at += 1,
                b'}' => break,
                _ => return None,
            }
        }
        self.at += 1;
        self.close_mapping(at, entries)
    }

    fn flow_item(&mut self, within: Within) -> Option<NodeId> {
        if matches!(self.peek()?, b'[' | b'{') {
            return self.flow(within);
        }
        let at = self.mark();
        let (text, is_plain) = self.one_line(true)?;
        self.scalar(at, text, is_plain)
    }
}
