//! The rows of one append, gathered in memory and written in key order: random inserts cost most of a commit.

use std::collections::BTreeMap;
use std::thread;

use redb::{Table, WriteTransaction};

use crate::error::Failure;
use crate::hold;
use crate::table;
use crate::task::Row;

/// Fewest records whose own two tables, the largest, are written by a thread of their own.
const APART_MIN: usize = 64;

/// Tables that are read while a batch is made; the rest are opened to write its rows.
pub(crate) struct Tables<'t> {
    pub(crate) rec: Table<'t, u64, &'static [u8]>,
    pub(crate) body: Table<'t, u64, &'static [u8]>,
    pub(crate) src: Table<'t, &'static [u8; 12], u64>,
    pub(crate) tasks: Table<'t, &'static [u8], &'static [u8]>,
    pub(crate) keys: Table<'t, u64, &'static [u8]>,
    pub(crate) key_of: Table<'t, &'static [u8; 32], u64>,
    pub(crate) subjects: Table<'t, &'static [u8; 16], u64>,
    pub(crate) meta: Table<'t, &'static str, u64>,
}

/// Rows of one batch, gathered.
#[derive(Default)]
pub(super) struct Rows {
    pub(super) rec: Vec<(u64, Vec<u8>)>,
    pub(super) body: Vec<(u64, Vec<u8>)>,
    pub(super) src: BTreeMap<[u8; 12], u64>,
    pub(super) gaps: Vec<([u8; 12], (u64, u64))>,
    pub(super) holds: Vec<hold::Told>,
    /// task key → (row, due time that the table holds)
    pub(super) tasks: BTreeMap<Vec<u8>, (Row, Option<u64>)>,
}

// === impl Tables ===

impl<'t> Tables<'t> {
    pub(crate) fn open(
        txn: &'t WriteTransaction,
        meta: Table<'t, &'static str, u64>,
    ) -> Result<Self, Failure> {
        Ok(Self {
            rec: txn.open_table(table::REC)?,
            body: txn.open_table(table::BODY)?,
            src: txn.open_table(table::SRC)?,
            tasks: txn.open_table(table::TASKS)?,
            keys: txn.open_table(table::KEYS)?,
            key_of: txn.open_table(table::KEY_OF)?,
            subjects: txn.open_table(table::SUBJECTS)?,
            meta,
        })
    }
}

// === impl Rows ===

impl Rows {
    /// Writes all rows, each table in the order of its keys.
    pub(super) fn write(mut self, txn: &WriteTransaction, tables: &mut Tables<'_>) -> Result<(), Failure> {
        let Tables { rec, body, src, tasks, .. } = tables;
        let (records, bodies) = (std::mem::take(&mut self.rec), std::mem::take(&mut self.body));
        let apart = records.len() >= APART_MIN;
        thread::scope(|scope| {
            let mut write = || put(rec, &records).and_then(|()| put(body, &bodies));
            if !apart {
                write()?;
                return self.write_indices(txn, src, tasks);
            }
            let writing = scope.spawn(write);
            let indices = self.write_indices(txn, src, tasks);
            writing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)).and(indices)
        })
    }

    fn write_indices(
        mut self,
        txn: &WriteTransaction,
        src: &mut Table<'_, &'static [u8; 12], u64>,
        tasks: &mut Table<'_, &'static [u8], &'static [u8]>,
    ) -> Result<(), Failure> {
        for (key, index) in &self.src {
            src.insert(key, index)?;
        }
        let mut gaps = txn.open_table(table::GAPS)?;
        for (key, value) in &self.gaps {
            gaps.insert(key, value)?;
        }
        self.write_tasks(txn, tasks)?;
        hold::save(txn, std::mem::take(&mut self.holds))
    }

    fn write_tasks(
        &self,
        txn: &WriteTransaction,
        tasks: &mut Table<'_, &'static [u8], &'static [u8]>,
    ) -> Result<(), Failure> {
        let mut open = txn.open_table(table::OPEN)?;
        for (place, (row, held)) in &self.tasks {
            // A row of numbers and words always serialises.
            let bytes = serde_json::to_vec(row).unwrap_or_default();
            tasks.insert(place.as_slice(), bytes.as_slice())?;
            let due = row.due_ms();
            if due == *held {
                continue;
            }
            if let Some(held) = held {
                open.remove(table::due_key(*held, place).as_slice())?;
            }
            if let Some(due) = due {
                open.insert(table::due_key(due, place).as_slice(), ())?;
            }
        }
        Ok(())
    }
}

/// Writes the rows of a table that grows by index.
fn put(table: &mut Table<'_, u64, &'static [u8]>, rows: &[(u64, Vec<u8>)]) -> Result<(), Failure> {
    for (index, value) in rows {
        table.insert(index, value.as_slice())?;
    }
    Ok(())
}
