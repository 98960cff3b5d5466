//! What the index gives: candidates, block by block, and then the records that it does not know yet.

use std::ops::Range;

use redb::{ReadOnlyTable, ReadTransaction};
use tidegate_schemas::ids::TaskId;

use super::filter::Filter;
use crate::error::Failure;
use crate::find::{BLOCK, Places, Windows, block_of, term};
use crate::store::append::micros;
use crate::table;

/// Fewest candidates that one look tries to give.
const CHUNK: usize = 1_024;
/// Most rows of the index that one look reads.
const ROWS_MAX: usize = 16_384;

/// What records must have to be looked at.
#[derive(Debug, Default)]
pub(crate) struct Terms {
    /// Of each group at least one.
    groups: Vec<Vec<u64>>,
    /// From when on, and before when; microseconds.
    window: Option<(u64, u64)>,
}

/// What one look gave.
#[derive(Debug)]
pub(crate) struct Look {
    /// Records that may be meant, in order. No others are, below `upto`.
    pub(crate) indices: Vec<u64>,
    /// The record to go on with.
    pub(crate) upto: u64,
    /// Rows of the index that were read.
    pub(crate) rows: usize,
    /// Whether there are no more records.
    pub(crate) end: bool,
}

// === impl Terms ===

impl Terms {
    /// What a filter asks for, but for what is known by references alone.
    pub(crate) fn of(filter: &Filter) -> Self {
        let timed = filter.from.is_some() || filter.to.is_some();
        // A time is stored in microseconds: what is before a later nanosecond may be in the same one.
        let until = filter.to.map_or(u64::MAX, |to| micros(to).saturating_add(1));
        Self {
            groups: term::asked(filter).into_iter().map(|term| vec![term]).collect(),
            window: timed.then(|| (filter.from.map_or(0, micros), until)),
        }
    }

    /// Records of a task.
    pub(crate) fn of_task(task: TaskId) -> Self {
        Self { groups: vec![vec![term::task(task)]], window: None }
    }

    /// Asks for one of these too.
    pub(crate) fn one_of(&mut self, terms: Vec<u64>) {
        // What is known by reference is rare: asked first, it spares the rest.
        self.groups.insert(0, terms);
    }

    /// Looks for records of a range.
    pub(crate) fn look(&self, txn: &ReadTransaction, range: Range<u64>) -> Result<Look, Failure> {
        let meta = txn.open_table(table::META)?;
        let count = |name: &str| -> Result<u64, Failure> { Ok(meta.get(name)?.map_or(0, |row| row.value())) };
        let records = count(table::META_RECORDS)?.min(range.end);
        let indexed = count(table::META_INDEXED)?.min(records);
        let mut look = Look { indices: Vec::new(), upto: range.start, rows: 0, end: false };
        let served = !self.groups.is_empty() || self.window.is_some();
        if served && look.upto < indexed {
            let index =
                Index { terms: txn.open_table(table::TERMS)?, windows: txn.open_table(table::WINDOWS)? };
            while look.upto < indexed && look.indices.len() < CHUNK && look.rows < ROWS_MAX {
                let first = block_of(look.upto) * BLOCK;
                let end = indexed.min(first + BLOCK);
                let places = Places::between(look.upto - first, end - first);
                let (places, rows) = index.keep(self, block_of(first), places)?;
                look.indices.extend(places.iter().map(|place| first + u64::from(place)));
                (look.upto, look.rows) = (end, look.rows + rows);
            }
        }
        if !served || look.upto >= indexed {
            let room = CHUNK.saturating_sub(look.indices.len()) as u64;
            let end = records.min(look.upto.saturating_add(room));
            look.indices.extend(look.upto..end);
            look.upto = look.upto.max(end);
        }
        look.end = look.upto >= records;
        Ok(look)
    }
}

/// Records that the index knows.
pub(crate) fn indexed(txn: &ReadTransaction) -> Result<u64, Failure> {
    Ok(txn.open_table(table::META)?.get(table::META_INDEXED)?.map_or(0, |row| row.value()))
}

/// The index's tables.
struct Index {
    terms: ReadOnlyTable<&'static [u8; 12], &'static [u8]>,
    windows: ReadOnlyTable<u64, &'static [u8]>,
}

impl Index {
    /// The places of a block that have what is asked for, and how many rows that took.
    fn keep(&self, asked: &Terms, block: u64, mut places: Places) -> Result<(Places, usize), Failure> {
        let mut rows = 0;
        if let Some((from, to)) = asked.window {
            rows += 1;
            let mut window = Windows::none();
            if let Some(row) = self.windows.get(block)? {
                window.add_row(row.value());
            }
            places.keep_words(|step| window.may(step, from, to));
        }
        for group in &asked.groups {
            if places.is_empty() {
                break;
            }
            let mut any = Places::none();
            for term in group {
                rows += 1;
                if let Some(row) = self.terms.get(&table::found(block, *term))? {
                    any.add_row(row.value());
                }
            }
            places.and(&any);
        }
        Ok((places, rows))
    }
}
