//! Completeness: every sequence of every stream is recorded, or lies in a gap that is named and explained.

use std::collections::BTreeMap;

use serde::Serialize;

use tidegate_schemas::directory::RECORDER;

use crate::entry::GapReason;
use crate::leaf::{ActWord, Detail, Leaf, RecordKind};
use gone::Gone;

mod gone;

/// Gaps of a stream that are listed; more are counted.
const GAPS_MAX: usize = 1_000;

/// What a record holds of one stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Account {
    /// The stream.
    pub stream: String,
    /// Its last sequence that is accounted for; the first is 1.
    pub last: u64,
    /// Messages that are recorded.
    pub messages: u64,
    /// Sequences that lie in gaps.
    pub missing: u64,
    /// The gaps, at most 1,000.
    pub gaps: Vec<NamedGap>,
    /// Gaps that nothing on record explains, count.
    pub unexplained: u64,
    /// Sequences whose records, or the gaps that explained them, were pruned by retention; their hashes are kept.
    pub pruned: u64,
    /// Messages that are recorded, and were deleted in the stream since: their data subject was erased.
    pub erased: u64,
    /// The records that say so, at most 1,000.
    pub erasures: Vec<NamedErasure>,
    /// Sequences at which the account breaks: neither recorded nor in a gap, or twice.
    pub breaks: Vec<u64>,
}

/// Sequences that hold no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct NamedGap {
    /// First missing sequence.
    pub from: u64,
    /// Last missing sequence.
    pub to: u64,
    /// Why.
    pub reason: GapReason,
    /// Index of the record that says so.
    pub record: u64,
}

/// Recorded messages that a stream holds no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct NamedErasure {
    /// The first of them.
    pub from: u64,
    /// How many the record names; a message that an earlier one names too is counted there.
    pub messages: u64,
    /// Index of the record that says so.
    pub record: u64,
    /// Sequence in EVENTS of the act behind it.
    pub event: u64,
}

/// Accounts that are being made, one a stream.
#[derive(Debug, Default)]
pub struct Accounts {
    streams: BTreeMap<String, Account>,
    /// What erasures deleted, by stream.
    gone: BTreeMap<String, Gone>,
    /// Records before the first one are not known: what they account for is not judged.
    middle: bool,
}

// === impl NamedGap ===

impl NamedGap {
    /// Why, in words.
    #[must_use]
    pub fn words(&self) -> &'static str {
        match self.reason {
            GapReason::Trimmed => "not explained: gone before the record saw the stream",
            GapReason::Deleted => {
                "not explained: deleted in the stream, or lost by the broker, before they were recorded"
            }
            GapReason::Erased => "erased with their data subject, by an act on record",
            GapReason::Break => "gone with the history that the record broke with",
            GapReason::Unexplained => "lost: the broker no longer has them and does not say why",
        }
    }
}

// === impl Accounts ===

impl Accounts {
    /// Accounts of records that do not begin with the first one.
    #[must_use]
    pub fn from_the_middle() -> Self {
        Self { middle: true, ..Self::default() }
    }

    /// Takes the next record. `false` when it does not follow what is accounted for of its stream.
    pub fn take(&mut self, leaf: &Leaf) -> bool {
        self.erased(leaf);
        let first = leaf.source.sequence;
        let account = self.of(&leaf.source.stream, first);
        let follows = account.follows(first);
        let last = match (&leaf.detail, leaf.kind) {
            (Some(Detail::Gap { to, reason }), RecordKind::Gap) => {
                let gap = NamedGap { from: first, to: *to, reason: *reason, record: leaf.index };
                account.unexplained += u64::from(!reason.is_explained());
                account.missing = account.missing.saturating_add(to.saturating_sub(first).saturating_add(1));
                if account.gaps.len() < GAPS_MAX {
                    account.gaps.push(gap);
                }
                *to
            }
            _ => {
                account.messages += 1;
                first
            }
        };
        account.last = account.last.max(last);
        follows
    }

    /// Takes sequences of a stream whose records were pruned. `false` as for [`Self::take`].
    pub fn take_pruned(&mut self, stream: &str, from: u64, to: u64) -> bool {
        let account = self.of(stream, from);
        let follows = account.follows(from);
        account.pruned = account.pruned.saturating_add(to.saturating_sub(from).saturating_add(1));
        account.last = account.last.max(to);
        follows
    }

    /// The account of a stream of which `first` comes next.
    fn of(&mut self, stream: &str, first: u64) -> &mut Account {
        let before = if self.middle { first.saturating_sub(1) } else { 0 };
        let begun = || Account { last: before, ..Account::new(stream) };
        self.streams.entry(stream.to_owned()).or_insert_with(begun)
    }

    /// Takes in what the recorder says that it deletes. It may say so more than once, and two persons may share a message: a
    /// message goes once.
    fn erased(&mut self, leaf: &Leaf) {
        let Some(Detail::Control { act: ActWord::EraseMessages, operator, letter, records, ranges, .. }) =
            &leaf.detail
        else {
            return;
        };
        let (Some(first), Some(messages), Some(act)) = (letter, records, &leaf.cause) else { return };
        let Some(account) = self.streams.get_mut(&first.stream) else { return };
        if operator.as_str() != RECORDER {
            return;
        }
        let (from, record, event) = (first.sequence, leaf.index, act.sequence);
        let named = NamedErasure { from, messages: *messages, record, event };
        let fresh = self.gone.entry(first.stream.clone()).or_default().take(named, ranges);
        account.erased = account.erased.saturating_add(fresh);
        if fresh > 0 && account.erasures.len() < GAPS_MAX {
            account.erasures.push(named);
        }
    }

    /// Whether a sequence of a stream is accounted for, as far as that is known.
    #[must_use]
    pub fn holds(&self, stream: &str, sequence: u64) -> bool {
        self.middle || self.streams.get(stream).is_some_and(|account| (1..=account.last).contains(&sequence))
    }

    /// The accounts, by stream.
    #[must_use]
    pub fn into_vec(self) -> Vec<Account> {
        self.streams.into_values().collect()
    }
}

impl Account {
    fn new(stream: &str) -> Self {
        Self {
            stream: stream.to_owned(),
            last: 0,
            messages: 0,
            missing: 0,
            gaps: Vec::new(),
            unexplained: 0,
            pruned: 0,
            erased: 0,
            erasures: Vec::new(),
            breaks: Vec::new(),
        }
    }

    /// Whether a sequence is the next; notes where it is not.
    fn follows(&mut self, first: u64) -> bool {
        let follows = first == self.last.saturating_add(1);
        if !follows && self.breaks.len() < GAPS_MAX {
            self.breaks.push(self.last.saturating_add(1));
        }
        follows
    }

    /// Whether every sequence up to the last one is recorded or in a gap.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.breaks.is_empty()
    }

    /// Whether something on record explains each gap.
    #[must_use]
    pub fn is_explained(&self) -> bool {
        self.unexplained == 0
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use crate::entry::{Gap, Item};
    use crate::fixture::{act as act_of, at, items, road, store};
    use crate::leaf::Leaf;
    use tidegate_schemas::control::Act;

    use super::*;

    fn accounts(reasons: impl IntoIterator<Item = GapReason>) -> Vec<Account> {
        let dir = tempfile::tempdir().unwrap();
        let mut store = store(dir.path());
        let gap = |(sequence, reason)| {
            Item::Gap(Gap { stream: "EVENTS".to_owned(), from: sequence, to: sequence, reason, time: at(0) })
        };
        store.append(&(1..).zip(reasons).map(gap).collect::<Vec<_>>()).unwrap();
        let mut accounts = Accounts::default();
        let reader = store.reader();
        let mut after = 0;
        loop {
            let leaves: Vec<Leaf> =
                reader.tail(after, 500).unwrap().into_iter().map(|record| record.leaf).collect();
            if leaves.is_empty() {
                return accounts.into_vec();
            }
            after += leaves.len() as u64;
            assert!(leaves.iter().all(|leaf| accounts.take(leaf)));
        }
    }

    #[test]
    fn complete_is_explained_only_what_something_on_record_explains() {
        let rows = [
            (GapReason::Trimmed, false),
            (GapReason::Erased, true),
            (GapReason::Break, true),
            // A corrupt block of the broker looks the same as a deletion.
            (GapReason::Deleted, false),
            (GapReason::Unexplained, false),
        ];
        for (reason, explained) in rows {
            let accounts = accounts([reason]);
            assert!(accounts.iter().all(Account::is_complete), "{reason:?}");
            assert_eq!(accounts.iter().all(Account::is_explained), explained, "{reason:?}");
        }
    }

    #[test]
    fn complete_counts_a_message_of_two_erased_persons_once_and_each_other_one() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = store(dir.path());
        let said = |sequence, event, ranges: &[(u64, u64)]| {
            let act = Act::EraseMessages { event, stream: "TASKS_acme".to_owned(), ranges: ranges.to_vec() };
            let mut said = act_of(RECORDER, sequence, &act);
            said.headers.push(("tidegate-cause".to_owned(), format!("EVENTS:{event}")));
            said
        };
        store.append(&road(9)).unwrap();
        // Both have the fifth task, each has another one: the first is the same, and how many.
        let (one, other) = (said(1, 1, &[(5, 5), (7, 7)]), said(2, 2, &[(5, 5), (9, 9)]));
        store.append(&items([one, other, said(3, 2, &[(5, 5), (9, 9)])])).unwrap();
        let leaves: Vec<Leaf> =
            store.reader().tail(0, 500).unwrap().into_iter().map(|one| one.leaf).collect();
        let erased = |leaves: &[Leaf]| {
            let mut accounts = Accounts::default();
            assert!(leaves.iter().all(|leaf| accounts.take(leaf)));
            let account = accounts.into_vec().into_iter().find(|one| one.stream == "TASKS_acme").unwrap();
            (account.erased, account.erasures.len())
        };
        assert_eq!(erased(&leaves), (3, 2));
        // As releases wrote it that said the first one and how many.
        let before = leaves.into_iter().map(|mut leaf| {
            if let Some(Detail::Control { ranges, .. }) = &mut leaf.detail {
                ranges.clear();
            }
            serde_json::from_str(&serde_json::to_string(&leaf).unwrap()).unwrap()
        });
        assert_eq!(erased(&before.collect::<Vec<_>>()), (2, 1), "negative control");
    }

    #[test]
    fn complete_counts_gaps_beyond_those_that_it_lists() {
        let all = |last| std::iter::repeat_n(GapReason::Erased, GAPS_MAX).chain([last]);
        let accounts_of = |last| accounts(all(last)).remove(0);
        let account = accounts_of(GapReason::Unexplained);
        assert_eq!((account.gaps.len(), account.unexplained, account.is_explained()), (GAPS_MAX, 1, false));
        assert!(accounts_of(GapReason::Erased).is_explained(), "negative control");
    }
}
