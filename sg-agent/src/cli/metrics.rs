//! `metrics`: from the daemon, else from the kernel's maps and the state folder. Always the same text, for
//! whatever collects it has one format.

use std::io::{self, Write as _};

use super::{Error, Global};
use crate::{
    control::client::Client,
    failure::{Exit, Failure},
    render,
    view::{ByInterface, Status},
};

const WHAT: &str = "print the metrics";

pub(super) fn run(global: &Global) -> Result<Exit, Error> {
    let text = match Client::new(&global.socket).metrics() {
        Err(failure) if failure.exit == Exit::NotRunning => {
            let (status, counters) = match global.look(WHAT)? {
                Some(enforced) => (enforced.status()?, enforced.by_interface(None)?),
                None => <(Status, ByInterface)>::default(),
            };
            render::metrics(status, counters).map_err(|error| Failure::new(Exit::Failed, WHAT, error))?
        }
        answer => answer?,
    };
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush().map(|()| Exit::Done)?)
}
