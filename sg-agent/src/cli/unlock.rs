//! `unlock`: for an operator who is locked out. It opens one port to one address for a time, or ends
//! all enforcement, and needs neither the daemon nor a state folder nor a policy that can be read.
//!
//! What it did is told at once where it can be: on the terminal and in the kernel's log; the daemon,
//! where one runs, is asked to look and logs it too.

use std::{fs, io::Write as _, net::IpAddr, str::FromStr, time::Duration};

use clap::{ArgGroup, Args};
use jiff::Timestamp;
use sg_common::{addr::Addr, tuple::Protocol};

use super::{Error, Global, duration::duration, operator, tell};
use crate::{
    agent::{engine::detached, nothing_enforced},
    control::client::Client,
    failure::{Exit, Failure},
    kernel::{self, Unlocked},
    state::UnlockRecord,
    view::{Detached, UnlockedPort, Unlocking, timestamp},
};

/// How long a daemon that hangs is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// The kernel's log.
const LOG: &str = "/dev/kmsg";

/// Words of `unlock`.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("what").required(true)))]
pub struct Arguments {
    /// Open this port of the protected side past the policy
    #[arg(long, value_name = "tcp/PORT|udp/PORT", group = "what", requires = "address")]
    port: Option<Port>,
    /// The one address that it is open to
    #[arg(long, value_name = "IP", requires = "port")]
    address: Option<IpAddr>,
    /// For how long (60s, 5m, 24h)
    #[arg(long = "for", value_name = "TIME", default_value = "10m", value_parser = duration, requires = "port")]
    time: Duration,
    /// On this interface only
    #[arg(long, value_name = "IF", requires = "port")]
    interface: Option<String>,
    /// Close at once everything that is open past the policy
    #[arg(long, group = "what")]
    end: bool,
    /// End all enforcement, whatever state things are in
    #[arg(long, group = "what")]
    all: bool,
}

/// A protocol and a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Port {
    protocol: Protocol,
    port: u16,
}

impl FromStr for Port {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no port: tcp/22 or udp/53 is expected");
        let (protocol, port) = text.split_once('/').ok_or_else(wrong)?;
        let protocol = match protocol {
            "tcp" => Protocol::TCP,
            "udp" => Protocol::UDP,
            _ => return Err(wrong()),
        };
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?;
        Ok(Self { protocol, port })
    }
}

pub(super) fn run(global: &Global, arguments: Arguments) -> Result<Exit, Error> {
    let what = "unlock";
    if !super::is_root() {
        return Err(Failure::needs_root(what).into());
    }
    let author = operator::author();
    let Arguments { port, address, time, interface, end: _, all } = arguments;
    if all {
        let detached = everything(global, &author)?;
        remember(global, UnlockRecord { what: "all".to_owned(), author, ..UnlockRecord::default() });
        global.print(&detached)?;
        return Ok(Exit::Done);
    }
    let paths = global.paths();
    let answer = match (port, address) {
        (Some(Port { protocol, port }), Some(address)) => {
            let wanted = Unlocked { protocol, port, remote: Addr::from(address), interface, left: time };
            let is_done = kernel::unlock(&paths, &wanted).map_err(|error| Failure::kernel(what, &error))?;
            if !is_done {
                return Err(nothing_enforced(what)
                    .with_remedy(
                        "if another version of the agent enforces, `sg-agent unlock --all` ends that",
                    )
                    .into());
            }
            let shown = UnlockedPort::of(&wanted, Timestamp::now());
            log(&format!("unlocked {shown} by {author}"));
            let UnlockedPort { service, address, interface, .. } = shown.clone();
            remember(
                global,
                UnlockRecord {
                    what: "unlock".to_owned(),
                    author,
                    service: Some(service),
                    address: Some(address),
                    interface,
                    seconds: Some(time.as_secs()),
                    ..UnlockRecord::default()
                },
            );
            Unlocking { unlocked: vec![shown], ended: 0 }
        }
        _ => {
            let ended = kernel::end_unlocks(&paths).map_err(|error| Failure::kernel(what, &error))?;
            log(&format!("closed what was unlocked ({ended}) by {author}"));
            remember(global, UnlockRecord { what: "end".to_owned(), author, ..UnlockRecord::default() });
            Unlocking { unlocked: Vec::new(), ended: ended as u64 }
        }
    };
    // Whoever asks the daemon anything has it look.
    let _ = Client::new(&global.socket).with_patience(PATIENCE).status();
    global.print(&answer)?;
    Ok(Exit::Done)
}

/// Ends all enforcement: by the daemon, so that it does not attach again, and then by hand whatever
/// it says.
fn everything(global: &Global, author: &str) -> Result<Detached, Failure> {
    let what = "end all enforcement";
    let by_daemon = Client::new(&global.socket).with_patience(PATIENCE).detach(None);
    // A policy on trial has nothing to return to; where the folder is damaged, nothing reads it either.
    if let Ok(store) = global.store().lock() {
        let _ = store.end_trial();
    }
    let by_hand = detached(kernel::detach_all(&global.paths()), what, true);
    log(&format!("ended all enforcement by {author}"));
    match by_daemon {
        Ok(ended) => {
            let interfaces = [ended.interfaces, by_hand?.interfaces].concat();
            return Ok(Detached { interfaces, all: true });
        }
        Err(failure) if failure.exit == Exit::NotRunning => {}
        Err(failure) => {
            tell(&format!("the agent was not told, and may attach again: {failure}"));
            tell("end it with `systemctl stop sg-agent`");
        }
    }
    by_hand
}

/// Tells the terminal and, where it can be written, the kernel's log at the level of a warning, with the
/// time added here: an open port is nothing to be missed.
fn log(line: &str) {
    tell(line);
    let logged = fs::OpenOptions::new().write(true).open(LOG).and_then(|mut log| {
        let entry = format!("<4>sg-agent: {line} at {}\n", timestamp(Timestamp::now()));
        log.write_all(entry.as_bytes())
    });
    if let Err(error) = logged {
        tell(&format!("the kernel's log does not tell of it: {LOG}: {error}"));
    }
}

/// Keeps it for `history`, where the state folder takes it: what was done is done.
fn remember(global: &Global, record: UnlockRecord) {
    let record = UnlockRecord { time: timestamp(Timestamp::now()), ..record };
    if let Err(error) = global.store().note_unlock(&record, std::process::id()) {
        tell(&format!("`history` does not tell of it: {error}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_has_a_protocol() {
        assert_eq!("tcp/22".parse(), Ok(Port { protocol: Protocol::TCP, port: 22 }));
        assert_eq!("udp/65535".parse(), Ok(Port { protocol: Protocol::UDP, port: 65_535 }));
        for wrong in ["22", "tcp", "tcp/0", "tcp/65536", "icmp/8", "tcp/22-23", "tcp/ssh", ""] {
            assert!(wrong.parse::<Port>().is_err(), "{wrong}");
        }
    }
}
