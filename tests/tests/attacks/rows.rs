//! Rows of (what, frame, verdict), each judged for itself, then amid an open connection that must go on.

use anyhow::{Context as _, Result};
use sg_tests::lab::arena::Family;

use crate::{
    bytes::{Path, TCP, UDP},
    range::{Range, Way},
    session::Session,
};

/// One frame, and what must become of it.
pub(crate) struct Row {
    pub(crate) what: String,
    pub(crate) way: Way,
    pub(crate) frame: Vec<u8>,
    pub(crate) expected: &'static str,
}

/// Where rows are written: who sends to whom, from which ports.
pub(crate) struct At<'a> {
    range: &'a Range,
    /// The port of the open connection, amid which all rows are sent.
    session: Option<u16>,
    pub(crate) family: Family,
    /// From the peer to the instance.
    pub(crate) inward: Path,
    rows: Vec<Row>,
}

impl At<'_> {
    /// The peer's port: of the connection, or one that no row has used.
    pub(crate) fn port(&self) -> u16 {
        self.session.unwrap_or_else(|| self.range.port())
    }

    /// An identification of a datagram that nothing has used.
    pub(crate) fn id(&self) -> u16 {
        self.range.port()
    }

    /// A TCP SYN to the instance's port as an IP packet.
    pub(crate) fn syn(&self, port: u16) -> Vec<u8> {
        self.inward.ip(TCP, &self.inward.syn((self.port(), port)))
    }

    /// A UDP datagram to the instance's port as an IP packet.
    pub(crate) fn udp(&self, port: u16) -> Vec<u8> {
        self.inward.ip(UDP, &self.inward.udp((self.port(), port), b"data"))
    }

    /// A row: an IP packet that the peer sends in an ordinary frame.
    pub(crate) fn packet(&mut self, what: impl Into<String>, packet: &[u8], expected: &'static str) {
        self.frame(what, self.inward.frame(packet), expected);
    }

    /// A row: a frame that the peer sends.
    pub(crate) fn frame(&mut self, what: impl Into<String>, frame: Vec<u8>, expected: &'static str) {
        self.rows.push(Row { what: what.into(), way: Way::In, frame, expected });
    }

    /// A row: a frame that the instance sends.
    pub(crate) fn frame_out(&mut self, what: impl Into<String>, frame: Vec<u8>, expected: &'static str) {
        self.rows.push(Row { what: what.into(), way: Way::Out, frame, expected });
    }
}

/// Judges all rows that `write` writes, in these families: for themselves, and amid a connection.
pub(crate) fn judge(range: &Range, families: &[Family], write: impl Fn(&mut At<'_>)) -> Result<()> {
    for family in families.iter().copied() {
        let at = |session| At { range, session, family, inward: range.inward(family), rows: vec![] };
        let mut alone = at(None);
        write(&mut alone);
        assert!(!alone.rows.is_empty(), "no rows");
        for row in &alone.rows {
            range
                .judge(&row.what, row.way, &row.frame, row.expected)
                .with_context(|| format!("{}, {family:?}, alone", row.what))?;
        }
        let session = Session::inbound(range, family)?;
        let mut amid = at(Some(session.ports.0));
        write(&mut amid);
        for row in &amid.rows {
            let judged = range.send(&row.what, row.way, &row.frame, row.expected).and_then(|()| {
                session.goes_on()?;
                range.settle(&row.what)
            });
            judged.with_context(|| format!("{}, {family:?}, amid a connection", row.what))?;
        }
        session.is_established()?;
    }
    Ok(())
}
