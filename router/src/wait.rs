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
/// What was seen so long ago counts 1/e of what is seen now, seconds: several jobs of a slow model, so that one of them says little.
const REMEMBERED_S: f64 = 60.0;
/// Longest wait that is told, milliseconds.
const WAIT_MS_MAX: f64 = 3_600_000.0;

/// One queue as it was looked at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Look {
    /// Messages that wait for a worker. What a worker has taken up runs, however long.
    pub(crate) waiting: u64,
    /// Seconds since some start.
    pub(crate) at_s: f64,
    /// Messages that workers are done with, since some start.
    pub(crate) done: u64,
}

/// The running estimate of one queue: what was done while some waited, and how long that took, the older the less.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Estimate {
    last: Option<Look>,
    done: f64,
    seconds: f64,
}

impl Estimate {
    /// The estimate after another look, and the expected wait in milliseconds; none while the rate is not known.
    pub(crate) fn after(self, look: Look) -> (Self, Option<u64>) {
        let mut now = Self { last: Some(look), ..self };
        // A queue in which nothing waits says nothing of how fast it could be.
        if let Some(last) = self.last.filter(|last| last.waiting > 0 && look.at_s > last.at_s) {
            let seconds = look.at_s - last.at_s;
            let kept = (-seconds / REMEMBERED_S).exp();
            now.done = self.done * kept + look.done.saturating_sub(last.done) as f64;
            now.seconds = self.seconds * kept + seconds;
        }
        let rate = now.done / now.seconds;
        let wait = match look.waiting {
            0 => Some(0.0),
            _ if now.done <= 0.0 => None,
            waiting => Some((waiting as f64 / rate * 1e3).min(WAIT_MS_MAX)),
        };
        (now, wait.map(|ms| ms as u64))
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
                waiting: state.pending,
                at_s: start.elapsed().as_secs_f64(),
                done: state.deliveries.saturating_sub(state.ack_pending),
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

    fn look(waiting: u64, at_s: f64, done: u64) -> Look {
        Look { waiting, at_s, done }
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

    /// Waits as told, twice a second: one slot, each job so long, and messages behind it.
    fn waits(job_s: f64, seconds: u32, waiting: u64) -> Vec<u64> {
        let mut estimate = Estimate::default();
        let told = (0..seconds * 2).filter_map(|n| {
            let at_s = f64::from(n) / 2.0;
            let (next, wait) = estimate.after(look(waiting, at_s, (at_s / job_s) as u64));
            estimate = next;
            wait
        });
        told.collect()
    }

    #[test]
    fn a_slow_job_does_not_make_a_queue_look_full() {
        // Nothing waits behind it: its pool is free, however long it runs.
        assert!(waits(30.0, 300, 0).into_iter().all(|ms| ms == 0));
        // One waits, and is told about the time of a job, whenever one looks.
        let told = waits(8.0, 600, 1);
        let settled = told.get(200..).unwrap_or_default();
        assert!(settled.iter().all(|ms| (6_000..=11_000).contains(ms)), "{settled:?}");
        // Negative control: many that wait do wait.
        assert!(waits(8.0, 600, 50).last().is_some_and(|ms| *ms > 300_000));
    }

    #[test]
    fn a_queue_that_stands_still_is_told_as_ever_longer() {
        let (estimate, _) = Estimate::default().after(look(4, 0.0, 0));
        let (mut estimate, before) = estimate.after(look(4, 1.0, 4));
        assert_eq!(before, Some(1_000));
        let mut after = before;
        for second in 2..400 {
            (estimate, after) = estimate.after(look(4, f64::from(second), 4));
        }
        assert!(after.is_some_and(|ms| ms > 300_000), "{after:?}");
    }
}
