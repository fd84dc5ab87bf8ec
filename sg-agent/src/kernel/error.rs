//! What can go wrong between the agent and the kernel, and what to do about it.

use std::{fmt, io, path::PathBuf};

use aya::{maps::MapError, programs::ProgramError, sys::SyscallError};

/// A failed operation on programs, maps, links, pins or interfaces.
///
/// Displayed it is one line: what failed on what, and why. [`KernelError::remedy`] is the way out.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// A system call or file operation failed.
    #[error("cannot {operation} {object}: {cause}")]
    System {
        /// What was attempted, as in "pin".
        operation: &'static str,
        /// What it was attempted on.
        object: String,
        /// What the kernel said.
        cause: io::Error,
    },
    /// The kernel, or a driver, lacks something that is needed.
    #[error("the kernel lacks {what}: {detail}")]
    Lacks {
        /// What is missing.
        what: &'static str,
        /// How it showed.
        detail: String,
    },
    /// The pin folder does not lie on a BPF file system.
    #[error("{} is not on a bpf file system", .path.display())]
    NotBpffs {
        /// The folder.
        path: PathBuf,
    },
    /// The XDP hook belongs to somebody else, and the attachment insists on XDP.
    #[error("the XDP hook of {interface} is occupied by program {program}")]
    Occupied {
        /// The interface.
        interface: String,
        /// Name and id of the program that is there.
        program: String,
    },
    /// The interface does not exist, or is another by now.
    #[error("there is no interface {name} with index {ifindex}")]
    NoInterface {
        /// The name asked for.
        name: String,
        /// The index asked for.
        ifindex: u32,
    },
    /// Nothing is enforced on an interface.
    #[error("nothing is enforced on {name}, so that everything passes")]
    NotAttached {
        /// The interface.
        name: String,
    },
    /// As many ports are unlocked as can be.
    #[error("{limit} ports are unlocked already, and no more fit")]
    NoPlace {
        /// How many fit.
        limit: usize,
    },
    /// Attaching before the first policy would drop every packet.
    #[error("nothing is published yet, so nothing may be attached")]
    NothingPublished,
    /// The four slots that an interface may lie in are taken.
    #[error(
        "no slot is free for interface index {ifindex}: more than {limit} attachments lie close together"
    )]
    NoSlot {
        /// The interface.
        ifindex: u32,
        /// Slots looked at.
        limit: u32,
    },
    /// What is pinned is not what this version pins.
    #[error("{object} is not as this version makes it: {detail}")]
    Foreign {
        /// The pinned object.
        object: String,
        /// What was found and what was expected.
        detail: String,
    },
    /// An image is not whole: the one handed in, or the one read back from the kernel.
    #[error("the {which} image is not whole: {cause}")]
    Image {
        /// Which image.
        which: &'static str,
        /// What is wrong with it.
        cause: crate::image::Invalid,
    },
    /// What was read back is not what was written.
    #[error("{what} read back from the kernel differs from what was written")]
    ReadBack {
        /// What was written.
        what: &'static str,
    },
    /// A number does not fit its field.
    #[error("{what} is {found}, and at most {limit} fits")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// The number.
        found: u64,
        /// The largest that fits.
        limit: u64,
    },
}

impl KernelError {
    /// A failed system call or file operation.
    pub(crate) fn system(operation: &'static str, object: impl fmt::Display, cause: io::Error) -> Self {
        Self::System { operation, object: object.to_string(), cause }
    }

    /// A failed operation on a program; a refusal by the verifier keeps the end of its log.
    pub(crate) fn program(operation: &'static str, object: impl fmt::Display, error: ProgramError) -> Self {
        match error {
            ProgramError::SyscallError(SyscallError { io_error, .. }) | ProgramError::IOError(io_error) => {
                Self::system(operation, object, io_error)
            }
            ProgramError::LoadError { io_error, verifier_log } => {
                let log = verifier_log.to_string();
                let last = log.lines().rev().find(|line| is_word(line));
                let detail = format!("{io_error}; the verifier's last word: {}", last.unwrap_or("none"));
                Self::system(operation, object, io::Error::new(io_error.kind(), detail))
            }
            other => Self::system(operation, object, io::Error::other(other)),
        }
    }

    /// A failed operation on a map.
    pub(crate) fn map(operation: &'static str, object: impl fmt::Display, error: MapError) -> Self {
        match error {
            MapError::SyscallError(SyscallError { io_error, .. })
            | MapError::CreateError { io_error, .. }
            | MapError::IoError(io_error) => Self::system(operation, object, io_error),
            other => Self::system(operation, object, io::Error::other(other)),
        }
    }

    /// What the kernel said, as a number.
    pub(crate) fn os_error(&self) -> Option<i32> {
        match self {
            Self::System { cause, .. } => cause.raw_os_error(),
            _ => None,
        }
    }

    /// Whether the process lacks the privilege.
    #[must_use]
    pub fn is_permission(&self) -> bool {
        matches!(self, Self::System { cause, .. } if cause.kind() == io::ErrorKind::PermissionDenied)
    }

    /// Whether the kernel, or its configuration, lacks what is needed.
    #[must_use]
    pub fn is_unsupported(&self) -> bool {
        match self {
            Self::Lacks { .. } | Self::NotBpffs { .. } => true,
            Self::System { cause, .. } => {
                matches!(cause.raw_os_error(), Some(libc::ENOSYS | libc::EOPNOTSUPP))
            }
            _ => false,
        }
    }

    /// The exit status of a command that ends with this: 5 permission, 7 the kernel lacks what is
    /// needed, else 1.
    #[must_use]
    pub fn exit_status(&self) -> u8 {
        if self.is_permission() {
            5
        } else if self.is_unsupported() {
            7
        } else {
            1
        }
    }

    /// What to do about it, where something can be done.
    #[must_use]
    pub fn remedy(&self) -> Option<String> {
        Some(match self {
            Self::NotBpffs { .. } => "run `mount -t bpf bpf /sys/fs/bpf`".to_owned(),
            Self::Occupied { .. } => "detach that program, or set `hook: auto` or `hook: tc`".to_owned(),
            Self::NoPlace { .. } => "end what is open with `sg-agent unlock --end`".to_owned(),
            Self::Foreign { .. } => "end its enforcement with `sg-agent detach --all`".to_owned(),
            _ if self.is_permission() => {
                "run as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON".to_owned()
            }
            Self::System { .. }
            | Self::Lacks { .. }
            | Self::NoInterface { .. }
            | Self::NotAttached { .. }
            | Self::NothingPublished
            | Self::NoSlot { .. }
            | Self::Image { .. }
            | Self::ReadBack { .. }
            | Self::TooLarge { .. } => return None,
        })
    }
}

/// Whether a line of the verifier's log is more than its figures.
fn is_word(line: &str) -> bool {
    const FIGURES: [&str; 3] = ["processed ", "stack depth ", "verification time "];
    !line.trim().is_empty() && FIGURES.iter().all(|figure| !line.starts_with(figure))
}
