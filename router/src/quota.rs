//! What the recorder is asked once a second, not for each task: how many tasks of each tenant are open, for its quota; and
//! whether the record is well, without which nothing may leave.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use tidegate_bus::{Bus, Health};
use tidegate_schemas::standing::Standing;
use tidegate_schemas::subject::QUERY_OPEN;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::egress::{self, Egress, Look};
use crate::knowledge::Knowledge;

/// Between two questions.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// Longest wait for an answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// How long an answer counts. A quota guards the cell's room, not its boundary: without a recorder tasks are still taken.
const COUNTS: Duration = Duration::from_secs(10);
/// What of the process is not ready while nothing may leave.
const PART: &str = "egress";

/// Who asks.
pub(crate) struct Asking {
    bus: Bus,
    known: watch::Sender<Knowledge>,
    health: Health,
    started: Instant,
    answered: Instant,
    watch: egress::Watch,
}

// === impl Asking ===

impl Asking {
    pub(crate) fn new(bus: Bus, known: watch::Sender<Knowledge>, health: Health) -> Self {
        let (started, egress) = (known.borrow().started, known.borrow().egress);
        if let Egress::Closed(why) = egress {
            health.not_ready(PART, why.sentence());
        }
        Self { bus, known, health, started, answered: Instant::now(), watch: egress::Watch::default() }
    }

    /// Asks until shutdown.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        let mut tick = tokio::time::interval(ASK_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = tick.tick() => {}
            }
            self.once().await;
        }
    }

    /// Asks, and notes the answer or that there was none.
    pub(crate) async fn once(&mut self) {
        let standing = ask(&self.bus).await;
        let look = Look { at: self.started.elapsed(), wall: Timestamp::now(), standing };
        let egress = self.watch.after(&look);
        self.tell(egress);
        let open = match look.standing.and_then(|standing| standing.open) {
            Some(open) => {
                self.answered = Instant::now();
                Some(open)
            }
            None if self.answered.elapsed() < COUNTS => None,
            None => Some(BTreeMap::new()),
        };
        self.known.send_if_modified(|known| {
            let counted = open.is_some_and(|open| {
                let changed = *known.in_flight != open;
                known.in_flight = Arc::new(open);
                changed
            });
            let moved = known.egress != Egress::Unwatched && known.egress != egress;
            if moved {
                known.egress = egress;
            }
            counted || moved
        });
    }

    /// Says so when it opens or closes.
    fn tell(&self, egress: Egress) {
        let before = self.known.borrow().egress;
        match (before, egress) {
            (Egress::Unwatched, _) => {}
            (_, Egress::Closed(why)) if before != egress => {
                tracing::warn!(reason = why.sentence(), "Closed the cloud.");
                self.health.not_ready(PART, why.sentence());
            }
            (Egress::Closed(_), Egress::Until(_)) => {
                tracing::info!("Opened the cloud: record and clock are well.");
                self.health.ready(PART);
            }
            _ => {}
        }
    }
}

async fn ask(bus: &Bus) -> Option<Standing> {
    let answer = bus.request(QUERY_OPEN, Bytes::new(), ANSWER_WITHIN).await.ok()?;
    serde_json::from_slice(&answer.payload).ok()
}
