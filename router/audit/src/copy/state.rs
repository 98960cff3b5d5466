//! What a record holds that no leaf says: numbers, segments, legal holds, erasures, and tasks whose first records were pruned.
//! Each copy has it anew: all of it is small, and what it says can change.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use redb::{ReadTransaction, ReadableTable as _, TableError};
use serde::{Deserialize, Serialize};
use tidegate_schemas::ids::TaskId;

use super::CopyError;
use super::files::{FileSum, In, Out, at};
use crate::erase::{Erasure, names};
use crate::error::Failure;
use crate::hold::{self, Hold};
use crate::read::view::View;
use crate::retain;
use crate::segment::Segment;
use crate::store::Heads;
use crate::table;
use crate::task::Row;

/// Longest state: some hundred bytes a segment, hold, erasure, and task that was begun before what was pruned.
const BYTES_MAX: u64 = 1 << 30;

/// What no leaf says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct State {
    /// Records that it is of.
    pub(crate) records: u64,
    /// stream → its number
    pub(crate) streams: BTreeMap<String, u32>,
    /// tenant → its number
    pub(crate) tenants: BTreeMap<String, u32>,
    /// Row of the key file that holds the key of references.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) references: Option<u64>,
    /// Each with its first record.
    pub(crate) segments: Vec<(u64, Segment)>,
    pub(crate) holds: Vec<Hold>,
    /// Row of the key file → sequence in EVENTS of the act that destroyed it.
    pub(crate) erased: BTreeMap<u64, u64>,
    pub(crate) erasures: Vec<Erasure>,
    /// Where records were pruned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pruned: Option<Pruned>,
}

/// What cannot be made from leaves where some are gone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pruned {
    /// Sequences, by the first record of their segment.
    pub(crate) spans: BTreeMap<u64, Vec<Sequences>>,
    /// Key of a task's row, in hexadecimal digits → the row; of tasks that may have had records there.
    pub(crate) tasks: BTreeMap<String, Row>,
    /// Row of the key file → what pruned leaves called its data subject, as its row in hexadecimal digits.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) names: BTreeMap<u64, String>,
    pub(crate) accepted: u64,
    pub(crate) ended: u64,
    pub(crate) anomalies: u64,
    /// Accepted tasks of which nothing is left, and ended ones of them; none where nobody has looked yet.
    pub(crate) forgotten: (Option<u64>, Option<u64>),
}

/// Sequences of a stream whose records were pruned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sequences {
    pub(crate) stream: String,
    pub(crate) from: u64,
    pub(crate) to: u64,
}

/// What takes keys away: where it grew, keys that a backup holds may be gone from the record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Thinned {
    /// Rows of the key file that were destroyed.
    erased: u64,
    /// Erasures that have ended.
    ended: u64,
    /// Pruned records that are in no index any more.
    swept: u64,
}

// === impl State ===

impl State {
    pub(crate) fn take(view: &View) -> Result<Self, CopyError> {
        let heads = Heads::read(view)?;
        let segments = view.segments()?;
        let pruned = segments.iter().any(|segment| segment.records.is_some());
        let pruned = if pruned { Some(Pruned::take(view, &segments, &heads)?) } else { None };
        let mut state = Self {
            records: heads.records,
            streams: heads.streams.into_iter().map(|(stream, (number, _))| (stream, number)).collect(),
            tenants: heads.tenants,
            references: meta(view, table::META_REFERENCES)?,
            segments: segments.into_iter().map(|segment| (segment.first, segment)).collect(),
            holds: hold::all(view)?,
            pruned,
            ..Self::default()
        };
        state.erasures(view)?;
        Ok(state)
    }

    /// Takes what was erased as it is by now.
    pub(super) fn erasures(&mut self, view: &View) -> Result<(), Failure> {
        self.erased = erased(view)?;
        self.erasures = match view.open_table(table::ERASURES) {
            Ok(table) => table
                .iter()?
                .filter_map(|row| row.map(|(_, row)| serde_json::from_slice(row.value()).ok()).transpose())
                .collect::<Result<_, _>>()?,
            Err(TableError::TableDoesNotExist(_)) => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        Ok(())
    }

    /// The segments.
    pub(crate) fn segments(&self) -> impl Iterator<Item = Segment> + '_ {
        self.segments.iter().map(|(first, segment)| Segment { first: *first, ..segment.clone() })
    }

    pub(super) fn thinned(&self) -> Thinned {
        let swept = self.segments.iter().filter_map(|(_, segment)| segment.records.as_ref());
        Thinned {
            erased: self.erased.len() as u64,
            ended: self.erasures.iter().filter(|erasure| erasure.state.has_ended()).count() as u64,
            swept: swept.map(|pruning| pruning.swept).sum(),
        }
    }

    pub(super) fn write(&self, dir: &Path, name: &str) -> Result<FileSum, CopyError> {
        let mut out = Out::create(dir, name)?;
        out.put(&serde_json::to_vec(self).map_err(|error| at(dir)(error.into()))?)?;
        out.put(b"\n")?;
        out.finish()
    }

    pub(super) fn read(mut file: In) -> Result<Self, CopyError> {
        let path = file.path().to_owned();
        let bytes = file.rest(BYTES_MAX)?;
        file.end()?;
        let form = |what| CopyError::Form { path: path.clone(), what };
        let read: Self = serde_json::from_slice(&bytes).map_err(|_| form("is damaged; use another copy"))?;
        let mut next = 0;
        for segment in read.segments() {
            if segment.first != next || segment.end <= segment.first {
                return Err(form("names segments that do not follow each other; use another copy"));
            }
            next = segment.end;
        }
        if next > read.records || (read.pruned.is_none() && read.segments().any(|one| one.records.is_some()))
        {
            return Err(form("names other records than the copy holds; use another copy"));
        }
        Ok(read)
    }
}

// === impl Pruned ===

impl Pruned {
    fn take(view: &View, segments: &[Segment], heads: &Heads) -> Result<Self, Failure> {
        let mut spans = BTreeMap::new();
        // By stream's number, the last sequence that was pruned.
        let mut last = HashMap::<u32, u64>::new();
        for segment in segments.iter().filter(|segment| segment.records.is_some()) {
            let mut of = Vec::new();
            for retain::Span { stream, from, to } in retain::spans(view, segment)? {
                if let Some((number, _)) = heads.streams.get(&stream) {
                    let known = last.entry(*number).or_default();
                    *known = to.max(*known);
                }
                of.push(Sequences { stream, from, to });
            }
            spans.insert(segment.first, of);
        }
        let mut tasks = BTreeMap::new();
        for row in view.open_table(table::TASKS)?.iter()? {
            let (key, row) = row?;
            let Ok(row) = serde_json::from_slice::<Row>(row.value()) else { continue };
            // Its first message in a stream came no later than one of them that was pruned.
            if row.first.iter().any(|(stream, first)| last.get(stream).is_some_and(|last| first <= last)) {
                tasks.insert(hex::encode(key.value()), row);
            }
        }
        let forgotten = (meta(view, table::META_PRUNED_ACCEPTED)?, meta(view, table::META_PRUNED_ENDED)?);
        let names =
            names::all(view)?.into_iter().map(|(row, kept)| (row, hex::encode(kept.encode()))).collect();
        let Heads { accepted, ended, anomalies, .. } = *heads;
        Ok(Self { spans, tasks, names, accepted, ended, anomalies, forgotten })
    }
}

impl Pruned {
    /// Whether it has a row of a task.
    pub(crate) fn knows(&self, task: TaskId) -> bool {
        let place = hex::encode(task.0.as_bytes());
        self.tasks.range(place.clone()..).next().is_some_and(|(key, _)| key.starts_with(&place))
    }
}

fn meta(txn: &ReadTransaction, name: &str) -> Result<Option<u64>, Failure> {
    Ok(txn.open_table(table::META)?.get(name)?.map(|value| value.value()))
}

fn erased(txn: &ReadTransaction) -> Result<BTreeMap<u64, u64>, Failure> {
    let table = match txn.open_table(table::ERASED) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) => return Ok(BTreeMap::new()),
        Err(error) => return Err(error.into()),
    };
    let mut erased = BTreeMap::new();
    for row in table.iter()? {
        let (row, event) = row?;
        erased.insert(row.value(), event.value());
    }
    Ok(erased)
}
