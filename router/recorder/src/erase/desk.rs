//! Acts that are on record and not carried out yet, one after the other.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use tidegate_audit::erase::{Holding, SUBJECTS_MAX};
use tidegate_audit::leaf::{ActWord, Detail};
use tidegate_audit::{Cursor, Erasure, ErasureState, Filter, Opened, ReadError, Reader, Record, RecordKind};
use tidegate_bus::{ApiError, Bus, Outbound, PublishError};
use tidegate_schemas::control::{Act, Control, EraseOutcome};
use tidegate_schemas::header::{self, Headers};
use tidegate_schemas::ids::Position;
use tidegate_schemas::json;
use tidegate_schemas::limits::{MESSAGE_BYTES_MAX, REASON_BYTES_MAX};
use tidegate_schemas::subject::{EVENTS, tasks_stream};
use tracing::{info, warn};
use uuid::Uuid;

use super::RECORDER;
use super::copies::{self, Looked};
use crate::deadline::caught_up;
use crate::shared::Shared;
use crate::writer::Keeper;

/// How often the record is looked through for new acts.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Acts of one page.
const PAGE: usize = 100;

pub(super) struct Desk {
    bus: Bus,
    shared: Shared,
    keeper: Keeper,
    /// Acts up to here are known.
    after: Option<Cursor>,
    /// Acts that are not carried out yet, by sequence in EVENTS.
    left: BTreeMap<u64, Erasure>,
    /// What was found for them: an act that waits is tried again and again.
    looked: BTreeMap<u64, Looked>,
}

/// Why an erasure does not go on now.
#[derive(Debug, thiserror::Error)]
pub(super) enum EraseError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error(transparent)]
    Publish(#[from] PublishError),
    #[error("the record is not open")]
    Closed,
    #[error("the record is behind its streams")]
    Behind,
    #[error("{0} of its tasks have not ended")]
    Open(u64),
    #[error("the act EVENTS:{0} about the same person is carried out first")]
    Before(u64),
    #[error("legal hold {0} forbids it; see `tidegate audit hold list`")]
    Held(Uuid),
    #[error("{0}")]
    Write(String),
}

// === impl Desk ===

impl Desk {
    pub(super) fn new(bus: Bus, shared: Shared, keeper: Keeper) -> Self {
        Self { bus, shared, keeper, after: None, left: BTreeMap::new(), looked: BTreeMap::new() }
    }

    pub(super) async fn run(mut self) {
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            look.tick().await;
            if let Err(error) = self.look().await {
                warn!(%error, "Erasures cannot be looked up for now.");
                continue;
            }
            for (event, erasure) in self.left.clone() {
                match self.carry_out(erasure.clone()).await {
                    Ok(()) => drop(self.left.remove(&event)),
                    Err(error) => self.waits(erasure, error.to_string()).await,
                }
            }
        }
    }

    /// Finds new acts. What was carried out before is left out.
    async fn look(&mut self) -> Result<(), EraseError> {
        loop {
            let filter = Filter {
                kind: Some(RecordKind::Control),
                after: self.after,
                limit: Some(PAGE),
                ..Filter::default()
            };
            let read = move |reader: &Reader| {
                let page = reader.query(&filter)?;
                let known: BTreeMap<u64, Erasure> =
                    reader.erasures()?.into_iter().map(|erasure| (erasure.event, erasure)).collect();
                let mut left = Vec::new();
                for record in page.records.iter().filter(|record| is_act(record)) {
                    let begun = begun(reader, record)?;
                    let known = known.get(&record.leaf.source.sequence).cloned();
                    left.extend(known.or(begun).filter(|erasure| !erasure.state.has_ended()));
                }
                Ok((page.records.last().map(Record::cursor), page.next, left))
            };
            let (last, next, left) = self.shared.read(read).await.ok_or(EraseError::Closed)??;
            self.left.extend(left.into_iter().map(|erasure| (erasure.event, erasure)));
            self.after = next.or(last).or(self.after);
            if next.is_none() {
                return Ok(());
            }
        }
    }

    /// Carries an act out from where it stands. Each step can be done again.
    async fn carry_out(&mut self, mut erasure: Erasure) -> Result<(), EraseError> {
        if erasure.subjects.is_empty() {
            return self.end(erasure, EraseOutcome::Refused).await;
        }
        let waits = erasure.state == ErasureState::Waiting;
        // A message that is not recorded yet would be sealed with a new key, and stay.
        if waits && !caught_up(&self.bus, &self.shared, &[&tasks_stream(&erasure.tenant)]).await {
            return Err(EraseError::Behind);
        }
        let mut looked = self.looked.remove(&erasure.event).unwrap_or_default();
        if waits {
            looked = copies::look(&self.shared, &erasure, looked).await?;
            if looked.held.rows.is_empty() {
                return self.end(erasure, EraseOutcome::NothingHeld).await;
            }
            if self.is_done(&erasure, &looked).await? {
                return self.end(erasure, EraseOutcome::NothingHeld).await;
            }
            if let Err(error) = self.free(&erasure, &looked.held).await {
                self.looked.insert(erasure.event, looked);
                return Err(error);
            }
            (erasure.records, erasure.waits) = (looked.held.records, None);
            let (marked, rows) = (erasure.clone(), looked.held.rows.clone());
            let destroyed = self.keeper.change(move |store| store.destroy(&marked, &rows)).await;
            destroyed.map_err(EraseError::Write)?;
            erasure.state = ErasureState::Destroyed;
            info!(event = erasure.event, records = erasure.records, "A data subject's keys are destroyed.");
        }
        // A replay that read its messages before has published them now; one that reads them later finds nothing.
        self.shared.published().await;
        // And what was recorded until the keys were destroyed.
        let looked = copies::look(&self.shared, &erasure, looked).await?;
        erasure.records = looked.held.records;
        if let Err(error) = self.delete(&mut erasure, &looked).await {
            self.looked.insert(erasure.event, looked);
            return Err(error);
        }
        self.end(erasure, EraseOutcome::Erased).await
    }

    /// Deletes the streams' copies, and what leads to the keys. How many there are is durable before the first one goes.
    async fn delete(
        &self,
        erasure: &mut Erasure,
        Looked { held, copies }: &Looked,
    ) -> Result<(), EraseError> {
        if !erasure.counted {
            erasure.messages = copies::count(&self.bus, copies).await?;
            erasure.counted = true;
            self.keep(erasure.clone()).await?;
        }
        copies::delete(&self.bus, erasure, copies).await?;
        self.forget(held).await
    }

    /// Whether acts that came before erased all of it, and nothing of it is left in the streams: it is told once.
    async fn is_done(&self, erasure: &Erasure, Looked { held, copies }: &Looked) -> Result<bool, EraseError> {
        let (event, rows) = (erasure.event, held.rows.clone());
        let read = self.shared.read(move |reader| {
            let acts = reader.destroyed_before(event, &rows)?;
            let mut known = reader.erasures()?;
            known.retain(|erasure| acts.contains(&erasure.event));
            Ok((acts, known))
        });
        let (acts, known) = read.await.ok_or(EraseError::Closed)??;
        if let Some(before) = known.iter().find(|before| !before.state.has_ended()) {
            return Err(EraseError::Before(before.event));
        }
        Ok(!acts.is_empty() && copies::count(&self.bus, copies).await? == 0)
    }

    /// Whether nothing forbids it: an open task, a legal hold on what the keys seal.
    async fn free(&self, erasure: &Erasure, held: &Holding) -> Result<(), EraseError> {
        let (tenant, held) = (erasure.tenant.clone(), held.clone());
        let read = self.shared.read(move |reader| {
            let open = reader.open_with(&held.keys)?;
            Ok((open, reader.forbidding(&tenant, &held, Timestamp::now())?))
        });
        let (open, holds) = read.await.ok_or(EraseError::Closed)??;
        match (open, holds.first()) {
            (0, None) => Ok(()),
            (0, Some(hold)) => Err(EraseError::Held(hold.id)),
            (open, _) => Err(EraseError::Open(open)),
        }
    }

    async fn forget(&self, held: &Holding) -> Result<(), EraseError> {
        let (tasks, keys) = (held.tasks.clone(), held.keys.clone());
        let forgotten = self.keeper.change(move |store| store.forget(&tasks, &keys)).await;
        forgotten.map_err(EraseError::Write)
    }

    /// Ends an erasure: on record first, then in the file.
    async fn end(&self, mut erasure: Erasure, outcome: EraseOutcome) -> Result<(), EraseError> {
        let Erasure { event, subjects, records, messages, .. } = erasure.clone();
        let reason = match outcome {
            EraseOutcome::Erased => "nothing that was sealed for the data subject can be read any more",
            EraseOutcome::NothingHeld => "the record holds nothing under such a name",
            EraseOutcome::Refused => "the act is malformed",
        };
        let act = Act::EraseEnd { event, subjects, records, messages, outcome };
        say(&self.bus, event, act, reason, format!("erase-end:{event}")).await?;
        (erasure.state, erasure.waits) = (ErasureState::Ended(outcome), None);
        info!(event, records, messages, ?outcome, "An erasure ended.");
        self.keep(erasure).await
    }

    async fn keep(&self, erasure: Erasure) -> Result<(), EraseError> {
        let kept = self.keeper.change(move |store| store.keep_erasure(&erasure)).await;
        kept.map_err(EraseError::Write)
    }

    /// Keeps why an erasure does not go on. It is tried again at the next look.
    async fn waits(&mut self, erasure: Erasure, why: String) {
        let event = erasure.event;
        // It may be further by now than when this try began.
        let now = self.shared.read(Reader::erasures).await.and_then(Result::ok).unwrap_or_default();
        let now = now.into_iter().find(|now| now.event == event).unwrap_or(erasure);
        if now.waits.as_ref() == Some(&why) {
            self.left.insert(event, now);
            return;
        }
        warn!(event, why, "An erasure waits.");
        let waiting = Erasure { waits: Some(why), ..now };
        match self.keep(waiting.clone()).await {
            Ok(()) => drop(self.left.insert(event, waiting)),
            Err(error) => warn!(event, %error, "How far an erasure is could not be kept."),
        }
    }
}

/// Publishes what the recorder says of an act.
pub(super) async fn say(
    bus: &Bus,
    event: u64,
    act: Act,
    reason: &str,
    id: String,
) -> Result<(), PublishError> {
    let control = Control { schema_version: 1, act, reason: reason.to_owned() };
    let headers = Headers::new().with(header::CAUSE, Position::new(EVENTS, event).to_string());
    let message = Outbound::new(RECORDER, serde_json::to_vec(&control).unwrap_or_default());
    bus.publish(message.with_id(id).with_headers(headers)).await.map(drop)
}

/// Whether a record is an operator's act that erases.
fn is_act(record: &Record) -> bool {
    let own =
        record.leaf.source.subject.as_ref().is_some_and(|subject| subject.starts_with("control.erase."));
    own && matches!(record.leaf.detail, Some(Detail::Control { act: ActWord::Erase, .. }))
}

/// The erasure that an act begins, without names where the act is malformed. None when it does not even say whose it is.
fn begun(reader: &Reader, record: &Record) -> Result<Option<Erasure>, ReadError> {
    let Some(Detail::Control { operator, tenant: Some(tenant), subjects: named, .. }) = &record.leaf.detail
    else {
        return Ok(None);
    };
    let control = match reader.body(record)? {
        Opened::Body(body) => json::read::<Control>(&body.payload, MESSAGE_BYTES_MAX).ok(),
        _ => None,
    };
    let reasoned =
        |control: &Control| !control.reason.trim().is_empty() && control.reason.len() <= REASON_BYTES_MAX;
    let subjects = match control.filter(reasoned).map(|control| control.act) {
        // The leaf holds only names of the right form.
        Some(Act::Erase { subjects, .. }) if subjects == *named && subjects.len() <= SUBJECTS_MAX => subjects,
        _ => Vec::new(),
    };
    Ok(Some(Erasure {
        event: record.leaf.source.sequence,
        operator: operator.clone(),
        tenant: tenant.clone(),
        subjects,
        begun: record.leaf.time,
        records: 0,
        messages: 0,
        counted: false,
        state: ErasureState::Waiting,
        waits: None,
        act: None,
    }))
}
