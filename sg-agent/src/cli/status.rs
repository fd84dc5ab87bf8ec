//! `status`: from the daemon, else from the kernel's maps and the state folder.

use super::{Error, Global};
use crate::{control::client::Client, failure::Exit, view::Status};

pub(super) fn run(global: &Global) -> Result<Exit, Error> {
    let status = match Client::new(&global.socket).status() {
        Err(failure) if failure.exit == Exit::NotRunning => match global.look("show the status")? {
            Some(enforced) => enforced.status()?,
            None => Status::default(),
        },
        answer => answer?,
    };
    global.print(&status)?;
    Ok(Exit::Done)
}
