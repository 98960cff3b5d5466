//! Messages that were delivered more often than anybody can explain: which of them are given up.
//!
//! Where the handler was seen to panic, or still works on an earlier delivery, it is the message. Where whole processes died it
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
    /// Messages that a handler works on now, and how many do.
    running: HashMap<u64, u32>,
}

/// A handler works on a message.
#[derive(Debug)]
pub(super) struct Running<'a> {
    suspects: &'a Suspects,
    sequence: u64,
}

/// Suspects come in any order: so the innocent ones are done, sooner or later, before the one that kills the process again.
pub(super) async fn any_order() {
    tokio::time::sleep(ALONE_WITHIN.mul_f64(rand::random::<f64>())).await;
}

// === impl Suspects ===

impl Suspects {
    /// A handler begins to work on a message.
    pub(super) fn runs(&self, sequence: u64) -> Running<'_> {
        *self.lock().running.entry(sequence).or_default() += 1;
        Running { suspects: self, sequence }
    }

    /// Whether a message that was delivered more than `unexplained_max` times is given up.
    pub(super) fn gives_up(&self, sequence: u64, delivered: u64, unexplained_max: u64) -> bool {
        let seen = self.lock();
        seen.panicked.contains(&sequence)
            || seen.running.contains_key(&sequence)
            || delivered > unexplained_max.saturating_mul(ALONE_TIMES)
    }

    /// A handler panicked.
    pub(super) fn panicked(&self, sequence: u64) {
        let mut seen = self.lock();
        if seen.panicked.len() >= PANICKED_MAX {
            seen.panicked.clear();
        }
        seen.panicked.insert(sequence);
    }

    /// A panic while the lock was held leaves whole sets behind.
    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let mut seen = self.suspects.lock();
        if let Some(running) = seen.running.get_mut(&self.sequence) {
            *running -= 1;
            if *running == 0 {
                seen.running.remove(&self.sequence);
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
        assert!(!suspects.gives_up(7, 6, 5), "it may have been another message");
        assert!(suspects.gives_up(7, 21, 5), "nobody waits for ever");
        let running = suspects.runs(7);
        assert!(suspects.gives_up(7, 6, 5), "a handler still works on an earlier delivery");
        drop(running);
        assert!(!suspects.gives_up(7, 6, 5));
        suspects.panicked(7);
        assert!(suspects.gives_up(7, 6, 5));
        assert!(!suspects.gives_up(8, 6, 5), "negative control: another message");
        assert!(suspects.lock().running.is_empty());
    }
}
