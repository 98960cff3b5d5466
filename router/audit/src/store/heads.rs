//! Where the record stands: counters, streams and tenants, in memory and in its tables.

use redb::{Database, ReadableDatabase as _, ReadableTable as _, Table, WriteTransaction};

use super::Heads;
use crate::error::Failure;
use crate::table;

impl Heads {
    pub(super) fn load(db: &Database) -> Result<Self, Failure> {
        Self::read(&db.begin_read()?)
    }

    pub(crate) fn read(txn: &redb::ReadTransaction) -> Result<Self, Failure> {
        let meta = txn.open_table(table::META)?;
        let count = |name: &str| -> Result<u64, Failure> { Ok(meta.get(name)?.map_or(0, |v| v.value())) };
        let mut heads = Self {
            records: count(table::META_RECORDS)?,
            anomalies: count(table::META_ANOMALIES)?,
            accepted: count(table::META_ACCEPTED)?,
            ended: count(table::META_ENDED)?,
            keys: count(table::META_KEYS)?,
            live_first: count(table::META_LIVE_FIRST)?,
            live_bytes: count(table::META_LIVE_BYTES)?,
            ..Self::default()
        };
        for row in txn.open_table(table::STREAMS)?.iter()? {
            let (name, value) = row?;
            heads.streams.insert(name.value().to_owned(), value.value());
        }
        for row in txn.open_table(table::TENANTS)?.iter()? {
            let (name, number) = row?;
            heads.tenants.insert(name.value().to_owned(), number.value());
        }
        Ok(heads)
    }

    /// Writes what changed since `before`.
    pub(super) fn save(
        &self,
        txn: &WriteTransaction,
        before: &Self,
        (key_rows, key_mark): (u64, Option<u64>),
        meta: &mut Table<'_, &'static str, u64>,
    ) -> Result<(), Failure> {
        let counts = [
            (table::META_RECORDS, self.records),
            (table::META_ANOMALIES, self.anomalies),
            (table::META_ACCEPTED, self.accepted),
            (table::META_ENDED, self.ended),
            (table::META_KEYS, self.keys),
            (table::META_LIVE_BYTES, self.live_bytes),
            (table::META_KEY_ROWS, key_rows),
        ];
        for (name, value) in counts {
            meta.insert(name, value)?;
        }
        if let Some(mark) = key_mark {
            meta.insert(table::META_KEY_MARK, mark)?;
        }
        let mut streams = txn.open_table(table::STREAMS)?;
        for (name, head) in &self.streams {
            if before.streams.get(name) != Some(head) {
                streams.insert(name.as_str(), head)?;
            }
        }
        let mut tenants = txn.open_table(table::TENANTS)?;
        for (name, number) in &self.tenants {
            if !before.tenants.contains_key(name) {
                tenants.insert(name.as_str(), number)?;
            }
        }
        Ok(())
    }
}

/// The mark of the key file's last row that the record counts; a record of an earlier release has none.
pub(super) fn key_mark(db: &Database) -> Result<Option<u64>, Failure> {
    let meta = db.begin_read()?.open_table(table::META)?;
    Ok(meta.get(table::META_KEY_MARK)?.map(|value| value.value()))
}

/// Rows of the key file that the record counts.
pub(super) fn key_rows(db: &Database) -> Result<u64, Failure> {
    let meta = db.begin_read()?.open_table(table::META)?;
    Ok(meta.get(table::META_KEY_ROWS)?.map_or(0, |value| value.value()))
}
