//! What is remembered of a bounded number, by key: for one more the oldest goes.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

use super::trial::TENANT_TASKS_MAX;

/// At most [`TENANT_TASKS_MAX`] entries, the newest.
#[derive(Debug)]
pub(super) struct Newest<K, V> {
    /// With the turn in which it came.
    entries: HashMap<K, (u64, V)>,
    /// Keys in the order in which they came; those that were taken out, or came again, stand here until they are met.
    order: VecDeque<(u64, K)>,
    turn: u64,
}

// === impl Newest ===

impl<K, V> Default for Newest<K, V> {
    fn default() -> Self {
        Self { entries: HashMap::new(), order: VecDeque::new(), turn: 0 }
    }
}

impl<K: Clone + Eq + Hash, V> Newest<K, V> {
    /// The entry of this key.
    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key).map(|(_, value)| value)
    }

    /// The entry of this key, to be changed.
    pub(super) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.entries.get_mut(key).map(|(_, value)| value)
    }

    /// Takes the entry out.
    pub(super) fn take(&mut self, key: &K) -> Option<V> {
        self.entries.remove(key).map(|(_, value)| value)
    }

    /// Puts an entry, which is as old as it was where it was there already. Says whether the oldest had to go for it.
    pub(super) fn put(&mut self, key: K, value: V) -> bool {
        if let Some((_, there)) = self.entries.get_mut(&key) {
            *there = value;
            return false;
        }
        let went = self.entries.len() >= TENANT_TASKS_MAX && self.drop_oldest();
        self.turn += 1;
        self.order.push_back((self.turn, key.clone()));
        self.entries.insert(key, (self.turn, value));
        // What was taken out leaves no more behind than there may be.
        if self.order.len() > 2 * TENANT_TASKS_MAX {
            let entries = &self.entries;
            self.order.retain(|(turn, key)| entries.get(key).is_some_and(|(there, _)| there == turn));
        }
        went
    }

    fn drop_oldest(&mut self) -> bool {
        while let Some((turn, key)) = self.order.pop_front() {
            if self.entries.get(&key).is_some_and(|(there, _)| *there == turn) {
                self.entries.remove(&key);
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes_and_what_was_taken_out_takes_no_room() {
        let mut newest = Newest::default();
        assert!((0..TENANT_TASKS_MAX).all(|n| !newest.put(n, ())));
        assert!(!newest.put(0, ()), "it is there");
        assert!(newest.put(TENANT_TASKS_MAX, ()), "one more");
        assert!(newest.get(&0).is_none() && newest.get(&1).is_some());
        // Taken out and put again it is new, and makes room for none.
        assert!(newest.take(&1).is_some() && !newest.put(1, ()));
        assert!(newest.put(0, ()) && newest.get(&2).is_none() && newest.get(&1).is_some());
        for n in 0..10 * TENANT_TASKS_MAX {
            newest.take(&n);
            newest.put(n, ());
        }
        assert_eq!(newest.entries.len(), TENANT_TASKS_MAX);
        assert!(newest.order.len() <= 2 * TENANT_TASKS_MAX + 1);
    }
}
