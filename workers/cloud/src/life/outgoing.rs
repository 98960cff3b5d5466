//! Messages that the worker sends: attempts, results, steps, and what it tells on the way.

use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;
use tidegate_providers::Failure;
use tidegate_schemas::attempt::{Attempt, Phase};
use tidegate_schemas::code::Code;
use tidegate_schemas::digest::Digest;
use tidegate_schemas::header::{self, Headers};
use tidegate_schemas::live::Transition;
use tidegate_schemas::result::{State, TaskResult, Usage};
use tidegate_schemas::step::{Step, StepReason};
use tidegate_schemas::subject::{self, Lane, Subject};

use super::work::{Envelope, Work};
use super::{Message, Telling};

/// What a call made, should nobody want it any more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Unused {
    pub(super) usage: Usage,
    pub(super) cost_usd_micros: Option<u64>,
    pub(super) output: Option<Digest>,
}

impl Unused {
    /// What was paid for without an output.
    pub(super) fn spent(usage: Option<Usage>, cost_usd_micros: Option<u64>) -> Self {
        Self { usage: usage.unwrap_or_default(), cost_usd_micros, output: None }
    }
}

/// JSON of one of our own types.
fn json<T: Serialize>(value: &T) -> Bytes {
    // Our wire types hold only what JSON can write; should that ever fail, an empty payload is refused by every reader.
    serde_json::to_vec(value).unwrap_or_default().into()
}

fn typed(headers: Headers) -> Headers {
    headers.with("content-type", "application/json")
}

/// A terminal result, caused by the work. Its id names its bytes: another run's answer to the same ticket is another message,
/// which the subject refuses, and not a duplicate that counts as sent.
pub(super) fn result(work: &Work, result: &TaskResult) -> Message {
    let Envelope { tenant, hop, position, decision, salt, .. } = &work.envelope;
    let payload = json(result);
    Message {
        msg_id: hop.msg_id(tenant, &format!("result-{}", salt.digest(&payload)), 0),
        subject: work.result_subject(),
        headers: typed(result.headers(hop.headers(position), Some(&decision.labels))),
        payload,
    }
}

/// The record, and the claim, that an attempt is about to begin.
pub(super) fn started(work: &Work, number: u32, host: &str, now: Timestamp) -> Message {
    attempt(work, "attempt", number, Phase::Started, host, now)
}

/// The record that an attempt failed and another follows.
pub(super) fn retried(work: &Work, number: u32, failure: Failure, host: &str, now: Timestamp) -> Message {
    let phase = Phase::Retried { code: failure.code(), status: failure.status() };
    attempt(work, "retried", number, phase, host, now)
}

/// The record that the last attempt failed and the work goes back.
pub(super) fn returned(
    work: &Work,
    number: u32,
    (code, status): (Code, Option<u16>),
    host: &str,
    now: Timestamp,
) -> Message {
    let phase = Phase::Returned { code, status };
    attempt(work, "returned", number, phase, host, now)
}

/// The record that an answer is not used.
pub(super) fn late(work: &Work, number: u32, unused: Unused, host: &str, now: Timestamp) -> Message {
    let Unused { usage, cost_usd_micros, output } = unused;
    attempt(work, "late", number, Phase::Late { usage, cost_usd_micros, output }, host, now)
}

fn attempt(work: &Work, step: &str, number: u32, phase: Phase, host: &str, now: Timestamp) -> Message {
    let Envelope { tenant, hop, position, .. } = &work.envelope;
    let claims = work.claims();
    let attempt = Attempt {
        schema_version: 1,
        task: hop.id,
        agent: hop.agent.clone(),
        attempt: number,
        phase,
        at: now,
        target: claims.provider.clone(),
        model: claims.model.clone(),
        ticket: Some(claims.id),
        content: Some(claims.content),
        content_bytes: Some(claims.content_bytes),
        host: Some(host.to_owned()),
    };
    Message {
        msg_id: hop.msg_id(tenant, &format!("{step}-{}", claims.id), number),
        subject: Subject::Attempt(Lane::Cloud, tenant.clone()).to_string(),
        headers: typed(hop.headers(position)),
        payload: json(&attempt),
    }
}

/// The work goes back to the router.
pub(super) fn step(envelope: &Envelope, reason: StepReason, attempts: u32) -> Message {
    let Envelope { tenant, hop, position, destination, .. } = envelope;
    let step = Step { schema_version: 1, reason, destination: destination.name.clone(), attempts };
    Message {
        msg_id: hop.msg_id(tenant, &format!("step-hop{}", hop.hop), 0),
        subject: Subject::Step(Lane::Cloud, tenant.clone()).to_string(),
        headers: typed(hop.headers(position)),
        payload: json(&step),
    }
}

/// The provider's answer to a redacted task goes back to the router, on its way to where values are put back.
pub(super) fn restore(work: &Work, result: TaskResult, attempts: u32) -> Message {
    let message = step(&work.envelope, StepReason::Restore { result: Box::new(result) }, attempts);
    let Envelope { tenant, hop, .. } = &work.envelope;
    Message {
        msg_id: hop.msg_id(tenant, &format!("restore-hop{}", hop.hop), 0),
        headers: message.headers.with(header::OUTPUT, RESTORE),
        ..message
    }
}

/// Whether a message holds an answer that may be paid for.
pub(crate) fn is_answer(message: &Message) -> bool {
    message.subject.starts_with("result.") || message.headers.get(header::OUTPUT) == Some(RESTORE)
}

/// Form of an answer that is to be restored.
const RESTORE: &str = "restore";

/// That the task is being worked on, and by which decision.
pub(super) fn working(work: &Work) -> Telling {
    let Envelope { tenant, hop, decision, .. } = &work.envelope;
    Telling {
        subject: subject::state(tenant, &hop.agent, hop.id),
        headers: Headers::new(),
        payload: json(&Transition::new(hop.id, State::Working, Some(decision))),
    }
}

/// That the task ended by this result: the transition, and the result again for a producer that named a reply token.
pub(super) fn told(work: &Work, message: &Message) -> Vec<Telling> {
    let Envelope { tenant, hop, decision, .. } = &work.envelope;
    if !message.subject.starts_with("result.") {
        // It has not ended yet.
        return Vec::new();
    }
    let state = message.headers.get(header::STATE).and_then(State::of);
    let transition = state.map(|state| Telling {
        subject: subject::state(tenant, &hop.agent, hop.id),
        headers: Headers::new(),
        // The decision's sentence says why it ran here, not how it ended.
        payload: json(&Transition { sentence: None, ..Transition::new(hop.id, state, Some(decision)) }),
    });
    transition.into_iter().chain(reply(work, message)).collect()
}

/// The result again, for a producer that named a reply token.
pub(super) fn reply(work: &Work, message: &Message) -> Option<Telling> {
    let Envelope { tenant, hop, .. } = &work.envelope;
    hop.reply.as_ref().map(|token| Telling {
        subject: subject::reply(tenant, &hop.agent, token),
        headers: message.headers.clone(),
        payload: message.payload.clone(),
    })
}
