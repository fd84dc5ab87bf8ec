//! Which zone numbers have neither flows nor counts, so that they need not be cleared to be given away.

use std::collections::BTreeSet;

/// The zones that are known to be clean.
#[derive(Debug)]
pub(crate) struct CleanZones {
    /// Every zone is, but the others; else only the others are.
    all: bool,
    others: BTreeSet<u32>,
}

impl CleanZones {
    /// Of maps that were made just now, every zone is clean. Of others nothing is known.
    pub(crate) const fn new(all: bool) -> Self {
        Self { all, others: BTreeSet::new() }
    }

    /// Whether a zone is known to be clean.
    pub(crate) fn has(&self, zone: u32) -> bool {
        self.all != self.others.contains(&zone)
    }

    /// A zone was cleared, or is about to be used.
    pub(crate) fn set(&mut self, zone: u32, is_clean: bool) {
        if self.all == is_clean {
            self.others.remove(&zone);
        } else {
            self.others.insert(zone);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_is_clean_from_its_clearing_to_its_use() {
        for all in [true, false] {
            let mut zones = CleanZones::new(all);
            assert_eq!(zones.has(3), all);
            for is_clean in [true, false, false, true, true] {
                zones.set(3, is_clean);
                assert_eq!((zones.has(3), zones.has(4)), (is_clean, all));
            }
        }
    }
}
