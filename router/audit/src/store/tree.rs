//! The tree in its tables: tiles and frontier, written with the records that they are of.

use redb::{Database, ReadOnlyTable, ReadTransaction, ReadableDatabase as _, WriteTransaction};

use crate::error::Failure;
use crate::merkle::proof::Hashes;
use crate::merkle::{Hash, TILE_WIDTH, Tree, hashes};
use crate::table;

/// The tree as the tables hold it, in one transaction. What is missing there is missing in the answers, so that a root or
/// a proof does not fit.
pub(crate) struct Stored {
    rec: ReadOnlyTable<u64, &'static [u8]>,
    tiles: ReadOnlyTable<(u8, u64), &'static [u8]>,
}

/// Writes the tiles that are new, and the frontier.
pub(super) fn save(txn: &WriteTransaction, tree: &mut Tree) -> Result<(), Failure> {
    let mut tiles = txn.open_table(table::TILES)?;
    for (place, tile) in tree.take_tiles() {
        tiles.insert(place, tile.as_slice())?;
    }
    txn.open_table(table::TREE)?.insert(table::FRONTIER, tree.frontier().encode().as_slice())?;
    Ok(())
}

/// The tree of `size` leaves. `None` when the stored frontier is another one.
pub(super) fn load(db: &Database, size: u64) -> Result<Option<Tree>, Failure> {
    let txn = db.begin_read()?;
    let stored = Stored::open(&txn)?;
    let tree = Tree::load(size, |(level, index), width| stored.tile(level, index, 0, width))?;
    let held = txn.open_table(table::TREE)?.get(table::FRONTIER)?.map(|row| row.value().to_vec());
    let same = match held {
        Some(held) => held == tree.frontier().encode(),
        None => size == 0,
    };
    Ok(same.then_some(tree))
}

// === impl Stored ===

impl Stored {
    pub(crate) fn open(txn: &ReadTransaction) -> Result<Self, Failure> {
        Ok(Self { rec: txn.open_table(table::REC)?, tiles: txn.open_table(table::TILES)? })
    }
}

impl Stored {
    /// A tile as it is stored.
    pub(crate) fn row(&self, level: u8, index: u64) -> Result<Option<Vec<u8>>, Failure> {
        Ok(self.tiles.get((level, index))?.map(|tile| tile.value().to_vec()))
    }
}

impl Stored {
    /// The hash of a leaf, as the tree holds it.
    pub(crate) fn leaf(&self, index: u64) -> Result<Option<Hash>, Failure> {
        let at = usize::try_from(index % TILE_WIDTH as u64).unwrap_or_default();
        Ok(self.tile(0, index / TILE_WIDTH as u64, at, 1)?.pop())
    }
}

impl Hashes for Stored {
    type Error = Failure;

    fn tile(&self, level: u8, index: u64, from: usize, width: usize) -> Result<Vec<Hash>, Failure> {
        if let Some(tile) = self.tiles.get((level, index))? {
            return Ok(hashes(tile.value()).skip(from).take(width).collect());
        }
        if level > 0 {
            return Ok(Vec::new());
        }
        // The open tile of the lowest level: its hashes stand with the leaves.
        let first = index.saturating_mul(TILE_WIDTH as u64).saturating_add(from as u64);
        let mut row = Vec::with_capacity(width);
        for leaf in self.rec.range(first..first.saturating_add(width as u64))? {
            row.extend(leaf?.1.value().first_chunk::<32>().copied());
        }
        Ok(row)
    }
}
