//! What the demo shows, step by step.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use sg_tests::lab::{
    Connection, Probe,
    agent::POLICY,
    arena::Family::{self, V4, V6},
    three_tier::ThreeTier,
};

use crate::stage::Stage;

const HTTPS: Probe = Probe::Tcp(443);
const SSH: Probe = Probe::Tcp(22);
const POSTGRES: Probe = Probe::Tcp(5432);

/// The words of the example that the story changes: the first is the web group's rule, inbound.
const HTTPS_RULE: &str = "allow: https";
const ADMINS: &str = "entries: [";

pub(crate) fn tell() -> Result<()> {
    let mut stage = Stage::new();
    stage.step("A lab: a client and an attacker outside, a host, and two guests behind it")?;
    let mut lab = ThreeTier::new()?;
    stage.say("client 10.77.0.10 and attacker 10.77.0.66 | uplink [host] | veth-web: web 10.77.1.10")?;
    stage.say("                                                         | veth-db:  db  10.77.2.10")?;
    stage.say("No firewall yet, so the attacker reaches the database:")?;
    stage.attempt(&lab.attacker, &lab.db, ThreeTier::db_address(V4), POSTGRES, true)?;

    enforce(&mut stage, &mut lab)?;
    ask_why(&mut stage, &lab)?;
    change(&mut stage, &lab)?;
    survive(&mut stage, &mut lab)?;
    let_go(&mut stage, &mut lab)
}

fn enforce(stage: &mut Stage, lab: &mut ThreeTier) -> Result<()> {
    stage.step("The policy: examples/three-tier.yaml")?;
    let policy = ThreeTier::policy()?;
    lab.agent.write(POLICY, &policy)?;
    stage.run(&lab.agent, &["check", POLICY], 0)?;
    stage.say("The daemon starts with it:")?;
    lab.agent.start_with(&policy)?;
    stage.run(&lab.agent, &["status"], 0)?;

    stage.step("Real connections, real sockets")?;
    for family in Family::ALL {
        let (web, db) = (ThreeTier::web_address(family), ThreeTier::db_address(family));
        stage.attempt(&lab.client, &lab.web, web, HTTPS, true)?;
        stage.attempt(&lab.attacker, &lab.web, web, HTTPS, true)?;
        stage.attempt(&lab.attacker, &lab.web, web, SSH, false)?;
        stage.attempt(&lab.attacker, &lab.db, db, POSTGRES, false)?;
        stage.attempt(&lab.web, &lab.db, db, POSTGRES, true)?;
        stage.attempt(&lab.web, &lab.db, db, SSH, false)?;
    }
    Ok(())
}

fn ask_why(stage: &mut Stage, lab: &ThreeTier) -> Result<()> {
    stage.step("Why? The product's own answers")?;
    let db = ["explain", "--interface", "veth-db", "in", "tcp"];
    let ask = |source, status| {
        let arguments = [&db[..], &[source, "10.77.2.10:5432"]].concat();
        stage.run(&lab.agent, &arguments, status)
    };
    ask("10.77.0.66:40000", 3)?;
    ask("10.77.1.10:40000", 0)?;
    stage.run(&lab.agent, &["counters"], 0)?;
    stage.run(&lab.agent, &["counters", "--by", "rule"], 0)?;
    Ok(())
}

/// A connection of the client to the web guest.
fn browse(lab: &ThreeTier) -> Result<Connection> {
    let target = SocketAddr::new(ThreeTier::web_address(V4), 443);
    let connection = Connection::open(&lab.client, None, &lab.web, target)?;
    connection.context("web does not answer on port 443")
}

fn change(stage: &mut Stage, lab: &ThreeTier) -> Result<()> {
    stage.step("The policy changes while a connection is open")?;
    let policy = ThreeTier::policy()?;
    let apply = |policy: &str| -> Result<()> {
        lab.agent.write(POLICY, policy)?;
        stage.run(&lab.agent, &["apply", POLICY], 0).map(drop)
    };
    let carries = "the client's connection to web carries data";
    let web = ThreeTier::web_address(V4);
    let mut open = browse(lab)?;
    stage.check(carries, open.works()?, true)?;

    stage.say("The web group's https rule becomes tcp/8443; the open connection ends at the next packet:")?;
    ensure!(policy.contains(HTTPS_RULE), "the example has no `{HTTPS_RULE}` to take away");
    apply(&policy.replacen(HTTPS_RULE, "allow: tcp/8443", 1))?;
    stage.check(carries, open.to_server()?, false)?;
    stage.attempt(&lab.client, &lab.web, web, HTTPS, false)?;
    apply(&policy)?;
    stage.attempt(&lab.client, &lab.web, web, HTTPS, true)?;

    stage.say("The attacker's IPv4 address joins the prefix list of administrators, and leaves it:")?;
    stage.attempt(&lab.attacker, &lab.web, web, Probe::Ping, false)?;
    ensure!(policy.contains(ADMINS), "the example has no `{ADMINS}` to add to");
    apply(&policy.replacen(ADMINS, &format!("{ADMINS}10.77.0.66, "), 1))?;
    stage.attempt(&lab.attacker, &lab.web, web, Probe::Ping, true)?;
    stage.attempt(&lab.attacker, &lab.web, ThreeTier::web_address(V6), Probe::Ping, false)?;
    apply(&policy)?;
    stage.attempt(&lab.attacker, &lab.web, web, Probe::Ping, false)
}

fn survive(stage: &mut Stage, lab: &mut ThreeTier) -> Result<()> {
    stage.step("kill -9: the kernel goes on enforcing")?;
    let mut open = browse(lab)?;
    stage.check("the client's connection to web carries data", open.works()?, true)?;
    lab.agent.kill()?;
    stage.say("The daemon is dead.")?;
    stage.check("the client's connection to web carries data", open.works()?, true)?;
    stage.attempt(&lab.client, &lab.web, ThreeTier::web_address(V4), HTTPS, true)?;
    stage.attempt(&lab.attacker, &lab.db, ThreeTier::db_address(V4), POSTGRES, false)?;
    stage.run(&lab.agent, &["counters", "--interface", "veth-db"], 0)?;
    lab.agent.start()?;
    stage.say("A new daemon has taken over.")?;
    stage.check("the client's connection to web carries data", open.works()?, true)
}

fn let_go(stage: &mut Stage, lab: &mut ThreeTier) -> Result<()> {
    stage.step("detach: nothing else ends enforcement")?;
    lab.agent.terminate()?;
    stage.say("The daemon has ended on SIGTERM; the rules hold:")?;
    stage.attempt(&lab.attacker, &lab.db, ThreeTier::db_address(V4), POSTGRES, false)?;
    stage.run(&lab.agent, &["detach", "--all"], 0)?;
    stage.attempt(&lab.attacker, &lab.db, ThreeTier::db_address(V4), POSTGRES, true)?;
    stage.say("The host is as it was. So is this machine: the lab goes with the demo.")
}
