//! Proofs as text: inclusion as C2SP tlog-proof, consistency as the body of a C2SP tlog-witness request. One form each.

use std::fmt::{self, Write as _};
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Hash;
use super::proof::{PROOF_HASHES_MAX, extends, includes};
use crate::checkpoint::{Checkpoint, NOTE_BYTES_MAX, NoteError, PublicKey};
use crate::leaf::leaf_hash;

/// Longest proof, bytes.
pub const PROOF_BYTES_MAX: usize = NOTE_BYTES_MAX + 64 * PROOF_HASHES_MAX;
const INCLUSION: &str = "c2sp.org/tlog-proof@v1\nindex ";
const CONSISTENCY: &str = "old ";

/// That a record stands in the tree of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InclusionProof {
    /// The record's index.
    pub index: u64,
    /// From the leaf's sibling up.
    pub hashes: Vec<Hash>,
    /// The signed checkpoint.
    pub note: String,
}

/// That the tree of an older checkpoint is the beginning of the one of a newer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsistencyProof {
    /// Records of the older one.
    pub old: u64,
    /// The proof of RFC 9162 §2.1.4.
    pub hashes: Vec<Hash>,
    /// The newer signed checkpoint.
    pub note: String,
}

/// Why a proof shows nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// It is none.
    #[error("it is not a proof of the expected form")]
    Malformed,
    /// Its checkpoint is not the log's.
    #[error("its checkpoint is not usable: {0}")]
    Note(#[from] NoteError),
    /// It does not lead from what is to be shown to the signed root.
    #[error("it does not lead to the signed root: the record, the proof or the older checkpoint was changed")]
    Mismatch,
}

// === impl InclusionProof ===

impl InclusionProof {
    /// Checks that the leaf stands in the record that `key` signed. Returns the checkpoint that says so.
    ///
    /// # Errors
    /// [`ProofError`].
    pub fn check(&self, key: &PublicKey, leaf: &[u8]) -> Result<Checkpoint, ProofError> {
        let signed = key.open(&self.note)?;
        let shown = includes(&self.hashes, self.index, &leaf_hash(leaf), signed.size, &signed.root);
        if shown { Ok(signed) } else { Err(ProofError::Mismatch) }
    }
}

impl fmt::Display for InclusionProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&write(INCLUSION, self.index, &self.hashes, &self.note))
    }
}

impl FromStr for InclusionProof {
    type Err = ProofError;

    fn from_str(text: &str) -> Result<Self, ProofError> {
        let (index, hashes, note) = read(INCLUSION, text).ok_or(ProofError::Malformed)?;
        Ok(Self { index, hashes, note })
    }
}

// === impl ConsistencyProof ===

impl ConsistencyProof {
    /// Checks that the record that `key` signed goes on from an older checkpoint. Returns the newer one.
    ///
    /// # Errors
    /// [`ProofError`].
    pub fn check(&self, key: &PublicKey, old: &Checkpoint) -> Result<Checkpoint, ProofError> {
        let signed = key.open(&self.note)?;
        let same = old.origin == signed.origin && old.size == self.old;
        let shown = same && extends(&self.hashes, old.size, &old.root, signed.size, &signed.root);
        if shown { Ok(signed) } else { Err(ProofError::Mismatch) }
    }
}

impl fmt::Display for ConsistencyProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&write(CONSISTENCY, self.old, &self.hashes, &self.note))
    }
}

impl FromStr for ConsistencyProof {
    type Err = ProofError;

    fn from_str(text: &str) -> Result<Self, ProofError> {
        let (old, hashes, note) = read(CONSISTENCY, text).ok_or(ProofError::Malformed)?;
        Ok(Self { old, hashes, note })
    }
}

fn write(head: &str, number: u64, hashes: &[Hash], note: &str) -> String {
    let mut text = format!("{head}{number}\n");
    for hash in hashes {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{}", STANDARD.encode(hash));
    }
    format!("{text}\n{note}")
}

fn read(head: &str, text: &str) -> Option<(u64, Vec<Hash>, String)> {
    if text.len() > PROOF_BYTES_MAX {
        return None;
    }
    let (proof, note) = text.strip_prefix(head)?.split_once("\n\n")?;
    let mut lines = proof.split('\n');
    let number = lines.next()?.parse().ok()?;
    let hash = |line: &str| -> Option<Hash> { STANDARD.decode(line).ok()?.try_into().ok() };
    let hashes = lines.map(hash).collect::<Option<Vec<Hash>>>()?;
    let one_form = hashes.len() <= PROOF_HASHES_MAX && write(head, number, &hashes, note) == text;
    one_form.then(|| (number, hashes, note.to_owned()))
}
