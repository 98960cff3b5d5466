//! The form of the tables: made in a new file, carried over in one of an older form.

use redb::{Database, ReadableTable as _, TableDefinition, WriteTransaction};

use super::{rows, write};
use crate::error::Failure;
use crate::table;

/// Makes the tables of a new file, or those that an older form has not. Returns the form of the tables.
pub(super) fn begin(db: &Database) -> Result<u64, Failure> {
    let txn = write(db)?;
    {
        let mut meta = txn.open_table(table::META)?;
        let form = meta.get(table::META_FORM)?.map(|value| value.value());
        match form {
            Some(form) if !(table::FORM_OLDEST..=table::FORM).contains(&form) => return Ok(form),
            Some(table::FORM) => {}
            Some(_) => {
                // Some seconds a GB, once.
                let mut bytes = 0;
                for table in [table::REC, table::BODY] {
                    for row in txn.open_table(table)?.iter()? {
                        bytes += row?.1.value().len() as u64;
                    }
                }
                meta.insert(table::META_LIVE_BYTES, bytes)?;
                meta.insert(table::META_FORM, table::FORM)?;
                forget_indices(&txn)?;
            }
            None => drop(meta.insert(table::META_FORM, table::FORM)?),
        }
        rows::Tables::open(&txn, meta)?;
        txn.open_table(table::GAPS)?;
        txn.open_table(table::STREAMS)?;
        txn.open_table(table::TENANTS)?;
        txn.open_table(table::TERMS)?;
        txn.open_table(table::WINDOWS)?;
        txn.open_table(table::OPEN)?;
        txn.open_table(table::TILES)?;
        txn.open_table(table::TREE)?;
        txn.open_table(table::CHECKPOINTS)?;
        txn.open_table(table::BREAKS)?;
        txn.open_table(table::SEGMENTS)?;
        txn.open_table(table::PRUNED)?;
        txn.open_table(table::HOLDS)?;
    }
    txn.commit()?;
    Ok(table::FORM)
}

/// The indices of the oldest form; the one of today is made from the records.
fn forget_indices(txn: &WriteTransaction) -> Result<(), Failure> {
    for name in ["by_task", "by_workflow"] {
        txn.delete_table(TableDefinition::<'_, &[u8; 24], ()>::new(name))?;
    }
    txn.delete_table(TableDefinition::<'_, &[u8; 20], ()>::new("by_tenant_time"))?;
    txn.delete_table(TableDefinition::<'_, &[u8; 9], ()>::new("by_mark"))?;
    Ok(())
}
