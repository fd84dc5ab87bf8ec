//! Never open, never cut: what is watched while an agent is changed, killed and damaged.
//!
//! A [`Vigil`] keeps two things going over one arena. Packets that no rule allows are sent without a
//! pause, and whatever of them arrives is seen; sessions that are allowed talk without a pause, and the
//! longest silence of each is measured. What happens to the agent meanwhile is the caller's business.

mod denied;
mod sessions;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, ensure};

use self::{denied::Denied, sessions::Sessions};
use crate::{counters::Counters, lab::Arena};

/// What the rules of a policy have to be for a vigil: these, and any that allow none of the denied.
pub const INBOUND: &str = "{allow: tcp/443, from: [PEER]}";
/// As [`INBOUND`], for the other direction.
pub const OUTBOUND: &str = "{allow: tcp/8443, to: [PEER]}";
/// The longest silence of a session that was not cut.
pub const LONGEST: Duration = Duration::from_millis(200);
/// The fewest denied packets a second, of each direction.
pub const LOWEST_RATE: f64 = 1000.0;

/// Tells the threads of a vigil to end.
#[derive(Clone, Debug, Default)]
struct Stop(Arc<AtomicBool>);

impl Stop {
    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Something that runs until it is told to end.
type Watcher<T> = JoinHandle<Result<T>>;

fn joined<T>(watcher: Watcher<T>) -> Result<T> {
    watcher.join().map_err(|_| anyhow!("a watcher panicked"))?
}

/// What was seen in all.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Denied packets that were sent, inbound and outbound.
    pub sent: [u64; 2],
    /// Denied packets that arrived, and when the first and the last did, from the beginning.
    pub arrived: Vec<Duration>,
    /// The longest silence of each session, and when it began.
    pub silences: Vec<(&'static str, Duration, Duration)>,
    /// Exchanges of all sessions.
    pub exchanges: u64,
    /// How long it was watched.
    pub lasted: Duration,
}

/// A watched arena.
#[derive(Debug)]
pub struct Vigil {
    start: Instant,
    stop: Stop,
    before: Counters,
    denied: Denied,
    sessions: Sessions,
}

impl Vigil {
    /// Opens the sessions and begins to send.
    ///
    /// # Errors
    /// A session is not let through, or a socket cannot be opened.
    pub fn begin(arena: &Arena) -> Result<Self> {
        let (start, stop) = (Instant::now(), Stop::default());
        let sessions = Sessions::open(arena, start, &stop)?;
        let before = arena.counters()?;
        let denied = Denied::send(arena, start, &stop)?;
        Ok(Self { start, stop, before, denied, sessions })
    }

    /// Fails at once where a denied packet has arrived or a session has ended.
    ///
    /// # Errors
    /// That is so.
    pub fn look(&self) -> Result<()> {
        let arrived = self.denied.arrived();
        ensure!(
            arrived.is_empty(),
            "{} denied packets arrived, the first after {:?}",
            arrived.len(),
            arrived[0]
        );
        ensure!(self.sessions.are_running(), "a session has ended");
        Ok(())
    }

    /// How many denied packets have arrived so far, for faults that take enforcement away for a moment.
    #[must_use]
    pub fn arrived(&self) -> Vec<Duration> {
        self.denied.arrived()
    }

    /// How long it is watched by now.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Ends it and tells what was seen.
    ///
    /// # Errors
    /// A session was cut, or the kernel failed a watcher.
    pub fn end(self) -> Result<Seen> {
        self.stop.0.store(true, Ordering::Relaxed);
        let lasted = self.start.elapsed();
        let (sent, arrived) = self.denied.end()?;
        let (silences, exchanges) = self.sessions.end()?;
        Ok(Seen { sent, arrived, silences, exchanges, lasted })
    }

    /// Ends it, and holds it to what it stands for: each denied packet was judged, counted and
    /// dropped; no session was silent for long; and the senders did send.
    ///
    /// # Errors
    /// One of these is not so.
    pub fn expect_peace(self, arena: &Arena) -> Result<Seen> {
        let before = self.before.clone();
        let seen = self.end()?;
        seen.expect_rate()?;
        ensure!(seen.arrived.is_empty(), "denied packets arrived at {:?}", seen.arrived);
        seen.expect_no_silence()?;
        let moved = arena.counters()?.since(&before)?;
        for (direction, sent) in ["inbound", "outbound"].into_iter().zip(seen.sent) {
            let dropped = moved.of(crate::lab::arena::INTERFACE, direction, "no_rule");
            ensure!(
                dropped == sent,
                "{direction}: {sent} denied packets were sent, {dropped} counted: {moved:?}"
            );
        }
        Ok(seen)
    }
}

impl Seen {
    /// Whether the senders sent as much as they should: what nobody sends does not arrive either.
    ///
    /// # Errors
    /// They did not.
    pub fn expect_rate(&self) -> Result<()> {
        for (direction, sent) in ["inbound", "outbound"].into_iter().zip(self.sent) {
            let rate = sent as f64 / self.lasted.as_secs_f64();
            ensure!(rate >= LOWEST_RATE, "{rate:.0} denied packets a second {direction}, too few to tell");
        }
        Ok(())
    }

    /// Whether no session was silent for longer than [`LONGEST`].
    ///
    /// # Errors
    /// One was.
    pub fn expect_no_silence(&self) -> Result<()> {
        self.expect_no_silence_over(LONGEST)
    }

    /// Whether no session was silent for longer than `longest`.
    ///
    /// # Errors
    /// One was.
    pub fn expect_no_silence_over(&self, longest: Duration) -> Result<()> {
        for (name, begin, length) in &self.silences {
            ensure!(*length <= longest, "the session {name} was silent for {length:?}, from {begin:?} on");
        }
        Ok(())
    }
}

/// Starts a watcher's thread under a name.
fn spawn<T: Send + 'static>(
    name: &str,
    watch: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<Watcher<T>> {
    thread::Builder::new().name(name.to_owned()).spawn(watch).context("start a watcher")
}
