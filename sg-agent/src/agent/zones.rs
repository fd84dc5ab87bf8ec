//! Which zone number each attached interface has.
//!
//! A zone belongs to an interface as long as that exists: by its index, which a rename keeps and a
//! new interface of the same name does not have. A zone that changes hands must be cleared first,
//! and none that this very change frees is given away by it: until the change is done, packets are
//! still judged and counted under it.

use std::collections::{BTreeMap, BTreeSet};

use crate::state::{Record, ZoneRecord};

/// What a zone number stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// The interface with this index, which is attached or about to be.
    Used(u32),
    /// An interface that is there but that no entry matches any more. Until its programs are
    /// detached, everything passes.
    Retired(u32),
}

/// Zone numbers and what they stand for. A number that is missing is vacant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ZoneTable(pub BTreeMap<u32, Slot>);

impl ZoneTable {
    /// The table that a record remembers.
    #[must_use]
    pub fn of(record: &Record) -> Self {
        let slot = |zone: &ZoneRecord| match zone.is_retired {
            true => Slot::Retired(zone.ifindex),
            false => Slot::Used(zone.ifindex),
        };
        Self(record.zones.iter().map(|zone| (zone.zone, slot(zone))).collect())
    }

    /// The zone of an interface.
    #[must_use]
    pub fn zone_of(&self, ifindex: u32) -> Option<u32> {
        self.0.iter().find(|(_, slot)| **slot == Slot::Used(ifindex)).map(|(zone, _)| *zone)
    }

    /// One more than the highest number that is not vacant.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.0.last_key_value().map_or(0, |(zone, _)| zone + 1)
    }

    /// Whether every number is vacant.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Nothing is enforced on an interface any more: when it is matched again, its zone begins afresh.
    pub fn retire(&mut self, ifindex: u32) {
        for slot in self.0.values_mut().filter(|slot| **slot == Slot::Used(ifindex)) {
            *slot = Slot::Retired(ifindex);
        }
    }

    /// The table after a change: `matched` are the interfaces to enforce on, `present` all that
    /// exist, `attached` those that have programs, and under which zone, whatever this table says. Also
    /// the numbers that were given out, to be cleared.
    ///
    /// A retired zone whose interface still has its programs goes back to it: it never ended.
    #[must_use]
    pub fn assign(
        &self,
        matched: &[u32],
        present: &BTreeSet<u32>,
        attached: &BTreeMap<u32, u32>,
    ) -> (Self, Vec<u32>) {
        let mut next = Self::default();
        for (zone, slot) in &self.0 {
            match *slot {
                Slot::Used(ifindex) if matched.contains(&ifindex) => {
                    next.0.insert(*zone, *slot);
                }
                Slot::Retired(ifindex)
                    if matched.contains(&ifindex) && attached.get(&ifindex) == Some(zone) =>
                {
                    next.0.insert(*zone, Slot::Used(ifindex));
                }
                Slot::Used(ifindex) | Slot::Retired(ifindex) if present.contains(&ifindex) => {
                    next.0.insert(*zone, Slot::Retired(ifindex));
                }
                Slot::Used(_) | Slot::Retired(_) => {}
            }
        }
        let busy: BTreeSet<u32> = attached.values().copied().collect();
        let is_free = |zone: &u32| !matches!(self.0.get(zone), Some(Slot::Used(_))) && !busy.contains(zone);
        let mut free = (0..).filter(is_free);
        let mut given = Vec::new();
        for ifindex in matched {
            if next.zone_of(*ifindex).is_none()
                && let Some(zone) = free.next()
            {
                next.0.insert(zone, Slot::Used(*ifindex));
                given.push(zone);
            }
        }
        (next, given)
    }
}

#[cfg(test)]
mod tests {
    use Slot::{Retired, Used};

    use super::*;

    fn table(slots: &[(u32, Slot)]) -> ZoneTable {
        ZoneTable(slots.iter().copied().collect())
    }

    #[test]
    fn zones_stay_with_their_interface_and_change_hands_one_change_later() {
        type Slots = &'static [(u32, Slot)];
        type Indices = &'static [u32];
        /// Before, matched, present, after, given.
        type Row = (Slots, Indices, Indices, Slots, Indices);
        let rows: [Row; 8] = [
            (&[], &[4, 5], &[1, 4, 5], &[(0, Used(4)), (1, Used(5))], &[0, 1]),
            // Nothing changes.
            (&[(0, Used(4)), (1, Used(5))], &[5, 4], &[1, 4, 5], &[(0, Used(4)), (1, Used(5))], &[]),
            // Gone, and made again: the new one gets another number at once.
            (&[(0, Used(4))], &[6], &[1, 6], &[(1, Used(6))], &[1]),
            // The number of one long gone is given again.
            (&[(1, Used(6))], &[6, 7], &[6, 7], &[(0, Used(7)), (1, Used(6))], &[0]),
            // No entry matches it any more.
            (&[(0, Used(4)), (1, Used(5))], &[5], &[4, 5], &[(0, Retired(4)), (1, Used(5))], &[]),
            // A retired one stays while its interface does, and nobody needs the number.
            (&[(0, Retired(4)), (1, Used(5))], &[5], &[4, 5], &[(0, Retired(4)), (1, Used(5))], &[]),
            (&[(0, Retired(4)), (1, Used(5))], &[5], &[5], &[(1, Used(5))], &[]),
            // Matched again: what flowed meanwhile was not seen, so it begins afresh.
            (&[(0, Retired(4)), (1, Used(5))], &[4, 5], &[4, 5], &[(0, Used(4)), (1, Used(5))], &[0]),
        ];
        for (before, matched, present, after, given) in rows {
            let (next, fresh) =
                table(before).assign(matched, &present.iter().copied().collect(), &BTreeMap::new());
            assert_eq!((&next, &fresh[..]), (&table(after), given), "{before:?} {matched:?} {present:?}");
        }
    }

    #[test]
    fn a_zone_that_programs_still_use_is_not_given_away() {
        let before = table(&[(0, Retired(4))]);
        let attached = BTreeMap::from([(4, 0), (9, 1)]);
        let (next, given) = before.assign(&[5], &BTreeSet::from([4, 5]), &attached);
        assert_eq!((next, given), (table(&[(0, Retired(4)), (2, Used(5))]), vec![2]));
        let (next, given) = before.assign(&[4], &BTreeSet::from([4, 5]), &attached);
        assert_eq!((next, given), (table(&[(0, Used(4))]), vec![]), "its own, which never ended");
    }

    #[test]
    fn a_retired_interface_gets_its_zone_cleared() {
        let mut zones = table(&[(0, Used(4)), (1, Used(5))]);
        zones.retire(4);
        assert_eq!(zones, table(&[(0, Retired(4)), (1, Used(5))]));
        let (_, given) = zones.assign(&[4, 5], &BTreeSet::from([4, 5]), &BTreeMap::new());
        assert_eq!(given, [0]);
    }

    #[test]
    fn length_counts_vacant_numbers_below() {
        assert_eq!(table(&[]).len(), 0);
        assert_eq!(table(&[(3, Used(9))]).len(), 4);
        assert_eq!(table(&[(3, Used(9))]).zone_of(9), Some(3));
        assert_eq!(table(&[(3, Retired(9))]).zone_of(9), None);
    }
}
