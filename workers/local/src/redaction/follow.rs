//! Following a redacted task's pieces: they come as drafts with tokens in them, and go on to the producer with values in their
//! place. Whoever redacted the task follows, since it knows the tokens already; should it end, the result still comes whole.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use jiff::Timestamp;
use tidegate_bus::{Bus, CancellationToken, CoreStream};
use tidegate_schemas::header::Headers;
use tidegate_schemas::json;
use tidegate_schemas::limits::MESSAGE_BYTES_MAX;
use tidegate_schemas::live::Delta;
use tidegate_schemas::redact::Restorer;
use tidegate_schemas::subject;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::job::{Job, Known};

/// Tasks followed at once, count; beyond it a task's pieces are not passed on.
const FOLLOWED_MAX: usize = 4_096;

/// The tasks that are followed. They end with their last piece, at their deadline, or with the process.
#[derive(Default)]
pub(crate) struct Followers {
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Followers {
    /// Listens to a task's drafts from now on.
    pub(super) async fn follow(&self, bus: &Bus, job: &Job, known: Known) {
        if self.tracker.len() >= FOLLOWED_MAX {
            warn!("Too many redacted tasks stream at once; the pieces of one are left out.");
            return;
        }
        let (tenant, agent, task) = (&job.tenant, &job.hop.agent, job.hop.id);
        let drafts = match bus.subscribe_core(&subject::draft(tenant, agent, task)).await {
            Ok(drafts) => drafts,
            Err(error) => {
                debug!(%error, "Drafts cannot be heard.");
                return;
            }
        };
        // The server has to know before anything can leave.
        if bus.flush().await.is_err() {
            return;
        }
        let left = Duration::try_from(job.hop.deadline.duration_since(Timestamp::now())).unwrap_or_default();
        let (bus, to, stop) = (bus.clone(), subject::delta(tenant, agent, task), self.stop.clone());
        self.tracker.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(left) => {}
                () = pass_on(&bus, drafts, &to, &known) => {}
            }
        });
    }

    /// Ends them all.
    pub(crate) async fn stop(&self) {
        self.stop.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}

async fn pass_on(bus: &Bus, mut drafts: CoreStream, to: &str, known: &Known) {
    let mut pieces = Pieces::new(known);
    while let Some(draft) = drafts.next().await {
        let Ok(delta) = json::read::<Delta<'_>>(&draft.payload, MESSAGE_BYTES_MAX) else { continue };
        let last = delta.last;
        for piece in pieces.next(&delta) {
            let payload = Bytes::from(serde_json::to_vec(&piece).unwrap_or_default());
            if let Err(error) = bus.publish_core(to, &Headers::new(), payload).await {
                debug!(%error, "A piece could not be told.");
            }
        }
        if last {
            return;
        }
    }
}

/// Pieces of one attempt after the other, restored.
pub(super) struct Pieces<'k> {
    known: &'k BTreeMap<tidegate_schemas::redact::Token, tidegate_schemas::sensitive::Sensitive<String>>,
    restorer: Restorer<'k>,
    attempt: u32,
    index: u32,
}

impl<'k> Pieces<'k> {
    pub(super) fn new(known: &'k Known) -> Self {
        Self { known, restorer: Restorer::new(known), attempt: 0, index: 0 }
    }

    /// What can be told once this piece has come. Values are whole, and what is between them is as it came, so both are text.
    pub(super) fn next(&mut self, delta: &Delta<'_>) -> Vec<Delta<'static>> {
        if delta.attempt != self.attempt {
            *self = Self { attempt: delta.attempt, ..Self::new(self.known) };
        }
        let mut text = self.restorer.feed(delta.text.as_bytes());
        if delta.last {
            let ended = std::mem::replace(&mut self.restorer, Restorer::new(self.known));
            text.extend(ended.finish().0);
        }
        let mut pieces = Vec::new();
        if !text.is_empty() {
            pieces.push(self.piece(&text, false));
        }
        if delta.last {
            pieces.push(self.piece(&[], true));
        }
        pieces
    }

    fn piece(&mut self, text: &[u8], last: bool) -> Delta<'static> {
        let index = self.index;
        self.index = self.index.saturating_add(1);
        let text = String::from_utf8_lossy(text).into_owned().into();
        Delta { attempt: self.attempt, index, text, last }
    }
}
