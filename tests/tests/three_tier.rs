//! `examples/three-tier.yaml` in the lab that it is written for: what the README promises.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result};
use sg_tests::lab::{Connection, Namespace, Outcome, Probe, arena::Family, can_run, three_tier::ThreeTier};

struct Row<'a> {
    from: &'a Namespace,
    to: &'a Namespace,
    target: fn(Family) -> IpAddr,
    probe: Probe,
    passes: bool,
}

fn started() -> Result<ThreeTier> {
    let mut lab = ThreeTier::new()?;
    lab.agent.start_with(&ThreeTier::policy()?)?;
    Ok(lab)
}

fn rows(lab: &ThreeTier) -> Vec<Row<'_>> {
    let web = |from, probe, passes| Row { from, to: &lab.web, target: ThreeTier::web_address, probe, passes };
    let db = |from, probe, passes| Row { from, to: &lab.db, target: ThreeTier::db_address, probe, passes };
    let host = |from, probe, passes| Row { from, to: &lab.host, target: host_address, probe, passes };
    let outside =
        |from, probe, passes| Row { from, to: &lab.attacker, target: attacker_address, probe, passes };
    vec![
        // The site, for everyone, and nothing else but an administrator's ping.
        web(&lab.client, Probe::Tcp(443), true),
        web(&lab.attacker, Probe::Tcp(443), true),
        web(&lab.client, Probe::Tcp(22), false),
        web(&lab.attacker, Probe::Tcp(22), false),
        web(&lab.attacker, Probe::Tcp(80), false),
        web(&lab.attacker, Probe::Tcp(5432), false),
        web(&lab.attacker, Probe::Udp(443), false),
        web(&lab.client, Probe::Ping, true),
        web(&lab.attacker, Probe::Ping, false),
        // The database, for the web tier.
        db(&lab.web, Probe::Tcp(5432), true),
        db(&lab.client, Probe::Tcp(5432), false),
        db(&lab.attacker, Probe::Tcp(5432), false),
        db(&lab.host, Probe::Tcp(5432), false),
        db(&lab.web, Probe::Tcp(22), false),
        db(&lab.web, Probe::Udp(5432), false),
        db(&lab.client, Probe::Ping, true),
        db(&lab.attacker, Probe::Ping, false),
        // The host, for administrators.
        host(&lab.client, Probe::Tcp(22), true),
        host(&lab.attacker, Probe::Tcp(22), false),
        host(&lab.attacker, Probe::Ping, false),
        // What the guests may open: the web guest names and updates, the database nothing.
        outside(&lab.web, Probe::Udp(53), true),
        outside(&lab.web, Probe::Tcp(443), true),
        outside(&lab.web, Probe::Tcp(80), false),
        outside(&lab.web, Probe::Ping, false),
        outside(&lab.db, Probe::Tcp(443), false),
        outside(&lab.db, Probe::Udp(53), false),
        outside(&lab.db, Probe::Ping, false),
        web(&lab.db, Probe::Tcp(443), false),
    ]
}

fn host_address(family: Family) -> IpAddr {
    match family {
        Family::V4 => [10, 77, 0, 1].into(),
        Family::V6 => [0xfd77, 0, 0, 0, 0, 0, 0, 1].into(),
    }
}

fn attacker_address(family: Family) -> IpAddr {
    match family {
        Family::V4 => [10, 77, 0, 66].into(),
        Family::V6 => [0xfd77, 0, 0, 0, 0, 0, 0, 0x66].into(),
    }
}

#[test]
fn every_tier_answers_whom_it_should_and_nobody_else() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let lab = started()?;
    for family in Family::ALL {
        for Row { from, to, target, probe, passes } in rows(&lab) {
            let expected = if passes { Outcome::Answered } else { Outcome::Silent };
            let outcome = probe.run(from, None, to, target(family))?;
            assert_eq!(outcome, expected, "{probe:?} from {} to {} {family:?}", from.name(), to.name());
        }
    }
    Ok(())
}

#[test]
fn the_web_tier_keeps_serving_through_change_kill_and_restart() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let mut lab = started()?;
    let policy = ThreeTier::policy()?;
    let mut open = vec![];
    for family in Family::ALL {
        for (from, to, target, port) in [
            (&lab.client, &lab.web, ThreeTier::web_address(family), 443),
            (&lab.web, &lab.db, ThreeTier::db_address(family), 5432),
        ] {
            let connection = Connection::open(from, None, to, SocketAddr::new(target, port))?;
            open.push(connection.with_context(|| format!("{target}:{port} is closed"))?);
        }
    }
    let mut all_work = |when: &str| -> Result<()> {
        for connection in &mut open {
            assert!(connection.works()?, "{when}");
        }
        Ok(())
    };
    all_work("at first")?;
    lab.agent.apply(&format!("{policy}\n# The same policy again.\n"))?;
    all_work("after the same policy again")?;
    lab.agent.kill()?;
    all_work("after SIGKILL")?;
    lab.agent.start()?;
    all_work("after a new start")?;
    lab.agent.restart()?;
    all_work("after a restart")?;
    Ok(())
}
