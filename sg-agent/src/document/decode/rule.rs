//! Rules: `allow` and `from` on the way in, `allow` and `to` on the way out.

use sg_common::tuple::Direction;

use super::{Decoder, Field};
use crate::document::{
    addresses, allow,
    draft::{Allowed, DraftRule, Named},
    keys,
    report::Spanned,
    tree::{NodeId, Scalar, Value},
};

/// The two directions' words for the same thing.
struct Words {
    direction: Direction,
    rule: &'static str,
    keys: &'static [&'static str; 4],
    peers: &'static str,
    other: &'static str,
    whom: &'static str,
}

const INBOUND: Words = Words {
    direction: Direction::Inbound,
    rule: "an inbound rule",
    keys: &keys::INBOUND,
    peers: "from",
    other: "to",
    whom: "from where traffic may come",
};

const OUTBOUND: Words = Words {
    direction: Direction::Outbound,
    rule: "an outbound rule",
    keys: &keys::OUTBOUND,
    peers: "to",
    other: "from",
    whom: "to where traffic may go",
};

impl Decoder<'_, '_> {
    /// Missing or empty: nothing new may come in.
    pub(super) fn inbound(&mut self, field: Option<Field>) -> Vec<DraftRule> {
        let Some(field) = field else { return Vec::new() };
        if self.tree.node(field.value).scalar() == Some(Scalar::Null) {
            return Vec::new();
        }
        self.rules(field, &INBOUND)
    }

    /// Missing: everything may go out. Empty: nothing new may.
    pub(super) fn outbound(&mut self, field: Option<Field>) -> Option<Vec<DraftRule>> {
        let field = field?;
        if self.tree.node(field.value).scalar() == Some(Scalar::Null) {
            let message = "`outbound` has no value; write `[]` to let nothing out, or remove the key to let everything out";
            self.report.error(field.at, message.to_owned());
            return Some(Vec::new());
        }
        Some(self.rules(field, &OUTBOUND))
    }

    fn rules(&mut self, field: Field, words: &Words) -> Vec<DraftRule> {
        let what = format!("`{}`", words.direction);
        let rules = self.sequence(field.value, &what, "a list of rules").unwrap_or_default();
        rules.iter().filter_map(|rule| self.rule(*rule, words)).collect()
    }

    fn rule(&mut self, value: NodeId, words: &Words) -> Option<DraftRule> {
        let at = self.tree.node(value).at;
        let misplaced = self.misplaced(value, words);
        let [allow, peers, description, id] = if misplaced {
            self.fields_without(value, words)?
        } else {
            self.fields(value, words.rule, words.keys)?
        };
        let description = description.and_then(|description| self.description(description));
        let id = id.and_then(|id| self.name(id.value, "an `id`"));
        let allow = match allow {
            Some(allow) => {
                let items = self.list(allow.value, "allow");
                items.iter().filter_map(|item| self.allowed(*item)).collect()
            }
            None => {
                let message =
                    format!("{} needs `allow`: what may pass, such as `https` or `tcp/8443`", words.rule);
                self.report.error(at, message);
                Vec::new()
            }
        };
        let peers = match peers {
            Some(peers) => {
                let items = self.list(peers.value, words.peers);
                items.iter().filter_map(|item| self.peer(*item, words)).collect()
            }
            None if misplaced => Vec::new(),
            None => {
                let Words { rule, peers, .. } = words;
                let message = format!(
                    "{rule} needs `{peers}`: a rule never opens to the world by omission; write `{peers}: anywhere` if it is meant"
                );
                self.report.error(at, message);
                Vec::new()
            }
        };
        Some(DraftRule { at, direction: words.direction, id, description, allow, peers })
    }

    /// Whether the rule has the other direction's key, which is told in full.
    fn misplaced(&mut self, value: NodeId, words: &Words) -> bool {
        let Value::Mapping(entries) = &self.tree.node(value).value else { return false };
        let Some(entry) = entries.iter().find(|entry| entry.key == words.other) else { return false };
        let Words { rule, peers, other, whom, .. } = words;
        let message = format!("{rule} has no `{other}`: it says {whom}, with `{peers}`");
        self.report.suggest(entry.at, message, Some((*peers).to_owned()));
        true
    }

    /// The fields of a rule whose misplaced key has been told already.
    fn fields_without(&mut self, value: NodeId, words: &Words) -> Option<[Option<Field>; 4]> {
        let [allow, peers, description, id] = *words.keys;
        let known = [allow, peers, description, id, words.other];
        let [allow, peers, description, id, _] = self.fields(value, words.rule, &known)?;
        Some([allow, peers, description, id])
    }

    /// An item of `allow`, or of a service.
    pub(super) fn allowed(&mut self, item: NodeId) -> Option<Spanned<Allowed>> {
        let node = self.tree.node(item);
        let at = node.at;
        let read = match node.scalar() {
            Some(Scalar::Integer(number)) => {
                if let Some(message) = allow::looks_like_port(number) {
                    self.report.warn_suggest(at, message, Some(format!("tcp/{number}")));
                }
                allow::protocol(number)
            }
            _ => {
                let text = self.word(item, "a service")?.value;
                allow::item(text)
            }
        };
        match read {
            Ok(value) => Some(Spanned { value, at }),
            Err(refused) => {
                self.report.suggest(at, refused.message, refused.suggestion);
                None
            }
        }
    }

    fn peer(&mut self, item: NodeId, words: &Words) -> Option<Spanned<Named>> {
        if let (Value::Mapping(_), at) = (&self.tree.node(item).value, self.tree.node(item).at) {
            let message = format!(
                "an item of `{}` is a mapping, not text; `group:NAME` and `list:NAME` have no space behind the colon",
                words.peers
            );
            self.report.error(at, message);
            return None;
        }
        let text = self.word(item, format_args!("an item of `{}`", words.peers))?;
        let value = addresses::peer(text.value, text.at, self.report)?;
        Some(Spanned { value, at: text.at })
    }
}
