//! Interfaces whose wire is a file of this process: what is written is received by the kernel, and what
//! the kernel sends is read.
//!
//! Numbers are those of `linux/if_tun.h`.

use std::{
    fs::{File, OpenOptions},
    io,
    os::{fd::AsRawFd as _, unix::fs::OpenOptionsExt as _},
};

const TUNSETIFF: libc::c_ulong = 0x4004_54ca;
const TUNSETLINK: libc::c_ulong = 0x4004_54cd;
const IFF_TUN: u16 = 0x0001;
const IFF_TAP: u16 = 0x0002;
const IFF_NAPI: u16 = 0x0010;
const IFF_NAPI_FRAGS: u16 = 0x0020;
const IFF_NO_PI: u16 = 0x1000;

/// What lies on the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Bare IP packets.
    Tun,
    /// Ethernet frames.
    Tap,
    /// Ethernet frames, of which the first buffer of a vectored write alone lies in the linear part.
    TapFragments,
}

/// `struct ifreq`, as far as it is used here.
#[repr(C)]
struct Request {
    name: [u8; 16],
    flags: u16,
    padding: [u8; 22],
}

/// Makes an interface in the calling thread's network namespace. It goes when the file is closed. Reads
/// do not wait.
///
/// # Errors
/// The name is taken, or the kernel refuses.
pub fn open(name: &str, kind: Kind) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open("/dev/net/tun")?;
    let flags = match kind {
        Kind::Tun => IFF_TUN | IFF_NO_PI,
        Kind::Tap => IFF_TAP | IFF_NO_PI,
        Kind::TapFragments => IFF_TAP | IFF_NO_PI | IFF_NAPI | IFF_NAPI_FRAGS,
    };
    let mut request = Request { name: [0; 16], flags, padding: [0; 22] };
    for (to, from) in request.name.iter_mut().take(15).zip(name.bytes()) {
        *to = from;
    }
    // SAFETY: the request is as long as the kernel's and outlives the call.
    super::check(unsafe { libc::ioctl(file.as_raw_fd(), TUNSETIFF, &raw mut request) })?;
    Ok(file)
}

/// Says that the interface, which is down, carries something else: an `ARPHRD_*`.
///
/// # Errors
/// It is up.
pub fn carry(file: &File, arphrd: u16) -> io::Result<()> {
    // SAFETY: the argument is a number, and no memory is touched.
    super::check(unsafe { libc::ioctl(file.as_raw_fd(), TUNSETLINK, libc::c_ulong::from(arphrd)) })?;
    Ok(())
}
