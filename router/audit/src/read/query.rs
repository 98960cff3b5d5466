//! Queries: a filter, the index that serves it best, pages.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use redb::{ReadTransaction, ReadableTable as _};
use serde::{Deserialize, Serialize};
use tidegate_schemas::code::Code;
use tidegate_schemas::decision::Outcome;
use tidegate_schemas::digest::Digest;
use tidegate_schemas::ids::{Identifier, Name};
use tidegate_schemas::result::State;
use tidegate_schemas::task::Kind;

use super::view::View;
use super::{Reader, Record, record};
use crate::error::{Failure, ReadError};
use crate::leaf::{Detail, Leaf, RecordKind};
use crate::mark;
use crate::store::append::micros;
use crate::table;

/// Records of a page where the filter gives no limit.
const LIMIT_DEFAULT: usize = 100;
/// Most records of a page.
const LIMIT_MAX: usize = 1_000;
/// Records looked at in one transaction.
const CHUNK: usize = 1_024;
/// Most records that one call looks at; a page may be short for that, and goes on at its `next`.
const LOOKED_AT_MAX: usize = 100_000;

/// Which records. What is absent matches everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Filter {
    /// Whose they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Name>,
    /// Who asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<Name>,
    /// What they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<RecordKind>,
    /// Kind of work, of tasks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_kind: Option<Kind>,
    /// Terminal state, of results.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
    /// Code of a result, attempt, step or dead letter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<Code>,
    /// Outcome of the decision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// Destination of the decision or result.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination: Option<Name>,
    /// A policy that determined the decision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// The bundle that judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bundle: Option<Digest>,
    /// Workflow they belong to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workflow: Option<Identifier>,
    /// Only those with an anomaly.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub anomalies: bool,
    /// Not before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Timestamp>,
    /// Before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Timestamp>,
    /// The `next` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Cursor>,
    /// Most records of the page: 100 where not given, at most 1,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// Where a page ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cursor {
    time_us: u64,
    index: u64,
}

/// One page of records.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// The records: by time where a tenant or a time is asked for, else by index.
    pub records: Vec<Record>,
    /// Where the next page begins; `None` at the end. A page may be short or empty and still have one.
    pub next: Option<Cursor>,
}

impl Filter {
    /// Whether a record is one of them. The workflow is not looked at: its name stands in no leaf.
    #[must_use]
    pub fn matches(&self, leaf: &Leaf) -> bool {
        let decision = leaf.decision.as_ref();
        let result_at = match &leaf.detail {
            Some(Detail::Result { destination, .. }) => destination.as_ref(),
            _ => None,
        };
        let work = match leaf.detail {
            Some(Detail::Task { kind, .. }) => kind,
            _ => None,
        };
        fits(self.tenant.as_ref(), leaf.tenant.as_ref())
            && fits(self.agent.as_ref(), leaf.agent.as_ref())
            && fits(self.kind, Some(leaf.kind))
            && fits(self.task_kind, work)
            && fits(self.state, leaf.state)
            && fits(self.code, leaf.code)
            && fits(self.outcome, decision.map(|decision| decision.outcome))
            && fits(self.destination.as_ref(), decision.and_then(|d| d.destination.as_ref()).or(result_at))
            && fits(self.bundle, decision.map(|decision| decision.bundle))
            && self.policy.as_ref().is_none_or(|policy| decision.is_some_and(|d| d.policies.contains(policy)))
            && (!self.anomalies || leaf.flags.iter().any(|flag| flag.is_anomaly()))
            && self.from.is_none_or(|from| leaf.time >= from)
            && self.to.is_none_or(|to| leaf.time < to)
    }

    fn mark(&self) -> Option<u8> {
        self.anomalies
            .then_some(mark::ANOMALY)
            .or(self.state.and_then(mark::state))
            .or(self.kind.and_then(mark::kind))
            .or(self.outcome.map(mark::outcome))
    }
}

fn fits<T: PartialEq>(wanted: Option<T>, there: Option<T>) -> bool {
    wanted.is_none() || wanted == there
}

impl Reader {
    /// Records that a filter matches, a page at a time. Looks at no more than 100,000 records a call.
    ///
    /// # Errors
    /// [`ReadError::KeyNeeded`] when it asks for a workflow and no master key was given; else as [`Self::get`].
    pub fn query(&self, filter: &Filter) -> Result<Page, ReadError> {
        let limit = filter.limit.unwrap_or(LIMIT_DEFAULT).clamp(1, LIMIT_MAX);
        let mut page = Page { records: Vec::new(), next: None };
        let (mut after, mut looked_at) = (filter.after, 0);
        while looked_at < LOOKED_AT_MAX {
            let txn = self.begin()?;
            let candidates = self.candidates(&txn, filter, after)?;
            for cursor in &candidates {
                after = Some(*cursor);
                if let Some(found) = record(&txn, cursor.index)?.filter(|found| filter.matches(&found.leaf)) {
                    page.records.push(found);
                }
                if page.records.len() == limit {
                    page.next = after;
                    return Ok(page);
                }
            }
            if candidates.len() < CHUNK {
                return Ok(page);
            }
            looked_at += candidates.len();
        }
        page.next = after;
        Ok(page)
    }

    /// What the best index gives, in its order, after the cursor: at most [`CHUNK`].
    fn candidates(
        &self,
        txn: &View,
        filter: &Filter,
        after: Option<Cursor>,
    ) -> Result<Vec<Cursor>, ReadError> {
        let from = after.map_or(0, |cursor| cursor.index.saturating_add(1));
        let at = |index| Cursor { time_us: 0, index };
        if let Some(workflow) = &filter.workflow {
            let mut found = self.workflow_indices(txn, filter.tenant.as_ref(), workflow)?;
            found.retain(|index| *index >= from);
            return Ok(found.into_iter().take(CHUNK).map(at).collect());
        }
        if let Some(mark) = filter.mark() {
            return Ok(marked(txn, mark, from)?);
        }
        if filter.tenant.is_some() || filter.from.is_some() || filter.to.is_some() {
            return Ok(timed(txn, filter, after)?);
        }
        Ok(txn.indices(from, CHUNK)?.into_iter().map(at).collect())
    }

    /// Indices of a workflow's records, in order.
    pub(super) fn workflow_indices(
        &self,
        txn: &ReadTransaction,
        tenant: Option<&Name>,
        workflow: &Identifier,
    ) -> Result<Vec<u64>, ReadError> {
        let master = self.master.as_ref().ok_or(ReadError::KeyNeeded)?;
        let tenants = match tenant {
            Some(tenant) => vec![tenant.as_str().to_owned()],
            None => crate::store::Heads::read(txn)?.tenants.into_keys().collect(),
        };
        let by_workflow = txn.open_table(table::BY_WORKFLOW).map_err(Failure::from)?;
        let mut found = Vec::new();
        for tenant in tenants {
            let name = master.workflow_ref(&tenant, workflow.as_str());
            let (start, end) = (table::pair(&name, 0), table::pair(&name, u64::MAX));
            let rows = by_workflow.range::<&[u8; 24]>(&start..=&end).map_err(Failure::from)?;
            for row in rows.take(LOOKED_AT_MAX) {
                found.push(table::last_eight(row.map_err(Failure::from)?.0.value()));
            }
        }
        found.sort_unstable();
        Ok(found)
    }
}

fn marked(txn: &ReadTransaction, mark: u8, from: u64) -> Result<Vec<Cursor>, Failure> {
    let by_mark = txn.open_table(table::BY_MARK)?;
    let rows = by_mark.range::<&[u8; 9]>(&table::marked(mark, from)..=&table::marked(mark, u64::MAX))?;
    rows.take(CHUNK).map(|row| Ok(Cursor { time_us: 0, index: table::last_eight(row?.0.value()) })).collect()
}

/// Records of one tenant, or of all, by time.
fn timed(txn: &ReadTransaction, filter: &Filter, after: Option<Cursor>) -> Result<Vec<Cursor>, Failure> {
    let mut numbers = Vec::new();
    for row in txn.open_table(table::TENANTS)?.iter()? {
        let (name, number) = row?;
        if filter.tenant.as_ref().is_none_or(|tenant| tenant.as_str() == name.value()) {
            numbers.push(number.value());
        }
    }
    // Records of no tenant.
    numbers.extend(filter.tenant.is_none().then_some(0));
    let from = filter.from.map_or(0, micros);
    let end = filter.to.map_or(u64::MAX, micros);
    let (time_us, index) = match after {
        Some(cursor) if cursor.time_us >= from => (cursor.time_us, cursor.index.saturating_add(1)),
        _ => (from, 0),
    };
    let by_time = txn.open_table(table::BY_TIME)?;
    let mut rows = Vec::new();
    for number in numbers {
        let (start, end) = (table::when(number, time_us, index), table::when(number, end, u64::MAX));
        if start <= end {
            let range = by_time.range::<&[u8; 20]>(&start..=&end)?;
            rows.push(range.map(|row| Ok::<_, Failure>(Cursor::of_key(row?.0.value()))));
        }
    }
    merged(rows)
}

/// The first [`CHUNK`] of several rows that are each in order.
fn merged(mut rows: Vec<impl Iterator<Item = Result<Cursor, Failure>>>) -> Result<Vec<Cursor>, Failure> {
    let mut heads = BinaryHeap::new();
    for (at, row) in rows.iter_mut().enumerate() {
        heads.extend(row.next().transpose()?.map(|cursor| Reverse((cursor, at))));
    }
    let mut found = Vec::new();
    while let Some(Reverse((cursor, at))) = heads.pop() {
        found.push(cursor);
        if found.len() == CHUNK {
            break;
        }
        let next = rows.get_mut(at).and_then(Iterator::next).transpose()?;
        heads.extend(next.map(|cursor| Reverse((cursor, at))));
    }
    Ok(found)
}

// === impl Cursor ===

impl Cursor {
    pub(super) fn of(leaf: &Leaf) -> Self {
        Self { time_us: micros(leaf.time), index: leaf.index }
    }

    /// Time and index of a [`table::when`].
    fn of_key(key: &[u8; 20]) -> Self {
        let time = key.get(4..12).map_or(0, table::last_eight);
        Self { time_us: time, index: table::last_eight(key) }
    }

    /// Index of the last record that was looked at: of all records, how far a query is that no index serves.
    #[must_use]
    pub fn index(&self) -> u64 {
        self.index
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.time_us, self.index)
    }
}

impl FromStr for Cursor {
    type Err = ReadError;
    fn from_str(text: &str) -> Result<Self, ReadError> {
        let (time, index) = text.split_once('.').ok_or(ReadError::BadCursor)?;
        let number = |text: &str| text.parse().map_err(|_| ReadError::BadCursor);
        Ok(Self { time_us: number(time)?, index: number(index)? })
    }
}

impl TryFrom<String> for Cursor {
    type Error = ReadError;
    fn try_from(text: String) -> Result<Self, ReadError> {
        text.parse()
    }
}

impl From<Cursor> for String {
    fn from(cursor: Cursor) -> String {
        cursor.to_string()
    }
}
