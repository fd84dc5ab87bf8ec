//! A program of somebody else in a filter of the clsact qdisc: where the kernel has no TCX links.

use std::{
    fs::{self, File},
    io,
    os::fd::OwnedFd,
    process::{Command, Output},
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

use super::enter_network;

/// The first place of all, as those take it that mean to be the only ones.
const PLACE: &str = "prio 1 protocol all handle 1 bpf";

/// A filter; removed when dropped.
#[derive(Debug)]
pub(super) struct Filter {
    network: OwnedFd,
    /// `dev INTERFACE ingress` or `egress`.
    hook: String,
}

impl Filter {
    /// Puts a program there, which `pin` pins where it is told to. The bpffs is this process's.
    pub(super) fn attach(
        interface: &str,
        is_ingress: bool,
        pin: impl FnOnce(&str) -> io::Result<()>,
    ) -> io::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let network = OwnedFd::from(File::open("/proc/thread-self/ns/net")?);
        let hook = format!("dev {interface} {}", if is_ingress { "ingress" } else { "egress" });
        let filter = Self { network, hook };
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = format!("/sys/fs/bpf/sg-foreign-{}-{number}", std::process::id());
        pin(&path)?;
        // It is there when another filter is.
        drop(filter.tc(&format!("qdisc add dev {interface} clsact"))?);
        let Self { hook, .. } = &filter;
        let added = filter.tc(&format!("filter add {hook} {PLACE} direct-action object-pinned {path}"));
        fs::remove_file(&path)?;
        let added = added?;
        if added.status.success() {
            Ok(filter)
        } else {
            Err(io::Error::other(String::from_utf8_lossy(&added.stderr).into_owned()))
        }
    }

    /// Whether it is still there: not when its interface is gone.
    pub(super) fn is_attached(&self) -> io::Result<bool> {
        let shown = self.tc(&format!("filter show {}", self.hook))?;
        Ok(shown.status.success() && String::from_utf8_lossy(&shown.stdout).contains("handle 0x1 "))
    }

    /// Runs `tc` in the network namespace of the interface.
    fn tc(&self, words: &str) -> io::Result<Output> {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                enter_network(&self.network)?;
                Command::new("tc").args(words.split(' ')).output()
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl Drop for Filter {
    fn drop(&mut self) {
        // Its interface may be gone, and the filter with it.
        drop(self.tc(&format!("filter del {} {PLACE}", self.hook)));
    }
}
