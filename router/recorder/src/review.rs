//! What reviewers see of held tasks: a list, and one task with what would run.
//!
//! Content leaves the record here and by replays. Who asks stands in the subject, which the server authorised; the directory
//! says which queues that reviewer decides, and a task is shown to nobody else.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tidegate_audit::leaf::{Detail, Leaf};
use tidegate_audit::{OpenTask, Opened, ReadError, Reader, Record, RecordKind};
use tidegate_bus::{ApiError, Bus, CancellationToken, Discovery, Endpoint, Query};
use tidegate_schemas::control::{
    ACTIVE_KEY, Active, DIRECTORY_BUCKET, REVIEWS_BUCKET, agreement_key, review_key,
};
use tidegate_schemas::decision::Obligation;
use tidegate_schemas::directory::{Directory, Reviewer};
use tidegate_schemas::ids::{Name, Position, TaskId};
use tidegate_schemas::labels::{Sensitivity, Stakes};
use tidegate_schemas::result::State;
use tidegate_schemas::review::Review;
use tidegate_schemas::sensitive::Sensitive;
use tidegate_schemas::subject::EVENTS;
use tokio::task::JoinSet;

use crate::service::{Refusal, encode, question, read};
use crate::shared::Shared;

/// Subjects of reviewers' questions, `query.review.<reviewer>`: a [`ReviewQuestion`].
pub const REVIEWS: &str = "query.review.*";

/// Held tasks listed at once, count.
const HELD_MAX: usize = 1_000;

/// What a reviewer asks.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReviewQuestion {
    /// The review's sequence in EVENTS, answered with [`HeldTask`]; absent for the list, answered with [`HeldTasks`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub review: Option<u64>,
}

/// Tasks that wait for this reviewer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HeldTasks {
    /// The next to expire first, at most 1,000.
    pub held: Vec<Held>,
}

/// A task that waits, without its content.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Held {
    /// The review's sequence in EVENTS.
    pub review: u64,
    /// Queue whose reviewers decide.
    pub queue: Name,
    /// Whose it is.
    pub tenant: Name,
    /// Who asked.
    pub agent: Name,
    /// The task.
    pub task: TaskId,
    /// Since when it waits.
    pub since: Timestamp,
    /// When it is rejected if nobody decides.
    pub review_by: Timestamp,
    /// Effective sensitivity.
    pub sensitivity: Sensitivity,
    /// What is at stake.
    pub stakes: Stakes,
    /// Where it would run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<Name>,
}

/// A task that waits, with what would run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HeldTask {
    /// Queue whose reviewers decide.
    pub queue: Name,
    /// Whose it is.
    pub tenant: Name,
    /// The review: a verdict names its digest.
    pub review: Review,
    /// Where the task is; a verdict counts only while it is `input_required`.
    pub state: State,
    /// The kind of work.
    pub kind: String,
    /// Who has approved, where more than one must.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approved_by: Vec<Name>,
    /// The task's envelope, exactly as it was submitted.
    pub envelope: Sensitive<Value>,
}

impl HeldTask {
    /// How many reviewers must approve.
    #[must_use]
    pub fn quorum(&self) -> u8 {
        let asked = self.review.decision.obligations.iter().filter_map(|obligation| match obligation {
            Obligation::Review { quorum, .. } => Some(*quorum),
            Obligation::CostCap { .. } => None,
        });
        asked.max().unwrap_or(1)
    }
}

/// Subject of a reviewer's own questions.
#[must_use]
pub fn subject(reviewer: &Name) -> String {
    format!("query.review.{reviewer}")
}

/// Answers reviewers until shutdown.
pub(crate) async fn serve(
    discovery: &Discovery,
    bus: &Bus,
    shared: &Shared,
    shutdown: &CancellationToken,
    tasks: &mut JoinSet<()>,
) -> Result<(), ApiError> {
    let endpoint = discovery.endpoint("review", REVIEWS).await?;
    tasks.spawn(listen(endpoint, bus.clone(), shared.clone(), shutdown.clone()));
    Ok(())
}

async fn listen(mut endpoint: Endpoint, bus: Bus, shared: Shared, shutdown: CancellationToken) {
    loop {
        let query = tokio::select! {
            () = shutdown.cancelled() => return,
            query = endpoint.next() => query,
        };
        let Some(query) = query else { return };
        match answer(&query, &bus, &shared).await {
            Ok(payload) => query.respond(payload.into()).await,
            Err(Refusal(code, sentence)) => query.refuse(code, &sentence).await,
        }
    }
}

async fn answer(query: &Query, bus: &Bus, shared: &Shared) -> Result<Vec<u8>, Refusal> {
    let asked: ReviewQuestion = question(query)?;
    let who = query.subject().rsplit('.').next().and_then(|token| Name::new(token).ok());
    let known = match who {
        Some(who) => directory(bus).await?.reviewers.remove(&who),
        None => None,
    };
    let reviewer = known.ok_or_else(|| Refusal(403, "the directory knows no such reviewer".to_owned()))?;
    match asked.review {
        None => {
            let found = read(shared, move |reader| list(reader, &reviewer)).await?;
            encode(&HeldTasks { held: unclaimed(bus, found).await? })
        }
        Some(sequence) => {
            let found = read(shared, move |reader| show(reader, sequence, &reviewer)).await?;
            let mut held = found.map_err(|why| Refusal(404, why.to_owned()))?;
            held.approved_by = agreed(bus, sequence, held.quorum()).await?;
            encode(&held)
        }
    }
}

pub(crate) async fn directory(bus: &Bus) -> Result<Directory, Refusal> {
    let unread = || Refusal(503, "the directory cannot be read now; ask again later".to_owned());
    let value = async |key: &str| -> Result<Vec<u8>, Refusal> {
        let entry = bus.kv_get(DIRECTORY_BUCKET, key).await.map_err(|_| unread())?;
        entry.map(|entry| entry.value.to_vec()).ok_or_else(unread)
    };
    let active: Active = serde_json::from_slice(&value(ACTIVE_KEY).await?).map_err(|_| unread())?;
    serde_json::from_slice(&value(&active.hash.to_string()).await?).map_err(|_| unread())
}

fn list(reader: &Reader, reviewer: &Reviewer) -> Result<Vec<Held>, ReadError> {
    let mut held = Vec::new();
    for task in reader.open_tasks(tidegate_audit::read::RECORDS_MAX)? {
        if task.state != State::InputRequired || held.len() >= HELD_MAX {
            continue;
        }
        if let Some(found) = review_of(reader, &task)?
            && reviewer.queues.contains(&found.queue)
        {
            held.push(found);
        }
    }
    Ok(held)
}

/// The newest review of a held task. Verdicts that led nowhere, and their dead letters, may have come after it; work or a
/// result would have ended the state that it is in.
fn review_of(reader: &Reader, task: &OpenTask) -> Result<Option<Held>, ReadError> {
    if let Some(found) = reader.at(&task.last)?.and_then(|record| waiting(record.leaf)) {
        return Ok(Some(found));
    }
    let timelines = reader.task(Some(&task.tenant), task.task)?;
    let own = timelines.into_iter().find(|timeline| timeline.agent == task.agent);
    let records = own.into_iter().flat_map(|timeline| timeline.records.into_iter().rev());
    Ok(records.into_iter().find_map(|record| waiting(record.leaf)))
}

/// Those of which no verdict stands yet: the router claims a review before it acts on a verdict, and what a verdict leads to
/// may not be recorded yet.
async fn unclaimed(bus: &Bus, found: Vec<Held>) -> Result<Vec<Held>, Refusal> {
    let unread = |_| Refusal(503, "the verdicts cannot be read now; ask again later".to_owned());
    let mut held = Vec::with_capacity(found.len());
    for task in found {
        if bus.kv_get(REVIEWS_BUCKET, &review_key(task.review)).await.map_err(unread)?.is_none() {
            held.push(task);
        }
    }
    Ok(held)
}

/// Who has approved a review of which several must.
async fn agreed(bus: &Bus, review: u64, quorum: u8) -> Result<Vec<Name>, Refusal> {
    let unread = |_| Refusal(503, "the verdicts cannot be read now; ask again later".to_owned());
    let mut reviewers = Vec::new();
    for place in (1..=quorum).filter(|_| quorum > 1) {
        let entry = bus.kv_get(REVIEWS_BUCKET, &agreement_key(review, place)).await.map_err(unread)?;
        let Some(entry) = entry else { break };
        let held = std::str::from_utf8(&entry.value).ok().and_then(|text| text.split_once(' '));
        reviewers.extend(held.and_then(|(_, name)| Name::new(name).ok()));
    }
    Ok(reviewers)
}

fn waiting(leaf: Leaf) -> Option<Held> {
    let decision = leaf.decision?;
    let Some(Detail::Review { queue, review_by, .. }) = leaf.detail else { return None };
    Some(Held {
        review: leaf.source.sequence,
        queue,
        tenant: leaf.tenant?,
        agent: leaf.agent?,
        task: leaf.task?,
        since: leaf.time,
        review_by,
        sensitivity: decision.sensitivity,
        stakes: decision.stakes,
        destination: decision.destination,
    })
}

/// One held task for its reviewer; else why it is not shown. What is another queue's is as if it were not there.
fn show(
    reader: &Reader,
    sequence: u64,
    reviewer: &Reviewer,
) -> Result<Result<HeldTask, &'static str>, ReadError> {
    const NONE: &str = "no such review in this reviewer's queues";
    const GONE: &str = "its content was erased, or its key is gone";
    let Some(record) = reader.at(&Position::new(EVENTS, sequence))? else { return Ok(Err(NONE)) };
    let Some(held) = waiting(record.leaf.clone()) else { return Ok(Err(NONE)) };
    if record.leaf.kind != RecordKind::Review || !reviewer.queues.contains(&held.queue) {
        return Ok(Err(NONE));
    }
    let Some(review) =
        content(reader, &record)?.and_then(|bytes| serde_json::from_slice::<Review>(&bytes).ok())
    else {
        return Ok(Err(GONE));
    };
    let Some(task) = reader.at(&review.held)? else { return Ok(Err(GONE)) };
    let envelope = content(reader, &task)?.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let Some(envelope) = envelope else { return Ok(Err(GONE)) };
    let state =
        reader.task(Some(&held.tenant), held.task)?.iter().find(|t| t.agent == held.agent).map(|t| t.state);
    let kind = task.leaf.source.subject.as_deref().and_then(|subject| subject.rsplit('.').next());
    Ok(Ok(HeldTask {
        queue: held.queue,
        tenant: held.tenant,
        review,
        state: state.unwrap_or(State::Submitted),
        kind: kind.unwrap_or_default().to_owned(),
        approved_by: Vec::new(),
        envelope: Sensitive::new(envelope),
    }))
}

fn content(reader: &Reader, record: &Record) -> Result<Option<Vec<u8>>, ReadError> {
    Ok(match reader.body(record)? {
        Opened::Body(body) => Some(body.payload.to_vec()),
        Opened::Nothing | Opened::Sealed | Opened::Pruned | Opened::Erased { .. } | Opened::Lost => None,
    })
}
