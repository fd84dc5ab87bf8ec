//! What scripts rely on: exit status, JSON shapes, streams, widths (cli.md).

use std::{
    fs::File,
    io::Read as _,
    os::fd::OwnedFd,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use sg_tests::{
    lab::{Arena, Output, Probe, Setup, agent::POLICY, arena::Family, can_run, folder},
    syscall,
};

const RULES: &str = "inbound: [{allow: tcp/443, from: [PEER]}]";

/// What a field of a JSON object may hold.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Text,
    Number,
    List,
    Object,
    TextOrNull,
}

fn shape(value: &Value, fields: &[(&str, Kind)]) -> Result<()> {
    for (name, kind) in fields {
        let field = value.get(name).with_context(|| format!("no {name} in {value:#}"))?;
        let right = match kind {
            Kind::Text => field.is_string(),
            Kind::Number => field.is_u64(),
            Kind::List => field.is_array(),
            Kind::Object => field.is_object(),
            Kind::TextOrNull => field.is_string() || field.is_null(),
        };
        ensure!(right, "{name} is no {kind:?} in {value:#}");
    }
    Ok(())
}

const COUNT: [(&str, Kind); 2] = [("packets", Kind::Number), ("bytes", Kind::Number)];

#[test]
fn counters_and_status_have_the_promised_shape() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let arena = Arena::start(Setup::HostTc, RULES)?;
    arena.inbound(Probe::Tcp(443), Family::V4)?;
    arena.inbound(Probe::Tcp(22), Family::V4)?;

    let counters = arena.agent.json(&["counters"])?;
    shape(&counters, &[("generation", Kind::Number), ("interfaces", Kind::List)])?;
    let interface = &counters["interfaces"][0];
    shape(
        interface,
        &[
            ("name", Kind::Text),
            ("ifindex", Kind::Number),
            ("side", Kind::Text),
            ("mode", Kind::Text),
            ("groups", Kind::List),
            ("inbound", Kind::Object),
            ("outbound", Kind::Object),
        ],
    )?;
    assert_eq!(interface["side"], "host");
    assert_eq!(interface["mode"], "enforce");
    assert_eq!(interface["groups"], serde_json::json!(["g"]));
    let index = arena.machine.enter(|| Ok(syscall::interface_index("eth0")?))?;
    assert_eq!(interface["ifindex"], index);
    for direction in ["inbound", "outbound"] {
        let counts = &interface[direction];
        shape(counts, &[("allowed", Kind::Object), ("dropped", Kind::Object), ("reasons", Kind::Object)])?;
        shape(&counts["allowed"], &COUNT)?;
        shape(&counts["dropped"], &COUNT)?;
    }
    shape(&interface["inbound"]["reasons"]["no_rule"], &COUNT)?;
    assert_eq!(interface["outbound"]["reasons"], serde_json::json!({}), "what never moved is not listed");

    let rules = arena.agent.json(&["counters", "--by", "rule"])?;
    shape(&rules, &[("generation", Kind::Number), ("rules", Kind::List)])?;
    shape(
        &rules["rules"][0],
        &[
            ("rule", Kind::Text),
            ("id", Kind::TextOrNull),
            ("group", Kind::Text),
            ("direction", Kind::Text),
            ("source", Kind::Text),
            ("flows", Kind::Number),
            ("packets", Kind::Number),
            ("bytes", Kind::Number),
            ("last_hit", Kind::TextOrNull),
        ],
    )?;

    let one = arena.agent.json(&["counters", "--interface", "eth0"])?;
    assert_eq!(one["interfaces"].as_array().map(Vec::len), Some(1));
    let status = arena.agent.json(&["status"])?;
    assert_eq!(status["generation"], counters["generation"], "{status:#}");
    let text = arena.agent.ok(&["status"])?.stdout;
    for word in ["eth0", "host", "enforce", "arp", "ndp", "dhcp", "mld", "g"] {
        assert!(text.contains(word), "{word} in\n{text}");
    }
    assert!(text.to_lowercase().contains("tc"), "the hook in\n{text}");
    Ok(())
}

#[test]
fn json_is_one_thing_by_both_of_its_names() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let arena = Arena::start(Setup::HostTc, RULES)?;
    for command in [vec!["counters"], vec!["status"], vec!["counters", "--by", "rule"], vec!["check", POLICY]]
    {
        let long = arena.agent.json(&command)?;
        let short = arena.agent.ok(&[command.as_slice(), &["--json"]].concat())?.json()?;
        let mut names = long.as_object().context("an object")?.keys();
        assert!(names.all(|name| short.get(name).is_some()), "{long:#}\n{short:#}");
        let yaml = arena.agent.ok(&[command.as_slice(), &["-o", "yaml"]].concat())?.stdout;
        let first = long.as_object().and_then(|object| object.keys().next()).context("no field")?;
        assert!(yaml.contains(&format!("{first}:")), "{yaml}");
    }
    Ok(())
}

#[test]
fn check_needs_nothing_and_tells_everything() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let arena = Arena::without_agent(Setup::HostTc)?;
    arena.agent.write(POLICY, &arena.policy(RULES))?;
    let good = arena.agent.json(&["check", POLICY])?;
    let fields = [
        ("errors", Kind::List),
        ("warnings", Kind::List),
        ("groups", Kind::Number),
        ("rules", Kind::Number),
        ("prefixes", Kind::Number),
        ("bytes", Kind::Number),
    ];
    shape(&good, &fields)?;
    assert_eq!((&good["errors"], &good["groups"]), (&serde_json::json!([]), &1.into()), "{good:#}");

    let bad = "version: 1\ngroups:\n  g:\n    inbond: []\n  h:\n    inbound:\n      - {allow: htps, from: anywhere}\n";
    arena.agent.write("bad.yaml", bad)?;
    let output = arena.agent.run(&["check", "bad.yaml", "-o", "json"])?.expect_status(2)?;
    let value = output.json()?;
    let errors = value["errors"].as_array().context("a list of errors")?;
    assert!(errors.len() >= 2, "all of them at once: {value:#}");
    for error in errors {
        let places =
            [("file", Kind::Text), ("line", Kind::Number), ("column", Kind::Number), ("message", Kind::Text)];
        shape(error, &places)?;
        assert_eq!(error["file"], "bad.yaml");
    }
    let lines: Vec<_> = errors.iter().filter_map(|error| error["line"].as_u64()).collect();
    assert!(lines.contains(&4) && lines.contains(&7), "{value:#}");

    let text = arena.agent.run(&["check", "bad.yaml"])?.expect_status(2)?.stderr;
    for (word, why) in [
        ("bad.yaml:4:5: error: ", "the place"),
        ("bad.yaml:7:", "the second place"),
        ("inbond: []", "the offending line"),
        ("inbound", "the right spelling"),
        ("https", "the right spelling"),
    ] {
        assert!(text.contains(word), "{why}, {word}, in\n{text}");
    }

    arena.agent.write("open.yaml", &arena.policy("inbound: [{allow: ssh, from: anywhere}]"))?;
    let warned = arena.agent.ok(&["check", "open.yaml"])?;
    assert!(warned.stderr.contains("open.yaml:3:") && warned.stderr.contains(": warning: "), "{warned:?}");
    Ok(())
}

#[test]
fn exit_status_says_what_went_wrong() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let mut arena = Arena::without_agent(Setup::HostTc)?;
    arena.agent.write(POLICY, &arena.policy(RULES))?;
    let rows: [(&[&str], i32); 8] = [
        (&["check", POLICY], 0),
        (&["--version"], 0),
        (&["--help"], 0),
        (&["nonsense"], 2),
        (&["check"], 2),
        (&["check", POLICY, "--nonsense"], 2),
        (&["counters", "--by", "colour"], 2),
        (&["apply", POLICY], 4),
    ];
    for (arguments, status) in rows {
        arena.agent.run(arguments)?.expect_status(status)?;
    }
    let policy = arena.policy(RULES);
    arena.agent.start_with(&policy)?;
    arena.agent.run(&["apply", POLICY])?.expect_status(0)?;
    arena.agent.kill()?;
    let dead = arena.agent.run(&["apply", POLICY])?.expect_status(4)?;
    let lines: Vec<_> = dead.stderr.lines().collect();
    assert!(lines.len() == 1 && lines[0].starts_with("sg-agent: "), "one line of error: {}", dead.stderr);
    assert_eq!(dead.stdout, "", "errors go to stderr");
    arena.agent.run(&["counters", "--interface", "nothere"])?.expect_status(1)?;
    Ok(())
}

#[test]
fn a_policy_is_refused_in_the_same_words_with_and_without_the_daemon() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let mut arena = Arena::without_agent(Setup::HostTc)?;
    // (file, what it says, part of what is said of it)
    let rows = [
        ("key.yaml", "version: 1\ngroups:\n  g:\n    inbond: []\n", "key.yaml:4:5: error: "),
        ("yaml.yaml", "version: 1\ngroups: [\n", "not valid YAML"),
        ("empty.yaml", "", "the document is empty"),
        ("alias.yaml", "version: 1\ngroups: &g {g: *h}\n", "alias.yaml:2:"),
        ("list.yaml", "version: 1\nprefix_lists: {l: {file: none.txt}}\n", "none.txt"),
        ("quoted.yaml", "version: 1\nprefix_lists: {l: {\"\\x66ile\": none.txt}}\n", "none.txt"),
    ];
    for (file, text, _) in rows {
        arena.agent.write(file, text)?;
    }
    let asked = |arena: &Arena| -> Result<Vec<String>> {
        let mut told = Vec::new();
        for (file, _, said) in rows.into_iter().chain([("nothing.yaml", "", "cannot be read")]) {
            for command in ["apply", "plan"] {
                let refused = arena.agent.run(&[command, file])?.expect_status(2)?;
                let last = format!("sg-agent: {command} {file}: it has ");
                assert!(
                    refused.stderr.contains(said) && refused.stderr.contains(&last),
                    "{}",
                    refused.stderr
                );
                assert_eq!(refused.stdout, "", "errors go to stderr");
                told.push(refused.stderr);
            }
        }
        Ok(told)
    };
    arena.agent.start_with(&arena.policy(RULES))?;
    let generation = arena.agent.generation()?;
    let by_daemon = asked(&arena)?;
    assert_eq!(arena.agent.generation()?, generation, "nothing has changed");
    arena.agent.kill()?;
    assert_eq!(by_daemon, asked(&arena)?);
    Ok(())
}

#[test]
fn commands_that_need_root_say_so() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let arena = Arena::start(Setup::HostTc, RULES)?;
    // A copy of the binary where everyone may run it; the agent's own folder is root's.
    let folder = folder()?;
    let binary = folder.path().join("sg-agent");
    std::fs::copy(sg_tests::lab::binary::agent()?, &binary)?;
    for path in [folder.path(), binary.as_path()] {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))?;
    }
    let options = arena.agent.options();
    let ask = |arguments: &[&str]| {
        let mut command = arena.machine.command(sg_tests::lab::text(&binary)?);
        command.args(&options).args(arguments).current_dir("/");
        syscall::without_root(&mut command);
        Output::of(command, &format!("(as nobody) sg-agent {arguments:?}"))
    };
    for arguments in [["counters", "-ojson"], ["status", "-ojson"], ["detach", "--all"]] {
        let output = ask(&arguments)?.expect_status(5)?;
        assert!(output.stderr.starts_with("sg-agent: "), "{}", output.stderr);
    }
    // What needs no rights works: reading a policy, for one.
    let policy = folder.path().join(POLICY);
    std::fs::write(&policy, arena.policy(RULES))?;
    ask(&["check", sg_tests::lab::text(&policy)?])?.expect_status(0)?;
    // The same options as root.
    let mut command = arena.agent.bare(&["counters", "-o", "json"])?;
    command.args(&options);
    Output::of(command, "sg-agent counters with options")?.expect_status(0)?.json()?;
    Ok(())
}

#[test]
fn a_kernel_that_lacks_ebpf_is_told_apart() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let arena = Arena::without_agent(Setup::HostTc)?;
    arena.agent.write(POLICY, &arena.policy(RULES))?;
    let mut command = arena.agent.command(&["run", "--config", "agent.toml", "--policy", POLICY])?;
    syscall::without_bpf(&mut command);
    let output = Output::of(command, "sg-agent run without bpf(2)")?.expect_status(7)?;
    assert!(output.stderr.contains("sg-agent: "), "{}", output.stderr);
    Ok(())
}

/// Runs a command whose output goes to a pipe that nobody reads any more.
#[test]
fn a_closed_pipe_ends_quietly() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let arena = Arena::start(Setup::HostTc, RULES)?;
    for arguments in
        [&["counters"][..], &["status"], &["counters", "--by", "rule", "-o", "json"], &["--help"]]
    {
        let (reader, writer) = std::io::pipe()?;
        drop(reader);
        let mut command = arena.agent.command(arguments)?;
        let output = command.stdout(writer).stderr(Stdio::piped()).spawn()?.wait_with_output()?;
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{arguments:?}");
    }
    Ok(())
}

/// What a command writes to a terminal.
fn on_a_terminal(mut command: Command) -> Result<String> {
    let (sits, shows): (OwnedFd, OwnedFd) = syscall::terminal()?;
    let status = command.stdout(sits.try_clone()?).stderr(sits).spawn()?.wait()?;
    ensure!(status.success(), "{status}");
    drop(command); // It holds the last copies of the terminal's other end.
    let mut text = vec![];
    // Reading ends with EIO once nobody sits there any more.
    drop(File::from(shows).read_to_end(&mut text));
    Ok(String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn tables_fit_100_columns_and_colour_is_for_terminals() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let mut arena = Arena::without_agent(Setup::HostTc)?;
    let name = "a-group-with-a-rather-long-name-as-people-like-them";
    let policy = arena.policy(RULES).replace("groups: [g]", &format!("groups: [g, {name}]"));
    let policy = policy.replace(
        "groups:\n",
        &format!("groups:\n  {name}: {{inbound: [{{allow: tcp/1, from: anywhere}}]}}\n"),
    );
    arena.agent.start_with(&policy)?;
    arena.inbound(Probe::Udp(1), Family::V6)?;
    let commands: [&[&str]; 6] = [
        &["status"],
        &["counters"],
        &["counters", "--by", "group"],
        &["counters", "--by", "rule"],
        &["counters", "--by", "reason"],
        &["explain", "--interface", "eth0", "in", "tcp", "10.88.0.2:4000", "10.88.0.1:443"],
    ];
    for arguments in commands {
        let text = arena.agent.ok(arguments)?.stdout;
        assert!(!text.trim().is_empty(), "{arguments:?} shows nothing");
        assert!(!text.contains('\x1b'), "{arguments:?} colours a pipe");
        for line in text.lines() {
            assert!(line.chars().count() <= 100, "{arguments:?}: {} columns: {line}", line.chars().count());
        }
        let mut plain = arena.agent.command(arguments)?;
        plain.env("NO_COLOR", "1").env("TERM", "xterm-256color");
        let text = on_a_terminal(plain)?;
        assert!(!text.trim().is_empty() && !text.contains("\x1b["), "{arguments:?} with NO_COLOR: {text:?}");
    }
    let mut coloured = arena.agent.command(&["status"])?;
    coloured.env("TERM", "xterm-256color");
    assert!(on_a_terminal(coloured)?.contains("\x1b["), "status uses colour on a terminal");
    Ok(())
}

#[test]
fn watching_counters_repeats_them() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let arena = Arena::start(Setup::HostTc, RULES)?;
    let mut child = arena.agent.command(&["counters", "--watch", "1"])?.stdout(Stdio::piped()).spawn()?;
    std::thread::sleep(Duration::from_millis(2500));
    let running = child.try_wait()?.is_none();
    child.kill()?;
    let output = child.wait_with_output()?;
    assert!(running, "it goes on until it is interrupted");
    let times = String::from_utf8_lossy(&output.stdout).matches("eth0").count();
    assert!(times >= 2, "shown {times} times");
    Ok(())
}
