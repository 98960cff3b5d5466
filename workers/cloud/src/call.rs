//! A call under way: asks [`crate::life`] before each attempt, and passes text on while it comes.

use std::fmt::Display;
use std::time::Duration;

use bytes::Bytes;
use tidegate_bus::Bus;
use tidegate_providers::{Answer, Attempting, Failure, Halt, ProviderError, Witness};
use tidegate_schemas::budget::{Budget, Unit};
use tidegate_schemas::header::Headers;
use tidegate_schemas::live::Delta;
use tidegate_schemas::metric;
use tracing::{debug, warn};

use crate::desk::Whose;
use crate::gate::Pass;
use crate::gate::outcome::Outcome;
use crate::life::{Action, Asked, Event, Life, Sent, Step};
use crate::send::send;
use crate::swap::SwapError;
use crate::worker::Worker;

/// Watches one call on behalf of its life.
pub(crate) struct Attendant<'a> {
    pub(crate) worker: &'a Worker,
    pub(crate) life: &'a mut Life,
    pub(crate) whose: &'a Whose,
    pub(crate) provider: &'a str,
    pub(crate) bytes: u64,
    /// The most that one attempt costs, where its price is known, millionths of a US dollar.
    pub(crate) cost_usd_micros_max: Option<u64>,
    pub(crate) deltas: String,
    /// Pieces passed on.
    pub(crate) index: u32,
    /// What the attempt under way was let through with.
    pub(crate) pass: Option<Pass>,
    /// Why the bus would not do what an attempt needs.
    pub(crate) broken: Option<String>,
}

/// What the price list says is the most of one attempt. Without a price nobody knows, and the ticket's cap is no price: a producer
/// may choose it. So no limit of cost has room for it; where there is none it counts as nothing rather than by a figure made up.
fn most_usd_micros(listed: Option<u64>, budgets: &[Budget]) -> u64 {
    let is_capped =
        budgets.iter().any(|budget| budget.caps.values().any(|cap| cap.of(Unit::UsdMicros).is_some()));
    listed.unwrap_or(if is_capped { u64::MAX } else { 0 })
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

    async fn admit(&mut self, mut asked: Asked) -> Result<Event, SwapError> {
        asked.most.usd_micros = most_usd_micros(self.cost_usd_micros_max, &asked.budgets);
        let (admitted, pass) = self.worker.gate.admit(&asked).await?;
        self.pass = pass;
        Ok(Event::Admitted(admitted))
    }

    async fn give_back(&mut self) {
        if let Some(pass) = self.pass.take() {
            self.worker.gate.give_back(pass).await;
        }
    }

    async fn stop(&mut self, error: impl Display) -> Result<(), Halt> {
        self.give_back().await;
        self.broken = Some(error.to_string());
        Err(Halt)
    }

    /// The call has ended.
    pub(crate) async fn settle(&mut self, outcome: &Result<Answer, ProviderError>) {
        let Some(pass) = self.pass.take() else { return };
        let ended = match outcome {
            Ok(answer) => Outcome::of_answer(answer, pass.most),
            Err(error) => Outcome::of_error(error, pass.most),
        };
        self.worker.gate.settle(pass, ended).await;
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
                Action::Admit(asked) => match self.admit(*asked).await {
                    Ok(admitted) => event = admitted,
                    Err(error) => return self.stop(error).await,
                },
                Action::Claim(message) => {
                    match send(self.bus(), &message, Some(self.worker.patience)).await {
                        Ok(sent) => {
                            if sent != Sent::Stored {
                                self.give_back().await;
                            }
                            event = Event::Claimed(sent);
                        }
                        Err(error) => return self.stop(error).await,
                    }
                }
                Action::Open => {
                    metrics::counter!(metric::ATTEMPTS, "lane" => "cloud").increment(1);
                    metrics::counter!(metric::EGRESS_BYTES, "provider" => self.provider.to_owned())
                        .increment(self.bytes);
                    self.worker.tell(tell).await;
                    return Ok(());
                }
                _ => {
                    self.give_back().await;
                    return Err(Halt);
                }
            }
        }
    }

    async fn fragment(&mut self, text: &str) {
        self.tell(text, false).await;
    }

    async fn retries(&mut self, failure: Failure, pause: Duration) {
        let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        warn!(provider = self.provider, code = %failure.code(), status = failure.status(), pause_ms, "An attempt failed; another follows.");
        if let Some(pass) = self.pass.take() {
            self.worker.gate.settle(pass, Outcome::of_failure(failure)).await;
        }
        if let Action::Note(message) = self.next(Event::Retrying(failure)).action
            && let Err(error) = send(self.bus(), &message, Some(self.worker.patience)).await
        {
            // The next claim meets the same trouble, and nothing leaves then.
            warn!(%error, "The end of an attempt could not be recorded.");
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use serde_json::json;

    use super::*;

    #[test]
    fn budget_of_cost_has_no_room_for_what_has_no_price() {
        let of = json!({ "scope": "tenant", "tenant": "acme" });
        let budgets = |caps: serde_json::Value| -> Vec<Budget> {
            serde_json::from_value(json!([{ "of": of, "caps": caps }])).unwrap()
        };
        let (free, capped) = (
            budgets(json!({ "day": { "requests": 1 } })),
            budgets(json!({ "minute": { "requests": 1 }, "day": { "usd_micros": 9 } })),
        );
        assert_eq!(most_usd_micros(None, &capped), u64::MAX);
        assert_eq!(most_usd_micros(None, &free), 0, "no figure is made up");
        // Negative control: what is listed counts as it is listed.
        assert_eq!((most_usd_micros(Some(7), &capped), most_usd_micros(Some(7), &free)), (7, 7));
    }
}
