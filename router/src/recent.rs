//! Ids of tasks that this router has seen lately, and the message that each came with. The streams know an id again only
//! where both messages end in the same one; this finds the rest, as far as it reaches: what a router forgot, or another one
//! saw, meets the first result's subject.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, PoisonError};

use tidegate_schemas::ids::{Name, TaskId};

/// Ids of one generation, count; two are held.
const GENERATION_MAX: usize = 65_536;

/// Whose id it is, hashed with a key of this process.
type Key = u64;

/// Ids seen lately.
#[derive(Debug, Default)]
pub struct Recent {
    hasher: RandomState,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    young: HashMap<Key, u64>,
    old: HashMap<Key, u64>,
}

impl Recent {
    /// Sequence of the message of the tenant's stream that this id came with first, where that is remembered.
    #[must_use]
    pub fn first(&self, tenant: &Name, agent: &Name, task: TaskId) -> Option<u64> {
        let key = self.hasher.hash_one((tenant, agent, task));
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.young.get(&key).or_else(|| seen.old.get(&key)).copied()
    }

    /// Remembers an id with its message, unless it came with another before.
    pub fn note(&self, tenant: &Name, agent: &Name, task: TaskId, sequence: u64) {
        let key = self.hasher.hash_one((tenant, agent, task));
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.old.contains_key(&key) {
            return;
        }
        if seen.young.len() >= GENERATION_MAX {
            seen.old = std::mem::take(&mut seen.young);
        }
        seen.young.entry(key).or_insert(sequence);
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use uuid::Uuid;

    use super::*;

    #[test]
    fn remembers_the_first_and_forgets_the_oldest() {
        let recent = Recent::default();
        let name = |text: &str| Name::new(text).unwrap();
        let (acme, other, bot) = (name("acme"), name("other"), name("bot"));
        let id = |n: u128| TaskId(Uuid::from_u128(n));
        recent.note(&acme, &bot, id(1), 5);
        recent.note(&acme, &bot, id(1), 6);
        assert_eq!(recent.first(&acme, &bot, id(1)), Some(5));
        assert_eq!(recent.first(&other, &bot, id(1)), None, "another tenant's id is another id");
        for n in 0..=2 * GENERATION_MAX as u128 {
            recent.note(&acme, &bot, id(n + 2), 7);
        }
        assert_eq!(recent.first(&acme, &bot, id(1)), None);
        assert!(recent.seen.lock().unwrap().young.len() <= GENERATION_MAX);
    }
}
