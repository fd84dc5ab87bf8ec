//! What the agent tells of itself and of what is enforced, to whoever asks: `status`, `counters`, `metrics`, and
//! the line that systemd shows. Nothing here changes anything.

use super::{Agent, nothing_enforced};
use crate::{
    enforced::Enforced,
    failure::{Exit, Failure},
    render,
    view::{AgentStatus, Counters, Grouping, Status, timestamp},
};

impl Agent {
    fn enforced(&self) -> Result<Option<Enforced>, Failure> {
        let reader =
            self.engine.reader().map_err(|error| Failure::kernel("read what is enforced", &error))?;
        reader.map(|reader| Enforced::of(reader, self.engine.store().clone())).transpose()
    }

    pub(super) fn status(&self) -> Result<Status, Failure> {
        let read =
            self.enforced().and_then(|enforced| enforced.map(|enforced| enforced.status()).transpose());
        let mut status = match read {
            Ok(status) => status.unwrap_or_default(),
            // Others took what it is read from: that is what there is to say.
            Err(failure) => Status { problems: vec![failure.to_string()], ..Status::default() },
        };
        self.engine.tell(&mut status);
        status.problems.extend(self.watch.problem());
        status.confirm_by = self.engine.confirm_by().map(|(_, shown)| shown.to_owned());
        status.agent = AgentStatus {
            running: true,
            pid: Some(std::process::id()),
            version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            started: Some(timestamp(self.started)),
            policy: self.watch.policy().map(|path| path.display().to_string()),
            watching: self.watch.is_on(),
            last_error: self.last_error.as_ref().map(ToString::to_string),
            files_refused: self.are_files_refused,
            last_diagnostics: self.last_error.iter().flat_map(first_diagnostics).collect(),
        };
        Ok(status)
    }

    pub(super) fn counters(&self, by: Grouping, interface: Option<&str>) -> Result<Counters, Failure> {
        match self.enforced()? {
            Some(enforced) => enforced.counters(by, interface),
            None => Err(nothing_enforced("read the counters")),
        }
    }

    /// Both for a monitoring system. That nothing is enforced is an answer too.
    pub(super) fn metrics(&self) -> Result<String, Failure> {
        let by_interface = |enforced: Enforced| enforced.by_interface(None);
        let read = self.enforced().and_then(|enforced| enforced.map(by_interface).transpose());
        // What others took from under it is a problem, which is counted.
        let counters = read.unwrap_or_default().unwrap_or_default();
        render::metrics(self.status()?, counters)
            .map_err(|error| Failure::new(Exit::Failed, "write the metrics", error))
    }

    /// What is in force, in a line.
    pub(super) fn summary(&self) -> String {
        let generation = self.engine.generation();
        if generation == 0 {
            return match &self.last_error {
                None => "nothing is enforced: there is no policy yet".to_owned(),
                Some(error) => format!("nothing is enforced; the latest policy was refused: {error}"),
            };
        }
        match &self.last_error {
            None => match self.engine.confirm_by() {
                Some((_, shown)) => {
                    format!("generation {generation} is in force, to be confirmed until {shown}")
                }
                None => format!("generation {generation} is in force"),
            },
            Some(error) => {
                format!("generation {generation} is in force; the latest change was refused: {error}")
            }
        }
    }
}

/// As many of a failure's diagnostics as `status` shows: the log has all of them.
fn first_diagnostics(failure: &Failure) -> impl Iterator<Item = String> + '_ {
    const SHOWN: usize = 10;
    failure.diagnostics.iter().take(SHOWN).cloned()
}
