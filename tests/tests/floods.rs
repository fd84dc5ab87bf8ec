//! Floods from random sources, by hping3, through ports that are open: more than the flow table holds.
//! They cut no connection that was there before (docs/semantics.md, section 5).

use std::{net::IpAddr, thread, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use sg_tests::{
    counters::Counters,
    each_setup,
    lab::{
        Arena, Connection, Namespace, Outcome, Probe, Setup,
        arena::Family,
        eventually,
        hping::{Flood, Kind},
        services::Services,
        stranger,
    },
};

each_setup! {
    hping3_syn_flood_cuts_no_session
    hping3_ping_flood_cuts_no_session
    hping3_flood_that_is_answered_cuts_no_session
}

/// Where the flood goes, and where the sessions are.
const PORT: u16 = 443;
/// The smallest table.
const CAPACITY: u64 = 1024;
const IDLE_SESSIONS: usize = 50;
const RULES: &str = "inbound: [{allow: [tcp/443, udp/443, icmp/echo-request], from: anywhere}], \
                     outbound: [{allow: tcp/5432, to: [PEER]}]";

/// An instance with a small table and open sessions.
struct Stage {
    arena: Arena,
    stranger: Namespace,
    /// Opened from both sides and in both families; nothing moves on them during a flood.
    idle: Vec<Connection>,
    /// The same, but it carries data all the time.
    busy: Connection,
    _services: Services,
}

impl Stage {
    fn set(setup: Setup) -> Result<Self> {
        let mut arena = Arena::without_agent(setup)?;
        let stranger = stranger::arrive(&arena)?;
        arena.agent.settings(&format!("[flows]\ncapacity = {CAPACITY}\n"))?;
        let policy = arena.policy(RULES);
        arena.agent.start_with(&policy)?;
        let services = Services::open(arena.instance(), &[], &[PORT])?;
        let mut idle = Vec::new();
        for number in 0..IDLE_SESSIONS {
            let family = Family::ALL[number % 2];
            let connection = if number % 5 == 4 {
                arena.connect_out(family, 5432)
            } else {
                arena.connect_in(family, PORT)
            };
            let mut connection = connection?.with_context(|| format!("session {number} does not open"))?;
            ensure!(connection.works()?, "session {number} carries nothing");
            idle.push(connection);
        }
        let busy = arena.connect_in(Family::V4, PORT)?.context("one more session does not open")?;
        Ok(Self { arena, stranger, idle, busy, _services: services })
    }

    /// Floods until more than ten tables full of packets came in, and gives what was counted.
    fn flood(&mut self, kind: Kind) -> Result<Counters> {
        let IpAddr::V4(target) = self.arena.instance_address(Family::V4) else { bail!("no IPv4 address") };
        let before = self.arena.counters()?;
        let flood = Flood::start(&self.stranger, target, kind)?;
        let mut moved = Counters::default();
        eventually("the flood is ten tables full", || {
            // Under load a segment may have to be sent again.
            self.busy.to_server()?;
            moved = self.arena.counters()?.since(&before)?;
            Ok(inbound(&moved) > 10 * CAPACITY)
        })?;
        flood.stop()?;
        // What it left in the queues.
        thread::sleep(Duration::from_millis(200));
        self.arena.counters()?.since(&before)
    }

    /// Every session carries data both ways, and not one packet of them is dropped.
    fn survived(&mut self) -> Result<()> {
        let before = self.arena.counters()?;
        for (number, connection) in self.idle.iter_mut().enumerate() {
            ensure!(connection.works()?, "idle session {number} is cut");
        }
        eventually("the busy session goes on", || self.busy.works())?;
        let moved = self.arena.counters()?.since(&before)?;
        // One segment each way is the least: it carries the acknowledgement of the other.
        let least = IDLE_SESSIONS as u64;
        for direction in ["inbound", "outbound"] {
            ensure!(moved.of("eth0", direction, "allowed") >= least, "{direction}: {moved:?}");
        }
        ensure!(moved.of("eth0", "inbound", "no_rule") == 0, "{moved:?}");
        Ok(())
    }

    /// How many flows of the interface are live.
    fn flows(&self) -> Result<u64> {
        let flows = self.arena.agent.json(&["flows"])?;
        let list = flows["flows"].as_array().context("no list of flows")?;
        Ok(list.len().try_into()?)
    }
}

/// How many packets came in, whatever became of them.
fn inbound(moved: &Counters) -> u64 {
    let packets = moved.0.iter().filter(|((_, direction, _), _)| direction == "inbound");
    packets.map(|(_, count)| count.packets).sum()
}

fn hping3_syn_flood_cuts_no_session(setup: Setup) -> Result<()> {
    let mut stage = Stage::set(setup)?;
    let moved = stage.flood(Kind::Syn(PORT))?;
    // Half-open flows give way to each other: nobody is refused, and the table is full of them.
    ensure!(moved.of("eth0", "inbound", "allowed") > 3 * CAPACITY, "{moved:?}");
    ensure!(moved.of("eth0", "inbound", "flow_table_full") == 0, "{moved:?}");
    let flows = stage.flows()?;
    ensure!(flows > CAPACITY * 9 / 10, "{flows} flows: the flood did not fill the table");
    stage.survived()?;
    let new = stage.arena.inbound(Probe::Tcp(PORT), Family::V4)?;
    ensure!(new == Outcome::Answered, "a new connection over a table full of half-open ones: {new:?}");
    Ok(())
}

fn hping3_ping_flood_cuts_no_session(setup: Setup) -> Result<()> {
    let mut stage = Stage::set(setup)?;
    let moved = stage.flood(Kind::Ping)?;
    ensure!(moved.of("eth0", "inbound", "allowed") > CAPACITY / 2, "{moved:?}");
    stage.survived()
}

/// Every datagram is answered, so that its flow is no half-open one and keeps its place: newcomers
/// are refused for as long as it lives, and open sessions go on.
fn hping3_flood_that_is_answered_cuts_no_session(setup: Setup) -> Result<()> {
    let mut stage = Stage::set(setup)?;
    let moved = stage.flood(Kind::Udp(PORT))?;
    ensure!(moved.of("eth0", "inbound", "flow_table_full") > 0, "{moved:?}");
    stage.survived()
}
