//! Redaction's way through the router: work for the pool that redacts, what would leave looked at again, and work for the pool
//! that restores. The router sees values where it sees the task anyhow, and tokens; which belongs to which it never knows.

use std::borrow::Cow;

use tidegate_policies::{DestinationSpec, Judge, Tokens};
use tidegate_schemas::code::{Code, Refused};
use tidegate_schemas::decision::{Decision, Redaction};
use tidegate_schemas::header;
use tidegate_schemas::ids::{Name, Position};
use tidegate_schemas::limits::MESSAGE_BYTES_MAX;
use tidegate_schemas::redact::{Span, Token, are_joined, is_redaction_of, tokens_in};
use tidegate_schemas::result::{State, TaskResult};
use tidegate_schemas::scan::SCAN_FINDINGS_MAX;
use tidegate_schemas::step::ModelRead;
use tidegate_schemas::subject::Subject;
use tidegate_schemas::task::{Input, Task};
use tidegate_schemas::vault::{REDACT_POOL, RESTORE_POOL, Scope};
use tidegate_schemas::work::{Hop, RedactWork, RestoreWork};

use super::context::Context;
use super::dispatch::{Caused, step_of};
use super::{Message, outgoing};

/// Room that is left for headers beside a payload, bytes.
const HEADERS_ROOM_BYTES: usize = 128 * 1024;

/// Work of the pool that redacts: the input, and what the recognisers found in it.
pub(super) fn work(
    task: &Task,
    hop: &Hop,
    cause: &Position,
    decision: &mut Decision,
    judge: &Judge,
    context: &Context<'_>,
) -> Result<Caused, Refused> {
    let work = RedactWork {
        schema_version: 1,
        scope: Scope::of(task),
        input: task.input.clone(),
        spans: judge.spans(&task.input.texts()),
        by_model: judge.replaced_by_model(decision),
    };
    let payload = outgoing::json(&work);
    if payload.len() > MESSAGE_BYTES_MAX - HEADERS_ROOM_BYTES {
        let sentence = "with the places of what was found in it the task does not fit into a message; send less of it at once";
        return Err(Refused::new(Code::TooLarge, sentence));
    }
    let salt = context.salt();
    decision.content = Some(salt.digest(&payload));
    let headers = hop
        .headers(cause)
        .with(header::DECISION, outgoing::compact(decision))
        .with(header::SALT, String::from(salt));
    let tenant = task.tenant.clone();
    Ok(Caused::work(Message {
        msg_id: hop.msg_id(&tenant, &step_of(hop), 0),
        subject: Subject::WorkLocal { pool: pool(REDACT_POOL), class: task.class, tenant }.to_string(),
        headers,
        payload,
        outcome: Some(decision.outcome),
        ticket: None,
    }))
}

/// The task as it leaves: with its redacted input, where it has one.
pub(super) fn as_it_leaves<'t>(
    task: &'t Task,
    redacted: Option<Input>,
    spec: Option<&DestinationSpec>,
) -> Result<Cow<'t, Task>, Refused> {
    let Some(input) = redacted else { return Ok(Cow::Borrowed(task)) };
    // Tokens may be longer than what they stand for.
    if spec.is_some_and(|spec| !spec.can(&input, Tokens::of(&input))) {
        let sentence = "with tokens in it the input is longer than the destination takes";
        return Err(Refused::new(Code::NoCapableDestination, sentence));
    }
    let mut task = task.clone();
    task.input = input;
    Ok(Cow::Owned(task))
}

/// What came of looking at what would leave.
pub(super) enum Looked {
    /// It is the task's input with tokens in it; and this is what was found.
    Redacted(Redaction),
    /// It was made of what another bundle made of the task: it has to be redacted anew.
    Outdated,
    /// It is something else than the task's input with tokens in it: nothing leaves.
    Foreign,
}

/// Looks at what would leave, as it was sent by the local lane: `input`, what was replaced in it where a model has read the task
/// too, and what that found.
pub(super) fn look(
    (input, spans, by_model): (&Input, &[Vec<Span>], Option<&ModelRead>),
    task: &Task,
    before: &Decision,
    judge: &Judge,
) -> Looked {
    let Ok(rendered) = judge.rendered(task) else { return Looked::Outdated };
    let prompt = rendered.by_prompt.as_ref().map(|by| &by.prompt);
    if judge.bundle().hash() != before.bundle || prompt != before.prompt.as_ref() {
        return Looked::Outdated;
    }
    let recognised = judge.spans(&rendered.input.texts());
    let replaced = match by_model {
        None => Some(recognised.as_slice()),
        Some(read) => joins(judge, before, read, (spans, &recognised)).then_some(spans),
    };
    if !replaced.is_some_and(|spans| is_redaction_of(input, &rendered.input, spans)) {
        return Looked::Foreign;
    }
    let found = judge.found_in(input);
    let tokens = input.texts().iter().map(|text| tokens_in(text).len()).sum::<usize>();
    Looked::Redacted(Redaction {
        tokens: u32::try_from(tokens).unwrap_or(u32::MAX),
        model: by_model.map(|read| read.model),
        findings: found.counts,
        categories: found.categories,
    })
}

/// Whether what was replaced is what the recognisers found and, beyond that, what the bundle's model may find.
fn joins(
    judge: &Judge,
    before: &Decision,
    read: &ModelRead,
    (spans, recognised): (&[Vec<Span>], &[Vec<Span>]),
) -> bool {
    judge.replaced_by_model(before).is_some_and(|asked| {
        asked.sha256.is_none_or(|pinned| pinned == read.model)
            && read.findings.len() <= SCAN_FINDINGS_MAX
            && are_joined(spans, recognised, &asked.entities)
    })
}

/// What a provider answered, on its way to the pool that restores. Of the worker's result only what it made is taken; all else
/// is what the router decided.
pub(super) fn restoring(
    result: TaskResult,
    task: &Task,
    (hop, decision): (&Hop, &Decision),
    tokens: Vec<Token>,
    cause: &Position,
) -> Result<Caused, Refused> {
    if result.state != State::Completed || result.output.is_none() {
        return Err(Refused::new(Code::InvalidField, "what is to be restored has no output"));
    }
    let result = TaskResult {
        task: task.id,
        external_id: task.external_id.clone(),
        tenant: task.tenant.clone(),
        agent: task.agent.clone(),
        destination: decision.destination.clone(),
        error: None,
        ..result
    }
    .decided(decision);
    let work = RestoreWork { schema_version: 1, scope: Scope::of(task), tokens, result };
    let payload = outgoing::json(&work);
    if payload.len() > MESSAGE_BYTES_MAX - HEADERS_ROOM_BYTES {
        return Err(Refused::new(Code::TooLarge, "the answer and its tokens do not fit into a message"));
    }
    let headers = hop.headers(cause).with(header::DECISION, outgoing::compact(decision));
    let tenant = task.tenant.clone();
    Ok(Caused::work(Message {
        msg_id: hop.msg_id(&tenant, &format!("restore-{}", step_of(hop)), 0),
        subject: Subject::WorkLocal { pool: pool(RESTORE_POOL), class: task.class, tenant }.to_string(),
        headers,
        payload,
        outcome: None,
        ticket: None,
    }))
}

/// The tokens in the bytes that left, each once.
pub(super) fn tokens_of(request: &[u8]) -> Vec<Token> {
    let mut tokens = tokens_in(&String::from_utf8_lossy(request));
    tokens.sort_unstable();
    tokens.dedup();
    tokens
}

#[expect(clippy::expect_used, reason = "constants that are names")]
fn pool(name: &str) -> Name {
    Name::new(name).expect("a name")
}
