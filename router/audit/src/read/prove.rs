//! Proofs from the record, each against its newest checkpoint.

use redb::ReadTransaction;

use super::Reader;
use crate::checkpoint::{Checkpoint, PublicKey};
use crate::complete::{Account, Accounts};
use crate::error::{Failure, ProveError};
use crate::leaf::Leaf;
use crate::merkle::proof;
use crate::merkle::text::{ConsistencyProof, InclusionProof};
use crate::store::tree::Stored;
use crate::table;

/// Records read in one transaction.
const CHUNK: u64 = 4_096;

/// A checkpoint of the record, and the note that signs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// What it says.
    pub checkpoint: Checkpoint,
    /// The signed note.
    pub note: String,
}

impl Reader {
    /// The newest checkpoint.
    ///
    /// # Errors
    /// [`ProveError::Unsigned`] when there is none yet; [`ProveError::Note`] when `key` did not sign it.
    pub fn head(&self, key: &PublicKey) -> Result<Head, ProveError> {
        head(&self.begin()?, key)
    }

    /// Proves that the record at an index is in the tree of the newest checkpoint.
    ///
    /// # Errors
    /// [`ProveError::NotSigned`] for a record that no checkpoint covers yet; else as [`Self::head`].
    pub fn prove_inclusion(&self, key: &PublicKey, index: u64) -> Result<InclusionProof, ProveError> {
        let txn = self.begin()?;
        let Head { checkpoint, note } = head(&txn, key)?;
        if index >= checkpoint.size {
            return Err(ProveError::NotSigned { index, signed: checkpoint.size });
        }
        let hashes = proof::inclusion(&Stored::open(&txn)?, index, checkpoint.size)?;
        let proof = InclusionProof { index, hashes, note };
        let leaf = super::record(&txn, index)?.ok_or(ProveError::Broken)?;
        // A proof that shows nothing is not handed out: it would be taken for the record's fault.
        proof.check(key, leaf.line.as_bytes()).map_err(|_| ProveError::Broken)?;
        Ok(proof)
    }

    /// Proves that the record goes on from an older checkpoint.
    ///
    /// # Errors
    /// [`ProveError::NotSigned`] when the older one is newer than the record's newest; [`ProveError::Fork`] when the record
    /// does not go on from it; else as [`Self::head`].
    pub fn prove_consistency(
        &self,
        key: &PublicKey,
        old: &Checkpoint,
    ) -> Result<ConsistencyProof, ProveError> {
        let txn = self.begin()?;
        let Head { checkpoint, note } = head(&txn, key)?;
        if old.size > checkpoint.size || old.size == 0 {
            return Err(ProveError::NotSigned { index: old.size, signed: checkpoint.size });
        }
        let hashes = proof::consistency(&Stored::open(&txn)?, old.size, checkpoint.size)?;
        let proof = ConsistencyProof { old: old.size, hashes, note };
        proof.check(key, old).map_err(|_| ProveError::Fork { records: old.size })?;
        Ok(proof)
    }

    /// Accounts for every sequence of every stream in the records of the newest checkpoint.
    ///
    /// # Errors
    /// As [`Self::head`]; [`ProveError::Broken`] when a record is missing or is none.
    pub fn prove_completeness(
        &self,
        key: &PublicKey,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(Head, Vec<Account>), ProveError> {
        let head = self.head(key)?;
        let (mut accounts, mut at) = (Accounts::default(), 0);
        while at < head.checkpoint.size {
            let end = head.checkpoint.size.min(at + CHUNK);
            let txn = self.begin()?;
            for row in
                txn.open_table(table::REC).map_err(Failure::from)?.range(at..end).map_err(Failure::from)?
            {
                let (index, value) = row.map_err(Failure::from)?;
                let line = value.value().get(32..).unwrap_or_default();
                let leaf: Leaf = serde_json::from_slice(line).map_err(|_| ProveError::Broken)?;
                if index.value() != at {
                    return Err(ProveError::Broken);
                }
                accounts.take(&leaf);
                at += 1;
            }
            if at != end {
                return Err(ProveError::Broken);
            }
            progress(at, head.checkpoint.size);
        }
        Ok((head, accounts.into_vec()))
    }
}

/// The newest checkpoint of the newest history.
pub(crate) fn head(txn: &ReadTransaction, key: &PublicKey) -> Result<Head, ProveError> {
    let note = notes(txn, true)?.pop().ok_or(ProveError::Unsigned)?;
    let checkpoint = key.open(&note)?;
    Ok(Head { checkpoint, note })
}

/// The notes of the newest history, the oldest first; or only the newest one.
pub(crate) fn notes(txn: &ReadTransaction, newest_only: bool) -> Result<Vec<String>, Failure> {
    let epoch = txn.open_table(table::META)?.get(table::META_EPOCH)?.map_or(1, |row| row.value());
    let rows = txn.open_table(table::CHECKPOINTS)?;
    let mut rows = rows.range((epoch, 0)..=(epoch, u64::MAX))?;
    let newest = if newest_only { rows.next_back() } else { None };
    let mut notes = Vec::new();
    for row in newest.into_iter().chain(rows.take_while(|_| !newest_only)) {
        notes.push(String::from_utf8_lossy(row?.1.value()).into_owned());
    }
    Ok(notes)
}
