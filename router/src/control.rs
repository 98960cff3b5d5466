//! Operators' acts, applied: the event in the stream is the act; here its effect reaches the buckets that all roles read.
//!
//! Each pointer remembers the event that moved it and never moves back, so an event may come twice or late.

use serde::Serialize;
use serde::de::DeserializeOwned;
use tidegate_bus::{Bus, Inbound, KvError, Outbound, PublishError};
use tidegate_schemas::budget::ledger::Ledger;
use tidegate_schemas::budget::{BUDGETS_BUCKET, Scope};
use tidegate_schemas::code::{Code, Refused};
use tidegate_schemas::control::{
    ACTIVE_KEY, Act, Active, Control, DIRECTORY_BUCKET, FLAGS_BUCKET, FLAGS_KEY, Flags, REFUSED,
};
use tidegate_schemas::decision::Switch;
use tidegate_schemas::digest::Digest;
use tidegate_schemas::directory::Directory;
use tidegate_schemas::header::{self, Headers};
use tidegate_schemas::ids::Position;
use tidegate_schemas::json;
use tidegate_schemas::limits::{MESSAGE_BYTES_MAX, REASON_BYTES_MAX};
use tidegate_schemas::subject::{EVENTS, Lane, Subject};

use crate::knowledge::KnowledgeError;
use crate::release::Release;

mod flag;
mod release;

/// Times a pointer is read again when another router moved it meanwhile.
const TRIES_MAX: u32 = 8;

/// Why a requeue ends at once where it cannot be done: later acts do not wait for it.
pub(crate) const NOT_NOW: &str = "the message could not be taken up now; requeue it again";

/// Why an act was not applied.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ControlError {
    /// It is an act, and will never apply: the operator is answered, on record.
    #[error("{0}")]
    Refused(#[from] Refused),
    /// It is no act that could be processed: a dead letter.
    #[error("{0}")]
    Malformed(Refused),
    /// It may apply later.
    #[error("reading or writing a bucket: {0}")]
    Bucket(#[from] KvError),
    /// It may apply later.
    #[error("publishing: {0}")]
    Publish(#[from] PublishError),
    /// It may apply later.
    #[error("reading a message: {0}")]
    Read(#[from] tidegate_bus::ApiError),
    /// It may apply later.
    #[error("reading what is active: {0}")]
    Knowledge(#[from] KnowledgeError),
    /// Routers keep moving the pointer.
    #[error("other routers keep moving `{0}`")]
    Contended(&'static str),
}

fn refused(code: Code, sentence: &str) -> ControlError {
    ControlError::Refused(Refused::new(code, sentence))
}

/// What is left to do after an act.
#[derive(Debug)]
pub(crate) enum Then {
    /// Nothing.
    Done,
    /// This message is taken up again, as if it came in.
    TakeUp(Box<tidegate_bus::Stored>),
}

/// Applies an operator's act. What is ready saves reading what is released; where that does not answer it is read.
pub(crate) async fn apply(bus: &Bus, ready: &Release, inbound: &Inbound) -> Result<Then, ControlError> {
    let malformed = |code, sentence| ControlError::Malformed(Refused::new(code, sentence));
    let control: Control =
        json::read(&inbound.payload, MESSAGE_BYTES_MAX).map_err(ControlError::Malformed)?;
    let operator = match Subject::parse(&inbound.subject) {
        Ok(Subject::Control { topic, operator }) if topic.as_str() == control.act.topic() => operator,
        _ => return Err(malformed(Code::IdentityMismatch, "the act does not belong to its subject's topic")),
    };
    if control.reason.trim().is_empty() || control.reason.len() > REASON_BYTES_MAX {
        return Err(malformed(Code::InvalidField, "an act needs a reason of 1 to 2,000 bytes"));
    }
    if matches!(control.act, Act::Refused { .. }) && inbound.subject != REFUSED {
        return Err(malformed(Code::IdentityMismatch, "only routers say what they refuse"));
    }
    let event = inbound.sequence;
    match control.act {
        Act::LaneOff { switch } => switches(bus, event, |off| with(off, &switch)).await?,
        Act::LaneOn { switch } => switches(bus, event, |off| without(off, &switch)).await?,
        Act::FlagSet { flag, tenants, portion } => {
            // To take a flag back needs no bundle that knows it.
            let needs_none = portion.share_bp == 0 || ready.declares(&flag);
            flag::apply(bus, event, (&flag, needs_none), &tenants, portion).await?;
        }
        act @ (Act::BundleActivate { .. }
        | Act::BundlePush { .. }
        | Act::BundleShadow { .. }
        | Act::BundleCanary { .. }
        | Act::BundlePromote { .. }
        | Act::BundleRollback { .. }
        | Act::BundleApprove { .. }) => release::apply(bus, event, &operator, act).await?,
        Act::DirectoryActivate { base, directory: new } => directory(bus, event, base, &new).await?,
        Act::BudgetReset { of } => reset(bus, event, &of).await?,
        Act::DeadRequeue { letter } => return requeue(bus, inbound, &letter).await,
        // The event itself is the whole act.
        Act::DeadDiscard { .. }
        | Act::ReplayStart { .. }
        | Act::ReplayCancel { .. }
        | Act::ReplayEnd { .. }
        | Act::RecordBreak { .. }
        | Act::HoldAdd { .. }
        | Act::HoldRemove { .. }
        | Act::PruneBodies { .. }
        | Act::PruneRecords { .. }
        | Act::KeyRotate {}
        | Act::TicketKeyRotate { .. }
        | Act::Refused { .. }
        | Act::Erase { .. }
        | Act::EraseMessages { .. }
        | Act::EraseEnd { .. } => {}
    }
    Ok(Then::Done)
}

/// Puts on record that an act was refused, where its operator and every later reader finds it. Running it again publishes
/// nothing twice.
pub(crate) async fn answer(bus: &Bus, inbound: &Inbound, refused: Refused) -> Result<(), PublishError> {
    let Refused { code, sentence } = refused;
    let mut end = sentence.len().min(REASON_BYTES_MAX);
    while !sentence.is_char_boundary(end) {
        end -= 1;
    }
    let reason = sentence.get(..end).unwrap_or_default().to_owned();
    let act = Act::Refused { event: inbound.sequence, code };
    let control = Control { schema_version: 1, act, reason };
    let headers = Headers::new()
        .with(header::CAUSE, inbound.position().to_string())
        .with(header::CODE, code.as_str())
        .with("content-type", "application/json");
    // Numbers and words always serialise.
    let message = Outbound::new(REFUSED, serde_json::to_vec(&control).unwrap_or_default())
        .with_id(format!("refused/{}", inbound.position()))
        .with_headers(headers);
    bus.publish(message).await.map(drop)
}

fn with(off: &[Switch], switch: &Switch) -> Vec<Switch> {
    let mut all = without(off, switch);
    all.push(switch.clone());
    all.sort();
    all
}

fn without(off: &[Switch], switch: &Switch) -> Vec<Switch> {
    off.iter().filter(|other| *other != switch).cloned().collect()
}

async fn switches(
    bus: &Bus,
    event: u64,
    change: impl Fn(&[Switch]) -> Vec<Switch>,
) -> Result<(), ControlError> {
    moved(bus, FLAGS_BUCKET, FLAGS_KEY, |now| {
        let now = standing(now);
        let switches = change(&now.switches);
        Ok((now.event < event).then_some(Flags { event, switches, ..now }))
    })
    .await
}

/// Where switches and flags are gone or cannot be read, nobody knows what was off: the cloud is, until it is switched on.
fn standing(now: Option<Flags>) -> Flags {
    let cloud = Switch { lane: Some(Lane::Cloud), ..Switch::default() };
    now.unwrap_or_else(|| Flags { switches: vec![cloud], ..Flags::default() })
}

/// Moves a value by compare-and-set. `next` gives none when the value already stands past this event.
async fn moved<T: Serialize + DeserializeOwned>(
    bus: &Bus,
    bucket: &'static str,
    key: &str,
    next: impl Fn(Option<T>) -> Result<Option<T>, ControlError>,
) -> Result<(), ControlError> {
    for _ in 0..TRIES_MAX {
        let entry = bus.kv_get(bucket, key).await?;
        let now = entry.as_ref().and_then(|entry| serde_json::from_slice(&entry.value).ok());
        let Some(value) = next(now)? else { return Ok(()) };
        let value =
            serde_json::to_vec(&value).map_err(|_| refused(Code::Internal, "the value cannot be written"))?;
        let written = match &entry {
            Some(entry) => bus.kv_update(bucket, key, value, entry.revision).await,
            None => bus.kv_create(bucket, key, value).await,
        };
        match written {
            Ok(_) => return Ok(()),
            Err(KvError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(ControlError::Contended(bucket))
}

/// A directory replaces the whole one before it, so it must have been made from the one that is active: else what somebody
/// else changed meanwhile would be lost.
async fn directory(bus: &Bus, event: u64, base: Digest, directory: &Directory) -> Result<(), ControlError> {
    permitted(directory)?;
    let hash = directory.hash();
    let content = serde_json::to_vec(directory).map_err(|_| refused(Code::Internal, "cannot be written"))?;
    bus.kv_put(DIRECTORY_BUCKET, &hash.to_string(), content).await?;
    moved(bus, DIRECTORY_BUCKET, ACTIVE_KEY, |now| follows(now, event, base, hash)).await
}

/// What the recorder says under its own name explains what is gone from the record, and routers say what they refuse, so nobody
/// else may have those names.
fn permitted(directory: &Directory) -> Result<(), ControlError> {
    let taken = "an operator cannot be named `recorder` or `router`: those roles act under these names";
    directory.named_as_a_role().map_or(Ok(()), |_| Err(refused(Code::InvalidField, taken)))
}

/// The pointer that an act leaves behind; none where it stands past the act already.
fn follows(
    now: Option<Active>,
    event: u64,
    base: Digest,
    hash: Digest,
) -> Result<Option<Active>, ControlError> {
    match now {
        Some(now) if now.event >= event => Ok(None),
        Some(now) if now.hash == base => Ok(Some(Active { event, hash })),
        None if hash == base => Ok(Some(Active { event, hash })),
        _ => Err(refused(Code::Outdated, "the directory was changed meanwhile; make the change again")),
    }
}

/// Begins a ledger anew. What is under way then is settled in none; a second time the same act changes nothing.
async fn reset(bus: &Bus, event: u64, of: &Scope) -> Result<(), ControlError> {
    moved(bus, BUDGETS_BUCKET, &of.key(), |now| Ok(begun_anew(now, event, of))).await
}

fn begun_anew(now: Option<Ledger>, event: u64, of: &Scope) -> Option<Ledger> {
    let done = now.is_some_and(|ledger| ledger.reset >= Some(event));
    (!done).then(|| Ledger { reset: Some(event), ..Ledger::new(of.clone()) })
}

/// Takes a dead letter's message up again. Work goes back into its stream; the rest is the router's own to handle.
async fn requeue(bus: &Bus, inbound: &Inbound, letter: &Position) -> Result<Then, ControlError> {
    if letter.stream != EVENTS {
        return Err(refused(Code::Unattributable, "dead letters stand in EVENTS"));
    }
    let gone = || refused(Code::Unattributable, "the dead letter, or its message, is not there any more");
    let letter = bus.get(EVENTS, letter.sequence).await?.ok_or_else(gone)?;
    let dead: tidegate_schemas::dead::DeadLetter = json::read(&letter.payload, MESSAGE_BYTES_MAX)?;
    let stored = bus.get(&dead.message.stream, dead.message.sequence).await?.ok_or_else(gone)?;
    match Subject::parse(&stored.subject) {
        Ok(Subject::Task { .. } | Subject::Step(..) | Subject::Verdict { .. } | Subject::Cancel { .. }) => {
            Ok(Then::TakeUp(Box::new(stored)))
        }
        Ok(Subject::WorkLocal { .. } | Subject::WorkCloud { .. }) => {
            let headers = stored.trusted_headers().with(header::CAUSE, inbound.position().to_string());
            let again = Outbound::new(stored.subject.clone(), stored.payload.clone())
                .with_headers(headers)
                .with_id(format!("requeue/{}", inbound.position()));
            bus.publish(again).await.map_err(|_| refused(Code::Internal, NOT_NOW))?;
            Ok(Then::Done)
        }
        _ => Err(refused(Code::Unattributable, "a message of this kind is not taken up again")),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::expect_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_directory_that_gives_an_operator_a_role_s_name_is_refused() {
        let of = |name: &str| {
            let mut directory = Directory::empty();
            directory.operators.extend(tidegate_schemas::ids::Name::new(name));
            directory
        };
        for role in ["recorder", "router"] {
            assert!(matches!(permitted(&of(role)), Err(ControlError::Refused(_))), "{role}");
        }
        for fine in ["admin", "recorder-2", "recorders", "routers"] {
            assert!(permitted(&of(fine)).is_ok(), "negative control: {fine}");
        }
    }

    #[test]
    fn budget_that_is_reset_counts_anew_once_for_each_act() {
        let of = Scope::Provider { provider: tidegate_schemas::ids::Name::new("p").expect("a name") };
        let mut used = Ledger::new(of.clone());
        let caps = tidegate_schemas::budget::Caps::new();
        used.reserve(
            &caps,
            "a/1",
            1,
            tidegate_schemas::budget::Amounts::default(),
            jiff::Timestamp::UNIX_EPOCH,
        );
        let new = begun_anew(Some(used.clone()), 7, &of).expect("a new one");
        assert_eq!((new.open.len(), new.reset), (0, Some(7)));
        assert_eq!(begun_anew(None, 7, &of), Some(new.clone()), "one that cannot be read");
        // It came twice: what was counted since stays.
        let since = Ledger { open: used.open, ..new };
        assert_eq!(begun_anew(Some(since.clone()), 7, &of), None);
        assert!(begun_anew(Some(since), 8, &of).is_some(), "negative control: another act");
    }

    #[test]
    fn a_directory_made_from_another_than_the_active_one_is_refused() {
        let [a, b, c] = [b"a", b"b", b"c"].map(|content| Digest::plain(content));
        let at = |event, hash| Some(Active { event, hash });
        // What is active, the base of event 5 that would make `c` active, and what becomes of it.
        let rows = [
            (at(4, a), a, Some(at(5, c))),
            (at(0, a), a, Some(at(5, c))),
            (at(4, b), a, None),
            (None, a, None),
            // It came twice, or late: nothing moves back.
            (at(5, c), a, Some(None)),
            (at(6, b), a, Some(None)),
        ];
        for (now, base, expected) in rows {
            match (follows(now.clone(), 5, base, c), expected) {
                (Ok(moved), Some(expected)) => assert_eq!(moved, expected, "{now:?}"),
                (Err(ControlError::Refused(refused)), None) => assert_eq!(refused.code, Code::Outdated),
                (other, expected) => assert_eq!(format!("{other:?}"), format!("{expected:?}")),
            }
        }
    }
}
