//! Performs what a message's life asks for, and brings the answers back to it.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use tidegate_bus::{
    ApiError, Bus, Dead, Handler, Inbound, KvEntry, KvError, Outbound, PublishError, Verdict,
};
use tidegate_schemas::code::Code;
use tidegate_schemas::control::{REVIEWS_BUCKET, SESSION_KEPT_HOURS, SESSIONS_BUCKET};
use tidegate_schemas::decision::Owners;
use tidegate_schemas::header;
use tidegate_schemas::ids::Position;
use tidegate_schemas::labels::{Labels, Sensitivity};
use tidegate_schemas::metric;
use tidegate_schemas::subject::{RESULTS, Subject};
use tokio::sync::watch;
use uuid::Uuid;

use crate::alarm;
use crate::control::{self, ControlError, Then};
use crate::knowledge::Knowledge;
use crate::life::{
    Action, Bench, Context, Disposition, Event, Life, Place, Randomness, Sent, Step, Stored, Telling,
};
use crate::poison;
use crate::recent::Recent;
use crate::signing::Signing;

/// Delay before a message is taken up again after the bus failed.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// Delay while a stream is full.
const FULL_AFTER: Duration = Duration::from_secs(2);

/// What all handlers of a router share.
#[derive(Clone)]
pub(crate) struct Shell {
    pub(crate) bus: Bus,
    pub(crate) cell: String,
    pub(crate) signing: Arc<Signing>,
    pub(crate) known: watch::Receiver<Knowledge>,
    pub(crate) admitted: Arc<Admitted>,
    pub(crate) recent: Arc<Recent>,
}

/// Messages that were put off after something of them may have been sent: a quota must not turn them away now.
#[derive(Debug, Default)]
pub(crate) struct Admitted {
    positions: Mutex<HashSet<Position>>,
}

/// Positions kept, count; what is forgotten may be turned away though its work is on its way, and ends once all the same.
const ADMITTED_MAX: usize = 16_384;

impl Admitted {
    fn note(&self, position: &Position) {
        let mut all = self.positions.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= ADMITTED_MAX {
            all.clear();
        }
        all.insert(position.clone());
    }

    fn take(&self, position: &Position) -> bool {
        self.positions.lock().unwrap_or_else(PoisonError::into_inner).remove(position)
    }
}

/// Why a message is taken up again later.
#[derive(Debug, thiserror::Error)]
enum Later {
    #[error("publishing: {0}")]
    Publish(#[from] PublishError),
    #[error("reading: {0}")]
    Read(#[from] ApiError),
    #[error("a bucket: {0}")]
    Bucket(#[from] KvError),
    #[error("the ticket was not signed")]
    Unsigned,
}

impl Handler for Shell {
    async fn handle(&self, message: &Inbound) -> Verdict {
        let from_outside = message.stream.starts_with("TASKS_");
        let is_task = message.subject.starts_with("task.");
        if is_task && message.delivered == 1 && self.known.borrow().closed.is_some() {
            return Verdict::Retry { after: FULL_AFTER };
        }
        // A producer's headers must be well; our own roles' may be larger.
        let (headers, refused) = match message.read_headers() {
            Ok(headers) => (headers, None),
            Err(refused) if from_outside => (message.trusted_headers(), Some(refused)),
            Err(_) => (message.trusted_headers(), None),
        };
        let stored = Stored {
            position: message.position(),
            subject: message.subject.clone(),
            headers,
            payload: message.payload.clone(),
            time: message.published,
        };
        // Delivered before: its work may be stored already.
        let admitted = message.delivered > 1 || self.admitted.take(&stored.position);
        self.live(stored, refused, admitted).await
    }

    fn poison(&self, message: &Inbound) -> Dead {
        self.owned(poison::dead(message, Timestamp::now()))
    }
}

impl Shell {
    /// Lives a message's life to its end. No quota turns away what was `admitted` before.
    pub(crate) async fn live(
        &self,
        stored: Stored,
        refused: Option<tidegate_schemas::code::Refused>,
        admitted: bool,
    ) -> Verdict {
        let position = stored.position.clone();
        match self.perform(stored, refused, admitted).await {
            Ok(Disposition::Ack) => Verdict::Done,
            Ok(Disposition::Dead(refused)) => {
                Verdict::Dead(Box::new(self.owned(Dead::new(refused.code, refused.sentence))))
            }
            Err(later) => {
                let full = matches!(later, Later::Publish(PublishError::Full { .. }));
                tracing::warn!(position = %position, error = %later, "Put a message off.");
                self.admitted.note(&position);
                Verdict::Retry { after: if full { FULL_AFTER } else { RETRY_AFTER } }
            }
        }
    }

    /// The same, with whom to ask: the owner of the bundle in force.
    fn owned(&self, dead: Dead) -> Dead {
        Dead { owners: Owners::of_bundle(self.known.borrow().release.active().bundle().owner()), ..dead }
    }

    async fn perform(
        &self,
        stored: Stored,
        refused: Option<tidegate_schemas::code::Refused>,
        admitted: bool,
    ) -> Result<Disposition, Later> {
        let mut known = self.known.borrow().clone();
        if admitted {
            known.in_flight = Arc::default();
        }
        let (random, sequence) = (randomness(), stored.position.sequence);
        let (mut life, mut step) =
            Life::begin(stored, refused, &self.context(&known, random, known.release.lend().bench()));
        loop {
            let Step { tell, action } = step;
            for telling in &tell {
                self.tell(telling).await;
            }
            let event = match action {
                Action::Done(disposition) => return Ok(disposition),
                Action::Load(places) => Event::Loaded(self.load(places).await?),
                Action::Recall(key) => Event::Recalled(self.recall(&key).await?),
                Action::Remember { key, labels, revision } => {
                    Event::Remembered(self.remember(&key, &labels, revision).await?)
                }
                Action::Claim { key, value } => Event::Claimed { holder: self.claim(&key, value).await? },
                Action::Send(message) => {
                    alarm::raise(&message.headers);
                    if let Some((tenant, agent, task)) = life.named() {
                        self.recent.note(tenant, agent, task, sequence);
                    }
                    let mut headers = message.headers;
                    if let Some(claims) = message.ticket {
                        let ticket = self.signing.sign(*claims).await.ok_or(Later::Unsigned)?;
                        headers.set(header::TICKET, ticket);
                    }
                    let outbound = Outbound::new(message.subject, message.payload)
                        .with_id(message.msg_id)
                        .with_headers(headers);
                    let sent = sent(self.bus.publish(outbound).await)?;
                    if let (Sent::Stored(_), Some(outcome)) = (&sent, message.outcome) {
                        metrics::counter!(metric::DECISIONS, "outcome" => outcome.as_str()).increment(1);
                    }
                    Event::Sent(sent)
                }
            };
            step = life.next(event, &self.context(&known, random, known.release.lend().bench()));
        }
    }

    /// What is known now.
    fn context<'a>(&'a self, known: &'a Knowledge, random: Randomness, bench: Bench<'a>) -> Context<'a> {
        Context {
            now: Timestamp::now(),
            random,
            directory: &known.directory,
            directory_hash: known.directory_hash,
            bench,
            signs: true,
            cell: &self.cell,
            off: &known.flags.switches,
            flags: &known.flags.flags,
            flags_revision: known.flags.event,
            release_revision: known.release.revision(),
            wait_ms: &known.wait_ms,
            in_flight: &known.in_flight,
            gates: &known.gates,
            recent: &self.recent,
            egress_open: known.egress.is_open(known.started.elapsed()),
        }
    }

    /// Nobody waits for these; one that is lost is found in the record.
    async fn tell(&self, telling: &Telling) {
        let told = self.bus.publish_core(&telling.subject, &telling.headers, telling.payload.clone()).await;
        if let Err(error) = told {
            tracing::debug!(%error, "A transition was not told.");
        }
    }

    async fn load(&self, places: Vec<Place>) -> Result<Vec<Option<Stored>>, Later> {
        let mut found = Vec::with_capacity(places.len());
        for place in places {
            let stored = match place {
                Place::At(position) => self.bus.get(&position.stream, position.sequence).await?,
                Place::Parent { tenant, task } => {
                    let subject = format!("result.{tenant}.*.{task}");
                    self.bus.last_for_subject(RESULTS, &subject).await?
                }
                Place::Result { tenant, agent, task } => {
                    let subject = Subject::Result { tenant, agent, task }.to_string();
                    self.bus.last_for_subject(RESULTS, &subject).await?
                }
            };
            found.push(stored.map(stored_of));
        }
        Ok(found)
    }

    /// What a session has held. What cannot be read may have been anything.
    async fn recall(&self, key: &str) -> Result<Option<(Labels, u64)>, Later> {
        let Some(entry) = self.bus.kv_get(SESSIONS_BUCKET, key).await? else { return Ok(None) };
        let labels = serde_json::from_slice(&entry.value);
        let labels = labels.unwrap_or_else(|_| Labels::of(Sensitivity::Restricted));
        let revision = if is_old(entry.written, Timestamp::now()) {
            self.keep(key, &entry).await
        } else {
            entry.revision
        };
        Ok(Some((labels, revision)))
    }

    /// Writes what is known of a session anew, as it is, so that it does not go while it is used. Says at which revision it stands.
    async fn keep(&self, key: &str, entry: &KvEntry) -> u64 {
        match self.bus.kv_swap(SESSIONS_BUCKET, key, entry.value.clone(), Some(entry.revision)).await {
            Ok(revision) => revision,
            // Somebody else wrote it: who raises it by this revision reads again.
            Err(error) => {
                tracing::debug!(%error, "What a session held was not written anew.");
                entry.revision
            }
        }
    }

    async fn remember(&self, key: &str, labels: &Labels, revision: Option<u64>) -> Result<bool, Later> {
        let value = serde_json::to_vec(labels).unwrap_or_default();
        let written = match revision {
            Some(revision) => self.bus.kv_update(SESSIONS_BUCKET, key, value, revision).await,
            None => self.bus.kv_create(SESSIONS_BUCKET, key, value).await,
        };
        match written {
            Ok(_) => Ok(true),
            Err(KvError::Conflict { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    async fn claim(&self, key: &str, value: String) -> Result<String, Later> {
        match self.bus.kv_create(REVIEWS_BUCKET, key, Bytes::from(value.clone().into_bytes())).await {
            Ok(_) => Ok(value),
            Err(KvError::Conflict { .. }) => {
                let entry = self.bus.kv_get(REVIEWS_BUCKET, key).await?;
                Ok(entry.map(|entry| String::from_utf8_lossy(&entry.value).into_owned()).unwrap_or_default())
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Whether what is known of a session is to be written anew when it is used.
fn is_old(written: Timestamp, now: Timestamp) -> bool {
    now.duration_since(written) > SignedDuration::from_hours(SESSION_KEPT_HOURS)
}

/// Applies operators' acts, in order.
#[derive(Clone)]
pub(crate) struct ControlShell {
    pub(crate) shell: Shell,
}

impl Handler for ControlShell {
    async fn handle(&self, message: &Inbound) -> Verdict {
        let ready = Arc::clone(&self.shell.known.borrow().release);
        match control::apply(&self.shell.bus, &ready, message).await {
            Ok(Then::Done) => {
                tracing::info!(event = %message.position(), subject = message.subject, "Applied an operator's act.");
                Verdict::Done
            }
            Ok(Then::TakeUp(stored)) => {
                let about = (Position::new(stored.stream.clone(), stored.sequence), stored.subject.clone());
                match self.shell.live(stored_of(*stored), None, true).await {
                    Verdict::Done => Verdict::Done,
                    Verdict::Dead(dead) => Verdict::Dead(Box::new(Dead { about: Some(about), ..*dead })),
                    // Acts come one after the other: the next one, which may switch a lane off, must not wait for this.
                    Verdict::Retry { .. } => {
                        let dead = self.shell.owned(Dead::new(Code::Internal, control::NOT_NOW));
                        Verdict::Dead(Box::new(Dead { about: Some(about), ..dead }))
                    }
                }
            }
            Err(ControlError::Refused(refused)) => {
                tracing::info!(event = %message.position(), code = refused.code.as_str(), "Refused an operator's act.");
                match control::answer(&self.shell.bus, message, refused).await {
                    Ok(()) => Verdict::Done,
                    Err(error) => {
                        tracing::warn!(event = %message.position(), %error, "Put an answer to an operator off.");
                        Verdict::Retry { after: RETRY_AFTER }
                    }
                }
            }
            Err(ControlError::Malformed(refused)) => {
                Verdict::Dead(Box::new(self.shell.owned(Dead::new(refused.code, refused.sentence))))
            }
            Err(error) => {
                tracing::warn!(event = %message.position(), %error, "Put an operator's act off.");
                Verdict::Retry { after: RETRY_AFTER }
            }
        }
    }

    fn poison(&self, message: &Inbound) -> Dead {
        self.shell.poison(message)
    }
}

fn stored_of(stored: tidegate_bus::Stored) -> Stored {
    Stored {
        position: Position::new(stored.stream.clone(), stored.sequence),
        headers: stored.trusted_headers(),
        subject: stored.subject,
        payload: stored.payload,
        time: stored.published,
    }
}

fn sent(published: Result<tidegate_bus::Published, PublishError>) -> Result<Sent, Later> {
    match published {
        Ok(published) if published.duplicate => Ok(Sent::Duplicate(published.position())),
        Ok(published) => Ok(Sent::Stored(published.position())),
        Err(PublishError::Refused { .. }) => Ok(Sent::Taken),
        Err(error) => Err(error.into()),
    }
}

/// A UUIDv7 (RFC 9562 §5.7) from the thread's own generator, which asks the system for a seed only.
fn uuid_v7() -> Uuid {
    let millis = u64::try_from(Timestamp::now().as_millisecond()).unwrap_or(0);
    uuid::Builder::from_unix_timestamp_millis(millis, &rand::random()).into_uuid()
}

fn randomness() -> Randomness {
    Randomness {
        decision: uuid_v7(),
        ticket: uuid_v7(),
        salt: rand::random(),
        trace: rand::random(),
        span: rand::random(),
    }
}

#[cfg(test)]
mod tests {
    use tidegate_schemas::control::STATE_DAYS;

    use super::*;

    #[test]
    fn session_that_is_used_is_kept_long_before_it_would_go() {
        let now = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(24 * 365);
        let written = |hours| now - SignedDuration::from_hours(hours);
        assert!(!is_old(written(1), now) && !is_old(written(-1), now), "not with each task");
        assert!(is_old(written(SESSION_KEPT_HOURS + 1), now));
        assert!(u64::try_from(SESSION_KEPT_HOURS).is_ok_and(|hours| hours * 2 < STATE_DAYS * 24));
    }
}
