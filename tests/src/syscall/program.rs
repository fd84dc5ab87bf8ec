//! Programs of somebody else: the smallest that the kernel loads, attached to an interface.
//!
//! They exist to be in the agent's way. Numbers are those of `linux/bpf.h`.

use std::{
    ffi::CString,
    io, mem,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    process::Command,
};

use super::{filter::Filter, interface_index};

const PROGRAM_LOAD: libc::c_long = 5;
const OBJECT_PIN: libc::c_long = 6;
const PROGRAM_BY_ID: libc::c_long = 13;
const OBJECT_INFO: libc::c_long = 15;
const PROGRAM_QUERY: libc::c_long = 16;
const LINK_CREATE: libc::c_long = 28;
const LINK_BY_ID: libc::c_long = 30;
const LINK_NEXT_ID: libc::c_long = 31;
const LINK_DETACH: libc::c_long = 34;

/// `BPF_F_BEFORE`, with nothing to be before: at the head.
const AT_HEAD: u32 = 8;

const TCX_INGRESS: u32 = 46;
const TCX_EGRESS: u32 = 47;

/// Where a foreign program sits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// XDP in the driver.
    Xdp,
    /// TC ingress: TCX, or clsact where there is none.
    TcIngress,
    /// TC egress, likewise.
    TcEgress,
}

/// A VLAN tag.
#[derive(Clone, Copy, Debug)]
pub struct Push {
    /// The tag protocol: 0x8100 or 0x88a8.
    pub protocol: u16,
    /// Priority and VLAN id.
    pub id: u16,
}

/// An attached program; detached when dropped.
#[derive(Debug)]
pub struct Foreign(Place);

#[derive(Debug)]
enum Place {
    Link(OwnedFd),
    Filter(Filter),
}

/// `union bpf_attr`, as far as it is used here.
#[repr(C, align(8))]
pub(super) struct Attributes([u8; 128]);

impl Attributes {
    pub(super) fn new(fields: &[(usize, &[u8])]) -> Self {
        let mut all = Self([0; 128]);
        for (offset, bytes) in fields {
            all.set(*offset, bytes);
        }
        all
    }

    pub(super) fn set(&mut self, offset: usize, bytes: &[u8]) {
        self.0[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    /// What the kernel wrote there.
    pub(super) fn word(&self, offset: usize) -> u32 {
        let [a, b, c, d] = [0, 1, 2, 3].map(|more| self.0[offset + more]);
        u32::from_ne_bytes([a, b, c, d])
    }

    /// # Safety
    /// Every address among the fields points at memory that the command may use until it returns.
    pub(super) unsafe fn call(&mut self, command: libc::c_long) -> io::Result<libc::c_int> {
        // SAFETY: the attributes outlive the call, are as long as said, and the caller answers for
        // what they point at.
        let result =
            unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut self.0, mem::size_of::<Self>()) };
        if result < 0 {
            Err(io::Error::last_os_error())
        } else {
            i32::try_from(result).map_err(io::Error::other)
        }
    }
}

fn address<T>(of: &T) -> [u8; 8] {
    (&raw const *of as u64).to_ne_bytes()
}

fn pin(program: &OwnedFd, path: &str) -> io::Result<()> {
    let path = CString::new(path)?;
    let mut pin = Attributes::new(&[
        (0, &(path.as_ptr() as u64).to_ne_bytes()),
        (8, &program.as_raw_fd().to_ne_bytes()),
    ]);
    // SAFETY: the address is that of a C string that outlives the call.
    unsafe { pin.call(OBJECT_PIN) }.map(drop)
}

impl Foreign {
    /// Loads a program called `name` that answers `verdict` to every packet, and attaches it to an
    /// interface of the calling thread's network namespace.
    ///
    /// # Errors
    /// The kernel's refusal: the hook is taken, for instance.
    pub fn attach(interface: &str, hook: Hook, name: &str, verdict: i32) -> io::Result<Self> {
        let [a, b, c, d] = verdict.to_ne_bytes();
        // r0 = verdict; exit
        let code = [0xb7, 0, 0, 0, a, b, c, d, 0x95, 0, 0, 0, 0, 0, 0, 0];
        Self::load(interface, hook, name, &code, 0)
    }

    /// As [`Self::attach`] at a TC hook, before all programs that are there.
    ///
    /// # Errors
    /// As [`Self::attach`].
    pub fn attach_first(interface: &str, hook: Hook, name: &str, verdict: i32) -> io::Result<Self> {
        let [a, b, c, d] = verdict.to_ne_bytes();
        let code = [0xb7, 0, 0, 0, a, b, c, d, 0x95, 0, 0, 0, 0, 0, 0, 0];
        Self::load(interface, hook, name, &code, AT_HEAD)
    }

    /// A program at a TC hook that puts every packet behind one more VLAN tag, beside the frame: as
    /// network cards take it out of what they receive.
    ///
    /// # Errors
    /// As [`Self::attach`].
    pub fn push_tag(interface: &str, hook: Hook, tag: Push) -> io::Result<Self> {
        let [p, q] = tag.protocol.to_be_bytes();
        let [i, j] = tag.id.to_ne_bytes();
        #[rustfmt::skip]
        let code = [
            0xb7, 2, 0, 0, p, q, 0, 0, // r2 = protocol, in network order
            0xb7, 3, 0, 0, i, j, 0, 0, // r3 = id
            0x85, 0, 0, 0, 18, 0, 0, 0, // skb_vlan_push(r1, r2, r3)
            0xb7, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, // r0 = -1: the next program decides
            0x95, 0, 0, 0, 0, 0, 0, 0, // exit
        ];
        Self::load(interface, hook, "push_tag", &code, 0)
    }

    fn load(interface: &str, hook: Hook, name: &str, code: &[u8], place: u32) -> io::Result<Self> {
        let (kind, attach, flags) = match hook {
            Hook::Xdp => (6_u32, 37_u32, 4_u32), // XDP_FLAGS_DRV_MODE
            Hook::TcIngress => (3, TCX_INGRESS, place),
            Hook::TcEgress => (3, TCX_EGRESS, place),
        };
        let mut label = [0; 16];
        for (to, from) in label.iter_mut().take(15).zip(name.bytes()) {
            *to = from;
        }
        let instructions = u32::try_from(code.len() / 8).map_err(io::Error::other)?;
        let mut load = Attributes::new(&[
            (0, &kind.to_ne_bytes()),
            (4, &instructions.to_ne_bytes()),
            (8, &(code.as_ptr() as u64).to_ne_bytes()),
            (16, &address(b"GPL\0")),
            (48, &label),
        ]);
        // SAFETY: the addresses are those of the instructions and a C string, both alive.
        let program = unsafe { OwnedFd::from_raw_fd(load.call(PROGRAM_LOAD)?) };
        let mut create = Attributes::new(&[
            (0, &program.as_raw_fd().to_ne_bytes()),
            (4, &interface_index(interface)?.to_ne_bytes()),
            (8, &attach.to_ne_bytes()),
            (12, &flags.to_ne_bytes()),
        ]);
        // SAFETY: the command takes no addresses; its result is a fresh descriptor.
        let link = unsafe { create.call(LINK_CREATE).map(|fd| OwnedFd::from_raw_fd(fd)) };
        match link {
            Ok(link) => Ok(Self(Place::Link(link))),
            // Kernels before 6.6 do not know what is meant.
            Err(error) if hook != Hook::Xdp && error.raw_os_error() == Some(libc::EINVAL) => {
                let pin = |path: &str| pin(&program, path);
                Filter::attach(interface, hook == Hook::TcIngress, pin)
                    .map(|filter| Self(Place::Filter(filter)))
            }
            Err(error) => Err(error),
        }
    }

    /// Whether it still sits on an interface: a detached link has none.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn is_attached(&self) -> io::Result<bool> {
        let link = match &self.0 {
            Place::Link(link) => link,
            Place::Filter(filter) => return filter.is_attached(),
        };
        // type, id, program, padding, then the interface's index.
        Ok(information(link)?[4] != 0)
    }
}

/// Asks about a program or link: the kernel's structure as words.
fn information(object: &OwnedFd) -> io::Result<[u32; 64]> {
    let mut information = [0_u32; 64];
    let mut query = Attributes::new(&[
        (0, &object.as_raw_fd().to_ne_bytes()),
        (4, &256_u32.to_ne_bytes()),
        (8, &(&raw mut information as u64).to_ne_bytes()),
    ]);
    // SAFETY: the address is that of 256 zeroed bytes that the kernel fills and that nobody else
    // reads meanwhile.
    unsafe { query.call(OBJECT_INFO)? };
    Ok(information)
}

/// Opens a program or link by its id.
fn by_id(command: libc::c_long, id: u32) -> io::Result<OwnedFd> {
    let mut open = Attributes::new(&[(0, &id.to_ne_bytes())]);
    // SAFETY: the command takes no addresses; its result is a fresh descriptor.
    unsafe { open.call(command).map(|fd| OwnedFd::from_raw_fd(fd)) }
}

fn is_called(program: u32, prefix: &str) -> io::Result<bool> {
    let words = information(&by_id(PROGRAM_BY_ID, program)?)?;
    // The name begins at octet 64.
    let name: Vec<u8> = words[16..20].iter().flat_map(|word| word.to_ne_bytes()).collect();
    Ok(name.starts_with(prefix.as_bytes()))
}

/// Ids of the links on a hook of an interface of the calling thread's network namespace whose
/// programs have names that begin with `prefix`. Kernels without TCX have none at TC.
///
/// # Errors
/// The kernel's refusal.
pub fn links(interface: &str, hook: Hook, prefix: &str) -> io::Result<Vec<u32>> {
    let found = match hook {
        Hook::Xdp => xdp_links(interface)?,
        Hook::TcIngress => tcx_links(interface, TCX_INGRESS)?,
        Hook::TcEgress => tcx_links(interface, TCX_EGRESS)?,
    };
    let mut links = Vec::new();
    for (program, link) in found {
        if link != 0 && is_called(program, prefix)? {
            links.push(link);
        }
    }
    Ok(links)
}

/// Programs and their links on a TCX hook, in the order in which they run.
fn tcx_links(interface: &str, attach: u32) -> io::Result<Vec<(u32, u32)>> {
    const MOST: u32 = 64;
    let (mut programs, mut links) = ([0_u32; MOST as usize], [0_u32; MOST as usize]);
    let mut query = Attributes::new(&[
        (0, &interface_index(interface)?.to_ne_bytes()),
        (4, &attach.to_ne_bytes()),
        (16, &(programs.as_mut_ptr() as u64).to_ne_bytes()),
        (24, &MOST.to_ne_bytes()),
        (40, &(links.as_mut_ptr() as u64).to_ne_bytes()),
    ]);
    // SAFETY: both addresses are those of as many numbers as the query says, alive and nobody else's.
    match unsafe { query.call(PROGRAM_QUERY) } {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => return Ok(Vec::new()),
        result => result?,
    };
    let count = query.word(24) as usize;
    Ok(programs.into_iter().zip(links).take(count).collect())
}

/// The program on an XDP hook, and its link.
fn xdp_links(interface: &str) -> io::Result<Vec<(u32, u32)>> {
    const XDP: u32 = 6;
    let shown = Command::new("ip").args(["-d", "link", "show", "dev", interface]).output()?;
    let shown = String::from_utf8_lossy(&shown.stdout);
    let program = shown.split("prog/xdp id ").nth(1).and_then(|rest| rest.split_whitespace().next());
    let Some(program) = program.and_then(|id| id.parse::<u32>().ok()) else { return Ok(Vec::new()) };
    let mut links = Vec::new();
    let mut id = 0;
    while let Some(next) = link_after(id)? {
        id = next;
        // Links come and go meanwhile.
        let Ok(link) = by_id(LINK_BY_ID, id) else { continue };
        // Type, id, program.
        let words = information(&link)?;
        if words[0] == XDP && words[2] == program {
            links.push((program, id));
        }
    }
    Ok(links)
}

/// The lowest id of a link above this one.
fn link_after(id: u32) -> io::Result<Option<u32>> {
    let mut query = Attributes::new(&[(0, &id.to_ne_bytes())]);
    // SAFETY: the command takes no addresses.
    match unsafe { query.call(LINK_NEXT_ID) } {
        Ok(_) => Ok(Some(query.word(4))),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Detaches a link for everybody who holds it.
///
/// # Errors
/// There is no such link, or it cannot be detached.
pub fn detach_link(id: u32) -> io::Result<()> {
    let link = by_id(LINK_BY_ID, id)?;
    let mut detach = Attributes::new(&[(0, &link.as_raw_fd().to_ne_bytes())]);
    // SAFETY: the command takes no addresses.
    unsafe { detach.call(LINK_DETACH) }.map(drop)
}
