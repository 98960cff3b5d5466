//! The index's writer. It lags: terms of new records wait in memory until they are worth writing, and then go with an append,
//! or when there is nothing to append. What was not written when the process died, or was never written, is read back from
//! the records themselves, a part at a time.

use redb::{Database, ReadableDatabase as _, ReadableTable, Table, WriteTransaction};

use super::append::micros;
use crate::error::Failure;
use crate::find::{self, Places, Windows, block_of, place_of, term};
use crate::leaf::Leaf;
use crate::table;

/// Fewest records that an append writes into the index. Whoever asks reads those that wait, and twice as many at most.
const WAITING_MIN: u64 = 1_024;
/// Most records that an append reads back, where the index is behind for another reason.
const READ_BACK: u64 = 256;
/// Most terms that wait in memory; beyond, they are read back later.
const TERMS_MAX: usize = 1 << 17;

/// A term of a record: its block, the term, its place in the block.
type Entry = (u64, u64, u16);

pub(super) struct Lag {
    /// Records that the index knows, durable.
    indexed: u64,
    /// What waits in memory is of the records from here on.
    from: u64,
    waiting: Waiting,
    /// Terms and records that waited before the append that is on its way.
    before: (usize, usize),
    /// Records that the index knows once the transaction is committed.
    next: Option<u64>,
}

/// Terms and times of successive records.
#[derive(Default)]
struct Waiting {
    terms: Vec<Entry>,
    times: Vec<(u64, u64)>,
}

// === impl Lag ===

impl Lag {
    pub(super) fn load(db: &Database, records: u64) -> Result<Self, Failure> {
        let meta = db.begin_read()?.open_table(table::META)?;
        let indexed = meta.get(table::META_INDEXED)?.map_or(0, |row| row.value()).min(records);
        Ok(Self { indexed, from: records, waiting: Waiting::default(), before: (0, 0), next: None })
    }

    /// Whether the index does not know all of so many records.
    pub(super) fn is_behind(&self, records: u64) -> bool {
        self.indexed < records
    }

    /// Takes the terms of a new record, the next one.
    pub(super) fn take(&mut self, leaf: &Leaf) {
        self.waiting.take(leaf);
    }

    /// Goes with an append after which there are `records`: writes what waits where it is worth it.
    pub(super) fn append(
        &mut self,
        txn: &WriteTransaction,
        rec: &impl ReadableTable<u64, &'static [u8]>,
        meta: &mut Table<'_, &'static str, u64>,
        records: u64,
    ) -> Result<(), Failure> {
        if self.indexed < self.from {
            if self.waiting.terms.len() > TERMS_MAX {
                (self.waiting, self.from) = (Waiting::default(), records);
            }
            return self.read_back(txn, rec, meta, READ_BACK);
        }
        if records - self.indexed < WAITING_MIN { Ok(()) } else { self.write_waiting(txn, meta, records) }
    }

    /// A transaction's work for the index alone.
    pub(super) fn catch_up(&mut self, txn: &WriteTransaction, records: u64) -> Result<(), Failure> {
        let mut meta = txn.open_table(table::META)?;
        if self.indexed < self.from {
            return self.read_back(txn, &txn.open_table(table::REC)?, &mut meta, find::BLOCK);
        }
        self.write_waiting(txn, &mut meta, records)
    }

    fn write_waiting(
        &mut self,
        txn: &WriteTransaction,
        meta: &mut Table<'_, &'static str, u64>,
        records: u64,
    ) -> Result<(), Failure> {
        self.waiting.write(txn, self.from)?;
        meta.insert(table::META_INDEXED, records)?;
        self.next = Some(records);
        Ok(())
    }

    /// Reads records back that are in neither, and writes their terms. A record that cannot be read has none: a verify names it.
    fn read_back(
        &mut self,
        txn: &WriteTransaction,
        rec: &impl ReadableTable<u64, &'static [u8]>,
        meta: &mut Table<'_, &'static str, u64>,
        most: u64,
    ) -> Result<(), Failure> {
        let upto = self.from.min(self.indexed + most);
        let mut read = Waiting::default();
        for row in rec.range(self.indexed..upto)? {
            let (index, value) = row?;
            let line = value.value().get(32..).unwrap_or_default();
            match serde_json::from_slice::<Leaf>(line) {
                Ok(leaf) if leaf.index == index.value() => read.take(&leaf),
                _ => {}
            }
        }
        read.write(txn, self.indexed)?;
        meta.insert(table::META_INDEXED, upto)?;
        self.next = Some(upto);
        Ok(())
    }

    /// The transaction is committed.
    pub(super) fn committed(&mut self) {
        if let Some(next) = self.next.take() {
            if self.indexed == self.from {
                self.waiting.clear();
                self.from = next;
            }
            self.indexed = next;
        }
        self.before = (self.waiting.terms.len(), self.waiting.times.len());
    }

    /// The append was given up: its records never were. Where it failed later than that, the store is opened anew.
    pub(super) fn discard(&mut self) {
        self.next = None;
        self.waiting.terms.truncate(self.before.0);
        self.waiting.times.truncate(self.before.1);
    }
}

// === impl Waiting ===

impl Waiting {
    /// Forgets all, and keeps its memory: as much waits again soon.
    fn clear(&mut self) {
        self.terms.clear();
        self.times.clear();
    }

    fn take(&mut self, leaf: &Leaf) {
        let (block, place) = (block_of(leaf.index), place_of(leaf.index));
        term::of(leaf, |term| self.terms.push((block, term, place)));
        self.times.push((leaf.index, micros(leaf.time)));
    }

    /// Writes all of it in the order of its keys; `first` is its first record.
    fn write(&mut self, txn: &WriteTransaction, first: u64) -> Result<(), Failure> {
        let mut windows = txn.open_table(table::WINDOWS)?;
        for times in self.times.chunk_by(|one, next| block_of(one.0) == block_of(next.0)) {
            let block = times.first().map_or(0, |(index, _)| block_of(*index));
            let mut window = Windows::none();
            if let Some(row) = windows.get(block)? {
                window.add_row(row.value());
            }
            times.iter().for_each(|(index, time_us)| window.insert(place_of(*index), *time_us));
            windows.insert(block, window.row().as_slice())?;
        }
        let mut rows = txn.open_table(table::TERMS)?;
        self.terms.sort_unstable();
        for same in self.terms.chunk_by(|one, next| (one.0, one.1) == (next.0, next.1)) {
            let Some((block, term, _)) = same.first() else { continue };
            let key = table::found(*block, *term);
            let mut places = Places::none();
            same.iter().for_each(|(_, _, place)| places.insert(*place));
            // A block that was begun before has rows already.
            if block * find::BLOCK < first
                && let Some(row) = rows.get(&key)?
            {
                places.add_row(row.value());
            }
            rows.insert(&key, places.row().as_slice())?;
        }
        Ok(())
    }
}
