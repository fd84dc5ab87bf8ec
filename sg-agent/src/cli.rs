//! The command line: its definitions here, each command in a file of its own.
//!
//! A command reads its arguments, asks whoever knows (the daemon, the kernel's maps, a document),
//! and hands the answer to [`crate::render`]. None of them decides anything. Help, completions and
//! the manual are generated from these definitions.

use std::{
    io::{self, BufWriter, IsTerminal as _, Write},
    path::PathBuf,
};

use clap::{Args, Parser, Subcommand};

mod apply;
mod check;
mod counters;
mod detach;
mod drops;
mod duration;
mod explain;
mod flows;
mod history;
mod metrics;
mod operator;
mod plan;
mod reload;
mod run;
mod shell;
mod status;
mod submit;
mod unlock;

use crate::{
    agent::nothing_enforced,
    enforced::Enforced,
    failure::{Exit, Failure},
    kernel::Paths,
    render::{self, Format, Show, Style},
    state::Store,
};

/// AWS-style security groups for any Linux interface, enforced by eBPF.
#[derive(Debug, Parser)]
#[command(name = "sg-agent", version, arg_required_else_help = true, max_term_width = 100)]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// The form of the output
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table, value_name = "FORMAT")]
    output: Format,
    /// Short for --output json
    #[arg(long, global = true, conflicts_with = "output")]
    json: bool,
    /// The agent's socket
    #[arg(
        long,
        global = true,
        env = "SG_AGENT_SOCKET",
        default_value = "/run/sg-agent.sock",
        value_name = "PATH",
        hide_env_values = true
    )]
    socket: PathBuf,
    /// Where the agent keeps its generations
    #[arg(
        long,
        global = true,
        env = "SG_AGENT_STATE_DIR",
        default_value = "/var/lib/sg-agent",
        value_name = "DIR",
        hide_env_values = true
    )]
    state_dir: PathBuf,
    /// Where programs and maps are pinned
    #[arg(
        long,
        global = true,
        env = "SG_AGENT_BPFFS",
        default_value = "/sys/fs/bpf/sg-agent",
        value_name = "DIR",
        hide_env_values = true
    )]
    bpffs: PathBuf,
    /// The agent's settings [default: /etc/sg-agent/agent.toml, if it exists]
    #[arg(long, global = true, env = "SG_AGENT_CONFIG", value_name = "FILE", hide_env_values = true)]
    config: Option<PathBuf>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the agent in the foreground
    Run(run::Arguments),
    /// Read and compile a policy; touch nothing
    Check(check::Arguments),
    /// Tell the verdict for a packet, and why
    Explain(explain::Arguments),
    /// Tell what putting a policy in force would change
    Plan(plan::Arguments),
    /// Put a policy in force
    Apply(apply::Arguments),
    /// Have the daemon read its policy again, and put it in force
    Reload,
    /// Keep the policy that waits for it
    Confirm,
    /// Put an older policy in force again
    Rollback(history::Rollback),
    /// List the generations, who applied them and when
    History,
    /// Show the agent, what is in force, and on what
    Status,
    /// Show what passed and what was dropped
    Counters(counters::Arguments),
    /// Print what `status` and `counters` tell for Prometheus, as text
    Metrics,
    /// Report drops as they happen
    Drops(drops::Arguments),
    /// List the flow table
    Flows(flows::Arguments),
    /// End enforcement and leave the host as it was
    Detach(detach::Arguments),
    /// Open one port to one address past the policy for a time; works with the agent dead
    Unlock(unlock::Arguments),
    /// Print completions for a shell
    Completions(shell::Arguments),
    /// Print the manual page
    Man,
}

/// Why a command ends early.
#[derive(Debug)]
pub enum Error {
    /// Whoever reads the output has gone.
    BrokenPipe,
    /// It failed.
    Failure(Failure),
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

/// An error of writing to standard output.
impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::BrokenPipe,
            _ => Self::Failure(Failure::io("write the output", &error)),
        }
    }
}

/// Runs a command.
///
/// # Errors
///
/// It failed, or nobody reads its output any more.
pub fn run(cli: Cli) -> Result<Exit, Error> {
    let Cli { global, command } = cli;
    match command {
        Command::Run(arguments) => run::run(&global, arguments),
        Command::Check(arguments) => check::run(&global, &arguments),
        Command::Explain(arguments) => explain::run(&global, arguments),
        Command::Plan(arguments) => plan::run(&global, &arguments),
        Command::Apply(arguments) => apply::run(&global, &arguments),
        Command::Reload => reload::run(&global),
        Command::Confirm => history::confirm(&global),
        Command::Rollback(arguments) => history::rollback(&global, &arguments),
        Command::History => history::history(&global),
        Command::Status => status::run(&global),
        Command::Counters(arguments) => counters::run(&global, &arguments),
        Command::Metrics => metrics::run(&global),
        Command::Drops(arguments) => drops::run(&global, &arguments),
        Command::Flows(arguments) => flows::run(&global, &arguments),
        Command::Detach(arguments) => detach::run(&global, arguments),
        Command::Unlock(arguments) => unlock::run(&global, arguments),
        Command::Completions(arguments) => shell::completions(&arguments),
        Command::Man => shell::man(),
    }
}

impl Global {
    fn format(&self) -> Format {
        if self.json { Format::Json } else { self.output }
    }

    fn style() -> Style {
        // https://no-color.org
        let is_refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let is_dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        Style { colour: !is_refused && !is_dumb && io::stdout().is_terminal() }
    }

    /// Writes a command's answer.
    fn print<V: Show>(&self, view: &V) -> Result<(), Error> {
        // Standard output writes each line by itself, of which an answer may have a hundred thousand.
        let mut out = BufWriter::new(io::stdout().lock());
        render::write(&mut out, self.format(), Self::style(), view)?;
        Ok(out.flush()?)
    }

    /// Writes one answer of several.
    fn print_next<V: Show>(&self, view: &V) -> Result<(), Error> {
        let mut out = io::stdout().lock();
        render::write_next(&mut out, self.format(), Self::style(), view)?;
        Ok(out.flush()?)
    }

    fn paths(&self) -> Paths {
        Paths { bpffs: self.bpffs.clone() }
    }

    fn store(&self) -> Store {
        Store::new(&self.state_dir)
    }

    /// What is enforced now, as the kernel has it; `None` when nothing is.
    fn look(&self, what: &str) -> Result<Option<Enforced>, Failure> {
        let enforced = Enforced::open(&self.paths(), self.store())?;
        // Whoever may not look sees nothing, and that is not the same.
        if enforced.is_none() && !is_root() {
            return Err(Failure::needs_root(what));
        }
        Ok(enforced)
    }

    /// What is enforced now, where a command makes no sense without.
    fn enforced(&self, what: &str) -> Result<Enforced, Failure> {
        self.look(what)?.ok_or_else(|| nothing_enforced(what))
    }
}

/// Whether this process has root's privileges, as far as a command asks.
fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    // The owner of a process's own folder is its effective user.
    std::fs::metadata("/proc/self").map_or(true, |metadata| metadata.uid() == 0)
}

/// Writes what does not belong into the answer. Whoever closed the stream does not want to know.
fn tell(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definitions_hold_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn output_has_two_names_for_json() {
        let format = |words: &[&str]| {
            let words = ["sg-agent"].into_iter().chain(words.iter().copied());
            Cli::try_parse_from(words).map(|cli| cli.global.format())
        };
        assert_eq!(format(&["status"]).unwrap(), Format::Table);
        assert_eq!(format(&["status", "-o", "json"]).unwrap(), Format::Json);
        assert_eq!(format(&["--json", "status"]).unwrap(), Format::Json);
        assert_eq!(format(&["status", "--output", "yaml"]).unwrap(), Format::Yaml);
        for wrong in [&["status", "--json", "-o", "yaml"][..], &["status", "-o", "xml"], &[], &["plan"]] {
            assert_eq!(format(wrong).unwrap_err().exit_code(), 2, "{wrong:?}");
        }
    }

    #[test]
    fn a_closed_pipe_is_no_failure() {
        assert!(matches!(Error::from(io::Error::from(io::ErrorKind::BrokenPipe)), Error::BrokenPipe));
        assert!(matches!(Error::from(io::Error::from(io::ErrorKind::StorageFull)), Error::Failure(_)));
    }
}
