//! A task's message: read, decide, send; then, where its id was used before, compare.

use jiff::SignedDuration;
use tidegate_schemas::code::{Code, Refused};
use tidegate_schemas::header;
use tidegate_schemas::ids::{Name, Position, ReplyToken, TaskId, Token};
use tidegate_schemas::json;
use tidegate_schemas::labels::{Labels, Sensitivity};
use tidegate_schemas::limits::HEADERS_BYTES_MAX;
use tidegate_schemas::result::{State, TaskResult};
use tidegate_schemas::scan::ModelScan;
use tidegate_schemas::task::{self as wire, Rejected, Task};

use super::conflict::{self, Conflict};
use super::context::{Context, Earlier};
use super::dispatch::{self, Caused, Coming};
use super::session::{Asking, Raising};
use super::{Action, Event, Place, Sent, Step, Stored, Telling, elapsed, outgoing};

/// The server's duplicate window covers ids that are younger than this.
const FRESH: SignedDuration = SignedDuration::from_mins(9);
/// How far a producer's clock may be ahead of ours.
const AHEAD: SignedDuration = SignedDuration::from_secs(-60);

#[derive(Debug)]
pub(super) enum Stage {
    /// An id that may be older than the duplicate window: is there a result already?
    Known(Box<Task>),
    /// It goes on from another task's result: with which labels?
    Parent(Box<Task>),
    /// It belongs to a session: what has that held?
    Session(Box<Asking>),
    /// Decided; the session is to hold more before anything is sent.
    Raising(Box<Raising>),
    /// Sent; waits for the stream.
    Sent(Box<Sending>),
    /// The id was used before: compares with what came first.
    Conflict(Box<Conflict>),
    Over,
}

/// What was sent, and for which task.
#[derive(Debug)]
pub(super) struct Sending {
    pub(super) tenant: Name,
    pub(super) agent: Name,
    pub(super) task: TaskId,
    pub(super) tell: Vec<Telling>,
    pub(super) reply: Option<Telling>,
    pub(super) token: Option<ReplyToken>,
}

pub(super) fn begin(
    message: &Stored,
    tenant: Name,
    agent: Name,
    kind: &Token,
    context: &Context<'_>,
) -> (Stage, Step) {
    let read = wire::Task::read(&wire::Message {
        tenant: &tenant,
        agent: &agent,
        kind: kind.as_str(),
        headers: &message.headers,
        payload: &message.payload,
        position: &message.position,
        submitted: message.time,
    });
    let id = match &read {
        Ok(task) => task.id,
        Err(rejected) => rejected.id,
    };
    let first = context.recent.first(&tenant, &agent, id);
    if let Some(sequence) = first.filter(|sequence| *sequence != message.position.sequence) {
        // The stream of the one may not be that of the other, so it would not tell.
        let token = match read {
            Ok(task) => task.reply,
            Err(rejected) => rejected.reply,
        };
        let sending = Sending { tenant, agent, task: id, tell: Vec::new(), reply: None, token };
        let original = Position::new(message.position.stream.clone(), sequence);
        return conflicting(conflict::with_original(sending, original));
    }
    match read {
        Err(rejected) => send(
            refuse(message, &tenant, &agent, &rejected, context),
            tenant,
            agent,
            rejected.id,
            rejected.reply,
        ),
        Ok(task) if !fresh(task.id, context) => {
            let place = Place::Result { tenant, agent, task: task.id };
            (Stage::Known(Box::new(task)), Step::new(Action::Load(vec![place])))
        }
        Ok(task) => related(message, task, context),
    }
}

/// A message whose headers cannot be used: rejected under an id of its own.
pub(super) fn refused(
    message: &Stored,
    tenant: Name,
    agent: Name,
    refused: Refused,
    context: &Context<'_>,
) -> (Stage, Step) {
    let id = TaskId::from_position(&message.position);
    let reply = message.headers.get(header::REPLY).and_then(|text| ReplyToken::new(text).ok());
    let rejected = Rejected { id, external_id: None, reply: reply.clone(), refused };
    send(refuse(message, &tenant, &agent, &rejected, context), tenant, agent, id, reply)
}

/// Whether an id was made so recently that the server would know it again: a UUIDv7 carries its time (RFC 9562 §5.7). One from
/// the future says nothing of when it was used first.
fn fresh(id: TaskId, context: &Context<'_>) -> bool {
    let Some(stamp) = id.0.get_timestamp().filter(|_| id.0.get_version_num() == 7) else { return false };
    let (seconds, nanos) = stamp.to_unix();
    let made = i64::try_from(seconds)
        .ok()
        .and_then(|s| jiff::Timestamp::new(s, i32::try_from(nanos).unwrap_or(0)).ok());
    made.is_some_and(|made| (AHEAD..FRESH).contains(&elapsed(made, context.now)))
}

/// Looks first at the result that a task goes on from.
fn related(message: &Stored, task: Task, context: &Context<'_>) -> (Stage, Step) {
    match task.parent_task {
        Some(parent) => {
            let place = Place::Parent { tenant: task.tenant.clone(), task: parent };
            (Stage::Parent(Box::new(task)), Step::new(Action::Load(vec![place])))
        }
        None => dispatch(message, &task, None, context),
    }
}

/// What a task inherits from the result that it goes on from. Of one that is not there nothing is known: it may have been
/// anything, so it counts as the most restrictive.
fn inherited(parent: Option<&Stored>) -> Labels {
    let labels = parent.and_then(|result| result.headers.get(header::LABELS));
    let labels = labels.and_then(|text| json::read(text.as_bytes(), HEADERS_BYTES_MAX).ok());
    labels.unwrap_or_else(|| Labels::of(Sensitivity::Restricted))
}

fn dispatch(
    message: &Stored,
    task: &Task,
    inherited: Option<Labels>,
    context: &Context<'_>,
) -> (Stage, Step) {
    if let Some(asking) = Asking::of(task, inherited.as_ref()) {
        let recall = asking.recall();
        return (Stage::Session(Box::new(asking)), recall);
    }
    send_for(decide(message, task, inherited, None, context), task)
}

/// Decides a task whose session has held this.
fn in_session(
    message: &Stored,
    asking: Asking,
    held: Option<(Labels, u64)>,
    context: &Context<'_>,
) -> (Stage, Step) {
    let labels = held.as_ref().map(|(labels, _)| labels.clone());
    let caused = decide(message, &asking.task, asking.inherited.clone(), labels, context);
    match asking.raise(&caused, held.as_ref()) {
        Some(remember) => (Stage::Raising(Box::new(Raising { asking, caused })), remember),
        None => send_for(caused, &asking.task),
    }
}

fn decide(
    message: &Stored,
    task: &Task,
    inherited: Option<Labels>,
    session: Option<Labels>,
    context: &Context<'_>,
) -> Caused {
    // What a scan found would have to raise the session before anything of it went on, and is known one step too late for that.
    let model_scan = if task.session.is_some() { ModelScan::Closed } else { ModelScan::Open };
    let earlier = Earlier { inherited, session, model_scan, ..Earlier::default() };
    let coming = Coming { earlier, ..Coming::default() };
    dispatch::decide(task, &message.payload, &message.position, coming, context)
}

fn send_for(caused: Caused, task: &Task) -> (Stage, Step) {
    send(caused, task.tenant.clone(), task.agent.clone(), task.id, task.reply.clone())
}

fn send(caused: Caused, tenant: Name, agent: Name, task: TaskId, token: Option<ReplyToken>) -> (Stage, Step) {
    let sending = Sending { tenant, agent, task, tell: caused.tell, reply: caused.reply, token };
    (Stage::Sent(Box::new(sending)), Step::new(Action::Send(caused.message)))
}

/// The rejected result of a message that is no task.
fn refuse(
    message: &Stored,
    tenant: &Name,
    agent: &Name,
    rejected: &Rejected,
    context: &Context<'_>,
) -> Caused {
    let mut result = TaskResult::ended(
        tenant.clone(),
        agent.clone(),
        rejected.id,
        State::Rejected,
        outgoing::error(&rejected.refused),
    )
    .timed(message.time, context.now);
    result.external_id = rejected.external_id.clone();
    let base = outgoing::unread(message, rejected.id, agent, context);
    let sent = outgoing::result(&result, base, None, "hop0");
    let reply = outgoing::reply(&sent, tenant, agent, rejected.reply.as_ref());
    let tell = vec![outgoing::state(tenant, agent, rejected.id, State::Rejected, None)];
    Caused { message: sent, tell, reply }
}

pub(super) fn next(stage: &mut Stage, message: &Stored, event: Event, context: &Context<'_>) -> Step {
    let (then, step) = match (std::mem::replace(stage, Stage::Over), event) {
        (Stage::Known(task), Event::Loaded(found)) => match found.into_iter().next().flatten() {
            None => related(message, *task, context),
            Some(result) => {
                let sending = Sending {
                    tenant: task.tenant.clone(),
                    agent: task.agent.clone(),
                    task: task.id,
                    tell: Vec::new(),
                    reply: None,
                    token: task.reply.clone(),
                };
                conflicting(conflict::with_result(sending, result, message))
            }
        },
        (Stage::Parent(task), Event::Loaded(found)) => {
            let parent = inherited(found.into_iter().next().flatten().as_ref());
            dispatch(message, &task, Some(parent), context)
        }
        (Stage::Session(asking), Event::Recalled(held)) => in_session(message, *asking, held, context),
        (Stage::Raising(raising), Event::Remembered(true)) => {
            let Raising { asking, caused } = *raising;
            send_for(caused, &asking.task)
        }
        (Stage::Raising(raising), Event::Remembered(false)) => {
            let recall = raising.asking.recall();
            (Stage::Session(Box::new(raising.asking)), recall)
        }
        (Stage::Sent(sending), Event::Sent(Sent::Stored(_))) => {
            let tell = sending.tell.into_iter().chain(sending.reply).collect();
            (Stage::Over, Step::ack().telling(tell))
        }
        (Stage::Sent(sending), Event::Sent(Sent::Duplicate(first))) => {
            conflicting(conflict::with_message(*sending, first))
        }
        (Stage::Sent(sending), Event::Sent(Sent::Taken)) => conflicting(conflict::with_subject(*sending)),
        (Stage::Conflict(conflict), event) => conflicting(conflict::next(*conflict, message, event, context)),
        _ => (Stage::Over, Step::dead(Code::Internal, "an answer came out of turn")),
    };
    *stage = then;
    step
}

fn conflicting((conflict, step): (Option<Conflict>, Step)) -> (Stage, Step) {
    (conflict.map_or(Stage::Over, |conflict| Stage::Conflict(Box::new(conflict))), step)
}
