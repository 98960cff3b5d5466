//! What streams may forget: only what is recorded, old enough, and no part of an open task.

use std::collections::BTreeMap;

use jiff::Timestamp;
use redb::{ReadTransaction, ReadableTable as _};
use tidegate_schemas::ids::{Position, TaskId};

use crate::error::{Failure, ReadError};
use crate::read::tasks::records_of;
use crate::read::view::View;
use crate::read::{RECORDS_MAX, Reader, Record, index_of, record};
use crate::table;
use crate::task::Row;

/// Results that one call looks at.
const RESULTS_MAX: u64 = 10_000;

impl Reader {
    /// For each stream, the first sequence that an open task needs.
    ///
    /// # Errors
    /// As [`Reader::get`].
    pub fn open_floors(&self) -> Result<BTreeMap<String, u64>, ReadError> {
        let txn = self.begin()?;
        Ok(open_floors(&txn)?)
    }

    /// The first sequence of a stream that must stay: everything before it is recorded, was stored before `older_than`,
    /// and belongs to no open task (`open` comes from [`Reader::open_floors`], taken before). 1 keeps everything.
    ///
    /// # Errors
    /// As [`Reader::get`].
    pub fn trim_floor(
        &self,
        stream: &str,
        older_than: Timestamp,
        open: &BTreeMap<String, u64>,
    ) -> Result<u64, ReadError> {
        let since = self.first_since(stream, older_than)?;
        Ok(open.get(stream).map_or(since, |needed| since.min(*needed)))
    }

    /// The first recorded sequence of a stream that was stored at `time` or later; the next one to come where there is none.
    ///
    /// # Errors
    /// As [`Reader::get`].
    pub fn first_since(&self, stream: &str, time: Timestamp) -> Result<u64, ReadError> {
        let txn = self.begin()?;
        let Some((number, next)) = head(&txn, stream)? else { return Ok(1) };
        let (mut low, mut high) = (1, next);
        while low < high {
            let middle = low + (high - low) / 2;
            match first_from(&txn, number, middle, next)? {
                Some((sequence, index)) => {
                    let found = record(&txn, index)?.ok_or(ReadError::Damaged { index })?;
                    if found.leaf.time < time {
                        low = sequence + 1;
                    } else {
                        high = middle;
                    }
                }
                None => high = middle,
            }
        }
        Ok(low)
    }

    /// A result goes only after all other messages of its task. Returns the first sequence of the results stream that must
    /// stay, at most `floor`; `gone` says for each stream the first sequence that is still there.
    ///
    /// # Errors
    /// As [`Reader::get`].
    pub fn results_floor(
        &self,
        results: &str,
        floor: u64,
        gone: &BTreeMap<String, u64>,
    ) -> Result<u64, ReadError> {
        let txn = self.begin()?;
        let first = gone.get(results).copied().unwrap_or(1);
        for sequence in first..floor.min(first.saturating_add(RESULTS_MAX)) {
            let Some(index) = index_of(&txn, &Position::new(results, sequence))? else { continue };
            let found = record(&txn, index)?.ok_or(ReadError::Damaged { index })?;
            if let Some(task) = found.leaf.task
                && needed(&txn, results, task, gone)?
            {
                return Ok(sequence);
            }
        }
        Ok(floor.min(first.saturating_add(RESULTS_MAX)))
    }
}

/// Whether a message of the task is still in a stream other than the results'.
fn needed(txn: &View, results: &str, task: TaskId, gone: &BTreeMap<String, u64>) -> Result<bool, ReadError> {
    let (records, cut) = records_of(txn, task, RECORDS_MAX)?;
    let there = |record: &Record| {
        let source = &record.leaf.source;
        source.stream != results && gone.get(&source.stream).is_none_or(|first| source.sequence >= *first)
    };
    Ok(cut || records.iter().any(there))
}

fn open_floors(txn: &ReadTransaction) -> Result<BTreeMap<String, u64>, Failure> {
    let mut names = BTreeMap::new();
    for row in txn.open_table(table::STREAMS)?.iter()? {
        let (name, head) = row?;
        names.insert(head.value().0, name.value().to_owned());
    }
    let rows = txn.open_table(table::TASKS)?;
    let mut floors: BTreeMap<String, u64> = BTreeMap::new();
    for row in txn.open_table(table::OPEN)?.iter()? {
        let (key, _) = row?;
        let place = key.value().get(8..).unwrap_or_default();
        let row = rows.get(place)?.and_then(|bytes| serde_json::from_slice::<Row>(bytes.value()).ok());
        for (stream, sequence) in row.map(|row| row.first).unwrap_or_default() {
            let Some(name) = names.get(&stream) else { continue };
            let floor = floors.entry(name.clone()).or_insert(sequence);
            *floor = sequence.min(*floor);
        }
    }
    Ok(floors)
}

fn head(txn: &ReadTransaction, stream: &str) -> Result<Option<(u32, u64)>, Failure> {
    Ok(txn.open_table(table::STREAMS)?.get(stream)?.map(|head| head.value()))
}

/// The first recorded message of a stream from a sequence on, before `next`.
fn first_from(
    txn: &ReadTransaction,
    stream: u32,
    from: u64,
    next: u64,
) -> Result<Option<(u64, u64)>, Failure> {
    let src = txn.open_table(table::SRC)?;
    let range = &table::source(stream, from)..&table::source(stream, next);
    let first = src.range::<&[u8; 12]>(range)?.next().transpose()?;
    Ok(first.map(|(key, index)| (table::sequence_of(key.value()), index.value())))
}
