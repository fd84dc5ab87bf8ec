//! A TCP connection whose two ends the test plays.

use std::cell::Cell;

use anyhow::{Context as _, Result, ensure};
use sg_tests::lab::arena::Family;

use crate::{
    bytes::{ACK, PSH, Path, SYN, TCP},
    range::{FLOW, RULE, Range, Way},
};

/// An open connection.
pub(crate) struct Session<'a> {
    range: &'a Range,
    pub(crate) family: Family,
    /// Which way it was opened.
    pub(crate) way: Way,
    /// The opener's port, then the other's.
    pub(crate) ports: (u16, u16),
    opener_next: Cell<u32>,
    other_next: Cell<u32>,
}

impl<'a> Session<'a> {
    /// The peer opens one to the instance's 443.
    pub(crate) fn inbound(range: &'a Range, family: Family) -> Result<Self> {
        Self::open(range, family, Way::In, (range.port(), 443))
    }

    /// The instance opens one to its peer's 5432.
    pub(crate) fn outbound(range: &'a Range, family: Family) -> Result<Self> {
        Self::open(range, family, Way::Out, (range.port(), 5432))
    }

    /// A handshake; it is established when this returns.
    pub(crate) fn open(range: &'a Range, family: Family, way: Way, ports: (u16, u16)) -> Result<Self> {
        let session = Self {
            range,
            family,
            way,
            ports,
            opener_next: Cell::new(0x1000_0000),
            other_next: Cell::new(0x9000_0000),
        };
        session.frame_of(true, SYN, &[], |frame| range.send("SYN", way, frame, RULE))?;
        session.opener_next.set(0x1000_0001);
        session
            .frame_of(false, SYN | ACK, &[], |frame| range.send("SYN+ACK", way.back(), frame, FLOW))
            .context("the answer")?;
        session.other_next.set(0x9000_0001);
        session
            .frame_of(true, ACK, &[], |frame| range.send("ACK", way, frame, FLOW))
            .context("the last packet of the handshake")?;
        Ok(session)
    }

    /// The path of the opener's packets, or of the other side's.
    pub(crate) fn path(&self, from_opener: bool) -> Path {
        self.range.path(self.way_of(from_opener), self.family)
    }

    pub(crate) fn way_of(&self, from_opener: bool) -> Way {
        if from_opener { self.way } else { self.way.back() }
    }

    /// The ports of the opener's packets, or of the other side's.
    pub(crate) fn ports_of(&self, from_opener: bool) -> (u16, u16) {
        if from_opener { self.ports } else { (self.ports.1, self.ports.0) }
    }

    /// The next number of that side, and the next that it expects.
    pub(crate) fn numbers_of(&self, from_opener: bool) -> (u32, u32) {
        let numbers = (self.opener_next.get(), self.other_next.get());
        if from_opener { numbers } else { (numbers.1, numbers.0) }
    }

    /// The segment that this side would send now.
    pub(crate) fn segment(&self, from_opener: bool, flags: u8, data: &[u8]) -> Vec<u8> {
        let mut numbers = self.numbers_of(from_opener);
        if flags & ACK == 0 {
            numbers.1 = 0;
        }
        self.path(from_opener).tcp(self.ports_of(from_opener), numbers, flags, data)
    }

    /// That segment as a packet.
    pub(crate) fn packet(&self, from_opener: bool, flags: u8, data: &[u8]) -> Vec<u8> {
        self.path(from_opener).ip(TCP, &self.segment(from_opener, flags, data))
    }

    fn frame_of(
        &self,
        from_opener: bool,
        flags: u8,
        data: &[u8],
        send: impl FnOnce(&[u8]) -> Result<()>,
    ) -> Result<()> {
        send(&self.path(from_opener).frame(&self.packet(from_opener, flags, data)))
    }

    /// One side says something, which arrives.
    pub(crate) fn says(&self, from_opener: bool, data: &[u8]) -> Result<()> {
        let way = self.way_of(from_opener);
        self.frame_of(from_opener, ACK | PSH, data, |frame| self.range.send("data", way, frame, FLOW))
            .with_context(|| format!("the session's data, {}", way.name()))?;
        let next = if from_opener { &self.opener_next } else { &self.other_next };
        next.set(next.get().wrapping_add(u32::try_from(data.len())?));
        Ok(())
    }

    /// Both sides say something, which arrives, by the flow: no rule allows the other side's.
    pub(crate) fn goes_on(&self) -> Result<()> {
        self.says(false, b"answer")?;
        self.says(true, b"question")
    }

    /// The flow's state in the table.
    pub(crate) fn state(&self) -> Result<String> {
        let flow = self.range.flow_of(self.family, "tcp", self.ports)?;
        Ok(flow.and_then(|flow| flow["state"].as_str().map(str::to_owned)).unwrap_or("none".into()))
    }

    /// The flow is established, and under its own timeout.
    pub(crate) fn is_established(&self) -> Result<()> {
        let state = self.state()?;
        ensure!(state == "established", "the flow of {:?} is {state}", self.ports);
        Ok(())
    }
}
