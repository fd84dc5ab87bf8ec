//! Packets that no rule allows, and whether any of them arrives.

use std::{
    io::ErrorKind,
    net::{SocketAddr, UdpSocket},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};

use super::{Stop, Watcher, joined, spawn};
use crate::{
    lab::{Arena, arena::Family, traffic::bind_udp},
    packet::{Packet, PacketSocket, Tcp, Udp},
};

/// The port that nobody may reach.
const SHUT: u16 = 9;
/// How long a sender rests between bursts.
const PAUSE: Duration = Duration::from_millis(1);

/// Senders and listeners.
#[derive(Debug)]
pub(super) struct Denied {
    senders: [Watcher<u64>; 2],
    listeners: Vec<Watcher<()>>,
    arrived: Arc<Mutex<Vec<Duration>>>,
}

impl Denied {
    /// Sends in both directions, in both families, without a pause.
    pub(super) fn send(arena: &Arena, start: Instant, stop: &Stop) -> Result<Self> {
        let arrived = Arc::default();
        let mut listeners = Vec::new();
        for family in Family::ALL {
            let ends = [
                (arena.instance(), arena.instance_address(family)),
                (arena.peer(), arena.peer_address(family)),
            ];
            for (namespace, address) in ends {
                let socket = namespace.enter(|| bind_udp(SocketAddr::new(address, SHUT)))?;
                let (stop, arrived) = (stop.clone(), Arc::clone(&arrived));
                listeners.push(spawn("listener", move || listen(&socket, start, &stop, &arrived))?);
            }
        }
        let [inbound, outbound] = [true, false].map(|is_inbound| frames(arena, is_inbound));
        let senders = [(arena.peer_socket()?, inbound), (arena.instance_socket()?, outbound)];
        let [inbound, outbound] = senders.map(|(socket, frames)| {
            let stop = stop.clone();
            spawn("sender", move || send(&socket, &frames, &stop))
        });
        Ok(Self { senders: [inbound?, outbound?], listeners, arrived })
    }

    /// When denied packets arrived.
    pub(super) fn arrived(&self) -> Vec<Duration> {
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many were sent in either direction, and when any arrived.
    pub(super) fn end(self) -> Result<([u64; 2], Vec<Duration>)> {
        let [inbound, outbound] = self.senders.map(joined);
        let sent = [inbound?, outbound?];
        self.listeners.into_iter().try_for_each(joined)?;
        let arrived = self.arrived.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok((sent, arrived))
    }
}

/// A datagram for the port that somebody listens on, and a segment that a connection would begin
/// with, in both families.
fn frames(arena: &Arena, is_inbound: bool) -> Vec<Vec<u8>> {
    let families = Family::ALL.into_iter().flat_map(|family| {
        let (peer, instance) = (arena.peer_address(family), arena.instance_address(family));
        let (from, to) = if is_inbound { (peer, instance) } else { (instance, peer) };
        [
            Packet::new(from, to, Udp::new(40_000, SHUT, b"denied")),
            Packet::new(from, to, Tcp::new(40_000, SHUT, Tcp::SYN)),
        ]
    });
    let frame = if is_inbound { Arena::frame_in } else { Arena::frame_out };
    families.map(|packet| frame(arena, &packet).bytes()).collect()
}

fn send(socket: &PacketSocket, frames: &[Vec<u8>], stop: &Stop) -> Result<u64> {
    let mut sent = 0;
    while !stop.is_set() {
        for frame in frames {
            socket.send(frame)?;
            sent += 1;
        }
        thread::sleep(PAUSE);
    }
    Ok(sent)
}

fn listen(socket: &UdpSocket, start: Instant, stop: &Stop, arrived: &Mutex<Vec<Duration>>) -> Result<()> {
    let mut buffer = [0; 64];
    // Once more after the end: what was sent last may still be on its way.
    let mut is_last = false;
    while !is_last {
        is_last = stop.is_set();
        match socket.recv(&mut buffer) {
            Ok(length) => {
                ensure!(&buffer[..length] == b"denied", "a datagram of somebody else's");
                arrived.lock().unwrap_or_else(PoisonError::into_inner).push(start.elapsed());
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
