//! Deadlines: a task that nobody ended in time gets its terminal result from the recorder; a held one when its review ends.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use tidegate_audit::{OpenTask, Opened, Record};
use tidegate_bus::{Bus, CancellationToken, Outbound, PublishError};
use tidegate_schemas::code::Code;
use tidegate_schemas::header::{self, Headers};
use tidegate_schemas::ids::{Name, Position, ReplyToken, TaskId};
use tidegate_schemas::live::Transition;
use tidegate_schemas::metric;
use tidegate_schemas::result::{ResultError, State, TaskResult};
use tidegate_schemas::subject::{self, EVENTS, RESULTS, STEPS, Subject, WORK_CLOUD, WORK_LOCAL};
use tidegate_schemas::task::{Message, Task};
use tidegate_schemas::work::Hop;
use tracing::{info, warn};

use crate::config::RecorderConfig;
use crate::shared::Shared;

/// Overdue tasks ended in one round.
const ROUND_MAX: usize = 256;
/// How long a task that was ended is left alone: its result is on its way into the record.
const LEFT_ALONE: Duration = Duration::from_secs(30);
/// Longest wait for the record to have what the streams held.
const CATCH_UP_MAX: Duration = Duration::from_secs(5);

/// Ends overdue tasks until shutdown.
pub(crate) async fn watch(bus: Bus, config: RecorderConfig, shared: Shared, shutdown: CancellationToken) {
    let mut ended: HashMap<(Name, Name, TaskId), Instant> = HashMap::new();
    let mut round = tokio::time::interval(Duration::from_millis(config.deadline_ms.max(1)));
    round.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = round.tick() => {}
        }
        ended.retain(|_, at| at.elapsed() < LEFT_ALONE);
        for (task, record) in overdue(&bus, &config, &shared).await {
            let key = (task.tenant.clone(), task.agent.clone(), task.task);
            if ended.contains_key(&key) {
                continue;
            }
            match end(&bus, &task, record).await {
                Ok(()) => drop(ended.insert(key, Instant::now())),
                Err(error) => {
                    warn!(task = %task.task, %error, "An overdue task could not be ended; trying again.");
                }
            }
        }
    }
}

/// Overdue tasks with their records; none while the record is behind, for their results may be on the way.
async fn overdue(bus: &Bus, config: &RecorderConfig, shared: &Shared) -> Vec<(OpenTask, Option<Task>)> {
    let grace = SignedDuration::from_millis(i64::try_from(config.deadline_grace_ms).unwrap_or(i64::MAX));
    let now = Timestamp::now().checked_sub(grace).unwrap_or(Timestamp::UNIX_EPOCH);
    let found = shared.read(move |reader| reader.overdue(now, ROUND_MAX)).await;
    let due = match found {
        Some(Ok(due)) if !due.is_empty() => due,
        Some(Err(error)) => {
            warn!(%error, "Overdue tasks cannot be looked up.");
            return Vec::new();
        }
        _ => return Vec::new(),
    };
    if !caught_up(bus, shared, &[]).await {
        return Vec::new();
    }
    // Looked up again: what was on its way then is recorded now.
    let found = shared.read(move |reader| {
        let due = reader.overdue(now, ROUND_MAX)?;
        due.into_iter()
            .map(|task| {
                let record = reader.get(task.index)?;
                let read = record.and_then(|record| match reader.body(&record) {
                    Ok(Opened::Body(body)) => task_of(&record, &body),
                    _ => None,
                });
                Ok((task, read))
            })
            .collect()
    });
    match found.await {
        Some(Ok(tasks)) => tasks,
        _ => due.into_iter().map(|task| (task, None)).collect(),
    }
}

/// Waits until everything that could have ended or moved a task by now is recorded, and what `more` streams hold; what comes
/// meanwhile is not waited for.
pub(crate) async fn caught_up(bus: &Bus, shared: &Shared, more: &[&str]) -> bool {
    let mut marks = Vec::new();
    for stream in [STEPS, WORK_LOCAL, WORK_CLOUD, EVENTS, RESULTS].iter().chain(more) {
        let Ok(state) = bus.stream_info(stream).await else { return false };
        marks.push((*stream, state.last));
    }
    let mut recorded = shared.follow();
    let passed = recorded.wait_for(|recorded| {
        marks.iter().all(|(stream, last)| recorded.get(*stream).copied().unwrap_or(0) >= *last)
    });
    matches!(tokio::time::timeout(CATCH_UP_MAX, passed).await, Ok(Ok(_)))
}

/// The task as its message says it; `None` when that could not be read.
fn task_of(record: &Record, body: &tidegate_audit::Body) -> Option<Task> {
    let (tenant, agent) = (record.leaf.tenant.as_ref()?, record.leaf.agent.as_ref()?);
    let Ok(Subject::Task { kind, .. }) = Subject::parse(&body.subject) else { return None };
    let position = record.leaf.position();
    let message = Message {
        tenant,
        agent,
        kind: kind.as_str(),
        headers: &body.trusted_headers(),
        payload: &body.payload,
        position: &position,
        submitted: record.leaf.time,
    };
    Task::read(&message).ok()
}

/// Publishes the terminal result. That somebody else was first is fine.
async fn end(bus: &Bus, open: &OpenTask, task: Option<Task>) -> Result<(), PublishError> {
    let result = result_of(open, task.as_ref(), Timestamp::now());
    let headers =
        result.headers(headers_of(open, task.as_ref()), None).with("content-type", "application/json");
    // A result holds only what JSON can write; an empty payload would be refused by every reader.
    let payload = serde_json::to_vec(&result).unwrap_or_default();
    let subject = Subject::Result { tenant: open.tenant.clone(), agent: open.agent.clone(), task: open.task };
    let message = Outbound::new(subject.to_string(), payload.clone())
        .with_id(format!("{}/{}/{}/deadline/0", open.tenant, open.agent, open.task))
        .with_headers(headers.clone());
    match bus.publish(message).await {
        Ok(_) => {}
        Err(PublishError::Refused { .. }) => return Ok(()),
        Err(error) => return Err(error),
    }
    let code = result.error.as_ref().map_or("", |error| error.code.as_str());
    metrics::counter!(metric::RESULTS, "state" => result.state.as_str(), "code" => code.to_owned())
        .increment(1);
    info!(task = %open.task, tenant = %open.tenant, code, "A task was not ended in time.");
    tell(bus, open, task.and_then(|task| task.reply), &headers, &result, payload).await;
    Ok(())
}

/// Tells those who watch or asked for a reply; the result itself is durable already, so a failure here changes nothing.
async fn tell(
    bus: &Bus,
    open: &OpenTask,
    reply: Option<ReplyToken>,
    headers: &Headers,
    result: &TaskResult,
    payload: Vec<u8>,
) {
    let told = serde_json::to_vec(&Transition::new(open.task, result.state, None)).unwrap_or_default();
    let subject = subject::state(&open.tenant, &open.agent, open.task);
    let _ = bus.publish_core(&subject, &Headers::new(), told.into()).await;
    if let Some(token) = reply {
        let subject = subject::reply(&open.tenant, &open.agent, &token);
        let _ = bus.publish_core(&subject, headers, payload.into()).await;
    }
}

fn result_of(open: &OpenTask, task: Option<&Task>, now: Timestamp) -> TaskResult {
    let (state, code, message) = if open.review_by.is_some() {
        (State::Rejected, Code::ReviewExpired, "nobody decided on the task in time; submit it under a new id")
    } else {
        (
            State::Failed,
            Code::DeadlineExceeded,
            "the task did not end before its deadline; submit it under a new id with more time",
        )
    };
    let error = ResultError { code, message: message.to_owned(), retry_after_ms: None };
    let result = TaskResult::ended(open.tenant.clone(), open.agent.clone(), open.task, state, error);
    match task {
        Some(task) => {
            TaskResult { external_id: task.external_id.clone(), ..result.timed(task.submitted, now) }
        }
        None => result,
    }
}

/// Headers of the hop: the newest message of the task is the cause.
fn headers_of(open: &OpenTask, task: Option<&Task>) -> Headers {
    let cause: &Position = &open.last;
    match task {
        Some(task) => Hop::of(task, 0).headers(cause),
        None => Headers::new()
            .with(header::CAUSE, cause.to_string())
            .with(header::TASK_ID, open.task.to_string())
            .with(header::AGENT, open.agent.as_str())
            .with(header::TASK, open.position.to_string()),
    }
}
