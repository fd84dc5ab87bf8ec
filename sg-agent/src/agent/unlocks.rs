//! Watches what is open past the policy, which `unlock` writes without asking the daemon: what is new and
//! what is over is logged, whenever the daemon looks whether all is as it was left.

use jiff::Timestamp;
use tracing::{info, warn};

use super::engine::Engine;
use crate::{kernel::Unlocked, view::UnlockedPort};

/// What was open at the latest look.
#[derive(Default)]
pub(super) struct Unlocks {
    known: Vec<Unlocked>,
}

impl Unlocks {
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
        self.known = now;
    }
}
