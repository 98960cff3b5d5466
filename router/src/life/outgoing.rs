//! Messages that the router sends: results, and what it tells on the way.

use bytes::Bytes;
use serde::Serialize;
use tidegate_schemas::code::{Code, Refused};
use tidegate_schemas::decision::Decision;
use tidegate_schemas::header::{self, Headers};
use tidegate_schemas::ids::{Name, ReplyToken, TaskId};
use tidegate_schemas::live::Transition;
use tidegate_schemas::result::{ResultError, State, TaskResult};
use tidegate_schemas::subject::{self, Subject};
use tidegate_schemas::trace::TraceParent;

use super::{Context, Message, Stored, Telling};

/// JSON of one of our own types.
pub(super) fn json<T: Serialize>(value: &T) -> Bytes {
    // Our wire types hold only what JSON can write; should that ever fail, an empty payload is refused by every reader.
    serde_json::to_vec(value).unwrap_or_default().into()
}

/// A terminal result as a message. `base` are the headers of the hop.
pub(super) fn result(result: &TaskResult, base: Headers, decision: Option<&Decision>, step: &str) -> Message {
    let headers = result
        .headers(base, decision.map(|decision| &decision.labels))
        .with_some(header::DECISION, decision.map(compact))
        .with("content-type", "application/json");
    let (tenant, agent) = (result.tenant.clone(), result.agent.clone());
    Message {
        msg_id: format!("{tenant}/{agent}/{}/{step}/0", result.task),
        subject: Subject::Result { tenant, agent, task: result.task }.to_string(),
        headers,
        payload: json(result),
        outcome: None,
        ticket: None,
    }
}

/// A decision as the value of a header: compact JSON is one line.
pub(super) fn compact(decision: &Decision) -> String {
    serde_json::to_string(decision).unwrap_or_default()
}

/// The result again on `reply.…`, for a producer that named a token.
pub(super) fn reply(
    message: &Message,
    tenant: &Name,
    agent: &Name,
    token: Option<&ReplyToken>,
) -> Option<Telling> {
    token.map(|token| Telling {
        subject: subject::reply(tenant, agent, token),
        headers: message.headers.clone(),
        payload: message.payload.clone(),
    })
}

/// A transition on `state.…`.
pub(super) fn state(
    tenant: &Name,
    agent: &Name,
    task: TaskId,
    state: State,
    decision: Option<&Decision>,
) -> Telling {
    let payload = json(&Transition::new(task, state, decision));
    Telling { subject: subject::state(tenant, agent, task), headers: Headers::new(), payload }
}

/// The error of a refusal.
pub(super) fn error(refused: &Refused) -> ResultError {
    ResultError { code: refused.code, message: refused.sentence.clone(), retry_after_ms: None }
}

/// The error of a code.
pub(super) fn error_of(code: Code, message: impl Into<String>) -> ResultError {
    ResultError { code, message: message.into(), retry_after_ms: None }
}

/// Headers of a result for a message that could not be read as a task: what is known of it.
pub(super) fn unread(message: &Stored, task: TaskId, agent: &Name, context: &Context<'_>) -> Headers {
    let cause = &message.position;
    let trace: Option<TraceParent> =
        message.headers.get(header::TRACEPARENT).and_then(|text| text.parse().ok());
    Headers::new()
        .with_some(header::TRACEPARENT, trace.map(|trace| trace.child(context.random.span).to_string()))
        .with(header::CAUSE, cause.to_string())
        .with(header::TASK, cause.to_string())
        .with(header::TASK_ID, task.to_string())
        .with(header::AGENT, agent.as_str())
}
