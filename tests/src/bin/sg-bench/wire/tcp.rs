//! TCP through each: throughput; request and response; connect, request, response. Sockets of the standard
//! library at both ends. Each round measures all of them one after the other, and what they are to no
//! firewall is told round by round, so that what disturbs a round disturbs all.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use sg_tests::{lab::arena::Family, syscall};

use super::{
    contender::{Contender, Kind},
    policy::{self, Form, OPEN},
};

/// Those whom it goes through: beside no firewall, and beside an XDP program that passes everything. Native
/// XDP takes segmentation from the stack of a veth, whatever the program does.
pub(crate) const KINDS: [Kind; 5] =
    [Kind::Nobody, Kind::OursTc, Kind::Nftables(Form::Intervals), Kind::XdpPass, Kind::OursXdp];

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exchange {
    /// As much as goes one way; octets a second.
    Throughput,
    /// One octet there and one back, on one connection; exchanges a second.
    RequestResponse,
    /// The same, each on a connection of its own.
    ConnectRequestResponse,
}

impl Exchange {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Throughput, Self::RequestResponse, Self::ConnectRequestResponse];

    /// The server's processor: where both ends share one, no time goes into waking the other, and what is
    /// left is what a packet costs.
    const fn server_processor(self) -> usize {
        match self {
            Self::Throughput => 1,
            Self::RequestResponse | Self::ConnectRequestResponse => CLIENT_PROCESSOR,
        }
    }
}

const CLIENT_PROCESSOR: usize = 0;
/// No answer takes longer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The rates of each exchange by contender and round.
///
/// # Errors
/// Somebody cannot be had, or cuts a connection.
pub(crate) fn measure(rounds: usize, length: Duration) -> Result<Vec<(Exchange, Vec<Vec<f64>>)>> {
    let networks = policy::networks(10);
    let mut all = Vec::new();
    for kind in KINDS {
        let contender = Contender::new(kind, &networks)?;
        // Each connection leaves its port behind for a minute, unless it may be used again.
        contender.arena.far.set("ipv4/ip_local_port_range", "1024 65535")?;
        contender.arena.far.set("ipv4/tcp_tw_reuse", "1")?;
        all.push(contender);
    }
    let mut exchanges = Vec::new();
    for exchange in Exchange::ALL {
        let mut rates = vec![Vec::new(); all.len()];
        for _ in 0..rounds {
            for (contender, rates) in all.iter().zip(&mut rates) {
                let rate = once(contender, exchange, length);
                rates.push(rate.with_context(|| format!("{exchange:?} through {}", contender.kind.name()))?);
            }
        }
        exchanges.push((exchange, rates));
    }
    Ok(exchanges)
}

fn once(contender: &Contender, exchange: Exchange, length: Duration) -> Result<f64> {
    crate::go_on()?;
    let arena = &contender.arena;
    let target = SocketAddr::new(arena.machine_address(Family::V4), OPEN);
    let listener = arena.machine.enter(|| Ok(TcpListener::bind(target)?))?;
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let server = scope.spawn(|| {
            syscall::stay_on(exchange.server_processor())?;
            serve(&listener, exchange, &stop)
        });
        let client = arena.far.enter(|| {
            syscall::stay_on(CLIENT_PROCESSOR)?;
            call(target, exchange, length)
        });
        stop.store(true, Ordering::Relaxed);
        let served = server.join().map_err(|_| anyhow!("the server panicked"))?;
        let called = client?;
        let served = served?;
        Ok(if exchange == Exchange::Throughput { served } else { called })
    })
}

/// Serves until it is told to stop. Gives the octets a second that came on the last connection.
fn serve(listener: &TcpListener, exchange: Exchange, stop: &AtomicBool) -> Result<f64> {
    let mut rate = 0.0;
    let mut buffer = vec![0; 1 << 18];
    listener.set_nonblocking(true)?;
    loop {
        let mut stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if stop.load(Ordering::Relaxed) {
                    return Ok(rate);
                }
                readable(listener)?;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        let (begin, mut octets) = (Instant::now(), 0);
        loop {
            match stream.read(&mut buffer).context("the server reads")? {
                0 => break,
                length => octets += length,
            }
            if exchange != Exchange::Throughput {
                stream.write_all(b"a")?;
            }
        }
        rate = octets as f64 / begin.elapsed().as_secs_f64();
    }
}

/// Waits until somebody connects, or a while.
fn readable(listener: &TcpListener) -> Result<()> {
    Ok(syscall::wait_readable(listener, Duration::from_millis(20))?)
}

fn call(target: SocketAddr, exchange: Exchange, length: Duration) -> Result<f64> {
    let open = || -> Result<TcpStream> {
        let stream = TcpStream::connect_timeout(&target, PATIENCE).context("connect")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(stream)
    };
    let ask = |stream: &mut TcpStream| -> Result<()> {
        stream.write_all(b"q")?;
        stream.read_exact(&mut [0]).context("no answer")
    };
    let mut stream = if exchange == Exchange::ConnectRequestResponse { None } else { Some(open()?) };
    let (begin, mut count) = (Instant::now(), 0_u32);
    let chunk = vec![0; 1 << 17];
    while begin.elapsed() < length {
        match &mut stream {
            Some(stream) if exchange == Exchange::Throughput => stream.write_all(&chunk)?,
            Some(stream) => ask(stream)?,
            None => ask(&mut open()?)?,
        }
        count += 1;
    }
    ensure!(count > 0, "not a single exchange in {length:?}");
    Ok(f64::from(count) / begin.elapsed().as_secs_f64())
}
