//! Two ends with a box between them that forwards, and whoever judges there.
//!
//! The ends have no addresses: nothing answers or speaks but the frames that are sent by hand. The
//! protected instance sits behind the box's `inside`.

use std::{io::Write as _, process::Stdio, time::Duration};

use anyhow::{Context as _, Result, bail};
use sg_common::tuple::Direction;

use crate::{
    lab::{
        Agent, Namespace,
        wire::{self, End},
    },
    packet::{Mac, Packet, PacketSocket, Udp},
};

/// The box's interfaces.
pub const OUTSIDE: &str = "out0";
/// Where the instance sits.
pub const INSIDE: &str = "in0";

const BOX_OUTSIDE: Mac = Mac::local(1);
const FAR: Mac = Mac::local(2);
const BOX_INSIDE: Mac = Mac::local(3);
const INSTANCE: Mac = Mac::local(4);

/// Addresses of the markers that tell when a probe has been decided: outside, then inside. Both
/// policies let them pass.
pub const MARKERS: [&str; 2] = ["192.0.2.250", "10.77.255.250"];
const MARKER_PORT: u16 = 9;

/// How long a marker may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Who judges on the box.
#[derive(Debug)]
pub enum Judge {
    /// The product.
    Agent(Box<Agent>),
    /// `nft` with connection tracking.
    Nftables,
}

/// The wires, the box and its judge.
#[derive(Debug)]
pub struct Crossing {
    /// Declared first: it ends before the namespaces go.
    judge: Judge,
    forwarder: Namespace,
    far: PacketSocket,
    instance: PacketSocket,
    /// Held for the sockets' interfaces.
    _ends: [Namespace; 2],
}

impl Crossing {
    /// The network; the agent runs with a policy that allows nothing.
    ///
    /// # Errors
    /// The network cannot be made, or the agent does not start.
    pub fn new(with_agent: bool) -> Result<Self> {
        let forwarder = Namespace::machine("forwarder")?;
        let [far, instance] = [Namespace::new("far")?, Namespace::new("instance")?];
        for (inside, mac, address, end, far_mac) in [
            (OUTSIDE, BOX_OUTSIDE, ["10.99.0.1/24", "fd99::1/64"], &far, FAR),
            (INSIDE, BOX_INSIDE, ["10.98.0.1/24", "fd98::1/64"], &instance, INSTANCE),
        ] {
            wire::join(
                &End { namespace: &forwarder, interface: inside, mac, addresses: &address },
                &End { namespace: end, interface: "end0", mac: far_mac, addresses: &[] },
            )?;
        }
        forwarder.forward()?;
        for (interface, mac, neighbours) in
            [(OUTSIDE, FAR, ["10.99.0.2", "fd99::2"]), (INSIDE, INSTANCE, ["10.98.0.2", "fd98::2"])]
        {
            for address in neighbours {
                wire::neighbour(&forwarder, interface, address.parse()?, mac)?;
            }
        }
        forwarder.ip(&[
            "route add default via 10.99.0.2",
            "route add default via fd99::2",
            "route add 10.77.0.0/16 via 10.98.0.2",
            "route add fd77::/16 via fd98::2",
        ])?;
        let judge =
            if with_agent { Judge::Agent(Box::new(Agent::new(&forwarder)?)) } else { Judge::Nftables };
        let sockets = (PacketSocket::open(&far, "end0")?, PacketSocket::open(&instance, "end0")?);
        Ok(Self { judge, forwarder, far: sockets.0, instance: sockets.1, _ends: [far, instance] })
    }

    /// Puts a policy in force: the document, or the same as a ruleset.
    ///
    /// # Errors
    /// The judge does not take it.
    pub fn enforce(&mut self, document: &str, ruleset: &str, is_first: bool) -> Result<()> {
        match &mut self.judge {
            Judge::Agent(agent) if is_first => agent.start_with(document),
            Judge::Agent(agent) => agent.apply(document).map(drop),
            Judge::Nftables => {
                let flushed = format!("flush ruleset\n{ruleset}");
                self.nft(&flushed).with_context(|| format!("the ruleset:\n{ruleset}"))
            }
        }
    }

    fn nft(&self, commands: &str) -> Result<()> {
        let mut child = self
            .forwarder
            .command("nft")
            .args(["-f", "-"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("run nft (Debian: nftables)")?;
        child.stdin.take().context("nft has no input")?.write_all(commands.as_bytes())?;
        let output = child.wait_with_output()?;
        if !output.status.success() {
            bail!("nft: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }

    /// Sends a packet across. Tells whether it arrives.
    ///
    /// # Errors
    /// A frame cannot be sent, or the way is closed to the marker behind it too.
    pub fn arrives(&self, direction: Direction, packet: &Packet) -> Result<bool> {
        let (from, to, source, destination) = match direction {
            Direction::Inbound => (&self.far, &self.instance, FAR, BOX_OUTSIDE),
            Direction::Outbound => (&self.instance, &self.far, INSTANCE, BOX_INSIDE),
        };
        let [outside, inside] = MARKERS.map(str::parse);
        let ends = match direction {
            Direction::Inbound => (outside?, inside?),
            Direction::Outbound => (inside?, outside?),
        };
        let marker = Packet::new(ends.0, ends.1, Udp::new(MARKER_PORT, MARKER_PORT, b"marker"));
        from.send(&packet.frame(source, destination).bytes())?;
        from.send(&marker.frame(source, destination).bytes())?;
        let wanted = packet.transport.bytes(&packet.ip);
        // Frames do not overtake each other: once the marker is there, the packet is, or never will be.
        let mut has_arrived = false;
        loop {
            let frame = to.receive(PATIENCE, |_| true)?.context("the marker does not arrive")?;
            if frame.ends_with(b"marker") {
                return Ok(has_arrived);
            }
            has_arrived |= frame.ends_with(&wanted);
        }
    }
}
