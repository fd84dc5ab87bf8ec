//! One agent: its folder, its process, and the ways to start and end it.
//!
//! The policy it is started with is the file that [`Agent::apply`] and [`Agent::reload`] rewrite, so
//! there is never a doubt which policy a restart means; but for [`Agent::start_at`].

use std::{
    fs::{self, File},
    io::ErrorKind,
    ops::Deref,
    os::unix::{net::UnixDatagram, process::CommandExt as _},
    process::{Child, ExitStatus},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

use super::{Cli, Namespace, Output, PATIENCE};
use crate::syscall;

/// The name of the policy in the agent's folder.
pub const POLICY: &str = "policy.yaml";

/// An agent's folder and, between start and end, its process. All commands of [`Cli`] are its own.
#[derive(Debug)]
pub struct Agent {
    cli: Cli,
    daemon: Option<Child>,
    starts: u32,
    policy: String,
    _folder: TempDir,
}

impl Deref for Agent {
    type Target = Cli;

    fn deref(&self) -> &Cli {
        &self.cli
    }
}

impl Agent {
    /// Folders for an agent on this machine; nothing runs yet.
    ///
    /// # Errors
    /// The folders cannot be made.
    pub fn new(machine: &Namespace) -> Result<Self> {
        let folder = super::folder()?;
        let cli = Cli::new(machine, folder.path(), "sg-agent")?;
        Ok(Self { cli, daemon: None, starts: 0, policy: POLICY.to_owned(), _folder: folder })
    }

    /// Writes the policy and starts the daemon with it.
    ///
    /// # Errors
    /// It does not become ready: the error shows its log.
    pub fn start_with(&mut self, policy: &str) -> Result<()> {
        self.write(POLICY, policy)?;
        self.start()
    }

    /// Starts the daemon, now and from now on, with the policy of this name: a file or a folder.
    ///
    /// # Errors
    /// It does not become ready: the error shows its log.
    pub fn start_at(&mut self, policy: &str) -> Result<()> {
        policy.clone_into(&mut self.policy);
        self.start()
    }

    /// Starts the daemon and waits until it says that it is ready, to systemd's protocol.
    ///
    /// # Errors
    /// It does not become ready: the error shows its log.
    pub fn start(&mut self) -> Result<()> {
        if self.daemon.is_some() {
            bail!("the daemon is running already");
        }
        self.starts += 1;
        let notify = self.folder().join(format!("notify-{}", self.starts));
        let socket = UnixDatagram::bind(&notify)?;
        let log = File::create(self.log_path())?;
        let mut command = self.cli.command(&["run", "--config", "agent.toml", "--policy", &self.policy])?;
        command.env("NOTIFY_SOCKET", &notify).stdout(log.try_clone()?).stderr(log);
        // A group of its own: an interrupt at the terminal is for the lab, which then ends the agent.
        let mut child = command.process_group(0).spawn().context("start the daemon")?;
        let ready = wait_until_ready(&socket, &mut child);
        self.daemon = Some(child);
        ready.with_context(|| format!("the daemon's log:\n{}", self.log()))
    }

    fn log_path(&self) -> std::path::PathBuf {
        self.folder().join(format!("agent-{}.log", self.starts))
    }

    /// What the daemon wrote since its last start.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// The daemon's process id.
    ///
    /// # Errors
    /// None is running.
    pub fn process(&self) -> Result<u32> {
        self.daemon.as_ref().map(Child::id).context("no daemon is running")
    }

    /// Kills the daemon with SIGKILL.
    ///
    /// # Errors
    /// None is running.
    pub fn kill(&mut self) -> Result<()> {
        self.end(libc::SIGKILL).map(drop)
    }

    /// Asks the daemon to end, with SIGTERM, and waits for it.
    ///
    /// # Errors
    /// None is running, or it does not end.
    pub fn terminate(&mut self) -> Result<ExitStatus> {
        self.end(libc::SIGTERM)
    }

    fn end(&mut self, signal: libc::c_int) -> Result<ExitStatus> {
        let mut child = self.daemon.take().context("no daemon is running")?;
        syscall::kill(child.id(), signal)?;
        let start = Instant::now();
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            if start.elapsed() > PATIENCE {
                child.kill()?;
                child.wait()?;
                bail!("the daemon did not end on signal {signal}; its log:\n{}", self.log());
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends the daemon with SIGTERM and starts it again.
    ///
    /// # Errors
    /// It does not end well or does not become ready.
    pub fn restart(&mut self) -> Result<()> {
        let status = self.terminate()?;
        if !status.success() {
            bail!("on SIGTERM the daemon ends with {status}; its log:\n{}", self.log());
        }
        self.start()
    }

    /// Rewrites the policy and applies it.
    ///
    /// # Errors
    /// `apply` fails.
    pub fn apply(&self, policy: &str) -> Result<Output> {
        self.write(POLICY, policy)?;
        self.ok(&["apply", POLICY])
    }

    /// The generation in force.
    ///
    /// # Errors
    /// `counters` fails or does not say.
    pub fn generation(&self) -> Result<u64> {
        let counters = self.json(&["counters"])?;
        counters["generation"].as_u64().with_context(|| format!("a generation in {counters}"))
    }

    /// Rewrites the policy, sends SIGHUP and waits until another generation is in force.
    ///
    /// # Errors
    /// Nothing changes in time.
    pub fn reload(&self, policy: &str) -> Result<()> {
        let before = self.generation()?;
        self.write(POLICY, policy)?;
        syscall::kill(self.process()?, libc::SIGHUP)?;
        super::eventually("SIGHUP puts another generation in force", || Ok(self.generation()? != before))
            .with_context(|| format!("the daemon's log:\n{}", self.log()))
    }
}

fn wait_until_ready(socket: &UnixDatagram, child: &mut Child) -> Result<()> {
    socket.set_read_timeout(Some(Duration::from_millis(20)))?;
    let start = Instant::now();
    let mut buffer = [0; 4096];
    loop {
        match socket.recv(&mut buffer) {
            Ok(length) => {
                let message = String::from_utf8_lossy(&buffer[..length]);
                if message.lines().any(|line| line == "READY=1") {
                    return Ok(());
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => return Err(error).context("listen for the daemon"),
        }
        if let Some(status) = child.try_wait()? {
            bail!("the daemon ended before it was ready: {status}");
        }
        if start.elapsed() > PATIENCE {
            bail!("the daemon did not say READY=1 within {PATIENCE:?}");
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if self.daemon.is_some()
            && let Err(error) = self.kill()
        {
            use std::io::Write as _;
            drop(writeln!(std::io::stderr(), "cannot end the daemon: {error:#}"));
        }
    }
}
