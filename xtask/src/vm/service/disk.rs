//! The disk: the distribution's own systemd, unpacked and not installed, with the agent as
//! `docs/install.md` installs it, and what the tests need.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::super::kernel::Kernel;
use super::super::programs::stripped;
use crate::setup::packages;
use crate::{run, workspace};

/// What the machine is made of, besides what these need.
const PACKAGES: [&str; 14] = [
    "systemd",
    "systemd-sysv",
    "udev",
    "base-files",
    "bash",
    "dash",
    "coreutils",
    "grep",
    "libc-bin",
    "kmod",
    "mount",
    "util-linux",
    "iproute2",
    "iputils-ping",
];
/// What nobody reads there, and is half of it.
const NEEDLESS: [&str; 10] = [
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "usr/share/perl",
    "usr/share/i18n",
    "usr/lib/x86_64-linux-gnu/perl",
    "usr/lib/x86_64-linux-gnu/perl-base",
    "usr/lib/x86_64-linux-gnu/gconv",
    "lib/udev/hwdb.d",
    "usr/lib/udev/hwdb.d",
];
/// What is loaded when the agent, the lab and systemd ask for it.
const MODULES: [&str; 6] = ["virtio_pci", "virtio_blk", "veth", "sch_ingress", "cls_bpf", "autofs4"];
/// Units that have nothing to do there, and would take time.
const MASKED: [&str; 9] = [
    "getty.target",
    "systemd-logind.service",
    "systemd-timesyncd.service",
    "systemd-pstore.service",
    "systemd-update-utmp.service",
    "systemd-update-utmp-runlevel.service",
    "systemd-random-seed.service",
    "systemd-tmpfiles-clean.timer",
    "remote-fs.target",
];
const SIZE: &str = "400M";

/// Units by name. Each is enabled as its own last lines say.
const UNITS: [(&str, &str); 7] = [
    ("sg-agent.service", include_str!("../../../../packaging/systemd/sg-agent.service")),
    ("wire.service", include_str!("machine/wire.service")),
    ("denied.service", include_str!("machine/denied.service")),
    ("allowed.service", include_str!("machine/allowed.service")),
    ("before.service", include_str!("machine/before.service")),
    ("lab.service", include_str!("machine/lab.service")),
    ("lab.target", include_str!("machine/lab.target")),
];
/// What the units run.
const SCRIPTS: [(&str, &str); 6] = [
    ("wire.sh", include_str!("machine/wire.sh")),
    ("denied.sh", include_str!("machine/denied.sh")),
    ("before.sh", include_str!("machine/before.sh")),
    ("run.sh", include_str!("machine/run.sh")),
    ("first.sh", include_str!("machine/first.sh")),
    ("second.sh", include_str!("machine/second.sh")),
];
/// Other files. The agent's settings are those that it is shipped with.
const FILES: [(&str, &str); 10] = [
    ("etc/sg-agent/agent.toml", include_str!("../../../../packaging/agent.toml")),
    ("etc/systemd/network/lab.network", include_str!("machine/lab.network")),
    ("etc/systemd/journald.conf.d/lab.conf", "[Journal]\nStorage=volatile\n"),
    ("etc/systemd/system.conf.d/lab.conf", "[Manager]\nShowStatus=no\n"),
    ("etc/passwd", "root:x:0:0:root:/root:/bin/bash\n"),
    ("etc/group", "root:x:0:\n"),
    ("etc/machine-id", "0123456789abcdef0123456789abcdef\n"),
    ("etc/hostname", "lab\n"),
    ("etc/fstab", ""),
    ("etc/profile", ""),
];

/// A new disk, as it is after installing.
pub(super) fn make(kernel: &Kernel, folder: &Path) -> Result<PathBuf> {
    let base = folder.join("base");
    if !base.exists() {
        fs::create_dir_all(folder)?;
        packages::unpack_whole(&PACKAGES, &base)?;
    }
    let root = folder.join("root");
    drop(fs::remove_dir_all(&root));
    run::run(Command::new("cp").arg("--archive").arg(&base).arg(&root))?;
    for needless in NEEDLESS {
        drop(fs::remove_dir_all(root.join(needless)));
    }
    fill(kernel, &root)?;
    let disk = folder.join("disk.ext4");
    drop(fs::remove_file(&disk));
    let mut filesystem = Command::new("mke2fs");
    filesystem.args(["-q", "-t", "ext4", "-E", "lazy_itable_init=0,root_owner=0:0", "-d"]);
    run::run(filesystem.arg(&root).arg(&disk).arg(SIZE)).context("e2fsprogs are needed")?;
    fs::remove_dir_all(&root)?;
    Ok(disk)
}

fn fill(kernel: &Kernel, root: &Path) -> Result<()> {
    for (path, content) in FILES {
        write(&root.join(path), content.as_bytes(), 0o644)?;
    }
    for (name, content) in SCRIPTS {
        write(&root.join("lab").join(name), content.as_bytes(), 0o755)?;
    }
    for folder in ["etc/sg-agent/policy.d", "var/lib/lab", "proc", "sys", "dev", "run", "tmp", "root"] {
        fs::create_dir_all(root.join(folder))?;
    }
    write(&root.join("usr/sbin/sg-agent"), &stripped(&workspace::binary("sg-agent", false))?, 0o755)?;
    for module in kernel.files(&MODULES)? {
        write(&root.join("lib/modules").join(&kernel.release).join(module.file), &module.content, 0o644)?;
    }
    let units = root.join("etc/systemd/system");
    for (name, content) in UNITS {
        write(&units.join(name), content.as_bytes(), 0o644)?;
        enable(&units, name, content)?;
    }
    symlink(
        "/lib/systemd/system/systemd-networkd.service",
        wants(&units, "multi-user.target")?.join("systemd-networkd.service"),
    )?;
    symlink("lab.target", units.join("default.target"))?;
    for unit in MASKED {
        symlink("/dev/null", units.join(unit))?;
    }
    for command in [&["ldconfig"][..], &["systemd-sysusers"], &["depmod", &kernel.release]] {
        run::capture(
            Command::new("chroot").arg(root).args(command).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
        )?;
    }
    // Newer than what they are about: nothing is to be brought up to date at boot.
    for stamp in ["etc/.updated", "var/.updated"] {
        write(&root.join(stamp), b"", 0o644)?;
    }
    Ok(())
}

/// What `systemctl enable` does.
fn enable(units: &Path, name: &str, content: &str) -> Result<()> {
    for target in content.lines().filter_map(|line| line.strip_prefix("WantedBy=")) {
        symlink(Path::new("..").join(name), wants(units, target)?.join(name))?;
    }
    Ok(())
}

fn wants(units: &Path, target: &str) -> Result<PathBuf> {
    let folder = units.join(format!("{target}.wants"));
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

fn write(path: &Path, content: &[u8], mode: u32) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    // What is there may be a link to somewhere else.
    drop(fs::remove_file(path));
    fs::write(path, content).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(mode))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_enabled_as_it_says() {
        let folder = workspace::target_dir().join("tmp/enabled");
        drop(fs::remove_dir_all(&folder));
        for (name, content) in UNITS {
            enable(&folder, name, content).unwrap();
        }
        assert!(folder.join("sysinit.target.wants/sg-agent.service").is_symlink());
        assert!(folder.join("lab.target.wants/lab.service").is_symlink());
        fs::remove_dir_all(&folder).unwrap();
    }
}
