//! Where records are read from: a backup's parts, or an export in either of its forms.

use std::path::{Path, PathBuf};

use super::CopyError;
use super::files::{FileSum, In};
use super::manifest::Part;
use crate::bundle::{self, Leaves};
use crate::export::{BODIES, PrunedRange, tile_path};
use crate::leaf::LEAF_BYTES_MAX;
use crate::merkle::{Hash, TILE_WIDTH, hashes};

/// One record, as it is written there.
pub(super) enum Piece {
    /// Its leaf and its sealed body; the leaf's hash by its tile, where the copy has tiles.
    Record { line: Vec<u8>, sealed: Option<Vec<u8>>, told: Option<Hash> },
    /// The hash of a leaf that was pruned.
    Pruned(Hash),
}

/// The records of a part.
pub(super) struct PartSource {
    leaves: In,
    bodies: In,
    next: u64,
    end: u64,
}

/// The records of an export.
pub(super) struct ExportSource<'a> {
    dir: &'a Path,
    leaves: Leaves<'a>,
    bodies: Option<In>,
    /// Ranges of which there are hashes only.
    pruned: Vec<PrunedRange>,
    tile: Vec<Hash>,
    next: u64,
    size: u64,
}

// === impl PartSource ===

impl PartSource {
    pub(super) fn open(dir: &Path, part: &Part) -> Result<Self, CopyError> {
        let open = |sum: &FileSum| In::named(dir, sum);
        let (leaves, bodies) = (open(&part.leaves)?, open(&part.bodies)?);
        Ok(Self { leaves, bodies, next: part.first, end: part.first.saturating_add(part.records) })
    }

    pub(super) fn path(&self) -> PathBuf {
        self.leaves.path().to_owned()
    }

    /// The next record; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Piece>, CopyError> {
        if self.next >= self.end {
            return Ok(None);
        }
        self.next += 1;
        let changed = |file: &In| CopyError::Changed { path: file.path().to_owned() };
        let line = self.leaves.line(LEAF_BYTES_MAX)?.ok_or_else(|| changed(&self.leaves))?;
        let sealed = self.bodies.body()?.ok_or_else(|| changed(&self.bodies))?;
        Ok(Some(match hash(&line) {
            Some(hash) => Piece::Pruned(hash),
            None => Piece::Record { line, sealed, told: None },
        }))
    }

    /// Compares the files with the manifest.
    pub(super) fn end(self) -> Result<(), CopyError> {
        self.leaves.end()?;
        self.bodies.end()
    }
}

// === impl ExportSource ===

impl<'a> ExportSource<'a> {
    /// Opens the export of `size` records, which begins with record `first`.
    pub(super) fn open(dir: &'a Path, first: u64, size: u64) -> Result<Self, CopyError> {
        let leaves = Leaves::open(dir, first, size)?;
        let path = dir.join(BODIES);
        let bodies = if path.exists() { Some(In::open(&path)?) } else { None };
        let pruned = bundle::pruned(dir)?;
        Ok(Self { dir, leaves, bodies, pruned, tile: Vec::new(), next: first, size })
    }

    /// The next record and its index; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<(u64, Piece)>, CopyError> {
        if self.next >= self.size {
            return Ok(None);
        }
        let index = self.next;
        let missing = |what| CopyError::Record { index, path: self.dir.to_owned(), what };
        let pruned = self.pruned.iter().find(|range| (range.first..range.end).contains(&index));
        let line = match pruned {
            Some(range) => {
                self.leaves.skip_to(range.end);
                None
            }
            None => Some(self.leaves.next()?.ok_or_else(|| missing(super::rows::MISSING))?),
        };
        let sealed = match &mut self.bodies {
            Some(bodies) => {
                bodies.body()?.ok_or_else(|| missing("has no body: the file of bodies is cut short"))?
            }
            None => None,
        };
        let at = usize::try_from(index % TILE_WIDTH as u64).unwrap_or_default();
        if at == 0 || self.tile.is_empty() {
            self.tile = self.tile(index / TILE_WIDTH as u64)?;
        }
        let told = self.tile.get(at).copied().ok_or_else(|| missing("is not in its tile"))?;
        self.next += 1;
        Ok(Some((
            index,
            match line {
                Some(line) => Piece::Record { line, sealed, told: Some(told) },
                None => Piece::Pruned(told),
            },
        )))
    }

    /// A tile of the lowest level.
    fn tile(&self, index: u64) -> Result<Vec<Hash>, CopyError> {
        let rest = (self.size - index * TILE_WIDTH as u64).min(TILE_WIDTH as u64);
        let path = self.dir.join(tile_path("0", index, usize::try_from(rest).unwrap_or(TILE_WIDTH)));
        Ok(hashes(&bundle::bytes(&path, (TILE_WIDTH * 32) as u64)?).collect())
    }
}

/// The hash that stands in a leaf's place.
fn hash(line: &[u8]) -> Option<Hash> {
    let mut hash = Hash::default();
    hex::decode_to_slice(line, &mut hash).ok()?;
    Some(hash)
}
