//! Which live flows a change would end: every one is judged as the programs would at its next packet.
//!
//! See section 6 of `docs/semantics.md`, and `standing` in [`sg_common::decide`]. Pure: flows and images
//! come in as values.

use sg_common::{
    addr::Addr,
    flow::FlowState,
    image,
    tuple::{Direction, Protocol, Selector},
    verdict::RuleNumber,
};

use crate::{
    image::Image,
    kernel::{FlowView, Socket},
};

/// What flows of one zone are judged by.
#[derive(Clone, Copy)]
pub struct Regime<'a> {
    /// The image.
    pub image: &'a Image,
    /// The zone's number in it.
    pub zone: u32,
    /// Whether whatever is dropped passes all the same.
    pub is_audited: bool,
    /// Whether the side that is protected is another than the one that the flows were entered for.
    pub is_reversed: bool,
}

/// What becomes of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It lives on, or has ended already.
    Same,
    /// No rule admits it any more, and it lives on because flows are kept.
    Kept,
    /// Its next packet ends it.
    Cut,
}

/// What becomes of `flow`. `generation` is the one in force, and `keeps` whether flows keep the
/// verdict of the generation that admitted them.
#[must_use]
pub fn fate(flow: &FlowView, generation: u64, keeps: bool, before: &Regime<'_>, after: &Regime<'_>) -> Fate {
    let is_current = flow.generation == (generation & 0x00ff_ffff) as u32;
    if flow.state.is_revoked() || !(is_current || keeps) {
        // Judged at each packet, whatever the policy.
        return if before.passes(flow) && !after.passes(flow) { Fate::Cut } else { Fate::Same };
    }
    if after.passes(flow) {
        Fate::Same
    } else if keeps && !after.is_reversed {
        Fate::Kept
    } else {
        Fate::Cut
    }
}

/// The direction in which a connection that has no entry is not let through any more, if that ends
/// it. Its packets are judged by the rules of their own direction.
#[must_use]
pub fn lost(socket: &Socket, before: &Regime<'_>, after: &Regime<'_>) -> Option<Direction> {
    if !before.carries(socket) || after.carries(socket) {
        return None;
    }
    let is_lost = |direction: &Direction| {
        before.socket_rule(socket, *direction).is_some() && after.socket_rule(socket, *direction).is_none()
    };
    Some(Direction::ALL.into_iter().find(is_lost).unwrap_or(socket.opener))
}

/// Where ports begin that a connection's opener has, on this host and elsewhere.
const EPHEMERAL: u16 = 32_768;
const PRIVILEGED: u16 = 1024;

impl Regime<'_> {
    fn passes(&self, flow: &FlowView) -> bool {
        self.is_audited || self.rule(flow).is_some()
    }

    /// The rule that opens what the flow's first packet asked for. An image that cannot be read
    /// opens nothing.
    #[must_use]
    pub fn rule(&self, flow: &FlowView) -> Option<RuleNumber> {
        self.ask(flow.opener, flow.key.local(), flow.key.remote(), flow.selector)
    }

    /// The rule that opens a socket's packets of one direction.
    #[must_use]
    pub fn socket_rule(&self, socket: &Socket, direction: Direction) -> Option<RuleNumber> {
        let Socket { protocol, local, local_port, remote, remote_port, .. } = *socket;
        let value = match direction {
            Direction::Inbound => local_port,
            Direction::Outbound => remote_port,
        };
        let selector = Selector { table: image::table(local.family(), protocol.0), value };
        self.ask(direction, local, remote, selector)
    }

    /// Whether a connection gets through that has no entry: both directions are open, or one is and
    /// its next packet makes an entry, by which the other passes (`may_pick_up` in
    /// [`sg_common::decide`]).
    fn carries(&self, socket: &Socket) -> bool {
        let [inbound, outbound] =
            Direction::ALL.map(|direction| self.socket_rule(socket, direction).is_some());
        let makes_entry = |port: u16, lowest| socket.protocol != Protocol::TCP || port >= lowest;
        self.is_audited
            || inbound && (outbound || makes_entry(socket.remote_port, PRIVILEGED))
            || outbound && makes_entry(socket.local_port, EPHEMERAL)
    }

    /// The socket, opened by whom the rules let open it; `None` where that is nobody. A side that is only
    /// guessed to have opened it, because no socket listens on its port any more, may also have been the
    /// other, as far as the ports look like it (`may_pick_up` in [`sg_common::decide`]).
    #[must_use]
    pub fn admitted(&self, socket: &Socket) -> Option<Socket> {
        let is_open = |direction| self.socket_rule(socket, direction).is_some();
        let is_guessed = socket.opener == Direction::Outbound && socket.remote_port >= PRIVILEGED;
        if is_open(socket.opener) {
            Some(*socket)
        } else if is_guessed && is_open(Direction::Inbound) {
            let state = match socket.state {
                FlowState::FinOpener => FlowState::FinReplier,
                FlowState::FinReplier => FlowState::FinOpener,
                state => state,
            };
            Some(Socket { opener: Direction::Inbound, state, ..*socket })
        } else {
            None
        }
    }

    fn ask(&self, direction: Direction, local: Addr, remote: Addr, selector: Selector) -> Option<RuleNumber> {
        let (direction, remote) = match self.is_reversed {
            false => (direction, remote),
            true => (direction.reverse(), local),
        };
        let zone = image::zone(self.image, self.zone).ok()?;
        image::rule(self.image, zone, direction, remote, selector).ok()?.rule()
    }
}

#[cfg(test)]
mod tests {
    use sg_common::{
        flow::{FlowKey, FlowState},
        tuple::Table,
    };

    use super::*;
    use crate::{
        compile::{self, Input, RuleNumbers, Zone},
        document::{Limits, parse_str},
        policy::Membership,
    };

    fn image(inbound: &str) -> Image {
        image_of(&format!("inbound: [{inbound}], outbound: []"))
    }

    fn image_of(rules: &str) -> Image {
        let text =
            format!("version: 1\ngroups: {{g: {{{rules}}}}}\ninterfaces: [{{match: eth0, groups: [g]}}]\n");
        let policy = parse_str("p.yaml", &text, &Limits::default()).policy.unwrap();
        let zones = [None, Some(Zone::of(&policy, &policy.interfaces[0], &[], false))];
        let (members, numbers) = (Membership::written(&policy), RuleNumbers::in_order(&policy));
        let input = Input { policy: &policy, members: &members, zones: &zones, numbers: &numbers };
        compile::compile(&input, &compile::Limits::MAX).unwrap()
    }

    fn flow(generation: u32, state: FlowState) -> FlowView {
        let address = |text: &str| text.parse::<std::net::IpAddr>().unwrap().into();
        FlowView {
            key: FlowKey::new(1, Protocol::TCP, address("10.0.0.1"), 443, address("192.0.2.7"), 40_000),
            state,
            opener: Direction::Inbound,
            generation,
            rule: Some(0),
            selector: Selector { table: Table::Tcp, value: 443 },
            opened: 0,
            seen: 0,
            packets: [1, 1],
            bytes: [60, 60],
        }
    }

    #[test]
    fn a_flow_is_judged_as_its_next_packet_would_be() {
        const OLD: u32 = 3;
        const CURRENT: u32 = 4;
        let (open, shut) =
            (image("{allow: https, from: 192.0.2.0/24}"), image("{allow: http, from: anywhere}"));
        let regime = |image, is_audited| Regime { image, zone: 1, is_audited, is_reversed: false };
        let [enforced, closed] = [regime(&open, false), regime(&shut, false)];
        let [audited, watched] = [regime(&open, true), regime(&shut, true)];
        let reversed = Regime { is_reversed: true, ..enforced };
        let live = FlowState::Established;
        // (what, flow, keeps, before, after, fate)
        let rows = [
            ("its rule stays", flow(CURRENT, live), false, enforced, enforced, Fate::Same),
            ("its rule goes", flow(CURRENT, live), false, enforced, closed, Fate::Cut),
            ("flows are kept", flow(CURRENT, live), true, enforced, closed, Fate::Kept),
            ("nothing is carried out after", flow(CURRENT, live), false, enforced, watched, Fate::Same),
            ("older, and admitted now", flow(OLD, live), false, enforced, closed, Fate::Cut),
            ("older, and ended already", flow(OLD, live), false, closed, closed, Fate::Same),
            ("of now, though no rule admits it", flow(CURRENT, live), false, closed, closed, Fate::Cut),
            ("ended", flow(CURRENT, FlowState::RevokedTcp), false, closed, closed, Fate::Same),
            (
                "ended, and watched only",
                flow(CURRENT, FlowState::RevokedTcp),
                false,
                watched,
                closed,
                Fate::Cut,
            ),
            (
                "ended, and kept are others",
                flow(CURRENT, FlowState::RevokedTcp),
                true,
                watched,
                closed,
                Fate::Cut,
            ),
            ("watched, then enforced", flow(CURRENT, live), false, audited, enforced, Fate::Same),
            ("the other side is protected", flow(CURRENT, live), true, enforced, reversed, Fate::Cut),
        ];
        for (what, flow, keeps, before, after, expected) in rows {
            assert_eq!(fate(&flow, CURRENT.into(), keeps, &before, &after), expected, "{what}");
        }
        // The kernel keeps the low 24 bits of a generation.
        let far = u64::from(CURRENT) + (7 << 24);
        assert_eq!(fate(&flow(CURRENT, live), far, false, &closed, &closed), Fate::Cut);
        assert_eq!(fate(&flow(OLD, live), far, false, &closed, &closed), Fate::Same);
    }

    #[test]
    fn a_socket_is_admitted_as_opened_by_whom_the_rules_let_open_it() {
        use Direction::{Inbound, Outbound};
        use FlowState::{Established, FinOpener, FinReplier};
        let (https, out, nothing) =
            (image("{allow: https, from: anywhere}"), image_of("inbound: []"), image(""));
        // (what, image, opener as far as known, ports, state, who opened it and the state)
        let rows = [
            ("a server's", &https, Inbound, (443, 40_000), Established, Some((Inbound, Established))),
            (
                "whose listener is closed",
                &https,
                Outbound,
                (443, 40_000),
                FinOpener,
                Some((Inbound, FinReplier)),
            ),
            ("whose rule is gone", &nothing, Inbound, (443, 40_000), Established, None),
            ("whose rule is gone, with all outbound open", &out, Inbound, (443, 40_000), Established, None),
            ("a client's", &out, Outbound, (40_000, 443), FinOpener, Some((Outbound, FinOpener))),
            ("a client's whose rule is gone", &https, Outbound, (40_000, 443), Established, None),
            (
                "that has the server's port and a service's peer",
                &https,
                Outbound,
                (443, 22),
                Established,
                None,
            ),
        ];
        let address = |text: &str| text.parse::<std::net::IpAddr>().unwrap().into();
        for (what, image, opener, (local_port, remote_port), state, expected) in rows {
            let regime = Regime { image, zone: 1, is_audited: false, is_reversed: false };
            let (local, remote) = (address("10.0.0.1"), address("192.0.2.7"));
            let protocol = Protocol::TCP;
            let socket = Socket { protocol, local, local_port, remote, remote_port, state, opener };
            let found = regime.admitted(&socket).map(|socket| (socket.opener, socket.state));
            assert_eq!(found, expected, "{what}");
        }
    }

    #[test]
    fn a_connection_without_an_entry_ends_where_neither_direction_carries_it() {
        let address = |text: &str| text.parse::<std::net::IpAddr>().unwrap().into();
        let socket = |local_port, remote_port| Socket {
            protocol: Protocol::TCP,
            local: address("10.0.0.1"),
            local_port,
            remote: address("192.0.2.7"),
            remote_port,
            state: FlowState::Established,
            opener: Direction::Outbound,
        };
        let open = image("{allow: all, from: anywhere}");
        let (https, nothing) = (image("{allow: https, from: anywhere}"), image(""));
        let out = image_of("inbound: []");
        let regime = |image| Regime { image, zone: 1, is_audited: false, is_reversed: false };
        let [open, https, nothing, out] = [&open, &https, &nothing, &out].map(regime);
        let audited = Regime { is_audited: true, ..nothing };
        let (server, client) = (socket(443, 40_000), socket(40_000, 443));
        // (what, socket, before, after, direction lost)
        let rows = [
            ("nothing is left", server, https, nothing, Some(Direction::Inbound)),
            ("it was not let through before", server, nothing, nothing, None),
            ("the rule stays", server, open, https, None),
            ("answers alone", server, https, out, Some(Direction::Inbound)),
            ("the instance opened it, and may", client, open, out, None),
            ("the instance opened it, and may not", client, out, nothing, Some(Direction::Outbound)),
            ("from a privileged port, by nobody's answer", socket(443, 22), https, https, None),
            ("watched, then enforced", server, audited, nothing, Some(Direction::Outbound)),
            ("watched from now on", server, https, audited, None),
        ];
        for (what, socket, before, after, direction) in rows {
            assert_eq!(lost(&socket, &before, &after), direction, "{what}");
        }
    }
}
