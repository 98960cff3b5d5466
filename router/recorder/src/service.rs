//! Queries over NATS: JSON in, JSON out, a page at a time, below the size of one message. Leaves only: what is sealed stays
//! where the key is.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tidegate_audit::read::{Timeline, Workflow};
use tidegate_audit::{Cursor, Filter, Hold, ReadError, Record, Status};
use tidegate_bus::{ApiError, CancellationToken, Discovery, Endpoint, Query};
use tidegate_schemas::ids::{Identifier, Name, TaskId};
use tidegate_schemas::result::State;
use tidegate_schemas::standing::Standing;
use tidegate_schemas::subject::QUERY_OPEN;
use tokio::task::JoinSet;

#[cfg(doc)]
use crate::guard::Guarded;
use crate::shared::Shared;

/// Subject of questions for [`StatusAnswer`]; the payload is not read.
pub const STATUS: &str = "query.audit.status";
/// Subject of questions for records: a [`Filter`], answered with a [`RecordsAnswer`].
pub const RECORDS: &str = "query.audit.records";
/// Subject of questions for one task: a [`TaskQuestion`], answered with a [`TaskAnswer`].
pub const TASK: &str = "query.audit.task";
/// Subject of questions for a workflow: a [`WorkflowQuestion`], answered with a [`Workflow`].
pub const WORKFLOW: &str = "query.audit.workflow";

/// Subject of questions for the legal holds: a list of [`Hold`]; the payload is not read.
pub const HOLDS: &str = "query.audit.holds";
/// Subject of questions for where the canary's guards stand: a [`Guarded`], or null without a canary; the payload is not read.
pub const GUARDS: &str = "query.audit.guards";

/// Open tasks are counted at most this often, whoever asks.
const COUNT_EVERY: Duration = Duration::from_secs(1);
/// Longest question, bytes.
const QUESTION_BYTES_MAX: usize = 16 * 1024;
/// Longest list of records in an answer, bytes; an answer stays below 1 MiB.
const ANSWER_BYTES_MAX: usize = 900 * 1024;

/// Where the recorder stands.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StatusAnswer {
    /// The record.
    pub record: Status,
    /// Messages that are in a stream and not yet in the record, by stream.
    pub lag: BTreeMap<String, u64>,
    /// Streams that cannot be recorded, and why.
    pub refused: BTreeMap<String, String>,
    /// Commits of records since the recorder began. What comes while one runs goes with the next: records a commit grow with load.
    #[serde(default)]
    pub commits: u64,
}

/// A page of records.
#[derive(Debug, Serialize, Deserialize)]
pub struct RecordsAnswer {
    /// Leaves, each exactly as it is stored.
    pub records: Vec<Box<RawValue>>,
    /// Of these, by index, those whose message was erased: sequence in EVENTS of the act.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub erased: BTreeMap<u64, u64>,
    /// Where the next page begins: the filter's `after`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Cursor>,
}

/// Which task.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskQuestion {
    /// Whose it is, where several tenants may use the id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Name>,
    /// The task.
    pub task: TaskId,
}

/// What is recorded of a task.
#[derive(Debug, Serialize, Deserialize)]
pub struct TaskAnswer {
    /// One a tenant and agent that use the id; none when the record does not know it.
    pub timelines: Vec<TaskTimeline>,
}

/// One task's records.
#[derive(Debug, Serialize, Deserialize)]
pub struct TaskTimeline {
    /// Whose it is.
    pub tenant: Name,
    /// Who asked.
    pub agent: Name,
    /// Where it is.
    pub state: State,
    /// When it must have ended.
    pub deadline: Timestamp,
    /// Leaves, each exactly as it is stored, causes first.
    pub records: Vec<Box<RawValue>>,
    /// Of these, by index, those whose message was erased: sequence in EVENTS of the act.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub erased: BTreeMap<u64, u64>,
    /// Whether more are recorded than fit.
    pub cut: bool,
}

/// Which workflow.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkflowQuestion {
    /// Whose it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Name>,
    /// Its name.
    pub workflow: Identifier,
}

/// Why a question has no answer: a code like HTTP's and a sentence.
pub(crate) struct Refusal(pub(crate) usize, pub(crate) String);

/// Answers questions until shutdown.
///
/// # Errors
/// [`ApiError`] when the subjects cannot be listened on.
pub(crate) async fn serve(
    discovery: &Discovery,
    shared: &Shared,
    shutdown: &CancellationToken,
) -> Result<JoinSet<()>, ApiError> {
    let mut tasks = JoinSet::new();
    for (name, subject) in [
        ("audit-status", STATUS),
        ("audit-records", RECORDS),
        ("audit-task", TASK),
        ("audit-workflow", WORKFLOW),
        ("audit-open", QUERY_OPEN),
        ("audit-holds", HOLDS),
        ("audit-guards", GUARDS),
    ] {
        let endpoint = discovery.endpoint(name, subject).await?;
        tasks.spawn(listen(endpoint, shared.clone(), shutdown.clone()));
    }
    Ok(tasks)
}

/// One question at a time: a slow one must not take all of the machine.
async fn listen(mut endpoint: Endpoint, shared: Shared, shutdown: CancellationToken) {
    loop {
        let query = tokio::select! {
            () = shutdown.cancelled() => return,
            query = endpoint.next() => query,
        };
        let Some(query) = query else { return };
        match answer(&query, &shared).await {
            Ok(payload) => query.respond(payload.into()).await,
            Err(Refusal(code, sentence)) => query.refuse(code, &sentence).await,
        }
    }
}

async fn answer(query: &Query, shared: &Shared) -> Result<Vec<u8>, Refusal> {
    match query.subject() {
        STATUS => {
            let record = read(shared, |reader| reader.status()).await?;
            let (lag, refused, commits) = (shared.lag(), shared.refused(), shared.commits());
            encode(&StatusAnswer { record, lag, refused, commits })
        }
        QUERY_OPEN => {
            if shared.reader().is_none() || !shared.refused().is_empty() {
                return Err(Refusal(503, "the record is not well; see the recorder's health".to_owned()));
            }
            let open = shared.open(COUNT_EVERY).await.transpose();
            let open = open.map_err(|error| Refusal(500, error.to_string()))?;
            encode(&Standing { open, behind: shared.behind(), now: Timestamp::now() })
        }
        RECORDS => {
            let filter: Filter = question(query)?;
            let found = read(shared, move |reader| {
                let page = reader.query(&filter)?;
                let erased = reader.erased_among(&page.records)?;
                Ok((page, erased))
            });
            let (page, mut erased) = found.await?;
            let fitting = fitting(&page.records);
            let last = page.records.get(fitting.wrapping_sub(1));
            let next = if fitting < page.records.len() { last.map(Record::cursor) } else { page.next };
            erased.retain(|index, _| last.is_some_and(|last| *index <= last.leaf.index));
            let records = lines(page.records.get(..fitting).unwrap_or_default());
            encode(&RecordsAnswer { records, erased, next })
        }
        TASK => {
            let asked: TaskQuestion = question(query)?;
            let found = read(shared, move |reader| {
                let found = reader.task(asked.tenant.as_ref(), asked.task)?;
                let told = |one: Timeline| reader.erased_among(&one.records).map(|erased| (one, erased));
                found.into_iter().map(told).collect::<Result<Vec<_>, _>>()
            });
            encode(&TaskAnswer { timelines: found.await?.into_iter().map(timeline).collect() })
        }
        WORKFLOW => {
            let asked: WorkflowQuestion = question(query)?;
            let found: Workflow =
                read(shared, move |reader| reader.workflow(asked.tenant.as_ref(), &asked.workflow)).await?;
            encode(&found)
        }
        HOLDS => {
            let holds: Vec<Hold> = read(shared, |reader| reader.legal_holds()).await?;
            encode(&holds)
        }
        GUARDS => encode(&shared.guarded()),
        _ => Err(Refusal(404, "there is no such question".to_owned())),
    }
}

fn timeline((found, mut erased): (Timeline, BTreeMap<u64, u64>)) -> TaskTimeline {
    let fitting = fitting(&found.records);
    let told = found.records.get(..fitting).unwrap_or_default();
    erased.retain(|index, _| told.iter().any(|record| record.leaf.index == *index));
    TaskTimeline {
        tenant: found.tenant,
        agent: found.agent,
        state: found.state,
        deadline: found.deadline,
        cut: found.cut || fitting < found.records.len(),
        records: lines(told),
        erased,
    }
}

/// How many records fit into one answer.
fn fitting(records: &[Record]) -> usize {
    let mut bytes = 0;
    let mut fits = |record: &&Record| {
        bytes += record.line.len() + 1;
        bytes <= ANSWER_BYTES_MAX
    };
    records.iter().take_while(|record| fits(record)).count()
}

fn lines(records: &[Record]) -> Vec<Box<RawValue>> {
    // A stored leaf is JSON: it was read as such.
    records.iter().filter_map(|record| RawValue::from_string(record.line.clone()).ok()).collect()
}

pub(crate) async fn read<T: Send + 'static>(
    shared: &Shared,
    with: impl FnOnce(&tidegate_audit::Reader) -> Result<T, ReadError> + Send + 'static,
) -> Result<T, Refusal> {
    match shared.read(with).await {
        Some(Ok(found)) => Ok(found),
        Some(Err(error @ ReadError::Erased)) => Err(Refusal(410, error.to_string())),
        Some(Err(error)) => Err(Refusal(500, error.to_string())),
        None => Err(Refusal(503, "the record is not open; ask again later".to_owned())),
    }
}

pub(crate) fn question<T: DeserializeOwned>(query: &Query) -> Result<T, Refusal> {
    let payload = query.payload();
    let whole = if payload.is_empty() { b"{}".as_slice() } else { payload };
    if whole.len() > QUESTION_BYTES_MAX {
        return Err(Refusal(413, format!("the question is longer than {QUESTION_BYTES_MAX} bytes")));
    }
    serde_json::from_slice(whole).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        Refusal(400, format!("the question has an unknown form at line {line} column {column}"))
    })
}

pub(crate) fn encode<T: Serialize>(answer: &T) -> Result<Vec<u8>, Refusal> {
    serde_json::to_vec(answer).map_err(|_| Refusal(500, "the answer could not be written".to_owned()))
}
