//! What others take from the agent's hold on the kernel, it takes back: within a second, counted and
//! shown. Where the kernel still has the program, nothing gets through meanwhile.

use std::{
    io::Write as _,
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use sg_tests::{
    each_setup,
    lab::{
        Arena, Connection, Fault, Inflicted, Setup,
        arena::Family,
        traffic::{bind_udp, once_free},
    },
};

each_setup! {
    pins_are_put_back_and_nothing_gets_through
    programs_are_put_back_within_a_second
    what_was_detached_on_purpose_stays_detached
}

const RULES: &str = "inbound: [{allow: tcp/443, from: [PEER]}], outbound: []";
const DENIED: u16 = 9;
/// Within this time everything is mended.
const MENDED: Duration = Duration::from_secs(1);

/// Somebody who sends what is denied, 200 times a second, and what of it arrives.
struct Sender {
    stop: Arc<AtomicBool>,
    sent: Arc<Mutex<Vec<Instant>>>,
    arrived: Arc<Mutex<Vec<usize>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Sender {
    fn start(arena: &Arena) -> Result<Self> {
        let target = SocketAddr::new(arena.instance_address(Family::V4), DENIED);
        let from = SocketAddr::new(arena.peer_address(Family::V4), 0);
        let receiver = arena.instance().enter(|| Ok(once_free(|| UdpSocket::bind(target))?))?;
        let socket = arena.peer().enter(|| bind_udp(from))?;
        receiver.set_read_timeout(Some(Duration::from_millis(20)))?;
        let (stop, sent, arrived) = <(Arc<AtomicBool>, Arc<Mutex<_>>, Arc<Mutex<_>>)>::default();
        let sends = thread::spawn({
            let (stop, sent) = (Arc::clone(&stop), Arc::clone(&sent));
            move || send(&socket, target, &stop, &sent)
        });
        let receives = thread::spawn({
            let (stop, arrived) = (Arc::clone(&stop), Arc::clone(&arrived));
            move || receive(&receiver, &stop, &arrived)
        });
        Ok(Self { stop, sent, arrived, threads: vec![sends, receives] })
    }

    /// How many were sent so far.
    fn sent(&self) -> usize {
        of(&self.sent).len()
    }

    /// When those were sent that arrived.
    fn arrived(&self) -> Vec<Instant> {
        let sent = of(&self.sent);
        of(&self.arrived).iter().map(|number| sent[*number]).collect()
    }
}

fn of<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            drop(thread.join());
        }
    }
}

fn send(socket: &UdpSocket, target: SocketAddr, stop: &AtomicBool, sent: &Mutex<Vec<Instant>>) {
    while !stop.load(Ordering::Relaxed) {
        let number = {
            let mut sent = of(sent);
            sent.push(Instant::now());
            sent.len() - 1
        };
        // Where the machine itself sends to a guest, the kernel may tell it of the drop.
        drop(socket.send_to(&number.to_ne_bytes(), target));
        thread::sleep(Duration::from_millis(5));
    }
}

fn receive(socket: &UdpSocket, stop: &AtomicBool, arrived: &Mutex<Vec<usize>>) {
    let mut octets = [0; 8];
    while !stop.load(Ordering::Relaxed) {
        if socket.recv(&mut octets).is_ok() {
            of(arrived).push(usize::from_ne_bytes(octets));
        }
    }
}

/// What must outlive every fault.
struct Kept {
    connection: Connection,
    packets: u64,
    denied: u64,
}

impl Kept {
    fn of(arena: &Arena) -> Result<Self> {
        let connection = arena.connect_in(Family::V4, 443)?.context("443 is closed")?;
        Ok(Self { connection, packets: 0, denied: 0 })
    }

    /// The session goes on with its flow, and nothing that was counted is lost.
    fn check(&mut self, arena: &Arena) -> Result<()> {
        ensure!(self.connection.works()?, "the session is cut");
        let port = u64::from(self.connection.client.local_addr()?.port());
        let flows = arena.agent.json(&["flows"])?;
        let is_its = |flow: &&Value| flow["remote_port"] == port;
        let flow = flows["flows"].as_array().and_then(|flows| flows.iter().find(is_its));
        let packets = flow.and_then(|flow| flow["inbound_packets"].as_u64()).context("its flow is gone")?;
        ensure!(packets > self.packets, "{packets} packets of its flow, after {}", self.packets);
        self.packets = packets;
        let counters = arena.agent.json(&["counters"])?;
        let denied = counters["interfaces"][0]["inbound"]["dropped"]["packets"].as_u64();
        let denied = denied.with_context(|| format!("drops in {counters:#}"))?;
        ensure!(denied > self.denied, "{denied} drops, after {}", self.denied);
        self.denied = denied;
        Ok(())
    }
}

/// How often the agent says that it has mended something.
fn repairs(arena: &Arena) -> Result<u64> {
    let status = arena.agent.json(&["status"])?;
    status["repairs"]["count"].as_u64().with_context(|| format!("repairs in {status:#}"))
}

/// Inflicts a fault and waits until it is mended. Returns when it began, and what it left.
fn mended(arena: &Arena, fault: Fault) -> Result<(Instant, Duration, Inflicted)> {
    let before = repairs(arena)?;
    let begin = Instant::now();
    let inflicted = fault.inflict(&arena.agent, "eth0")?;
    let end = Instant::now();
    loop {
        // Asking takes longer than mending, and is asked of the agent itself.
        let asked = Instant::now();
        if repairs(arena)? > before {
            return Ok((begin, asked.duration_since(end), inflicted));
        }
        if begin.elapsed() > 5 * MENDED {
            bail!("it is not mended; the agent's log:\n{}", arena.agent.log());
        }
    }
}

fn pins_are_put_back_and_nothing_gets_through(setup: Setup) -> Result<()> {
    let mut arena = Arena::start(setup, RULES)?;
    let mut kept = Kept::of(&arena)?;
    let faults = Fault::ALL.into_iter().filter(|fault| fault.applies(setup) && !fault.opens());
    for fault in faults {
        let sender = Sender::start(&arena)?;
        let (_, took, _) = mended(&arena, fault).with_context(|| format!("{fault:?}"))?;
        writeln!(std::io::stderr(), "{setup:?} {fault:?}: seen to be mended after {took:?}")?;
        assert!(took <= MENDED, "{fault:?} took {took:?}");
        kept.check(&arena).with_context(|| format!("after {fault:?}"))?;
        let last = arena.agent.json(&["status"])?["repairs"]["last"].clone();
        assert!(last["time"].is_string() && last["what"].is_string(), "{fault:?}: {last}");
        assert!(arena.agent.log().contains("mended"), "{fault:?}: {}", arena.agent.log());
        // What was put back is enough to go on from.
        arena.agent.kill()?;
        arena.agent.start()?;
        assert!(arena.agent.log().contains("adopted what is enforced"), "{}", arena.agent.log());
        kept.check(&arena).with_context(|| format!("after {fault:?} and a restart"))?;
        assert!(sender.sent() > 50, "{fault:?}: {} packets sent", sender.sent());
        assert!(sender.arrived().is_empty(), "{fault:?}: {} denied packets arrive", sender.arrived().len());
    }
    Ok(())
}

fn programs_are_put_back_within_a_second(setup: Setup) -> Result<()> {
    let arena = Arena::start(setup, RULES)?;
    let mut kept = Kept::of(&arena)?;
    let faults = Fault::ALL.into_iter().filter(|fault| fault.applies(setup) && fault.opens());
    for fault in faults {
        let sender = Sender::start(&arena)?;
        let (begin, took, inflicted) = mended(&arena, fault).with_context(|| format!("{fault:?}"))?;
        kept.check(&arena).with_context(|| format!("after {fault:?}"))?;
        let last = sender.arrived().into_iter().max();
        let open = last.map_or(Duration::ZERO, |last| last.saturating_duration_since(begin));
        writeln!(std::io::stderr(), "{setup:?} {fault:?}: mended after {took:?}, open for {open:?}")?;
        assert!(took <= MENDED && open <= MENDED, "{fault:?} took {took:?}, and was open for {open:?}");
        // From here on everything is judged again.
        let (sent, arrived) = (sender.sent(), sender.arrived().len());
        thread::sleep(Duration::from_millis(300));
        assert!(sender.sent() > sent + 20, "{fault:?}: packets are sent");
        assert_eq!(sender.arrived().len(), arrived, "{fault:?}: denied packets arrive");
        assert!(inflicted.is_there()?, "{fault:?}: what somebody else attached stays");
        if fault == Fault::TakenXdp {
            gives_xdp_back(&arena, inflicted, &sender)?;
        }
    }
    Ok(())
}

/// While another program has the XDP hook inbound is enforced at TC, and that is told; when the hook is
/// free it is taken again.
fn gives_xdp_back(arena: &Arena, inflicted: Inflicted, sender: &Sender) -> Result<()> {
    let status = || arena.agent.json(&["status"]);
    let hook = |status: &Value| status["attachments"][0]["hooks"][0]["hook"].as_str().map(str::to_owned);
    let taken = status()?;
    assert_ne!(hook(&taken).as_deref(), Some("xdp"), "{taken:#}");
    let problems = taken["problems"].to_string();
    assert!(problems.contains("stranger") && problems.contains("XDP is asked for"), "{taken:#}");
    let arrived = sender.arrived().len();
    drop(inflicted);
    let begin = Instant::now();
    while hook(&status()?).as_deref() != Some("xdp") {
        ensure!(
            begin.elapsed() < 2 * MENDED,
            "XDP is not taken again: {:#}\n{}",
            status()?,
            arena.agent.log()
        );
    }
    assert_eq!(status()?["problems"], Value::Array(vec![]), "{:#}", status()?);
    assert_eq!(sender.arrived().len(), arrived, "nothing gets through on the way back");
    Ok(())
}

fn what_was_detached_on_purpose_stays_detached(setup: Setup) -> Result<()> {
    let mut arena = Arena::start(setup, RULES)?;
    for words in [&["detach", "--interface", "eth0"][..], &["detach", "--all"]] {
        let sender = Sender::start(&arena)?;
        arena.agent.ok(words)?;
        thread::sleep(Duration::from_millis(1200));
        let (sent, arrived) = (sender.sent(), sender.arrived().len());
        thread::sleep(Duration::from_millis(300));
        assert!(sender.sent() > sent + 20 && sender.arrived().len() > arrived + 20, "{words:?}: it is open");
        assert_eq!(repairs(&arena)?, 0, "{words:?}: {}", arena.agent.log());
        drop(sender);
        // A start puts the policy in force again.
        arena.agent.restart()?;
    }
    Ok(())
}
