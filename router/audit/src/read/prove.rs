//! Proofs from the record, each against its newest checkpoint.

use std::ops::ControlFlow;

use redb::ReadTransaction;

use super::Reader;
use super::view::{Place, View};
use crate::checkpoint::held::Held;
use crate::checkpoint::{Checkpoint, PublicKey, thin};
use crate::complete::{Account, Accounts};
use crate::error::{Failure, ProveError};
use crate::leaf::{Leaf, leaf_hash};
use crate::merkle::proof;
use crate::merkle::text::{ConsistencyProof, InclusionProof};
use crate::retain;
use crate::segment::{Part, Segment};
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
        head(&*self.begin()?, key)
    }

    /// The newest checkpoint of a record that must go on from checkpoints that were kept outside, by the tree that it stores.
    ///
    /// # Errors
    /// [`ProveError::RolledBack`] and [`ProveError::Fork`] where it does not go on from one; else as [`Self::head`].
    pub fn continues(&self, key: &PublicKey, kept: &[Checkpoint]) -> Result<Head, ProveError> {
        let txn = self.begin()?;
        let head = head(&txn, key)?;
        let (stored, records) = (Stored::open(&txn)?, head.checkpoint.size);
        for kept in kept {
            if kept.size > records {
                return Err(ProveError::RolledBack { signed: kept.size, records });
            }
            if proof::root(&stored, kept.size)? != kept.root {
                return Err(ProveError::Fork { records: kept.size });
            }
        }
        Ok(head)
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
        let stored = Stored::open(&txn)?;
        let hashes = proof::inclusion(&stored, index, checkpoint.size)?;
        // A proof that shows nothing is not handed out: it would be taken for the record's fault. Of a record that was pruned
        // the hash is kept, and whoever has its line can still prove it.
        let leaf = match super::record(&txn, index)? {
            Some(leaf) => leaf_hash(leaf.line.as_bytes()),
            None if txn.pruned(index)?.is_some() => stored.leaf(index)?.ok_or(ProveError::Broken)?,
            None => return Err(ProveError::Broken),
        };
        if !proof::includes(&hashes, index, &leaf, checkpoint.size, &checkpoint.root) {
            return Err(ProveError::Broken);
        }
        Ok(InclusionProof { index, hashes, note })
    }

    /// Proves that the record goes on from an older checkpoint.
    ///
    /// # Errors
    /// [`ProveError::RolledBack`] when the older one is of more records than the record's newest; [`ProveError::Fork`] when the
    /// record does not go on from it; [`ProveError::Nothing`] when it is of none; else as [`Self::head`].
    pub fn prove_consistency(
        &self,
        key: &PublicKey,
        old: &Checkpoint,
    ) -> Result<ConsistencyProof, ProveError> {
        let txn = self.begin()?;
        let Head { checkpoint, note } = head(&txn, key)?;
        if old.size == 0 {
            return Err(ProveError::Nothing);
        }
        if old.size > checkpoint.size {
            return Err(ProveError::RolledBack { signed: old.size, records: checkpoint.size });
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
        self.prove_completeness_against(key, &[], progress)
    }

    /// The same of a record that must go on from checkpoints that were kept outside.
    ///
    /// # Errors
    /// As [`Self::prove_completeness`]; [`ProveError::RolledBack`] and [`ProveError::Fork`] where it does not go on from one.
    pub fn prove_completeness_against(
        &self,
        key: &PublicKey,
        kept: &[Checkpoint],
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(Head, Vec<Account>), ProveError> {
        let head = self.continues(key, kept)?;
        let mut held = Held::new(std::iter::once(&head.checkpoint).chain(kept).cloned());
        let (mut accounts, mut at) = (Accounts::default(), 0);
        while at < head.checkpoint.size {
            let end = head.checkpoint.size.min(at + CHUNK);
            let txn = self.begin()?;
            // One part at a time: a file or what was pruned.
            let Some((part, place)) = txn.places(at..end)?.into_iter().next() else { break };
            let end = part.end;
            if let Place::Segment(segment) = &place
                && segment.records.is_some()
            {
                if at == segment.first {
                    pruned(&txn, segment, &mut accounts)?;
                }
                let stored = Stored::open(&txn)?;
                while at < end {
                    held.push(stored.leaf(at)?.ok_or(ProveError::Broken)?);
                    at += 1;
                }
            }
            txn.rows(at..end, |index, row| -> Result<(), ProveError> {
                let line = row.get(32..).unwrap_or_default();
                let leaf: Leaf = serde_json::from_slice(line).map_err(|_| ProveError::Broken)?;
                if index != at {
                    return Err(ProveError::Broken);
                }
                accounts.take(&leaf);
                held.push(leaf_hash(line));
                at += 1;
                Ok(())
            })?;
            if at != end {
                return Err(ProveError::Broken);
            }
            progress(at, head.checkpoint.size);
        }
        match held.refuted(0) {
            None => Ok((head, accounts.into_vec())),
            Some(refuted) if kept.contains(refuted) => Err(ProveError::Fork { records: refuted.size }),
            Some(_) => Err(ProveError::Broken),
        }
    }
}

/// Accounts for what was pruned: that it was so must be on record.
fn pruned(view: &View, segment: &Segment, accounts: &mut Accounts) -> Result<(), ProveError> {
    if !retain::is_explained(&Stored::open(view)?, segment, Part::Records)? {
        return Err(ProveError::Broken);
    }
    for span in retain::spans(view, segment)? {
        accounts.take_pruned(&span.stream, span.from, span.to);
    }
    Ok(())
}

/// The newest checkpoint of the newest history.
pub(crate) fn head(txn: &ReadTransaction, key: &PublicKey) -> Result<Head, ProveError> {
    let note = newest_note(txn)?.ok_or(ProveError::Unsigned)?;
    let checkpoint = key.open(&note)?;
    Ok(Head { checkpoint, note })
}

/// The newest note of the newest history.
pub(crate) fn newest_note(txn: &ReadTransaction) -> Result<Option<String>, Failure> {
    let epoch = epoch(txn)?;
    let rows = txn.open_table(table::CHECKPOINTS)?;
    let newest = rows.range((epoch, 0)..=(epoch, u64::MAX))?.next_back().transpose()?;
    Ok(newest.map(|(_, note)| String::from_utf8_lossy(note.value()).into_owned()))
}

/// Takes the notes of the newest history that stay, the oldest first: one that is old and has not gone yet is left out.
pub(crate) fn notes<E: From<Failure>>(
    txn: &ReadTransaction,
    mut take: impl FnMut(&str) -> Result<(), E>,
) -> Result<(), E> {
    let epoch = epoch(txn)?;
    let rows = txn.open_table(table::CHECKPOINTS).map_err(Failure::from)?;
    let mut stay = Vec::new();
    let newest_first = rows.range((epoch, 0)..=(epoch, u64::MAX)).map_err(Failure::from)?.rev();
    thin::sift(newest_first.map(|row| Ok::<_, Failure>(row?.0.value())), |place, stays| {
        stay.extend(stays.then_some(place));
        ControlFlow::Continue(())
    })?;
    for place in stay.into_iter().rev() {
        if let Some(note) = rows.get(place).map_err(Failure::from)? {
            take(&String::from_utf8_lossy(note.value()))?;
        }
    }
    Ok(())
}

fn epoch(txn: &ReadTransaction) -> Result<u64, Failure> {
    Ok(txn.open_table(table::META)?.get(table::META_EPOCH)?.map_or(1, |row| row.value()))
}
