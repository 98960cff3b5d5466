//! Breaks: what a stream lacks after one may have been recorded in the history before it.

use super::Reader;
use super::view::View;
use crate::error::{Failure, ReadError};
use crate::table;

impl Reader {
    /// Whether the record broke with what was signed, and nothing of a stream was recorded since. What the stream no longer
    /// holds then was trimmed by a recorder that had it on record.
    ///
    /// # Errors
    /// [`ReadError::Broken`] when the file cannot be read.
    pub fn is_silent_since_a_break(&self, stream: &str) -> Result<bool, ReadError> {
        Ok(is_silent(&self.begin()?, stream)?)
    }
}

fn is_silent(txn: &View, stream: &str) -> Result<bool, Failure> {
    let meta = txn.open_table(table::META)?;
    let count = |name: &str| -> Result<Option<u64>, Failure> { Ok(meta.get(name)?.map(|row| row.value())) };
    let Some(epoch) = count(table::META_EPOCH)?.filter(|epoch| *epoch > 1) else { return Ok(false) };
    // The first checkpoint of a history is signed when it begins.
    let notes = txn.open_table(table::CHECKPOINTS)?;
    let first = notes.range((epoch, 0)..=(epoch, u64::MAX))?.next().transpose()?;
    let begun = match first {
        Some((place, _)) => place.value().1,
        None => count(table::META_RECORDS)?.unwrap_or(0),
    };
    let Some((number, _)) = txn.open_table(table::STREAMS)?.get(stream)?.map(|head| head.value()) else {
        return Ok(true);
    };
    let (start, end) = (table::source(number, 0), table::source(number, u64::MAX));
    let src = txn.open_table(table::SRC)?;
    let message = src.range::<&[u8; 12]>(&start..=&end)?.next_back().transpose()?;
    let gaps = txn.open_table(table::GAPS)?;
    let gap = gaps.range::<&[u8; 12]>(&start..=&end)?.next_back().transpose()?;
    // Of a pruned segment it is not known which record was the stream's last one.
    let pruned = txn.open_table(table::PRUNED)?;
    if let Some((_, span)) = pruned.range::<&[u8; 12]>(&start..=&end)?.next_back().transpose()? {
        let (_, first) = span.value();
        if txn.segments()?.iter().any(|segment| segment.first == first && segment.end > begun) {
            return Ok(false);
        }
    }
    let last = message.map(|(_, index)| index.value()).max(gap.map(|(_, gap)| gap.value().1));
    Ok(last.is_none_or(|index| index < begun))
}
