//! Verifying the record against itself: every leaf by its hash, every body by its commitment, every stream without a gap,
//! causes before effects, one terminal result a task.
//!
//! Records that are in segments are read there; a segment's file that is not what was sealed is named.
//!
//! And the whole against what was signed: the tree is grown anew, and must have the root of each checkpoint. With the public key and
//! a checkpoint that somebody outside kept, no one who holds the file can have written it anew.

use std::panic::resume_unwind;
use std::thread;

use redb::{ReadTransaction, ReadableTableMetadata as _};
use serde::Serialize;

use crate::checkpoint::{Checkpoint, PublicKey};
use crate::error::{Failure, ReadError};
use crate::merkle::TILE_WIDTH;
use crate::read::Reader;
use crate::store::Heads;
use crate::table;
use files::Intake;
use hands::{CHUNK, Stretch};
use tree::TreeCheck;

mod bodies;
mod breaks;
mod counts;
mod files;
mod hands;
mod keys;
mod links;
#[cfg(test)]
mod tests;
mod tree;

pub(crate) use bodies::fault as body_fault;
pub(crate) use breaks::GivenUp;

/// Newest records that a quick check reads.
const QUICK_RECORDS: u64 = 1_000;
/// Problems listed; more are counted.
const PROBLEMS_MAX: usize = 1_000;

/// What is known from outside.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    /// The key that signs checkpoints; without it they are taken as they stand in the file.
    pub key: Option<PublicKey>,
    /// Checkpoints that were kept outside the record, opened.
    pub pinned: Vec<Checkpoint>,
}

/// How much is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// The newest 1,000 records and the counts.
    Quick,
    /// Everything.
    Full,
    /// Records from this index on, and all streams.
    Since(u64),
}

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// How much was checked.
    pub level: Level,
    /// Index of the first record that was read.
    pub from: u64,
    /// Records read and hashed again.
    pub records: u64,
    /// Bodies hashed again.
    pub bodies: u64,
    /// Records that retention took away; their hashes are kept, and were taken for them.
    pub pruned: u64,
    /// Bodies that retention took away, with those of such records.
    pub pruned_bodies: u64,
    /// Keys of bodies that were looked at; absent where no master key was at hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keys: Option<u64>,
    /// Records flagged as odd when they were written; known, not problems of the record.
    pub anomalies: u64,
    /// Checkpoints that the record has itself and whose roots were compared.
    pub checkpoints: u64,
    /// Records of its newest checkpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signed: Option<u64>,
    /// Which history it is: one more with each break that was accepted.
    pub epoch: u64,
    /// What is wrong, at most 1,000 entries.
    pub problems: Vec<Problem>,
    /// Problems beyond those listed.
    pub more: u64,
}

/// Something wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Index of the record, where it is one's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<u64>,
    /// Where its message stands, or the first sequence concerned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<String>,
    /// What.
    pub fault: Fault,
}

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// No record at an index below the count.
    #[error("the record is missing")]
    Missing,
    /// The leaf's bytes do not have the stored hash.
    #[error("the leaf's bytes were changed: they do not have the stored hash")]
    LeafHash,
    /// The leaf is not one.
    #[error("the leaf cannot be read")]
    LeafForm,
    /// The leaf says another index.
    #[error("the leaf stands at another index than it says")]
    LeafIndex,
    /// The sealed body is not there.
    #[error("the sealed body is missing")]
    BodyMissing,
    /// The sealed body is not the one that the leaf commits to.
    #[error("the sealed body was changed: it is not the one that the leaf commits to")]
    BodyChanged,
    /// A file of an export that belongs to its bodies is missing or another one.
    #[error("the file belongs to the export's bodies, and is missing or not the one that was exported")]
    Attached,
    /// The index of sources leads elsewhere.
    #[error("the stream's sequence leads to another record")]
    Source,
    /// A sequence is neither recorded nor explained.
    #[error("sequences of the stream are neither recorded nor explained by a gap record")]
    Sequence,
    /// It was recorded before its cause.
    #[error("it stands before its cause")]
    Cause,
    /// Its cause is not recorded, and no flag says so.
    #[error("its cause is not recorded, and no flag says so")]
    CauseMissing,
    /// Another result is the task's terminal one, and no flag says so.
    #[error("another result is the task's terminal one, and no flag says so")]
    Terminal,
    /// The tree was built from another leaf.
    #[error("the leaf is not the one that the tree was built from: it was edited, or its tile was")]
    Tile,
    /// The stored frontier is not the records'.
    #[error("the tree's stored frontier is not that of the records")]
    Frontier,
    /// A stored checkpoint cannot be read, or is signed by another key.
    #[error("a checkpoint was changed or is missing, or another key signed it")]
    Checkpoint,
    /// The records do not have the root that the record's own checkpoint signed.
    #[error("they are not the records that were signed: edited, exchanged or written anew")]
    Signed,
    /// The records do not have the root that a checkpoint kept outside signed.
    #[error(
        "they are not the records of the checkpoint that was kept outside: edited, exchanged or written anew"
    )]
    Pinned,
    /// The records do not have the root that was signed before a break.
    #[error(
        "they are not those of the checkpoint that was kept outside: it was signed before a break, and the record went on without \
         them; look for the act `record_break` by which somebody accepted that"
    )]
    GivenUp,
    /// More lines than records were signed.
    #[error("it was not signed: it was added")]
    Added,
    /// Fewer records than were signed.
    #[error("they were signed and are gone: the record was cut short, emptied, or is an older copy")]
    RolledBack,
    /// A segment's file is not there.
    #[error("the segment's file is missing; restore it from a backup")]
    SegmentMissing,
    /// A segment's file is none any more.
    #[error("the segment's file was changed or cut short: it cannot be read; restore it from a backup")]
    SegmentUnreadable,
    /// A segment's file does not verify alone.
    #[error(
        "what the segment's file says of itself was changed: it does not go on from the records before, or is not signed"
    )]
    SegmentHead,
    /// Something is gone, and nothing on record says that it was pruned.
    #[error("it is gone, and no act on record says that it was pruned")]
    NotPruned,
    /// The key file is of no use.
    #[error(
        "the file of keys is missing, was cut short or is another record's: bodies cannot be opened; restore it from a backup"
    )]
    KeyFile,
    /// A key does not open.
    #[error("the key of its body does not open, and no erasure on record says that it was destroyed")]
    KeyLost,
    /// Counts and tables disagree.
    #[error("counts and tables disagree: accepted tasks are not those that ended and those that are open")]
    Conservation,
}

impl Report {
    pub(crate) fn new(level: Level, from: u64, anomalies: u64) -> Self {
        Self {
            level,
            from,
            records: 0,
            bodies: 0,
            pruned: 0,
            pruned_bodies: 0,
            keys: None,
            anomalies,
            checkpoints: 0,
            signed: None,
            epoch: 1,
            problems: Vec::new(),
            more: 0,
        }
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.problems.is_empty()
    }

    /// The problem at the lowest index; else the first of those that lie between records.
    #[must_use]
    pub fn first(&self) -> Option<&Problem> {
        let placed = self.problems.iter().filter(|problem| problem.index.is_some());
        placed.min_by_key(|problem| problem.index).or_else(|| self.problems.first())
    }

    pub(crate) fn add(&mut self, index: Option<u64>, position: Option<String>, fault: Fault) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(Problem { index, position, fault });
        } else {
            self.more += 1;
        }
    }
}

impl Reader {
    /// Verifies the record by itself, while it is written or not. `progress` is told records done and to do.
    ///
    /// # Errors
    /// [`ReadError::Broken`] when the file cannot be read at all; what is wrong in it stands in the report.
    pub fn verify(&self, level: Level, progress: &mut dyn FnMut(u64, u64)) -> Result<Report, ReadError> {
        self.verify_against(level, &Trust::default(), progress)
    }

    /// The same against what is known from outside.
    ///
    /// # Errors
    /// As [`Self::verify`].
    pub fn verify_against(
        &self,
        level: Level,
        trust: &Trust,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Report, ReadError> {
        let txn = self.begin()?;
        let mut heads = Heads::read(&txn)?;
        // A count that was changed must not have us look for more than there can be.
        heads.records = heads.records.min(records_at_most(&txn)?);
        let from = match level {
            Level::Quick => heads.records.saturating_sub(QUICK_RECORDS),
            Level::Full => 0,
            Level::Since(index) => index.min(heads.records),
        };
        let mut report = Report::new(level, from, heads.anomalies);
        let quick = level == Level::Quick;
        let mut tree = TreeCheck::begin(&txn, trust, from..heads.records, quick, &mut report)?;
        drop(txn);
        let mut intake = |stretches: Vec<Stretch>, report: &mut Report| -> Result<(), Failure> {
            let intake = Intake::begin(self, trust)?;
            for stretch in stretches {
                let done = stretch.range.end - from;
                intake.take(stretch, &mut tree, report)?;
                progress(done, heads.records - from);
            }
            Ok(())
        };
        let counted = thread::scope(|scope| -> Result<_, Failure> {
            let counting = scope.spawn(|| counts::check(self, &heads, level));
            hands::read(self, &heads, from..heads.records, |hands| -> Result<(), Failure> {
                while let Some(stretches) = hands.next()? {
                    intake(stretches, &mut report)?;
                }
                Ok(())
            })?;
            counting.join().unwrap_or_else(|panic| resume_unwind(panic))
        })?;
        tree.end(&mut report);
        report.more += counted.more;
        for Problem { index, position, fault } in counted.problems {
            report.add(index, position, fault);
        }
        Ok(report)
    }
}

/// More records than there are rows and tiles, and not many more: a count that somebody wrote into the file counts for nothing.
fn records_at_most(txn: &ReadTransaction) -> Result<u64, Failure> {
    let live_first = txn.open_table(table::META)?.get(table::META_LIVE_FIRST)?.map_or(0, |row| row.value());
    // Those in segments have their hashes in tiles.
    let tiled = txn.open_table(table::TILES)?.len()?.saturating_mul(TILE_WIDTH as u64);
    let rows = live_first.min(tiled).saturating_add(txn.open_table(table::REC)?.len()?);
    Ok(rows.max(tiled).saturating_add(CHUNK))
}
