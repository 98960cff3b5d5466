//! Breaks that were accepted: what was signed before one, and what the record went on without, is told apart from tampering.

use crate::checkpoint::{Checkpoint, PublicKey};
use crate::copy::EpochNote;

/// What was given up by breaks.
#[derive(Debug, Default)]
pub(crate) struct GivenUp(Vec<Checkpoint>);

// === impl GivenUp ===

impl GivenUp {
    /// By the notes that breaks were with, each with the history that went on without it; `now` is the newest history that is
    /// signed. A note that this key did not sign, or of that history or a later one, gives nothing up: notes of the history that
    /// goes on lie open in every record, and nobody accepted a break of theirs.
    pub(crate) fn new(
        breaks: impl IntoIterator<Item = EpochNote>,
        key: Option<&PublicKey>,
        now: Option<u64>,
    ) -> Self {
        let opened = breaks.into_iter().filter_map(|given_up| {
            let (key, checkpoint) = (key?, key?.open(&given_up.note).ok()?);
            let before = key.epoch(&checkpoint.origin)? < given_up.epoch;
            (before && given_up.epoch <= now?).then_some(checkpoint)
        });
        Self(opened.collect())
    }

    /// Whether a checkpoint that was kept outside was given up: it is of the same history as one of them, and not newer.
    pub(crate) fn covers(&self, kept: &Checkpoint) -> bool {
        self.0.iter().any(|given_up| given_up.origin == kept.origin && kept.size <= given_up.size)
    }
}
