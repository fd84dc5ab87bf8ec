//! Boots a kernel in QEMU, and reads what it says on its serial console.

use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use super::archive::Archive;
use super::kernel::Kernel;
use crate::setup::tools;

const MEMORY: &str = "2048";
/// A machine that boots natively has ended by then.
const PROBE: Duration = Duration::from_secs(10);
/// What the machine says for the probe.
const ALIVE: &str = "vm: alive";

/// Who runs the machine's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Accelerator {
    /// This processor, by KVM.
    Kvm,
    /// QEMU, one by one.
    Emulation,
}

/// What an emulated machine's clock does while there is nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Idle {
    /// It leaps to when there is.
    Leaps,
    /// It goes on as this machine's does: what waits for a disk must not find that minutes have passed.
    Passes,
}

impl fmt::Display for Accelerator {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Kvm => "natively",
            Self::Emulation => "emulated",
        })
    }
}

/// KVM where a machine really boots with it, which the device file alone does not say.
pub(super) fn accelerator(kernel: &Kernel) -> Result<Accelerator> {
    if File::options().read(true).write(true).open("/dev/kvm").is_err() {
        return Ok(Accelerator::Emulation);
    }
    let mut archive = Archive::default();
    archive.device(Path::new("/dev/console"), (5, 1));
    archive.file(Path::new("/bin/busybox"), &fs::read(tools::busybox()?.path)?);
    let init = format!("#!/bin/busybox sh\necho '{ALIVE}'\n/bin/busybox poweroff -f\n");
    archive.file(Path::new("/init"), init.as_bytes());
    let path = crate::workspace::target_dir().join("vm/probe.cpio");
    fs::write(&path, archive.finish())?;
    let mut is_alive = false;
    let ended = watch(command(kernel, &path, Accelerator::Kvm, Idle::Passes)?, PROBE, |line| {
        is_alive |= line.contains(ALIVE);
    });
    Ok(if ended.is_ok() && is_alive { Accelerator::Kvm } else { Accelerator::Emulation })
}

/// A machine that boots `kernel` with this file system. Its console is its standard output.
pub(super) fn command(
    kernel: &Kernel,
    initramfs: &Path,
    accelerator: Accelerator,
    idle: Idle,
) -> Result<Command> {
    let qemu = tools::emulator()?;
    let mut command = qemu.command()?;
    if let Some(root) = qemu.root {
        // Firmware is where it was unpacked, too.
        let firmware = ["qemu", "seabios"].map(|name| root.join("usr/share").join(name));
        command.args(firmware.iter().flat_map(|folder| [OsStr::new("-L"), folder.as_os_str()]));
    }
    match accelerator {
        Accelerator::Kvm => command.args(["-accel", "kvm", "-cpu", "host", "-smp", "2"]),
        // The machine's clock counts instructions, two nanoseconds each: what a test waits for does not
        // depend on how fast and how busy this machine is. It needs a single processor. A plain one has
        // no string instructions that are slow to emulate.
        Accelerator::Emulation => command
            .args(["-accel", "tcg,thread=single", "-cpu", "qemu64", "-smp", "1,maxcpus=2", "-icount"])
            .arg(match idle {
                Idle::Leaps => "shift=1,sleep=off",
                Idle::Passes => "shift=1,sleep=on",
            }),
    };
    command.args(["-m", MEMORY]);
    command.args(["-nodefaults", "-display", "none", "-serial", "stdio", "-monitor", "none", "-no-reboot"]);
    command.arg("-kernel").arg(&kernel.image).arg("-initrd").arg(initramfs);
    // A panic ends the machine; warnings and worse are shown. Nobody attacks this kernel from inside.
    command.args(["-append", "console=ttyS0 loglevel=5 panic=-1 mitigations=off init_on_alloc=0"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Ok(command)
}

/// Ends with the scope: no machine is left behind.
struct Machine(Child);

impl Drop for Machine {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Starts a machine and hands every line of its console to `each`, until it turns itself off.
///
/// # Errors
/// QEMU fails, or `limit` has passed; the machine then is ended.
pub(super) fn watch(mut command: Command, limit: Duration, mut each: impl FnMut(&str)) -> Result<()> {
    let start = Instant::now();
    let child = command.spawn().context("cannot start the machine")?;
    let mut machine = Machine(child);
    let (lines, said) = channel();
    let console = machine.0.stdout.take().context("the machine has no console")?;
    let complaints = machine.0.stderr.take().context("the machine has no standard error")?;
    read(console, lines.clone());
    read(complaints, lines);
    loop {
        let left = limit.saturating_sub(start.elapsed());
        match said.recv_timeout(left) {
            Ok(line) => each(&String::from_utf8_lossy(&line)),
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                bail!("the machine did not turn itself off within {} s", limit.as_secs())
            }
        }
    }
    let status = machine.0.wait()?;
    ensure!(status.success(), "the machine failed: {status}");
    Ok(())
}

fn read(from: impl io::Read + Send + 'static, lines: Sender<Vec<u8>>) {
    thread::spawn(move || {
        for line in BufReader::new(from).split(b'\n').map_while(io::Result::ok) {
            if lines.send(line).is_err() {
                return;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    #[test]
    fn what_is_said_is_read_until_the_end() {
        let mut lines = Vec::new();
        watch(shell("echo one; echo two"), PROBE, |line| lines.push(line.to_owned())).unwrap();
        assert_eq!(lines, ["one", "two"]);
        assert!(watch(shell("exit 3"), PROBE, |_| ()).unwrap_err().to_string().contains('3'));
    }

    #[test]
    fn what_does_not_end_is_ended() {
        let start = Instant::now();
        let error = watch(shell("exec sleep 60"), Duration::from_millis(300), |_| ()).unwrap_err();
        assert!(error.to_string().contains("turn itself off"));
        assert!(start.elapsed() < Duration::from_secs(30));
    }
}
