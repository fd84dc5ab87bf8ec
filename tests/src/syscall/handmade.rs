//! Programs written by hand and the maps they use, run on packets by the kernel on request
//! (`BPF_PROG_TEST_RUN`). They measure: what stands in the agent's way is in [`super::program`].

use std::{
    io,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
    time::Duration,
};

use super::program::Attributes;

const MAP_CREATE: libc::c_long = 0;
const MAP_UPDATE: libc::c_long = 2;
const PROGRAM_LOAD: libc::c_long = 5;
const PROGRAM_RUN: libc::c_long = 10;

const ARRAY: u32 = 2;
const PROGRAMS: u32 = 3;
/// `BPF_F_MMAPABLE`.
const MAPPABLE: u32 = 1 << 10;
/// `BPF_F_TEST_XDP_LIVE_FRAMES`.
const LIVE: u32 = 1 << 1;
/// `BPF_F_XDP_HAS_FRAGS`.
const FRAGMENTS: u32 = 1 << 5;
/// `BPF_XDP`.
const ATTACHED_AT_XDP: u32 = 37;

/// A map; gone when dropped and no program uses it.
#[derive(Debug)]
pub struct Map(OwnedFd);

impl AsFd for Map {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Map {
    /// An array of zeroes that can be mapped into memory: so many elements, each of so many octets.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn array(elements: u32, octets: u32) -> io::Result<Self> {
        Self::create(ARRAY, octets, elements, MAPPABLE)
    }

    /// Room for one program to be called.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn of_program() -> io::Result<Self> {
        Self::create(PROGRAMS, 4, 1, 0)
    }

    fn create(kind: u32, octets: u32, elements: u32, flags: u32) -> io::Result<Self> {
        let fields = [kind, 4, octets, elements, flags].map(u32::to_ne_bytes).concat();
        // SAFETY: the command takes no addresses; its result is a fresh descriptor.
        unsafe { Attributes::new(&[(0, &fields)]).call(MAP_CREATE).map(|fd| Self(OwnedFd::from_raw_fd(fd))) }
    }

    /// The program that is called.
    ///
    /// # Errors
    /// The kernel's refusal: it is of another kind than those that use this map.
    pub fn set_program(&self, program: BorrowedFd<'_>) -> io::Result<()> {
        let (key, value) = (0_u32, program.as_raw_fd());
        let mut update = Attributes::new(&[
            (0, &self.0.as_raw_fd().to_ne_bytes()),
            (8, &(&raw const key as u64).to_ne_bytes()),
            (16, &(&raw const value as u64).to_ne_bytes()),
        ]);
        // SAFETY: both addresses are those of four octets each, as long as this map's keys and
        // values, and outlive the call.
        unsafe { update.call(MAP_UPDATE) }.map(drop)
    }
}

/// Which hook a program is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// XDP, for packets in several buffers too.
    Xdp,
    /// XDP, for packets in one buffer.
    XdpOneBuffer,
    /// TC.
    Tc,
}

/// A loaded program; gone when dropped and no map holds it.
#[derive(Debug)]
pub struct Program(OwnedFd);

impl AsFd for Program {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Program {
    /// Loads the instructions of `code`.
    ///
    /// # Errors
    /// The kernel's refusal, with what the verifier said.
    pub fn load(kind: Kind, code: &[u8]) -> io::Result<Self> {
        let (number, flags, attach) = match kind {
            Kind::Xdp => (6_u32, FRAGMENTS, ATTACHED_AT_XDP),
            Kind::XdpOneBuffer => (6, 0, ATTACHED_AT_XDP),
            Kind::Tc => (3, 0, 0),
        };
        let instructions = u32::try_from(code.len() / 8).map_err(io::Error::other)?;
        let mut log = vec![0_u8; 1 << 16];
        let log_size = u32::try_from(log.len()).map_err(io::Error::other)?;
        let mut load = Attributes::new(&[
            (0, &number.to_ne_bytes()),
            (4, &instructions.to_ne_bytes()),
            (8, &(code.as_ptr() as u64).to_ne_bytes()),
            (16, &(c"GPL".as_ptr() as u64).to_ne_bytes()),
            (24, &1_u32.to_ne_bytes()),
            (28, &log_size.to_ne_bytes()),
            (32, &(log.as_mut_ptr() as u64).to_ne_bytes()),
            (44, &flags.to_ne_bytes()),
            (48, b"sg_handmade"),
            (68, &attach.to_ne_bytes()),
        ]);
        // SAFETY: the addresses are those of the instructions, of a C string, and of the log with its
        // length; all outlive the call. Its result is a fresh descriptor.
        let loaded = unsafe { load.call(PROGRAM_LOAD).map(|fd| Self(OwnedFd::from_raw_fd(fd))) };
        loaded.map_err(|error| {
            let said = String::from_utf8_lossy(&log);
            io::Error::new(error.kind(), format!("{error}: {}", said.trim_end_matches('\0')))
        })
    }

    /// Runs it on `frame` so many times. Gives its last answer and the mean time of a run as the kernel took
    /// it, in whole nanoseconds: the call itself waits for others, so that its own time tells nothing.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn run(&self, frame: &[u8], repeat: u32) -> io::Result<(u32, Duration)> {
        let mut run = self.request(frame, repeat)?;
        // SAFETY: the frame's address and length belong together, and it outlives the call.
        unsafe { run.call(PROGRAM_RUN)? };
        Ok((run.word(4), Duration::from_nanos(run.word(36).into())))
    }

    /// Runs it on so many real frames as if they had come from an interface of the calling thread's
    /// network namespace: what it answers happens to them. The next argument is the interface's index.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn run_live(&self, frame: &[u8], repeat: u32, interface: u32) -> io::Result<()> {
        let length = u32::try_from(frame.len()).map_err(io::Error::other)?;
        // `struct xdp_md`: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
        let context = [0, length, 0, interface, 0, 0].map(u32::to_ne_bytes).concat();
        let octets = u32::try_from(context.len()).map_err(io::Error::other)?;
        let mut run = self.request(frame, repeat)?;
        run.set(40, &octets.to_ne_bytes());
        run.set(48, &(context.as_ptr() as u64).to_ne_bytes());
        run.set(64, &LIVE.to_ne_bytes());
        // SAFETY: as above, and the same holds for the context.
        unsafe { run.call(PROGRAM_RUN) }.map(drop)
    }

    fn request(&self, frame: &[u8], repeat: u32) -> io::Result<Attributes> {
        let length = u32::try_from(frame.len()).map_err(io::Error::other)?;
        Ok(Attributes::new(&[
            (0, &self.0.as_raw_fd().to_ne_bytes()),
            (8, &length.to_ne_bytes()),
            (16, &(frame.as_ptr() as u64).to_ne_bytes()),
            (32, &repeat.to_ne_bytes()),
        ]))
    }
}
