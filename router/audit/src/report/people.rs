//! What people decided of what the judge held for them.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::Serialize;
use tidegate_schemas::ids::Name;
use tidegate_schemas::labels::Sensitivity;

use super::counts::{Capped, KEYS_MAX};
use crate::leaf::{Detail, Leaf, RecordKind, VerdictWord};

/// Reviews and verdicts of the month.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct People {
    /// By queue and data class.
    pub queues: Vec<Queue>,
    /// Held for a person.
    pub held: u64,
    /// Verdicts given.
    pub verdicts: u64,
    /// Verdicts that let run what the judge held, as it was. What led to no work counts as neither: it came too late, was refused, or
    /// waits for others.
    pub upheld: u64,
    /// Verdicts that changed or stopped it.
    pub overturned: u64,
    /// Held tasks that ended because nobody decided in time.
    pub expired: u64,
    /// Different reviewers; their names are in the record.
    pub reviewers: u64,
    /// How long tasks waited for the verdicts given.
    pub waits: Option<Waits>,
}

/// One queue and data class.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Queue {
    /// Queue whose reviewers decide.
    pub queue: String,
    /// Data class; absent where the record does not hold the review.
    pub class: Option<Sensitivity>,
    /// How many of each.
    #[serde(flatten)]
    pub verdicts: Verdicts,
}

/// What became of held tasks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Verdicts {
    /// Held.
    pub held: u64,
    /// Verdicts that it may run.
    pub approved: u64,
    /// Verdicts that it may run with another input.
    pub edited: u64,
    /// Verdicts that it must not run.
    pub rejected: u64,
    /// Nobody decided in time.
    pub expired: u64,
}

/// Times between review and verdict, milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Waits {
    /// On average.
    pub mean_ms: u64,
    /// At most.
    pub longest_ms: u64,
}

/// Reviews while they are counted.
#[derive(Debug, Default)]
pub(super) struct Reviews {
    queues: Capped<(String, Option<Sensitivity>), Verdicts>,
    reviewers: BTreeSet<Name>,
    upheld: u64,
    overturned: u64,
    timed: u64,
    waited_ms: u64,
    longest_ms: u64,
}

// === impl Reviews ===

impl Reviews {
    fn at(&mut self, queue: &Name, review: Option<&Leaf>) -> Option<&mut Verdicts> {
        let class = review.and_then(|review| review.decision.as_ref()).map(|decision| decision.sensitivity);
        self.queues.at((queue.to_string(), class))
    }

    pub(super) fn held(&mut self, review: &Leaf) {
        let Some(Detail::Review { queue, .. }) = &review.detail else { return };
        if let Some(verdicts) = self.at(queue, Some(review)) {
            verdicts.held += 1;
        }
    }

    pub(super) fn verdict(&mut self, verdict: &Leaf, review: Option<&Leaf>) {
        let Some(Detail::Verdict { queue, reviewer, action, .. }) = &verdict.detail else { return };
        if let Some(verdicts) = self.at(queue, review) {
            match action {
                VerdictWord::Approve => verdicts.approved += 1,
                VerdictWord::Edit => verdicts.edited += 1,
                VerdictWord::Reject => verdicts.rejected += 1,
            }
        }
        if self.reviewers.len() < KEYS_MAX {
            self.reviewers.insert(reviewer.clone());
        }
        if let Some(review) = review {
            self.waited(review.time, verdict.time);
        }
    }

    /// Work or a result, and what caused it: only a verdict that something follows has decided anything.
    pub(super) fn followed(&mut self, leaf: &Leaf, cause: Option<&Leaf>) {
        let Some(Detail::Verdict { action, .. }) = cause.and_then(|cause| cause.detail.as_ref()) else {
            return;
        };
        match (action, leaf.kind) {
            (VerdictWord::Approve, RecordKind::Work) => self.upheld += 1,
            // The judge turned it away.
            (VerdictWord::Approve, _) => {}
            (VerdictWord::Edit | VerdictWord::Reject, _) => self.overturned += 1,
        }
    }

    /// A held task ended because nobody decided.
    pub(super) fn expired(&mut self, review: &Leaf) {
        let Some(Detail::Review { queue, .. }) = &review.detail else { return };
        if let Some(verdicts) = self.at(queue, Some(review)) {
            verdicts.expired += 1;
        }
    }

    fn waited(&mut self, from: Timestamp, to: Timestamp) {
        let ms = u64::try_from(to.duration_since(from).as_millis()).unwrap_or(0);
        self.timed += 1;
        self.waited_ms = self.waited_ms.saturating_add(ms);
        self.longest_ms = self.longest_ms.max(ms);
    }

    pub(super) fn left_out(&self) -> u64 {
        self.queues.left_out()
    }

    /// `expired` counts all results of that code, whether or not the review behind them is recorded.
    pub(super) fn told(self, expired: u64) -> People {
        let waits = (self.timed > 0)
            .then(|| Waits { mean_ms: self.waited_ms / self.timed, longest_ms: self.longest_ms });
        let queues = self.queues.into_rows(|((queue, class), verdicts)| Queue { queue, class, verdicts });
        let sum = |of: fn(&Verdicts) -> u64| queues.iter().map(|queue| of(&queue.verdicts)).sum::<u64>();
        let (upheld, overturned) = (self.upheld, self.overturned);
        People {
            held: sum(|v| v.held),
            verdicts: sum(|v| v.approved + v.edited + v.rejected),
            upheld,
            overturned,
            expired,
            reviewers: self.reviewers.len() as u64,
            waits,
            queues,
        }
    }
}
