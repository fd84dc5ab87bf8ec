//! Where events come from, besides requests: signals, and changes of interfaces.

use std::{thread, time::Duration};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc::Sender,
    time::sleep,
};
use tracing::warn;

use super::Event;
use crate::{failure::Failure, kernel::links::Watcher};

/// What comes within this time of a change is told with it: an interface that is made has several
/// messages. No longer, for until it is covered everything passes; and whatever comes while the
/// agent is at work is told at once after that. The runtime's timers count whole milliseconds, so it is
/// waited for by the thread itself.
const DEBOUNCE: Duration = Duration::from_micros(250);

/// How long to wait before netlink is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// Turns SIGTERM, SIGINT and SIGHUP into events.
pub(super) fn signals(events: &Sender<Event>) -> Result<(), Failure> {
    let kinds: [(SignalKind, fn() -> Event); 3] = [
        (SignalKind::terminate(), || Event::Shutdown),
        (SignalKind::interrupt(), || Event::Shutdown),
        (SignalKind::hangup(), || Event::Reload(None)),
    ];
    for (kind, event) in kinds {
        let mut signal = signal(kind).map_err(|error| Failure::io("catch signals", &error))?;
        let events = events.clone();
        tokio::spawn(async move {
            while signal.recv().await.is_some() {
                if events.send(event()).await.is_err() {
                    return;
                }
            }
        });
    }
    Ok(())
}

/// Turns changes of interfaces and addresses into events.
pub(super) fn interfaces(events: &Sender<Event>) -> Result<(), Failure> {
    let open = || Watcher::open().map_err(|error| Failure::kernel("watch interfaces", &error));
    let mut watcher = open()?;
    let events = events.clone();
    tokio::spawn(async move {
        loop {
            let changed = watcher.changed().await;
            thread::sleep(DEBOUNCE);
            if let Err(error) = changed {
                warn!("interfaces are watched anew: {error}");
                sleep(AGAIN).await;
                match open() {
                    Ok(new) => watcher = new,
                    Err(error) => {
                        warn!("{error}");
                        continue;
                    }
                }
            }
            if events.send(Event::InterfacesChanged).await.is_err() {
                return;
            }
        }
    });
    Ok(())
}
