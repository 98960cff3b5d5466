//! When checkpoints are taken, and their publishing.
//!
//! A published checkpoint is recorded itself. It is not counted as growth, or there would be one after the other for ever.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use tidegate_audit::Item;
use tidegate_bus::{ApiError, Bus, Outbound};
use tidegate_schemas::checkpoint::SignedCheckpoint;
use tidegate_schemas::header::Headers;
use tidegate_schemas::subject::{EVENTS, Subject};
use tokio::task::JoinSet;
use tracing::warn;

use crate::config::RecorderConfig;
use crate::writer::Signed;

/// Checkpoints on their way at once; more are left out, the next one says more.
const IN_FLIGHT_MAX: usize = 4;

/// The newest checkpoint that the streams hold: whoever follows them may hold the record to it.
///
/// # Errors
/// [`ApiError`]; that there is none is `Ok(None)`.
pub async fn published(bus: &Bus) -> Result<Option<String>, ApiError> {
    let subject = Subject::Checkpoint.to_string();
    let stored = match bus.last_for_subject(EVENTS, &subject).await {
        // No stream is there yet: nothing was published.
        Err(ApiError::NoResponder { .. }) => None,
        other => other?,
    };
    let told = stored.and_then(|stored| serde_json::from_slice::<SignedCheckpoint>(&stored.payload).ok());
    Ok(told.map(|told| told.note))
}

pub(crate) struct Signing {
    bus: Bus,
    every: Duration,
    idle: Duration,
    records_max: u64,
    /// When the last one was begun.
    last: Instant,
    /// Records since then, without checkpoints.
    grown: u64,
    publishing: JoinSet<()>,
}

// === impl Signing ===

impl Signing {
    pub(crate) fn new(bus: Bus, config: &RecorderConfig) -> Self {
        Self {
            bus,
            every: Duration::from_millis(config.checkpoint_ms),
            idle: Duration::from_millis(config.checkpoint_idle_ms),
            records_max: config.checkpoint_records.max(1),
            last: Instant::now(),
            grown: 0,
            publishing: JoinSet::new(),
        }
    }

    /// These are about to be recorded.
    pub(crate) fn grow(&mut self, batch: &[Item]) {
        let checkpoint = Subject::Checkpoint.to_string();
        let counts = |item: &&Item| !matches!(item, Item::Message(entry) if entry.subject == checkpoint);
        self.grown += batch.iter().filter(counts).count() as u64;
    }

    /// Whether it is time for a checkpoint: by count, by time while the record grows, or because none came for long.
    pub(crate) fn is_due(&self) -> bool {
        let since = self.last.elapsed();
        self.grown >= self.records_max || since >= self.idle || (self.grown > 0 && since >= self.every)
    }

    /// Whether there is something that is not signed.
    pub(crate) fn is_behind(&self) -> bool {
        self.grown > 0
    }

    /// One is taken now.
    pub(crate) fn begin(&mut self) {
        (self.last, self.grown) = (Instant::now(), 0);
    }

    /// It came to nothing: there is still something that is not signed.
    pub(crate) fn failed(&mut self) {
        self.grown = self.grown.max(1);
    }

    /// Publishes a checkpoint. One that cannot be published stands in the store and in the checkpoint file all the same.
    pub(crate) fn publish(&mut self, signed: &Signed) {
        while self.publishing.try_join_next().is_some() {}
        if self.publishing.len() >= IN_FLIGHT_MAX {
            return;
        }
        let told = SignedCheckpoint { schema_version: 1, records: signed.records, note: signed.note.clone() };
        // Numbers and text always serialise.
        let payload = serde_json::to_vec(&told).unwrap_or_default();
        let message = Outbound::new(Subject::Checkpoint.to_string(), payload)
            .with_id(format!("checkpoint:{}:{}", signed.records, Timestamp::now().as_millisecond()))
            .with_headers(Headers::new().with("content-type", "application/json"));
        let bus = self.bus.clone();
        self.publishing.spawn(async move {
            if let Err(error) = bus.publish(message).await {
                warn!(%error, "A checkpoint could not be published.");
            }
        });
    }

    /// Waits for those that are on their way.
    pub(crate) async fn end(&mut self) {
        while self.publishing.join_next().await.is_some() {}
    }
}
