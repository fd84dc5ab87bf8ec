//! Floods of packets from random sources, by hping3. IPv4 only: hping3 knows no other.

use std::{
    net::Ipv4Addr,
    process::{Child, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use super::Namespace;

/// What a flood is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// SYNs to a port.
    Syn(u16),
    /// Datagrams to a port.
    Udp(u16),
    /// Echo requests.
    Ping,
}

/// A flood under way, as fast as the machine can; it ends when it is dropped.
#[derive(Debug)]
pub struct Flood(Child);

impl Flood {
    /// Starts it: every packet has another source.
    ///
    /// # Errors
    /// hping3 is missing.
    pub fn start(from: &Namespace, target: Ipv4Addr, kind: Kind) -> Result<Self> {
        let mut command = from.command("hping3");
        command.args(["--flood", "--rand-source", "--quiet", "--numeric"]);
        match kind {
            Kind::Syn(port) => command.args(["--syn", "--destport", &port.to_string()]),
            Kind::Udp(port) => command.args(["--udp", "--data", "8", "--destport", &port.to_string()]),
            Kind::Ping => command.arg("--icmp"),
        };
        command.arg(target.to_string()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().map(Self).context("start hping3 (Debian: hping3)")
    }

    /// Ends it.
    ///
    /// # Errors
    /// It ended by itself before: the flood was none.
    pub fn stop(mut self) -> Result<()> {
        let early = self.0.try_wait()?;
        ensure!(early.is_none(), "hping3 ended by itself: {early:?}");
        self.0.kill().context("end hping3")
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        // It may have ended already; nothing else can be done about it here.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
