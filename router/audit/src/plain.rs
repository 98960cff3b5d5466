//! Bytes in a table of redb, and nothing else: what the record cannot be faster than on the same disk. And a hash of what a
//! record's tables hold: what a verification cannot be faster than. For benchmarks; no record is kept in it.

use std::path::Path;

use redb::{Builder, ConcurrencyMode, Database, TableDefinition};
use sha2::{Digest as _, Sha256};

use crate::error::{AppendError, Failure, ReadError};
use crate::read::Reader;
use crate::table;

const TABLE: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("plain");

/// A table of bytes by number, committed as the record is.
pub struct Plain {
    db: Database,
}

// === impl Plain ===

impl Plain {
    /// Makes the file.
    ///
    /// # Errors
    /// [`AppendError`] where it cannot be made.
    pub fn create(file: &Path) -> Result<Self, AppendError> {
        let mut builder = Builder::new();
        builder.set_concurrency_mode(ConcurrencyMode::SingleWriter);
        Ok(Self { db: builder.create(file).map_err(Failure::from)? })
    }

    /// Writes `count` rows of the same bytes in one durable transaction.
    ///
    /// # Errors
    /// [`AppendError`] where the file cannot be written.
    pub fn append(&self, first: u64, count: u64, bytes: &[u8]) -> Result<(), AppendError> {
        let txn = self.db.begin_write().map_err(Failure::from)?;
        {
            let mut table = txn.open_table(TABLE).map_err(Failure::from)?;
            for number in first..first + count {
                table.insert(number, bytes).map_err(Failure::from)?;
            }
        }
        txn.commit().map_err(Failure::from)?;
        Ok(())
    }
}

impl Reader {
    /// One SHA-256 over all leaves and sealed bodies, as they are read: the bytes, and their hash.
    ///
    /// # Errors
    /// [`ReadError::Broken`] when the file cannot be read.
    pub fn plain_sha256(&self) -> Result<(u64, [u8; 32]), ReadError> {
        let records = self.status()?.records;
        let (mut hash, mut bytes) = (Sha256::new(), 0);
        for first in (0..records).step_by(4_096) {
            let txn = self.begin()?;
            let range = first..records.min(first + 4_096);
            for table in [table::REC, table::BODY] {
                let rows = txn.open_table(table).map_err(Failure::from)?;
                for row in rows.range(range.clone()).map_err(Failure::from)? {
                    let (_, value) = row.map_err(Failure::from)?;
                    hash.update(value.value());
                    bytes += value.value().len() as u64;
                }
            }
        }
        Ok((bytes, hash.finalize().into()))
    }
}
