//! Older generations: which there were, and going back to one.

use super::{Agent, Terms, history, order::Order};
use crate::{
    failure::{Exit, Failure},
    view::{Applied, History},
};

impl Agent {
    /// Puts the policy of a generation in force again: that of the latest one with another policy where
    /// none is named; of a policy on trial, the former one.
    pub(super) fn rollback(&mut self, generation: Option<u64>, terms: Terms) -> Result<Applied, Failure> {
        const WHAT: &str = "roll back";
        if generation.is_none() && self.engine.confirm_by().is_some() {
            return match self.engine.former().cloned() {
                Some(former) => self.foretold(&former, Self::give_up),
                // Nothing was enforced, and is not again: there is no policy to compare with.
                None => self.give_up(),
            };
        }
        let records = history::records(self.engine.store()).map_err(Failure::state)?;
        let now = self.engine.generation();
        let Some(wanted) = history::target(&records, now, generation) else {
            let why = match generation {
                Some(generation) => format!("generation {generation} is not kept"),
                None => "no other policy is kept".to_owned(),
            };
            return Err(Failure::new(Exit::Failed, WHAT, why).with_remedy("see `sg-agent history`"));
        };
        let candidate = self.engine.kept(&wanted.policy)?;
        let cause = format!("rollback to {}", wanted.generation);
        let Terms { author, own, .. } = terms;
        let order = Order::request(author, cause, own);
        self.foretold(&candidate.clone(), |agent| {
            agent.engine.give_up()?;
            agent.engine.apply(candidate, &order)
        })
    }

    /// Ends a trial: the former policy is in force again.
    fn give_up(&mut self) -> Result<Applied, Failure> {
        Ok(self.engine.give_up()?.unwrap_or_default())
    }

    pub(super) fn history(&self) -> Result<History, Failure> {
        history::of(self.engine.store(), self.engine.generation()).map_err(Failure::state)
    }
}
