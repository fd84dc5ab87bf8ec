//! Values to drafts: which keys there are, what each takes, and what is wrong with what was
//! written. Names of other things are taken down here and looked up later.

use std::fmt;

use sg_common::addr::Prefix;

use super::{
    addresses,
    diagnostic::quote,
    draft::{Draft, ListContent, NamedGroup, NamedList, NamedService},
    keys,
    report::{Mark, Report, Spanned},
    spelling,
    tree::{NodeId, Scalar, Tree, Value},
};
use crate::policy::Mode;

mod interface;
mod rule;

pub(super) use interface::FIRST_ETHERTYPE;

/// The longest `description`, in characters.
pub(super) const LONGEST_DESCRIPTION: usize = 255;

/// Reads a whole document into `draft`.
pub(super) fn document(tree: &Tree<'_>, report: &mut Report, draft: &mut Draft) {
    Decoder { tree, report }.document(draft);
}

/// A document being read. Every method that gives `None` has told the report why.
struct Decoder<'d, 't> {
    tree: &'d Tree<'t>,
    report: &'d mut Report,
}

/// One item that stands alone, or those of a list.
enum Items<'d> {
    One(NodeId),
    Several(&'d [NodeId]),
}

impl std::ops::Deref for Items<'_> {
    type Target = [NodeId];

    fn deref(&self) -> &[NodeId] {
        match self {
            Self::One(item) => std::slice::from_ref(item),
            Self::Several(items) => items,
        }
    }
}

/// A key that is there, and its value.
#[derive(Clone, Copy)]
struct Field {
    at: Mark,
    value: NodeId,
}

impl Decoder<'_, '_> {
    fn document(&mut self, draft: &mut Draft) {
        let root = self.tree.root();
        let Some([version, services, lists, groups, interfaces]) =
            self.fields(root, "a policy", &keys::DOCUMENT)
        else {
            return;
        };
        self.version(version);
        for (name, value) in self.named(services, "services", "service") {
            let items = self.list(value, "services").iter().filter_map(|item| self.allowed(*item)).collect();
            draft.services.push(NamedService { name, items });
        }
        for (name, value) in self.named(lists, "prefix_lists", "prefix list") {
            let (description, content) = self.prefix_list(value, &name.value);
            draft.prefix_lists.push(NamedList { name, description, content });
        }
        for (name, value) in self.named(groups, "groups", "group") {
            draft.groups.push(self.group(name, value));
        }
        let Some(interfaces) = interfaces else { return };
        let Some(entries) = self.sequence(interfaces.value, "`interfaces`", "a list of entries") else {
            return;
        };
        for entry in entries {
            draft.interfaces.extend(self.interface(*entry));
        }
    }

    fn version(&mut self, version: Option<Field>) {
        let Some(version) = version else {
            let at = self.tree.node(self.tree.root()).at;
            self.report.error(at, "`version` is missing; write `version: 1`".to_owned());
            return;
        };
        let node = self.tree.node(version.value);
        if node.scalar() != Some(Scalar::Integer(1)) {
            let message = format!("`version` is {}; this agent reads version 1", node.describe());
            self.report.error(node.at, message);
        }
    }

    fn prefix_list(&mut self, value: NodeId, name: &str) -> (Option<String>, ListContent) {
        let what = format!("prefix list {}", quote(name));
        let Some([description, entries, file]) = self.fields(value, &what, &keys::PREFIX_LIST) else {
            return (None, ListContent::Invalid);
        };
        let description = description.and_then(|description| self.description(description));
        let content = match (entries, file) {
            (Some(entries), None) => ListContent::Entries(self.prefixes(entries, "`entries`")),
            (None, Some(file)) => {
                self.text(file.value, "`file`").map_or(ListContent::Invalid, ListContent::File)
            }
            (Some(_), Some(file)) => {
                self.report.error(file.at, format!("{what} has both `entries` and `file`; keep one of them"));
                ListContent::Invalid
            }
            (None, None) => {
                let at = self.tree.node(value).at;
                self.report.error(at, format!("{what} has neither `entries` nor `file`; write one of them"));
                ListContent::Invalid
            }
        };
        (description, content)
    }

    fn group(&mut self, name: Spanned<String>, value: NodeId) -> NamedGroup {
        let mut group = NamedGroup {
            name,
            description: None,
            tags: Default::default(),
            members: Vec::new(),
            mode: Mode::default(),
            inbound: Vec::new(),
            // A group that cannot be read must not open anything on the way out.
            outbound: Some(Vec::new()),
        };
        let what = format!("group {}", quote(&group.name.value));
        let Some([description, tags, members, mode, inbound, outbound]) =
            self.fields(value, &what, &keys::GROUP)
        else {
            return group;
        };
        group.description = description.and_then(|description| self.description(description));
        if let Some(tags) = tags {
            group.tags = self.tags(tags);
        }
        if let Some(members) = members {
            group.members = self.prefixes(members, "`members`");
        }
        if let Some(mode) = mode.and_then(|mode| self.keyword(mode, "mode", &interface::MODES)) {
            group.mode = mode;
        }
        group.inbound = self.inbound(inbound);
        group.outbound = self.outbound(outbound);
        group
    }

    fn tags(&mut self, tags: Field) -> std::collections::BTreeMap<String, String> {
        let Some(entries) = self.mapping(tags.value, "`tags`") else { return Default::default() };
        entries
            .iter()
            .filter_map(|entry| Some((entry.key.to_string(), self.text(entry.value, "a tag")?.value)))
            .collect()
    }

    /// The keys of a mapping, in the order of `known`. Unknown keys are told.
    fn fields<const N: usize>(
        &mut self,
        value: NodeId,
        what: &str,
        known: &[&'static str; N],
    ) -> Option<[Option<Field>; N]> {
        let mut fields = [None; N];
        for entry in self.mapping(value, what)? {
            let place = known.iter().position(|key| *key == entry.key);
            match place.and_then(|place| fields.get_mut(place)) {
                Some(field) => *field = Some(Field { at: entry.at, value: entry.value }),
                None => {
                    let suggestion = self.report.nearest(&entry.key, known.iter().copied());
                    let message = format!("unknown key {} in {what}", quote(&entry.key));
                    self.report.suggest(entry.at, message, suggestion);
                }
            }
        }
        Some(fields)
    }

    /// The entries of a mapping whose keys are names, as `what` are.
    fn named(&mut self, field: Option<Field>, key: &str, what: &str) -> Vec<(Spanned<String>, NodeId)> {
        let Some(field) = field else { return Vec::new() };
        let Some(entries) = self.mapping(field.value, &format!("`{key}`")) else { return Vec::new() };
        let mut named = Vec::with_capacity(entries.len());
        for entry in entries {
            if spelling::is_name(&entry.key) {
                named.push((Spanned { value: entry.key.to_string(), at: entry.at }, entry.value));
            } else {
                self.report.error(entry.at, format!("{} cannot name a {what}: {NAME}", quote(&entry.key)));
            }
        }
        named
    }

    fn description(&mut self, field: Field) -> Option<String> {
        let text = self.text(field.value, "`description`")?;
        let length = text.value.chars().count();
        if length > LONGEST_DESCRIPTION {
            let message = format!(
                "`description` has {length} characters; {LONGEST_DESCRIPTION} is the most it can have"
            );
            self.report.error(text.at, message);
            return None;
        }
        Some(text.value)
    }

    /// A name of something that is defined elsewhere, or an `id`.
    fn name(&mut self, value: NodeId, what: &str) -> Option<Spanned<String>> {
        let text = self.text(value, what)?;
        if spelling::is_name(&text.value) {
            return Some(text);
        }
        self.report.error(text.at, format!("{} cannot be {what}: {NAME}", quote(&text.value)));
        None
    }

    fn prefixes(&mut self, field: Field, what: &str) -> Vec<Prefix> {
        let items = self.items(field.value);
        let mut prefixes = Vec::with_capacity(items.len());
        for item in items.iter() {
            if let Some(text) = self.word(*item, format_args!("an address in {what}")) {
                prefixes.extend(addresses::prefix(text.value, text.at, self.report));
            }
        }
        prefixes
    }

    fn text(&mut self, value: NodeId, what: &str) -> Option<Spanned<String>> {
        self.word(value, what).map(|Spanned { value, at }| Spanned { value: value.to_owned(), at })
    }

    fn flag(&mut self, field: Field, key: &str) -> Option<bool> {
        let node = self.tree.node(field.value);
        if let Some(Scalar::Bool(value)) = node.scalar() {
            return Some(value);
        }
        let suggestion = match node.scalar() {
            Some(Scalar::Text(text)) => match text.to_lowercase().as_str() {
                "yes" | "on" | "true" => Some("true".to_owned()),
                "no" | "off" | "false" => Some("false".to_owned()),
                _ => None,
            },
            _ => None,
        };
        let message = format!("`{key}` is {}, and takes `true` or `false`", node.describe());
        self.report.suggest(node.at, message, suggestion);
        None
    }

    /// One of a few words.
    fn keyword<T: Copy>(&mut self, field: Field, key: &str, words: &[(&'static str, T)]) -> Option<T> {
        let text = self.text(field.value, &format!("`{key}`"))?;
        if let Some((_, meaning)) = words.iter().find(|(word, _)| *word == text.value) {
            return Some(*meaning);
        }
        let suggestion = self.report.nearest(&text.value, words.iter().map(|(word, _)| *word));
        let known: Vec<_> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
        let message = format!("`{key}` is {}, and takes {}", quote(&text.value), known.join(" or "));
        self.report.suggest(text.at, message, suggestion);
        None
    }
}

impl<'d, 't> Decoder<'d, 't> {
    /// One item or a list of at least one.
    fn list(&mut self, value: NodeId, key: &str) -> Items<'d> {
        let items = self.items(value);
        if items.is_empty() {
            let at = self.tree.node(value).at;
            self.report.error(at, format!("`{key}` is an empty list; write at least one item"));
        }
        items
    }

    /// One item or a list, which may be empty.
    fn items(&mut self, value: NodeId) -> Items<'d> {
        if self.report.is_full() {
            return Items::Several(&[]);
        }
        match &self.tree.node(value).value {
            Value::Sequence(items) => Items::Several(items),
            Value::Scalar(..) | Value::Mapping(_) => Items::One(value),
        }
    }

    /// A text as the tree has it: a long list is read without a copy of each of its items.
    fn word(&mut self, value: NodeId, what: impl fmt::Display) -> Option<Spanned<&'d str>> {
        let node = self.tree.node(value);
        match node.scalar() {
            Some(Scalar::Text(text)) => return Some(Spanned { value: text, at: node.at }),
            Some(Scalar::Null) => self.report.error(node.at, format!("{what} has no value; write one")),
            Some(Scalar::Integer(_) | Scalar::Number | Scalar::Bool(_)) => {
                let message = format!("{what} is {}, not text; write it in quotes", node.describe());
                self.report.error(node.at, message);
            }
            None => self.report.error(node.at, format!("{what} is {}, not text", node.describe())),
        }
        None
    }

    fn sequence(&mut self, value: NodeId, what: &str, takes: &str) -> Option<&'d [NodeId]> {
        let node = self.tree.node(value);
        match &node.value {
            Value::Sequence(items) => return Some(items),
            Value::Scalar(..) if node.scalar() == Some(Scalar::Null) => {
                self.report.error(node.at, format!("{what} has no value; write `[]`, or remove the key"));
            }
            Value::Scalar(..) | Value::Mapping(_) => {
                self.report.error(node.at, format!("{what} is {}, and takes {takes}", node.describe()));
            }
        }
        None
    }

    fn mapping(&mut self, value: NodeId, what: &str) -> Option<&'d [super::tree::Entry<'t>]> {
        let node = self.tree.node(value);
        match &node.value {
            Value::Mapping(entries) => return Some(entries),
            Value::Scalar(..) if node.scalar() == Some(Scalar::Null) => {
                self.report.error(node.at, format!("{what} has no value; write `{{}}`, or remove it"));
            }
            Value::Scalar(..) | Value::Sequence(_) => {
                self.report
                    .error(node.at, format!("{what} is {}, and takes a mapping of keys", node.describe()));
            }
        }
        None
    }
}

/// What a name is, for messages.
const NAME: &str = "a name has 1 to 63 letters, digits, `.`, `_` and `-`, and begins with a letter or digit";
