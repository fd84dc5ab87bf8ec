//! Which generations there were, and which one a rollback leads to. Pure but for reading the records.

use crate::{
    state::{Record, StateError, Store, Submission, UnlockRecord},
    view::{Generation, History, UnlockUse},
};

/// The records that are kept and can be read, the newest first.
///
/// # Errors
///
/// The folder cannot be read.
pub fn records(store: &Store) -> Result<Vec<Record>, StateError> {
    let generations = store.recorded()?.into_iter().rev();
    // A damaged one is no generation to return to.
    Ok(generations.filter_map(|generation| store.record(generation).ok().flatten()).collect())
}

/// The record that a rollback leads to: of the generation that is named, else of the latest before
/// `now` with another policy. That there was no policy is nothing to return to.
#[must_use]
pub fn target(records: &[Record], now: u64, generation: Option<u64>) -> Option<&Record> {
    if let Some(generation) = generation {
        return records.iter().find(|record| record.generation == generation);
    }
    let policy = records.iter().find(|record| record.generation == now).map(|record| &record.policy);
    let nothing = Submission::default().digest();
    records
        .iter()
        .find(|record| record.generation < now && Some(&record.policy) != policy && record.policy != nothing)
}

/// What `history` tells, where generation `now` is in force.
///
/// # Errors
///
/// The folder cannot be read.
pub fn of(store: &Store, now: u64) -> Result<History, StateError> {
    let unlocks = store.unlocks()?.into_iter().map(|record| {
        let UnlockRecord { time, author, what, service, address, interface, seconds } = record;
        UnlockUse { time, author, what, service, address, interface, seconds }
    });
    Ok(History { unlocks: unlocks.collect(), ..shown(&records(store)?, now) })
}

/// Generations as `history` shows them.
fn shown(records: &[Record], now: u64) -> History {
    let generations = records.iter().map(|record| Generation {
        generation: record.generation,
        applied: record.applied.clone(),
        author: record.author.clone(),
        cause: record.cause.clone(),
        digest: record.policy.clone(),
        rules: record.rules.len(),
        interfaces: record.zones.iter().filter(|zone| !zone.is_retired).count(),
        in_force: record.generation == now,
    });
    History { generations: generations.collect(), unlocks: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::FORMAT;

    fn record(generation: u64, policy: &str) -> Record {
        Record {
            format: FORMAT,
            generation,
            applied: "2026-11-23T14:00:00Z".to_owned(),
            author: "root".to_owned(),
            cause: "apply".to_owned(),
            policy: policy.to_owned(),
            image: String::new(),
            next_number: 0,
            freed_numbers: vec![],
            rules: vec![],
            zones: vec![],
        }
    }

    #[test]
    fn a_rollback_leads_to_the_latest_other_policy() {
        let records =
            [record(9, "d"), record(7, "c"), record(6, "c"), record(5, "b"), record(4, "c"), record(3, "a")];
        let to = |now, generation| target(&records, now, generation).map(|record| record.generation);
        assert_eq!((to(7, None), to(5, None), to(3, None)), (Some(5), Some(4), None));
        assert_eq!((to(7, Some(3)), to(7, Some(9)), to(7, Some(8))), (Some(3), Some(9), None));
        assert_eq!(to(8, None), Some(7), "what is in force has lost its record");
        let shown = shown(&records, 7);
        let in_force: Vec<_> = shown.generations.iter().filter(|shown| shown.in_force).collect();
        assert_eq!((shown.generations.len(), in_force.len(), in_force[0].generation), (6, 1, 7));
    }
}
