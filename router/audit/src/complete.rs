//! Completeness: every sequence of every stream is recorded, or lies in a gap that is named and explained.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::entry::GapReason;
use crate::leaf::{Detail, Leaf, RecordKind};

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

/// Accounts that are being made, one a stream.
#[derive(Debug, Default)]
pub struct Accounts {
    streams: BTreeMap<String, Account>,
    /// Records before the first one are not known: what they account for is not judged.
    middle: bool,
}

// === impl NamedGap ===

impl NamedGap {
    /// Why, in words.
    #[must_use]
    pub fn words(&self) -> &'static str {
        match self.reason {
            GapReason::Trimmed => "trimmed before the record saw them",
            GapReason::Deleted => "deleted in the stream before they were recorded",
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
        let stream = leaf.source.stream.as_str();
        let first = leaf.source.sequence;
        if !self.streams.contains_key(stream) {
            let before = if self.middle { first.saturating_sub(1) } else { 0 };
            self.streams.insert(stream.to_owned(), Account { last: before, ..Account::new(stream) });
        }
        let Some(account) = self.streams.get_mut(stream) else { return false };
        let follows = first == account.last.saturating_add(1);
        if !follows && account.breaks.len() < GAPS_MAX {
            account.breaks.push(account.last.saturating_add(1));
        }
        let last = match (&leaf.detail, leaf.kind) {
            (Some(Detail::Gap { to, reason }), RecordKind::Gap) => {
                let gap = NamedGap { from: first, to: *to, reason: *reason, record: leaf.index };
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
        let (gaps, breaks) = (Vec::new(), Vec::new());
        Self { stream: stream.to_owned(), last: 0, messages: 0, missing: 0, gaps, breaks }
    }

    /// Whether every sequence up to the last one is recorded or in a gap.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.breaks.is_empty()
    }

    /// Whether no gap is unexplained.
    #[must_use]
    pub fn is_explained(&self) -> bool {
        self.gaps.iter().all(|gap| gap.reason != GapReason::Unexplained)
    }
}
