//! Messages of a stream that erasures deleted: each counts once, however often and by how many acts it is said.

use std::collections::BTreeMap;

use super::NamedErasure;

/// What was said of one stream.
#[derive(Debug, Default)]
pub(super) struct Gone {
    /// First sequence → last one; none touches another.
    spans: BTreeMap<u64, u64>,
    /// Who said it, and whether with the exact sequences: older releases said the first one and how many.
    said: Vec<(NamedErasure, bool)>,
}

// === impl Gone ===

impl Gone {
    /// Takes in what a record says. Returns how many messages of it were not said before.
    ///
    /// Where the sequences are not known, the same first one with the same number, or by the same act, counts as the same: after
    /// a crash it is said again, and for a second act about the same person once more.
    pub(super) fn take(&mut self, named: NamedErasure, ranges: &[(u64, u64)]) -> u64 {
        let exact = !ranges.is_empty();
        let fresh: u64 = ranges.iter().map(|(from, to)| self.add(*from, *to)).fold(0, u64::saturating_add);
        let same = |known: &NamedErasure| {
            known.from == named.from && (known.event == named.event || known.messages == named.messages)
        };
        let again = self.said.iter().any(|(known, of)| !(exact && *of) && same(known));
        self.said.push((named, exact));
        match (again, exact) {
            (true, _) => 0,
            (false, true) => fresh,
            (false, false) => named.messages,
        }
    }

    /// Adds a range. Returns how many sequences of it are new.
    fn add(&mut self, from: u64, to: u64) -> u64 {
        if from > to {
            return 0;
        }
        let (mut first, mut last, mut known) = (from, to, 0);
        let before = self.spans.range(..=to.saturating_add(1)).rev();
        let touching: Vec<(u64, u64)> = before
            .map(|(first, last)| (*first, *last))
            .take_while(|(_, last)| last.saturating_add(1) >= from)
            .collect();
        for (begin, end) in touching {
            self.spans.remove(&begin);
            (first, last) = (begin.min(first), end.max(last));
            known += end.min(to).saturating_add(1).saturating_sub(begin.max(from));
        }
        self.spans.insert(first, last);
        (to - from).saturating_add(1).saturating_sub(known)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn named(event: u64, ranges: &[(u64, u64)]) -> NamedErasure {
        let messages = ranges.iter().map(|(from, to)| to - from + 1).sum();
        NamedErasure { from: ranges[0].0, messages, record: event, event }
    }

    /// An act, its ranges, and whether it says them.
    type Act<'a> = (u64, &'a [(u64, u64)], bool);

    /// Takes in what acts say, with or without their sequences. Returns what is counted.
    fn counted(acts: &[Act<'_>]) -> Vec<u64> {
        let mut gone = Gone::default();
        let take = |(event, ranges, exact): &Act<'_>| {
            gone.take(named(*event, ranges), if *exact { ranges } else { &[] })
        };
        acts.iter().map(take).collect()
    }

    #[test]
    fn complete_counts_what_two_erasures_deleted_by_its_sequences() {
        let (one, other) = (&[(5, 5), (7, 7)][..], &[(5, 5), (9, 9)][..]);
        // A message of two persons, and one of each: as many, and the first is the same.
        assert_eq!(counted(&[(1, one, true), (2, other, true)]), [2, 1]);
        assert_eq!(counted(&[(1, one, true), (2, one, true)]), [2, 0], "negative control: the same ones");
        assert_eq!(counted(&[(1, one, true), (1, &[(5, 7)], true)]), [2, 1], "more was found after a crash");
        // What older releases said has no sequences, and is told as they did.
        assert_eq!(counted(&[(1, one, false), (2, other, false)]), [2, 0]);
        assert_eq!(counted(&[(1, one, false), (1, one, true), (3, &[(8, 8)], true)]), [2, 0, 1]);
        assert_eq!(counted(&[(1, one, true), (1, one, false), (2, &[(1, 2)], false)]), [2, 0, 2]);
    }

    #[test]
    fn complete_counts_each_sequence_of_any_ranges_once() {
        let (mut gone, mut all, mut state) = (Gone::default(), BTreeSet::new(), 7_u64);
        for _ in 0..2_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let (from, length) = ((state >> 33) % 500, (state >> 50) % 9);
            let fresh = (from..=from + length).filter(|at| all.insert(*at)).count() as u64;
            assert_eq!(gone.add(from, from + length), fresh);
            let covered: u64 = gone.spans.iter().map(|(first, last)| last - first + 1).sum();
            assert_eq!(covered, all.len() as u64);
        }
        assert_eq!(gone.add(1, u64::MAX), u64::MAX - all.len() as u64 + u64::from(all.contains(&0)));
        assert_eq!((gone.add(9, 8), gone.add(0, u64::MAX)), (0, u64::from(!all.contains(&0))));
    }
}
