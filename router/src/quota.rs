//! How many tasks of each tenant are open, for its quota. The recorder knows; it is asked once a second, not for each task.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidegate_bus::Bus;
use tidegate_schemas::ids::Name;
use tidegate_schemas::subject::QUERY_OPEN;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::knowledge::Knowledge;

/// Between two questions.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// Longest wait for an answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// How long an answer counts. A quota guards the cell's room, not its boundary: without a recorder tasks are still taken.
const COUNTS: Duration = Duration::from_secs(10);

/// Keeps the counts until shutdown.
pub(crate) async fn watch(bus: Bus, known: watch::Sender<Knowledge>, shutdown: CancellationToken) {
    let mut tick = tokio::time::interval(ASK_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut answered = Instant::now();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = tick.tick() => {}
        }
        let open = match ask(&bus).await {
            Some(open) => {
                answered = Instant::now();
                open
            }
            None if answered.elapsed() < COUNTS => continue,
            None => BTreeMap::new(),
        };
        known.send_if_modified(|known| {
            let changed = *known.in_flight != open;
            known.in_flight = Arc::new(open);
            changed
        });
    }
}

async fn ask(bus: &Bus) -> Option<BTreeMap<Name, u64>> {
    let answer = bus.request(QUERY_OPEN, Bytes::new(), ANSWER_WITHIN).await.ok()?;
    serde_json::from_slice(&answer.payload).ok()
}
