//! A task id that was used before. The same body: its first result again. Another body: rejected `id_conflict`, under an
//! id of its own. Our own message delivered again: nothing to do. Where the producer waits is no part of what it asks: the
//! same body with another reply token is the same.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use tidegate_schemas::code::Code;
use tidegate_schemas::header;
use tidegate_schemas::ids::{Position, TaskId};
use tidegate_schemas::json;
use tidegate_schemas::limits::TASK_BYTES_MAX;
use tidegate_schemas::result::{State, TaskResult};

use super::context::Context;
use super::task::Sending;
use super::{Action, Event, Place, Sent, Step, Stored, outgoing};

#[derive(Debug)]
pub(super) struct Conflict {
    sending: Sending,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// Waits for the first message of this id: a work, review or result.
    First,
    /// Waits for the first task's own message, and for its result.
    Original,
    /// Rejected under another id; waits for the stream.
    Told,
}

type Next = (Option<Conflict>, Step);

/// The stream knows the idempotency key.
pub(super) fn with_message(sending: Sending, first: Position) -> Next {
    let load = Action::Load(vec![Place::At(first)]);
    (Some(Conflict { sending, stage: Stage::First }), Step::new(load))
}

/// The id came with another message before.
pub(super) fn with_original(sending: Sending, original: Position) -> Next {
    let load = Action::Load(vec![Place::At(original), place(&sending)]);
    (Some(Conflict { sending, stage: Stage::Original }), Step::new(load))
}

/// The result's subject is taken.
pub(super) fn with_subject(sending: Sending) -> Next {
    let load = Action::Load(vec![place(&sending)]);
    (Some(Conflict { sending, stage: Stage::First }), Step::new(load))
}

/// The first result is at hand.
pub(super) fn with_result(sending: Sending, result: Stored, message: &Stored) -> Next {
    compare(sending, Some(&result), message)
}

fn place(sending: &Sending) -> Place {
    Place::Result { tenant: sending.tenant.clone(), agent: sending.agent.clone(), task: sending.task }
}

pub(super) fn next(conflict: Conflict, message: &Stored, event: Event, context: &Context<'_>) -> Next {
    let Conflict { sending, stage } = conflict;
    match (stage, event) {
        (Stage::First, Event::Loaded(found)) => {
            let first = found.into_iter().next().flatten();
            compare(sending, first.as_ref(), message)
        }
        (Stage::Original, Event::Loaded(found)) => {
            let mut found = found.into_iter();
            let (original, result) = (found.next().flatten(), found.next().flatten());
            // An original that was trimmed cannot be compared any more: what is not known to be the same is a conflict.
            match original {
                Some(original) if asks_the_same(&original, message) => (None, again(&sending, result)),
                _ => reject(sending, message, context),
            }
        }
        (Stage::Told, Event::Sent(Sent::Stored(_))) => {
            let tell = sending.tell.into_iter().chain(sending.reply).collect();
            (None, Step::ack().telling(tell))
        }
        (Stage::Told, Event::Sent(_)) => (None, Step::ack()),
        _ => (None, Step::dead(Code::Internal, "an answer came out of turn")),
    }
}

/// Whether two messages ask for the same, wherever each wants the answer.
fn asks_the_same(first: &Stored, second: &Stored) -> bool {
    first.subject == second.subject
        && (first.payload == second.payload
            || without_reply(&first.payload)
                .is_some_and(|fields| Some(fields) == without_reply(&second.payload)))
}

/// The fields of an envelope as they stand there, but for the reply token.
fn without_reply(payload: &[u8]) -> Option<BTreeMap<String, String>> {
    let fields: BTreeMap<String, Box<RawValue>> = json::read(payload, TASK_BYTES_MAX).ok()?;
    let others = fields.into_iter().filter(|(name, _)| name != "reply");
    Some(others.map(|(name, value)| (name, value.get().to_owned())).collect())
}

/// Whose message came first: ours (delivered again), or another's.
fn compare(sending: Sending, first: Option<&Stored>, message: &Stored) -> Next {
    // A withdrawal names itself as the task: the producer's own id, which ended before it was routed or while it was.
    let canceled = |first: &&Stored| first.headers.get(header::STATE) == Some(State::Canceled.as_str());
    if let Some(result) = first.filter(canceled) {
        return (None, again(&sending, Some(result.clone())));
    }
    let of: Option<Position> =
        first.and_then(|first| first.headers.get(header::TASK)).and_then(|text| text.parse().ok());
    match of {
        Some(position) if position == message.position => (None, Step::ack()),
        Some(position) => with_original(sending, position),
        // What came first is gone: it was recorded and trimmed, so the task is known and has ended.
        None => {
            let load = Action::Load(vec![Place::At(message.position.clone()), place(&sending)]);
            match first {
                None => (None, Step::ack()),
                Some(_) => (Some(Conflict { sending, stage: Stage::Original }), Step::new(load)),
            }
        }
    }
}

/// The first result again, for a producer that named a token; without a result yet it will come by itself.
fn again(sending: &Sending, result: Option<Stored>) -> Step {
    let Some(result) = result else { return Step::ack() };
    let message = super::Message {
        subject: result.subject,
        msg_id: String::new(),
        headers: result.headers,
        payload: result.payload,
        outcome: None,
        ticket: None,
    };
    let reply = outgoing::reply(&message, &sending.tenant, &sending.agent, sending.token.as_ref());
    Step::ack().telling(reply.into_iter().collect())
}

fn reject(mut sending: Sending, message: &Stored, context: &Context<'_>) -> Next {
    let id = TaskId::from_position(&message.position);
    let sentence = format!("task id {} was used before with another body; use a new id", sending.task);
    let (tenant, agent) = (sending.tenant.clone(), sending.agent.clone());
    let error = outgoing::error_of(Code::IdConflict, sentence);
    let result = TaskResult::ended(tenant.clone(), agent.clone(), id, State::Rejected, error)
        .timed(message.time, context.now);
    let sent = outgoing::result(&result, outgoing::unread(message, id, &agent, context), None, "hop0");
    sending.reply = outgoing::reply(&sent, &tenant, &agent, sending.token.as_ref());
    sending.tell = vec![outgoing::state(&tenant, &agent, id, State::Rejected, None)];
    (Some(Conflict { sending, stage: Stage::Told }), Step::new(Action::Send(sent)))
}
