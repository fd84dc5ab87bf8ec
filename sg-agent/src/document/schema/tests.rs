use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::*;
use crate::document::{Limits, keys, load, parse_str};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn definition<'s>(schema: &'s Value, name: &str) -> &'s Value {
    if name == "Document" { schema } else { &schema["$defs"][name] }
}

/// The YAML text as JSON, read by another parser than the agent's.
fn json(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// The committed file is written by `UPDATE_SCHEMA=1 cargo test -p sg-agent schema`.
#[test]
fn the_committed_schema_is_current() {
    let path = repository().join("docs/policy.schema.json");
    let current = serde_json::to_string_pretty(&schema()).unwrap() + "\n";
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &current).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == current, "docs/policy.schema.json is stale; see the comment on this test");
}

#[test]
fn the_decoder_and_the_schema_know_the_same_keys() {
    let schema = schema();
    let mut seen = BTreeSet::from(["Document"]);
    for (name, keys) in [
        ("Document", &keys::DOCUMENT[..]),
        ("PrefixList", &keys::PREFIX_LIST),
        ("Group", &keys::GROUP),
        ("InboundRule", &keys::INBOUND),
        ("OutboundRule", &keys::OUTBOUND),
        ("Interface", &keys::INTERFACE),
        ("Infrastructure", &keys::INFRASTRUCTURE),
    ] {
        seen.insert(name);
        let of = definition(&schema, name);
        let properties: BTreeSet<_> =
            of["properties"].as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(properties, keys.iter().copied().collect(), "{name}");
        assert_eq!(of["additionalProperties"], false, "{name}");
    }
    // No mapping is left out above.
    for (name, of) in schema["$defs"].as_object().unwrap() {
        assert!(of.get("properties").is_none() || seen.contains(name.as_str()), "{name}");
    }
}

#[test]
fn every_example_fits_the_schema_and_loads() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    let mut policies = Vec::new();
    for entry in fs::read_dir(repository().join("examples")).unwrap() {
        policies.push(entry.unwrap().path());
    }
    assert!(policies.len() >= 4, "{policies:?}");
    for policy in policies {
        let loaded = load(std::slice::from_ref(&policy), &Limits::default());
        assert_eq!(loaded.errors, [], "{}", policy.display());
        assert_eq!(loaded.warnings, [], "{}", policy.display());
        for source in loaded.sources.iter().filter(|source| !source.name.ends_with(".txt")) {
            let document = json(str::from_utf8(&source.bytes).unwrap());
            let errors: Vec<_> = validator.iter_errors(&document).map(|error| error.to_string()).collect();
            assert!(errors.is_empty(), "{}: {errors:?}", source.name);
        }
    }
}

/// Each document is accepted by both, or refused by both.
#[test]
fn the_decoder_and_the_schema_agree() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    let rule = |rule: &str| format!("{{version: 1, groups: {{g: {{inbound: [{rule}]}}}}}}");
    let entry = |entry: &str| format!("{{version: 1, groups: {{g: {{}}}}, interfaces: [{entry}]}}");
    let list = |list: &str| format!("{{version: 1, prefix_lists: {{l: {list}}}}}");
    let service = |items: &str| format!("{{version: 1, services: {{s: {items}}}}}");
    let long = format!("{{version: 1, groups: {{g: {{description: {}}}}}}}", "x".repeat(256));
    for (text, valid) in [
        ("{version: 1}".to_owned(), true),
        ("{}".to_owned(), false),
        ("{version: 2}".to_owned(), false),
        ("{version: '1'}".to_owned(), false),
        ("{version: 1, group: {}}".to_owned(), false),
        ("{version: 1, groups: []}".to_owned(), false),
        ("{version: 1, groups: null}".to_owned(), false),
        ("{version: 1, groups: {g: {}}}".to_owned(), true),
        ("{version: 1, groups: {'a b': {}}}".to_owned(), false),
        ("{version: 1, groups: {g: null}}".to_owned(), false),
        ("{version: 1, groups: {g: {inbound: null}}}".to_owned(), true),
        ("{version: 1, groups: {g: {outbound: null}}}".to_owned(), false),
        ("{version: 1, groups: {g: {outbound: []}}}".to_owned(), true),
        ("{version: 1, groups: {g: {tags: {a: b}}}}".to_owned(), true),
        ("{version: 1, groups: {g: {tags: {a: 1}}}}".to_owned(), false),
        ("{version: 1, groups: {g: {members: 10.0.0.1}}}".to_owned(), true),
        ("{version: 1, groups: {g: {members: web}}}".to_owned(), false),
        (long, false),
        (rule("{allow: all, from: anywhere}"), true),
        (rule("{allow: [https, 47], from: [anywhere, 10.0.0.0/8]}"), true),
        (rule("{allow: 256, from: anywhere}"), false),
        (rule("{allow: -1, from: anywhere}"), false),
        (rule("{allow: '47', from: anywhere}"), true),
        (rule("{allow: '256', from: anywhere}"), false),
        (rule("{allow: true, from: anywhere}"), false),
        (rule("{allow: [], from: anywhere}"), false),
        (rule("{allow: all, from: []}"), false),
        (rule("{allow: all}"), false),
        (rule("{from: anywhere}"), false),
        (rule("{allow: all, to: anywhere}"), false),
        (rule("{allow: all, from: anywhere, id: a b}"), false),
        (rule("{allow: tcp/65535, from: anywhere}"), true),
        (rule("{allow: tcp/65536, from: anywhere}"), false),
        (rule("{allow: tcp/080, from: anywhere}"), false),
        (rule("{allow: icmp/3/4, from: anywhere}"), true),
        (rule("{allow: icmp/packet-too-big, from: anywhere}"), false),
        (rule("{allow: icmpv6/packet-too-big, from: anywhere}"), true),
        (rule("{allow: gre/1, from: anywhere}"), false),
        (rule("{allow: all, from: '::/0'}"), true),
        (rule("{allow: all, from: '2001:db8::/129'}"), false),
        (rule("{allow: all, from: 10.0.0.0/33}"), false),
        (rule("{allow: all, from: 10.0.0.0/08}"), false),
        (rule("{allow: all, from: 10.0.0.01}"), false),
        (rule("{allow: all, from: 'group:g'}"), true),
        (rule("{allow: all, from: 'group:'}"), false),
        (rule("{allow: all, from: everywhere}"), false),
        (entry("{match: eth0, groups: g}"), true),
        (entry("{match: eth0, groups: [g]}"), true),
        (entry("{match: eth0, groups: []}"), false),
        (entry("{match: eth0}"), false),
        (entry("{groups: g}"), false),
        (entry("{match: '', groups: g}"), false),
        (entry("{match: eth0, groups: g, side: guest, addresses: [10.0.0.1]}"), true),
        (entry("{match: eth0, groups: g, addresses: []}"), false),
        (entry("{match: eth0, groups: g, side: both}"), false),
        (entry("{match: eth0, groups: g, source_check: 'yes'}"), false),
        (entry("{match: eth0, groups: g, mode: audit, hook: xdp}"), true),
        (entry("{match: eth0, groups: g, infrastructure: {arp: false}}"), true),
        (entry("{match: eth0, groups: g, infrastructure: {igmp: true}}"), false),
        (entry("{match: eth0, groups: g, permit_ethertypes: [35020, '0x88cc']}"), true),
        (entry("{match: eth0, groups: g, permit_ethertypes: ['0x600']}"), true),
        (entry("{match: eth0, groups: g, permit_ethertypes: ['0x5ff']}"), false),
        (entry("{match: eth0, groups: g, permit_ethertypes: [1535]}"), false),
        (entry("{match: eth0, groups: g, permit_ethertypes: [2048]}"), false),
        (entry("{match: eth0, groups: g, permit_ethertypes: ['0x86DD']}"), false),
        (list("{entries: [10.0.0.0/8]}"), true),
        (list("{entries: []}"), true),
        (list("{}"), false),
        (list("{entries: [], file: a.txt}"), false),
        (list("[10.0.0.0/8]"), false),
        (service("tcp/9090"), true),
        (service("[tcp/9090, https, gre, icmp]"), true),
        (service("[]"), false),
        (service("nosuch"), false),
    ] {
        let fits = validator.is_valid(&json(&text));
        let loads = parse_str("p.yaml", &text, &Limits::default()).errors.is_empty();
        assert_eq!((fits, loads), (valid, valid), "(schema, decoder) of {text}");
    }
}

#[test]
fn what_is_written_with_the_types_is_read_back() {
    let names = |names: &[&str]| AtLeastOne(names.iter().map(|name| Name((*name).to_owned())).collect());
    let allow = |items: &[&str]| AtLeastOne(items.iter().map(|item| AllowItem((*item).to_owned())).collect());
    let peers = |items: &[&str]| AtLeastOne(items.iter().map(|item| PeerItem((*item).to_owned())).collect());
    let prefixes = |items: &[&str]| items.iter().map(|item| PrefixText((*item).to_owned())).collect();
    let document = Document {
        version: Version,
        services: [(Name("metrics".to_owned()), AtLeastOne(vec![ServiceItem("tcp/9090".to_owned())]))].into(),
        prefix_lists: [(
            Name("office".to_owned()),
            PrefixList { entries: Some(Items(prefixes(&["203.0.113.0/24"]))), ..PrefixList::default() },
        )]
        .into(),
        groups: [(
            Name("web".to_owned()),
            Group {
                description: Some("é \u{1f600} \"quoted\"".to_owned()),
                tags: [("team".to_owned(), "platform".to_owned())].into(),
                members: Items(prefixes(&["10.0.1.5"])),
                mode: Mode::Audit,
                inbound: vec![InboundRule {
                    allow: allow(&["https", "metrics"]),
                    from: peers(&["list:office", "group:web"]),
                    description: None,
                    id: Some(Name("site".to_owned())),
                }],
                outbound: Some(vec![OutboundRule {
                    allow: allow(&["dns"]),
                    to: peers(&["anywhere"]),
                    description: Some("names".to_owned()),
                    id: None,
                }]),
            },
        )]
        .into(),
        interfaces: vec![Interface {
            pattern: "tap*".to_owned(),
            groups: names(&["web"]),
            side: Side::Guest,
            addresses: Some(AtLeastOne(prefixes(&["10.0.2.7"]))),
            source_check: Some(true),
            mode: Mode::Audit,
            hook: Hook::Tc,
            infrastructure: Infrastructure { mld: false, ..Infrastructure::default() },
            permit_ethertypes: Items(vec![EtherType(0x88cc)]),
        }],
    };
    let text = serde_json::to_string_pretty(&document).unwrap();
    let errors: Vec<_> = jsonschema::validator_for(&schema())
        .unwrap()
        .iter_errors(&serde_json::to_value(&document).unwrap())
        .map(|error| error.to_string())
        .collect();
    assert!(errors.is_empty(), "{errors:?}");
    let loaded = parse_str("p.json", &text, &Limits::default());
    assert_eq!(loaded.errors, []);
    let policy = loaded.policy.unwrap();
    assert_eq!(policy.groups[0].description.as_deref(), Some("é \u{1f600} \"quoted\""));
    assert_eq!(policy.interfaces[0].permit_ethertypes, [0x88cc]);
    assert!(!policy.interfaces[0].infrastructure.mld);
}
