//! Erasures: the keys of a data subject destroyed, and the streams' copies of its messages deleted.
//!
//! An operator asks here what the record calls the data subject, and publishes that in a `control.erase` act. The act is all that
//! is needed: the recorder finds it in its record and carries it out, now or when it is started again. What it deletes is on record
//! before it deletes it, so that a record which is made again from the streams knows why they have gaps.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tidegate_audit::{DataSubject, Erasure, Hold};
use tidegate_bus::{ApiError, Bus, CancellationToken, Discovery, Endpoint, Query};
use tidegate_schemas::ids::{Identifier, Name};
use tokio::task::JoinSet;

use crate::service::{Refusal, encode, question, read};
use crate::shared::Shared;
use crate::writer::Keeper;

pub(crate) use copies::all_replayed;

mod copies;
mod desk;
pub(crate) mod gaps;

/// Subjects of operators' questions, `query.erase.<operator>`: an [`EraseQuestion`], answered with an [`EraseAnswer`].
pub const ERASURES: &str = "query.erase.*";
/// Under this name the recorder says what it deletes, and how an erasure ended.
pub(crate) const RECORDER: &str = "control.erase.recorder";

/// What an operator asks. It is stored nowhere.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "ask", deny_unknown_fields)]
pub enum EraseQuestion {
    /// What is held of a data subject, and what the record calls it.
    Find {
        /// Whose.
        tenant: Name,
        /// Its id.
        subject: Identifier,
    },
    /// Where erasures stand.
    Status {
        /// Only that of the act with this sequence in EVENTS.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        event: Option<u64>,
    },
}

/// The answer.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct EraseAnswer {
    /// What is held; none when that is nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<Found>,
    /// Where erasures stand, the oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub erasures: Vec<Erasure>,
}

/// What is held of a data subject.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// What the record calls it.
    pub subjects: Vec<String>,
    /// Records.
    pub records: u64,
    /// Tasks that they are of.
    pub tasks: u64,
    /// Tasks of these that have not ended.
    pub open: u64,
    /// Legal holds that forbid it to be erased.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holds: Vec<Hold>,
}

/// Subject of an operator's own questions.
#[must_use]
pub fn subject(operator: &Name) -> String {
    format!("query.erase.{operator}")
}

/// Answers operators, and carries erasures out, until shutdown.
pub(crate) async fn serve(
    discovery: &Discovery,
    bus: &Bus,
    shared: &Shared,
    keeper: Keeper,
    shutdown: &CancellationToken,
    tasks: &mut JoinSet<()>,
) -> Result<(), ApiError> {
    let endpoint = discovery.endpoint("erase", ERASURES).await?;
    tasks.spawn(listen(endpoint, shared.clone(), keeper.clone(), shutdown.clone()));
    let desk = desk::Desk::new(bus.clone(), shared.clone(), keeper);
    let shutdown = shutdown.clone();
    // It may be left at any point, as by a crash.
    tasks.spawn(async move {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = desk.run() => {}
        }
    });
    Ok(())
}

async fn listen(mut endpoint: Endpoint, shared: Shared, keeper: Keeper, shutdown: CancellationToken) {
    loop {
        let query = tokio::select! {
            () = shutdown.cancelled() => return,
            query = endpoint.next() => query,
        };
        let Some(query) = query else { return };
        match answer(&query, &shared, &keeper).await {
            Ok(payload) => query.respond(payload.into()).await,
            Err(Refusal(code, sentence)) => query.refuse(code, &sentence).await,
        }
    }
}

async fn answer(query: &Query, shared: &Shared, keeper: &Keeper) -> Result<Vec<u8>, Refusal> {
    let answer = match question(query)? {
        EraseQuestion::Find { tenant, subject } => {
            let found = read(shared, move |reader| {
                let Some(known) = reader.data_subject(&tenant, &subject)? else { return Ok(None) };
                let held = reader.holding(&tenant, &known.references, &mut |_| Ok(()))?;
                Ok(Some((known, held)))
            });
            let Some((known, mut held)) = found.await? else { return encode(&EraseAnswer::default()) };
            if known.is_unnamed(&held) {
                // The act has its names alone, and must lead to its keys.
                let unnamed = known.clone();
                let kept = keeper.change(move |store| store.name_subject(&unnamed)).await;
                kept.map_err(|error| Refusal(503, error))?;
                let (tenant, names) = (known.tenant.clone(), known.references.clone());
                held = read(shared, move |reader| reader.holding(&tenant, &names, &mut |_| Ok(()))).await?;
            }
            let found = read(shared, move |reader| {
                let DataSubject { tenant, references: subjects, .. } = known;
                let (records, tasks) = (held.records, held.tasks.len() as u64);
                let open = reader.open_with(&held.keys)?;
                let holds = reader.forbidding(&tenant, &held, Timestamp::now())?;
                Ok(Found { subjects, records, tasks, open, holds })
            });
            EraseAnswer { found: Some(found.await?), ..EraseAnswer::default() }
        }
        EraseQuestion::Status { event } => {
            let mut erasures = read(shared, tidegate_audit::Reader::erasures).await?;
            erasures.retain(|erasure| event.is_none_or(|event| erasure.event == event));
            EraseAnswer { erasures, ..EraseAnswer::default() }
        }
    };
    encode(&answer)
}
