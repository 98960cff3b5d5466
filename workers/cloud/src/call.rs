//! A call under way: asks [`crate::life`] before each attempt, and passes text on while it comes.

use std::time::Duration;

use bytes::Bytes;
use tidegate_bus::Bus;
use tidegate_providers::{Attempting, Failure, Halt, Witness};
use tidegate_schemas::header::Headers;
use tidegate_schemas::live::Delta;
use tidegate_schemas::metric;
use tracing::{debug, warn};

use crate::desk::Whose;
use crate::life::{Action, Event, Life, Step};
use crate::send::send;
use crate::worker::Worker;

/// Watches one call on behalf of its life.
pub(crate) struct Attendant<'a> {
    pub(crate) worker: &'a Worker,
    pub(crate) life: &'a mut Life,
    pub(crate) whose: &'a Whose,
    pub(crate) provider: &'a str,
    pub(crate) bytes: u64,
    pub(crate) deltas: String,
    /// Pieces passed on.
    pub(crate) index: u32,
    /// Why the bus would not do what an attempt needs.
    pub(crate) broken: Option<String>,
}

impl Attendant<'_> {
    fn bus(&self) -> &Bus {
        &self.worker.bus
    }

    fn next(&mut self, event: Event) -> Step {
        let off = self.worker.desk.off();
        let context = self.worker.context(&off, Some(self.whose));
        self.life.next(event, &context)
    }

    async fn tell(&mut self, text: &str, last: bool) {
        let delta = Delta { attempt: self.life.attempt(), index: self.index, text: text.into(), last };
        let payload = Bytes::from(serde_json::to_vec(&delta).unwrap_or_default());
        if let Err(error) = self.bus().publish_core(&self.deltas, &Headers::new(), payload).await {
            // The result holds the whole text; pieces are a courtesy.
            debug!(%error, "A piece could not be told.");
        }
        self.index = self.index.saturating_add(1);
    }

    /// Marks the end of the pieces, where there were any.
    pub(crate) async fn finish(&mut self) {
        if self.index > 0 {
            self.tell("", true).await;
        }
    }
}

impl Witness for Attendant<'_> {
    async fn begins(&mut self, attempt: Attempting<'_>) -> Result<(), Halt> {
        let mut event = Event::Attempting(attempt.host.to_owned());
        loop {
            let Step { tell, action } = self.next(event);
            match action {
                Action::Claim(message) => {
                    match send(self.bus(), &message, Some(self.worker.patience)).await {
                        Ok(sent) => event = Event::Claimed(sent),
                        Err(error) => {
                            self.broken = Some(error.to_string());
                            return Err(Halt);
                        }
                    }
                }
                Action::Open => {
                    metrics::counter!(metric::ATTEMPTS, "lane" => "cloud").increment(1);
                    metrics::counter!(metric::EGRESS_BYTES, "provider" => self.provider.to_owned())
                        .increment(self.bytes);
                    self.worker.tell(tell).await;
                    return Ok(());
                }
                _ => return Err(Halt),
            }
        }
    }

    async fn fragment(&mut self, text: &str) {
        self.tell(text, false).await;
    }

    async fn retries(&mut self, failure: Failure, pause: Duration) {
        let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        warn!(provider = self.provider, code = %failure.code(), status = failure.status(), pause_ms, "An attempt failed; another follows.");
        if let Action::Note(message) = self.next(Event::Retrying(failure)).action
            && let Err(error) = send(self.bus(), &message, Some(self.worker.patience)).await
        {
            // The next claim meets the same trouble, and nothing leaves then.
            warn!(%error, "The end of an attempt could not be recorded.");
        }
    }
}
