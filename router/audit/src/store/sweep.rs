//! The live file's side of segments: naming one whose files are durable, and letting its rows go a few at a time, between
//! which the record is written as ever.

use redb::{Database, ReadableDatabase as _, TableDefinition, WriteTransaction};

use super::{Store, write};
use crate::error::{Failure, SegmentError};
use crate::segment::{self, Part, Sealed, Segment};
use crate::table;

/// Records whose rows go in one transaction.
pub(super) const STEP: u64 = 2_048;

/// All segments of a record.
pub(super) fn segments(db: &Database) -> Result<Vec<Segment>, Failure> {
    segment::all(&db.begin_read()?.open_table(table::SEGMENTS)?)
}

impl Store {
    /// Names a segment whose files are durable. Its rows stay in the live file until [`Self::tidy`] lets them go.
    ///
    /// # Errors
    /// [`SegmentError::Stale`] when it is not the one that comes next, or its files are not there.
    pub fn name(&mut self, sealed: &Sealed) -> Result<(), SegmentError> {
        let segment = &sealed.segment;
        let txn = write(&self.db)?;
        {
            let mut segments = txn.open_table(table::SEGMENTS).map_err(Failure::from)?;
            let files = [Part::Records, Part::Bodies].map(|part| self.shelf.path(part, segment.first));
            let next = segment::end(&segments)? == segment.first && self.heads.live_first == segment.first;
            let covered = self.signed.is_some_and(|signed| segment.end <= signed);
            if !next || !covered || !files.iter().all(|file| file.exists()) {
                return Err(SegmentError::Stale);
            }
            segments.insert(segment.first, segment.encode().as_slice()).map_err(Failure::from)?;
            let mut notes = txn.open_table(table::CHECKPOINTS).map_err(Failure::from)?;
            for place in &sealed.notes {
                notes.remove(place).map_err(Failure::from)?;
            }
        }
        txn.commit().map_err(Failure::from)?;
        Ok(())
    }

    /// One step of what is not finished: rows of named segments leave the live file; what was pruned leaves the indices, and
    /// its files go. `false` when nothing is left to do.
    ///
    /// # Errors
    /// [`SegmentError`]; it is done again the next time. After [`SegmentError::Write`] the store must be opened anew.
    pub fn tidy(&mut self) -> Result<bool, SegmentError> {
        let segments = segments(&self.db)?;
        let end = segments.last().map_or(0, |last| last.end);
        if self.heads.live_first < end {
            self.sweep(end)?;
            return Ok(true);
        }
        let unfinished =
            |segment: &&Segment| segment.records.as_ref().is_some_and(|one| one.swept < segment.len());
        if let Some(segment) = segments.iter().find(unfinished) {
            self.unindex(segment)?;
            return Ok(true);
        }
        Ok(false)
    }

    /// Lets the next rows of segments go.
    fn sweep(&mut self, end: u64) -> Result<(), SegmentError> {
        let from = self.heads.live_first;
        let to = end.min(from + STEP);
        let txn = write(&self.db)?;
        let bytes = remove(&txn, table::REC, from..to)? + remove(&txn, table::BODY, from..to)?;
        let live_bytes = self.heads.live_bytes.saturating_sub(bytes);
        {
            let mut meta = txn.open_table(table::META).map_err(Failure::from)?;
            meta.insert(table::META_LIVE_FIRST, to).map_err(Failure::from)?;
            meta.insert(table::META_LIVE_BYTES, live_bytes).map_err(Failure::from)?;
        }
        txn.commit().map_err(Failure::from)?;
        (self.heads.live_first, self.heads.live_bytes) = (to, live_bytes);
        Ok(())
    }
}

/// Removes rows. Returns the bytes they had.
pub(super) fn remove(
    txn: &WriteTransaction,
    definition: TableDefinition<'_, u64, &'static [u8]>,
    range: std::ops::Range<u64>,
) -> Result<u64, Failure> {
    let (mut table, mut bytes) = (txn.open_table(definition)?, 0);
    table.retain_in(range, |_, row| {
        bytes += row.len() as u64;
        false
    })?;
    Ok(bytes)
}
