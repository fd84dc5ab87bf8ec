//! Tells systemd how things are. Without systemd nothing happens.

use std::time::Duration;

use sd_notify::NotifyState;
use tracing::debug;

fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        debug!("systemd was not told: {error}");
    }
}

pub(super) fn ready(summary: &str) {
    send(&[NotifyState::Ready, NotifyState::Status(summary)]);
}

pub(super) fn status(summary: &str) {
    send(&[NotifyState::Status(summary)]);
}

pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => send(&[NotifyState::Reloading, now]),
        Err(error) => debug!("systemd was not told: {error}"),
    }
}

pub(super) fn stopping() {
    send(&[NotifyState::Stopping]);
}

/// Says that the event loop turns, twice in each interval that systemd asks for. The task shares
/// the loop's thread, so that it is silent when the loop hangs.
pub(super) fn watchdog() {
    let Some(interval) = sd_notify::watchdog_enabled() else { return };
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval((interval / 2).max(Duration::from_millis(1)));
        loop {
            ticks.tick().await;
            send(&[NotifyState::Watchdog]);
        }
    });
}
