//! Text to positioned values: scalars, sequences and mappings, with duplicate keys, tags, merge
//! keys and everything that passes a limit already refused. It knows YAML and no policies.
//!
//! Values live in one list and name each other by index, so that an alias costs nothing; what
//! walking the aliases would cost is counted while they are read.

use std::{
    borrow::Cow,
    collections::{HashMap, hash_map::Entry as Slot},
};

use saphyr_parser::{Event, Parser, ScalarStyle, StrInput};

use super::{
    diagnostic::quote,
    report::{Mark, Report, lines, small},
    surrogates::Text,
};

mod direct;

/// A document's values.
#[derive(Debug)]
pub(super) struct Tree<'t> {
    nodes: Vec<Node<'t>>,
    root: NodeId,
}

/// An index into [`Tree::nodes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NodeId(usize);

/// A value and its place.
#[derive(Debug)]
pub(super) struct Node<'t> {
    pub at: Mark,
    pub value: Value<'t>,
}

#[derive(Debug)]
pub(super) enum Value<'t> {
    /// The text, and whether it was written without quotes.
    Scalar(Cow<'t, str>, bool),
    Sequence(Vec<NodeId>),
    Mapping(Vec<Entry<'t>>),
}

/// A key of a mapping and its value.
#[derive(Debug)]
pub(super) struct Entry<'t> {
    pub key: Cow<'t, str>,
    pub at: Mark,
    pub value: NodeId,
}

/// What YAML's core schema makes of a scalar.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Scalar<'n> {
    Null,
    Bool(bool),
    Integer(i64),
    /// A number that is not an integer of 64 bits.
    Number,
    Text(&'n str),
}

impl<'t> Tree<'t> {
    /// Reads one document. `None`: there is nothing to look at further, and the report says why.
    pub(super) fn parse(text: &'t Text<'_>, source: u32, report: &mut Report) -> Option<Self> {
        if let Cow::Borrowed(plain) = text.text
            && let Some((nodes, root)) = direct::read(plain, source, &report.limits)
        {
            return Some(Self { nodes, root });
        }
        Self::parse_any(text, source, report)
    }

    /// The same, by the parser that knows all of YAML.
    fn parse_any(text: &'t Text<'_>, source: u32, report: &mut Report) -> Option<Self> {
        let limit = report.limits.nodes;
        // A parser keeps every token of a flow collection until it is sure that no `:` follows, so
        // their number is bounded before it starts. JSON has a comma and two quotes for a value.
        let halves = text.text.bytes().map(|byte| match byte {
            b',' | b'[' | b']' | b'{' | b'}' | b'!' | b'&' | b'*' | b'?' => 2,
            b'"' | b'\'' => 1,
            _ => 0,
        });
        if halves.sum::<usize>() > limit.saturating_mul(4) {
            report.error(Mark::file(source), too_many(limit));
            return None;
        }
        let mut builder = Builder {
            text,
            source,
            report,
            nodes: Vec::new(),
            frames: Vec::new(),
            anchors: HashMap::new(),
            aliased: 0,
            root: None,
        };
        let complete = builder.run();
        let (nodes, root) = (builder.nodes, builder.root);
        if !complete {
            return None;
        }
        if root.is_none() {
            report.error(
                Mark::file(source),
                "the document is empty; a policy begins with `version: 1`".to_owned(),
            );
        }
        Some(Self { nodes, root: root? })
    }

    pub(super) fn root(&self) -> NodeId {
        self.root
    }

    pub(super) fn node(&self, id: NodeId) -> &Node<'t> {
        // The only maker of ids is the builder, which pushes the node first.
        &self.nodes[id.0]
    }
}

impl Node<'_> {
    /// The scalar that this is, if it is one.
    pub(super) fn scalar(&self) -> Option<Scalar<'_>> {
        match &self.value {
            Value::Scalar(text, true) => Some(plain(text)),
            Value::Scalar(text, false) => Some(Scalar::Text(text)),
            Value::Sequence(_) | Value::Mapping(_) => None,
        }
    }

    /// What this is, for a message.
    pub(super) fn describe(&self) -> String {
        match (&self.value, self.scalar()) {
            (Value::Scalar(text, _), Some(Scalar::Integer(_) | Scalar::Number)) => {
                format!("the number {text}")
            }
            (_, Some(Scalar::Null)) => "nothing".to_owned(),
            (_, Some(Scalar::Bool(value))) => format!("`{value}`"),
            (_, Some(Scalar::Text(text))) => format!("the text {}", quote(text)),
            (_, Some(Scalar::Integer(_) | Scalar::Number)) => "a number".to_owned(),
            (Value::Sequence(_), None) => "a list".to_owned(),
            (Value::Mapping(_) | Value::Scalar(..), None) => "a mapping".to_owned(),
        }
    }
}

/// An unquoted scalar by YAML 1.2's core schema.
fn plain(text: &str) -> Scalar<'_> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Scalar::Null,
        "true" | "True" | "TRUE" => return Scalar::Bool(true),
        "false" | "False" | "FALSE" => return Scalar::Bool(false),
        ".inf" | ".Inf" | ".INF" | "-.inf" | ".nan" | ".NaN" | ".NAN" => return Scalar::Number,
        _ => {}
    }
    let radix = |prefix, radix| {
        text.strip_prefix(prefix)
            .filter(|digits: &&str| digits.bytes().all(|byte| byte.is_ascii_alphanumeric()))
            .and_then(|digits| i64::from_str_radix(digits, radix).ok())
    };
    if let Some(number) = radix("0x", 16).or_else(|| radix("0o", 8)) {
        return Scalar::Integer(number);
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if !unsigned.starts_with(|first: char| first.is_ascii_digit() || first == '.') {
        return Scalar::Text(text);
    }
    if unsigned.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().map_or(Scalar::Number, Scalar::Integer);
    }
    let float = unsigned.bytes().all(|byte| byte.is_ascii_digit() || b".eE+-".contains(&byte));
    if float && text.parse::<f64>().is_ok() { Scalar::Number } else { Scalar::Text(text) }
}

/// A value that is finished, with what an alias to it would cost.
#[derive(Clone, Copy)]
struct Built {
    id: NodeId,
    size: usize,
    height: usize,
}

/// A sequence or mapping that is still being read.
struct Frame<'t> {
    at: Mark,
    anchor: usize,
    size: usize,
    height: usize,
    content: Content<'t>,
}

enum Content<'t> {
    Sequence(Vec<NodeId>),
    Mapping { entries: Vec<Entry<'t>>, key: Option<Key<'t>> },
}

/// A key whose value is still to come; `None` for one that was refused.
type Key<'t> = Option<(Cow<'t, str>, Mark)>;

struct Builder<'t, 'r> {
    text: &'t Text<'t>,
    source: u32,
    report: &'r mut Report,
    nodes: Vec<Node<'t>>,
    frames: Vec<Frame<'t>>,
    anchors: HashMap<usize, Built>,
    /// Values that aliases repeat.
    aliased: usize,
    root: Option<NodeId>,
}

impl<'t> Builder<'t, '_> {
    /// Reads all events. `false`: reading stopped, and the report says why.
    fn run(&mut self) -> bool {
        let text = self.text;
        let mut parser: Parser<'t, StrInput<'t>> = Parser::new_from_str(&text.text);
        let mut documents = 0;
        loop {
            let (event, span) = match parser.next_event() {
                None => return true,
                Some(Ok(event)) => event,
                Some(Err(error)) => {
                    let at = self.shown(self.mark(error.marker().line(), error.marker().col()));
                    let message = match error.info() {
                        "recursion limit exceeded" => too_deep(self.report.limits.depth),
                        info => format!("not valid YAML: {}", info.to_lowercase()),
                    };
                    self.report.error(at, message);
                    return false;
                }
            };
            let at = self.mark(span.start.line(), span.start.col());
            let going = match event {
                Event::Nothing | Event::StreamStart | Event::DocumentEnd => true,
                Event::StreamEnd => return true,
                Event::DocumentStart(_) => {
                    documents += 1;
                    if documents > 1 {
                        let message = "a second document begins here; a file holds one, so split the file";
                        self.report.error(at, message.to_owned());
                        // The first one is whole, and what is wrong in it can be told as well.
                        return true;
                    }
                    true
                }
                Event::Alias(anchor) => self.alias(anchor, at),
                Event::Scalar(text, style, anchor, tag) => {
                    self.refuse_tag(tag.as_deref(), at);
                    let plain = style == ScalarStyle::Plain;
                    self.value(Value::Scalar(text, plain), at, anchor)
                }
                Event::SequenceStart(anchor, tag) => {
                    self.refuse_tag(tag.as_deref(), at);
                    self.open(Content::Sequence(Vec::new()), at, anchor)
                }
                Event::MappingStart(anchor, tag) => {
                    self.refuse_tag(tag.as_deref(), at);
                    self.open(Content::Mapping { entries: Vec::new(), key: None }, at, anchor)
                }
                Event::SequenceEnd | Event::MappingEnd => self.close(),
            };
            if !going {
                return false;
            }
        }
    }

    fn mark(&self, line: usize, column: usize) -> Mark {
        let column = self.text.column(line, column) + 1;
        Mark { source: self.source, line: small(line.max(1)), column: small(column) }
    }

    /// The place, or the end of the last line that is not blank when the place is behind it.
    fn shown(&self, at: Mark) -> Mark {
        let mut last = (1, "");
        for (index, line) in lines(self.text.text.as_bytes()).enumerate() {
            let line = str::from_utf8(line).unwrap_or_default().trim_end();
            if !line.is_empty() {
                last = (index + 1, line);
            }
        }
        let (line, text) = last;
        if (at.line as usize) <= line { at } else { self.mark(line, text.chars().count()) }
    }

    fn refuse_tag(&mut self, tag: Option<&saphyr_parser::Tag>, at: Mark) {
        if let Some(tag) = tag {
            let written =
                if tag.is_yaml_core_schema() { format!("!!{}", tag.suffix) } else { tag.to_string() };
            let message = format!("tags are not supported; remove {}", quote(&written));
            self.report.error(at, message);
        }
    }

    fn open(&mut self, content: Content<'t>, at: Mark, anchor: usize) -> bool {
        if self.frames.len() >= self.report.limits.depth {
            self.report.error(at, too_deep(self.report.limits.depth));
            return false;
        }
        self.frames.push(Frame { at, anchor, size: 1, height: 1, content });
        true
    }

    fn close(&mut self) -> bool {
        let Some(frame) = self.frames.pop() else { return true };
        let value = match frame.content {
            Content::Sequence(items) => Value::Sequence(items),
            Content::Mapping { entries, .. } => Value::Mapping(self.distinct(entries)),
        };
        self.finish(value, frame.at, frame.anchor, frame.size, frame.height)
    }

    fn value(&mut self, value: Value<'t>, at: Mark, anchor: usize) -> bool {
        self.finish(value, at, anchor, 1, 0)
    }

    fn finish(&mut self, value: Value<'t>, at: Mark, anchor: usize, size: usize, height: usize) -> bool {
        if self.nodes.len() + self.aliased >= self.report.limits.nodes {
            self.report.error(at, too_many(self.report.limits.nodes));
            return false;
        }
        let id = NodeId(self.nodes.len());
        self.nodes.push(Node { at, value });
        let built = Built { id, size, height };
        if anchor > 0 {
            self.anchors.insert(anchor, built);
        }
        self.attach(built, at);
        true
    }

    fn alias(&mut self, anchor: usize, at: Mark) -> bool {
        let Some(built) = self.anchors.get(&anchor).copied() else {
            self.report.error(at, "this alias stands inside the value that it repeats".to_owned());
            return false;
        };
        self.aliased = self.aliased.saturating_add(built.size);
        let limits = self.report.limits;
        if self.aliased > limits.aliased_nodes {
            let message = format!("aliases repeat more than {} values; write them out", limits.aliased_nodes);
            self.report.error(at, message);
            return false;
        }
        if self.nodes.len() + self.aliased > limits.nodes {
            self.report.error(at, too_many(limits.nodes));
            return false;
        }
        if self.frames.len() + built.height > limits.depth {
            self.report.error(at, too_deep(limits.depth));
            return false;
        }
        self.attach(built, at);
        true
    }

    /// Puts a finished value where it belongs: into the innermost open one.
    fn attach(&mut self, built: Built, at: Mark) {
        let Some(frame) = self.frames.last_mut() else {
            self.root = Some(built.id);
            return;
        };
        frame.size = frame.size.saturating_add(built.size);
        frame.height = frame.height.max(built.height + 1);
        match &mut frame.content {
            Content::Sequence(items) => items.push(built.id),
            Content::Mapping { entries, key } => match key.take() {
                Some(Some((key, at))) => {
                    // A value that is not there is missing at its key.
                    if let Some(Node { at: place, value: Value::Scalar(text, true) }) =
                        self.nodes.get_mut(built.id.0)
                        && text.is_empty()
                    {
                        *place = at;
                    }
                    entries.push(Entry { key, at, value: built.id });
                }
                Some(None) => {}
                None => {
                    let text = match self.nodes.get(built.id.0).map(|node| &node.value) {
                        Some(Value::Scalar(text, plain)) => Some((text.clone(), *plain)),
                        _ => None,
                    };
                    *key = Some(match text {
                        Some((text, true)) if text == "<<" => {
                            let message =
                                "unknown key `<<`: merge keys are not supported; write the keys out";
                            self.report.error(at, message.to_owned());
                            None
                        }
                        Some((text, _)) => Some((text, at)),
                        None => {
                            self.report.error(at, "a key is one word, not a list or a mapping".to_owned());
                            None
                        }
                    });
                }
            },
        }
    }

    /// The entries without those whose key is there already, which are errors.
    fn distinct(&mut self, entries: Vec<Entry<'t>>) -> Vec<Entry<'t>> {
        if entries.len() < 2 {
            return entries;
        }
        let mut first: HashMap<Cow<'t, str>, Mark> = HashMap::with_capacity(entries.len());
        let mut kept = Vec::with_capacity(entries.len());
        for entry in entries {
            match first.entry(entry.key.clone()) {
                Slot::Vacant(slot) => {
                    slot.insert(entry.at);
                    kept.push(entry);
                }
                Slot::Occupied(slot) => {
                    let first = self.report.position(*slot.get());
                    let message = format!("{} is given twice; the first is at {first}", quote(&entry.key));
                    self.report.error(entry.at, message);
                }
            }
        }
        kept
    }
}

fn too_many(limit: usize) -> String {
    format!(
        "the document holds more than {limit} values; split it, or move long prefix lists into list files"
    )
}

fn too_deep(limit: usize) -> String {
    format!("values are nested more than {limit} deep; no policy needs that")
}
