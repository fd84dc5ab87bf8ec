//! `reload`: what SIGHUP does, with an answer.

use super::{Error, Global};
use crate::{control::client::Client, failure::Exit};

pub(super) fn run(global: &Global) -> Result<Exit, Error> {
    global.print(&Client::new(&global.socket).reload()?)?;
    Ok(Exit::Done)
}
