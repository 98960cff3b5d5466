//! Tasks: one task's timeline, a workflow's tree, and the tasks that are still open.

use std::collections::BTreeMap;
use std::ops::Range;

use jiff::Timestamp;
use redb::{ReadTransaction, ReadableTable as _};
use serde::{Deserialize, Serialize};
use tidegate_schemas::ids::{Identifier, Name, TaskId};
use tidegate_schemas::result::State;

use super::filter::Filter;
use super::query::LIMIT_MAX;
use super::search::Terms;
use super::view::View;
use super::{RECORDS_MAX, Reader, Record, record};
use crate::error::{Failure, ReadError};
use crate::leaf::RecordKind;
use crate::store::Heads;
use crate::table;
use crate::task::{OpenTask, Row};

/// Everything that is recorded of one task, causes first.
#[derive(Debug, Clone, PartialEq)]
pub struct Timeline {
    /// Whose it is.
    pub tenant: Name,
    /// Who asked.
    pub agent: Name,
    /// The task.
    pub task: TaskId,
    /// Where it is.
    pub state: State,
    /// When it must have ended.
    pub deadline: Timestamp,
    /// Its records, at most [`RECORDS_MAX`].
    pub records: Vec<Record>,
    /// Whether more are recorded than are here.
    pub cut: bool,
}

/// The tasks of one workflow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workflow {
    /// Its tasks in the order in which they came; a parent comes before its children.
    pub tasks: Vec<Node>,
}

/// One task of a workflow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Whose it is.
    pub tenant: Name,
    /// Who asked.
    pub agent: Name,
    /// The task.
    pub task: TaskId,
    /// The task that caused it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<TaskId>,
    /// Where it is.
    pub state: State,
    /// When it was submitted.
    pub submitted: Timestamp,
    /// Index of its record.
    pub index: u64,
    /// Tasks above it in the tree: 0 for a root.
    pub depth: u32,
}

impl Reader {
    /// What is recorded of a task: one timeline, or several where tenants or agents use the same id.
    ///
    /// # Errors
    /// As [`Reader::get`].
    pub fn task(&self, tenant: Option<&Name>, task: TaskId) -> Result<Vec<Timeline>, ReadError> {
        let txn = self.begin()?;
        let (records, cut) = records_of(&txn, task, RECORDS_MAX)?;
        let mut timelines = Vec::new();
        for (found, agent, row) in rows_of(&txn, task)? {
            if tenant.is_some_and(|tenant| *tenant != found) {
                continue;
            }
            let own = |record: &&Record| {
                record.leaf.tenant.as_ref() == Some(&found) && record.leaf.agent.as_ref() == Some(&agent)
            };
            timelines.push(Timeline {
                records: records.iter().filter(own).cloned().collect(),
                cut,
                tenant: found,
                agent,
                task,
                state: row.state,
                deadline: time(row.deadline_ms),
            });
        }
        Ok(timelines)
    }

    /// The tasks of a workflow, as a tree: parents first, each with its depth.
    ///
    /// # Errors
    /// [`ReadError::KeyNeeded`] without a master key; else as [`Reader::get`].
    pub fn workflow(&self, tenant: Option<&Name>, workflow: &Identifier) -> Result<Workflow, ReadError> {
        let mut filter = Filter {
            tenant: tenant.cloned(),
            workflow: Some(workflow.clone()),
            kind: Some(RecordKind::Task),
            limit: Some(LIMIT_MAX),
            ..Filter::default()
        };
        let mut found = Vec::new();
        while found.len() < RECORDS_MAX {
            let page = self.query(&filter)?;
            found.extend(page.records);
            let Some(next) = page.next else { break };
            filter.after = Some(next);
        }
        let txn = self.begin()?;
        let mut tasks: Vec<Node> = Vec::new();
        for found in found {
            let index = found.leaf.index;
            let leaf = found.leaf;
            let (Some(tenant), Some(agent), Some(task)) = (leaf.tenant, leaf.agent, leaf.task) else {
                continue;
            };
            let state = rows_of(&txn, task)?
                .into_iter()
                .find(|(t, a, _)| *t == tenant && *a == agent)
                .map_or(State::Submitted, |(_, _, row)| row.state);
            let above = leaf.parent.and_then(|p| tasks.iter().find(|n| n.task == p && n.tenant == tenant));
            let depth = above.map_or(0, |node| node.depth.saturating_add(1));
            let (parent, submitted) = (leaf.parent, leaf.time);
            tasks.push(Node { tenant, agent, task, parent, state, submitted, index, depth });
        }
        Ok(Workflow { tasks })
    }

    /// Open tasks that are due by `now`, the longest overdue first, at most `limit`.
    ///
    /// # Errors
    /// As [`Reader::get`].
    pub fn overdue(&self, now: Timestamp, limit: usize) -> Result<Vec<OpenTask>, ReadError> {
        let until = u64::try_from(now.as_millisecond()).unwrap_or_default();
        self.open_until(until, limit)
    }

    /// Open tasks, the next due first, at most `limit`.
    ///
    /// # Errors
    /// As [`Reader::get`].
    pub fn open_tasks(&self, limit: usize) -> Result<Vec<OpenTask>, ReadError> {
        self.open_until(u64::MAX, limit)
    }

    /// How many tasks of each tenant are open.
    ///
    /// # Errors
    /// As [`Reader::get`].
    pub fn open_by_tenant(&self) -> Result<BTreeMap<Name, u64>, ReadError> {
        let txn = self.begin()?;
        let tenants = Heads::read(&txn)?.tenants;
        let open = txn.open_table(table::OPEN).map_err(Failure::from)?;
        let mut counts: BTreeMap<u32, u64> = BTreeMap::new();
        for row in open.iter().map_err(Failure::from)? {
            let (key, _) = row.map_err(Failure::from)?;
            let place =
                key.value().split_first_chunk::<8>().and_then(|(_, place)| table::split_task_key(place));
            if let Some((_, tenant, _)) = place {
                *counts.entry(tenant).or_default() += 1;
            }
        }
        let named = |(name, number): (&String, &u32)| {
            Some((Name::new(name).ok()?, counts.get(number).copied().filter(|count| *count > 0)?))
        };
        Ok(tenants.iter().filter_map(named).collect())
    }

    fn open_until(&self, until_ms: u64, limit: usize) -> Result<Vec<OpenTask>, ReadError> {
        let txn = self.begin()?;
        let tenants = Heads::read(&txn)?.tenants;
        let open = txn.open_table(table::OPEN).map_err(Failure::from)?;
        let mut tasks = Vec::new();
        for row in open.iter().map_err(Failure::from)?.take(limit.min(RECORDS_MAX)) {
            let (key, ()) = row.map(|(key, value)| (key, value.value())).map_err(Failure::from)?;
            let Some((due, place)) = key.value().split_first_chunk::<8>() else { continue };
            if u64::from_be_bytes(*due) > until_ms {
                break;
            }
            tasks.extend(open_task(&txn, &tenants, place)?);
        }
        Ok(tasks)
    }
}

fn open_task(
    txn: &View,
    tenants: &std::collections::BTreeMap<String, u32>,
    place: &[u8],
) -> Result<Option<OpenTask>, ReadError> {
    let rows = txn.open_table(table::TASKS).map_err(Failure::from)?;
    let row = rows.get(place).map_err(Failure::from)?;
    let row: Option<Row> = row.and_then(|bytes| serde_json::from_slice(bytes.value()).ok());
    let named = table::split_task_key(place).and_then(|(task, tenant, agent)| {
        let tenant = tenants.iter().find(|(_, number)| **number == tenant)?.0;
        Some((task, Name::new(tenant.as_str()).ok()?, Name::new(agent).ok()?))
    });
    let (Some(row), Some((task, tenant, agent))) = (row, named) else { return Ok(None) };
    let Some(index) = row.opened else { return Ok(None) };
    let (Some(first), Some(last)) = (record(txn, index)?, record(txn, row.last)?) else { return Ok(None) };
    Ok(Some(OpenTask {
        tenant,
        agent,
        task,
        state: row.state,
        deadline: time(row.deadline_ms),
        review_by: row.review_by_ms.map(time),
        index,
        position: first.leaf.position(),
        last: last.leaf.position(),
    }))
}

/// Rows of a task id, one a tenant and agent.
fn rows_of(txn: &ReadTransaction, task: TaskId) -> Result<Vec<(Name, Name, Row)>, ReadError> {
    let tenants = Heads::read(txn)?.tenants;
    let rows = txn.open_table(table::TASKS).map_err(Failure::from)?;
    let start = task.0.as_bytes().as_slice();
    let mut found = Vec::new();
    for row in rows.range(start..).map_err(Failure::from)? {
        let (key, value) = row.map_err(Failure::from)?;
        let Some((id, number, agent)) = table::split_task_key(key.value()) else { break };
        if id != task {
            break;
        }
        let tenant =
            tenants.iter().find(|(_, n)| **n == number).and_then(|(t, _)| Name::new(t.as_str()).ok());
        let row = serde_json::from_slice::<Row>(value.value()).ok();
        if let (Some(tenant), Ok(agent), Some(row)) = (tenant, Name::new(agent), row) {
            found.push((tenant, agent, row));
        }
    }
    Ok(found)
}

/// A task's records, at most `limit`, and whether there are more.
pub(crate) fn records_of(txn: &View, task: TaskId, limit: usize) -> Result<(Vec<Record>, bool), ReadError> {
    let terms = Terms::of_task(task);
    let mut range = span(txn, task)?;
    let mut records = Vec::new();
    while !range.is_empty() {
        let look = terms.look(txn, range.clone())?;
        for index in look.indices {
            let Some(found) = record(txn, index)?.filter(|found| found.leaf.task == Some(task)) else {
                continue;
            };
            if records.len() == limit {
                return Ok((records, true));
            }
            records.push(found);
        }
        range.start = if look.end { range.end } else { look.upto };
    }
    Ok((records, false))
}

/// From a task's first record to its last: its rows know where it begins in each stream, and its newest record.
fn span(txn: &ReadTransaction, task: TaskId) -> Result<Range<u64>, ReadError> {
    let src = txn.open_table(table::SRC).map_err(Failure::from)?;
    let mut span = Range { start: u64::MAX, end: 0 };
    for (_, _, row) in rows_of(txn, task)? {
        for (stream, sequence) in &row.first {
            let at = src.get(&table::source(*stream, *sequence)).map_err(Failure::from)?;
            // Where it is not known any more, nothing is left out.
            span.start = at.map_or(0, |at| at.value()).min(span.start);
        }
        span.end = row.last.saturating_add(1).max(span.end);
    }
    Ok(span)
}

/// A time from milliseconds; 1970 for one that is out of range.
fn time(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use crate::fixture::{road, store, task_id};

    #[test]
    fn a_timeline_that_is_cut_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = store(dir.path());
        store.append(&road(2)).unwrap();
        let txn = store.reader().begin().unwrap();
        for (limit, cut) in [(2, true), (3, false)] {
            let (records, more) = super::records_of(&txn, task_id(1), limit).unwrap();
            assert_eq!((records.len(), more), (limit, cut));
        }
    }
}
