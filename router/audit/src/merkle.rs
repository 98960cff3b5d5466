//! The Merkle tree over the leaves: RFC 6962 §2.1 hashing, in tiles of height 8 as C2SP tlog-tiles has them.
//!
//! `Tree` is the writer's right edge and grows by one hash a leaf; what is complete leaves it as tiles. Pure: it knows no
//! table. Proofs are made and checked in [`proof`].

use sha2::{Digest as _, Sha256};

pub mod proof;
#[cfg(test)]
mod tests;
pub mod text;

/// A hash of the tree.
pub type Hash = [u8; 32];

/// Levels of the tree that a tile spans.
pub const TILE_HEIGHT: u32 = 8;
/// Hashes of a full tile.
pub const TILE_WIDTH: usize = 256;
/// Most levels of tiles of a tree of 2^64 leaves.
const TILE_LEVELS_MAX: u8 = 8;

/// `SHA-256(0x01 ‖ left ‖ right)`, the node hash of RFC 6962 §2.1.
#[must_use]
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut bytes = [1; 65];
    bytes[1..33].copy_from_slice(left);
    bytes[33..].copy_from_slice(right);
    Sha256::digest(bytes).into()
}

/// Hashes of the complete subtrees that make up a tree, the largest first: all that growing it needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    hashes: Vec<Hash>,
}

/// Where a tile stands: its level, counted in tiles, and its place in that level.
pub(crate) type Place = (u8, u64);

/// The right edge of the tree, and the tiles that became complete or wider since they were taken.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tree {
    frontier: Frontier,
    /// The tile of each level that is not full yet.
    edges: Vec<Vec<Hash>>,
    /// Full tiles that nobody has taken.
    full: Vec<(Place, Vec<u8>)>,
    /// Levels above the lowest whose edge grew.
    grown: Vec<bool>,
}

// === impl Frontier ===

impl Frontier {
    /// Adds a leaf. `made` is told each hash that is complete by it, with its level: the leaf's own at level 0 first.
    pub fn push(&mut self, leaf: Hash, mut made: impl FnMut(u32, Hash)) {
        let mut hash = leaf;
        made(0, hash);
        for level in 1..=self.size.trailing_ones() {
            if let Some(left) = self.hashes.pop() {
                hash = node_hash(&left, &hash);
            }
            made(level, hash);
        }
        self.hashes.push(hash);
        self.size += 1;
    }

    /// Leaves.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The root; of an empty tree SHA-256 of nothing.
    #[must_use]
    pub fn root(&self) -> Hash {
        let fold = self.hashes.iter().rev().copied().reduce(|right, left| node_hash(&left, &right));
        fold.unwrap_or_else(|| Sha256::digest([]).into())
    }

    /// Size and hashes as bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = self.size.to_be_bytes().to_vec();
        out.extend(self.hashes.iter().flatten());
        out
    }

    /// Reads what [`Self::encode`] wrote.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (size, rest) = bytes.split_first_chunk::<8>()?;
        let (hashes, rest) = rest.as_chunks::<32>();
        let size = u64::from_be_bytes(*size);
        let whole = rest.is_empty() && hashes.len() == size.count_ones() as usize;
        whole.then(|| Self { size, hashes: hashes.to_vec() })
    }

    /// The frontier of edges: the hashes in each level's open tile, the lowest level first.
    fn of_edges(edges: &[Vec<Hash>]) -> Self {
        let mut all = Self::default();
        for (level, edge) in edges.iter().enumerate().rev() {
            let mut part = Self::default();
            edge.iter().for_each(|hash| part.push(*hash, |_, _| {}));
            all.hashes.append(&mut part.hashes);
            all.size |= part.size << (TILE_HEIGHT as usize * level);
        }
        all
    }
}

// === impl Tree ===

impl Tree {
    /// A tree of `size` leaves from the open tiles that it has; `open` gives each as its hashes in a row.
    pub(crate) fn load<E>(
        size: u64,
        mut open: impl FnMut(Place, usize) -> Result<Vec<Hash>, E>,
    ) -> Result<Self, E> {
        let mut tree = Self::default();
        for level in 0..TILE_LEVELS_MAX {
            let hashes = size >> (TILE_HEIGHT * u32::from(level));
            if hashes == 0 {
                break;
            }
            let width = usize::try_from(hashes % TILE_WIDTH as u64).unwrap_or_default();
            let edge =
                if width == 0 { Vec::new() } else { open((level, hashes / TILE_WIDTH as u64), width)? };
            tree.edges.push(edge);
            tree.grown.push(false);
        }
        tree.frontier = Frontier::of_edges(&tree.edges);
        Ok(tree)
    }

    /// Adds a leaf's hash.
    pub(crate) fn push(&mut self, leaf: Hash) {
        let (edges, full, grown) = (&mut self.edges, &mut self.full, &mut self.grown);
        let size = self.frontier.size + 1;
        self.frontier.push(leaf, |level, hash| {
            if level % TILE_HEIGHT != 0 {
                return;
            }
            let at = (level / TILE_HEIGHT) as usize;
            if edges.len() <= at {
                edges.resize(at + 1, Vec::new());
                grown.resize(at + 1, false);
            }
            edges[at].push(hash);
            grown[at] = true;
            if edges[at].len() == TILE_WIDTH {
                let place = u8::try_from(at).unwrap_or(TILE_LEVELS_MAX);
                let index = (size >> level) / TILE_WIDTH as u64 - 1;
                full.push(((place, index), edges[at].concat()));
                edges[at].clear();
            }
        });
    }

    /// The tiles that became full, and above the lowest level the open ones that grew. The open one of the lowest level is
    /// the leaves themselves.
    pub(crate) fn take_tiles(&mut self) -> Vec<(Place, Vec<u8>)> {
        let mut tiles = std::mem::take(&mut self.full);
        for (at, edge) in self.edges.iter().enumerate().skip(1) {
            if self.grown.get(at) == Some(&true) && !edge.is_empty() {
                let level = u32::try_from(at).unwrap_or_default() * TILE_HEIGHT;
                let index = (self.frontier.size >> level) / TILE_WIDTH as u64;
                tiles.push(((u8::try_from(at).unwrap_or(TILE_LEVELS_MAX), index), edge.concat()));
            }
        }
        self.grown.fill(false);
        tiles.sort_unstable_by_key(|(place, _)| *place);
        tiles
    }

    pub(crate) fn frontier(&self) -> &Frontier {
        &self.frontier
    }
}

/// The hashes of a tile.
pub(crate) fn hashes(tile: &[u8]) -> impl Iterator<Item = Hash> {
    tile.as_chunks::<32>().0.iter().copied()
}
