//! Hands a policy to the daemon, which judges it.

use std::path::PathBuf;

use crate::{
    agent,
    document::{Limits, Unjudged},
    failure::Failure,
    state::Submission,
};

/// Asks the daemon something about the policy at `path`; `verb` is what for.
///
/// It is read here, because the daemon needs no access to the operator's folder. It is judged there, for
/// the daemon relies on nobody, and doing it twice is what would take most of the time. Only where the
/// daemon does not answer well is it judged here too: an error in it needs no daemon to be told.
pub(super) fn submit<T>(
    path: &PathBuf,
    verb: &str,
    ask: impl FnOnce(&Submission) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let what = format!("{verb} {}", path.display());
    let unjudged = Unjudged::read(std::slice::from_ref(path), &Limits::default());
    let Some(sources) = unjudged.sources() else {
        return ask(&agent::read(unjudged.judge(), &what)?.submission);
    };
    let documents = sources.len();
    match ask(&Submission::of(sources, documents)) {
        Err(failure) => {
            agent::read(unjudged.judge(), &what)?;
            Err(failure)
        }
        answer => answer,
    }
}
