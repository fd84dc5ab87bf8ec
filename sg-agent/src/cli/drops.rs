//! `drops`: what is dropped, as it happens.

use std::{collections::HashMap, time::Duration};

use clap::{Args, builder::PossibleValuesParser};
use jiff::{SignedDuration, Timestamp};
use sg_common::{
    abi::DropEvent,
    tuple::{Direction, Protocol},
    verdict::DropReason,
};
use tokio::time::{Instant, timeout_at};

use super::{Error, Global};
use crate::{
    document,
    enforced::Enforced,
    failure::{Exit, Failure},
    view::Drop,
};

/// Words of `drops`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Go on until interrupted; without it, listen for a second
    #[arg(long)]
    follow: bool,
    /// One interface only
    #[arg(long, value_name = "IF")]
    interface: Option<String>,
    /// One reason only
    #[arg(long, value_name = "REASON",
        value_parser = PossibleValuesParser::new(DropReason::ALL.map(DropReason::name)))]
    reason: Option<String>,
}

const WHAT: &str = "report drops";

pub(super) fn run(global: &Global, arguments: &Arguments) -> Result<Exit, Error> {
    let enforced = global.enforced(WHAT)?;
    if let Some(name) = &arguments.interface {
        enforced.attachment(name)?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::io(WHAT, &error))?;
    runtime.block_on(follow(global, arguments, &enforced))
}

async fn follow(global: &Global, arguments: &Arguments, enforced: &Enforced) -> Result<Exit, Error> {
    let failed = |error| Failure::kernel(WHAT, &error);
    let mut events = enforced.reader().events().map_err(failed)?;
    let mut names = Names { enforced, known: HashMap::new() };
    let end = Instant::now() + Duration::from_secs(1);
    loop {
        let event = if arguments.follow {
            events.next().await.map_err(failed)?
        } else {
            match timeout_at(end, events.next()).await {
                Ok(event) => event.map_err(failed)?,
                Err(_) => return Ok(Exit::Done),
            }
        };
        let drop = view(&event, names.of(event.ifindex));
        let is_asked =
            |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|wanted| wanted == found);
        if is_asked(&arguments.interface, &drop.interface) && is_asked(&arguments.reason, &drop.reason) {
            global.print_next(&drop)?;
        }
    }
}

/// Names of interfaces by index, asked for once each.
struct Names<'a> {
    enforced: &'a Enforced,
    known: HashMap<u32, String>,
}

impl Names<'_> {
    fn of(&mut self, ifindex: u32) -> String {
        if !self.known.contains_key(&ifindex) {
            let attachments = self.enforced.attachments().unwrap_or_default();
            self.known.extend(attachments.into_iter().map(|found| (found.attached.ifindex, found.name)));
        }
        self.known.entry(ifindex).or_insert_with(|| format!("index {ifindex}")).clone()
    }
}

fn view(event: &DropEvent, interface: String) -> Drop {
    let is_parsed = event.protocol != UNPARSED;
    let port = |port: u16| match Protocol(event.protocol) {
        Protocol::TCP | Protocol::UDP => port,
        _ => 0,
    };
    Drop {
        time: time(event.time),
        interface,
        direction: match event.direction {
            1 => Direction::Outbound.name(),
            _ => Direction::Inbound.name(),
        }
        .to_owned(),
        protocol: is_parsed.then(|| document::protocol_name(Protocol(event.protocol))),
        source: is_parsed.then(|| event.source.to_string()),
        source_port: port(event.source_port),
        destination: is_parsed.then(|| event.destination.to_string()),
        destination_port: port(event.destination_port),
        reason: DropReason::from_number(event.reason)
            .map_or_else(|| event.reason.to_string(), |reason| reason.name().to_owned()),
        length: event.length,
        audited: event.audited != 0,
    }
}

/// What an event has for a protocol when its packet could not be parsed.
const UNPARSED: u8 = 255;

/// The time of day at a moment of the monotonic clock, in nanoseconds.
fn time(moment: u64) -> String {
    let now = Timestamp::now();
    let since = crate::kernel::monotonic_nanos().saturating_sub(moment);
    let since = SignedDuration::from_nanos(i64::try_from(since).unwrap_or(i64::MAX));
    let time = now.checked_sub(since).unwrap_or(now);
    Timestamp::from_millisecond(time.as_millisecond()).unwrap_or(time).to_string()
}

#[cfg(test)]
mod tests {
    use sg_common::addr::Addr;

    use super::*;

    #[test]
    fn an_event_reads_as_promised() {
        let event = DropEvent {
            time: crate::kernel::monotonic_nanos(),
            source: Addr::v4(0xcb00_7109),
            destination: Addr::v4(0x0a00_0105),
            ifindex: 4,
            length: 60,
            source_port: 40_000,
            destination_port: 22,
            protocol: 6,
            direction: 0,
            reason: DropReason::NoRule.number(),
            audited: 0,
        };
        let shown = serde_json::to_value(view(&event, "eth0".to_owned())).unwrap();
        let mut shown = shown.as_object().unwrap().clone();
        let time: Timestamp = shown.remove("time").unwrap().as_str().unwrap().parse().unwrap();
        assert!(Timestamp::now().duration_since(time).as_secs() < 60);
        assert_eq!(
            serde_json::Value::Object(shown),
            serde_json::json!({
                "interface": "eth0", "direction": "inbound", "protocol": "tcp",
                "source": "203.0.113.9", "source_port": 40000,
                "destination": "10.0.1.5", "destination_port": 22,
                "reason": "no_rule", "length": 60, "audited": false,
            })
        );
        let unparsed = view(&DropEvent { protocol: UNPARSED, ..event }, "eth0".to_owned());
        assert_eq!((unparsed.protocol, unparsed.source), (None, None));
    }
}
