//! Signing: the tree's head as a checkpoint, in the store and in the checkpoint file.

use super::{Store, write};
use crate::error::{AppendError, Failure};
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

    /// Records of the newest checkpoint; none where nothing was signed.
    #[must_use]
    pub fn signed(&self) -> Option<u64> {
        self.signed
    }
}
