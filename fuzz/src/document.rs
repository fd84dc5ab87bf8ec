//! The document reader over any text: what it refuses it explains, what it accepts compiles.
//!
//! An input is one document, or several: a line `#### NAME` begins another. One whose name does not
//! end in `.yaml` or `.json` is what every list file of the policy contains.

use std::{io, path::Path};

use sg_agent::{
    compile::{self, CompileError, Input, Limits, RuleNumbers, Zone},
    document::{self, Diagnostic, Files, Loaded},
    image::Image,
    policy::{GroupIndex, Membership, Peer, Policy, Rule, eval},
};
use sg_common::{
    addr::{Addr, Family, Prefix},
    image,
    tuple::{Direction, Protocol, Selector, Table, Tuple},
};

/// What begins another document.
const ANOTHER: &str = "#### ";
/// Nodes of the largest image that is made.
const NODES: u32 = 1 << 16;
/// The longest message, and the longest line that is shown.
const LONGEST: usize = 1000;
/// Characters of a file's name: the longest that file systems allow.
const LONGEST_NAME: usize = 255;
/// Questions that a rule is asked, and questions in all.
const PROBES: (usize, usize) = (64, 2000);

/// Reads one policy twice.
///
/// # Panics
///
/// When the reader or the compiler does, or breaks a promise.
pub fn run(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let submission = Submission::of(&text);
    let loaded = submission.load();
    assert_eq!(loaded.policy.is_some(), loaded.errors.is_empty(), "refused with a reason, or read");
    for diagnostic in loaded.errors.iter().chain(&loaded.warnings) {
        points_into_the_text(diagnostic, &loaded);
    }
    let again = submission.load();
    assert_eq!(loaded.policy, again.policy, "one text, one policy");
    assert_eq!(loaded.errors, again.errors, "one text, the same errors");
    assert_eq!(loaded.warnings, again.warnings, "one text, the same warnings");
    if let Some(policy) = &loaded.policy {
        compiles(policy);
    }
}

/// Documents, and what list files contain.
struct Submission<'a> {
    documents: Vec<(&'a str, &'a str)>,
    list: &'a str,
}

impl<'a> Submission<'a> {
    fn of(text: &'a str) -> Self {
        let mut found = Self { documents: vec![], list: "" };
        let mut parts = vec![];
        let mut name = "policy.yaml";
        let (mut begin, mut at) = (0, 0);
        for line in text.split_inclusive('\n') {
            if let Some(other) = line.strip_prefix(ANOTHER) {
                parts.push((name, &text[begin..at]));
                let end = other.char_indices().nth(LONGEST_NAME).map_or(other.len(), |(end, _)| end);
                name = other[..end].trim_end();
                begin = at + line.len();
            }
            at += line.len();
        }
        parts.push((name, &text[begin..]));
        for (name, text) in parts {
            if name.ends_with(".yaml") || name.ends_with(".json") {
                found.documents.push((name, text));
            } else {
                found.list = text;
            }
        }
        found
    }

    fn load(&self) -> Loaded {
        let limits = document::Limits { bytes: 1 << 20, comparisons: 100_000, ..document::Limits::default() };
        document::parse_with(&self.documents, self, &limits)
    }
}

impl Files for Submission<'_> {
    fn read(&self, _: &Path, limit: usize) -> io::Result<Vec<u8>> {
        Ok(self.list.bytes().take(limit + 1).collect())
    }
}

/// The place is in a file that was read, and a terminal can be shown the rest.
fn points_into_the_text(diagnostic: &Diagnostic, loaded: &Loaded) {
    let position = &diagnostic.position;
    let is_named = |name: &str| {
        let mut pairs = name.chars().zip(position.file.chars());
        name.chars().count() == position.file.chars().count()
            && pairs.all(|(given, shown)| given == shown || given.is_control() && !shown.is_control())
    };
    let sources: Vec<_> = loaded.sources.iter().filter(|source| is_named(&source.name)).collect();
    assert!(!sources.is_empty(), "{diagnostic}: there is no such file");
    let is_inside = sources.iter().any(|source| {
        let text = String::from_utf8_lossy(&source.bytes).replace("\r\n", "\n").replace('\r', "\n");
        // An end is a place, too: of the text behind its last line, of a line behind its last character.
        let mut lines = text.split('\n').chain([""]);
        let line = position.line.checked_sub(1).and_then(|line| lines.nth(line));
        line.is_some_and(|line| (1..=line.chars().count() + 1).contains(&position.column))
    });
    assert!(is_inside, "{diagnostic}: there is no such place");
    let shown = &diagnostic.source_line;
    assert!(diagnostic.caret <= shown.chars().count().max(position.column), "{diagnostic}: caret");
    for text in [diagnostic.message.as_str(), shown, &position.file] {
        assert!(text.chars().count() <= LONGEST, "{} characters: {text}", text.chars().count());
        assert!(!text.contains(char::is_control), "{text:?}");
    }
}

/// With one interface for each entry, the policy has an image, always the same, which answers as the
/// reference does.
fn compiles(policy: &Policy) {
    let members = Membership::stated(policy);
    let zones: Vec<_> = policy
        .interfaces
        .iter()
        .map(|entry| Some(Zone::of(policy, entry, entry.addresses.as_deref().unwrap_or(&[]), false)))
        .collect();
    let numbers = RuleNumbers::in_order(policy);
    let input = Input { policy, members: &members, zones: &zones, numbers: &numbers };
    let limits = Limits { nodes: NODES };
    let image = match compile::compile(&input, &limits) {
        Ok(image) => image,
        Err(CompileError::TooLarge { .. } | CompileError::TooManyIntervals { .. }) => return,
        Err(error) => panic!("a valid policy does not compile: {error}"),
    };
    assert_eq!(Some(&image), compile::compile(&input, &limits).ok().as_ref(), "one policy, one image");
    assert_eq!(image.verify(), Ok(()));
    assert_eq!(Image::from_nodes(image.nodes().to_vec()).map(|again| again.digest()), Ok(image.digest()));
    for (number, entry) in policy.interfaces.iter().enumerate().take(4) {
        answers(policy, &members, &numbers, &image, (number as u32, &entry.groups));
    }
}

/// Asks around whatever the rules mention.
fn answers(
    policy: &Policy,
    members: &Membership,
    numbers: &RuleNumbers,
    image: &Image,
    (zone, groups): (u32, &[GroupIndex]),
) {
    let Ok(zone) = image::zone(image, zone) else { panic!("zone {zone} is not in the image") };
    let mut left = PROBES.1;
    for (index, of) in policy.rules().filter(|(index, _)| groups.contains(&index.group)) {
        for (remote, selector) in probes(policy, members, of).into_iter().take(PROBES.0.min(left)) {
            left -= 1;
            let protocol = match selector.table {
                Table::Tcp => Protocol::TCP,
                Table::Udp => Protocol::UDP,
                Table::Icmp if remote.is_v4() => Protocol::ICMP,
                Table::Icmp => Protocol::ICMPV6,
                Table::Other => Protocol(selector.value as u8),
            };
            let tuple = Tuple { local: Addr::v4(0x0a00_0001), remote, protocol, selector };
            let expected = eval::eval(policy, members, groups, index.direction, &tuple);
            let found = image::rule(image, zone, index.direction, remote, selector);
            let found = found.map(image::RuleWord::rule);
            let expected = expected.and_then(|rule| numbers.get(rule));
            assert_eq!(found, Ok(expected), "{} {tuple:?}", Direction::name(index.direction));
        }
    }
}

/// The edges of a rule's prefixes and services, and what lies just outside.
fn probes(policy: &Policy, members: &Membership, rule: &Rule) -> Vec<(Addr, Selector)> {
    let prefixes: Vec<Prefix> = rule
        .peers
        .iter()
        .flat_map(|peer| match peer {
            Peer::Prefix(prefix) => vec![*prefix],
            Peer::PrefixList(list) => policy.prefix_lists[list.0].entries.clone(),
            Peer::Group(group) => members.of(*group).to_vec(),
        })
        .take(8)
        .collect();
    let mut probes = vec![];
    for prefix in prefixes {
        let (first, last) = (prefix.first().to_bits(), prefix.last().to_bits());
        let addresses = [first, last, first.wrapping_sub(1), last.wrapping_add(1)].map(Addr::from_bits);
        for address in addresses.into_iter().filter(|address| address.family() == prefix.family()) {
            for service in rule.services.iter().take(4) {
                for (table, low, high) in service.ranges(Family::V4).chain(service.ranges(Family::V6)) {
                    for value in [low, high, high.wrapping_add(1)] {
                        probes.push((address, Selector { table, value }));
                    }
                }
            }
        }
    }
    probes
}
