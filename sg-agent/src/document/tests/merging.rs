//! Several documents, directories, list files, and what the file system may do to them.

use std::{fs, path::Path};

use super::*;

/// Everything that is said, with file names, of documents in memory.
fn told_of(documents: &[(&str, &str)]) -> Vec<String> {
    let loaded = parse_with(documents, &NoFiles, &Limits::default());
    loaded
        .errors
        .iter()
        .chain(&loaded.warnings)
        .map(|of| format!("{}:{}", of.position.file, line(of)))
        .collect()
}

#[test]
fn names_resolve_across_documents() {
    let a = "version: 1\ninterfaces: [{match: eth0, groups: web}]\nservices: {metrics: tcp/9090}";
    let b = "version: 1\ngroups: {web: {inbound: [{allow: metrics, from: 'list:office'}]}}";
    let c = "version: 1\nprefix_lists: {office: {entries: [10.0.0.0/8]}}";
    assert_eq!(told_of(&[("a", a), ("b", b), ("c", c)]), Vec::<String>::new());
}

#[test]
fn a_name_that_is_defined_twice_names_both_places() {
    let a = "version: 1
services: {s: tcp/1}
prefix_lists: {l: {entries: [10.0.0.1]}}
groups: {g: {inbound: [{allow: s, from: 'list:l', id: one}]}}
interfaces: [{match: eth0, groups: g}]";
    let b = "version: 1
services: {s: tcp/1}
prefix_lists: {l: {entries: [10.0.0.1]}}
groups: {g: {}, h: {outbound: [{allow: s, to: 'list:l', id: one}]}}";
    assert_eq!(
        told_of(&[("a.yaml", a), ("b.yaml", b)]),
        [
            "b.yaml:2:12: error: service `s` is defined twice; the first is at a.yaml:2:12",
            "b.yaml:3:16: error: prefix list `l` is defined twice; the first is at a.yaml:3:16",
            "b.yaml:4:10: error: group `g` is defined twice; the first is at a.yaml:4:10",
            "b.yaml:4:61: error: rule id `one` is defined twice; the first is at a.yaml:4:55",
        ]
    );
}

#[test]
fn errors_of_all_documents_come_at_once() {
    assert_eq!(
        told_of(&[("a", "version: 2"), ("b", "version: 1\nx: 1"), ("c", "[")]),
        [
            "a:1:10: error: `version` is the number 2; this agent reads version 1",
            "b:2:1: error: unknown key `x` in a policy",
            "c:1:2: error: not valid YAML: while parsing a node, did not find expected node content",
        ]
    );
}

#[test]
fn what_an_unreadable_document_may_define_is_not_called_unknown() {
    let b = "version: 1\ngroups: {g: {inbound: [{allow: x, from: ['list:l', 'group:h']}]}}";
    assert_eq!(told_of(&[("a", "["), ("b", b)]).len(), 1);
    assert_eq!(told_of(&[("b", b)]).len(), 3);
}

fn write(folder: &Path, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    path
}

/// What is said of paths, with the folder's name taken off.
fn told_at(folder: &Path, paths: &[PathBuf]) -> Vec<String> {
    let loaded = load(paths, &Limits::default());
    assert_eq!(loaded.policy.is_some(), loaded.errors.is_empty());
    let folder = format!("{}/", folder.display());
    loaded
        .errors
        .iter()
        .chain(&loaded.warnings)
        .map(|of| format!("{}:{}", of.position.file, line(of)).replace(&folder, ""))
        .collect()
}

#[test]
fn a_directory_is_read_in_name_order() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write(folder, "20.json", r#"{"version": 1, "groups": {"b": {}}}"#);
    write(folder, "10.yml", "version: 1\ngroups: {a: {}}\ninterfaces: [{match: x, groups: [a, b, c]}]");
    write(folder, "30.yaml", "version: 1\ngroups: {c: {}}");
    for ignored in [".hidden.yaml", "notes.txt", "old.yaml.bak"] {
        write(folder, ignored, "not a policy");
    }
    let loaded = load(&[folder.to_owned()], &Limits::default());
    assert_eq!((loaded.errors.as_slice(), loaded.warnings.as_slice()), (&[][..], &[][..]));
    let names: Vec<_> = loaded.sources.iter().map(|source| source.name.rsplit('/').next().unwrap()).collect();
    assert_eq!(names, ["10.yml", "20.json", "30.yaml"]);
    assert_eq!(loaded.sources[2].bytes, b"version: 1\ngroups: {c: {}}");
    assert_eq!(loaded.counts, Counts { groups: 3, rules: 0, prefixes: 0 });
}

#[test]
fn list_files_are_relative_to_their_document_and_errors_carry_their_lines() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::create_dir(folder.join("sub")).unwrap();
    let good = "version: 1\nprefix_lists: {l: {file: ../good.txt}}";
    let good = write(&folder.join("sub"), "good.yaml", good);
    write(
        folder,
        "good.txt",
        "\u{feff}# comment\r\n10.0.0.0/8\r\n\r\n  2001:db8::/32 # trailing\n10.0.0.0/8\n",
    );
    let loaded = load(&[good], &Limits::default());
    assert_eq!((loaded.errors.as_slice(), loaded.warnings.as_slice()), (&[][..], &[][..]));
    let entries: Vec<_> =
        loaded.policy.unwrap().prefix_lists[0].entries.iter().map(ToString::to_string).collect();
    assert_eq!(
        entries,
        ["2001:db8::/32", "10.0.0.0/8"]
            .map(str::to_owned)
            .as_slice()
            .iter()
            .rev()
            .cloned()
            .collect::<Vec<_>>()
    );
    assert_eq!(loaded.counts.prefixes, 2);
    assert_eq!(loaded.sources.len(), 2);

    let bad = write(
        folder,
        "bad.yaml",
        "version: 1\nprefix_lists: {a: {file: bad.txt}, b: {file: missing.txt}, c: {file: sub}}",
    );
    write(folder, "bad.txt", "10.0.0.0/8\n\t 10.0.0.1/33\nnonsense # why\n10.0.0.1/8\n");
    assert_eq!(
        told_at(folder, &[bad]),
        [
            "bad.yaml:2:46: error: the list file `missing.txt`: cannot be read: no such file or directory",
            "bad.yaml:2:70: error: the list file `sub`: cannot be read: not a regular file",
            "bad.txt:2:3: error: `10.0.0.1/33`: the prefix length is not a number from 0 to 32",
            "bad.txt:3:1: error: `nonsense`: not an IPv4 or IPv6 address or CIDR",
            "bad.txt:4:1: warning: `10.0.0.1/8` has host bits set; it means the network 10.0.0.0/8 → 10.0.0.0/8",
        ]
    );
}

#[test]
fn what_the_file_system_refuses_is_an_error_like_any_other() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let empty = folder.join("empty");
    fs::create_dir(&empty).unwrap();
    let latin = write(folder, "latin.yaml", b"version: 1\ngroups: {caf\xe9: {}}");
    assert_eq!(
        told_at(folder, &[folder.join("missing.yaml"), empty, latin]),
        [
            "missing.yaml:1:1: error: cannot be read: no such file or directory",
            "empty:1:1: error: the directory holds no *.yaml, *.yml or *.json file",
            "latin.yaml:2:13: error: the file is not UTF-8; save it as UTF-8",
        ]
    );
}

#[test]
fn a_fifo_in_place_of_a_list_or_a_document_stops_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let made = std::process::Command::new("mkfifo").arg(folder.join("list.txt")).status().unwrap();
    assert!(made.success());
    let document = write(folder, "p.yaml", "version: 1\nprefix_lists: {a: {file: list.txt}}");
    assert_eq!(
        told_at(folder, &[document]),
        ["p.yaml:2:26: error: the list file `list.txt`: cannot be read: not a regular file"]
    );
    let documents = folder.join("documents");
    std::fs::create_dir(&documents).unwrap();
    std::fs::rename(folder.join("list.txt"), documents.join("a.yaml")).unwrap();
    assert_eq!(
        told_at(folder, &[documents]),
        ["documents/a.yaml:1:1: error: cannot be read: not a regular file"]
    );
}
