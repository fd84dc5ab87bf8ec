//! The system calls that the standard library has no name for: namespaces, mounts, signals and
//! packet sockets, in [`program`] foreign eBPF programs, in [`handmade`] those that measure, and in
//! [`mapping`] the memory of maps. The only files of this crate with `unsafe`; every function is safe to
//! call.
//!
//! What a namespace is for, and when it goes away, is [`crate::lab`]'s business.

#![expect(unsafe_code, reason = "system calls without a safe wrapper in the standard library")]

use std::{
    ffi::CString,
    io, mem,
    net::UdpSocket,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI32, Ordering},
    },
    time::Duration,
};

pub mod assembly;
mod filter;
pub mod handmade;
pub mod mapping;
pub mod program;
pub mod tun;

/// Whether the process has the effective user id of root.
#[must_use]
pub fn is_root() -> bool {
    // SAFETY: geteuid has no preconditions and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Moves the calling thread into a new network namespace.
///
/// # Errors
/// The kernel's refusal; the thread is where it was.
pub fn new_network() -> io::Result<()> {
    // SAFETY: unshare takes no pointers; the flag concerns the calling thread alone.
    check(unsafe { libc::unshare(libc::CLONE_NEWNET) }).map(drop)
}

/// Moves the calling thread into a new mount namespace of which nothing propagates outwards.
///
/// # Errors
/// The kernel's refusal; the thread may already be in the new namespace, which dies with it.
pub fn new_mounts() -> io::Result<()> {
    // SAFETY: as above; CLONE_FS gives the thread its own root and working directory, which the
    // kernel demands of a thread that leaves its mount namespace.
    check(unsafe { libc::unshare(libc::CLONE_FS | libc::CLONE_NEWNS) })?;
    mount("none", "/", "", libc::MS_REC | libc::MS_PRIVATE)
}

/// Moves the calling thread into the network namespace of `fd`.
///
/// # Errors
/// The kernel's refusal; the thread is where it was.
pub fn enter_network(fd: &OwnedFd) -> io::Result<()> {
    // SAFETY: the descriptor is open for as long as it is borrowed.
    check(unsafe { libc::setns(fd.as_raw_fd(), libc::CLONE_NEWNET) }).map(drop)
}

/// Moves the calling thread into the mount namespace of `fd`, to its root folder.
///
/// # Errors
/// The kernel's refusal; the thread may have a root and working directory of its own by then.
pub fn enter_mounts(fd: &OwnedFd) -> io::Result<()> {
    // SAFETY: unshare takes no pointers, and gives the calling thread what the kernel demands of one
    // that changes its mounts; the descriptor is open for as long as it is borrowed.
    check(unsafe { libc::unshare(libc::CLONE_FS) })?;
    // SAFETY: as above.
    check(unsafe { libc::setns(fd.as_raw_fd(), libc::CLONE_NEWNS) }).map(drop)
}

/// Unmounts what is mounted on `target`, although somebody may hold something on it.
///
/// # Errors
/// The kernel's refusal, or a zero byte in the path.
pub fn unmount(target: &str) -> io::Result<()> {
    let target = CString::new(target)?;
    // SAFETY: a C string that outlives the call.
    check(unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) }).map(drop)
}

/// Mounts `source` on `target`; an empty `kind` changes flags only.
///
/// # Errors
/// The kernel's refusal, or a zero byte in a string.
pub fn mount(source: &str, target: &str, kind: &str, flags: libc::c_ulong) -> io::Result<()> {
    let [source, target, kind] = [source, target, kind].map(CString::new);
    let (source, target, kind) = (source?, target?, kind?);
    // SAFETY: three C strings that outlive the call; no file system used here reads the null data.
    check(unsafe { libc::mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, std::ptr::null()) })
        .map(drop)
}

/// Makes the child of `command` run in these namespaces and die with the thread that started it.
pub fn place(command: &mut Command, network: Arc<OwnedFd>, mounts: Option<Arc<OwnedFd>>) {
    let enter = move || {
        let mut folder = [0; 4096];
        // SAFETY: these system calls are async-signal-safe; the buffer is as long as said and holds a
        // C string once getcwd succeeds; the descriptors are owned by the closure. The child is
        // single-threaded, as a change of mounts demands.
        unsafe {
            check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
            check(libc::setns(network.as_raw_fd(), libc::CLONE_NEWNET))?;
            if let Some(mounts) = &mounts {
                // Entering other mounts goes to their root: go back to the folder of the same name.
                if libc::getcwd(folder.as_mut_ptr(), folder.len()).is_null() {
                    return Err(io::Error::last_os_error());
                }
                check(libc::setns(mounts.as_raw_fd(), libc::CLONE_NEWNS))?;
                check(libc::chdir(folder.as_ptr()))?;
            }
        }
        Ok(())
    };
    // SAFETY: the closure only makes the system calls above and allocates nothing.
    unsafe { command.pre_exec(enter) };
}

/// Makes the child of `command` run as `nobody`, after [`place`] where both are wanted.
pub fn without_root(command: &mut Command) {
    let give_up = || {
        // SAFETY: async-signal-safe system calls; no groups are read through the null pointer.
        unsafe {
            check(libc::setgroups(0, std::ptr::null()))?;
            check(libc::setgid(65_534))?;
            check(libc::setuid(65_534))?;
        }
        Ok(())
    };
    // SAFETY: the closure only makes the system calls above and allocates nothing.
    unsafe { command.pre_exec(give_up) };
}

/// Makes the child of `command` meet a kernel without eBPF: `bpf(2)` answers `ENOSYS`. After [`place`].
pub fn without_bpf(command: &mut Command) {
    const LOAD_NUMBER: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS, at offset 0 of seccomp_data: the number.
    const JUMP_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    let number = u32::try_from(libc::SYS_bpf).unwrap_or_default();
    let errno = libc::SECCOMP_RET_ERRNO | u32::try_from(libc::ENOSYS).unwrap_or_default();
    let line = |code, jt, k| libc::sock_filter { code, jt, jf: 0, k };
    let mut filter = [
        line(LOAD_NUMBER, 0, 0),
        libc::sock_filter { jf: 1, ..line(JUMP_EQUAL, 0, number) },
        line(RETURN, 0, errno),
        line(RETURN, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let install = move || {
        let program = libc::sock_fprog { len: 4, filter: filter.as_mut_ptr() };
        // SAFETY: prctl is async-signal-safe; the program points at four instructions that the
        // closure owns, and the kernel copies them.
        unsafe {
            check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
            check(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program))?;
        }
        Ok(())
    };
    // SAFETY: the closure only makes the system calls above and allocates nothing.
    unsafe { command.pre_exec(install) };
}

/// Leaves a process no more memory of its own than this, in bytes. It is told so when it asks
/// for more.
///
/// # Errors
/// There is no such process.
pub fn limit_memory(process: u32, bytes: u64) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: the new limit outlives the call, and the old one is not asked for.
    check(unsafe {
        libc::prlimit(process.cast_signed(), libc::RLIMIT_DATA, &raw const limit, std::ptr::null_mut())
    })
    .map(drop)
}

/// A terminal: the end that a program sits at, and the end that shows what it writes.
///
/// # Errors
/// The kernel refuses.
pub fn terminal() -> io::Result<(OwnedFd, OwnedFd)> {
    let (mut shows, mut sits) = (-1, -1);
    let size = libc::winsize { ws_row: 40, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: two integers to write to, no name or settings, and a size that outlives the call.
    check(unsafe {
        libc::openpty(&raw mut shows, &raw mut sits, std::ptr::null_mut(), std::ptr::null(), &raw const size)
    })?;
    // SAFETY: both are fresh descriptors that nobody else owns.
    Ok(unsafe { (OwnedFd::from_raw_fd(sits), OwnedFd::from_raw_fd(shows)) })
}

/// Sends a signal to one process.
///
/// # Errors
/// The kernel's refusal, for instance `ESRCH`.
pub fn kill(process: u32, signal: libc::c_int) -> io::Result<()> {
    let process = libc::pid_t::try_from(process).map_err(io::Error::other)?;
    // SAFETY: kill takes two integers; zero and negative process ids were ruled out by the type.
    check(unsafe { libc::kill(process, signal) }).map(drop)
}

/// Keeps the calling thread on one processor.
///
/// # Errors
/// There is no such processor, or it is not for this process.
pub fn stay_on(processor: usize) -> io::Result<()> {
    // SAFETY: an all-zero cpu_set_t is a valid value of it.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: it sets one bit of `set`, and checks that there is such a bit.
    unsafe { libc::CPU_SET(processor, &mut set) };
    // SAFETY: the pointer and the size describe `set`, which outlives the call; 0 is the calling thread.
    check(unsafe { libc::sched_setaffinity(0, mem::size_of_val(&set), &raw const set) }).map(drop)
}

/// Waits until something can be read, or so long.
///
/// # Errors
/// The kernel's refusal.
pub fn wait_readable(from: &impl AsRawFd, length: Duration) -> io::Result<()> {
    let milliseconds = i32::try_from(length.as_millis()).map_err(io::Error::other)?;
    let mut poll = libc::pollfd { fd: from.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one structure to read and write, which outlives the call.
    match check(unsafe { libc::poll(&raw mut poll, 1, milliseconds) }) {
        Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
        _ => Ok(()),
    }
}

/// The index of an interface of the calling thread's network namespace.
///
/// # Errors
/// There is no such interface.
pub fn interface_index(name: &str) -> io::Result<u32> {
    let name = CString::new(name)?;
    // SAFETY: a C string that outlives the call.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        index => Ok(index),
    }
}

/// Something that an interface does for the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offloading {
    /// Cuts large TCP packets.
    Tso,
    /// Cuts large packets in software.
    Gso,
    /// Joins packets that follow each other.
    Gro,
}

/// Switches an offload of an interface of the calling thread's network namespace on or off.
///
/// # Errors
/// There is no such interface, or it cannot do that.
pub fn set_offloading(interface: &str, what: Offloading, on: bool) -> io::Result<()> {
    /// `struct ifreq` with a pointer to `struct ethtool_value`.
    #[repr(C)]
    struct Request {
        name: [u8; 16],
        value: *mut [u32; 2],
        padding: [u8; 16],
    }
    const SIOCETHTOOL: libc::c_ulong = 0x8946;
    let command = match what {
        Offloading::Tso => 0x1f,
        Offloading::Gso => 0x24,
        Offloading::Gro => 0x2c,
    };
    let mut value = [command, u32::from(on)];
    let mut request = Request { name: [0; 16], value: &raw mut value, padding: [0; 16] };
    for (to, from) in request.name.iter_mut().take(15).zip(interface.bytes()) {
        *to = from;
    }
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    // SAFETY: the request is as long as the kernel's; it and what it points at outlive the call.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) }).map(drop)
}

/// A socket that sends and receives whole frames on one interface of the calling thread's network
/// namespace. The type is the standard library's datagram socket for its `send`, `recv` and
/// timeouts; it never sees frames that the interface sends.
///
/// # Errors
/// There is no such interface, or the kernel refuses.
pub fn packet_socket(interface: &str) -> io::Result<UdpSocket> {
    packet_socket_of(interface, u16::try_from(libc::ETH_P_ALL).map_err(io::Error::other)?)
}

/// As [`packet_socket`], for frames of one EtherType. Unlike a socket for all frames it is served
/// where the protocols of the stack are, behind XDP and TC ingress.
///
/// # Errors
/// As [`packet_socket`].
pub fn packet_socket_of(interface: &str, ethertype: u16) -> io::Result<UdpSocket> {
    let index = interface_index(interface)?;
    let protocol = ethertype.to_be();
    // SAFETY: socket takes integers; the result is a fresh descriptor that nobody else owns.
    let socket = unsafe {
        OwnedFd::from_raw_fd(check(libc::socket(
            libc::AF_PACKET,
            libc::SOCK_RAW | libc::SOCK_CLOEXEC,
            0, // No protocol until the bind below: no frame of another interface slips in.
        ))?)
    };
    set_option(&socket, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, 1)?;
    // SAFETY: an all-zero sockaddr_ll is a valid value of it.
    let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
    address.sll_family = u16::try_from(libc::AF_PACKET).map_err(io::Error::other)?;
    address.sll_protocol = protocol;
    address.sll_ifindex = i32::try_from(index).map_err(io::Error::other)?;
    let length = u32::try_from(mem::size_of_val(&address)).map_err(io::Error::other)?;
    // Bursts are kept until somebody looks.
    set_option(&socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, 8 << 20)?;
    // SAFETY: the pointer and the length describe `address`, which outlives the call.
    check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) })?;
    Ok(UdpSocket::from(socket))
}

/// From here on every frame that a packet socket sends or receives begins with a `virtio_net_hdr`:
/// it tells how the frame is to be cut, and how much of it lies in the linear part.
///
/// # Errors
/// The kernel's refusal.
pub fn with_offload_header(socket: &UdpSocket) -> io::Result<()> {
    set_option(socket, libc::SOL_PACKET, PACKET_VNET_HDR, 1)
}

/// From `linux/if_packet.h`.
const PACKET_VNET_HDR: libc::c_int = 15;

fn set_option(
    socket: &impl AsRawFd,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    let length = u32::try_from(mem::size_of_val(&value)).map_err(io::Error::other)?;
    // SAFETY: the pointer and the length describe `value`, which outlives the call.
    check(unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), length) })
        .map(drop)
}

static INTERRUPTED: AtomicBool = AtomicBool::new(false);
static SIGNAL: AtomicI32 = AtomicI32::new(0);

extern "C" fn remember(signal: libc::c_int) {
    SIGNAL.store(signal, Ordering::Relaxed);
    INTERRUPTED.store(true, Ordering::Relaxed);
}

/// From here on SIGINT, SIGTERM and SIGHUP are remembered for [`interrupted`] and end nothing.
///
/// # Errors
/// The kernel's refusal.
pub fn remember_interrupts() -> io::Result<()> {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: an all-zero sigaction is valid: no flags, so that blocking calls return with
        // EINTR; the handler only stores to atomics.
        unsafe {
            let mut action: libc::sigaction = mem::zeroed();
            action.sa_sigaction = remember as extern "C" fn(libc::c_int) as libc::sighandler_t;
            check(libc::sigaction(signal, &raw const action, std::ptr::null_mut()))?;
        }
    }
    Ok(())
}

/// The signal that asked the process to end, if one did.
#[must_use]
pub fn interrupted() -> Option<libc::c_int> {
    INTERRUPTED.load(Ordering::Relaxed).then(|| SIGNAL.load(Ordering::Relaxed))
}
