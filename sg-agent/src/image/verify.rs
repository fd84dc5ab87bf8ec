//! Whether nodes are a whole image: the header, the digest, and every reference.
//!
//! A digest alone tells that nothing was lost on the way. That every reference leads to what it
//! should tells that no lookup can end in [`sg_common::image::Corrupt`].

use std::collections::HashSet;

use sg_common::image::{
    Header, KEYS_V4, KEYS_V6, LEVELS_V4, LEVELS_V6, Node, SELECTOR_LEVELS, ZONES, class_word, rule_set_word,
    zone_mark, zone_word,
};

use super::digest;

/// Why nodes are not a whole image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// Node 0 is missing, or of something else or another version.
    #[error("the image does not begin with a header of this version")]
    Header,
    /// The header counts other nodes than there are.
    #[error("the image has {found} nodes, and its header says {stated}")]
    Length {
        /// How many there are.
        found: usize,
        /// How many the header states.
        stated: u32,
    },
    /// The nodes are not those that the digest was taken of.
    #[error("the image's nodes do not match its digest")]
    Digest,
    /// A reference that does not lead to what it should.
    #[error("the image's {what} number {number} is not all within it")]
    Reference {
        /// What the number should be of.
        what: &'static str,
        /// The number.
        number: u32,
    },
}

/// Checks that `nodes` are a whole image, and returns its header.
///
/// # Errors
///
/// [`Invalid`], with the first thing found wrong.
pub fn verify(nodes: &[Node]) -> Result<Header, Invalid> {
    let first = nodes.first().ok_or(Invalid::Header)?;
    let header = Header::from_node(first).map_err(|_| Invalid::Header)?;
    if header.to_node() != *first {
        return Err(Invalid::Header);
    }
    if header.nodes as usize != nodes.len() {
        return Err(Invalid::Length { found: nodes.len(), stated: header.nodes });
    }
    if digest(&header, &nodes[1..]) != header.digest {
        return Err(Invalid::Digest);
    }
    let mut check = Check { nodes, seen: HashSet::new() };
    if header.zones != ZONES {
        return Err(Invalid::Reference { what: "zone", number: header.zones });
    }
    for (number, zone) in (0..).zip(check.range("zone", header.zones, header.zone_count)?) {
        if zone.words[zone_word::MARK] != zone_mark(number) {
            return Err(Invalid::Reference { what: "zone", number });
        }
        let sets = &zone.words[zone_word::RULE_SETS..zone_word::ETHERTYPES];
        for (place, set) in sets.iter().enumerate().filter(|(_, set)| **set != 0) {
            // Rule sets and own addresses both alternate between IPv4 and IPv6.
            check.rule_set(*set, place % 2 == 1)?;
        }
        if let macs = zone.words[zone_word::MACS]
            && macs != 0
        {
            check.range("list of Ethernet addresses", macs, 1)?;
        }
    }
    Ok(header)
}

/// The image's structures, each looked at once.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Seen {
    RuleSet {
        half: u32,
        v6: bool,
    },
    /// What lies in an IPv6 high half depends on the rule set's classes and width.
    Class {
        half: u32,
        within: Option<(u32, bool)>,
    },
    Selector {
        node: u32,
        levels: u32,
    },
}

struct Check<'a> {
    nodes: &'a [Node],
    seen: HashSet<Seen>,
}

/// A tree of addresses: words as in a rule set, and how the values are read.
struct Tree<'a> {
    words: &'a [u32],
    keys_per_node: u32,
    levels: u32,
    wide: bool,
}

impl<'a> Check<'a> {
    /// Nodes `first` and on; `count` of them, at least one.
    fn range(&self, what: &'static str, first: u32, count: u32) -> Result<&'a [Node], Invalid> {
        let (from, count) = (first as usize, count as usize);
        let found = from.checked_add(count).and_then(|to| self.nodes.get(from..to));
        found.ok_or(Invalid::Reference { what, number: first })
    }

    fn half(&self, what: &'static str, half: u32) -> Result<&'a [u32], Invalid> {
        let words = &self.range(what, half / 2, 1)?[0].words;
        Ok(if half.is_multiple_of(2) { &words[..8] } else { &words[8..] })
    }

    fn rule_set(&mut self, half: u32, v6: bool) -> Result<(), Invalid> {
        if !self.seen.insert(Seen::RuleSet { half, v6 }) {
            return Ok(());
        }
        let words = self.half("rule set", half)?;
        let (classes, wide) = (words[rule_set_word::CLASSES], words[rule_set_word::WIDE] != 0);
        let (keys_per_node, levels) = if v6 { (KEYS_V6, LEVELS_V6) } else { (KEYS_V4, LEVELS_V4) };
        for value in self.values(&Tree { words, keys_per_node, levels, wide })? {
            if value != 0 {
                self.class(classes, value, v6.then_some((classes, wide)))?;
            }
        }
        Ok(())
    }

    /// The values of a tree, whose keys and values are all within the image.
    fn values(&self, tree: &Tree<'_>) -> Result<Vec<u32>, Invalid> {
        let values = tree.words[rule_set_word::VALUES];
        let (keys, key_nodes) = (tree.words[rule_set_word::KEYS], tree.words[rule_set_word::KEY_NODES]);
        if key_nodes == 0 {
            return Ok(vec![values]);
        }
        let wrong = Invalid::Reference { what: "key node", number: keys };
        let key_nodes_found = self.range("key node", keys, key_nodes)?;
        let children = tree.keys_per_node + 1;
        let reach = (0..tree.levels).fold(0_u64, |reach, _| reach * u64::from(children) + 1);
        if u64::from(key_nodes) > reach {
            return Err(wrong);
        }
        // Every search finds a key, if the last one in order is not below any address.
        let mut at = 0_usize;
        while let child = (at + 1) * children as usize
            && child < key_nodes_found.len()
        {
            at = child;
        }
        let last_key = &key_nodes_found[at].words[16 - 16 / tree.keys_per_node as usize..];
        if last_key.iter().any(|word| *word != u32::MAX) {
            return Err(wrong);
        }
        let count = key_nodes * tree.keys_per_node;
        let value_nodes =
            self.range("value node", values, count.div_ceil(if tree.wide { 16 } else { 32 }))?;
        let words = value_nodes.iter().flat_map(|node| node.words);
        let values = if tree.wide {
            words.take(count as usize).collect()
        } else {
            words.flat_map(|pair| [pair & 0xffff, pair >> 16]).take(count as usize).collect()
        };
        Ok(values)
    }

    /// Class `number` of a rule set, counted from half number `classes`. `within` is the rule set's
    /// classes and width where the class may be a subtree.
    fn class(&mut self, classes: u32, number: u32, within: Option<(u32, bool)>) -> Result<(), Invalid> {
        let half = classes.checked_add(number).ok_or(Invalid::Reference { what: "class", number })?;
        if !self.seen.insert(Seen::Class { half, within }) {
            return Ok(());
        }
        let words = self.half("class", half)?;
        if matches!(words[0], class_word::SUBTREE | class_word::RUN) {
            let Some((classes, wide)) = within else {
                return Err(Invalid::Reference { what: "class", number });
            };
            let values = if words[0] == class_word::RUN {
                words[5..7].to_vec()
            } else {
                let tree = Tree { words: &words[1..], keys_per_node: KEYS_V6, levels: LEVELS_V6, wide };
                self.values(&tree)?
            };
            for value in values.into_iter().filter(|value| *value != 0) {
                self.class(classes, value, None)?;
            }
            return Ok(());
        }
        for table in words.chunks_exact(2) {
            if let Some(levels) = table[0].checked_sub(class_word::TREE) {
                self.selector(table[1], levels)?;
            }
        }
        Ok(())
    }

    fn selector(&mut self, node: u32, levels: u32) -> Result<(), Invalid> {
        if levels > SELECTOR_LEVELS {
            return Err(Invalid::Reference { what: "selector node", number: node });
        }
        if !self.seen.insert(Seen::Selector { node, levels }) {
            return Ok(());
        }
        let words = &self.range("selector node", node, 1)?[0].words;
        let Some(below) = levels.checked_sub(1) else { return Ok(()) };
        // No end is all ones but that of the last child.
        let ends = words[..15].iter().flat_map(|pair| [pair & 0xffff, pair >> 16]);
        let children = 1 + ends.filter(|end| *end != 0xffff).count() as u32;
        for child in 0..children {
            let number = words[15].checked_add(child);
            self.selector(number.ok_or(Invalid::Reference { what: "selector node", number: node })?, below)?;
        }
        Ok(())
    }
}
