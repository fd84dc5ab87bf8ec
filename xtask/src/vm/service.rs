//! The systemd unit in a machine that systemd boots from a disk: twice, for the power fails in between.
//!
//! What is proven is in `service/machine`: the tests of each boot, and the wire that packets come from.

mod disk;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::archive::Archive;
use super::boot::{self, Accelerator, Idle};
use super::kernel::Kernel;
use super::report::Report;
use crate::setup::tools;
use crate::{run, workspace};

/// From one power failure to the next, and what the machine says at its end.
pub(super) const BOOTS: [&str; 2] = ["first", "second"];
/// A boot that hangs is ended.
const LIMIT: Duration = Duration::from_secs(10 * 60);
const INIT: &str = include_str!("service/machine/init.sh");
/// What the disk hangs on.
const MODULES: [&str; 2] = ["virtio_pci", "virtio_blk"];

/// Boots the machine until it turns itself off, once for each of [`BOOTS`].
pub(super) fn run(kernel: &Kernel, accelerator: Accelerator, report: &Mutex<Report>) -> Result<()> {
    let folder = workspace::target_dir().join("vm/systemd");
    let disk = disk::make(kernel, &folder)?;
    let initramfs = folder.join("initramfs.cpio");
    fs::write(&initramfs, first(kernel)?)?;
    for which in BOOTS {
        run::say(&format!("vm: {} boots with systemd, {accelerator}: {which} boot", kernel.release));
        let mut command = boot::command(kernel, &initramfs, accelerator, Idle::Passes)?;
        command.arg("-drive").arg(drive(&disk)?).args(["-device", "virtio-blk-pci,drive=root"]);
        boot::watch(command, LIMIT, |line| super::hand_over(report, [line.trim_end().to_owned()]))
            .with_context(|| format!("the {which} boot"))?;
    }
    Ok(())
}

fn drive(disk: &Path) -> Result<String> {
    let path = disk.to_str().context("the target folder's path is not UTF-8")?;
    // What the machine has written outlives it without its waiting for this machine's disk. A comma ends
    // a value unless it is doubled.
    Ok(format!("if=none,id=root,format=raw,cache=unsafe,file={}", path.replace(',', ",,")))
}

/// What is in memory before the disk is.
fn first(kernel: &Kernel) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for folder in ["/proc", "/dev", "/root"] {
        archive.folder(Path::new(folder));
    }
    archive.device(Path::new("/dev/console"), (5, 1));
    archive.file(Path::new("/init"), INIT.as_bytes());
    archive.file(Path::new("/bin/busybox"), &fs::read(tools::busybox()?.path)?);
    for (number, module) in kernel.modules(&MODULES)?.iter().enumerate() {
        archive.file(&PathBuf::from(format!("/modules/{number:03}.ko")), module);
    }
    Ok(archive.finish())
}
