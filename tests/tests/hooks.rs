//! Programs of others on the same interface: never replaced, never mistaken for ours, and no way
//! around a group (datapath.md, section 1).

use anyhow::{Context as _, Result};
use sg_tests::{
    lab::{Arena, Outcome, Probe, Setup, arena::Family, can_run},
    syscall::program::{Foreign, Hook},
};

const RULES: &str = "inbound: [{allow: tcp/443, from: [PEER]}]";
const XDP_PASS: i32 = 2;
const TC_NEXT: i32 = -1;
const TC_PASS: i32 = 0;

fn enforced(arena: &Arena, what: &str) -> Result<()> {
    for family in Family::ALL {
        assert_eq!(arena.inbound(Probe::Tcp(443), family)?, Outcome::Answered, "{what}, {family:?}");
        assert_eq!(arena.inbound(Probe::Tcp(22), family)?, Outcome::Silent, "{what}, {family:?}");
    }
    Ok(())
}

#[test]
fn a_foreign_program_stays_and_does_not_open_a_way_around() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let rows = [
        (Setup::HostTc, Hook::TcIngress, TC_NEXT),
        (Setup::HostTc, Hook::TcIngress, TC_PASS),
        (Setup::HostTc, Hook::TcEgress, TC_PASS),
        (Setup::HostTc, Hook::Xdp, XDP_PASS),
        (Setup::HostXdp, Hook::TcIngress, TC_PASS),
        (Setup::Guest, Hook::TcEgress, TC_NEXT),
        (Setup::Guest, Hook::TcEgress, TC_PASS),
        (Setup::Guest, Hook::TcIngress, TC_PASS),
    ];
    for (setup, hook, verdict) in rows {
        let what = format!("{setup:?} beside a program at {hook:?} that answers {verdict}");
        let mut arena = Arena::without_agent(setup)?;
        let foreign = arena.machine.enter(|| Ok(Foreign::attach("eth0", hook, "stranger", verdict)?))?;
        let policy = arena.policy(RULES);
        arena.agent.start_with(&policy).with_context(|| what.clone())?;
        enforced(&arena, &what)?;
        arena.agent.restart()?;
        enforced(&arena, &what)?;
        assert!(foreign.is_attached()?, "{what}");
        arena.agent.ok(&["detach", "--all"])?;
        assert!(foreign.is_attached()?, "{what}: after detach");
        assert_eq!(arena.inbound(Probe::Tcp(22), Family::V4)?, Outcome::Answered, "{what}: after detach");
    }
    Ok(())
}

#[test]
fn an_occupied_xdp_hook_is_refused_by_the_name_of_its_program() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let mut arena = Arena::without_agent(Setup::HostXdp)?;
    let foreign = arena.machine.enter(|| Ok(Foreign::attach("eth0", Hook::Xdp, "stranger", XDP_PASS)?))?;
    // `auto` falls back to TC.
    let forced = arena.policy("inbound: [{allow: all, from: anywhere}]");
    let auto = arena.policy(RULES).replace("hook: xdp", "hook: auto");
    arena.agent.start_with(&auto)?;
    enforced(&arena, "auto beside a foreign XDP program")?;
    let generation = arena.agent.generation()?;
    arena.agent.write("forced.yaml", &forced)?;
    let refused = arena.agent.run(&["apply", "forced.yaml"])?.expect_status(1)?;
    assert!(refused.stderr.contains("stranger"), "{}", refused.stderr);
    assert_eq!(arena.agent.generation()?, generation, "nothing changed");
    enforced(&arena, "after a refused policy")?;
    assert!(foreign.is_attached()?);
    // With the hook free again the same policy is taken.
    drop(foreign);
    arena.agent.ok(&["apply", "forced.yaml"])?;
    assert_eq!(arena.inbound(Probe::Tcp(22), Family::V4)?, Outcome::Answered);
    let status = arena.agent.ok(&["status"])?.stdout;
    assert!(status.contains("xdp"), "{status}");
    Ok(())
}
