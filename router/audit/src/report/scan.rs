//! The one pass over the record: every leaf hashed again, those of the month read in full, each with what caused it.

use std::borrow::Cow;
use std::ops::Range;

use jiff::Timestamp;
use serde::Deserialize;
use tidegate_schemas::ids::Position;
use tidegate_schemas::subject::EVENTS;

use super::Question;
use super::tally::Tally;
use crate::error::ReadError;
use crate::leaf::{Detail, Leaf, RecordKind, leaf_hash};
use crate::read::view::{Place, View};
use crate::read::{Reader, index_of, record};
use crate::store::tree::Stored;

/// Records read in one transaction; long ones would pin pages that the writer wants back.
const CHUNK: u64 = 4_096;

/// As much of a leaf as says whether it is asked for.
#[derive(Deserialize)]
struct Head<'a> {
    index: u64,
    time: Timestamp,
    kind: RecordKind,
    #[serde(borrow, default)]
    tenant: Option<Cow<'a, str>>,
}

/// Why a record is looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    No,
    Month,
    /// It tells, after the month, of messages that nobody saw; some may be the month's.
    LaterGap,
}

/// Reads the first `records` records.
pub(super) fn whole(
    reader: &Reader,
    question: &Question,
    records: u64,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Tally, ReadError> {
    let mut tally = Tally::new(question);
    let mut at = 0;
    while at < records {
        let end = records.min(at + CHUNK);
        chunk(&reader.begin()?, question, at..end, &mut tally)?;
        at = end;
        progress(at, records);
    }
    Ok(tally)
}

fn chunk(view: &View, question: &Question, range: Range<u64>, tally: &mut Tally) -> Result<(), ReadError> {
    for (part, place) in view.places(range)? {
        if let Place::Segment(segment) = &place
            && segment.records.is_some()
        {
            tally.pruned(part.clone(), segment.newest);
            let stored = Stored::open(view)?;
            for index in part {
                tally.hash(stored.leaf(index)?.unwrap_or_default());
            }
            continue;
        }
        records(view, question, part, tally)?;
    }
    Ok(())
}

fn records(view: &View, question: &Question, range: Range<u64>, tally: &mut Tally) -> Result<(), ReadError> {
    let mut expected = range.start;
    view.rows(range.clone(), |index, row| -> Result<(), ReadError> {
        (expected..index).for_each(|missing| tally.damaged(missing));
        expected = index + 1;
        let Some((asked, line)) = sound(index, row, question, tally) else {
            tally.damaged(index);
            return Ok(());
        };
        match (asked, asked.reads(line)) {
            (Asked::No, _) => {}
            (_, None) => tally.damaged(index),
            (Asked::LaterGap, Some(leaf)) => tally.later_gap(&leaf),
            (Asked::Month, Some(leaf)) => {
                let cause = cause(view, &leaf)?;
                tally.take(&leaf, cause.as_ref());
            }
        }
        Ok(())
    })?;
    (expected..range.end).for_each(|missing| tally.damaged(missing));
    Ok(())
}

/// A leaf whose bytes are those that were recorded, and whether it is asked for. `None` for any other.
fn sound<'v>(
    index: u64,
    value: &'v [u8],
    question: &Question,
    tally: &mut Tally,
) -> Option<(Asked, &'v [u8])> {
    let (hash, line) = value.split_first_chunk::<32>()?;
    let again = leaf_hash(line);
    let head: Head<'_> = serde_json::from_slice(line).ok()?;
    if again != *hash || head.index != index {
        return None;
    }
    tally.read(index, head.time, again);
    Some((asked(&head, question), line))
}

/// What no tenant owns concerns every tenant: gaps, operators' acts, what could not be read.
fn asked(head: &Head<'_>, question: &Question) -> Asked {
    let ours = match (&question.tenant, &head.tenant) {
        (None, _) | (_, None) => true,
        (Some(wanted), Some(tenant)) => wanted.as_str() == tenant,
    };
    let (from, to) = (question.month.start(), question.month.end());
    match ours {
        true if (from..to).contains(&head.time) => Asked::Month,
        true if head.kind == RecordKind::Gap && head.time >= to => Asked::LaterGap,
        _ => Asked::No,
    }
}

impl Asked {
    fn reads(self, line: &[u8]) -> Option<Leaf> {
        if self == Self::No { None } else { serde_json::from_slice(line).ok() }
    }
}

/// The record behind an attempt, a result or a verdict, and behind work that a verdict may have let go; others are told by what they
/// say themselves.
fn cause(txn: &View, leaf: &Leaf) -> Result<Option<Leaf>, ReadError> {
    let position: Option<&Position> = match (&leaf.kind, &leaf.detail) {
        (RecordKind::Verdict, Some(Detail::Verdict { review, .. })) => Some(review),
        (RecordKind::Attempt | RecordKind::Result, _) => leaf.cause.as_ref(),
        (RecordKind::Work, _) => leaf.cause.as_ref().filter(|cause| cause.stream == EVENTS),
        _ => None,
    };
    let Some(position) = position else { return Ok(None) };
    let Some(index) = index_of(txn, position)? else { return Ok(None) };
    match record(txn, index) {
        Ok(found) => Ok(found.map(|found| found.leaf)),
        // It is damaged; the pass over its own index says so.
        Err(ReadError::Damaged { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
