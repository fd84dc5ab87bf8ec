//! The commands that need nothing, as a user runs them: `check`, `explain --policy`, `completions`,
//! `man`; and how every command fails.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::{Value, json};
use tempfile::TempDir;

const POLICY: &str = "version: 1
prefix_lists:
  office: {file: office.txt}
groups:
  web:
    inbound:
      - {allow: [https, tcp/8080-8090], from: anywhere}
      - {id: pings, allow: icmp/echo-request, from: list:office}
    outbound: []
  db:
    inbound:
      - {allow: postgres, from: group:web}
interfaces:
  - {match: eth0, groups: [web]}
  - {match: 'tap*', side: guest, groups: [web, db], addresses: [10.0.2.7]}
";

/// A folder with a policy, and the binary run in it.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.write("policy.yaml", POLICY);
        folder.write("office.txt", "203.0.113.0/24 # the office\n");
        folder
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path().join(name), text).unwrap();
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sg-agent"));
        command
            .args(words)
            .current_dir(self.path())
            .env("SG_AGENT_SOCKET", self.path().join("agent.sock"))
            .env("SG_AGENT_STATE_DIR", self.path().join("state"))
            .env("SG_AGENT_BPFFS", self.path().join("bpffs"))
            .env_remove("RUST_LOG")
            .env_remove("SG_AGENT_CONFIG");
        command
    }

    fn run(&self, words: &[&str], status: i32) -> (String, String) {
        let Output { status: ended, stdout, stderr } = self.command(words).output().unwrap();
        let (stdout, stderr) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
        assert_eq!(ended.code(), Some(status), "{words:?}\n{stdout}\n{stderr}");
        (stdout, stderr)
    }

    fn json(&self, words: &[&str], status: i32) -> Value {
        let (stdout, _) = self.run(&[words, &["-o", "json"]].concat(), status);
        serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{words:?}: {error}\n{stdout}"))
    }
}

#[test]
fn a_valid_policy_is_measured() {
    let folder = Folder::new();
    let check = folder.json(&["check", "policy.yaml"], 0);
    assert_eq!(
        (&check["errors"], &check["groups"], &check["rules"], &check["prefixes"]),
        (&json!([]), &json!(2), &json!(3), &json!(3)),
        "{check:#}"
    );
    let bytes = check["bytes"].as_u64().unwrap();
    assert!(bytes > 0 && bytes.is_multiple_of(64), "{check:#}");
    assert!(check["compile_ms"].as_f64().unwrap() > 0.0);
    let (stdout, stderr) = folder.run(&["check", "policy.yaml"], 0);
    assert!(stdout.starts_with("valid: 2 groups, 3 rules, 3 prefixes"), "{stdout}");
    assert_eq!(stderr, "");
}

#[test]
fn every_error_is_told_with_its_place() {
    let folder = Folder::new();
    folder.write(
        "bad.yaml",
        "version: 1\ngroups:\n  g:\n    inbond: []\n    inbound: [{allow: htps, from: anywhere}]\n",
    );
    let check = folder.json(&["check", "bad.yaml"], 2);
    let places: Vec<_> = check["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| (error["file"].as_str().unwrap(), error["line"].as_u64().unwrap()))
        .collect();
    assert_eq!(places, [("bad.yaml", 4), ("bad.yaml", 5)], "{check:#}");
    assert_eq!(check["errors"][0]["column"], 5);
    assert_eq!(check["errors"][0]["suggestion"], "inbound");
    assert_eq!(check["bytes"], 0);
    let (stdout, stderr) = folder.run(&["check", "bad.yaml"], 2);
    assert_eq!(stdout, "");
    assert!(stderr.contains("bad.yaml:4:5: error: "), "{stderr}");
    assert!(stderr.ends_with("sg-agent: check the policy: it has 2 errors\n"), "{stderr}");
    // Twice the same document: the same group defined twice.
    folder.run(&["check", "policy.yaml", "policy.yaml"], 2);
    folder.run(&["check", "missing.yaml"], 2);
}

/// A question, and verdict, via, rule, reason.
type Row = (&'static [&'static str], i32, [Value; 4]);

#[test]
fn a_document_explains_itself_without_rights_or_daemon() {
    let folder = Folder::new();
    let allowed = |rule: &str| [json!("allow"), json!("rule"), json!(rule), Value::Null];
    let dropped = |reason: &str| [json!("drop"), Value::Null, Value::Null, json!(reason)];
    let rows: [Row; 9] = [
        (&["eth0", "in", "tcp", "198.51.100.1:40000", "10.0.0.1:443"], 0, allowed("web/inbound/0")),
        (&["eth0", "in", "tcp", "2001:db8::1", "[2001:db8::2]:8085"], 0, allowed("web/inbound/0")),
        (&["eth0", "in", "tcp", "198.51.100.1", "10.0.0.1:22"], 3, dropped("no_rule")),
        (&["eth0", "in", "icmp/echo-request", "203.0.113.9", "10.0.0.1"], 0, allowed("web/inbound/1")),
        (&["eth0", "in", "tcp", "127.0.0.1", "10.0.0.1:443"], 3, dropped("martian")),
        // 10.0.2.7 carries `web`, by the entry of the taps.
        (&["tap3", "in", "tcp", "10.0.2.7", "10.0.2.7:5432"], 0, allowed("db/inbound/0")),
        (&["tap3", "out", "tcp", "10.0.2.8", "10.9.9.9:80"], 3, dropped("source_check")),
        (
            &["tap3", "out", "udp", "0.0.0.0:68", "255.255.255.255:67"],
            0,
            [json!("allow"), json!("infrastructure"), Value::Null, Value::Null],
        ),
        // Left alone.
        (
            &["wlan0", "in", "tcp", "198.51.100.1", "10.0.0.1:22"],
            0,
            [json!("allow"), Value::Null, Value::Null, Value::Null],
        ),
    ];
    for (words, status, expected) in rows {
        let words = [&["explain", "--policy", "policy.yaml", "--interface"], words].concat();
        let answer = folder.json(&words, status);
        let fields = ["verdict", "via", "rule", "reason"].map(|field| answer[field].clone());
        assert_eq!(fields, expected, "{words:?}: {answer:#}");
    }
    let question = ["--interface", "eth0", "in", "icmp", "203.0.113.9", "10.0.0.1"];
    let words = [&["explain", "--policy", "policy.yaml"], &question[..]].concat();
    let answer = folder.json(&words, 0);
    assert_eq!((&answer["source"], &answer["rule_id"]), (&json!("policy.yaml:8"), &json!("pings")));
    let (text, _) = folder.run(&words, 0);
    assert!(text.contains("no match: opens tcp/443, tcp/8080-8090"), "{text}");
}

#[test]
fn questions_that_make_no_sense_are_bad_usage() {
    let folder = Folder::new();
    for words in [
        ["in", "tcp", "198.51.100.1", "10.0.0.1"],
        ["in", "tpc", "198.51.100.1", "10.0.0.1:1"],
        ["in", "gre", "198.51.100.1:1", "10.0.0.1"],
        ["in", "tcp", "2001:db8::1", "10.0.0.1:1"],
        ["over", "tcp", "198.51.100.1", "10.0.0.1:1"],
    ] {
        let all = [&["explain", "--policy", "policy.yaml", "--interface", "eth0"], &words[..]].concat();
        folder.run(&all, 2);
    }
    folder.run(&["explain", "--policy", "policy.yaml", "in", "tcp", "192.0.2.1", "192.0.2.2:1"], 2);
}

#[test]
fn exit_status_and_errors_are_those_of_the_contract() {
    let folder = Folder::new();
    let rows: [(&[&str], i32); 9] = [
        (&["--help"], 0),
        (&["--version"], 0),
        (&["completions", "bash"], 0),
        (&["man"], 0),
        (&[], 2),
        (&["nonsense"], 2),
        (&["counters", "--by", "colour"], 2),
        (&["detach"], 2),
        (&["apply", "policy.yaml"], 4),
    ];
    for (words, status) in rows {
        folder.run(words, status);
    }
    let (stdout, stderr) = folder.run(&["apply", "policy.yaml"], 4);
    assert_eq!((stdout.as_str(), stderr.lines().count()), ("", 1), "{stderr}");
    assert!(stderr.starts_with("sg-agent: apply the policy: no agent answers at "), "{stderr}");
    // An invalid policy needs no daemon to be refused.
    folder.write("bad.yaml", "version: 2\n");
    folder.run(&["apply", "bad.yaml"], 2);
    let (_, stderr) = folder.run(&["counters", "--watch", "0"], 2);
    assert!(stderr.contains("--watch"), "{stderr}");
}

#[test]
fn completions_and_manual_name_every_command() {
    let folder = Folder::new();
    for words in [&["completions", "bash"][..], &["completions", "zsh"], &["man"]] {
        let (text, _) = folder.run(words, 0);
        for command in ["run", "check", "explain", "apply", "status", "counters", "drops", "flows", "detach"]
        {
            // The manual has them as headings.
            assert!(text.to_lowercase().contains(command), "{command} in {words:?}");
        }
    }
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let folder = Folder::new();
    for words in [&["check", "policy.yaml"][..], &["check", "policy.yaml", "--json"], &["--help"], &["man"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let child = folder.command(words).stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{words:?}");
        assert!(output.status.code().is_some(), "{words:?} ends by itself");
    }
}
