//! Counting without growing: maps with a cap, and the first few of many indices.

use std::collections::BTreeMap;

use serde::Serialize;

/// Most different keys that one table of the report counts apart. What bundles, the directory and streams name is far fewer;
/// the cap is for a record that somebody filled on purpose.
pub(super) const KEYS_MAX: usize = 4_096;
/// Indices that are named where many could be.
const FIRST_MAX: usize = 20;

/// Values by key, at most [`KEYS_MAX`] of them; what comes after is left out and counted.
#[derive(Debug)]
pub(super) struct Capped<K, V> {
    rows: BTreeMap<K, V>,
    left_out: u64,
}

impl<K, V> Default for Capped<K, V> {
    fn default() -> Self {
        Self { rows: BTreeMap::new(), left_out: 0 }
    }
}

impl<K: Ord, V: Default> Capped<K, V> {
    /// The value of a key; `None` where there is no room for another key.
    pub(super) fn at(&mut self, key: K) -> Option<&mut V> {
        if self.rows.len() >= KEYS_MAX && !self.rows.contains_key(&key) {
            self.left_out += 1;
            return None;
        }
        Some(self.rows.entry(key).or_default())
    }

    pub(super) fn left_out(&self) -> u64 {
        self.left_out
    }

    pub(super) fn into_rows<R>(self, row: impl FnMut((K, V)) -> R) -> Vec<R> {
        self.rows.into_iter().map(row).collect()
    }
}

impl<K: Ord> Capped<K, u64> {
    /// One more of a key.
    pub(super) fn count(&mut self, key: K) {
        if let Some(count) = self.at(key) {
            *count += 1;
        }
    }
}

/// Indices: how many, and the first few.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Indices {
    /// How many there are.
    pub count: u64,
    /// The lowest, at most 20.
    pub first: Vec<u64>,
}

impl Indices {
    pub(super) fn add(&mut self, index: u64) {
        self.count += 1;
        if self.first.len() < FIRST_MAX {
            self.first.push(index);
        }
    }
}

/// The lowest and the highest of what was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Span<T> {
    /// The lowest.
    pub first: T,
    /// The highest.
    pub last: T,
}

impl<T: Copy + Ord> Span<T> {
    /// A span that holds what the other held, and one more.
    pub(super) fn with(held: Option<Self>, one: T) -> Option<Self> {
        Some(held.map_or(Self { first: one, last: one }, |held| Self {
            first: held.first.min(one),
            last: held.last.max(one),
        }))
    }
}
