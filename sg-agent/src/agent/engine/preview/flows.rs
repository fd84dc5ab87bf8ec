//! What becomes of live flows: the flow table as it is now, judged by two images.

use std::collections::HashMap;

use sg_common::{
    addr::Addr,
    flow::FlowKey,
    tuple::{Direction, Protocol},
};

use super::{Coverages, Covered};
use crate::{
    agent::{
        cut::{self, Fate, Regime},
        engine::Engine,
        plan::Placement,
    },
    document,
    failure::Failure,
    image::Image,
    kernel::{self, FlowView, KernelError, Reader, Socket, links::Interface},
    policy::Side,
    view::{CutFlow, FlowChange},
};

/// Flows that an answer shows; beyond that they are counted.
const SHOWN: usize = 5;

/// The zone of an interface that is covered before and after.
struct Zone<'a> {
    name: &'a str,
    before: Regime<'a>,
    after: Regime<'a>,
}

impl Engine {
    /// What becomes of the flows that are live, and of this host's connections that need no entry.
    pub(super) fn flows(
        &self,
        before: &Coverages<'_>,
        after: &Coverages<'_>,
        placement: &Placement,
        interfaces: &[Interface],
        next: &Image,
    ) -> Result<FlowChange, Failure> {
        let failed = |error| Failure::kernel("read the flow table", &error);
        let Some(reader) = self.reader().map_err(failed)? else { return Ok(FlowChange::default()) };
        let (generation, _) = reader.state();
        let flows: Vec<FlowView> = reader.flows().collect();
        let mut change = FlowChange { live: flows.len() as u64, ..FlowChange::default() };
        if generation == 0 {
            return Ok(change);
        }
        let now = reader.image().map_err(failed)?;
        let zones = zones(before, after, &placement.given, &now, next);
        let entryless = entryless(&reader, before, interfaces)
            .map_err(|error| Failure::kernel("list open sockets", &error))?;
        change.live += entryless.len() as u64;
        if now.digest() == next.digest() {
            // The same image is no other generation: nobody is judged again.
            return Ok(change);
        }
        let keeps = reader.keeps_flows();
        let names = self.rule_names();
        let mut cut: Vec<CutFlow> = Vec::new();
        for flow in &flows {
            let Some(zone) = zones.get(&flow.key.zone()) else { continue };
            match cut::fate(flow, generation, keeps, &zone.before, &zone.after) {
                Fate::Same => {}
                Fate::Kept => change.kept += 1,
                Fate::Cut => {
                    let known = flow.rule.and_then(|number| names.get(&number));
                    let by_now = || names.get(&zone.before.rule(flow)?.0);
                    cut.push(cut_flow(&flow.key, zone.name, flow.opener, known.or_else(by_now)));
                }
            }
        }
        for (number, socket) in &entryless {
            let Some(zone) = zones.get(number) else { continue };
            if let Some(direction) = cut::lost(socket, &zone.before, &zone.after) {
                let rule = zone.before.socket_rule(socket, direction);
                let name = rule.and_then(|rule| names.get(&rule.0));
                cut.push(cut_flow(&key(*number, socket), zone.name, direction, name));
            }
        }
        change.cut = cut.len() as u64;
        cut.sort_unstable();
        cut.truncate(SHOWN);
        change.first = cut;
        Ok(change)
    }

    fn rule_names(&self) -> HashMap<u32, &str> {
        let record = self.in_force.as_ref().map(|in_force| &in_force.record);
        let rules = record.iter().flat_map(|record| &record.rules);
        rules.map(|rule| (rule.number, rule.rule.as_str())).collect()
    }
}

/// Connections of this host that pass by the rules alone: open sockets at its own interfaces that
/// have no entry in the flow table. Those of guests nobody knows.
fn entryless(
    reader: &Reader,
    before: &Coverages<'_>,
    interfaces: &[Interface],
) -> Result<Vec<(u32, Socket)>, KernelError> {
    let zone_of = |interface: &Interface| {
        let zone = before.get(&interface.ifindex)?.settings.zone;
        (zone.side == Side::Host.name()).then_some(zone.zone)
    };
    let own: HashMap<Addr, Option<u32>> = interfaces
        .iter()
        .flat_map(|interface| {
            let zone = zone_of(interface);
            interface.addresses.iter().map(move |address| (address.first(), zone))
        })
        .collect();
    if own.values().all(Option::is_none) {
        return Ok(Vec::new());
    }
    let of = |socket: Socket| {
        // A socket that talks to its own host does so over loopback.
        if own.contains_key(&socket.remote) {
            return None;
        }
        let zone = own.get(&socket.local).copied().flatten()?;
        reader.find_flow(&key(zone, &socket)).is_none().then_some((zone, socket))
    };
    Ok(kernel::sockets()?.into_iter().filter_map(of).collect())
}

fn key(zone: u32, socket: &Socket) -> FlowKey {
    let Socket { protocol, local, local_port, remote, remote_port, .. } = *socket;
    FlowKey::new(zone, protocol, local, local_port, remote, remote_port)
}

/// By number, the zones that stand for the same interface before and after. Flows of the others are
/// forgotten, or nobody asks for them any more.
fn zones<'a>(
    before: &'a Coverages<'_>,
    after: &'a Coverages<'_>,
    given: &[u32],
    now: &'a Image,
    next: &'a Image,
) -> HashMap<u32, Zone<'a>> {
    let pairs = before.iter().filter_map(|(ifindex, old)| Some((old, after.get(ifindex)?)));
    let zones = pairs.filter_map(|(old, new)| {
        let number = new.settings.zone.zone;
        if number != old.settings.zone.zone || given.contains(&number) {
            return None;
        }
        let regime = |image, of: &Covered<'_>| Regime {
            image,
            zone: number,
            is_audited: of.key.is_none(),
            is_reversed: of.settings.zone.side != old.settings.zone.side,
        };
        let (before, after) = (regime(now, old), regime(next, new));
        Some((number, Zone { name: &new.settings.zone.name, before, after }))
    });
    zones.collect()
}

fn cut_flow(key: &FlowKey, interface: &str, opener: Direction, rule: Option<&&str>) -> CutFlow {
    let protocol = key.protocol();
    // For others the key holds what is no port.
    let has_ports = protocol == Protocol::TCP || protocol == Protocol::UDP;
    let port = |port| if has_ports { port } else { 0 };
    let local = (key.local().to_string(), port(key.local_port()));
    let remote = (key.remote().to_string(), port(key.remote_port()));
    let ((source, source_port), (destination, destination_port)) = match opener {
        Direction::Inbound => (remote, local),
        Direction::Outbound => (local, remote),
    };
    CutFlow {
        interface: interface.to_owned(),
        direction: opener.name().to_owned(),
        protocol: document::protocol_name(protocol),
        source,
        source_port,
        destination,
        destination_port,
        rule: rule.map(|name| (*name).to_owned()),
    }
}
