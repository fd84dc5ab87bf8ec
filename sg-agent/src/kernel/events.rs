//! Drop events, from the ring that the programs write to while somebody asks for them.

use std::{
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
};

use aya::maps::{Map, MapData, RingBuf};
use sg_common::{
    abi::{DropEvent, map},
    addr::Addr,
};
use tokio::io::unix::AsyncFd;

use super::{
    KernelError,
    memory::{Mapping, SharedControl},
    set::map_path,
    syscall,
};

/// Drop events as they come. Dropping it ends the reporting.
pub struct DropEvents {
    ring: RingBuf<MapData>,
    /// Where the set in force is found, whichever that is by then.
    current: PathBuf,
    readiness: Option<AsyncFd<OwnedFd>>,
}

impl DropEvents {
    /// Begins to follow. Events that an earlier follower has left are thrown away.
    pub(crate) fn open(set: &Path, current: PathBuf) -> Result<Self, KernelError> {
        let failed = |error| KernelError::map("follow", map::EVENTS, error);
        let data = MapData::from_pin(map_path(set, map::EVENTS)).map_err(failed)?;
        let mut ring = RingBuf::try_from(Map::RingBuf(data)).map_err(failed)?;
        while ring.next().is_some() {}
        let events = Self { ring, current, readiness: None };
        events.report(true)?;
        Ok(events)
    }

    fn report(&self, wanted: bool) -> Result<(), KernelError> {
        let path = map_path(&self.current, map::CONTROL);
        let data =
            MapData::from_pin(&path).map_err(|error| KernelError::map("open", path.display(), error))?;
        let control = Mapping::<SharedControl>::open(data.fd().as_fd(), 1)
            .map_err(|error| KernelError::system("map", path.display(), error))?;
        for control in control.all() {
            control.report_drops(wanted);
        }
        Ok(())
    }

    /// The next event, if there is one already.
    pub fn try_next(&mut self) -> Option<DropEvent> {
        loop {
            // What is not as long as an event is none of ours.
            if let Some(event) = read(&self.ring.next()?) {
                return Some(event);
            }
        }
    }

    /// Waits for the next event. Needs a tokio runtime with IO. Dropping the future loses nothing.
    ///
    /// # Errors
    ///
    /// When the ring cannot be polled.
    pub async fn next(&mut self) -> Result<DropEvent, KernelError> {
        let failed = |error| KernelError::system("follow", map::EVENTS, error);
        if self.readiness.is_none() {
            self.readiness = Some(syscall::readiness(self.ring.as_fd()).map_err(failed)?);
        }
        loop {
            if let Some(event) = self.try_next() {
                return Ok(event);
            }
            let Some(readiness) = &self.readiness else { continue };
            readiness.readable().await.map_err(failed)?.clear_ready();
        }
    }
}

impl Drop for DropEvents {
    fn drop(&mut self) {
        if let Err(error) = self.report(false) {
            tracing::debug!("drops are still reported to nobody: {error}");
        }
    }
}

/// Reads an event field by field, in the order in which it lies in memory.
fn read(octets: &[u8]) -> Option<DropEvent> {
    let u64_at = |at: usize| Some(u64::from_ne_bytes(octets.get(at..at + 8)?.try_into().ok()?));
    let u32_at = |at: usize| Some(u32::from_ne_bytes(octets.get(at..at + 4)?.try_into().ok()?));
    let u16_at = |at: usize| Some(u16::from_ne_bytes(octets.get(at..at + 2)?.try_into().ok()?));
    let address_at = |at: usize| Some(Addr::v6(u64_at(at)?, u64_at(at + 8)?));
    Some(DropEvent {
        time: u64_at(offset::TIME)?,
        source: address_at(offset::SOURCE)?,
        destination: address_at(offset::DESTINATION)?,
        ifindex: u32_at(offset::IFINDEX)?,
        length: u32_at(offset::LENGTH)?,
        source_port: u16_at(offset::SOURCE_PORT)?,
        destination_port: u16_at(offset::DESTINATION_PORT)?,
        protocol: *octets.get(offset::PROTOCOL)?,
        direction: *octets.get(offset::DIRECTION)?,
        reason: *octets.get(offset::REASON)?,
        audited: *octets.get(offset::AUDITED)?,
    })
}

/// Where the fields of an event lie.
mod offset {
    use std::mem::offset_of;

    use super::DropEvent;

    pub(super) const TIME: usize = offset_of!(DropEvent, time);
    pub(super) const SOURCE: usize = offset_of!(DropEvent, source);
    pub(super) const DESTINATION: usize = offset_of!(DropEvent, destination);
    pub(super) const IFINDEX: usize = offset_of!(DropEvent, ifindex);
    pub(super) const LENGTH: usize = offset_of!(DropEvent, length);
    pub(super) const SOURCE_PORT: usize = offset_of!(DropEvent, source_port);
    pub(super) const DESTINATION_PORT: usize = offset_of!(DropEvent, destination_port);
    pub(super) const PROTOCOL: usize = offset_of!(DropEvent, protocol);
    pub(super) const DIRECTION: usize = offset_of!(DropEvent, direction);
    pub(super) const REASON: usize = offset_of!(DropEvent, reason);
    pub(super) const AUDITED: usize = offset_of!(DropEvent, audited);
}
