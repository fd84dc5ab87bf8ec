//! `explain`: the verdict for a packet that nobody sent, of a document and of what is in force.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use sg_tests::{
    each_setup,
    lab::{Arena, Setup, agent::POLICY, arena::Family, can_run},
};

each_setup! {
    explain_agrees_with_the_kernel
}

const RULES: &str = "inbound: [{allow: tcp/80, from: anywhere}, {allow: tcp/443, from: [PEER]}], \
                     outbound: [{allow: udp/53, to: [PEER]}]";

/// Words of `explain`, and what it must answer: verdict, via, rule, reason. `I` and `P` stand for the
/// addresses of the instance and its peer.
type Row = (&'static str, &'static str, Value, Value, Value);

fn rows() -> Vec<Row> {
    let null = Value::Null;
    let rule = |name: &str| (json!("rule"), json!(name), Value::Null);
    let dropped = |reason: &str| (Value::Null, Value::Null, json!(reason));
    let row = |words, verdict, (via, rule, reason)| (words, verdict, via, rule, reason);
    vec![
        row("in tcp P:40000 I:443", "allow", rule("g/inbound/1")),
        row("in tcp P:40000 I:80", "allow", rule("g/inbound/0")),
        row("in tcp 192.0.2.1:40000 I:80", "allow", rule("g/inbound/0")),
        row("in tcp 192.0.2.1:40000 I:443", "drop", dropped("no_rule")),
        row("in tcp P:40000 I:22", "drop", dropped("no_rule")),
        row("in udp P:40000 I:443", "drop", dropped("no_rule")),
        row("in icmp/echo-request P I", "drop", dropped("no_rule")),
        row("out udp I:40000 P:53", "allow", rule("g/outbound/0")),
        row("out tcp I:40000 P:53", "drop", dropped("no_rule")),
        row("out udp 0.0.0.0:68 255.255.255.255:67", "allow", (json!("infrastructure"), null.clone(), null)),
    ]
}

/// Runs `explain` and compares the five fields and the exit status.
fn ask(arena: &Arena, row: &Row, family: Family, document: bool) -> Result<()> {
    let (words, verdict, via, rule, reason) = row;
    if family == Family::V6 && words.contains('.') {
        return Ok(());
    }
    let name = |address: std::net::IpAddr, port: &str| match (address, port) {
        (address, "") => address.to_string(),
        (std::net::IpAddr::V4(address), port) => format!("{address}{port}"),
        (std::net::IpAddr::V6(address), port) => format!("[{address}]{port}"),
    };
    let words: Vec<String> = words
        .split(' ')
        .map(|word| match word.split_at(1) {
            ("P", port) => name(arena.peer_address(family), port),
            ("I", port) => name(arena.instance_address(family), port),
            _ if family == Family::V6 => word.replace("icmp/", "icmpv6/"),
            _ => word.to_owned(),
        })
        .collect();
    let mut arguments = vec!["explain", "-o", "json", "--interface", "eth0"];
    if document {
        arguments.extend(["--policy", POLICY]);
    }
    arguments.extend(words.iter().map(String::as_str));
    let status = if *verdict == "allow" { 0 } else { 3 };
    let answer = arena.agent.run(&arguments)?.expect_status(status)?.json()?;
    let what = || format!("{arguments:?}: {answer:#}");
    assert_eq!(answer["verdict"], *verdict, "{}", what());
    for (field, expected) in [("via", via), ("rule", rule), ("reason", reason)] {
        assert_eq!(answer.get(field).with_context(what)?, expected, "{field}: {}", what());
    }
    let source = answer.get("source").with_context(what)?;
    if rule.is_null() {
        assert!(source.is_null(), "{}", what());
    } else {
        assert_eq!(source, "policy.yaml:3", "{}", what());
    }
    Ok(())
}

fn explain_agrees_with_the_kernel(setup: Setup) -> Result<()> {
    let arena = Arena::start(setup, RULES)?;
    for family in Family::ALL {
        for row in &rows() {
            ask(&arena, row, family, false)?;
            ask(&arena, row, family, true)?;
        }
        // An open flow answers for both of its directions; a document knows of no flows.
        let mut connection = arena.connect_in(family, 443)?.context("443 is closed")?;
        assert!(connection.works()?);
        let port = connection.client.local_addr()?.port();
        let words = [format!("in tcp P:{port} I:443"), format!("out tcp I:443 P:{port}")];
        for words in words {
            let arguments: Vec<String> = words
                .split(' ')
                .map(|word| match (word.split_at(1), family) {
                    (("P", port), Family::V4) => format!("{}{port}", arena.peer_address(family)),
                    (("I", port), Family::V4) => format!("{}{port}", arena.instance_address(family)),
                    (("P", port), Family::V6) => format!("[{}]{port}", arena.peer_address(family)),
                    (("I", port), Family::V6) => format!("[{}]{port}", arena.instance_address(family)),
                    _ => word.to_owned(),
                })
                .collect();
            let mut all = vec!["explain", "--interface", "eth0"];
            all.extend(arguments.iter().map(String::as_str));
            let answer = arena.agent.json(&all)?;
            assert_eq!((&answer["verdict"], &answer["via"]), (&json!("allow"), &json!("flow")), "{answer:#}");
        }
    }
    Ok(())
}

#[test]
fn explain_of_a_document_needs_no_daemon_and_no_rights() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let arena = Arena::without_agent(Setup::HostTc)?;
    arena.agent.write(POLICY, &arena.policy(RULES))?;
    for row in &rows() {
        ask(&arena, row, Family::V4, true)?;
    }
    let text = arena.agent.ok(&[
        "explain",
        "--policy",
        POLICY,
        "--interface",
        "eth0",
        "in",
        "tcp",
        "10.88.0.2:40000",
        "10.88.0.1:443",
    ])?;
    for word in ["g/inbound/1", "policy.yaml:3"] {
        assert!(text.stdout.contains(word), "{word} in\n{}", text.stdout);
    }
    Ok(())
}
