//! Erasing in the store: a data subject's rows of the key file are destroyed, and what led to them is removed.
//!
//! First it is committed which rows go, and by which act; then the key file is written anew. A store that is opened after a
//! crash between the two destroys them again, so a key file that was restored from an older copy brings nobody back.

use std::collections::BTreeSet;

use redb::{ReadTransaction, ReadableTable as _, TableError};
use tidegate_schemas::ids::TaskId;

use super::{Store, write};
use crate::erase::{DataSubject, Erasure, ErasureState, names};
use crate::error::{AppendError, Failure};
use crate::keys::MasterKey;
use crate::table;

impl Store {
    /// Keeps how far an erasure is; durable when it returns.
    ///
    /// # Errors
    /// [`AppendError`]; nothing was kept then, and the store must be opened anew.
    pub fn keep_erasure(&mut self, erasure: &Erasure) -> Result<(), AppendError> {
        let txn = write(&self.db)?;
        put(&txn, erasure)?;
        Ok(txn.commit().map_err(Failure::from)?)
    }

    /// Keeps what leaves called a data subject with its keys, as pruning does: for those whose leaves were pruned before that.
    ///
    /// # Errors
    /// [`AppendError`]; nothing was kept then, and the store must be opened anew.
    pub fn name_subject(&mut self, known: &DataSubject) -> Result<(), AppendError> {
        let Some(tenant) = self.heads.tenants.get(known.tenant.as_str()) else { return Ok(()) };
        let txn = write(&self.db)?;
        {
            let mut meta = txn.open_table(table::META).map_err(Failure::from)?;
            names::keep(&txn, &known.names(*tenant), &mut meta)?;
        }
        Ok(txn.commit().map_err(Failure::from)?)
    }

    /// Destroys a data subject's keys. What comes for it later gets a new one. Done again it changes nothing.
    ///
    /// # Errors
    /// [`AppendError`]; the store must be opened anew then, which completes it.
    pub fn destroy(&mut self, erasure: &Erasure, rows: &BTreeSet<u64>) -> Result<(), AppendError> {
        let txn = write(&self.db)?;
        put(&txn, &Erasure { state: ErasureState::Destroyed, ..erasure.clone() })?;
        {
            let mut erased = txn.open_table(table::ERASED).map_err(Failure::from)?;
            for row in rows {
                if erased.get(row).map_err(Failure::from)?.is_none() {
                    erased.insert(row, erasure.event).map_err(Failure::from)?;
                }
            }
            let mut subjects = txn.open_table(table::SUBJECTS).map_err(Failure::from)?;
            subjects.retain(|_, row| !rows.contains(&row)).map_err(Failure::from)?;
        }
        txn.commit().map_err(Failure::from)?;
        self.ring.destroy(rows)?;
        Ok(())
    }

    /// Removes what leads from a task and its data subjects to these keys.
    ///
    /// # Errors
    /// [`AppendError`]; nothing was removed then, and the store must be opened anew.
    pub fn forget(&mut self, tasks: &BTreeSet<TaskId>, keys: &BTreeSet<u64>) -> Result<(), AppendError> {
        let txn = write(&self.db)?;
        {
            let mut key_of = txn.open_table(table::KEY_OF).map_err(Failure::from)?;
            for task in tasks {
                let (mut start, mut end) = ([0; 32], [u8::MAX; 32]);
                start[..16].copy_from_slice(task.0.as_bytes());
                end[..16].copy_from_slice(task.0.as_bytes());
                let range = &start..=&end;
                key_of
                    .retain_in::<&[u8; 32], _>(range, |_, id| !keys.contains(&id))
                    .map_err(Failure::from)?;
            }
        }
        Ok(txn.commit().map_err(Failure::from)?)
    }

    /// Goes over to another master key: all keys of data subjects are sealed anew, what things are called stays. Durable when
    /// it returns; the old key opens nothing any more.
    ///
    /// # Errors
    /// [`AppendError`]; the store must be opened anew then, with the one key or the other.
    pub fn rotate(&mut self, master: MasterKey) -> Result<(), AppendError> {
        let txn = write(&self.db)?;
        let there = {
            let meta = txn.open_table(table::META).map_err(Failure::from)?;
            meta.get(table::META_REFERENCES).map_err(Failure::from)?.is_some()
        };
        if there {
            txn.abort().map_err(Failure::from)?;
        } else {
            // Begun before references had a key of their own: they keep the one they have.
            let references = self.master.references().clone();
            self.ring.add_references(&txn, references, &mut self.entropy)?;
            self.ring.sync()?;
            txn.commit().map_err(Failure::from)?;
            self.ring.committed();
        }
        self.ring.rewrap(master, &mut self.entropy)?;
        self.master = self.ring.master().clone();
        Ok(())
    }
}

/// Writes an erasure; an act that was kept with it stays.
pub(super) fn put(txn: &redb::WriteTransaction, erasure: &Erasure) -> Result<(), Failure> {
    let mut erasures = txn.open_table(table::ERASURES)?;
    let mut erasure = erasure.clone();
    if erasure.act.is_none() {
        let before = erasures.get(erasure.event)?;
        let before = before.and_then(|row| serde_json::from_slice::<Erasure>(row.value()).ok());
        erasure.act = before.and_then(|before| before.act);
    }
    // Numbers and words always serialise.
    let bytes = serde_json::to_vec(&erasure).unwrap_or_default();
    erasures.insert(erasure.event, bytes.as_slice())?;
    Ok(())
}

/// Rows of the key file that were destroyed, or are to be.
pub(super) fn destroyed(txn: &ReadTransaction) -> Result<BTreeSet<u64>, Failure> {
    let table = match txn.open_table(table::ERASED) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) => return Ok(BTreeSet::new()),
        Err(error) => return Err(error.into()),
    };
    table.iter()?.map(|row| Ok(row?.0.value())).collect()
}
