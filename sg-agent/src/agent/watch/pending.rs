//! When a change of files is to be looked at: once it is over, as far as can be told. Pure.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::time::Instant;

/// So long nothing must happen before a change counts as over.
pub(super) const QUIET: Duration = Duration::from_millis(100);
/// So long after its beginning it is looked at, whatever goes on happening.
pub(super) const LONGEST: Duration = Duration::from_secs(2);
/// So long a file that somebody still writes keeps it from being looked at.
pub(super) const HELD: Duration = Duration::from_secs(5);

/// A change that has begun.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    begun: Instant,
    latest: Instant,
    /// Files that were written to and are not closed yet.
    writing: BTreeSet<PathBuf>,
    /// Whether one was found so when all that had happened was known.
    was_held: bool,
}

impl Pending {
    /// One that begins now.
    pub(super) const fn new(now: Instant) -> Self {
        Self { begun: now, latest: now, writing: BTreeSet::new(), was_held: false }
    }

    /// Something more has happened.
    pub(super) const fn touch(&mut self, now: Instant) {
        self.latest = now;
    }

    /// A file is being written.
    pub(super) fn write(&mut self, file: PathBuf) {
        self.writing.insert(file);
    }

    /// It is closed, or something else has its name.
    pub(super) fn close(&mut self, file: &Path) {
        self.writing.remove(file);
    }

    /// Nobody can tell any more which files are being written.
    pub(super) fn forget_writers(&mut self) {
        self.writing.clear();
    }

    /// All that has happened by now is told.
    pub(super) fn settle(&mut self) {
        self.was_held |= !self.writing.is_empty();
    }

    /// When to look.
    pub(super) fn due(&self) -> Instant {
        if !self.writing.is_empty() {
            return self.begun + HELD;
        }
        let longest = if self.was_held { HELD } else { LONGEST };
        (self.latest + QUIET).min(self.begun + longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_looked_at_when_it_is_over() {
        // (what, steps: after how many ms what happens to which file, when it is due)
        type Steps = &'static [(u64, char, &'static str)];
        let rows: [(&str, Steps, u64); 7] = [
            ("one event", &[], 100),
            ("a few more", &[(50, 't', ""), (90, 't', "")], 190),
            ("no end of them", &[(1000, 't', ""), (1950, 't', "")], 2000),
            ("written and closed", &[(10, 'w', "a"), (10, 'c', "a")], 110),
            ("written and not closed", &[(10, 'w', "a"), (3000, 't', "")], 5000),
            ("closed late", &[(10, 'w', "a"), (3000, 'c', "a")], 3100),
            ("one of two closed", &[(10, 'w', "a"), (20, 'w', "b"), (30, 'c', "a")], 5000),
        ];
        for (what, steps, expected) in rows {
            let begin = Instant::now();
            let mut pending = Pending::new(begin);
            for (index, (after, step, file)) in steps.iter().enumerate() {
                match step {
                    'w' => pending.write(PathBuf::from(file)),
                    'c' => pending.close(Path::new(file)),
                    _ => {}
                }
                pending.touch(begin + Duration::from_millis(*after));
                // What happened at one moment is told together.
                if steps.get(index + 1).is_none_or(|next| next.0 > *after) {
                    pending.settle();
                }
            }
            assert_eq!(pending.due() - begin, Duration::from_millis(expected), "{what}");
        }
        let mut pending = Pending::new(Instant::now());
        pending.write(PathBuf::from("a"));
        pending.forget_writers();
        assert_eq!(pending.due() - pending.begun, QUIET);
    }
}
