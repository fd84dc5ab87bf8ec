//! A flood of SYNs on an open port, each from another source: how many one core takes in, and then, at a
//! pace that all of them take in, what is left for those who mean it: a session that was there before, and
//! new connections. Who floods is on one core, who means it on another.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};
use sg_tests::{
    generator::Generator,
    lab::{Connection, arena::Family},
    syscall,
};

use super::{
    contender::{Contender, Kind},
    drops::{FAR, PROCESSOR, rate, syns},
    policy::{self, Form, OPEN},
};
use crate::statistics::median;

/// Those who are flooded.
pub(crate) const KINDS: [Kind; 5] =
    [Kind::Nobody, Kind::OursXdp, Kind::OursTc, Kind::Nftables(Form::Intervals), Kind::Iptables];
/// SYNs of a round that goes as fast as it can.
const ROUND: u32 = 100_000;
/// SYNs at once, and how often, for the pace: 100 000 a second.
const BURST: u32 = 500;
const PAUSE: Duration = Duration::from_millis(5);
/// So long a client waits for an answer.
const PATIENCE: Duration = Duration::from_millis(300);
/// The processor of who means it.
const OTHER: usize = 1;

/// What one of them made of it.
pub(crate) struct Flooded {
    /// Who.
    pub(crate) kind: Kind,
    /// SYNs that one core takes in, a second.
    pub(crate) rate: f64,
    /// Connections that were tried at the pace, and how many were made.
    pub(crate) connections: (u32, u32),
    /// Whether the session of before was alive to the end.
    pub(crate) is_alive: bool,
}

/// All of them, flooded for so long one after the other.
///
/// # Errors
/// Somebody cannot be had.
pub(crate) fn measure(length: Duration) -> Result<Vec<Flooded>> {
    let networks = policy::networks(10);
    KINDS
        .into_iter()
        .map(|kind| flooded(&Contender::new(kind, &networks)?, length).context(kind.name()))
        .collect()
}

fn flooded(contender: &Contender, length: Duration) -> Result<Flooded> {
    let arena = &contender.arena;
    contender.poll()?;
    // Answers to sources that nobody has go where they came from.
    arena.machine.ip(&["route add default via 10.88.0.2"])?;
    let target = SocketAddr::new(arena.machine_address(Family::V4), OPEN);
    let mut session =
        Connection::open(&arena.far, None, &arena.machine, target)?.context("no session before the flood")?;
    let listener = arena.machine.enter(|| Ok(TcpListener::bind(target)?))?;
    let generator = syns(contender, OPEN)?;
    let stop = AtomicBool::new(false);
    let rates: Result<Vec<_>> = (0..5).map(|_| rate(contender, &generator, ROUND)).collect();
    let rate = median(&rates?);
    thread::scope(|scope| {
        let server = scope.spawn(|| serve(&listener, &stop));
        let client = scope.spawn(|| arena.far.enter(|| try_connections(target, &stop)));
        let flooded = arena.far.enter(|| paced(&generator, length));
        let is_alive = session.works();
        stop.store(true, Ordering::Relaxed);
        let connections = client.join().map_err(|_| anyhow!("the client panicked"))??;
        server.join().map_err(|_| anyhow!("the server panicked"))??;
        flooded?;
        Ok(Flooded { kind: contender.kind, rate, connections, is_alive: is_alive? })
    })
}

fn paced(generator: &Generator, length: Duration) -> Result<()> {
    syscall::stay_on(PROCESSOR)?;
    let interface = syscall::interface_index(FAR)?;
    let begin = Instant::now();
    while begin.elapsed() < length && syscall::interrupted().is_none() {
        generator.send(BURST, interface)?;
        thread::sleep(PAUSE);
    }
    Ok(())
}

fn serve(listener: &TcpListener, stop: &AtomicBool) -> Result<()> {
    listener.set_nonblocking(true)?;
    while !stop.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((mut stream, _)) => {
                stream.set_nonblocking(false)?;
                // A client that has given up is none of ours.
                drop(stream.write_all(b"a"));
            }
            Err(_) => thread::sleep(Duration::from_millis(1)),
        }
    }
    Ok(())
}

fn try_connections(target: SocketAddr, stop: &AtomicBool) -> Result<(u32, u32)> {
    syscall::stay_on(OTHER)?;
    let (mut tried, mut made) = (0, 0);
    while !stop.load(Ordering::Relaxed) {
        tried += 1;
        if let Ok(mut stream) = TcpStream::connect_timeout(&target, PATIENCE) {
            stream.set_read_timeout(Some(PATIENCE))?;
            made += u32::from(stream.read_exact(&mut [0]).is_ok());
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok((tried, made))
}
