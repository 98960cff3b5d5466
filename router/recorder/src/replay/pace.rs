//! When the next record is due.

use std::time::Duration;

use jiff::Timestamp;
use tidegate_schemas::replay::Pace;
use tokio::time::Instant;

/// A replay that fell behind by more does not hurry to make up for it.
const BEHIND_MAX: Duration = Duration::from_secs(1);

/// One run's clock.
pub(super) struct Pacer {
    pace: Pace,
    begun: Instant,
    first: Option<Timestamp>,
    count: u32,
}

impl Pacer {
    pub(super) fn new(pace: Pace, now: Instant) -> Self {
        Self { pace, begun: now, first: None, count: 0 }
    }

    /// When the next record, which was stored at `time`, is due.
    pub(super) fn due(&mut self, time: Timestamp, now: Instant) -> Instant {
        let due = match self.pace {
            Pace::Rate { per_second } => {
                if self.count >= per_second.max(1) {
                    self.begun += Duration::from_secs(1);
                    self.count = 0;
                }
                let due = self.begun + Duration::from_secs(1) * self.count / per_second.max(1);
                self.count += 1;
                due
            }
            Pace::Original { speed_percent } => {
                let first = *self.first.get_or_insert(time);
                let lag = Duration::try_from(time.duration_since(first)).unwrap_or_default();
                self.begun + lag * 100 / speed_percent.max(1)
            }
        };
        let behind = now.saturating_duration_since(due);
        if behind > BEHIND_MAX {
            self.begun += behind;
            return now;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(1_700_000_000_000 + ms).unwrap()
    }

    #[test]
    fn a_rate_spreads_records_evenly() {
        let now = Instant::now();
        let mut pacer = Pacer::new(Pace::Rate { per_second: 4 }, now);
        let due: Vec<_> = (0..6).map(|_| pacer.due(at(0), now) - now).collect();
        assert_eq!(due, [0, 250, 500, 750, 1_000, 1_250].map(Duration::from_millis));
    }

    #[test]
    fn the_original_pace_keeps_pauses_and_a_factor_shortens_them() {
        for (speed_percent, wanted) in [(100, [0, 600, 600]), (200, [0, 300, 300]), (50, [0, 1_200, 1_200])] {
            let now = Instant::now();
            let mut pacer = Pacer::new(Pace::Original { speed_percent }, now);
            // The last one was stored earlier than the one before: streams interleave.
            let due = [0, 600, 600].map(|ms| pacer.due(at(ms), now) - now);
            assert_eq!(due, wanted.map(Duration::from_millis), "{speed_percent} %");
            assert_eq!(pacer.due(at(-50), now) - now, Duration::ZERO);
        }
    }

    #[test]
    fn what_stood_still_does_not_hurry_after() {
        let begun = Instant::now();
        let mut pacer = Pacer::new(Pace::Rate { per_second: 10 }, begun);
        pacer.due(at(0), begun);
        let later = begun + Duration::from_secs(60);
        assert_eq!(pacer.due(at(0), later), later);
        assert_eq!(pacer.due(at(0), later) - later, Duration::from_millis(100), "and not sixty seconds ago");
    }
}
