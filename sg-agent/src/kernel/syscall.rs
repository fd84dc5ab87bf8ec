//! System calls that neither the standard library nor aya offers: links by interface index and
//! without aya's silent fallbacks, information about them, and the grace period.
//!
//! Layouts are those of <https://docs.kernel.org/userspace-api/ebpf/syscall.html>; a field that a
//! kernel does not know yet is left zero, which it accepts.
#![expect(unsafe_code, reason = "system calls take pointers to their arguments")]

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
    time::Duration,
};

use tokio::io::{Interest, unix::AsyncFd};

const MAP_CREATE: libc::c_int = 0;
const MAP_UPDATE: libc::c_int = 2;
const PROG_LOAD: libc::c_int = 5;
const OBJ_PIN: libc::c_int = 6;
const OBJ_GET: libc::c_int = 7;
const PROG_GET_FD_BY_ID: libc::c_int = 13;
const OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const PROG_QUERY: libc::c_int = 16;
const LINK_CREATE: libc::c_int = 28;
const LINK_UPDATE: libc::c_int = 29;
const LINK_DETACH: libc::c_int = 34;

/// `BPF_XDP`
const ATTACH_XDP: u32 = 37;
/// `XDP_FLAGS_DRV_MODE`: in the driver, or not at all.
const XDP_DRIVER_MODE: u32 = 1 << 2;
/// `BPF_F_BEFORE`, with nothing to be before: at the head.
const AT_HEAD: u32 = 1 << 3;
/// Programs on one hook that a query tells of; the kernel allows 64.
const QUERY_PROGRAMS: usize = 64;

/// Attach type of TCX ingress.
pub(crate) const TCX_INGRESS: u32 = 46;
/// Attach type of TCX egress.
pub(crate) const TCX_EGRESS: u32 = 47;

/// `BPF_FS_MAGIC`
const BPF_FS_MAGIC: u64 = 0xcafe_4a11;

/// Runs `bpf(command, attribute)`.
fn bpf<T>(command: libc::c_int, attribute: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: the attribute is a `repr(C)` struct that lives through the call, its size is passed
    // along, and every pointer in it is to memory that its owner, a caller in this file, holds for
    // as long and sized as it says beside.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attribute), size_of::<T>() as libc::c_uint)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Runs a `bpf` command that returns a file descriptor.
fn bpf_fd<T>(command: libc::c_int, attribute: &mut T) -> io::Result<OwnedFd> {
    let fd = bpf(command, attribute)?;
    // SAFETY: the commands that callers in this file pass return a new descriptor, which nobody
    // else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) })
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::from)
}

#[repr(C)]
struct Object {
    path: u64,
    fd: u32,
    flags: u32,
}

/// Pins a program, map or link.
pub(crate) fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    bpf(OBJ_PIN, &mut Object { path: path.as_ptr() as u64, fd: object.as_raw_fd() as u32, flags: 0 })
        .map(drop)
}

/// Opens a pinned program, map or link.
pub(crate) fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    bpf_fd(OBJ_GET, &mut Object { path: path.as_ptr() as u64, fd: 0, flags: 0 })
}

#[repr(C)]
struct MapCreate {
    kind: u32,
    key_size: u32,
    value_size: u32,
    entries: u32,
    flags: u32,
}

#[repr(C)]
struct MapUpdate {
    map: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// A map with this program to be called. The kernel empties it when nobody holds it any more.
pub(crate) fn program_array(program: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    const PROGRAM_ARRAY: u32 = 3;
    let mut create = MapCreate { kind: PROGRAM_ARRAY, key_size: 4, value_size: 4, entries: 1, flags: 0 };
    let map = bpf_fd(MAP_CREATE, &mut create)?;
    let (key, value) = (0_u32, program.as_raw_fd());
    let mut update = MapUpdate {
        map: map.as_raw_fd() as u32,
        pad: 0,
        key: &raw const key as u64,
        value: &raw const value as u64,
        flags: 0,
    };
    bpf(MAP_UPDATE, &mut update)?;
    Ok(map)
}

#[repr(C)]
struct ProgramLoad {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    version: u32,
    flags: u32,
    name: [u8; 16],
}

/// Loads a classifier from its instructions.
pub(crate) fn load_classifier(instructions: &[[u8; 8]], name: &str) -> io::Result<OwnedFd> {
    const CLASSIFIER: u32 = 3;
    let mut load = ProgramLoad {
        kind: CLASSIFIER,
        count: instructions.len() as u32,
        instructions: instructions.as_ptr() as u64,
        license: c"Dual MIT/GPL".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        version: 0,
        flags: 0,
        name: [0; 16],
    };
    for (to, from) in load.name.iter_mut().take(15).zip(name.bytes()) {
        *to = from;
    }
    bpf_fd(PROG_LOAD, &mut load)
}

#[repr(C)]
struct LinkCreate {
    program: u32,
    ifindex: u32,
    attach_type: u32,
    flags: u32,
    relative: u32,
    pad: u32,
    expected_revision: u64,
}

/// Attaches an XDP program to a driver by a link.
pub(crate) fn link_xdp(program: BorrowedFd<'_>, ifindex: u32) -> io::Result<OwnedFd> {
    link(program, ifindex, ATTACH_XDP, XDP_DRIVER_MODE)
}

/// Attaches a classifier at the head of a TCX hook by a link.
pub(crate) fn link_tcx(program: BorrowedFd<'_>, ifindex: u32, attach_type: u32) -> io::Result<OwnedFd> {
    link(program, ifindex, attach_type, AT_HEAD)
}

fn link(program: BorrowedFd<'_>, ifindex: u32, attach_type: u32, flags: u32) -> io::Result<OwnedFd> {
    let program = program.as_raw_fd() as u32;
    let mut attribute =
        LinkCreate { program, ifindex, attach_type, flags, relative: 0, pad: 0, expected_revision: 0 };
    bpf_fd(LINK_CREATE, &mut attribute)
}

#[repr(C)]
struct LinkUpdate {
    link: u32,
    program: u32,
    flags: u32,
    old_program: u32,
}

/// Has a link run another program, between two packets.
pub(crate) fn link_update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attribute = LinkUpdate {
        link: link.as_raw_fd() as u32,
        program: program.as_raw_fd() as u32,
        flags: 0,
        old_program: 0,
    };
    bpf(LINK_UPDATE, &mut attribute).map(drop)
}

/// Detaches a link for everybody who holds it.
pub(crate) fn link_detach(link: BorrowedFd<'_>) -> io::Result<()> {
    bpf(LINK_DETACH, &mut (link.as_raw_fd() as u32)).map(drop)
}

#[repr(C)]
struct GetInfo {
    fd: u32,
    length: u32,
    info: u64,
}

fn info<T>(object: BorrowedFd<'_>, info: &mut T) -> io::Result<()> {
    let mut attribute = GetInfo {
        fd: object.as_raw_fd() as u32,
        length: size_of::<T>() as u32,
        info: std::ptr::from_mut(info) as u64,
    };
    bpf(OBJ_GET_INFO_BY_FD, &mut attribute).map(drop)
}

/// What the kernel tells of an XDP or TCX link: `struct bpf_link_info`.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct LinkInfo {
    kind: u32,
    /// Its id.
    pub(crate) id: u32,
    /// The program that it runs.
    pub(crate) program: u32,
    pad: u32,
    /// The interface; 0 once that is gone.
    pub(crate) ifindex: u32,
    attach_type: u32,
    rest: [u64; 5],
}

/// Asks about a link.
pub(crate) fn link_info(link: BorrowedFd<'_>) -> io::Result<LinkInfo> {
    let mut found = LinkInfo::default();
    info(link, &mut found)?;
    Ok(found)
}

/// The beginning of `struct bpf_prog_info`.
#[derive(Default)]
#[repr(C)]
struct ProgramInfo {
    kind: u32,
    id: u32,
    tag: [u8; 8],
    lengths: [u32; 2],
    pointers: [u64; 2],
    load_time: u64,
    uid: u32,
    map_count: u32,
    map_ids: u64,
    name: [u8; 16],
}

/// Id and name of a loaded program. Names end after fifteen octets.
pub(crate) fn program_info(program: BorrowedFd<'_>) -> io::Result<(u32, String)> {
    let mut found = ProgramInfo::default();
    info(program, &mut found)?;
    let name = found.name.split(|octet| *octet == 0).next().unwrap_or_default();
    Ok((found.id, String::from_utf8_lossy(name).into_owned()))
}

/// The id of a program, map or link: what the kernel tells of each begins with its kind and id.
pub(crate) fn object_id(object: BorrowedFd<'_>) -> io::Result<u32> {
    let mut found = [0_u32; 2];
    info(object, &mut found)?;
    Ok(found[1])
}

#[repr(C)]
struct ById {
    id: u32,
    next: u32,
    flags: u32,
}

/// Opens a loaded program by its id.
pub(crate) fn program_by_id(id: u32) -> io::Result<OwnedFd> {
    bpf_fd(PROG_GET_FD_BY_ID, &mut ById { id, next: 0, flags: 0 })
}

#[repr(C)]
struct Query {
    ifindex: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    programs: u64,
    count: u32,
    pad: u32,
    program_flags: u64,
    links: u64,
    link_flags: u64,
    revision: u64,
}

/// Ids of the programs on a TCX hook, in the order in which they run.
pub(crate) fn tcx_programs(ifindex: u32, attach_type: u32) -> io::Result<Vec<u32>> {
    let (count, ids) = tcx_query(ifindex, attach_type)?;
    Ok(ids.programs.into_iter().take(count).collect())
}

/// Ids of the first program on a TCX hook, and of its link: 0 where it has none.
pub(crate) fn tcx_first(ifindex: u32, attach_type: u32) -> io::Result<Option<(u32, u32)>> {
    let (count, ids) = tcx_query(ifindex, attach_type)?;
    Ok((count > 0).then_some((ids.programs[0], ids.links[0])))
}

/// What is on a TCX hook, in the order in which it runs.
struct OnHook {
    programs: [u32; QUERY_PROGRAMS],
    links: [u32; QUERY_PROGRAMS],
}

fn tcx_query(ifindex: u32, attach_type: u32) -> io::Result<(usize, OnHook)> {
    let mut ids = OnHook { programs: [0; QUERY_PROGRAMS], links: [0; QUERY_PROGRAMS] };
    let mut attribute = Query {
        ifindex,
        attach_type,
        query_flags: 0,
        attach_flags: 0,
        programs: ids.programs.as_mut_ptr() as u64,
        count: QUERY_PROGRAMS as u32,
        pad: 0,
        program_flags: 0,
        links: ids.links.as_mut_ptr() as u64,
        link_flags: 0,
        revision: 0,
    };
    bpf(PROG_QUERY, &mut attribute)?;
    Ok((attribute.count as usize, ids))
}

/// Waits until every program that was running when this was called has ended.
///
/// `membarrier(MEMBARRIER_CMD_GLOBAL)` is `synchronize_rcu`, and programs run inside RCU read-side
/// sections. Where it is not to be had (with `nohz_full`), time does: no program runs for as long.
pub(crate) fn grace_period() {
    const LONG_ENOUGH: Duration = Duration::from_millis(50);
    // SAFETY: the command takes no pointers.
    let result = unsafe { libc::syscall(libc::SYS_membarrier, libc::MEMBARRIER_CMD_GLOBAL, 0, 0) };
    if result != 0 {
        std::thread::sleep(LONG_ENOUGH);
    }
}

/// Has the tokio runtime tell when a descriptor becomes readable.
pub(crate) fn readiness(fd: BorrowedFd<'_>) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` keeps one descriptor open for as long as it lives.
    Ok(unsafe { AsyncFd::register_with_interest(fd.try_clone_to_owned()?, Interest::READABLE) }?)
}

/// Whether `path` lies on a BPF file system.
pub(crate) fn is_bpffs(path: &Path) -> io::Result<bool> {
    let path = c_path(path)?;
    let mut found = std::mem::MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: the path ends in a zero octet, and the kernel writes one `statfs`.
    if unsafe { libc::statfs(path.as_ptr(), found.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so that it has written it.
    let magic = unsafe { found.assume_init() }.f_type;
    Ok(magic as u64 & 0xffff_ffff == BPF_FS_MAGIC)
}

/// Mounts a BPF file system that only root may enter.
pub(crate) fn mount_bpffs(point: &Path) -> io::Result<()> {
    let point = c_path(point)?;
    let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    // SAFETY: the strings end in zero octets and live through the call, the data included.
    let result = unsafe {
        libc::mount(c"bpf".as_ptr(), point.as_ptr(), c"bpf".as_ptr(), flags, c"mode=0700".as_ptr().cast())
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Lets this process hold as many descriptors as it may.
pub(crate) fn raise_descriptor_limit() -> io::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes one `rlimit`.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } < 0 {
        return Err(io::Error::last_os_error());
    }
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: the kernel reads one `rlimit`.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// How long the calling thread has used a processor.
pub(crate) fn thread_time() -> Duration {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one `timespec`. The clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut now) };
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// The monotonic clock, which does not run while the machine sleeps: neither do jiffies.
pub(crate) fn monotonic() -> Duration {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one `timespec`. The clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// Gives the memory that the allocator holds for later back to the kernel.
pub(crate) fn give_back_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes no pointers, and locks what it touches.
    unsafe {
        libc::malloc_trim(0);
    }
}
