//! `cargo xtask fuzz`: builds the targets of `fuzz/` with the fuzzer, and runs them side by side.
//!
//! The bodies are `fuzz/src`, and `cargo test` runs them over what is kept; here they meet inputs
//! that nobody thought of. The stable compiler does: without a sanitizer, which safe code does not
//! need, the fuzzer asks for nothing else.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Args, ValueEnum};

use crate::{run, setup, workspace};

/// Seconds for each target where nothing is said.
const SECONDS: u32 = 60;
/// Seconds that making a failing input smaller may take.
const SMALLER: u32 = 30;

/// Which targets, and for how long.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Only these
    targets: Vec<Target>,
    /// How long
    #[arg(long, default_value_t = SECONDS)]
    seconds: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { targets: Vec::new(), seconds: SECONDS }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Target {
    /// The packet parser
    Packet,
    /// The document reader and the compiler
    Document,
    /// The decision, beside the reference
    Differential,
}

impl Target {
    const fn name(self) -> &'static str {
        match self {
            Self::Packet => "packet",
            Self::Document => "document",
            Self::Differential => "differential",
        }
    }

    /// Octets of the longest input.
    const fn longest(self) -> u32 {
        match self {
            Self::Packet => 512,
            Self::Document => 8192,
            // A head of 4 octets and 48 steps of 8.
            Self::Differential => 388,
        }
    }
}

pub(crate) fn run(options: &Options) -> Result<()> {
    setup::run_for_fuzz()?;
    let targets =
        if options.targets.is_empty() { Target::value_variants() } else { options.targets.as_slice() };
    let binaries = build(targets)?;
    let mut children = Vec::new();
    for target in targets {
        let trial = Trial::of(*target, &binaries)?;
        let child = trial.start(options.seconds, targets.len() == 1)?;
        children.push((trial, child));
    }
    // All run to their end, whatever one of them finds.
    let mut failed = Vec::new();
    for (trial, mut child) in children {
        let status = child.wait()?;
        run::say(&format!("fuzz: {}: {}", trial.target.name(), trial.told()));
        if !status.success() {
            trial.explain()?;
            failed.push(trial.target.name());
        }
    }
    ensure!(failed.is_empty(), "{} failed; see above", failed.join(", "));
    Ok(())
}

/// Builds the targets and gives the folder that they are in.
fn build(targets: &[Target]) -> Result<PathBuf> {
    let target_dir = folder();
    let version = run::capture(Command::new("rustc").arg("-vV"))?;
    let triple = version.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc has no host")?;
    let mut cargo = workspace::cargo("fuzz");
    cargo
        .args(["build", "--fuzz-dir", "fuzz", "--sanitizer", "none", "--features", "libfuzzer"])
        .args(["--target", triple, "--target-dir"])
        .arg(&target_dir)
        // What is built runs for a minute.
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "2")
        .env("CARGO_PROFILE_RELEASE_DEBUG", "line-tables-only")
        .env_remove("CARGO_TARGET_DIR");
    if let [target] = targets {
        cargo.arg(target.name());
    }
    run::run(&mut cargo)?;
    Ok(target_dir.join(triple).join("release"))
}

/// Of its own: the fuzzer's flags would have everything else built again.
fn folder() -> PathBuf {
    workspace::target_dir().join("fuzz")
}

/// One target's run.
struct Trial {
    target: Target,
    binary: PathBuf,
    /// Inputs that were found worth keeping, on this machine.
    found: PathBuf,
    /// Inputs that failed.
    artifacts: PathBuf,
    log: PathBuf,
}

impl Trial {
    fn of(target: Target, binaries: &Path) -> Result<Self> {
        let name = target.name();
        let within = |what| folder().join(what).join(name);
        let (found, artifacts) = (within("corpus"), within("artifacts"));
        if artifacts.exists() {
            fs::remove_dir_all(&artifacts)?;
        }
        for folder in [&found, &artifacts] {
            fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        let log = folder().join(format!("{name}.log"));
        Ok(Self { target, binary: binaries.join(name), found, artifacts, log })
    }

    fn start(&self, seconds: u32, is_shown: bool) -> Result<Child> {
        let mut fuzzer = self.fuzzer();
        fuzzer
            .args([format!("-max_total_time={seconds}"), format!("-max_len={}", self.target.longest())])
            .args(["-timeout=20", "-rss_limit_mb=1024", "-malloc_limit_mb=256", "-print_final_stats=1"])
            .arg(&self.found);
        for folder in ["fuzz/corpus", "fuzz/regressions"] {
            fuzzer.arg(workspace::root().join(folder).join(self.target.name()));
        }
        if self.target == Target::Document {
            fuzzer.arg("-dict=fuzz/dictionaries/document.dict").arg("examples");
        }
        run::say(&format!("$ {}", run::shown(&fuzzer)));
        if !is_shown {
            let log = File::create(&self.log)?;
            fuzzer.stdout(log.try_clone()?).stderr(log);
        }
        fuzzer.stdin(Stdio::null()).spawn().context("cannot start the fuzzer")
    }

    fn fuzzer(&self) -> Command {
        let mut fuzzer = Command::new(&self.binary);
        let prefix = self.artifacts.join("");
        fuzzer.current_dir(workspace::root()).arg(format!("-artifact_prefix={}", prefix.display()));
        // A panic's message says what is wrong; the way to it is the fuzzer's.
        fuzzer.env("RUST_BACKTRACE", "0");
        fuzzer
    }

    /// How many inputs were tried, if the log tells.
    fn told(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log).into_owned();
        let done = log.lines().find(|line| line.starts_with("Done "));
        done.map_or_else(|| "ended".to_owned(), |line| line.trim_start_matches("Done ").to_owned())
    }

    /// Shows each input that failed, as small as it gets, and how to keep it.
    fn explain(&self) -> Result<()> {
        let name = self.target.name();
        let artifacts = fs::read_dir(&self.artifacts)?;
        let inputs: Vec<_> = artifacts.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
        if inputs.is_empty() {
            bail!("{name} ended without an input that failed; {} tells why", self.log.display());
        }
        for input in inputs {
            let smaller = self.smaller(&input);
            let output = self.fuzzer().arg(&smaller).output()?;
            let said = String::from_utf8_lossy(&output.stderr);
            run::say(&format!("fuzz: {name} fails with {}:", smaller.display()));
            said.lines().filter(|line| is_ours(line)).for_each(|line| run::say(&format!("    {line}")));
            run::say(&format!(
                "  mend it, and keep it as a test: cp {} fuzz/regressions/{name}/WHAT_IT_DOES, and put that \
                 name into fuzz/tests/replay.rs",
                smaller.display()
            ));
        }
        Ok(())
    }

    /// The input made smaller, or itself.
    fn smaller(&self, input: &Path) -> PathBuf {
        let output = self.artifacts.join("smaller");
        let is_crash = input.file_name().is_some_and(|name| name.to_string_lossy().starts_with("crash"));
        if is_crash {
            let mut fuzzer = self.fuzzer();
            fuzzer
                .args(["-minimize_crash=1".to_owned(), format!("-max_total_time={SMALLER}")])
                .arg(format!("-exact_artifact_path={}", output.display()))
                .arg(input);
            // It fails when it cannot make it any smaller.
            let _ = fuzzer.output();
        }
        if output.is_file() { output } else { input.to_owned() }
    }
}

/// Whether a line is of the target, and not of the fuzzer around it.
fn is_ours(line: &str) -> bool {
    const NOT: [&str; 9] =
        ["Running:", "INFO:", "WARNING:", "SUMMARY:", "==", "NOTE:", "      ", "/", "note:"];
    !line.is_empty() && !NOT.iter().any(|start| line.starts_with(start))
}
