//! The leaves of a bundle, read one at a time.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};

use super::{BundleError, bytes};
use crate::export::{ENTRIES, RECORDS, tile_path};
use crate::leaf::LEAF_BYTES_MAX;
use crate::merkle::TILE_WIDTH;

/// Longest entry bundle, bytes.
const ENTRIES_BYTES_MAX: u64 = (TILE_WIDTH * (2 + LEAF_BYTES_MAX)) as u64;

/// The leaves of a bundle, in either form.
pub(crate) enum Leaves<'a> {
    Lines { file: BufReader<File>, path: PathBuf, line: Vec<u8> },
    Tiles { dir: &'a Path, size: u64, at: u64, rest: Vec<u8>, read: usize },
}

// === impl Leaves ===

impl<'a> Leaves<'a> {
    /// Opens those of a bundle of `size` records that begins with record `first`; a tile directory begins with a tile.
    pub(crate) fn open(dir: &'a Path, first: u64, size: u64) -> Result<Self, BundleError> {
        let path = dir.join(RECORDS);
        if dir.join(ENTRIES).is_dir() && !path.exists() {
            return Ok(Self::Tiles { dir, size, at: first, rest: Vec::new(), read: 0 });
        }
        let file = File::open(&path).map_err(|source| BundleError::File { path: path.clone(), source })?;
        Ok(Self::Lines { file: BufReader::with_capacity(1 << 20, file), path, line: Vec::new() })
    }

    /// Begins at an index, the first of a tile, before which so many lines stand.
    pub(super) fn begin(&mut self, index: u64, lines: u64) -> Result<(), BundleError> {
        match self {
            Self::Lines { .. } => (0..lines).try_for_each(|_| self.next().map(drop)),
            Self::Tiles { .. } => {
                self.skip_to(index);
                Ok(())
            }
        }
    }

    /// Goes on at an index: those before were pruned, and have no bundle.
    pub(crate) fn skip_to(&mut self, index: u64) {
        if let Self::Tiles { at, .. } = self {
            *at = index.max(*at);
        }
    }

    pub(crate) fn next(&mut self) -> Result<Option<Vec<u8>>, BundleError> {
        match self {
            Self::Lines { file, path, line } => {
                line.clear();
                let mut limited = file.take(LEAF_BYTES_MAX as u64 + 1);
                let read = limited.read_until(b'\n', line);
                read.map_err(|source| BundleError::File { path: path.clone(), source })?;
                if line.is_empty() {
                    return Ok(None);
                }
                // A line that is too long or not ended is no leaf; as it is, its hash fits nowhere.
                if line.last() == Some(&b'\n') {
                    line.pop();
                } else {
                    line.push(b'\n');
                }
                Ok(Some(std::mem::take(line)))
            }
            Self::Tiles { dir, size, at, rest, read } => {
                if *read == rest.len() {
                    if *at >= *size {
                        return Ok(None);
                    }
                    let width = usize::try_from((*size - *at).min(TILE_WIDTH as u64)).unwrap_or(TILE_WIDTH);
                    let path = dir.join(tile_path("entries", *at / TILE_WIDTH as u64, width));
                    (*rest, *read) = (bytes(&path, ENTRIES_BYTES_MAX)?, 0);
                    *at += width as u64;
                }
                let tail = rest.get(*read..).unwrap_or_default();
                let leaf = tail
                    .split_first_chunk::<2>()
                    .and_then(|(length, tail)| tail.get(..usize::from(u16::from_be_bytes(*length))));
                // What is cut short is handed on as it is, and fits nowhere.
                let leaf = leaf.map_or_else(|| tail.to_vec(), <[u8]>::to_vec);
                *read = (*read + 2 + leaf.len()).min(rest.len());
                Ok(if rest.is_empty() { None } else { Some(leaf) })
            }
        }
    }
}
