//! Namespaces: to make one, to run closures and programs in it.
//!
//! What is wired into a namespace is [`super::wire`]'s business.

use std::{
    fs::{self, File},
    os::fd::OwnedFd,
    panic,
    process::{Command, Stdio},
    sync::Arc,
    thread,
};

use anyhow::{Context as _, Result, bail};

use crate::syscall;

/// Settings that every interface made later inherits: no address, router or group chatter beyond
/// what the test itself causes, so that packets can be counted exactly.
const QUIET: [(&str, &str); 8] = [
    ("ipv6/conf/default/addr_gen_mode", "1"),
    ("ipv6/conf/default/accept_dad", "0"),
    ("ipv6/conf/default/dad_transmits", "0"),
    ("ipv6/conf/default/accept_ra", "0"),
    ("ipv6/conf/default/router_solicitations", "0"),
    ("ipv6/conf/default/mldv2_unsolicited_report_interval", "1"),
    ("ipv6/conf/default/mldv1_unsolicited_report_interval", "1"),
    // Ping sockets for everyone.
    ("ipv4/ping_group_range", "0 2147483647"),
];

/// A network namespace, and for a machine that runs an agent a mount namespace with a bpffs of its
/// own on `/sys/fs/bpf`. Cheap to clone; gone with the last clone, its processes and its sockets.
#[derive(Clone, Debug)]
pub struct Namespace {
    name: String,
    network: Arc<OwnedFd>,
    mounts: Option<Arc<OwnedFd>>,
}

impl Namespace {
    /// A new network namespace, with `lo` up and nothing else.
    ///
    /// # Errors
    /// The kernel refuses, or a setting is missing.
    pub fn new(name: &str) -> Result<Self> {
        let network = on_a_thread(|| {
            syscall::new_network()?;
            Ok(OwnedFd::from(File::open("/proc/thread-self/ns/net")?))
        })
        .with_context(|| format!("make the network namespace {name}"))?;
        let namespace = Self { name: name.to_owned(), network: Arc::new(network), mounts: None };
        for (key, value) in QUIET {
            namespace.set(key, value)?;
        }
        namespace.ip(&["link set lo up"])?;
        Ok(namespace)
    }

    /// As [`Self::new`], for a machine that runs an agent.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn machine(name: &str) -> Result<Self> {
        let mut namespace = Self::new(name)?;
        let network = Arc::clone(&namespace.network);
        let mounts = on_a_thread(move || {
            syscall::enter_network(&network)?;
            syscall::new_mounts()?;
            // A fresh sysfs shows this network namespace's interfaces; the bpffs goes into it.
            syscall::mount("sysfs", "/sys", "sysfs", 0)?;
            syscall::mount("bpf", "/sys/fs/bpf", "bpf", 0)?;
            Ok(OwnedFd::from(File::open("/proc/thread-self/ns/mnt")?))
        })
        .with_context(|| format!("give {name} mounts of its own"))?;
        namespace.mounts = Some(Arc::new(mounts));
        Ok(namespace)
    }

    /// The role it plays, for messages.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs a closure on a thread inside the network namespace. Sockets that it makes stay there.
    ///
    /// # Errors
    /// The closure's error, or the namespace cannot be entered.
    ///
    /// # Panics
    /// When the closure does.
    pub fn enter<T: Send>(&self, inside: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                syscall::enter_network(&self.network).with_context(|| format!("enter {}", self.name))?;
                inside()
            });
            thread.join().unwrap_or_else(|panic| panic::resume_unwind(panic))
        })
    }

    /// As [`Self::enter`], with the mounts of a machine that runs an agent.
    ///
    /// # Errors
    /// As [`Self::enter`]; it is no such machine.
    ///
    /// # Panics
    /// When the closure does.
    pub fn enter_all<T: Send>(&self, inside: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let mounts = self.mounts.as_ref().with_context(|| format!("{} has no mounts", self.name))?;
        self.enter(|| {
            syscall::enter_mounts(mounts).with_context(|| format!("enter the mounts of {}", self.name))?;
            inside()
        })
    }

    /// A command that will run inside, and die with the thread that starts it.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.stdin(Stdio::null());
        syscall::place(&mut command, Arc::clone(&self.network), self.mounts.clone());
        command
    }

    /// Runs lines of `ip` inside, all in one batch.
    ///
    /// # Errors
    /// `ip` is missing or refuses a line: the error shows the batch and its answer.
    pub fn ip(&self, lines: &[&str]) -> Result<String> {
        let batch = tempfile::NamedTempFile::new().context("make a batch file for ip")?;
        fs::write(batch.path(), lines.join("\n") + "\n")?;
        let output = self
            .command("ip")
            .arg("-batch")
            .arg(batch.path())
            .output()
            .context("run ip (Debian: iproute2)")?;
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr);
            bail!("ip in {}:\n{}\nanswers: {why}", self.name, lines.join("\n"));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Writes a setting below `/proc/sys/net`.
    ///
    /// # Errors
    /// There is no such setting, or the kernel refuses the value.
    pub fn set(&self, key: &str, value: &str) -> Result<()> {
        self.enter(|| {
            let path = format!("/proc/sys/net/{key}");
            fs::write(&path, value).with_context(|| format!("write {value} to {path} in {}", self.name))
        })
    }

    /// Gives every interface made later a link-local address, as it has outside of labs. A router
    /// cannot find its IPv6 neighbours without one.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn link_local(&self) -> Result<()> {
        self.set("ipv6/conf/default/addr_gen_mode", "0")
    }

    /// Forwards IPv4 and IPv6 between its interfaces.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn forward(&self) -> Result<()> {
        self.set("ipv4/ip_forward", "1")?;
        self.set("ipv6/conf/all/forwarding", "1")
    }

    /// Another network namespace's place in commands of this one (`netns PATH`).
    #[must_use]
    pub fn path(&self) -> String {
        use std::os::fd::AsRawFd as _;
        format!("/proc/{}/fd/{}", std::process::id(), self.network.as_raw_fd())
    }
}

/// Runs `make` on a thread of its own, whose namespaces nobody else shares.
fn on_a_thread<T: Send + 'static>(make: impl FnOnce() -> std::io::Result<T> + Send + 'static) -> Result<T> {
    let made = thread::spawn(make).join();
    Ok(made.unwrap_or_else(|panic| panic::resume_unwind(panic))?)
}

/// Waits until the interface reports that it is running: packets sent earlier can be lost.
///
/// # Errors
/// It does not come up.
pub(super) fn wait_for_carrier(namespace: &Namespace, interface: &str) -> Result<()> {
    super::eventually(&format!("{interface} in {} is up", namespace.name), || {
        Ok(namespace.ip(&[&format!("link show {interface}")])?.contains("LOWER_UP"))
    })
}
