//! The handler of one pool: performs what [`crate::life`] decides.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use jiff::Timestamp;
use tidegate_bus::{Bus, Dead, Handler, Health, Inbound, Outbound, Telling, Verdict};
use tidegate_engine::{Engine, JobEvent};
use tidegate_schemas::code::Code;
use tidegate_schemas::decision::Switch;
use tidegate_schemas::header::{self, Headers};
use tidegate_schemas::live::Delta;
use tidegate_schemas::subject::{RESULTS, Subject};
use tidegate_schemas::{metric, work::Hop};
use tracing::{debug, error};
use uuid::Uuid;

use crate::desk::{Desk, Whose};
use crate::inference::{self, Inference};
use crate::life::{
    self, Action, Arrived, Context, Deltas, Disposition, Event, Life, Message, Models, Ran, Step,
};
use crate::send::send;

/// Wait while an earlier delivery of the same message is under way here, milliseconds.
pub(crate) const SEATED_MS: u64 = 500;
/// Wait after the bus would not do what is needed, milliseconds.
pub(crate) const BUS_FAILED_MS: u64 = 2_000;

/// Handles the work of one pool.
#[derive(Debug, Clone)]
pub(crate) struct Worker {
    pub(crate) bus: Bus,
    pub(crate) engine: Engine,
    pub(crate) desk: Arc<Desk>,
    pub(crate) models: Arc<Models>,
    pub(crate) health: Health,
}

impl Handler for Worker {
    async fn handle(&self, message: &Inbound) -> Verdict {
        let Some(_seat) = self.desk.seat(message.sequence) else {
            return retry(SEATED_MS);
        };
        match self.live(&arrived(message)).await {
            Ok(disposition) => verdict(disposition),
            Err(error) => {
                error!(position = %message.position(), %error, "Work was put off.");
                self.health.error(error);
                retry(BUS_FAILED_MS)
            }
        }
    }

    fn poison(&self, message: &Inbound) -> Dead {
        match verdict(Life::poisoned(&arrived(message), Timestamp::now())) {
            Verdict::Dead(dead) => *dead,
            Verdict::Done | Verdict::Retry { .. } => Dead::new(Code::Poison, "the work was given up"),
        }
    }
}

impl Worker {
    /// Lives a message's life to its end; an error means that the bus would not do what is needed.
    async fn live(&self, message: &Arrived) -> Result<Disposition, String> {
        let whose = whose(message);
        let off = self.desk.off();
        let (mut life, mut step) = Life::begin(message, &self.context(&off, whose.as_ref()));
        loop {
            let Step { tell, action } = step;
            for telling in tell {
                self.tell(telling).await;
            }
            let event = match action {
                Action::Done(disposition) => return Ok(disposition),
                Action::Look { tenant, agent, task } => {
                    let subject = Subject::Result { tenant, agent, task }.to_string();
                    // The local zone sees whether there is a result, never the result.
                    let found = self.bus.subject_exists(RESULTS, &subject).await;
                    Event::Looked(found.map_err(|error| error.to_string())?)
                }
                Action::Run(run) => Event::Ran(self.run(*run).await?),
                Action::Send(message) => {
                    let sent = send(&self.bus, &message).await.map_err(|error| error.to_string())?;
                    count(&message, sent);
                    Event::Sent(sent)
                }
            };
            let off = self.desk.off();
            step = life.next(event, &self.context(&off, whose.as_ref()));
        }
    }

    async fn tell(&self, telling: life::Telling) {
        let life::Telling { subject, headers, payload } = telling;
        if let Err(error) = self.bus.publish_core(&subject, &headers, payload).await {
            debug!(%error, "A transition could not be told.");
        }
    }

    fn context<'a>(&'a self, off: &'a [Switch], whose: Option<&Whose>) -> Context<'a> {
        Context {
            now: Timestamp::now(),
            off,
            canceled: whose.is_some_and(|whose| self.desk.is_canceled(whose)),
            models: &self.models,
        }
    }

    async fn run(&self, run: life::Run) -> Result<Ran, String> {
        let life::Run { tenant, task, attempt, working, input, deadline, deltas } = run;
        let left = deadline.duration_since(Timestamp::now());
        let deadline = Instant::now() + Duration::try_from(left).unwrap_or_default();
        let inference = match inference::begin(&self.engine, input, Some(deadline), deltas.is_some()) {
            Ok(inference) => inference,
            Err(error) => return Ok(Ran::NotTaken(error)),
        };
        metrics::counter!(metric::ATTEMPTS, "lane" => "local").increment(1);
        self.tell(working).await;
        let _running = self.desk.run((tenant, task), inference.cancel_flag());
        // The model works while the attempt's record is on its way; nothing leaves this process here, so the record has to
        // be there before the result, not before the run.
        let (recorded, ran) = tokio::join!(send(&self.bus, &attempt), self.follow(inference, deltas));
        recorded.map_err(|error| error.to_string())?;
        Ok(ran)
    }

    /// Follows a job to its end, passing on its pieces where they are wanted.
    async fn follow(&self, mut inference: Inference, deltas: Option<Deltas>) -> Ran {
        let mut next_index = 0;
        let ran = loop {
            match inference.next().await {
                JobEvent::Token { index, text } => {
                    next_index = index + 1;
                    self.tell_delta(deltas.as_ref(), index, &text, false).await;
                }
                JobEvent::Done(output) => {
                    metrics::counter!(metric::TOKENS).increment(output.usage.output_tokens.into());
                    break Ran::Finished(Box::new(output));
                }
                JobEvent::Failed(error, spent) => break Ran::Failed(error, spent),
            }
        };
        self.tell_delta(deltas.as_ref(), next_index, "", true).await;
        ran
    }

    async fn tell_delta(&self, deltas: Option<&Deltas>, index: u32, text: &str, last: bool) {
        let Some(Deltas { subject, attempt }) = deltas else { return };
        let delta = Delta { attempt: *attempt, index, text: text.into(), last };
        let payload = Bytes::from(serde_json::to_vec(&delta).unwrap_or_default());
        if let Err(error) = self.bus.publish_core(subject, &Headers::new(), payload).await {
            // The result holds the whole text; pieces are a courtesy.
            debug!(%error, "A piece could not be told.");
        }
    }
}

pub(crate) fn arrived(message: &Inbound) -> Arrived {
    Arrived {
        position: message.position(),
        subject: message.subject.clone(),
        headers: message.trusted_headers(),
        payload: message.payload.clone(),
        delivered: message.delivered,
        published: message.published,
        span: Uuid::new_v4().as_u64_pair().1,
    }
}

/// The task that a message belongs to, as its subject and headers say.
fn whose(message: &Arrived) -> Option<Whose> {
    let tenant = Subject::parse(&message.subject).ok()?.tenant()?.clone();
    Some((tenant, Hop::read(&message.headers).ok()?.id))
}

fn verdict(disposition: Disposition) -> Verdict {
    match disposition {
        Disposition::Ack => Verdict::Done,
        Disposition::Retry { after_ms } => retry(after_ms),
        Disposition::Dead { refused, result, tell, owners } => {
            let told = |life::Telling { subject, headers, payload }| Telling { subject, headers, payload };
            let tell = tell.into_iter().map(told).collect();
            let mut dead = Dead { owners, tell, ..Dead::new(refused.code, refused.sentence) };
            if let Some((task, message)) = result {
                let Message { subject, msg_id, headers, payload } = *message;
                let outbound = Outbound::new(subject, payload).with_id(msg_id).with_headers(headers);
                dead = dead.with_result(task, outbound);
            }
            Verdict::Dead(Box::new(dead))
        }
    }
}

pub(crate) fn retry(after_ms: u64) -> Verdict {
    Verdict::Retry { after: Duration::from_millis(after_ms) }
}

/// Counts results; what else is sent is counted where it is decided.
pub(crate) fn count(message: &Message, sent: life::Sent) {
    if sent != life::Sent::Stored || !message.subject.starts_with("result.") {
        return;
    }
    let word = |name: &str| message.headers.get(name).unwrap_or("none").to_owned();
    metrics::counter!(metric::RESULTS, "state" => word(header::STATE), "code" => word(header::CODE))
        .increment(1);
}
