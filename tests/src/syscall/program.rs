//! Programs of somebody else: the smallest that the kernel loads, attached to an interface.
//!
//! They exist to be in the agent's way. Numbers are those of `linux/bpf.h`.

use std::{
    ffi::CString,
    io, mem,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

use super::{filter::Filter, interface_index};

const PROGRAM_LOAD: libc::c_long = 5;
const OBJECT_PIN: libc::c_long = 6;
const OBJECT_INFO: libc::c_long = 15;
const LINK_CREATE: libc::c_long = 28;

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
struct Attributes([u8; 128]);

impl Attributes {
    fn new(fields: &[(usize, &[u8])]) -> Self {
        let mut all = Self([0; 128]);
        for (offset, bytes) in fields {
            all.0[*offset..offset + bytes.len()].copy_from_slice(bytes);
        }
        all
    }

    /// # Safety
    /// Every address among the fields points at memory that the command may use until it returns.
    unsafe fn call(&mut self, command: libc::c_long) -> io::Result<libc::c_int> {
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
        Self::load(interface, hook, name, &[0xb7, 0, 0, 0, a, b, c, d, 0x95, 0, 0, 0, 0, 0, 0, 0])
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
        Self::load(interface, hook, "push_tag", &code)
    }

    fn load(interface: &str, hook: Hook, name: &str, code: &[u8]) -> io::Result<Self> {
        let (kind, attach, flags) = match hook {
            Hook::Xdp => (6_u32, 37_u32, 4_u32), // XDP_FLAGS_DRV_MODE
            Hook::TcIngress => (3, 46, 0),
            Hook::TcEgress => (3, 47, 0),
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
        let mut information = [0_u32; 32];
        let mut query = Attributes::new(&[
            (0, &link.as_raw_fd().to_ne_bytes()),
            (4, &128_u32.to_ne_bytes()),
            (8, &(&raw mut information as u64).to_ne_bytes()),
        ]);
        // SAFETY: the address is that of 128 bytes that the kernel fills and that nobody else reads
        // meanwhile.
        unsafe { query.call(OBJECT_INFO)? };
        // type, id, program, padding, then the interface's index.
        Ok(information[4] != 0)
    }
}
