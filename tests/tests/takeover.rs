//! What becomes of flows when another ABI version of the agent takes over (datapath.md, sections 6 and 9).

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use sg_tests::lab::{Arena, Setup, agent::POLICY, arena::Family, can_run};

/// Allows one of two ports to whom the other was open before.
const BEFORE: &str = "inbound: [{allow: [tcp/22, tcp/443], from: [PEER]}], outbound: []";
const AFTER: &str = "inbound: [{allow: tcp/443, from: [PEER]}], outbound: []";

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

        arena.agent.kill()?;
        let script = format!("cd {}; {script} mv v* v9999; ls", arena.agent.bpffs());
        let moved = arena.machine.command("sh").args(["-c", &script]).output()?;
        ensure!(moved.stdout == b"v9999\n", "{}", String::from_utf8_lossy(&moved.stderr));
        arena.agent.start()?;
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
