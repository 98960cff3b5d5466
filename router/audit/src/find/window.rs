//! From when to when the records of a block are, in steps of 64 records. Records are nearly in the order of their times, but
//! not quite: a stream that is caught up with is older than its neighbours.

use super::BLOCK;

/// Records of a step.
const STEP: usize = 64;
const STEPS: usize = BLOCK as usize / STEP;

/// The first and the last time of each step, microseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Windows {
    steps: [(u64, u64); STEPS],
}

impl Windows {
    /// Windows of no record.
    pub(crate) fn none() -> Self {
        Self { steps: [(u64::MAX, 0); STEPS] }
    }

    pub(crate) fn insert(&mut self, place: u16, time_us: u64) {
        if let Some((first, last)) = self.steps.get_mut(usize::from(place) / STEP) {
            *first = time_us.min(*first);
            *last = time_us.max(*last);
        }
    }

    /// Whether a record of a step may be from `from` on and before `to`.
    pub(crate) fn may(&self, step: usize, from: u64, to: u64) -> bool {
        self.steps.get(step).is_none_or(|(first, last)| *first < to && *last >= from)
    }

    /// Adds what a row holds.
    pub(crate) fn add_row(&mut self, row: &[u8]) {
        for ((first, last), bytes) in self.steps.iter_mut().zip(row.as_chunks::<16>().0) {
            let (there, until) = bytes.split_at(8);
            *first = crate::table::last_eight(there).min(*first);
            *last = crate::table::last_eight(until).max(*last);
        }
    }

    /// As a row: steps up to the last one with a record.
    pub(crate) fn row(&self) -> Vec<u8> {
        let used = self.steps.iter().rposition(|(first, _)| *first != u64::MAX).map_or(0, |last| last + 1);
        let times = self.steps.iter().take(used);
        times.flat_map(|(first, last)| [first.to_be_bytes(), last.to_be_bytes()]).flatten().collect()
    }
}
