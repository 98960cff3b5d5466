//! The handler of one provider's queue: performs what [`crate::life`] decides.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tidegate_bus::{Bus, Dead, Handler, Health, Inbound, Verdict};
use tidegate_providers::{Client, Control, Failure};
use tidegate_schemas::code::Code;
use tidegate_schemas::decision::{Decision, Owners, Switch};
use tidegate_schemas::subject::{RESULTS, Subject};
use tidegate_schemas::ticket::Verifier;
use tidegate_schemas::work::Hop;
use tidegate_schemas::{header, metric};
use tracing::{debug, error, info, warn};
use uuid::Uuid;

use crate::call::Attendant;
use crate::desk::{Desk, Whose};
use crate::gate::Gate;
use crate::life::{
    Action, Arrived, Call, Context, Disposition, Event, Life, Message, Sent, Step, Telling, is_answer,
};
use crate::send::send;

/// Wait while an earlier delivery of the same message is under way here, milliseconds.
const SEATED_MS: u64 = 500;
/// Wait after the bus would not do what is needed, milliseconds.
const BUS_FAILED_MS: u64 = 2_000;

/// Handles the work of one provider.
#[derive(Clone)]
pub(crate) struct Worker {
    pub(crate) bus: Bus,
    pub(crate) client: Arc<Client>,
    pub(crate) verifier: Arc<Verifier>,
    pub(crate) desk: Arc<Desk>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) health: Health,
    /// How long a message that is no result is tried again.
    pub(crate) patience: Duration,
}

impl Handler for Worker {
    async fn handle(&self, message: &Inbound) -> Verdict {
        let Some(_seat) = self.desk.seat(message.sequence) else {
            return retry(SEATED_MS);
        };
        match self.live(&arrived(message)).await {
            Ok(Disposition::Ack) => Verdict::Done,
            Ok(Disposition::Retry { after_ms }) => retry(after_ms),
            Ok(Disposition::Dead(refused)) => {
                let dead = Dead::new(refused.code, refused.sentence);
                Verdict::Dead(Box::new(Dead { owners: owners(message), ..dead }))
            }
            Err(error) => {
                error!(position = %message.position(), %error, "Work was put off.");
                self.health.error(error);
                retry(BUS_FAILED_MS)
            }
        }
    }

    /// No result: an unread ticket permits nothing, not even to end its task. The deadline ends it.
    fn poison(&self, message: &Inbound) -> Dead {
        let dead = Dead::new(Code::Poison, "the work made its worker fail again and again; it was given up");
        Dead { owners: owners(message), ..dead }
    }
}

/// Whom to ask: the owners of the bundle that decided, and of the destination and model that it chose.
fn owners(message: &Inbound) -> Owners {
    let decision = message.header(header::DECISION).and_then(|text| serde_json::from_str(text).ok());
    decision.map(|decision: Decision| decision.owners()).unwrap_or_default()
}

impl Worker {
    /// Lives a message's life to its end; an error means that the bus would not do what is needed.
    async fn live(&self, message: &Arrived) -> Result<Disposition, String> {
        let whose = whose(message);
        let off = self.desk.off();
        let (mut life, mut step) = Life::begin(message, &self.context(&off, whose.as_ref()));
        if let Some(reason) = life.refusal() {
            metrics::counter!(metric::TICKETS_REFUSED, "reason" => reason).increment(1);
            warn!(position = %message.position, reason, "A ticket was refused; nothing left.");
        }
        loop {
            let Step { tell, action } = step;
            self.tell(tell).await;
            let event = match action {
                Action::Done(disposition) => return Ok(disposition),
                Action::Look(subject) => {
                    let found = self.bus.subject_exists(RESULTS, &subject).await;
                    Event::Looked(found.map_err(|error| error.to_string())?)
                }
                Action::Call(call) => {
                    let Some(whose) = &whose else { return Ok(Disposition::Retry { after_ms: SEATED_MS }) };
                    self.call(*call, &mut life, whose).await?
                }
                Action::Send(message) => {
                    // An answer may be paid for: it waits here until it is stored, and is not asked for anew.
                    let patience = (!is_answer(&message)).then_some(self.patience);
                    let sent =
                        send(&self.bus, &message, patience).await.map_err(|error| error.to_string())?;
                    count(&message, sent);
                    Event::Sent(sent)
                }
                // Asked only inside a call, where the attendant answers.
                Action::Admit(_) | Action::Claim(_) | Action::Open | Action::Shut | Action::Note(_) => {
                    return Ok(Disposition::Retry { after_ms: SEATED_MS });
                }
            };
            let off = self.desk.off();
            step = life.next(event, &self.context(&off, whose.as_ref()));
        }
    }

    pub(crate) async fn tell(&self, tell: Vec<Telling>) {
        for Telling { subject, headers, payload } in tell {
            if let Err(error) = self.bus.publish_core(&subject, &headers, payload).await {
                debug!(%error, "A transition could not be told.");
            }
        }
    }

    async fn call(&self, call: Call, life: &mut Life, whose: &Whose) -> Result<Event, String> {
        let Call { cleared, deadline, deltas } = call;
        let claims = cleared.claims();
        let calling = self.desk.call(whose.clone());
        let control = Control {
            attempts_max: claims.attempts_max,
            deadline,
            cancel: calling.withdrawn.clone(),
            publish: true,
        };
        let mut attendant = Attendant {
            worker: self,
            life,
            whose,
            provider: claims.provider.as_str(),
            bytes: claims.content_bytes,
            cost_usd_micros_max: self.client.cost_usd_micros_max(&cleared),
            deltas,
            index: 0,
            pass: None,
            broken: None,
        };
        let outcome = self.client.send(&cleared, &control, &mut attendant).await;
        attendant.finish().await;
        attendant.settle(&outcome).await;
        if let Some(error) = attendant.broken {
            return Err(error);
        }
        self.note(&outcome, claims.provider.as_str(), whose, &life.owners());
        Ok(Event::Called(outcome.map(Box::new)))
    }

    fn note(
        &self,
        outcome: &Result<tidegate_providers::Answer, tidegate_providers::ProviderError>,
        provider: &str,
        (tenant, task): &Whose,
        owners: &Owners,
    ) {
        match outcome {
            Ok(answer) => {
                let (request_id, run_ms) = (answer.request_id.as_deref(), answer.run_ms);
                info!(%tenant, %task, provider, attempts = answer.attempts, run_ms, request_id, "Provider answered.");
            }
            Err(error) => {
                let request_id = error.request_id.as_deref();
                warn!(%tenant, %task, provider, attempts = error.attempts, request_id, ask = %owners, %error, "Provider gave no answer.");
                // What an operator must see to: keys, endpoints, quotas.
                let ours = matches!(
                    error.failure,
                    Failure::NotPermitted(_)
                        | Failure::Address
                        | Failure::Redirect
                        | Failure::Quota
                        | Failure::Status(401 | 403 | 404)
                );
                if ours {
                    self.health.error(format!("provider `{provider}`: {error}; ask {owners}"));
                }
            }
        }
    }

    pub(crate) fn context<'a>(&'a self, off: &'a [Switch], whose: Option<&Whose>) -> Context<'a> {
        Context {
            now: Timestamp::now(),
            verifier: &self.verifier,
            off,
            canceled: whose.is_some_and(|whose| self.desk.is_canceled(whose)),
        }
    }
}

fn arrived(message: &Inbound) -> Arrived {
    Arrived {
        position: message.position(),
        subject: message.subject.clone(),
        headers: message.trusted_headers(),
        payload: message.payload.clone(),
        span: Uuid::new_v4().as_u64_pair().1,
    }
}

/// The task that a message belongs to, as its subject and headers say.
fn whose(message: &Arrived) -> Option<Whose> {
    let tenant = Subject::parse(&message.subject).ok()?.tenant()?.clone();
    Some((tenant, Hop::read(&message.headers).ok()?.id))
}

fn retry(after_ms: u64) -> Verdict {
    Verdict::Retry { after: Duration::from_millis(after_ms) }
}

/// Counts results; what else is sent is counted where it is decided.
fn count(message: &Message, sent: Sent) {
    if sent != Sent::Stored || !message.subject.starts_with("result.") {
        return;
    }
    let word = |name: &str| message.headers.get(name).unwrap_or("none").to_owned();
    metrics::counter!(metric::RESULTS, "state" => word(header::STATE), "code" => word(header::CODE))
        .increment(1);
}
