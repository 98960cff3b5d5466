//! How long a shadow may be judged. Nothing comes of it, so it must not hold up what something comes of: each task brings it some
//! time, and one that took more than there is waits until as much came again. What is left out is counted.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use tidegate_schemas::metric;

/// What each task brings, microseconds: more than a decision takes.
const EACH_US: i64 = 1_000;
/// The most that is saved up, microseconds.
const SAVED_US_MAX: i64 = 20_000;

/// Time for a shadow.
#[derive(Debug)]
pub struct Allowance {
    left_us: AtomicI64,
}

impl Allowance {
    /// Does something beside a task, if there is time for it.
    pub(crate) fn within<T>(&self, work: impl FnOnce() -> T) -> Option<T> {
        if !self.comes() {
            metrics::counter!(metric::SHADOWS_LEFT_OUT).increment(1);
            return None;
        }
        let begun = Instant::now();
        let done = work();
        self.took(begun.elapsed());
        Some(done)
    }

    /// A task comes. Whether there is time for the shadow.
    fn comes(&self) -> bool {
        let more = |left: i64| Some(left.saturating_add(EACH_US).min(SAVED_US_MAX));
        let before = self.left_us.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        before.is_ok_and(|left| left.saturating_add(EACH_US) > 0)
    }

    /// Counts what something took.
    pub(crate) fn took(&self, time: Duration) {
        let us = i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
        let less = |left: i64| Some(left.saturating_sub(us));
        // The closure never declines.
        let _ = self.left_us.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }
}

impl Default for Allowance {
    fn default() -> Self {
        Self { left_us: AtomicI64::new(SAVED_US_MAX) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of so many tasks those that a shadow of this speed is judged beside.
    fn judged(tasks: u32, us: u64) -> u32 {
        let allowance = Allowance::default();
        (0..tasks)
            .filter(|_| {
                let comes = allowance.comes();
                if comes {
                    allowance.took(Duration::from_micros(us));
                }
                comes
            })
            .count()
            .try_into()
            .unwrap_or(u32::MAX)
    }

    #[test]
    fn a_shadow_takes_a_millisecond_a_task_on_average_and_no_more() {
        assert_eq!(judged(1_000, 80), 1_000, "a quick one is judged beside each");
        assert_eq!(judged(1_000, 1_000), 1_000);
        for us in [5_000, 50_000, 400_000] {
            let most =
                u32::try_from((1_000 * EACH_US + SAVED_US_MAX) / i64::try_from(us).unwrap_or(1)).unwrap_or(0);
            let judged = judged(1_000, us);
            assert!(judged >= 1 && judged <= most + 1, "{judged} of {us} us");
        }
    }

    #[test]
    fn what_is_left_out_is_not_done() {
        let allowance = Allowance::default();
        assert_eq!(allowance.within(|| 1), Some(1));
        allowance.took(Duration::from_secs(1));
        assert_eq!(allowance.within(|| 1), None);
        // Negative control: time that came again is used.
        for _ in 0..1_000 {
            let _ = allowance.comes();
        }
        assert_eq!(allowance.within(|| 1), Some(1));
    }
}
