//! Bytes in a table of redb, and nothing else: what the record cannot be faster than on the same disk. For benchmarks; no
//! record is kept in it.

use std::path::Path;

use redb::{Builder, ConcurrencyMode, Database, TableDefinition};

use crate::error::{AppendError, Failure};

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
