//! `detach`: by the daemon where one runs, so that it does not attach again; else here.

use clap::{ArgGroup, Args};

use super::{Error, Global};
use crate::{
    agent::engine::detached,
    control::client::Client,
    failure::{Exit, Failure},
    kernel,
};

/// Words of `detach`.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("what").required(true)))]
pub struct Arguments {
    /// End enforcement on this interface
    #[arg(long, value_name = "IF", group = "what")]
    interface: Option<String>,
    /// End all enforcement, and remove what is pinned
    #[arg(long, group = "what")]
    all: bool,
}

pub(super) fn run(global: &Global, arguments: Arguments) -> Result<Exit, Error> {
    let answer = match Client::new(&global.socket).detach(arguments.interface.clone()) {
        Err(failure) if failure.exit == Exit::NotRunning => here(global, arguments.interface)?,
        answer => answer?,
    };
    global.print(&answer)?;
    Ok(Exit::Done)
}

fn here(global: &Global, interface: Option<String>) -> Result<crate::view::Detached, Failure> {
    let what =
        interface.as_ref().map_or_else(|| "detach everything".to_owned(), |name| format!("detach {name}"));
    if !super::is_root() {
        return Err(Failure::needs_root(what));
    }
    // No daemon may start meanwhile and attach what is being detached.
    let store = global.store().lock().map_err(Failure::state)?;
    let paths = global.paths();
    match interface {
        None => {
            // There is nothing to return to any more.
            store.end_trial().map_err(Failure::state)?;
            detached(kernel::detach_all(&paths), &what, true)
        }
        Some(name) => {
            let detached = detached(kernel::detach_interface(&paths, &name), &what, false)?;
            if detached.interfaces.is_empty() {
                return Err(Failure::new(Exit::Failed, what, "nothing is attached to it"));
            }
            Ok(detached)
        }
    }
}
