//! Labs that tests with the same policy use one after the other: to start an agent takes longer than
//! most tests do.

use std::{
    ops::Deref,
    sync::{LazyLock, Mutex, PoisonError, mpsc},
    thread,
};

use anyhow::{Context as _, Result};
use sg_tests::lab::Setup;

use crate::range::{RULES, Range};

static IDLE: Mutex<Vec<(&'static str, Range)>> = Mutex::new(Vec::new());

type Job = Box<dyn FnOnce() + Send>;

/// The thread that starts agents: they end with the thread that started them.
static STARTER: LazyLock<Mutex<mpsc::Sender<Job>>> = LazyLock::new(|| {
    let (sender, jobs) = mpsc::channel::<Job>();
    thread::spawn(move || jobs.into_iter().for_each(|job| job()));
    Mutex::new(sender)
});

/// Timeouts of one second: what counted as the end of a flow would be gone when it is looked for.
pub(crate) const QUICK: &str = "[timeouts]\ntcp_closing = 1\ntcp_opening = 1\n";

/// No setting at all. Labs in which the kernel's own sockets speak are kept apart from those in which every
/// packet is the test's.
const KERNEL: &str = "# the kernel's own sockets\n";

/// A lab with [`RULES`], which goes back when the test is done with it.
pub(crate) struct Pooled {
    range: Option<Range>,
    settings: &'static str,
}

impl Range {
    /// With [`RULES`]. Others may have used it: flows of theirs may live.
    pub(crate) fn open(setup: Setup) -> Result<Pooled> {
        Self::pooled(setup, "")
    }

    /// With rules and keys for one test; afterwards it has [`RULES`] again.
    pub(crate) fn open_with(setup: Setup, rules: &str, keys: &str) -> Result<Pooled> {
        let pooled = Self::open(setup)?;
        pooled.apply(rules, keys)?;
        Ok(pooled)
    }

    /// With these rules for the kernel's own sockets and addresses.
    pub(crate) fn of_kernels(setup: Setup, rules: &str) -> Result<Pooled> {
        let pooled = Self::pooled(setup, KERNEL)?;
        let own = if setup == Setup::Guest { ", addresses: [10.88.0.2, \"fd88::2\"]" } else { "" };
        pooled.apply(rules, own)?;
        Ok(pooled)
    }

    /// With [`RULES`] and these settings of the agent.
    pub(crate) fn pooled(setup: Setup, settings: &'static str) -> Result<Pooled> {
        let mut idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner);
        let place = idle.iter().position(|(with, range)| range.setup == setup && *with == settings);
        if let Some(place) = place {
            let (_, range) = idle.remove(place);
            drop(idle);
            range.forget()?;
            return Ok(Pooled { range: Some(range), settings });
        }
        drop(idle);
        let (sender, made) = mpsc::channel();
        let start = move || drop(sender.send(Self::with(setup, RULES, "", settings)));
        let starter = STARTER.lock().unwrap_or_else(PoisonError::into_inner);
        starter.send(Box::new(start)).ok().context("the thread that starts agents is gone")?;
        drop(starter);
        let range = made.recv().context("no lab was made")??;
        Ok(Pooled { range: Some(range), settings })
    }
}

impl Deref for Pooled {
    type Target = Range;

    fn deref(&self) -> &Range {
        self.range.as_ref().unwrap_or_else(|| unreachable!("taken only when dropped"))
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        // What a test leaves in another state than it found it in is of no use to others.
        if let Some(range) = self.range.take().filter(|range| !thread::panicking() && range.restore().is_ok())
        {
            IDLE.lock().unwrap_or_else(PoisonError::into_inner).push((self.settings, range));
        }
    }
}
