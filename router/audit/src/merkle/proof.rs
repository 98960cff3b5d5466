//! Inclusion and consistency proofs, made and checked as RFC 9162 §2.1.3 and §2.1.4 say.

use super::{Hash, TILE_HEIGHT, TILE_WIDTH, node_hash};

/// Longest proof: a tree of 2^64 leaves, and one hash more for a consistency proof.
pub const PROOF_HASHES_MAX: usize = 65;

/// Where hashes of complete subtrees come from.
pub trait Hashes {
    /// Why a hash could not be had.
    type Error;

    /// Some hashes of a tile in a row, from place `from` in it on: `width` of them, which are there.
    ///
    /// # Errors
    /// When they cannot be read.
    fn tile(&self, level: u8, index: u64, from: usize, width: usize) -> Result<Vec<Hash>, Self::Error>;
}

/// The hash of the complete subtree at `level` that is the `n`th there.
fn subtree<H: Hashes>(source: &H, level: u32, n: u64) -> Result<Hash, H::Error> {
    let above = level % TILE_HEIGHT;
    let first = n << above;
    let tile = u8::try_from(level / TILE_HEIGHT).unwrap_or(u8::MAX);
    let from = usize::try_from(first % TILE_WIDTH as u64).unwrap_or_default();
    let mut row = source.tile(tile, first / TILE_WIDTH as u64, from, 1 << above)?;
    while row.len() > 1 {
        row = row.as_chunks::<2>().0.iter().map(|[left, right]| node_hash(left, right)).collect();
    }
    Ok(row.first().copied().unwrap_or_default())
}

/// The hash of the leaves from `from` to before `to`, where `from` is where a subtree of that size can begin.
fn range<H: Hashes>(source: &H, from: u64, to: u64) -> Result<Hash, H::Error> {
    let mut at = from;
    let mut parts = Vec::new();
    while at < to {
        let level = (to - at).ilog2();
        parts.push(subtree(source, level, at >> level)?);
        at += 1 << level;
    }
    let fold = parts.into_iter().rev().reduce(|right, left| node_hash(&left, &right));
    Ok(fold.unwrap_or_else(|| super::Frontier::default().root()))
}

/// The root that the tree had with `size` leaves.
///
/// # Errors
/// When hashes cannot be read.
pub fn root<H: Hashes>(source: &H, size: u64) -> Result<Hash, H::Error> {
    range(source, 0, size)
}

/// The frontier that the tree had with `size` leaves.
pub(crate) fn frontier<H: Hashes>(source: &H, size: u64) -> Result<super::Frontier, H::Error> {
    let mut found = super::Frontier { size, hashes: Vec::new() };
    let mut at = 0;
    while at < size {
        let level = (size - at).ilog2();
        found.hashes.push(subtree(source, level, at >> level)?);
        at += 1 << level;
    }
    Ok(found)
}

/// The largest power of two below `size`, which is at least 2.
fn split(size: u64) -> u64 {
    1 << (size - 1).ilog2()
}

/// Proof that leaf `index` is in the tree of `size` leaves: from the leaf's sibling up.
///
/// # Errors
/// When hashes cannot be read.
pub fn inclusion<H: Hashes>(source: &H, index: u64, size: u64) -> Result<Vec<Hash>, H::Error> {
    let (mut from, mut to, mut path) = (0, size, Vec::new());
    while to - from > 1 {
        let middle = from + split(to - from);
        if index < middle {
            path.push(range(source, middle, to)?);
            to = middle;
        } else {
            path.push(range(source, from, middle)?);
            from = middle;
        }
    }
    path.reverse();
    Ok(path)
}

/// Proof that the tree of `old` leaves, at least one, is the beginning of the tree of `size` leaves.
///
/// # Errors
/// When hashes cannot be read.
pub fn consistency<H: Hashes>(source: &H, old: u64, size: u64) -> Result<Vec<Hash>, H::Error> {
    let (mut from, mut to, mut path) = (0, size, Vec::new());
    while to > old {
        let middle = from + split(to - from);
        if old <= middle {
            path.push(range(source, middle, to)?);
            to = middle;
        } else {
            path.push(range(source, from, middle)?);
            from = middle;
        }
    }
    if from > 0 {
        path.push(range(source, from, to)?);
    }
    path.reverse();
    Ok(path)
}

/// Whether a proof shows that a leaf of this hash is at `index` of the tree of `size` leaves with this root.
#[must_use]
pub fn includes(proof: &[Hash], index: u64, leaf: &Hash, size: u64, root: &Hash) -> bool {
    if index >= size {
        return false;
    }
    let (mut at, mut last, mut hash) = (index, size - 1, *leaf);
    for sibling in proof {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            hash = node_hash(sibling, &hash);
            while at & 1 == 0 && at != 0 {
                (at, last) = (at >> 1, last >> 1);
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    last == 0 && hash == *root
}

/// Whether a proof shows that the tree of `old` leaves with this root is the beginning of the one of `size` leaves.
#[must_use]
pub fn extends(proof: &[Hash], old: u64, old_root: &Hash, size: u64, root: &Hash) -> bool {
    if old == size {
        return proof.is_empty() && old_root == root;
    }
    if old == 0 || old > size {
        return false;
    }
    let mut path = proof.iter();
    let whole = old.is_power_of_two();
    let Some(first) = (if whole { Some(old_root) } else { path.next() }) else { return false };
    let (mut at, mut last) = (old - 1, size - 1);
    let trailing = at.trailing_ones();
    (at, last) = (at.checked_shr(trailing).unwrap_or(0), last.checked_shr(trailing).unwrap_or(0));
    let (mut before, mut after) = (*first, *first);
    for sibling in path {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            before = node_hash(sibling, &before);
            after = node_hash(sibling, &after);
            while at & 1 == 0 && at != 0 {
                (at, last) = (at >> 1, last >> 1);
            }
        } else {
            after = node_hash(&after, sibling);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    last == 0 && before == *old_root && after == *root
}
