//! Finds the agent's binary, and builds it when nobody said where it is.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use anyhow::{Context as _, Result, anyhow, bail};

/// `SG_AGENT_BIN`; else the binary of this workspace, built or brought up to date once a process.
///
/// # Errors
/// The file that was named is not there, or the build fails.
pub fn agent() -> Result<&'static Path> {
    static FOUND: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let found = FOUND.get_or_init(|| find().map_err(|error| format!("{error:#}")));
    found.as_deref().map_err(|error| anyhow!("no agent to test: {error}"))
}

fn find() -> Result<PathBuf> {
    if let Some(named) = env::var_os("SG_AGENT_BIN") {
        let path = PathBuf::from(named);
        return path.canonicalize().with_context(|| format!("SG_AGENT_BIN={}", path.display()));
    }
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let workspace = manifest.parent().context("the crate has no workspace around it")?;
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let build = Command::new(cargo)
        .args(["build", "--quiet", "--package", "sg-agent", "--bin", "sg-agent"])
        .current_dir(workspace)
        .output()
        .context("run cargo")?;
    if !build.status.success() {
        bail!("cargo build --package sg-agent:\n{}", String::from_utf8_lossy(&build.stderr));
    }
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from);
    let path = target.join("debug/sg-agent");
    path.canonicalize().with_context(|| format!("look for {}", path.display()))
}
