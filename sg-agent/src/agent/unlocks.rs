//! Watches what is open past the policy, which `unlock` writes without asking the daemon: what is new and
//! what is over is logged, at whatever else happens and when the first of it ends.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;
use tracing::{info, warn};

use super::engine::Engine;
use crate::{kernel::Unlocked, view::UnlockedPort};

/// How long after the end of what is open it is looked whether it has ended.
const MOMENT: Duration = Duration::from_millis(100);

/// What was open at the latest look.
#[derive(Default)]
pub(super) struct Unlocks {
    known: Vec<Unlocked>,
    ends: Option<Instant>,
}

impl Unlocks {
    /// When to look again, if nothing else happens before.
    pub(super) const fn next(&self) -> Option<Instant> {
        self.ends
    }

    /// Looks, and logs what has changed.
    pub(super) fn look(&mut self, engine: &Engine) {
        let now = match engine.unlocked() {
            Ok(unlocked) => unlocked,
            Err(error) => return warn!("what is unlocked cannot be told: {error}"),
        };
        let is_same = |a: &Unlocked, b: &Unlocked| Unlocked { left: b.left, ..a.clone() } == *b;
        for opened in now.iter().filter(|one| !self.known.iter().any(|known| is_same(known, one))) {
            warn!("unlocked: {}", UnlockedPort::of(opened, Timestamp::now()));
        }
        for closed in self.known.iter().filter(|known| !now.iter().any(|one| is_same(known, one))) {
            let UnlockedPort { service, address, .. } = UnlockedPort::of(closed, Timestamp::now());
            info!("not unlocked any more: {service} for {address}");
        }
        let first = now.iter().map(|one| one.left).min();
        self.ends = first.map(|left| Instant::now() + left + MOMENT);
        self.known = now;
    }
}
