//! Breaks that were accepted: what was signed before one, and what the record went on without, is told apart from tampering.

use crate::checkpoint::{Checkpoint, PublicKey};

/// What was given up by breaks.
#[derive(Debug, Default)]
pub(crate) struct GivenUp(Vec<Checkpoint>);

// === impl GivenUp ===

impl GivenUp {
    /// By the notes that breaks were with; one that this key did not sign gives nothing up.
    pub(crate) fn new(notes: impl IntoIterator<Item = String>, key: Option<&PublicKey>) -> Self {
        let opened = notes.into_iter().filter_map(|note| key?.open(&note).ok());
        Self(opened.collect())
    }

    /// Whether a checkpoint that was kept outside was given up: it is of the same history as one of them, and not newer.
    pub(crate) fn covers(&self, kept: &Checkpoint) -> bool {
        self.0.iter().any(|given_up| given_up.origin == kept.origin && kept.size <= given_up.size)
    }
}
