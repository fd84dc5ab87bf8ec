//! What becomes of flows when another ABI version of the agent takes over (datapath.md, sections 6 and 9).

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use sg_tests::{
    lab::{Arena, Outcome, Probe, Setup, agent::POLICY, arena::Family, can_run},
    syscall::tun,
};

/// Allows one of two ports to whom the other was open before.
const BEFORE: &str = "inbound: [{allow: [tcp/22, tcp/443], from: [PEER]}], outbound: []";
const OTHER: &str = "v9999";
const AFTER: &str = "inbound: [{allow: tcp/443, from: [PEER]}], outbound: []";

/// What the agent has pinned is another version's from now on, and it is started anew. `script` runs among
/// the pins first.
fn becomes_another(arena: &mut Arena, script: &str) -> Result<()> {
    arena.agent.kill()?;
    let script = format!("cd {}; {script} mv v* {OTHER}; ls", arena.agent.bpffs());
    let moved = arena.machine.command("sh").args(["-c", &script]).output()?;
    let there = String::from_utf8_lossy(&moved.stdout);
    ensure!(there.trim() == OTHER, "{there}{}", String::from_utf8_lossy(&moved.stderr));
    arena.agent.start()
}

/// Both ends of a connection may be open long after a policy has ended it.
#[test]
fn what_a_policy_has_ended_stays_ended_and_the_rest_goes_on() -> Result<()> {
    // How flows are laid out.
    for (what, script) in [("alike", ""), ("otherwise", "rm v*/current/maps/FLOW_BASIS;")] {
        if !can_run() {
            return Ok(());
        }
        let mut arena = Arena::start(Setup::HostTc, BEFORE)?;
        let mut ended = arena.connect_in(Family::V4, 22)?.context("22 is closed")?;
        let mut lives = arena.connect_in(Family::V4, 443)?.context("443 is closed")?;
        ensure!(ended.works()? && lives.works()?, "{what}");
        arena.agent.write(POLICY, &arena.policy(AFTER))?;
        arena.agent.ok(&["reload"])?;
        ensure!(!ended.to_server()? && lives.works()?, "{what}: after the change");

        becomes_another(&mut arena, script)?;
        ensure!(lives.works()?, "{what}: what is allowed goes on");
        // What was lost is repeated at growing intervals.
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(4) {
            ensure!(!ended.to_server()?, "{what}: what was ended goes on after {:?}", begin.elapsed());
        }
        ensure!(lives.works()?, "{what}: what is allowed goes on");
    }
    Ok(())
}

/// What another version pins goes with it, whatever else is wrong: else it would enforce for ever what
/// nobody can change.
#[test]
fn a_problem_of_another_interface_keeps_no_version_alive() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    /// `ARPHRD_CAN`
    const CAN: u16 = 280;
    let mut arena = Arena::without_agent(Setup::HostTc)?;
    let odd = arena.machine.enter(|| Ok(tun::open("odd0", tun::Kind::Tun)?))?;
    tun::carry(&odd, CAN)?;
    let policy = format!("{}  - {{match: 'odd*', groups: [g]}}\n", arena.policy(BEFORE));
    arena.agent.start_with(&policy)?;
    let problems = arena.agent.json(&["status"])?["problems"].to_string();
    ensure!(problems.contains("odd0: carries neither"), "{problems}");
    becomes_another(&mut arena, "")?;
    let left = arena.machine.command("ls").arg(arena.agent.bpffs()).output()?;
    ensure!(!String::from_utf8_lossy(&left.stdout).contains(OTHER), "{OTHER} is still there");
    ensure!(arena.inbound(Probe::Tcp(22), Family::V4)? == Outcome::Answered);
    ensure!(arena.inbound(Probe::Tcp(23), Family::V4)? == Outcome::Silent);
    Ok(())
}
