//! Never open, never cut: policies are changed, agents killed, interfaces made and unmade, disks
//! filled, and through all of it no denied packet arrives and no allowed session is cut
//! (docs/semantics.md, sections 6 and 9).
//!
//! What happens when is made up from a seed, which a failure shows: `SG_VIGIL_SEED` repeats it. The
//! short form is for every run of the tests; where `SG_SOAK` is set, it is ten thousand policies, two
//! hundred kills and two hundred restarts.

use std::{
    env,
    io::Write as _,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, Result, ensure};
use sg_tests::{
    agreement::dice::Dice,
    each_setup,
    lab::{Arena, Setup, agent::POLICY, arena::INTERFACE, can_run, eventually, faults::Fault},
    syscall,
    vigil::{INBOUND, LONGEST, OUTBOUND, Seen, Vigil},
};

each_setup! {
    nothing_opens_and_nothing_is_cut
    another_abi_version_takes_over_without_a_gap
    another_layout_of_flows_is_replaced_and_only_a_guest_may_wait
    what_is_taken_from_the_kernel_is_taken_back_within_a_second
}

/// What is done to an agent, in no order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    /// Another policy, by request.
    Apply,
    /// Another policy, by SIGHUP.
    Reload,
    /// A policy many times as large, for which the maps have to grow, or a small one again.
    Grow,
    /// A policy that is no policy.
    Invalid,
    /// SIGKILL while a policy is being put in force.
    KillDuringApply,
    /// SIGKILL, and a start.
    Kill,
    /// SIGTERM, and a start.
    Restart,
    /// A policy that nobody confirms.
    Trial,
    /// A policy that nobody confirms, and nobody is there to take back.
    TrialAndKill,
    /// The policy before.
    Rollback,
    /// Another interface comes, and goes.
    Interface,
    /// The daemon stands still for a moment.
    Stall,
    /// Nothing can be written to the state folder.
    DiskFull,
    /// A pin goes, or the file system of all of them.
    Pins,
}

/// How often each is done: in the short form, and when it soaks.
const PLAN: [(Act, u32, u32); 14] = [
    (Act::Apply, 60, 10_000),
    (Act::Reload, 5, 200),
    (Act::Grow, 2, 50),
    (Act::Invalid, 2, 50),
    (Act::KillDuringApply, 4, 200),
    (Act::Kill, 1, 50),
    (Act::Restart, 2, 200),
    (Act::Trial, 1, 20),
    (Act::TrialAndKill, 1, 20),
    (Act::Rollback, 2, 50),
    (Act::Interface, 4, 200),
    (Act::Stall, 1, 50),
    (Act::DiskFull, 1, 50),
    (Act::Pins, 3, 100),
];

fn nothing_opens_and_nothing_is_cut(setup: Setup) -> Result<()> {
    let soaks = env::var_os("SG_SOAK").is_some();
    let seed = match env::var("SG_VIGIL_SEED") {
        Ok(seed) => seed.parse().context("SG_VIGIL_SEED is a number")?,
        Err(_) => SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_nanos() as u64,
    };
    let mut dice = Dice(seed);
    let mut acts: Vec<Act> = PLAN
        .iter()
        .flat_map(|(act, short, long)| vec![*act; if soaks { *long } else { *short } as usize])
        .collect();
    for last in (1..acts.len()).rev() {
        acts.swap(last, dice.below(last as u64 + 1) as usize);
    }

    let mut play = Play { arena: Arena::without_agent(setup)?, dice, number: 0 };
    // A disk of its own, so that it can be full.
    let mount = ["-t", "tmpfs", "-o", "size=64m", "state", STATE];
    let mounted =
        play.arena.machine.command("mount").args(mount).current_dir(play.arena.agent.folder()).output()?;
    ensure!(mounted.status.success(), "mount: {}", String::from_utf8_lossy(&mounted.stderr));
    let policy = play.policy(1);
    play.arena.agent.start_with(&policy)?;
    // There is one to go back to.
    let policy = play.policy(1);
    play.arena.agent.apply(&policy)?;
    let vigil = Vigil::begin(&play.arena)?;
    for (number, act) in acts.iter().enumerate() {
        let what = || format!("SG_VIGIL_SEED={seed}, step {number}: {act:?}, at {:?}", vigil.elapsed());
        let done = play.carry_out(*act).with_context(what);
        // A packet that got through says more than the step that let it.
        vigil.look().with_context(what)?;
        done?;
    }
    let seen = vigil.expect_peace(&play.arena).with_context(|| format!("SG_VIGIL_SEED={seed}"))?;
    let longest = seen.silences.iter().map(|(_, _, length)| *length).max().unwrap_or_default();
    writeln!(
        std::io::stderr(),
        "{setup:?}: {} steps in {:?}, seed {seed}: {:?} denied packets sent, none arrived; {} exchanges, \
         the longest silence {longest:?}",
        acts.len(),
        seen.lasted,
        seen.sent,
        seen.exchanges
    )?;
    Ok(())
}

/// How long a trial lasts.
const TRIAL: Duration = Duration::from_secs(1);

/// The state folder, in the agent's.
const STATE: &str = "state";

/// What an older or a newer version has pinned is replaced without a moment in which nothing is judged or
/// a session is cut: flows go on. Counters begin anew.
fn another_abi_version_takes_over_without_a_gap(setup: Setup) -> Result<()> {
    taken_over(setup, "").and_then(|seen| seen.expect_no_silence())
}

/// Where the flows are laid out otherwise they begin anew as well. A host's are entered from its sockets;
/// those of a guest are picked up at the next packet that a rule allows, and an answer that comes before
/// waits for its retransmission.
fn another_layout_of_flows_is_replaced_and_only_a_guest_may_wait(setup: Setup) -> Result<()> {
    let seen = taken_over(setup, "rm v*/current/maps/FLOW_BASIS;")?;
    match setup {
        Setup::HostTc | Setup::HostXdp => seen.expect_no_silence(),
        Setup::Guest => seen.expect_no_silence_over(LONGEST * 2),
    }
}

/// Has versions of other numbers replaced, after `script` was run among their pins.
fn taken_over(setup: Setup, script: &str) -> Result<Seen> {
    let mut play = Play { arena: Arena::without_agent(setup)?, dice: Dice(0), number: 0 };
    let policy = play.policy(1);
    play.arena.agent.start_with(&policy)?;
    let vigil = Vigil::begin(&play.arena)?;
    let times = if env::var_os("SG_SOAK").is_some() { 50 } else { 2 };
    for (number, other) in (0..times).flat_map(|number| [(number, "v1"), (number, "v9999")]) {
        let Play { arena, .. } = &mut play;
        arena.agent.kill()?;
        let script = format!("cd {}; {script} mv v* {other}; ls", arena.agent.bpffs());
        let moved = arena.machine.command("sh").args(["-c", &script]).output()?;
        let there = String::from_utf8_lossy(&moved.stdout);
        ensure!(there.trim() == other, "{there}{}", String::from_utf8_lossy(&moved.stderr));
        arena.agent.start()?;
        let what = || format!("{other} the {number}th time, at {:?}", vigil.elapsed());
        vigil.look().with_context(what)?;
        let left = arena.machine.command("ls").arg(arena.agent.bpffs()).output()?;
        ensure!(String::from_utf8_lossy(&left.stdout).trim() != other, "{other} is still there");
    }
    let seen = vigil.end()?;
    seen.expect_rate()?;
    ensure!(seen.arrived.is_empty(), "denied packets arrived at {:?}", seen.arrived);
    Ok(seen)
}

/// What would not be seen could not fail.
#[test]
fn a_vigil_sees_what_arrives_and_what_is_cut() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let sessions = format!("inbound: [{INBOUND}], outbound: [{OUTBOUND}]");
    let arena = Arena::start(Setup::HostTc, &sessions)?;
    let vigil = Vigil::begin(&arena)?;
    vigil.look()?;
    arena.apply(&format!("inbound: [{INBOUND}, {{allow: udp/9, from: [PEER]}}], outbound: [{OUTBOUND}]"))?;
    eventually("a packet that was let through is seen", || Ok(vigil.look().is_err()))?;
    arena.apply(&sessions)?;
    let seen = vigil.end()?;
    ensure!(!seen.arrived.is_empty() && seen.expect_no_silence().is_ok(), "{seen:?}");

    let vigil = Vigil::begin(&arena)?;
    arena.apply(&format!("inbound: [{INBOUND}], outbound: []"))?;
    thread::sleep(LONGEST * 2);
    // A flow that was revoked stays so: its session ends with its patience.
    let error = vigil.end().expect_err("two sessions were cut");
    ensure!(format!("{error:#}").contains("out over IPv"), "{error:#}");
    Ok(())
}

struct Play {
    arena: Arena,
    dice: Dice,
    /// Of the policy, so that no two are alike.
    number: u16,
}

impl Play {
    /// A policy that lets the sessions through and none of the denied, and is like none before.
    /// `prefixes` is how many networks a list of it has.
    fn policy(&mut self, prefixes: u32) -> String {
        self.number = self.number % 50_000 + 1;
        let entries: Vec<_> = (0..prefixes)
            .map(|number| format!("'2001:db8:{0:x}:{1:x}::{0:x}:{1:x}/128'", number >> 16, number & 0xffff))
            .collect();
        let number = self.number;
        let rules = format!(
            "inbound: [{INBOUND}, {{allow: udp/{}, from: list:some}}], \
             outbound: [{OUTBOUND}, {{allow: tcp/{}, to: 192.0.2.0/24}}]",
            number + 10,
            number + 9000
        );
        let entry = "  - {match: \"more*\", groups: [g]}\n";
        let lists = format!("prefix_lists: {{some: {{entries: [{}]}}}}\n", entries.join(", "));
        format!("{}{entry}{lists}", self.arena.policy(&rules))
    }

    fn carry_out(&mut self, act: Act) -> Result<()> {
        let small = self.policy(1);
        let Self { arena, dice, .. } = self;
        match act {
            Act::Apply => arena.agent.apply(&small).map(drop),
            Act::Reload => arena.agent.reload(&small),
            Act::Grow => {
                let large = self.policy(120_000);
                self.arena.agent.apply(&large)?;
                self.arena.agent.apply(&small).map(drop)
            }
            Act::Invalid => {
                arena.agent.write("invalid.yaml", "version: 1\ngroups: {g: {inbound: [{allow: ")?;
                arena.agent.run(&["apply", "invalid.yaml"])?.expect_status(2).map(drop)
            }
            Act::KillDuringApply => {
                arena.agent.write(POLICY, &small)?;
                let client = silent(arena.agent.command(&["apply", POLICY])?).spawn()?;
                thread::sleep(Duration::from_micros(dice.below(120_000)));
                arena.agent.kill()?;
                ended(client)?;
                arena.agent.start()
            }
            Act::Kill => {
                arena.agent.kill()?;
                arena.agent.start()
            }
            Act::Restart => arena.agent.restart(),
            Act::Trial | Act::TrialAndKill => {
                arena.agent.write("trial.yaml", &small)?;
                let before = arena.agent.generation()?;
                let begin = Instant::now();
                arena.agent.ok(&["apply", "trial.yaml", "--confirm-within", "1s"])?;
                if act == Act::TrialAndKill {
                    arena.agent.kill()?;
                }
                // On a busy machine the second is over before it can be looked.
                let is_in_force = arena.agent.generation()? != before;
                ensure!(is_in_force || begin.elapsed() >= TRIAL, "the policy on trial is not in force");
                eventually("the former policy is back", || match act {
                    Act::Trial => Ok(arena.agent.json(&["status"])?["confirm_by"].is_null()),
                    _ => Ok(arena.agent.generation()? == before),
                })?;
                if act == Act::TrialAndKill { arena.agent.start() } else { Ok(()) }
            }
            Act::Rollback => arena.agent.ok(&["rollback"]).map(drop),
            Act::Interface => {
                let name = format!("more{}", dice.below(10));
                arena.machine.ip(&[
                    &format!("link add {name} type veth peer name {name}p"),
                    &format!("link set {name} up"),
                ])?;
                eventually("the interface is covered", || {
                    let status = arena.agent.json(&["status"])?;
                    let names = status["attachments"].as_array().context("no attachments")?;
                    Ok(names.iter().any(|interface| interface["name"] == name.as_str()))
                })?;
                arena.machine.ip(&[&format!("link del {name}")]).map(drop)
            }
            Act::Stall => {
                let process = arena.agent.process()?;
                syscall::kill(process, libc::SIGSTOP)?;
                thread::sleep(Duration::from_millis(500));
                Ok(syscall::kill(process, libc::SIGCONT)?)
            }
            Act::DiskFull => disk_full(arena, &small),
            Act::Pins => {
                let harmless: Vec<_> = faults(arena.setup, false).collect();
                inflict(arena, dice.pick(&harmless)).map(drop)
            }
        }
    }
}

/// The faults that can befall a setup: those that let packets through until they are mended, or the
/// others.
fn faults(setup: Setup, opens: bool) -> impl Iterator<Item = Fault> {
    Fault::ALL.into_iter().filter(move |fault| fault.applies(setup) && fault.opens() == opens)
}

/// Does what others might, and waits until the agent has mended it. Tells how long that took.
fn inflict(arena: &Arena, fault: Fault) -> Result<Duration> {
    let mended = || -> Result<u64> {
        arena.agent.json(&["status"])?["repairs"]["count"].as_u64().context("no count of repairs")
    };
    let hooks = || -> Result<Vec<String>> {
        let status = arena.agent.json(&["status"])?;
        let attached = status["attachments"].as_array().context("no attachments")?;
        let own = attached.iter().find(|attached| attached["name"] == INTERFACE);
        let hooks = own.context("it is not attached")?["hooks"].as_array().context("no hooks")?;
        Ok(hooks.iter().map(|hook| hook["hook"].to_string()).collect())
    };
    let (before, as_wanted) = (mended()?, hooks()?);
    let begin = Instant::now();
    let inflicted = fault.inflict(&arena.agent, INTERFACE)?;
    eventually("it is mended", || Ok(mended()? > before)).with_context(|| format!("{fault:?}"))?;
    let took = begin.elapsed();
    // What was in the way is gone, and the hook that was asked for is taken again.
    drop(inflicted);
    eventually("its hooks are those that it had", || Ok(hooks()? == as_wanted))
        .with_context(|| format!("{fault:?}"))?;
    Ok(took)
}

/// Whoever takes a program off its hook opens it. Not for long, no session notices, and afterwards all is
/// as before.
fn what_is_taken_from_the_kernel_is_taken_back_within_a_second(setup: Setup) -> Result<()> {
    let mut play = Play { arena: Arena::without_agent(setup)?, dice: Dice(0), number: 0 };
    let policy = play.policy(1);
    play.arena.agent.start_with(&policy)?;
    let times = if env::var_os("SG_SOAK").is_some() { 20 } else { 1 };
    let vigil = Vigil::begin(&play.arena)?;
    for fault in faults(setup, true).flat_map(|fault| std::iter::repeat_n(fault, times)) {
        let begin = vigil.elapsed();
        inflict(&play.arena, fault)?;
        let mended = vigil.elapsed();
        thread::sleep(LONGEST);
        let arrived = vigil.arrived();
        let late = arrived.iter().find(|at| **at > mended);
        ensure!(late.is_none(), "{fault:?}: mended at {mended:?}, and a packet arrived at {late:?}");
        let during: Vec<_> = arrived.iter().filter(|at| **at >= begin).collect();
        if let (Some(first), Some(last)) = (during.first(), during.last()) {
            let opened = last.saturating_sub(**first);
            ensure!(opened <= Duration::from_secs(1), "{fault:?}: open for {opened:?}");
        }
    }
    let seen = vigil.end()?;
    seen.expect_rate()?;
    seen.expect_no_silence()
}

/// A policy that cannot be written down is refused, and one that can be is put in force afterwards.
fn disk_full(arena: &Arena, policy: &str) -> Result<()> {
    let fill = format!("{STATE}/full");
    let shell = |script: &str| {
        arena.machine.command("sh").args(["-c", script]).current_dir(arena.agent.folder()).output()
    };
    let before = arena.agent.generation()?;
    // It ends with an error, as it is meant to: there is no more room.
    ensure!(!shell(&format!("cat /dev/zero > {fill}"))?.status.success(), "there is no end of room");
    let refused =
        arena.agent.write("full.yaml", policy).and_then(|()| arena.agent.run(&["apply", "full.yaml"]));
    ensure!(shell(&format!("rm {fill}"))?.status.success(), "cannot make room");
    let refused = refused?.expect_status(1)?;
    ensure!(refused.stderr.contains("No space left"), "{}", refused.stderr);
    ensure!(arena.agent.generation()? == before, "it is in force all the same");
    arena.agent.apply(policy).map(drop)
}

fn silent(mut command: Command) -> Command {
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// A client whose daemon was killed ends, one way or the other.
fn ended(mut client: Child) -> Result<()> {
    let mut status = None;
    eventually("the client of a dead daemon ends", || {
        status = client.try_wait()?;
        Ok(status.is_some())
    })
}
