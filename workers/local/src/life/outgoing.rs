//! Messages that the worker sends: attempts, results, steps, and what it tells on the way.

use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;
use tidegate_schemas::attempt::{Attempt, Phase};
use tidegate_schemas::decision::Decision;
use tidegate_schemas::digest::Digest;
use tidegate_schemas::header::{self, Headers};
use tidegate_schemas::ids::{Name, Position};
use tidegate_schemas::live::Transition;
use tidegate_schemas::result::{State, TaskResult, Usage};
use tidegate_schemas::step::{Step, StepReason};
use tidegate_schemas::subject::{self, Lane, Subject};
use tidegate_schemas::work::Hop;

use super::work::Work;
use super::{Message, Telling};

/// What a run made, should nobody want it any more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Unused {
    pub(super) usage: Usage,
    pub(super) output: Option<Digest>,
}

/// JSON of one of our own types.
fn json<T: Serialize>(value: &T) -> Bytes {
    // Our wire types hold only what JSON can write; should that ever fail, an empty payload is refused by every reader.
    serde_json::to_vec(value).unwrap_or_default().into()
}

fn typed(headers: Headers) -> Headers {
    headers.with("content-type", "application/json")
}

/// The terminal result of a run. Its id names its bytes, salted as all digests of content are: a duplicate is this very
/// message, sent twice, while the result of another run of the same work finds the subject taken.
pub(super) fn result(work: &Work, result: &TaskResult) -> Message {
    let message = given_up(result, &work.hop, &work.position, Some(&work.decision));
    let bytes = work.salt.digest(&message.payload);
    Message { msg_id: work.hop.msg_id(&work.tenant, &format!("result-{bytes}"), result.attempts), ..message }
}

/// The terminal result of work at `cause` that nobody can run.
pub(super) fn given_up(
    result: &TaskResult,
    hop: &Hop,
    cause: &Position,
    decision: Option<&Decision>,
) -> Message {
    let headers = typed(result.headers(hop.headers(cause), decision.map(|decision| &decision.labels)));
    let (tenant, agent) = (result.tenant.clone(), result.agent.clone());
    Message {
        msg_id: hop.msg_id(&tenant, "result-dead", 0),
        subject: Subject::Result { tenant, agent, task: result.task }.to_string(),
        headers,
        payload: json(result),
    }
}

/// The record that this run begins.
pub(super) fn started(work: &Work, now: Timestamp) -> Message {
    attempt(work, "attempt", Phase::Started, now)
}

/// The record that this run's answer is not used.
pub(super) fn late(work: &Work, unused: Unused, now: Timestamp) -> Message {
    let Unused { usage, output } = unused;
    attempt(work, "late", Phase::Late { usage, cost_usd_micros: Some(0), output }, now)
}

fn attempt(work: &Work, step: &str, phase: Phase, now: Timestamp) -> Message {
    let attempt = Attempt {
        schema_version: 1,
        task: work.hop.id,
        agent: work.hop.agent.clone(),
        attempt: work.attempt,
        phase,
        at: now,
        target: work.pool.clone(),
        model: work.local.model.clone(),
        ticket: None,
        content: None,
        content_bytes: None,
        host: None,
    };
    Message {
        msg_id: work.hop.msg_id(&work.tenant, &format!("{step}-hop{}", work.hop.hop), work.attempt),
        subject: Subject::Attempt(Lane::Local, work.tenant.clone()).to_string(),
        headers: typed(work.hop.headers(&work.position)),
        payload: json(&attempt),
    }
}

/// The work goes back to the router.
pub(super) fn step(work: &Work, reason: StepReason) -> Message {
    let step = Step {
        schema_version: 1,
        reason,
        destination: work.destination.name.clone(),
        attempts: work.attempt.saturating_sub(1),
    };
    Message {
        msg_id: work.hop.msg_id(&work.tenant, &format!("step-hop{}", work.hop.hop), 0),
        subject: Subject::Step(Lane::Local, work.tenant.clone()).to_string(),
        headers: typed(work.hop.headers(&work.position)),
        payload: json(&step),
    }
}

/// That the task is being worked on, and by which decision.
pub(super) fn working(work: &Work) -> Telling {
    Telling {
        subject: subject::state(&work.tenant, &work.hop.agent, work.hop.id),
        headers: Headers::new(),
        payload: json(&Transition::new(work.hop.id, State::Working, Some(&work.decision))),
    }
}

/// That the task ended by this result: the transition, and the result again for a producer that named a reply token.
pub(crate) fn told(tenant: &Name, hop: &Hop, decision: Option<&Decision>, message: &Message) -> Vec<Telling> {
    let state = message.headers.get(header::STATE).and_then(State::of);
    let transition = state.map(|state| Telling {
        subject: subject::state(tenant, &hop.agent, hop.id),
        headers: Headers::new(),
        // The decision's sentence says why it ran here, not how it ended.
        payload: json(&Transition { sentence: None, ..Transition::new(hop.id, state, decision) }),
    });
    transition.into_iter().chain(reply(tenant, hop, message)).collect()
}

/// The result again, for a producer that named a reply token.
pub(super) fn reply(tenant: &Name, hop: &Hop, message: &Message) -> Option<Telling> {
    hop.reply.as_ref().map(|token| Telling {
        subject: subject::reply(tenant, &hop.agent, token),
        headers: message.headers.clone(),
        payload: message.payload.clone(),
    })
}
