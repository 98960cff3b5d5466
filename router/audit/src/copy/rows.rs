//! The rows of a record as a copy takes them, each compared with its hash and its commitment on the way.

use std::ops::Range;

use redb::ReadOnlyTable;
use sha2::{Digest as _, Sha256};

use super::CopyError;
use crate::error::Failure;
use crate::keys::seal::OVERHEAD_BYTES;
use crate::leaf::{Commitment, Leaf, leaf_hash};
use crate::merkle::Hash;
use crate::read::Reader;
use crate::read::view::{Bodies, Place, View};
use crate::store::tree::Stored;

/// Records read in one transaction: a long one would pin pages that the writer wants back, and rows do not change.
const CHUNK: u64 = 1_024;

/// One record.
pub(super) enum Taken<'a> {
    /// As it was recorded.
    Record { line: &'a [u8], sealed: Option<&'a [u8]>, body: BodyIs },
    /// Of which retention left the leaf's hash.
    Pruned(Hash),
}

/// Whether the body that a leaf commits to is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyIs {
    /// It is, or there never was one.
    There,
    /// Retention took it.
    Pruned,
    /// It is not, and nothing says why.
    Missing,
}

/// Hands out the records of a range with their indices, in order, wherever they are. `progress` is told how many are done.
pub(super) fn each(
    reader: &Reader,
    range: Range<u64>,
    take: &mut dyn FnMut(u64, Taken<'_>) -> Result<(), CopyError>,
    progress: &mut dyn FnMut(u64),
) -> Result<(), CopyError> {
    let mut at = range.start;
    while at < range.end {
        let end = range.end.min(at + CHUNK);
        let view = reader.begin()?;
        for (part, place) in view.places(at..end)? {
            match view.records(&place)? {
                Some(rec) => records(reader, &rec, &view.bodies(&place)?, part, take)?,
                None => pruned(reader, &view, &place, part, take)?,
            }
        }
        at = end;
        progress(at - range.start);
    }
    Ok(())
}

/// Records of one place.
fn records(
    reader: &Reader,
    rec: &ReadOnlyTable<u64, &'static [u8]>,
    bodies: &Bodies,
    range: Range<u64>,
    take: &mut dyn FnMut(u64, Taken<'_>) -> Result<(), CopyError>,
) -> Result<(), CopyError> {
    let damaged = |index, what| CopyError::Record { index, path: reader.dir().to_owned(), what };
    let mut at = range.start;
    for row in rec.range(range.clone()).map_err(Failure::from)? {
        let (index, value) = row.map_err(Failure::from)?;
        if index.value() != at {
            return Err(damaged(at, MISSING));
        }
        let (hash, line) = value.value().split_first_chunk::<32>().ok_or_else(|| damaged(at, NO_LEAF))?;
        if leaf_hash(line) != *hash {
            return Err(damaged(at, CHANGED));
        }
        let leaf: Leaf = serde_json::from_slice(line).map_err(|_| damaged(at, NO_LEAF))?;
        let sealed = bodies.get(at)?;
        let sealed = sealed.as_ref().map(|sealed| sealed.value());
        if !fits(leaf.body, sealed) {
            return Err(damaged(at, BODY));
        }
        let body = match (leaf.body, sealed) {
            (Some(_), None) if bodies.is_pruned() => BodyIs::Pruned,
            (Some(_), None) => BodyIs::Missing,
            _ => BodyIs::There,
        };
        take(at, Taken::Record { line, sealed, body })?;
        at += 1;
    }
    if at == range.end { Ok(()) } else { Err(damaged(at, MISSING)) }
}

/// Hashes of what was pruned.
fn pruned(
    reader: &Reader,
    view: &View,
    place: &Place,
    range: Range<u64>,
    take: &mut dyn FnMut(u64, Taken<'_>) -> Result<(), CopyError>,
) -> Result<(), CopyError> {
    let missing = |index| CopyError::Record { index, path: reader.dir().to_owned(), what: MISSING };
    if *place == Place::Nowhere {
        return Err(missing(range.start));
    }
    let stored = Stored::open(view)?;
    for index in range {
        take(index, Taken::Pruned(stored.leaf(index)?.ok_or_else(|| missing(index))?))?;
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
