#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::convert::Infallible;

use proptest::prelude::*;
use tlog_tiles::{Hash as Theirs, HashReader, check_record, check_tree, prove_record, prove_tree};

use super::proof::{Hashes, consistency, extends, includes, inclusion, root};
use super::{Hash, Tree, hashes};
use crate::leaf::leaf_hash;

/// Largest tree here: its second level of tiles is full once.
const LEAVES: u64 = 70_000;

fn leaf(n: u64) -> Hash {
    leaf_hash(&n.to_be_bytes())
}

/// Tiles as they were taken, and the open one of the lowest level.
struct Tiles(BTreeMap<(u8, u64), Vec<u8>>);

impl Hashes for Tiles {
    type Error = Infallible;

    fn tile(&self, level: u8, index: u64, from: usize, width: usize) -> Result<Vec<Hash>, Infallible> {
        Ok(hashes(&self.0[&(level, index)]).skip(from).take(width).collect())
    }
}

/// Grows a tree, a batch at a time.
fn grow(size: u64, batch: u64) -> (Tree, Tiles) {
    let (mut tree, mut tiles) = (Tree::default(), BTreeMap::new());
    for n in 0..size {
        tree.push(leaf(n));
        if n % batch == 0 || n + 1 == size {
            tiles.extend(tree.take_tiles());
        }
    }
    tiles.insert((0, size / 256), (size - size % 256..size).flat_map(leaf).collect());
    (tree, Tiles(tiles))
}

/// The other implementation's hashes, in its order.
struct Other(Vec<Theirs>);

impl Other {
    fn grow(size: u64) -> Self {
        let mut all = Self(Vec::new());
        for n in 0..size {
            let more = tlog_tiles::stored_hashes(n, &n.to_be_bytes(), &all).unwrap();
            all.0.extend(more);
        }
        all
    }
}

impl HashReader for Other {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<Theirs>, tlog_tiles::Error> {
        Ok(indexes.iter().map(|index| self.0[usize::try_from(*index).unwrap()]).collect())
    }
}

fn theirs(proof: &[Hash]) -> Vec<Theirs> {
    proof.iter().map(|hash| Theirs(*hash)).collect()
}

#[test]
fn merkle_roots_and_proofs_are_those_of_another_implementation() {
    let (tree, tiles) = grow(LEAVES, 1_000);
    let other = Other::grow(LEAVES);
    assert_eq!(tree.frontier().root(), tlog_tiles::tree_hash(LEAVES, &other).unwrap().0);
    for size in (1..=600).chain([65_535, 65_536, 65_537, LEAVES]) {
        let Ok(head) = root(&tiles, size);
        assert_eq!(head, tlog_tiles::tree_hash(size, &other).unwrap().0, "{size}");
        for index in [0, 1, size / 3, size / 2, size - 1].into_iter().filter(|index| *index < size) {
            let Ok(proof) = inclusion(&tiles, index, size);
            assert_eq!(theirs(&proof), prove_record(size, index, &other).unwrap(), "{index} of {size}");
            assert!(includes(&proof, index, &leaf(index), size, &head));
            check_record(&theirs(&proof), size, Theirs(head), index, Theirs(leaf(index))).unwrap();
            let old = index + 1;
            let Ok(proof) = consistency(&tiles, old, size);
            assert_eq!(theirs(&proof), prove_tree(size, old, &other).unwrap(), "{old} of {size}");
            let Ok(before) = root(&tiles, old);
            assert!(extends(&proof, old, &before, size, &head), "{old} of {size}");
            check_tree(&theirs(&proof), size, Theirs(head), old, Theirs(before)).unwrap();
        }
    }
}

#[test]
fn merkle_a_loaded_tree_is_the_one_that_was_left() {
    for size in [0, 1, 255, 256, 257, 511, 65_535, 65_536, 65_536 + 300] {
        let (tree, tiles) = grow(size, 100);
        let Ok(loaded) = Tree::load(size, |(level, index), width| tiles.tile(level, index, 0, width));
        assert_eq!(loaded.frontier(), tree.frontier(), "{size}");
        assert_eq!(loaded.edges.concat(), tree.edges.concat(), "{size}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn merkle_a_proof_with_another_bit_or_place_shows_nothing(
        size in 2_u64..700, index in 0_u64..700, byte in 0_usize..320, bit in 0_u8..8,
    ) {
        let index = index % size;
        let (tree, tiles) = grow(size, 64);
        let head = tree.frontier().root();
        let Ok(proof) = inclusion(&tiles, index, size);
        prop_assert!(includes(&proof, index, &leaf(index), size, &head));
        let mut bad = proof.clone();
        let (at, byte) = (byte / 32 % bad.len(), byte % 32);
        bad[at][byte] ^= 1 << bit;
        prop_assert!(!includes(&bad, index, &leaf(index), size, &head));
        prop_assert!(!includes(&proof, (index + 1) % size, &leaf(index), size, &head));
        prop_assert!(!includes(&proof[1..], index, &leaf(index), size, &head));
        prop_assert!(!includes(&proof, index, &leaf(index + 1), size, &head));
        let old = index + 1;
        let (Ok(proof), Ok(before)) = (consistency(&tiles, old, size), root(&tiles, old));
        prop_assert!(extends(&proof, old, &before, size, &head));
        prop_assert!(!extends(&proof, old, &leaf(0), size, &leaf(1)));
        if let Some(last) = proof.len().checked_sub(1) {
            let mut bad = proof.clone();
            bad[at.min(last)][byte] ^= 1 << bit;
            prop_assert!(!extends(&bad, old, &before, size, &head));
            prop_assert!(!extends(&proof[..last], old, &before, size, &head));
        }
    }
}
