//! Counts by name, bounded: however many names there are, so many are told and the rest is one row.

use std::collections::BTreeMap;

use serde::Serialize;

use super::change::{Change, Flip};

/// Names that have a row of their own, count.
const NAMED_MAX: usize = 256;

/// Counts by name. The first names that come have a row each, all others share one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Capped<K: Ord, T> {
    /// By name.
    pub named: BTreeMap<K, T>,
    /// All others together.
    pub others: T,
}

/// What became of the decisions of one tenant, or one data class.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Decisions looked at.
    pub decisions: u64,
    /// Of those, not judged.
    pub unjudged: u64,
    /// Of those, the same at the same place.
    pub unchanged: u64,
    /// Of those, the same elsewhere.
    pub moved: u64,
    /// Of those, flipped, by flip.
    pub flips: BTreeMap<Flip, u64>,
}

// === impl Capped ===

impl<K: Ord, T: Default> Default for Capped<K, T> {
    fn default() -> Self {
        Self { named: BTreeMap::new(), others: T::default() }
    }
}

impl<K: Ord + Clone, T: Default> Capped<K, T> {
    /// The row that counts for a name.
    pub(super) fn of(&mut self, name: &K) -> &mut T {
        if self.named.len() >= NAMED_MAX && !self.named.contains_key(name) {
            return &mut self.others;
        }
        self.named.entry(name.clone()).or_default()
    }
}

// === impl Tally ===

impl Tally {
    pub(super) fn add(&mut self, change: Change) {
        self.decisions += 1;
        match change {
            Change::Flipped(flip) => *self.flips.entry(flip).or_default() += 1,
            Change::Moved(_) => self.moved += 1,
            Change::None => self.unchanged += 1,
        }
    }

    pub(super) fn miss(&mut self) {
        self.decisions += 1;
        self.unjudged += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::super::change::Fate;
    use super::{Capped, Change, Flip, NAMED_MAX, Tally};

    #[test]
    fn more_names_than_are_told_are_one_row_and_none_is_lost() {
        let mut rows: Capped<usize, u64> = Capped::default();
        for name in (0..NAMED_MAX * 3).chain(0..10) {
            *rows.of(&name) += 1;
        }
        assert_eq!((rows.named.len(), rows.named.get(&3)), (NAMED_MAX, Some(&2)));
        assert_eq!(rows.others, (NAMED_MAX * 2) as u64);
    }

    #[test]
    fn each_decision_counts_once() {
        let mut tally = Tally::default();
        let flip = Flip { from: Fate::Local, to: Fate::Cloud };
        for change in [Change::Flipped(flip), Change::Flipped(flip), Change::Moved(Fate::Cloud), Change::None]
        {
            tally.add(change);
        }
        tally.miss();
        let Tally { decisions, unjudged, unchanged, moved, flips } = tally;
        assert_eq!((decisions, unjudged, unchanged, moved, flips.get(&flip)), (5, 1, 1, 1, Some(&2)));
    }
}
