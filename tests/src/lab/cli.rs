//! Runs `sg-agent` commands as a user would, and keeps all that they answer.

use std::{
    fs,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::{Namespace, binary};
use crate::syscall;

/// No command of the product may take longer.
const LIMIT: Duration = Duration::from_secs(60);

/// The paths of one agent: several agents live beside each other by these alone.
#[derive(Clone, Debug)]
pub struct Cli {
    namespace: Namespace,
    folder: PathBuf,
    bpffs: String,
}

impl Cli {
    /// For the agent that keeps everything in `folder` and its pins in `/sys/fs/bpf/NAME`.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn new(namespace: &Namespace, folder: &Path, name: &str) -> Result<Self> {
        fs::create_dir_all(folder.join("state"))?;
        let cli = Self {
            namespace: namespace.clone(),
            folder: folder.to_owned(),
            bpffs: format!("/sys/fs/bpf/{name}"),
        };
        cli.settings("")?;
        Ok(cli)
    }

    /// Writes the daemon's settings, without the watching of files: a test that rewrites the policy says
    /// itself when it is to be read.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn settings(&self, settings: &str) -> Result<()> {
        self.write("agent.toml", &format!("watch = false\n{settings}"))
    }

    /// The folder that commands run in: relative paths are relative to it.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The machine that it runs on.
    #[must_use]
    pub const fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Where the agent pins what it loads, on the machine.
    #[must_use]
    pub fn bpffs(&self) -> &str {
        &self.bpffs
    }

    /// The global options that say what the environment of [`Self::command`] says.
    #[must_use]
    pub fn options(&self) -> Vec<String> {
        let path = |name: &str| self.folder.join(name).display().to_string();
        vec![
            "--socket".into(),
            path("agent.sock"),
            "--state-dir".into(),
            path("state"),
            "--bpffs".into(),
            self.bpffs.clone(),
        ]
    }

    /// A command of the product on the agent's machine, pointed at the agent by its environment.
    ///
    /// # Errors
    /// There is no binary.
    pub fn command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = self.bare(arguments)?;
        command
            .env("SG_AGENT_SOCKET", self.folder.join("agent.sock"))
            .env("SG_AGENT_STATE_DIR", self.folder.join("state"))
            .env("SG_AGENT_BPFFS", &self.bpffs);
        Ok(command)
    }

    /// As [`Self::command`], without the variables.
    ///
    /// # Errors
    /// There is no binary.
    pub fn bare(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = self.namespace.command(super::text(binary::agent()?)?);
        command.args(arguments).current_dir(&self.folder).env_remove("RUST_LOG").env_remove("NO_COLOR");
        for name in ["SG_AGENT_SOCKET", "SG_AGENT_STATE_DIR", "SG_AGENT_BPFFS", "NOTIFY_SOCKET"] {
            command.env_remove(name);
        }
        Ok(command)
    }

    /// Runs a command to its end, whatever its exit status.
    ///
    /// # Errors
    /// It cannot be started, does not end, or is killed by a signal.
    pub fn run(&self, arguments: &[&str]) -> Result<Output> {
        Output::of(self.command(arguments)?, &format!("sg-agent {}", arguments.join(" ")))
    }

    /// Runs a command that must succeed.
    ///
    /// # Errors
    /// It did not: the error shows all that it wrote.
    pub fn ok(&self, arguments: &[&str]) -> Result<Output> {
        self.run(arguments)?.expect_status(0)
    }

    /// Runs a command that must succeed, for its JSON.
    ///
    /// # Errors
    /// It did not, or its output is not one JSON value.
    pub fn json(&self, arguments: &[&str]) -> Result<Value> {
        let arguments = [arguments, &["-o", "json"]].concat();
        self.ok(&arguments)?.json()
    }

    /// Writes a file into the agent's folder.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, name: &str, text: &str) -> Result<()> {
        fs::write(self.folder.join(name), text).with_context(|| format!("write {name}"))
    }
}

/// Starts a command. Its program may just have been written: another thread's child holds what was open for
/// writing until it has become another program, and the kernel starts nothing that somebody may write to.
fn started(command: &mut Command) -> io::Result<Child> {
    let until = Instant::now() + super::SILENCE;
    loop {
        match command.spawn() {
            Err(error) if error.kind() == ErrorKind::ExecutableFileBusy && Instant::now() < until => {
                thread::sleep(Duration::from_millis(1));
            }
            result => return result,
        }
    }
}

/// All that a command answered.
#[derive(Clone, Debug)]
pub struct Output {
    /// The command as typed.
    pub command: String,
    /// The exit status.
    pub status: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// Runs a prepared command to its end.
    ///
    /// # Errors
    /// It cannot be started, does not end within a minute, or is killed by a signal.
    pub fn of(mut command: Command, shown: &str) -> Result<Self> {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = started(&mut command).with_context(|| format!("start {shown}"))?;
        let process = child.id();
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || sender.send(child.wait_with_output()));
        let Ok(output) = receiver.recv_timeout(LIMIT) else {
            syscall::kill(process, libc::SIGKILL).context("end a command that hangs")?;
            bail!("{shown} did not end within {LIMIT:?}");
        };
        let output = output?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        let status = output.status.code().with_context(|| format!("{shown} ended by {}", output.status))?;
        Ok(Self { command: shown.to_owned(), status, stdout, stderr })
    }

    /// Itself, if the exit status is the expected one.
    ///
    /// # Errors
    /// It is another: the error shows all that the command wrote.
    pub fn expect_status(self, expected: i32) -> Result<Self> {
        if self.status == expected {
            return Ok(self);
        }
        bail!(
            "`{}` exits with {}, expected {expected}\nstdout: {}\nstderr: {}",
            self.command,
            self.status,
            self.stdout,
            self.stderr
        );
    }

    /// Standard output as one JSON value.
    ///
    /// # Errors
    /// It is not.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.stdout)
            .with_context(|| format!("`{}` writes what is not JSON:\n{}", self.command, self.stdout))
    }
}
