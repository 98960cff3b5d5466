//! Messages that were delivered more often than anybody can explain: which of them are given up.
//!
//! Where the handler was seen to panic, or still holds an earlier delivery, it is the message. Where whole processes died it
//! may have been another message that they worked on; so each suspect runs again, alone, and many times more.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How many times the deliveries that nobody explained a message may have where nothing speaks against itself.
const ALONE_TIMES: u64 = 4;
/// Longest wait of a suspect before it asks for its turn.
const ALONE_WITHIN: Duration = Duration::from_millis(200);
/// Sequences kept of messages whose handler panicked, count.
const PANICKED_MAX: usize = 1_024;

/// What this process saw of its messages, by sequence.
#[derive(Debug, Default)]
pub(super) struct Suspects {
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    panicked: HashSet<u64>,
    /// Deliveries that are held now.
    under_way: HashMap<u64, u32>,
}

/// A delivery that is held.
#[derive(Debug)]
pub(super) struct UnderWay<'a> {
    suspects: &'a Suspects,
    sequence: u64,
}

/// Suspects come in any order: so the innocent ones are done, sooner or later, before the one that kills the process again.
pub(super) async fn any_order() {
    tokio::time::sleep(ALONE_WITHIN.mul_f64(rand::random::<f64>())).await;
}

// === impl Suspects ===

impl Suspects {
    pub(super) fn take(&self, sequence: u64) -> UnderWay<'_> {
        *self.lock().under_way.entry(sequence).or_default() += 1;
        UnderWay { suspects: self, sequence }
    }

    /// A panic while the lock was held leaves whole sets behind.
    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl UnderWay ===

impl UnderWay<'_> {
    /// Whether a message that was delivered more than `unexplained_max` times is given up.
    pub(super) fn is_given_up(&self, delivered: u64, unexplained_max: u64) -> bool {
        let seen = self.suspects.lock();
        seen.panicked.contains(&self.sequence)
            || seen.under_way.get(&self.sequence).is_some_and(|held| *held > 1)
            || delivered > unexplained_max.saturating_mul(ALONE_TIMES)
    }

    /// Its handler panicked.
    pub(super) fn panicked(&self) {
        let mut seen = self.suspects.lock();
        if seen.panicked.len() >= PANICKED_MAX {
            seen.panicked.clear();
        }
        seen.panicked.insert(self.sequence);
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut seen = self.suspects.lock();
        if let Some(held) = seen.under_way.get_mut(&self.sequence) {
            *held -= 1;
            if *held == 0 {
                seen.under_way.remove(&self.sequence);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_given_up() {
        let suspects = Suspects::default();
        let first = suspects.take(7);
        assert!(!first.is_given_up(6, 5), "it may have been another message");
        assert!(first.is_given_up(21, 5), "nobody waits for ever");
        let again = suspects.take(7);
        assert!(again.is_given_up(6, 5), "an earlier delivery is still held");
        drop(first);
        assert!(!again.is_given_up(6, 5));
        again.panicked();
        drop(again);
        assert!(suspects.take(7).is_given_up(6, 5));
        assert!(!suspects.take(8).is_given_up(6, 5), "negative control: another message");
        assert!(suspects.lock().under_way.is_empty());
    }
}
