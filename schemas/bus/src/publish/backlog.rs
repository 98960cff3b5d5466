//! Whether more waits at the server than is worked on: then a message that lingers keeps nobody waiting.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long a sight of it counts.
const COUNTS: Duration = Duration::from_millis(100);

/// When it was last seen.
#[derive(Debug)]
pub(super) struct Backlog {
    began: Instant,
    /// Milliseconds after that, and one; 0 is never.
    seen_ms: AtomicU64,
}

impl Default for Backlog {
    fn default() -> Self {
        Self { began: Instant::now(), seen_ms: AtomicU64::new(0) }
    }
}

impl Backlog {
    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1
    }

    pub(super) fn seen(&self) {
        self.seen_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    pub(super) fn is_there(&self) -> bool {
        let seen = self.seen_ms.load(Ordering::Relaxed);
        seen > 0 && u128::from(self.now_ms().saturating_sub(seen)) < COUNTS.as_millis()
    }
}
