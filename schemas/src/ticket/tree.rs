//! A small Merkle tree (RFC 9162 §2.1): tickets that are signed together are its leaves, and each carries its way to the root.

use sha2::{Digest as _, Sha256};

pub(super) type Hash = [u8; 32];

/// Hash of a leaf.
pub(super) fn leaf(data: &[u8]) -> Hash {
    Sha256::new().chain_update([0]).chain_update(data).finalize().into()
}

fn node(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// The root over these leaves, and for each its inclusion path (RFC 9162 §2.1.3.1). A tree without leaves has no root.
pub(super) fn grow(leaves: Vec<Hash>) -> Option<(Hash, Vec<Vec<Hash>>)> {
    let mut paths = vec![Vec::new(); leaves.len()];
    let mut level = leaves;
    let mut height = 0;
    while level.len() > 1 {
        for (index, path) in paths.iter_mut().enumerate() {
            // The last one of an odd level has no neighbour there and goes up as it is.
            path.extend(level.get((index >> height) ^ 1));
        }
        level = level
            .chunks(2)
            .map(|pair| match pair {
                [left, right] => node(left, right),
                other => other.first().copied().unwrap_or_default(),
            })
            .collect();
        height += 1;
    }
    level.first().map(|root| (*root, paths))
}

/// The root that a leaf leads to, by its place among so many and its path (RFC 9162 §2.1.3.2); `None` where these do not fit
/// together.
pub(super) fn root(leaf: Hash, size: u64, index: u64, path: &[Hash]) -> Option<Hash> {
    let (mut index, mut last) = (index, size.checked_sub(1)?);
    if index > last {
        return None;
    }
    let mut root = leaf;
    for other in path {
        if last == 0 {
            return None;
        }
        if index & 1 == 1 || index == last {
            root = node(other, &root);
            while index & 1 == 0 && index != 0 {
                (index, last) = (index >> 1, last >> 1);
            }
        } else {
            root = node(&root, other);
        }
        (index, last) = (index >> 1, last >> 1);
    }
    (last == 0).then_some(root)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn hashes(count: u8) -> Vec<Hash> {
        (0..count).map(|n| leaf(&[n])).collect()
    }

    /// RFC 9162 §2.1.1, word for word: split at the largest power of two below the size.
    fn by_definition(leaves: &[Hash]) -> Hash {
        match leaves {
            [one] => *one,
            _ => {
                let split = leaves.len().next_power_of_two() / 2;
                node(&by_definition(&leaves[..split]), &by_definition(&leaves[split..]))
            }
        }
    }

    #[test]
    fn each_leaf_leads_to_the_root_and_from_no_other_place() {
        for count in 1..=33_u8 {
            let leaves = hashes(count);
            let (top, paths) = grow(leaves.clone()).unwrap();
            assert_eq!(top, by_definition(&leaves), "{count}");
            for (index, (leaf, path)) in leaves.iter().zip(&paths).enumerate() {
                let at = |size: u8, index: usize, path: &[Hash]| {
                    root(*leaf, u64::from(size), index as u64, path).filter(|root| *root == top)
                };
                assert_eq!(at(count, index, path), Some(top), "{index} of {count}");
                for other in (0..usize::from(count) + 2).filter(|other| *other != index) {
                    assert_eq!(at(count, other, path), None, "{index} at {other} of {count}");
                }
                assert_eq!(at(count, index, &[path.as_slice(), &[top]].concat()), None, "a path too long");
                if let Some((_, shorter)) = path.split_last() {
                    assert_eq!(at(count, index, shorter), None, "a path too short");
                }
            }
        }
        assert!(grow(Vec::new()).is_none() && root(leaf(b""), 0, 0, &[]).is_none());
    }

    #[test]
    fn a_node_is_no_leaf() {
        let (top, _) = grow(hashes(2)).unwrap();
        let joined = [leaf(&[0]), leaf(&[1])].concat();
        assert_ne!(top, leaf(&joined));
    }
}
