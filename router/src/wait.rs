//! How long work would wait in each queue: what waits, over how fast it is taken. Polled, not asked for each task.

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate_bus::{Bus, ConsumerSpec};
use tidegate_schemas::ids::Name;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::knowledge::Knowledge;

/// Between two looks at the queues.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Weight of the newest rate in its running average.
const NEWEST: f64 = 0.3;
/// Longest wait that is told, milliseconds.
const WAIT_MS_MAX: f64 = 3_600_000.0;

/// One queue as it was looked at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Look {
    /// Messages that wait: not delivered, or not yet acknowledged.
    pub(crate) waiting: u64,
    /// Seconds since some start.
    pub(crate) at_s: f64,
    /// Messages that were put in and are gone, since some start.
    pub(crate) taken: u64,
}

/// The running estimate of one queue.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Estimate {
    last: Option<Look>,
    rate: Option<f64>,
}

impl Look {
    fn rate_since(&self, before: &Self) -> Option<f64> {
        let seconds = self.at_s - before.at_s;
        let taken = self.taken.saturating_sub(before.taken);
        // An idle queue says nothing of how fast it could be.
        (seconds > 0.0 && before.waiting > 0).then(|| taken as f64 / seconds)
    }
}

impl Estimate {
    /// The estimate after another look, and the expected wait in milliseconds; none while the rate is not known.
    pub(crate) fn after(self, look: Look) -> (Self, Option<u64>) {
        let newest = self.last.as_ref().and_then(|last| look.rate_since(last));
        let rate = match (self.rate, newest) {
            (Some(rate), Some(newest)) => Some(rate * (1.0 - NEWEST) + newest * NEWEST),
            (rate, newest) => rate.or(newest),
        };
        let wait = match rate {
            _ if look.waiting == 0 => Some(0.0),
            Some(rate) if rate > 0.0 => Some((look.waiting as f64 / rate * 1e3).min(WAIT_MS_MAX)),
            _ => None,
        };
        (Self { last: Some(look), rate }, wait.map(|ms| ms as u64))
    }
}

/// Looks at the queues of all destinations until shutdown.
pub(crate) async fn watch(bus: Bus, known: watch::Sender<Knowledge>, shutdown: CancellationToken) {
    let start = tokio::time::Instant::now();
    let mut estimates: BTreeMap<Name, Estimate> = BTreeMap::new();
    let mut tick = tokio::time::interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = tick.tick() => {}
        }
        let mut waits = BTreeMap::new();
        for (name, consumer) in queues(&known) {
            let Ok(state) = bus.consumer_info(&consumer.stream, &consumer.durable_name).await else {
                continue;
            };
            let look = Look {
                waiting: state.pending + state.ack_pending,
                at_s: start.elapsed().as_secs_f64(),
                taken: state.ack_floor,
            };
            let (estimate, wait) = estimates.get(&name).copied().unwrap_or_default().after(look);
            estimates.insert(name.clone(), estimate);
            if let Some(ms) = wait {
                waits.insert(name, ms);
            }
        }
        known.send_if_modified(|known| {
            let changed = *known.wait_ms != waits;
            known.wait_ms = std::sync::Arc::new(waits);
            changed
        });
    }
}

fn queues(known: &watch::Sender<Knowledge>) -> BTreeMap<Name, ConsumerSpec> {
    let release = known.borrow().release.clone();
    let queue = |d: &tidegate_policies::DestinationSpec| {
        let spec = match d.lane {
            tidegate_schemas::subject::Lane::Local => tidegate_bus::topology::pool_consumer(&d.target),
            tidegate_schemas::subject::Lane::Cloud => tidegate_bus::topology::provider_consumer(&d.target),
        };
        (d.target.clone(), spec)
    };
    let scan = tidegate_schemas::scan::pool();
    let scan = (scan.clone(), tidegate_bus::topology::pool_consumer(&scan));
    let all = release.deciding().flat_map(|judges| judges.bundle().destinations()).map(queue);
    all.chain([scan]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(waiting: u64, at_s: f64, taken: u64) -> Look {
        Look { waiting, at_s, taken }
    }

    #[test]
    fn the_wait_is_what_waits_over_how_fast_it_is_taken() {
        let (estimate, first) = Estimate::default().after(look(10, 0.0, 0));
        assert_eq!(first, None, "nothing is known of the rate yet");
        let (estimate, second) = estimate.after(look(20, 1.0, 10));
        assert_eq!(second, Some(2_000));
        let (estimate, third) = estimate.after(look(0, 2.0, 30));
        assert_eq!(third, Some(0));
        let (_, fourth) = estimate.after(look(5, 3.0, 30));
        assert!(fourth.is_some_and(|ms| ms > 0 && ms < 1_000), "an idle second does not lower the rate");
    }

    #[test]
    fn a_queue_that_nobody_takes_from_has_no_estimate() {
        let (estimate, _) = Estimate::default().after(look(3, 0.0, 0));
        let (_, wait) = estimate.after(look(3, 1.0, 0));
        assert_eq!(wait, None);
    }
}
