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

static IDLE: Mutex<Vec<Range>> = Mutex::new(Vec::new());

type Job = Box<dyn FnOnce() + Send>;

/// The thread that starts agents: they end with the thread that started them.
static STARTER: LazyLock<Mutex<mpsc::Sender<Job>>> = LazyLock::new(|| {
    let (sender, jobs) = mpsc::channel::<Job>();
    thread::spawn(move || jobs.into_iter().for_each(|job| job()));
    Mutex::new(sender)
});

/// A lab with [`RULES`], which goes back when the test is done with it.
pub(crate) struct Pooled(Option<Range>);

impl Range {
    /// With [`RULES`]. Others may have used it: flows of theirs may live.
    pub(crate) fn open(setup: Setup) -> Result<Pooled> {
        let mut idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner);
        let place = idle.iter().position(|range| range.setup == setup);
        if let Some(place) = place {
            let range = idle.remove(place);
            drop(idle);
            range.forget()?;
            return Ok(Pooled(Some(range)));
        }
        drop(idle);
        let (sender, made) = mpsc::channel();
        let start = move || drop(sender.send(Self::with(setup, RULES, "", "")));
        let starter = STARTER.lock().unwrap_or_else(PoisonError::into_inner);
        starter.send(Box::new(start)).ok().context("the thread that starts agents is gone")?;
        drop(starter);
        Ok(Pooled(Some(made.recv().context("no lab was made")??)))
    }
}

impl Deref for Pooled {
    type Target = Range;

    fn deref(&self) -> &Range {
        self.0.as_ref().unwrap_or_else(|| unreachable!("taken only when dropped"))
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        if let Some(range) = self.0.take().filter(|range| !range.is_changed() && !thread::panicking()) {
            IDLE.lock().unwrap_or_else(PoisonError::into_inner).push(range);
        }
    }
}
