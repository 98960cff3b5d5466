//! Segments: the oldest records, in files of their own that nobody writes any more.
//!
//! ```text
//! seg-0.redb                  the live file: the newest records, all tiles, indices, tasks, keys, checkpoints
//! segments/seg-<first>.redb   leaves and tiles of the records from <first> on, where the tree stood before, what signs them
//! segments/body-<first>.redb  their sealed bodies
//! ```
//!
//! A segment is whole tiles that a checkpoint covers, so its file verifies alone ([`verify`]). It is written beside the live
//! file ([`Reader::seal`](crate::Reader::seal)), is durable before the live file names it, and only then do its rows leave the
//! live file, a few at a time: at every moment each record is in one place that is read.

use std::ops::Range;

use jiff::Timestamp;
use redb::{ReadableTable, TableDefinition};
use serde::{Deserialize, Serialize};

use crate::error::Failure;
use crate::leaf::{ActWord, Detail, Leaf};

pub use alone::{Alone, AloneError, verify};
pub use make::{Sealed, Sealing};

pub(crate) mod alone;
pub(crate) mod make;
pub(crate) mod shelf;
#[cfg(test)]
mod tests;

/// What a segment's file says of itself: [`START`], [`END`], [`NOTE`], [`PROOF`].
pub(crate) const HEAD: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("head");
/// The frontier of the tree before its first record.
pub(crate) const START: &str = "start";
/// The index after its last record, 8 bytes, big-endian.
pub(crate) const END: &str = "end";
/// The checkpoint that covers it.
pub(crate) const NOTE: &str = "note";
/// Proof that the tree up to its end is the beginning of the one that is signed.
pub(crate) const PROOF: &str = "proof";

/// Who prunes: under this name only the recorder can publish an act, and no operator can have it.
pub(crate) const PRUNER: &str = tidegate_schemas::directory::RECORDER;

/// One of a segment's two files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// The sealed messages.
    Bodies,
    /// The records, but for their hashes.
    Records,
}

/// A segment, as the live file keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Segment {
    /// Index of its first record; the key of its row.
    #[serde(skip)]
    pub(crate) first: u64,
    /// The index after its last.
    pub(crate) end: u64,
    /// Time of its newest record.
    pub(crate) newest: Timestamp,
    /// Where its bodies were pruned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) bodies: Option<Pruning>,
    /// Where its records were pruned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) records: Option<Pruning>,
}

/// That a file was pruned, and the act that says so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pruning {
    /// Index of the act's record.
    pub(crate) act: u64,
    /// Its leaf: the act's own record may be pruned one day.
    pub(crate) leaf: String,
    /// Records that are no longer in any index.
    pub(crate) swept: u64,
}

// === impl Part ===

impl Part {
    /// Name of the file of the segment that begins with a record.
    pub(crate) fn file(self, first: u64) -> String {
        match self {
            Self::Bodies => format!("body-{first}.redb"),
            Self::Records => format!("seg-{first}.redb"),
        }
    }

    /// The word of the act that prunes it.
    pub(crate) fn act(self) -> ActWord {
        match self {
            Self::Bodies => ActWord::PruneBodies,
            Self::Records => ActWord::PruneRecords,
        }
    }

    /// Whether a leaf is the act that prunes this part of these records.
    pub(crate) fn is_pruned_by(self, range: Range<u64>, leaf: &Leaf) -> bool {
        matches!(
            &leaf.detail,
            Some(Detail::Control { operator, act, first: Some(first), records: Some(records), .. })
                if operator.as_str() == PRUNER
                    && *act == self.act()
                    && *first == range.start
                    && first.checked_add(*records) == Some(range.end)
        )
    }
}

// === impl Segment ===

impl Segment {
    pub(crate) fn decode(first: u64, bytes: &[u8]) -> Option<Self> {
        let read: Self = serde_json::from_slice(bytes).ok()?;
        (read.end > first).then_some(Self { first, ..read })
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        // Numbers and text always serialise.
        serde_json::to_vec(self).unwrap_or_default()
    }

    pub(crate) fn pruning(&self, part: Part) -> Option<&Pruning> {
        match part {
            Part::Bodies => self.bodies.as_ref(),
            Part::Records => self.records.as_ref(),
        }
    }

    pub(crate) fn len(&self) -> u64 {
        self.end.saturating_sub(self.first)
    }

    /// Parts whose files are not needed any more: a records file is, until its records are in no index.
    pub(crate) fn gone(&self) -> impl Iterator<Item = Part> {
        let records =
            self.records.as_ref().filter(|pruning| pruning.swept >= self.len()).map(|_| Part::Records);
        self.bodies.as_ref().map(|_| Part::Bodies).into_iter().chain(records)
    }

    /// Whether a leaf is the act that prunes a part of this segment.
    pub(crate) fn is_pruned_by(&self, part: Part, leaf: &Leaf) -> bool {
        part.is_pruned_by(self.first..self.end, leaf)
    }
}

/// The segment that a record is in.
pub(crate) fn at(
    table: &impl ReadableTable<u64, &'static [u8]>,
    index: u64,
) -> Result<Option<Segment>, Failure> {
    let row = table.range(..=index)?.next_back().transpose()?;
    let found = row.and_then(|(first, row)| Segment::decode(first.value(), row.value()));
    Ok(found.filter(|segment| (segment.first..segment.end).contains(&index)))
}

/// All segments, the oldest first.
pub(crate) fn all(table: &impl ReadableTable<u64, &'static [u8]>) -> Result<Vec<Segment>, Failure> {
    let mut found = Vec::new();
    for row in table.iter()? {
        let (first, row) = row?;
        found.extend(Segment::decode(first.value(), row.value()));
    }
    Ok(found)
}

/// The index after the last record that is in a segment.
pub(crate) fn end(table: &impl ReadableTable<u64, &'static [u8]>) -> Result<u64, Failure> {
    let row = table.last()?;
    Ok(row.and_then(|(first, row)| Segment::decode(first.value(), row.value())).map_or(0, |last| last.end))
}
