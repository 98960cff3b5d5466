//! Checkpoints: the record's signed tree heads, published on `checkpoint` so that whoever keeps one holds the record to it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A signed tree head. What counts is the note; the rest says what it is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SignedCheckpoint {
    /// Version of this form; 1.
    pub schema_version: u32,
    /// Records that are signed.
    pub records: u64,
    /// The signed note (C2SP tlog-checkpoint), exactly.
    pub note: String,
}
