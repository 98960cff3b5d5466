//! The rows of a record as a copy takes them, each compared with its hash and its commitment on the way.

use std::ops::Range;

use sha2::{Digest as _, Sha256};

use super::CopyError;
use crate::error::Failure;
use crate::keys::seal::OVERHEAD_BYTES;
use crate::leaf::{Commitment, Leaf, leaf_hash};
use crate::read::Reader;
use crate::table;

/// Records read in one transaction: a long one would pin pages that the writer wants back, and rows do not change.
const CHUNK: u64 = 1_024;

/// One record.
pub(super) struct Taken<'a> {
    pub(super) line: &'a [u8],
    pub(super) sealed: Option<&'a [u8]>,
    /// Whether the leaf commits to a body that is not there any more.
    pub(super) lacks_body: bool,
}

/// Hands out the records of a range, in order. `progress` is told how many are done.
pub(super) fn each(
    reader: &Reader,
    range: Range<u64>,
    take: &mut dyn FnMut(Taken<'_>) -> Result<(), CopyError>,
    progress: &mut dyn FnMut(u64),
) -> Result<(), CopyError> {
    let damaged = |index, what| CopyError::Record { index, path: reader.dir().to_owned(), what };
    let mut at = range.start;
    while at < range.end {
        let end = range.end.min(at + CHUNK);
        let txn = reader.begin()?;
        let bodies = txn.open_table(table::BODY).map_err(Failure::from)?;
        for row in txn.open_table(table::REC).map_err(Failure::from)?.range(at..end).map_err(Failure::from)? {
            let (index, value) = row.map_err(Failure::from)?;
            if index.value() != at {
                return Err(damaged(at, MISSING));
            }
            let (hash, line) = value.value().split_first_chunk::<32>().ok_or_else(|| damaged(at, NO_LEAF))?;
            if leaf_hash(line) != *hash {
                return Err(damaged(at, CHANGED));
            }
            let leaf: Leaf = serde_json::from_slice(line).map_err(|_| damaged(at, NO_LEAF))?;
            let sealed = bodies.get(at).map_err(Failure::from)?;
            let sealed = sealed.as_ref().map(|sealed| sealed.value());
            if !fits(leaf.body, sealed) {
                return Err(damaged(at, BODY));
            }
            take(Taken { line, sealed, lacks_body: leaf.body.is_some() && sealed.is_none() })?;
            at += 1;
        }
        if at != end {
            return Err(damaged(at, MISSING));
        }
        progress(at - range.start);
    }
    Ok(())
}

pub(super) const MISSING: &str = "is missing";
pub(super) const NO_LEAF: &str = "cannot be read";
pub(super) const CHANGED: &str = "was changed: its leaf does not have the hash that stands beside it";
pub(super) const BODY: &str =
    "has a sealed body that was changed: it is not the one that its leaf commits to";

/// Whether a sealed body is the one that its leaf commits to. One that is gone is gone, and says nothing else.
pub(super) fn fits(commitment: Option<Commitment>, sealed: Option<&[u8]>) -> bool {
    match (commitment, sealed) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(commitment), Some(sealed)) => {
            let hash: [u8; 32] = Sha256::digest(sealed).into();
            let length = commitment.length.saturating_add(OVERHEAD_BYTES as u64);
            length == sealed.len() as u64 && hash == *commitment.sha256.as_bytes()
        }
    }
}
