//! Sessions that are allowed, and how long each is silent.
//!
//! One more session leads through no interface that anybody filters: when the machine itself stands
//! still, that one is silent as well, and its silence is taken off.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use super::{Stop, Watcher, joined, spawn};
use crate::lab::{Arena, Connection, arena::Family};

/// How long a session rests between two exchanges.
const PAUSE: Duration = Duration::from_millis(2);
/// A silence that is worth remembering.
const NOTICED: Duration = Duration::from_millis(20);
/// A session that is silent for so long has been cut.
const CUT: Duration = Duration::from_secs(5);

/// A stretch of time, from the beginning of the vigil.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Silence {
    begin: Duration,
    end: Duration,
}

impl Silence {
    fn length(self) -> Duration {
        self.end.saturating_sub(self.begin)
    }

    fn shared_with(self, other: Self) -> Duration {
        self.end.min(other.end).saturating_sub(self.begin.max(other.begin))
    }
}

/// What one session has to tell.
#[derive(Debug)]
struct Told {
    exchanges: u64,
    silences: Vec<Silence>,
}

/// All sessions of a vigil.
#[derive(Debug)]
pub(super) struct Sessions {
    watched: Vec<(&'static str, Watcher<Told>)>,
    unfiltered: Watcher<Told>,
}

impl Sessions {
    /// Opens a session in each direction and family, and the one that nobody filters.
    pub(super) fn open(arena: &Arena, start: Instant, stop: &Stop) -> Result<Self> {
        let begin = |name: &'static str, connection: Connection| {
            let stop = stop.clone();
            spawn(name, move || talk(connection, start, &stop).context(name))
        };
        let mut watched = Vec::new();
        for (family, [inbound, outbound]) in
            [(Family::V4, ["in over IPv4", "out over IPv4"]), (Family::V6, ["in over IPv6", "out over IPv6"])]
        {
            let connection = arena.connect_in(family, 443)?.context("443 is closed")?;
            watched.push((inbound, begin(inbound, connection)?));
            let connection = arena.connect_out(family, 8443)?.context("8443 is closed")?;
            watched.push((outbound, begin(outbound, connection)?));
        }
        let local = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 443);
        let unfiltered = Connection::open(arena.peer(), None, arena.peer(), local)?;
        let unfiltered = begin("unfiltered", unfiltered.context("no answer on the loopback")?)?;
        Ok(Self { watched, unfiltered })
    }

    pub(super) fn are_running(&self) -> bool {
        self.watched.iter().all(|(_, watcher)| !watcher.is_finished())
    }

    /// The longest silence of each session, less the machine's own, and when it began; and the
    /// exchanges of all.
    #[expect(clippy::type_complexity, reason = "told once, to the vigil")]
    pub(super) fn end(self) -> Result<(Vec<(&'static str, Duration, Duration)>, u64)> {
        let machine = joined(self.unfiltered)?.silences;
        let (mut longest, mut exchanges) = (Vec::new(), 0);
        for (name, watcher) in self.watched {
            let told = joined(watcher)?;
            exchanges += told.exchanges;
            let silences = told.silences.iter().map(|silence| (own(*silence, &machine), silence.begin));
            let (length, begin) = silences.max().unwrap_or_default();
            longest.push((name, begin, length));
        }
        Ok((longest, exchanges))
    }
}

/// How much of a silence was not the machine's.
fn own(silence: Silence, machine: &[Silence]) -> Duration {
    let shared: Duration = machine.iter().map(|other| silence.shared_with(*other)).sum();
    silence.length().saturating_sub(shared)
}

/// Exchanges a few octets over and over.
fn talk(connection: Connection, start: Instant, stop: &Stop) -> Result<Told> {
    let Connection { mut client, mut server, .. } = connection;
    for end in [&client, &server] {
        end.set_read_timeout(Some(CUT))?;
    }
    let mut told = Told { exchanges: 0, silences: Vec::new() };
    let mut last = start.elapsed();
    while !stop.is_set() {
        let question = told.exchanges.to_be_bytes();
        let mut exchange = || -> std::io::Result<[u8; 8]> {
            let mut answer = [0; 8];
            client.write_all(&question)?;
            server.read_exact(&mut answer)?;
            server.write_all(&answer)?;
            client.read_exact(&mut answer)?;
            Ok(answer)
        };
        match exchange() {
            Ok(answer) if answer == question => {}
            Ok(answer) => bail!("{answer:?} came back for {question:?}"),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                bail!("cut {last:?} after the beginning")
            }
            Err(error) => return Err(error.into()),
        }
        told.exchanges += 1;
        let now = start.elapsed();
        let silence = Silence { begin: last, end: now };
        if silence.length() > NOTICED {
            told.silences.push(silence);
        }
        last = now;
        thread::sleep(PAUSE);
    }
    Ok(told)
}

#[cfg(test)]
mod tests {
    use super::{super::LONGEST, *};

    fn silence(begin: u64, end: u64) -> Silence {
        Silence { begin: Duration::from_millis(begin), end: Duration::from_millis(end) }
    }

    #[test]
    fn what_the_machine_slept_is_taken_off() {
        // (what, the machine's silences, what is left of one from 100 to 500)
        let rows = [
            ("none", vec![], 400),
            ("all of it", vec![silence(0, 900)], 0),
            ("before and after", vec![silence(0, 90), silence(510, 600)], 400),
            ("at both ends", vec![silence(0, 150), silence(450, 600)], 300),
            ("within", vec![silence(200, 250), silence(300, 310)], 340),
        ];
        for (what, machine, left) in rows {
            assert_eq!(own(silence(100, 500), &machine), Duration::from_millis(left), "{what}");
        }
        assert!(Duration::from_millis(300) > LONGEST, "a silence of one retransmission is too long");
    }
}
