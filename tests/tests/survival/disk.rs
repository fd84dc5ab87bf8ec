//! Disks that are full, or may not be written to, and folders that are not there: what is enforced is for that
//! none the less.

use anyhow::{Context as _, Result, ensure};
use sg_tests::lab::{
    Arena, Outcome, Output, Probe, Setup, agent::POLICY, arena::Family, can_run, eventually,
};

use crate::{OPEN, RULES, SHUT, enforced, not_enforced};

/// A state folder on a disk of its own, which takes nothing any more, or does again.
#[derive(Clone, Copy, Debug)]
enum Disk {
    Full,
    ReadOnly,
}

impl Disk {
    fn mount(arena: &Arena) -> Result<()> {
        shell(arena, "mount -t tmpfs -o size=1m state state")
    }

    /// Nothing can be written from now on.
    fn shut(self, arena: &Arena) -> Result<()> {
        match self {
            Self::Full => shell(arena, "! cat /dev/zero > state/full"),
            Self::ReadOnly => shell(arena, "mount -o remount,ro state"),
        }
    }

    /// It can be again.
    fn open(self, arena: &Arena) -> Result<()> {
        match self {
            Self::Full => shell(arena, "rm state/full"),
            Self::ReadOnly => shell(arena, "mount -o remount,rw state"),
        }
    }
}

fn shell(arena: &Arena, script: &str) -> Result<()> {
    let mut command = arena.machine.command("sh");
    let output = command.args(["-c", script]).current_dir(arena.agent.folder()).output()?;
    ensure!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// As after a boot: nothing is enforced.
fn rebooted(arena: &mut Arena) -> Result<()> {
    arena.agent.kill()?;
    arena.agent.ok(&["detach", "--all"])?;
    not_enforced(arena, "as after a reboot")
}

fn problems(arena: &Arena) -> Result<String> {
    Ok(arena.agent.json(&["status"])?["problems"].to_string())
}

const OTHER: &str = "inbound: [{allow: tcp/80, from: [PEER]}], outbound: []";

#[test]
fn a_disk_that_takes_nothing_leaves_the_last_good_policy_in_force() -> Result<()> {
    for disk in [Disk::Full, Disk::ReadOnly] {
        if !can_run() {
            return Ok(());
        }
        let mut arena = Arena::without_agent(Setup::HostTc)?;
        let (policy, other) = (arena.policy(RULES), arena.policy(OTHER));
        Disk::mount(&arena)?;
        arena.agent.start_with(&policy)?;
        rebooted(&mut arena)?;
        disk.shut(&arena)?;
        arena.agent.start()?;
        enforced(&arena, "after a boot")?;
        ensure!(problems(&arena)?.contains("cannot be written down"), "{disk:?}: {}", problems(&arena)?);
        let run = ["run", "--config", "agent.toml", "--policy", POLICY];
        let mut second = arena.agent.command(&run)?;
        second
            .env("SG_AGENT_SOCKET", arena.agent.folder().join("second.sock"))
            .env("SG_AGENT_BPFFS", "/sys/fs/bpf/second");
        Output::of(second, "sg-agent run (a second one)")?.expect_status(1)?;

        // A restart finds what is in force, and nothing that says what it is.
        let mut old = arena.connect_in(Family::V4, 443)?.context("443 is closed")?;
        arena.agent.kill()?;
        arena.agent.start()?;
        enforced(&arena, "after a restart")?;
        ensure!(old.works()?, "{disk:?}: an open connection goes on");
        disk.open(&arena)?;
        eventually("what is in force is written down", || Ok(problems(&arena)? == "[]"))?;
        let generation = arena.agent.generation()?;
        let record = arena.agent.folder().join(format!("state/generations/{generation:010}.json"));
        shell(&arena, &format!("test -e {}", record.display()))?;

        // Another policy that cannot be written down is not put in force, and is when it can be.
        rebooted(&mut arena)?;
        disk.shut(&arena)?;
        arena.agent.write(POLICY, &other)?;
        arena.agent.start()?;
        enforced(&arena, "after a boot with another policy")?;
        let told = arena.agent.json(&["status"])?["agent"]["last_error"].to_string();
        ensure!(told.contains("state/"), "{disk:?}: {told}");
        disk.open(&arena)?;
        eventually("the policy is in force", || {
            Ok(arena.inbound(Probe::Tcp(80), Family::V4)? == Outcome::Answered)
        })?;
        ensure!(arena.inbound(OPEN, Family::V4)? == Outcome::Silent, "{disk:?}: not the former one");
        let status = arena.agent.json(&["status"])?;
        ensure!(status["agent"]["last_error"].is_null() && problems(&arena)? == "[]", "{status}");
    }
    Ok(())
}

#[test]
fn an_interface_that_comes_while_nothing_can_be_written_is_covered() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let mut arena = Arena::without_agent(Setup::HostTc)?;
    Disk::mount(&arena)?;
    let rules = "version: 1\ngroups: {g: {inbound: [{allow: tcp/443, from: anywhere}]}}\n";
    arena.agent.start_with(&format!("{rules}interfaces: [{{match: \"eth*\", groups: [g]}}]\n"))?;
    Disk::Full.shut(&arena)?;
    let far = arena.another_wire("eth9", &["10.99.0.1/24"], &["10.99.0.2/24"])?;
    let probe = |port| Probe::Tcp(port).run(&far, None, &arena.machine, [10, 99, 0, 1].into());
    eventually("it is covered", || Ok(probe(22)? == Outcome::Silent))?;
    ensure!(probe(443)? == Outcome::Answered, "by its rules");
    ensure!(problems(&arena)?.contains("cannot be written down"), "{}", problems(&arena)?);
    Ok(())
}

#[test]
fn a_first_policy_is_in_force_though_nothing_can_be_written() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let mut arena = Arena::without_agent(Setup::HostTc)?;
    let policy = arena.policy(RULES);
    Disk::mount(&arena)?;
    Disk::ReadOnly.shut(&arena)?;
    arena.agent.start_with(&policy)?;
    enforced(&arena, "with nothing written")?;
    ensure!(problems(&arena)?.contains("cannot be written down"), "{}", problems(&arena)?);
    Ok(())
}

#[test]
fn where_requests_cannot_be_taken_the_policy_is_in_force() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let mut arena = Arena::start(Setup::HostTc, RULES)?;
    rebooted(&mut arena)?;
    let run = ["run", "--config", "agent.toml", "--policy", POLICY];
    let mut command = arena.agent.command(&run)?;
    let folder = arena.agent.folder().join("later");
    command.env("SG_AGENT_SOCKET", folder.join("agent.sock")).stderr(std::process::Stdio::null());
    let mut daemon = command.spawn()?;
    let result = eventually("it is enforced", || Ok(arena.inbound(SHUT, Family::V4)? == Outcome::Silent))
        .and_then(|()| Ok(std::fs::create_dir(&folder)?))
        .and_then(|()| eventually("requests are taken", || Ok(folder.join("agent.sock").exists())));
    daemon.kill()?;
    daemon.wait()?;
    result
}

/// Where the state folder is to be made and cannot be.
struct NoFolder {
    arena: Arena,
    policy: String,
}

impl NoFolder {
    fn new() -> Result<Self> {
        let arena = Arena::without_agent(Setup::HostTc)?;
        arena.agent.write("10.yaml", &arena.policy(RULES))?;
        arena.agent.write("other.yaml", &arena.policy(OTHER))?;
        shell(&arena, "mkdir policy.d var; mv 10.yaml policy.d/; rm -rf state; ln -s var/lib state")?;
        shell(&arena, "mount -t tmpfs none var; mount -o remount,ro var")?;
        Ok(Self { arena, policy: "policy.d".to_owned() })
    }

    fn start(&mut self) -> Result<()> {
        self.arena.agent.start_at(&self.policy)
    }

    /// It can be made from now on.
    fn open(&self) -> Result<()> {
        // A link that leads nowhere is there, and no folder.
        shell(&self.arena, "mount -o remount,rw var; mkdir var/lib")
    }
}

#[test]
fn where_the_state_folder_cannot_be_made_the_policy_is_in_force() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let mut lab = NoFolder::new()?;
    lab.start()?;
    enforced(&lab.arena, "with nothing kept")?;
    ensure!(problems(&lab.arena)?.contains("cannot be written down"), "{}", problems(&lab.arena)?);
    // An agent that comes after finds its own policy in force, and follows what becomes of interfaces.
    let mut open = lab.arena.connect_in(Family::V4, 443)?.context("443 is closed")?;
    let generation = lab.arena.agent.generation()?;
    lab.arena.agent.kill()?;
    lab.start()?;
    enforced(&lab.arena, "after a restart")?;
    ensure!(open.works()?, "an open connection goes on");
    ensure!(lab.arena.agent.generation()? == generation, "nothing has changed");
    ensure!(problems(&lab.arena)?.contains("cannot be written down"), "{}", problems(&lab.arena)?);
    // A request that cannot be kept is refused.
    let refused = lab.arena.agent.run(&["apply", "other.yaml"])?.expect_status(1)?;
    ensure!(refused.stderr.contains("state"), "{}", refused.stderr);
    enforced(&lab.arena, "after a refusal")?;

    lab.open()?;
    eventually("what is in force is written down", || Ok(problems(&lab.arena)? == "[]"))?;
    shell(&lab.arena, &format!("test -e state/generations/{generation:010}.json"))?;
    lab.arena.agent.ok(&["apply", "other.yaml"])?;
    ensure!(lab.arena.inbound(OPEN, Family::V4)? == Outcome::Silent, "another policy is in force");
    // It is held as any other.
    let run = ["run", "--config", "agent.toml", "--policy", "policy.d"];
    let mut second = lab.arena.agent.command(&run)?;
    second
        .env("SG_AGENT_SOCKET", lab.arena.agent.folder().join("second.sock"))
        .env("SG_AGENT_BPFFS", "/sys/fs/bpf/second");
    let second = Output::of(second, "sg-agent run (a second one)")?.expect_status(1)?;
    ensure!(second.stderr.contains("another agent runs on"), "{}", second.stderr);
    Ok(())
}

/// What the kernel enforces and nobody remembers may say more than the files: whoever can keep nothing leaves
/// it as it is, until something can be kept.
#[test]
fn where_the_state_folder_cannot_be_made_another_policy_stays_in_force() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let mut lab = NoFolder::new()?;
    lab.start()?;
    enforced(&lab.arena, "at first")?;
    lab.arena.agent.kill()?;
    shell(&lab.arena, "mv other.yaml policy.d/10.yaml")?;
    lab.start()?;
    enforced(&lab.arena, "beside files that say something else")?;
    let status = lab.arena.agent.json(&["status"])?;
    ensure!(status["agent"]["last_error"].to_string().contains("state"), "{status:#}");
    ensure!(status["problems"].to_string().contains("the state folder does not know it"), "{status:#}");
    lab.open()?;
    eventually("the policy of the files is in force", || {
        Ok(lab.arena.inbound(Probe::Tcp(80), Family::V4)? == Outcome::Answered)
    })?;
    ensure!(lab.arena.inbound(OPEN, Family::V4)? == Outcome::Silent, "and not the one before");
    eventually("nothing is wrong", || Ok(problems(&lab.arena)? == "[]"))?;
    Ok(())
}

/// One that was out of reach at a start, and not gone: what is in force gets a number of its own there.
#[test]
fn a_state_folder_that_comes_late_keeps_what_it_has() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let mut lab = NoFolder::new()?;
    lab.open()?;
    lab.start()?;
    for name in ["other.yaml", "policy.d/10.yaml"] {
        lab.arena.agent.ok(&["apply", name])?;
    }
    let before = lab.arena.agent.generation()?;
    rebooted(&mut lab.arena)?;
    shell(&lab.arena, "mv var/lib var/away; mount -o remount,ro var")?;
    lab.start()?;
    enforced(&lab.arena, "with nothing kept")?;
    ensure!(lab.arena.agent.generation()? < before, "nobody knows which numbers are taken");
    let mut open = lab.arena.connect_in(Family::V4, 443)?.context("443 is closed")?;
    shell(&lab.arena, "mount -o remount,rw var; mv var/away var/lib")?;
    eventually("what is in force is written down", || Ok(problems(&lab.arena)? == "[]"))?;
    ensure!(lab.arena.agent.generation()? > before, "{} after {before}", lab.arena.agent.generation()?);
    ensure!(open.works()?, "an open connection goes on");
    let history = lab.arena.agent.json(&["history"])?;
    let generations = history["generations"].as_array().context("generations")?;
    ensure!(generations.len() > 2 && generations[0]["in_force"] == true, "{history:#}");
    Ok(())
}
