//! `run`: the daemon.

use std::{io::IsTerminal as _, path::PathBuf};

use clap::Args;
use tracing_subscriber::EnvFilter;

use super::{Error, Global, is_root};
use crate::{
    agent::{self, Options},
    config::Config,
    failure::{Exit, Failure},
};

/// Words of `run`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The policy: a document, or a folder of documents [default: that of the settings, else
    /// /etc/sg-agent/policy.d]
    #[arg(long, value_name = "PATH")]
    policy: Option<PathBuf>,
}

pub(super) fn run(global: &Global, arguments: Arguments) -> Result<Exit, Error> {
    if !is_root() {
        return Err(Failure::needs_root("run the agent").into());
    }
    let (config, unreadable) = match settings(global) {
        Ok(config) => (config, None),
        // The last good policy is put in force all the same: a host that boots with a typing error in
        // its settings must not stand open.
        Err(failure) => (Config::default(), Some(failure)),
    };
    log(&config);
    agent::run(Options {
        bpffs: global.bpffs.clone(),
        state_dir: global.state_dir.clone(),
        socket: global.socket.clone(),
        config,
        unreadable,
        policy: arguments.policy,
    })?;
    Ok(Exit::Done)
}

/// The settings that the agent runs with.
pub(super) fn settings(global: &Global) -> Result<Config, Failure> {
    Config::load(global.config.as_deref())
        .map_err(|error| Failure::new(Exit::Invalid, "read the settings", error))
}

/// Logs to standard error: what `RUST_LOG` says, else the settings.
fn log(config: &Config) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(config.log.name()));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    // Whatever collects the log has its own clock.
    let result = match std::env::var_os("JOURNAL_STREAM") {
        Some(_) => log.without_time().try_init(),
        None => log.try_init(),
    };
    // It fails only where somebody logs already.
    drop(result);
}
