//! Policies that are changed by changing their files, with nobody there to tell the daemon.

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::symlink,
    path::PathBuf,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use sg_tests::{
    lab::{Arena, Outcome, Probe, Setup, arena::Family, can_run, eventually},
    syscall,
};

const OLD: &str = "inbound: [{allow: tcp/443, from: [PEER]}]";
const NEW: &str = "inbound: [{allow: tcp/80, from: [PEER]}]";
/// From the last write until the change is in force, by an optimised build with the machine to itself.
const DEADLINE: Duration = Duration::from_secs(1);
/// By a build that is not, beside other tests.
const BUSY: Duration = Duration::from_secs(3);
/// So long nothing happens where nothing may.
const WHILE: Duration = Duration::from_millis(1500);

/// The network, files as `lay_out` makes them, and an agent that watches `policy`.
fn watching(policy: &str, lay_out: impl FnOnce(&Arena) -> Result<()>) -> Result<Arena> {
    let mut arena = Arena::without_agent(Setup::HostTc)?;
    arena.agent.write("agent.toml", "log = \"debug\"\n")?;
    lay_out(&arena)?;
    arena.agent.start_at(policy)?;
    expect(&arena, true, "at start")?;
    Ok(arena)
}

/// With one document in a folder.
fn with_folder() -> Result<Arena> {
    watching("policy.d", |arena| {
        folder(arena, "policy.d")?;
        arena.agent.write("policy.d/10.yaml", &arena.policy(OLD))
    })
}

fn at(arena: &Arena, name: &str) -> PathBuf {
    arena.agent.folder().join(name)
}

fn folder(arena: &Arena, name: &str) -> Result<()> {
    fs::create_dir(at(arena, name)).with_context(|| format!("make the folder {name}"))
}

fn link(arena: &Arena, target: &str, name: &str) -> Result<()> {
    symlink(target, at(arena, name)).with_context(|| format!("make the link {name}"))
}

fn rename(arena: &Arena, from: &str, to: &str) -> Result<()> {
    fs::rename(at(arena, from), at(arena, to)).with_context(|| format!("rename {from} to {to}"))
}

/// Whether the old policy is in force, and not the new one, or the other way round.
fn expect(arena: &Arena, is_old: bool, when: &str) -> Result<()> {
    let (open, shut) = if is_old { (443, 80) } else { (80, 443) };
    assert_eq!(arena.inbound(Probe::Tcp(open), Family::V4)?, Outcome::Answered, "{open} {when}");
    assert_eq!(arena.inbound(Probe::Tcp(shut), Family::V4)?, Outcome::Silent, "{shut} {when}");
    Ok(())
}

/// Another generation than `before` is in force, and was so soon after `written`. Returns it.
fn followed(arena: &Arena, before: u64, written: SystemTime, what: &str) -> Result<u64> {
    eventually("the changed files are in force", || Ok(arena.agent.generation()? != before))
        .with_context(|| format!("{what}; the daemon's log:\n{}", arena.agent.log()))?;
    let generation = arena.agent.generation()?;
    let took = in_force_since(arena, generation)? - seconds_of_day(written)?;
    let is_optimised = sg_tests::lab::text(sg_tests::lab::binary::agent()?)?.contains("/release/");
    let limit = if is_optimised { DEADLINE } else { BUSY };
    ensure!(took < limit.as_secs_f64(), "{what}: in force {took:.3} s after the last write");
    Ok(generation)
}

/// When a generation came into force, by the daemon's log: however long a command takes to ask.
fn in_force_since(arena: &Arena, generation: u64) -> Result<f64> {
    let log = arena.agent.log();
    let wanted = format!("generation={generation} ");
    let line = log
        .lines()
        .find(|line| line.contains("policy in force") && line.contains(&wanted))
        .with_context(|| format!("generation {generation} in the log:\n{log}"))?;
    let time = line.split(['T', 'Z']).nth(1).with_context(|| format!("a time in {line}"))?;
    time.split(':').try_fold(0.0, |sum, part| Ok(sum * 60.0 + part.parse::<f64>()?))
}

fn seconds_of_day(time: SystemTime) -> Result<f64> {
    Ok(time.duration_since(UNIX_EPOCH)?.as_secs_f64() % 86_400.0)
}

fn status(arena: &Arena) -> Result<Value> {
    arena.agent.json(&["status"])
}

/// What `status` says of the latest refusal.
fn refused(arena: &Arena) -> Result<Option<String>> {
    let status = status(arena)?;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let diagnostics = status["agent"]["last_diagnostics"].as_array().context("diagnostics")?;
    let error = text(&status["agent"]["last_error"]);
    Ok(error.map(|error| diagnostics.iter().filter_map(text).fold(error, |all, one| format!("{all}\n{one}"))))
}

/// For a while the generation stays, and nothing is refused.
fn nothing_happens(arena: &Arena, generation: u64, what: &str) -> Result<()> {
    let begin = Instant::now();
    while begin.elapsed() < WHILE {
        assert_eq!(arena.agent.generation()?, generation, "{what}");
        assert_eq!(refused(arena)?, None, "{what}");
    }
    Ok(())
}

/// Does what makes the files say nothing new, and waits until the daemon has read them.
fn looked_at(arena: &Arena, act: impl FnOnce() -> Result<()>) -> Result<()> {
    let looks = || arena.agent.log().matches("the policy's files say what they said").count();
    let before = looks();
    act()?;
    eventually("the daemon has looked", || Ok(looks() > before)).with_context(|| arena.agent.log())
}

/// Writes what the file says already.
fn touch(arena: &Arena, text: &str) -> Result<()> {
    looked_at(arena, || arena.agent.write("policy.d/10.yaml", text))
}

#[test]
fn changed_files_are_in_force_within_a_second() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    type Step = fn(&Arena) -> Result<()>;
    let one_file: Step = |arena| arena.agent.write("policy.yaml", &arena.policy(OLD));
    let in_folder: Step = |arena| {
        folder(arena, "policy.d")?;
        arena.agent.write("policy.d/10.yaml", &arena.policy(OLD))
    };
    // (what, policy, laid out, what happens to it)
    let rows: [(&str, &str, Step, Step); 8] = [
        ("a file written in place", "policy.yaml", one_file, |arena| {
            arena.agent.write("policy.yaml", &arena.policy(NEW))
        }),
        ("a file in a folder", "policy.d", in_folder, |arena| {
            arena.agent.write("policy.d/10.yaml", &arena.policy(NEW))
        }),
        ("an editor's way: written beside it and renamed over", "policy.d", in_folder, |arena| {
            arena.agent.write("policy.d/.10.yaml.swp", "what an editor needs")?;
            arena.agent.write("policy.d/4913", "")?;
            fs::remove_file(at(arena, "policy.d/4913"))?;
            rename(arena, "policy.d/10.yaml", "policy.d/10.yaml~")?;
            arena.agent.write("policy.d/10.yaml.new", &arena.policy(NEW))?;
            rename(arena, "policy.d/10.yaml.new", "policy.d/10.yaml")
        }),
        ("another name, and the former one removed", "policy.d", in_folder, |arena| {
            arena.agent.write("policy.d/new", &arena.policy(NEW))?;
            fs::remove_file(at(arena, "policy.d/10.yaml"))?;
            rename(arena, "policy.d/new", "policy.d/20.yaml")
        }),
        (
            "a mounted ConfigMap",
            "policy.d",
            |arena| {
                folder(arena, "policy.d")?;
                folder(arena, "policy.d/..2026_1")?;
                arena.agent.write("policy.d/..2026_1/10.yaml", &arena.policy(OLD))?;
                link(arena, "..2026_1", "policy.d/..data")?;
                link(arena, "..data/10.yaml", "policy.d/10.yaml")
            },
            |arena| {
                folder(arena, "policy.d/..2026_2")?;
                arena.agent.write("policy.d/..2026_2/10.yaml", &arena.policy(NEW))?;
                link(arena, "..2026_2", "policy.d/..data_tmp")?;
                rename(arena, "policy.d/..data_tmp", "policy.d/..data")
            },
        ),
        (
            "a folder that a link is turned to",
            "current",
            |arena| {
                folder(arena, "v1")?;
                arena.agent.write("v1/10.yaml", &arena.policy(OLD))?;
                link(arena, "v1", "current")
            },
            |arena| {
                folder(arena, "v2")?;
                arena.agent.write("v2/10.yaml", &arena.policy(NEW))?;
                link(arena, "v2", "next")?;
                rename(arena, "next", "current")
            },
        ),
        ("a folder in another's place", "policy.d", in_folder, |arena| {
            folder(arena, "next.d")?;
            arena.agent.write("next.d/10.yaml", &arena.policy(NEW))?;
            rename(arena, "policy.d", "former.d")?;
            rename(arena, "next.d", "policy.d")
        }),
        (
            "a list file elsewhere",
            "policy.yaml",
            |arena| {
                let peer = arena.peer_address(Family::V4);
                folder(arena, "lists")?;
                arena.agent.write("lists/old.txt", &format!("{peer}\n"))?;
                arena.agent.write("lists/new.txt", "192.0.2.1\n")?;
                let rules =
                    "inbound: [{allow: tcp/443, from: \"list:old\"}, {allow: tcp/80, from: \"list:new\"}]";
                let lists = ["old", "new"].map(str::to_owned);
                arena.agent.write("policy.yaml", &listed(arena, rules, &lists))
            },
            |arena| {
                let peer = arena.peer_address(Family::V4);
                arena.agent.write("lists/old.txt", "# nobody any more\n192.0.2.2\n")?;
                arena.agent.write("lists/new.txt", &format!("{peer}\n"))
            },
        ),
    ];
    for (what, policy, lay_out, change) in rows {
        let arena = watching(policy, lay_out).context(what)?;
        let before = arena.agent.generation()?;
        change(&arena).context(what)?;
        let generation = followed(&arena, before, SystemTime::now(), what)?;
        expect(&arena, false, what)?;
        assert_eq!(generation, before + 1, "{what}: one change, one generation");
        assert_eq!(refused(&arena)?, None, "{what}: {}", arena.agent.log());
        let history = arena.agent.json(&["history"])?;
        let newest = &history["generations"][0];
        assert_eq!(newest["author"], "agent", "{what}: {newest}");
        assert_eq!(newest["cause"], "the policy's files changed", "{what}: {newest}");
    }
    Ok(())
}

/// A policy with these rules and prefix lists, whose files are in `lists/`.
fn listed(arena: &Arena, rules: &str, lists: &[String]) -> String {
    let lists: Vec<String> = lists.iter().map(|list| format!("{list}: {{file: lists/{list}.txt}}")).collect();
    let head = format!("version: 1\nprefix_lists: {{{}}}\n", lists.join(", "));
    arena.policy(rules).replace("version: 1\n", &head)
}

#[test]
fn a_half_written_file_is_waited_for() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let arena = with_folder()?;
    let before = arena.agent.generation()?;
    let text = arena.policy(NEW);
    let (half, rest) = text.split_at(text.len() / 2);
    let mut file = File::create(at(&arena, "policy.d/10.yaml"))?;
    file.write_all(half.as_bytes())?;
    nothing_happens(&arena, before, "half of it is written")?;
    expect(&arena, true, "half of the new one is written")?;
    file.write_all(rest.as_bytes())?;
    drop(file);
    followed(&arena, before, SystemTime::now(), "the rest is written")?;
    expect(&arena, false, "the rest is written")?;
    assert_eq!(refused(&arena)?, None);
    let log = arena.agent.log();
    assert!(!log.contains("ERROR"), "{log}");
    Ok(())
}

#[test]
fn an_invalid_change_is_told_and_leaves_the_last_good_policy_in_force() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let arena = with_folder()?;
    let before = arena.agent.generation()?;
    arena.agent.write("policy.d/20.yaml", "version: 1\ngroups:\n  h: {inbond: []}\n")?;
    eventually("status tells what is wrong", || {
        Ok(refused(&arena)?.is_some_and(|told| told.contains("policy.d/20.yaml:3:7: error: unknown key")))
    })?;
    let table = arena.agent.ok(&["status"])?.stdout;
    for part in ["policy.d, as its files change", "policy.d/20.yaml:3:7: error: unknown key `inbond`"] {
        assert!(table.contains(part), "{part}: {table}");
    }
    assert_eq!(arena.agent.generation()?, before);
    expect(&arena, true, "the change was refused")?;

    fs::remove_file(at(&arena, "policy.d/20.yaml"))?;
    eventually("it is taken back", || Ok(refused(&arena)?.is_none()))?;
    assert_eq!(arena.agent.generation()?, before, "it says what is in force");
    arena.agent.write("policy.d/10.yaml", &arena.policy(NEW))?;
    followed(&arena, before, SystemTime::now(), "a good change")?;
    expect(&arena, false, "a good change")
}

#[test]
fn a_policy_that_is_gone_stays_in_force_and_can_come_back() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let arena = with_folder()?;
    let before = arena.agent.generation()?;
    rename(&arena, "policy.d", "away.d")?;
    eventually("status tells that it is gone", || {
        Ok(refused(&arena)?.is_some_and(|told| told.contains("no such file or directory")))
    })?;
    expect(&arena, true, "its files are gone")?;
    rename(&arena, "away.d", "policy.d")?;
    eventually("it is back", || Ok(refused(&arena)?.is_none()))?;
    assert_eq!(arena.agent.generation()?, before);

    rename(&arena, "policy.d", "away.d")?;
    eventually("status tells that it is gone again", || Ok(refused(&arena)?.is_some()))?;
    arena.agent.write("away.d/10.yaml", &arena.policy(NEW))?;
    expect(&arena, true, "its files are elsewhere")?;
    rename(&arena, "away.d", "policy.d")?;
    followed(&arena, before, SystemTime::now(), "back with another content")?;
    expect(&arena, false, "back with another content")
}

#[test]
fn many_files_at_once_are_one_change() -> Result<()> {
    const FILES: usize = 200;
    if !can_run() {
        return Ok(());
    }
    let names: Vec<String> = (0..FILES).map(|index| format!("l{index}")).collect();
    let arena = watching("policy.yaml", |arena| {
        folder(arena, "lists")?;
        for (index, name) in names.iter().enumerate() {
            arena.agent.write(&format!("lists/{name}.txt"), &format!("192.0.2.{index}\n"))?;
        }
        let from: Vec<String> = names.iter().map(|name| format!("\"list:{name}\"")).collect();
        let new = format!("{{allow: tcp/80, from: [{}]}}", from.join(", "));
        let rules = format!("inbound: [{{allow: tcp/443, from: [PEER]}}, {new}]");
        arena.agent.write("policy.yaml", &listed(arena, &rules, &names))
    })?;
    let before = arena.agent.generation()?;
    for (index, name) in names.iter().enumerate() {
        // The last one lets the peer in.
        let entry = match index + 1 {
            FILES => arena.peer_address(Family::V4).to_string(),
            _ => format!("198.51.100.{index}"),
        };
        arena.agent.write(&format!("lists/{name}.txt"), &format!("{entry}\n"))?;
    }
    let written = SystemTime::now();
    eventually("the last file is in force", || {
        Ok(arena.inbound(Probe::Tcp(80), Family::V4)? == Outcome::Answered)
    })?;
    let generation = arena.agent.generation()?;
    followed(&arena, before, written, "two hundred files")?;
    // Two where the first write was seen long before the last one: never one a file.
    assert!((1..=3).contains(&(generation - before)), "{} generations", generation - before);
    assert_eq!(refused(&arena)?, None);
    Ok(())
}

#[test]
fn a_missing_list_is_waited_for_wherever_it_is_to_be() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let arena = with_folder()?;
    let before = arena.agent.generation()?;
    let policy = arena.policy("inbound: [{allow: tcp/80, from: \"list:new\"}]");
    let list = at(&arena, "far/away/new.txt");
    let lists = format!("version: 1\nprefix_lists: {{new: {{file: {}}}}}\n", list.display());
    arena.agent.write("policy.d/10.yaml", &policy.replace("version: 1\n", &lists))?;
    eventually("status tells that the list is missing", || {
        Ok(refused(&arena)?
            .is_some_and(|told| told.contains("policy.d/10.yaml:2:") && told.contains("list file")))
    })?;
    expect(&arena, true, "the list is missing")?;
    // One after the other, so that each is noticed in the one above it.
    for name in ["far", "far/away"] {
        looked_at(&arena, || folder(&arena, name))?;
    }
    arena.agent.write("far/away/new.txt", &format!("{}\n", arena.peer_address(Family::V4)))?;
    followed(&arena, before, SystemTime::now(), "the list is there")?;
    expect(&arena, false, "the list is there")?;
    assert_eq!(refused(&arena)?, None);
    Ok(())
}

#[test]
fn files_that_say_the_same_undo_nothing() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let arena = with_folder()?;
    arena.agent.write("other.yaml", &arena.policy(NEW))?;
    arena.agent.ok(&["apply", "other.yaml"])?;
    let applied = arena.agent.generation()?;
    touch(&arena, &arena.policy(OLD))?;
    assert_eq!(arena.agent.generation()?, applied);
    expect(&arena, false, "applied, and the files touched")?;

    arena.agent.ok(&["rollback"])?;
    arena.agent.write("policy.d/10.yaml", &arena.policy(NEW))?;
    let rolled_back = arena.agent.generation()?;
    followed(&arena, rolled_back, SystemTime::now(), "changed after all")?;
    arena.agent.ok(&["rollback"])?;
    touch(&arena, &arena.policy(NEW))?;
    expect(&arena, true, "rolled back, and the files touched")
}

#[test]
fn changed_files_wait_for_the_end_of_a_trial() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    for end in ["confirm", "rollback"] {
        let arena = with_folder()?;
        // Neither of the two policies on trial opens 80.
        arena.agent.write("other.yaml", &arena.policy("inbound: [{allow: tcp/443, from: anywhere}]"))?;
        arena.agent.ok(&["apply", "other.yaml", "--confirm-within", "1h"])?;
        let on_trial = arena.agent.generation()?;
        arena.agent.write("policy.d/10.yaml", &arena.policy(NEW))?;
        nothing_happens(&arena, on_trial, "on trial")?;
        expect(&arena, true, "on trial")?;
        // Told to read them, it refuses, and does not take them for read.
        syscall::kill(arena.agent.process()?, libc::SIGHUP)?;
        eventually("SIGHUP is refused", || {
            Ok(refused(&arena)?.is_some_and(|told| told.contains("waits for its confirmation")))
        })?;
        arena.agent.ok(&[end])?;
        let ended = SystemTime::now();
        eventually("the files are in force", || {
            Ok(arena.inbound(Probe::Tcp(80), Family::V4)? == Outcome::Answered)
        })?;
        followed(&arena, on_trial, ended, end)?;
        expect(&arena, false, end)?;
        assert_eq!(refused(&arena)?, None, "{end}");
    }
    Ok(())
}

#[test]
fn an_agent_that_goes_on_with_a_trial_takes_the_files_for_known() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let mut arena = with_folder()?;
    arena.agent.write("other.yaml", &arena.policy(NEW))?;
    arena.agent.ok(&["apply", "other.yaml", "--confirm-within", "1h"])?;
    arena.agent.kill()?;
    arena.agent.start()?;
    arena.agent.ok(&["confirm"])?;
    touch(&arena, &arena.policy(OLD))?;
    expect(&arena, false, "confirmed, and the files touched")?;
    let before = arena.agent.generation()?;
    arena.agent.write("policy.d/10.yaml", &arena.policy(OLD).replace("tcp/443", "[tcp/22, tcp/443]"))?;
    followed(&arena, before, SystemTime::now(), "changed after all")?;
    expect(&arena, true, "changed after all")
}

#[test]
fn without_watching_files_are_read_when_told_to() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let mut arena = with_folder()?;
    assert_eq!(status(&arena)?["agent"]["watching"], true);
    arena.agent.settings("")?;
    arena.agent.restart()?;
    assert_eq!(status(&arena)?["agent"]["watching"], false);
    let before = arena.agent.generation()?;
    arena.agent.write("policy.d/10.yaml", &arena.policy(NEW))?;
    nothing_happens(&arena, before, "nobody watches")?;
    expect(&arena, true, "nobody watches")?;
    syscall::kill(arena.agent.process()?, libc::SIGHUP)?;
    followed(&arena, before, SystemTime::now(), "SIGHUP")?;
    expect(&arena, false, "SIGHUP")
}
