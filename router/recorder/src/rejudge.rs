//! Re-judging: what was recorded, judged again, with no effect on anything. The same task, directory, facts and bundle must
//! give the same decision; another bundle shows what it would have decided.
//!
//! What is judged comes out of the sealed bodies, so it needs the master key. What cannot be judged is counted, never guessed.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use tidegate_audit::{Filter, Opened, ReadError, Reader, Record, RecordKind};
use tidegate_policies::{Bundle, BundleError, Judge};
use tidegate_schemas::decision::{Decision, Outcome};
use tidegate_schemas::digest::Digest;
use tidegate_schemas::header;
use tidegate_schemas::ids::{Name, Position, TaskId};
use tidegate_schemas::json;
use tidegate_schemas::limits::MESSAGE_BYTES_MAX;
use tidegate_schemas::review::{Action, Verdict};
use tidegate_schemas::task::{Again, Task};
use tidegate_schemas::work::Hop;

pub use cases::{CasesError, Written, cases};
pub use shelf::{Fetch, Version};

use compare::Part;
use shelf::Shelf;

pub mod backtest;

mod cases;
mod compare;
mod shelf;
#[cfg(test)]
mod tests;

/// Records of one page.
const PAGE: usize = 1_000;
/// Differences that are told one by one.
const TOLD_MAX: usize = 100;

/// What re-judging found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Rejudged {
    /// Decisions looked at.
    pub decisions: u64,
    /// Decided alike.
    pub equal: u64,
    /// Decided otherwise.
    pub differ: u64,
    /// Not judged, by reason.
    pub unjudged: BTreeMap<Unjudged, u64>,
    /// Outcomes, as recorded and as judged now.
    pub outcomes: BTreeMap<String, u64>,
    /// Bundles that had judged, and how many decisions each.
    pub bundles: BTreeMap<Digest, u64>,
    /// The first differences.
    pub differences: Vec<Difference>,
}

/// Why a decision cannot be judged again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unjudged {
    /// The message, or its task's, was erased by an act on record.
    Erased,
    /// The message, or its task's, was pruned by retention.
    Pruned,
    /// The message, or its task's, cannot be opened, and no act says why.
    Lost,
    /// No master key was given.
    Sealed,
    /// The task's message, or the verdict that edited it, is not in the record.
    TaskUnknown,
    /// The bundle that judged is nowhere.
    BundleUnknown,
    /// The directory that was asked is nowhere.
    DirectoryUnknown,
    /// A part of it is not what this version reads.
    Unreadable,
}

/// A decision that comes out otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Its record.
    pub index: u64,
    /// Where its message stands.
    pub position: Position,
    /// The task.
    pub task: TaskId,
    /// What differs.
    pub parts: Vec<Part>,
    /// As it was recorded.
    pub recorded: Brief,
    /// As it is judged now.
    pub judged: Brief,
}

/// A decision in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Brief {
    /// What happens to the task.
    pub outcome: Outcome,
    /// Where it runs, or would run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination: Option<Name>,
    /// Policies that determined it.
    pub policies: Vec<String>,
}

/// Why nothing was judged.
#[derive(Debug, thiserror::Error)]
pub enum RejudgeError {
    /// The record could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The bundle to compare with cannot be used.
    #[error("the bundle cannot be used: {0}")]
    Bundle(#[from] BundleError),
}

/// Judges recorded decisions again: those that the filter matches, under the bundle that each names, or all under `other`.
/// `fetch` gives versions that the record does not hold; `progress` is told records passed and records there are.
///
/// # Errors
/// [`RejudgeError`]. What cannot be judged is no error but counted.
pub fn run(
    reader: &Reader,
    filter: &Filter,
    other: Option<Arc<Bundle>>,
    fetch: &mut Fetch<'_>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Rejudged, RejudgeError> {
    let mut shelf = Shelf::new(reader, fetch)?;
    let other = other.map(Judge::new).transpose()?;
    let mut found = Rejudged::default();
    each(reader, filter, progress, &mut |record: &Record| {
        if let Some(outcome) = again(reader, record, &mut shelf, other.as_ref())? {
            found.add(record, outcome);
        }
        Ok(())
    })?;
    Ok(found)
}

/// Takes each record that a filter matches, in the record's order, a page at a time. `progress` is told records passed and
/// records there are.
fn each(
    reader: &Reader,
    filter: &Filter,
    progress: &mut dyn FnMut(u64, u64),
    take: &mut dyn FnMut(&Record) -> Result<(), ReadError>,
) -> Result<(), ReadError> {
    let mut page = Filter { after: None, limit: Some(PAGE), ..filter.clone() };
    let total = reader.status()?.records;
    loop {
        let found = reader.query(&page)?;
        for record in &found.records {
            take(record)?;
        }
        // A page may have no hit and be far on; the last one has passed all.
        progress(found.next.map_or(total, |next| (next.index() + 1).min(total)), total);
        match found.next {
            Some(next) => page.after = Some(next),
            None => return Ok(()),
        }
    }
}

/// One decision, as it was and as it is.
struct Judged {
    task: TaskId,
    recorded: Decision,
    judged: Decision,
    parts: Vec<Part>,
}

/// Judges what one record decided. `None` where it decided nothing of its own.
fn again(
    reader: &Reader,
    record: &Record,
    shelf: &mut Shelf<'_, '_>,
    other: Option<&Judge>,
) -> Result<Option<Result<Judged, Unjudged>>, ReadError> {
    if !is_decided(record) {
        return Ok(None);
    }
    let (task, recorded) = match decided(reader, record)? {
        Ok(found) => found,
        Err(why) => return Ok(Some(Err(why))),
    };
    let directory = match shelf.directory(recorded.facts.directory)? {
        Some(directory) => directory,
        None => return Ok(Some(Err(Unjudged::DirectoryUnknown))),
    };
    if let Some(judge) = other {
        let judged = judge.decide(&task, &directory, &recorded.facts);
        let parts = compare::in_effect(&recorded, &judged);
        return Ok(Some(Ok(Judged { task: task.id, recorded, judged, parts })));
    }
    let Some(judge) = shelf.judge(recorded.bundle)? else {
        return Ok(Some(Err(Unjudged::BundleUnknown)));
    };
    let judged = judge.decide(&task, &directory, &recorded.facts);
    let judged = compare::as_sent(judged, &recorded, &task, judge);
    let parts = compare::exactly(&recorded, &judged);
    Ok(Some(Ok(Judged { task: task.id, recorded, judged, parts })))
}

/// Whether a record decided something of its own.
fn is_decided(record: &Record) -> bool {
    let Some(leaf) = &record.leaf.decision else { return false };
    match record.leaf.kind {
        RecordKind::Work | RecordKind::Review => true,
        // What a reviewer rejected carries the decision that had held it.
        RecordKind::Result => leaf.outcome == Outcome::Reject,
        _ => false,
    }
}

/// The task as it was judged, and the decision, out of the sealed bodies.
fn decided(reader: &Reader, record: &Record) -> Result<Result<(Task, Decision), Unjudged>, ReadError> {
    let body = match open(reader.body(record)?) {
        Ok(body) => body,
        Err(why) => return Ok(Err(why)),
    };
    let headers = body.trusted_headers();
    let decision = headers.get(header::DECISION).and_then(|text| serde_json::from_str::<Decision>(text).ok());
    let (Some(decision), Ok(hop)) = (decision, Hop::read(&headers)) else {
        return Ok(Err(Unjudged::Unreadable));
    };
    let Some(sent) = reader.at(&hop.task)? else { return Ok(Err(Unjudged::TaskUnknown)) };
    let envelope = match open(reader.body(&sent)?) {
        Ok(envelope) => envelope,
        Err(why) => return Ok(Err(why)),
    };
    let headers = envelope.trusted_headers();
    let again = Again {
        subject: &envelope.subject,
        headers: &headers,
        payload: &envelope.payload,
        position: &hop.task,
        submitted: sent.leaf.time,
    };
    let Some(mut task) = again.read() else { return Ok(Err(Unjudged::Unreadable)) };
    if let Some(approval) = decision.facts.approval.as_ref().filter(|approval| approval.edited) {
        match edited(reader, &again, &task, &approval.verdict)? {
            Ok(edited) => task = edited,
            Err(why) => return Ok(Err(why)),
        }
    }
    // It may have moved since: being held stops it.
    task.limits.deadline = hop.deadline;
    Ok(Ok((task, decision)))
}

/// The task with the input that a reviewer's verdict put into it.
fn edited(
    reader: &Reader,
    again: &Again<'_>,
    task: &Task,
    verdict: &str,
) -> Result<Result<Task, Unjudged>, ReadError> {
    let Ok(position) = verdict.parse::<Position>() else { return Ok(Err(Unjudged::Unreadable)) };
    let Some(record) = reader.at(&position)? else { return Ok(Err(Unjudged::TaskUnknown)) };
    let body = match open(reader.body(&record)?) {
        Ok(body) => body,
        Err(why) => return Ok(Err(why)),
    };
    let Ok(verdict) = json::read::<Verdict>(&body.payload, MESSAGE_BYTES_MAX) else {
        return Ok(Err(Unjudged::Unreadable));
    };
    let Action::Edit { input, labels } = &verdict.action else { return Ok(Err(Unjudged::Unreadable)) };
    let edited = again.edited(task, input.expose(), labels.as_ref());
    Ok(edited.map(|(task, _)| task).map_err(|_| Unjudged::Unreadable))
}

fn open(opened: Opened) -> Result<Box<tidegate_audit::Body>, Unjudged> {
    match opened {
        Opened::Body(body) => Ok(body),
        Opened::Sealed => Err(Unjudged::Sealed),
        Opened::Erased { .. } => Err(Unjudged::Erased),
        Opened::Pruned => Err(Unjudged::Pruned),
        Opened::Lost => Err(Unjudged::Lost),
        Opened::Nothing => Err(Unjudged::TaskUnknown),
    }
}

// === impl Rejudged ===

impl Rejudged {
    /// Decisions that were not judged.
    #[must_use]
    pub fn unjudged(&self) -> u64 {
        self.unjudged.values().sum()
    }

    fn add(&mut self, record: &Record, outcome: Result<Judged, Unjudged>) {
        self.decisions += 1;
        if let Some(leaf) = &record.leaf.decision {
            *self.bundles.entry(leaf.bundle).or_default() += 1;
        }
        let Judged { task, recorded, judged, parts } = match outcome {
            Ok(judged) => judged,
            Err(why) => return *self.unjudged.entry(why).or_default() += 1,
        };
        let arrow = format!("{} -> {}", recorded.outcome.as_str(), judged.outcome.as_str());
        *self.outcomes.entry(arrow).or_default() += 1;
        if parts.is_empty() {
            self.equal += 1;
            return;
        }
        self.differ += 1;
        if self.differences.len() < TOLD_MAX {
            self.differences.push(Difference {
                index: record.leaf.index,
                position: record.leaf.position(),
                task,
                parts,
                recorded: Brief::of(recorded),
                judged: Brief::of(judged),
            });
        }
    }
}

impl Brief {
    fn of(decision: Decision) -> Self {
        let Decision { outcome, destination, determining, .. } = decision;
        Self { outcome, destination: destination.map(|place| place.name), policies: determining }
    }
}
