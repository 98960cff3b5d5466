//! Signing: the tree's head as a checkpoint, in the store and in the checkpoint file.

use redb::ReadableDatabase as _;

use super::tree::Stored;
use super::{Store, write};
use crate::checkpoint::Checkpoint;
use crate::error::{AppendError, Failure};
use crate::merkle::proof;
use crate::table;

impl Store {
    /// Signs what is recorded. The note is durable in the store and in the checkpoint file when it returns; the same records
    /// give the same note.
    ///
    /// # Errors
    /// [`AppendError`] when it cannot be written; the store must be opened anew then.
    pub fn checkpoint(&mut self) -> Result<String, AppendError> {
        let size = self.heads.records;
        let note = self.signer.sign(self.epoch, size, self.tree.frontier().root());
        if self.signed == Some(size) {
            return Ok(note);
        }
        let store = || -> Result<(), Failure> {
            let txn = write(&self.db)?;
            txn.open_table(table::CHECKPOINTS)?.insert((self.epoch, size), note.as_bytes())?;
            Ok(txn.commit()?)
        };
        store()?;
        self.sink.append(&note)?;
        self.signed = Some(size);
        Ok(note)
    }

    /// Keeps the checkpoint file short, where it has grown long: notes go that say nothing which the record does not give, but
    /// for the first of each history and the newest ones. Returns how many went.
    ///
    /// # Errors
    /// When the file cannot be written anew: it is as it was, and grows on.
    pub fn thin(&mut self) -> std::io::Result<u64> {
        if !self.sink.is_long() {
            return Ok(0);
        }
        let broken = |Failure(error): Failure| std::io::Error::other(error.to_string());
        let txn = self.db.begin_read().map_err(|error| broken(error.into()))?;
        let (stored, records) = (Stored::open(&txn).map_err(broken)?, self.heads.records);
        let mut given = |head: &Checkpoint| {
            Ok(head.size <= records && proof::root(&stored, head.size).map_err(broken)? == head.root)
        };
        self.sink.thin(&self.signer.public(), &mut given).map(|thinned| thinned.gone)
    }

    /// Records of the newest checkpoint; none where nothing was signed.
    #[must_use]
    pub fn signed(&self) -> Option<u64> {
        self.signed
    }
}
