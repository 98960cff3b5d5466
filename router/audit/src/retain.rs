//! Retention: which segments are past it, what keeps them all the same, and what explains that they are gone.
//!
//! It takes whole files, bodies before records. Hashes and frontier stay, so every proof about what is left, and about
//! what somebody outside still holds, goes on verifying.

use std::collections::{BTreeMap, HashMap};

use jiff::{SignedDuration, Timestamp};
use redb::ReadableTable as _;
use serde::{Deserialize, Serialize};
use tidegate_schemas::control::HoldTarget;
use tidegate_schemas::ids::{Name, TaskId};
use uuid::Uuid;

use crate::error::{Failure, ReadError};
use crate::hold::{self, Hold};
use crate::leaf::{Leaf, RecordKind, leaf_hash};
use crate::read::search::Terms;
use crate::read::view::View;
use crate::read::{Reader, record};
use crate::segment::{Part, Segment};
use crate::store::tree::Stored;
use crate::table;

#[cfg(test)]
pub(crate) mod tests;

/// How long what is recorded is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Bodies: messages as they were.
    pub bodies: SignedDuration,
    /// Records: what was decided. Never shorter than bodies.
    pub records: SignedDuration,
}

/// A part of a segment that is past its retention.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Due {
    /// What goes.
    pub part: Part,
    /// Index of the first record.
    pub first: u64,
    /// Records.
    pub records: u64,
    /// Time of the newest.
    pub newest: Timestamp,
    /// What keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block: Option<Block>,
}

/// What keeps a segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case", tag = "by")]
pub enum Block {
    /// A legal hold.
    #[error("hold {hold} is on something in it")]
    Hold {
        /// The hold.
        hold: Uuid,
    },
    /// A task that has not ended.
    #[error("task {task} is still open")]
    Task {
        /// The task.
        task: TaskId,
    },
    /// A stream that still holds a message of it: once the record is gone, nothing says whose message that is, and who
    /// erases a person could not delete it.
    #[error("stream {stream} still holds messages of it")]
    Stream {
        /// The stream.
        stream: String,
    },
}

/// Sequences of a stream that were pruned.
pub(crate) struct Span {
    pub(crate) stream: String,
    pub(crate) from: u64,
    pub(crate) to: u64,
}

// === impl Retention ===

impl Default for Retention {
    fn default() -> Self {
        let days = |days: i64| SignedDuration::from_hours(24 * days);
        Self { bodies: days(30), records: days(396) }
    }
}

impl Retention {
    fn of(&self, part: Part) -> SignedDuration {
        match part {
            Part::Bodies => self.bodies,
            Part::Records => self.records.max(self.bodies),
        }
    }
}

impl Reader {
    /// What is past its retention, the oldest first, and what keeps it all the same.
    ///
    /// # Errors
    /// As [`Reader::get`].
    pub fn due(&self, retention: &Retention, now: Timestamp) -> Result<Vec<Due>, ReadError> {
        let mut due = Vec::new();
        let segments = self.begin()?.segments()?;
        for segment in segments {
            // Each in a view of its own: looking through a segment takes a while.
            let view = self.begin()?;
            if segment.end > view.live_first() || segment.records.is_some() {
                continue;
            }
            let old = |part: Part| segment.newest.duration_until(now) >= retention.of(part);
            let part = match (old(Part::Records), old(Part::Bodies) && segment.bodies.is_none()) {
                (true, _) => Part::Records,
                (false, true) => Part::Bodies,
                (false, false) => continue,
            };
            let block = block(&view, &segment, now)?;
            let (first, records, newest) = (segment.first, segment.len(), segment.newest);
            due.push(Due { part, first, records, newest, block });
        }
        Ok(due)
    }
}

impl Reader {
    /// Of a segment, by its first record: the first and the last sequence of each stream that its messages had. Nothing of a
    /// segment that there is not, or of which the records are gone.
    ///
    /// # Errors
    /// As [`Reader::get`].
    pub fn messages_of(&self, first: u64) -> Result<BTreeMap<String, (u64, u64)>, ReadError> {
        let view = self.begin()?;
        let mut found: BTreeMap<String, (u64, u64)> = BTreeMap::new();
        let segment = view.segments()?.into_iter().find(|segment| segment.first == first);
        let Some(segment) = segment.filter(|segment| segment.records.is_none()) else { return Ok(found) };
        view.rows(segment.first..segment.end, |_, row| -> Result<(), Failure> {
            let leaf = serde_json::from_slice::<Leaf>(row.get(32..).unwrap_or_default());
            if let Ok(leaf) = leaf
                && leaf.kind != RecordKind::Gap
            {
                let at = leaf.source.sequence;
                let span = found.entry(leaf.source.stream).or_insert((at, at));
                *span = (span.0.min(at), span.1.max(at));
            }
            Ok(())
        })?;
        Ok(found)
    }
}

/// What keeps a segment: an open task of which it has something, or a hold.
pub(crate) fn block(view: &View, segment: &Segment, now: Timestamp) -> Result<Option<Block>, ReadError> {
    let mut holds = hold::all(view)?;
    holds.retain(|hold| hold.counts(now));
    for row in view.open_table(table::OPEN).map_err(Failure::from)?.iter().map_err(Failure::from)? {
        let (key, _) = row.map_err(Failure::from)?;
        let place = key.value().get(8..).and_then(table::split_task_key);
        if let Some((task, ..)) = place.filter(|(task, ..)| has_task(view, segment, *task).unwrap_or(true)) {
            return Ok(Some(Block::Task { task }));
        }
    }
    for hold in &holds {
        if let HoldTarget::Task { task } = hold.target
            && has_task(view, segment, task)?
        {
            return Ok(Some(Block::Hold { hold: hold.id }));
        }
    }
    Ok(held(view, segment, &holds)?.map(|hold| Block::Hold { hold }))
}

fn has_task(view: &View, segment: &Segment, task: TaskId) -> Result<bool, ReadError> {
    let terms = Terms::of_task(task);
    let mut from = segment.first;
    while from < segment.end {
        let look = terms.look(view, from..segment.end)?;
        for index in look.indices {
            if record(view, index)?.is_some_and(|found| found.leaf.task == Some(task)) {
                return Ok(true);
            }
        }
        from = if look.end { segment.end } else { look.upto };
    }
    Ok(false)
}

/// As much of a leaf as says whose it is.
#[derive(Deserialize)]
struct Head {
    #[serde(default)]
    tenant: Option<Name>,
    #[serde(default)]
    body: Option<HeadBody>,
}

#[derive(Deserialize)]
struct HeadBody {
    key: u64,
}

/// The first hold on a tenant or a person of which a segment has a record. A record that cannot be read may be anybody's.
fn held(view: &View, segment: &Segment, holds: &[Hold]) -> Result<Option<Uuid>, Failure> {
    let (mut tenants, mut rows) = (HashMap::new(), Vec::new());
    for hold in holds {
        match &hold.target {
            HoldTarget::Tenant { tenant } => drop(tenants.insert(tenant, hold.id)),
            HoldTarget::Subject { reference, .. } => match hold::reference(reference) {
                Some(lookup) => rows.extend(hold::subject_row(view, &lookup)?.map(|row| (row, hold.id))),
                // Nobody can tell whom it is on.
                None => return Ok(Some(hold.id)),
            },
            HoldTarget::Task { .. } => {}
        }
    }
    if tenants.is_empty() && rows.is_empty() {
        return Ok(None);
    }
    let (mut found, mut keys) = (None, HashMap::new());
    view.rows(segment.first..segment.end, |_, row| -> Result<(), Failure> {
        if found.is_some() {
            return Ok(());
        }
        let head = serde_json::from_slice::<Head>(row.get(32..).unwrap_or_default());
        let Ok(Head { tenant, body }) = head else {
            found = holds.first().map(|hold| hold.id);
            return Ok(());
        };
        found = tenant.and_then(|tenant| tenants.get(&tenant).copied());
        let Some(HeadBody { key }) = body else { return Ok(()) };
        for (row, hold) in &rows {
            let is_of = match keys.get(&(key, *row)) {
                Some(known) => *known,
                None => {
                    let is_of = hold::key_is_of(view, key, *row)?;
                    keys.insert((key, *row), is_of);
                    is_of
                }
            };
            if is_of {
                found = Some(*hold);
            }
        }
        Ok(())
    })?;
    Ok(found)
}

/// Whether a record says that a part of a segment was pruned, and the tree holds that record.
pub(crate) fn is_explained(stored: &Stored, segment: &Segment, part: Part) -> Result<bool, Failure> {
    // Bodies go with their records.
    let whole = segment.records.as_ref().map(|pruning| (Part::Records, pruning));
    let own = segment.pruning(part).map(|pruning| (part, pruning));
    for (part, pruning) in own.into_iter().chain(whole) {
        let leaf = serde_json::from_str::<Leaf>(&pruning.leaf);
        let says = leaf.is_ok_and(|leaf| leaf.index == pruning.act && segment.is_pruned_by(part, &leaf));
        if says && stored.leaf(pruning.act)? == Some(leaf_hash(pruning.leaf.as_bytes())) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The sequences of each stream that a pruned segment held.
pub(crate) fn spans(view: &View, segment: &Segment) -> Result<Vec<Span>, Failure> {
    let mut names = HashMap::new();
    for row in view.open_table(table::STREAMS)?.iter()? {
        let (name, head) = row?;
        names.insert(head.value().0, name.value().to_owned());
    }
    let mut spans = Vec::new();
    for row in view.open_table(table::PRUNED)?.iter()? {
        let (key, span) = row?;
        let (to, of) = span.value();
        let number = key.value().first_chunk::<4>().map_or(0, |number| u32::from_be_bytes(*number));
        if of == segment.first
            && let Some(stream) = names.get(&number)
        {
            spans.push(Span { stream: stream.clone(), from: table::sequence_of(key.value()), to });
        }
    }
    Ok(spans)
}
