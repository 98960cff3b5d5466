//! The report as it is told: one JSON object, from which the page is made.

use jiff::Timestamp;
use serde::Serialize;
use tidegate_schemas::digest::Digest;
use tidegate_schemas::ids::Name;

use super::counts::{Indices, Span};
use super::month::Month;
use super::people::People;
use super::places::{Place, Ran};
use super::residency::Residency;
use super::rows::{Acted, Anomaly, Counted, Dead, Decided, Ended, Failed, Judged, Missing, Part, Refused};
use crate::checkpoint::Checkpoint;

/// The report of a month.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Monthly {
    /// Version of this form; 1.
    pub v: u32,
    /// Whose; absent for every tenant's.
    pub tenant: Option<Name>,
    /// Which month, in UTC.
    pub month: Month,
    /// Its first moment.
    pub from: Timestamp,
    /// The first moment after it.
    pub to: Timestamp,
    /// When the report was made.
    pub made: Timestamp,
    /// Whether the month had ended then.
    pub ended: bool,
    /// The record that it was made from.
    pub record: Standing,
    /// What was counted.
    pub covered: Covered,
    /// Tasks.
    pub tasks: Tasks,
    /// How tasks ended, by data class.
    pub outcomes: Vec<Ended>,
    /// Tasks that were rejected, and why.
    pub rejections: Vec<Refused>,
    /// Tasks that failed or were withdrawn, and why.
    pub failures: Vec<Failed>,
    /// Decisions by outcome and data class.
    pub decisions: Vec<Decided>,
    /// Where work ran.
    pub places: Vec<Place>,
    /// What left: the cloud lane of all places.
    pub left: Ran,
    /// Each tenant's part, in a report of all.
    pub tenants: Vec<Part>,
    /// What people decided.
    pub people: People,
    /// Where records of each data class went.
    pub residency: Vec<Residency>,
    /// Works and attempts that cannot be tied to a decision: residency is unproven for them.
    pub unattributed: Indices,
    /// Messages of works and attempts that were never seen, noticed since the month began.
    pub unseen: u64,
    /// Messages that were given up.
    pub dead: Vec<Dead>,
    /// Records that somebody must look at.
    pub anomalies: Vec<Anomaly>,
    /// Missing sequences, noticed in the month.
    pub gaps: Vec<Missing>,
    /// What operators did.
    pub acts: Vec<Acted>,
    /// Bundles of policies that judged.
    pub bundles: Vec<Judged>,
    /// Different versions of the directory that were asked.
    pub directories: u64,
    /// Records by kind.
    pub kinds: Vec<Counted>,
    /// Entries that found no row, because a table of this report was full; 0 unless somebody filled the record on purpose.
    pub left_out: u64,
}

/// The record, as it stood when the report was made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// Records there were; all were read.
    pub records: u64,
    /// Leaf hash of the last one (RFC 6962 §2.1).
    pub head: Option<Digest>,
    /// Times of its messages.
    pub times: Option<Span<Timestamp>>,
    /// Records that retention took away before; their hashes are kept.
    pub pruned: u64,
    /// Among them those that may be of the month or later: of these the report cannot speak.
    pub pruned_unread: u64,
    /// Records that are missing, or whose bytes are not those that were recorded.
    pub damaged: Indices,
    /// The checkpoint that was held against them; absent where none was.
    pub signed: Option<Signed>,
    /// Of the checkpoints that were kept outside the first that they do not give, else the newest; absent where none was named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept: Option<Signed>,
}

/// A signed checkpoint, held against the records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Signed {
    /// The log.
    pub origin: String,
    /// Records that it covers, from the first on.
    pub size: u64,
    /// Root of the tree over them (RFC 6962 §2.1).
    pub root: Digest,
    /// Whether the records that were read give that root.
    pub proven: bool,
}

/// What was counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Covered {
    /// Records of the month.
    pub records: u64,
    /// Among them those that no tenant owns: gaps, operators' acts, what could not be read.
    pub of_the_cell: u64,
    /// Their indices; between them stand other records too.
    pub indices: Option<Span<u64>>,
    /// Their times.
    pub times: Option<Span<Timestamp>>,
}

/// Tasks of the month.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Tasks {
    /// Submitted; repeats apart.
    pub submitted: u64,
    /// Submitted again under an id that was known.
    pub repeated: u64,
    /// Among those submitted: could not be read as a task.
    pub unreadable: u64,
    /// Withdrawals.
    pub withdrawn: u64,
    /// Ended, whenever they were submitted.
    pub ended: u64,
}

// === impl Standing ===

impl Standing {
    /// Whether a checkpoint was signed over other records than these.
    #[must_use]
    pub fn is_forged(&self) -> bool {
        [&self.signed, &self.kept].into_iter().flatten().any(|signed| !signed.proven)
    }

    /// Whether a signed checkpoint was held against records that were counted, and fits.
    #[must_use]
    pub fn vouches_for(&self, covered: &Covered) -> bool {
        let reaches = |size| covered.indices.is_none_or(|indices| indices.first < size);
        self.signed.as_ref().is_some_and(|signed| signed.proven && reaches(signed.size))
    }

    /// Records that no checkpoint covers yet; all where none was held against them.
    #[must_use]
    pub fn unsigned(&self) -> u64 {
        self.records.saturating_sub(self.signed.as_ref().map_or(0, |signed| signed.size))
    }
}

impl Signed {
    /// What a checkpoint says, and whether the records give it.
    pub(super) fn new(checkpoint: &Checkpoint, proven: bool) -> Self {
        let Checkpoint { origin, size, root } = checkpoint.clone();
        Self { origin, size, root: root.into(), proven }
    }
}
