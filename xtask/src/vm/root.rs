//! What the virtual machine finds when it boots: one file system in memory.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::archive::Archive;
use super::kernel::Kernel;
use super::library;
use super::programs::{Program, stripped};
use crate::setup::tools;
use crate::toolchain::find_program;
use crate::workspace;

/// What the machine says when a test program has ended; its name and exit status follow.
pub(super) const ENDED: &str = "vm: ended ";

/// The machine's first process.
const INIT: &str = include_str!("init.sh");
/// What the tests' networks are made of, and what sees their packets.
const MODULES: [&str; 20] = [
    "veth",
    "sch_ingress",
    "cls_bpf",
    "cls_u32",
    "act_bpf",
    "bridge",
    "8021q",
    "dummy",
    "tun",
    "macvlan",
    "ifb",
    "bonding",
    // What `nft` asks for.
    "nf_tables",
    "nf_conntrack",
    "nft_chain_nat",
    "nft_nat",
    "nft_ct",
    "nft_limit",
    "nft_log",
    "nft_reject_inet",
];
/// Programs of this machine that tests call.
const TOOLS: [&str; 6] = ["ip", "tc", "ping", "nft", "nmap", "hping3"];
/// What `nmap` reads.
const TABLES: [&str; 4] = ["nmap-services", "nmap-protocols", "nmap-payloads", "nmap-mac-prefixes"];
/// Folders of the workspace that tests read.
const READ: [&str; 2] = ["examples", "tests/regressions"];

/// The archive with the agent, `programs`, their tests that run, and all that they need.
pub(super) fn build(kernel: &Kernel, programs: &[Program], is_recorded: bool) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for folder in ["/proc", "/sys", "/dev", "/tmp", "/run", "/var", "/etc", "/root"] {
        archive.folder(Path::new(folder));
    }
    archive.device(Path::new("/dev/console"), (5, 1));
    archive.file(Path::new("/init"), INIT.as_bytes());
    archive.file(Path::new("/bin/busybox"), &fs::read(tools::busybox()?.path)?);
    // The shell of busybox prefers its own `ip` to any other.
    let shell = program("sh")?;
    archive.file(Path::new("/bin/sh"), &fs::read(&shell)?);
    add_libraries(&mut archive, &shell)?;
    for (number, module) in kernel.modules(&MODULES)?.iter().enumerate() {
        archive.file(Path::new(&format!("/modules/{number:03}.ko")), module);
    }
    for tool in TOOLS {
        let path = program(tool)?;
        archive.file(&Path::new("/usr/sbin").join(tool), &fs::read(&path)?);
        add_libraries(&mut archive, &path)?;
    }
    for table in TABLES {
        let path = Path::new("/usr/share/nmap").join(table);
        let content = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        archive.file(&path, &content);
    }
    let agent = workspace::binary("sg-agent", false);
    archive.file(Path::new("/usr/sbin/sg-agent"), &stripped(&agent)?);
    add_libraries(&mut archive, &agent)?;
    for Program { name, path, tests } in programs {
        archive.file(&Path::new("/tests").join(name), &stripped(path)?);
        archive.file(&Path::new("/etc/tests").join(name), tests.join(" ").as_bytes());
        add_libraries(&mut archive, path)?;
    }
    // Tests find what they read by the path of their package.
    archive.folder(&workspace::root().join("tests"));
    for folder in READ {
        add_folder(&mut archive, &workspace::root().join(folder))?;
    }
    if is_recorded {
        archive.file(Path::new("/etc/record"), b"");
    }
    Ok(archive.finish())
}

fn program(name: &str) -> Result<PathBuf> {
    find_program(name).with_context(|| format!("no program `{name}`; run `cargo xtask setup`"))
}

fn add_libraries(archive: &mut Archive, program: &Path) -> Result<()> {
    for path in library::of(program)? {
        if !archive.has(&path) {
            let content = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            archive.file(&path, &content);
        }
    }
    Ok(())
}

fn add_folder(archive: &mut Archive, folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            add_folder(archive, &path)?;
        } else {
            archive.file(&path, &fs::read(&path)?);
        }
    }
    Ok(())
}
