//! What finds a record: rows of the indices and of its task, from its leaf alone. So a record that is made anew from leaves
//! gets the same rows as the one that was written from messages.

use redb::ReadableTable as _;
use tidegate_schemas::ids::Name;

use super::Heads;
use super::append::micros;
use super::rows::{Rows, Tables};
use crate::error::Failure;
use crate::leaf::{Detail, Leaf, RecordKind};
use crate::mark;
use crate::table;
use crate::task::Row;

/// Adds the rows that find a leaf, and counts it. `stream` is its stream's number.
pub(super) fn add(rows: &mut Rows, heads: &mut Heads, leaf: &Leaf, stream: u32) {
    let index = leaf.index;
    let place = table::source(stream, leaf.source.sequence);
    match (leaf.kind, &leaf.detail) {
        (RecordKind::Gap, Some(Detail::Gap { to, .. })) => rows.gaps.push((place, (*to, index))),
        (RecordKind::Gap, _) => {}
        _ => {
            rows.src.insert(place, index);
        }
    }
    if let Some(task) = leaf.task {
        rows.by_task.push(table::pair(task.0.as_bytes(), index));
    }
    let number = leaf.tenant.as_ref().map_or(0, |name| tenant(heads, name));
    rows.by_time.push(table::when(number, micros(leaf.time), index));
    rows.by_mark.extend(mark::of(leaf).map(|mark| table::marked(mark, index)));
    rows.by_workflow.extend(workflow(leaf).map(|workflow| table::pair(&workflow, index)));
    heads.anomalies += u64::from(leaf.flags.iter().any(|flag| flag.is_anomaly()));
    heads.records += 1;
}

/// A stream's number, given where it has none; its next sequence is then the one after `last`.
pub(super) fn stream(heads: &mut Heads, name: &str, last: u64) -> u32 {
    let number = u32::try_from(heads.streams.len() + 1).unwrap_or(u32::MAX);
    let head = heads.streams.entry(name.to_owned()).or_insert((number, 1));
    head.1 = last.saturating_add(1);
    head.0
}

/// A tenant's number, given where it has none.
pub(super) fn tenant(heads: &mut Heads, tenant: &Name) -> u32 {
    if let Some(number) = heads.tenants.get(tenant.as_str()) {
        return *number;
    }
    let number = u32::try_from(heads.tenants.len() + 1).unwrap_or(u32::MAX);
    heads.tenants.insert(tenant.as_str().to_owned(), number);
    number
}

/// The row of a task, as this batch has it so far.
pub(super) fn task<'r>(
    rows: &'r mut Rows,
    tables: &Tables<'_>,
    place: &[u8],
    index: u64,
) -> Result<Option<&'r mut Row>, Failure> {
    if !rows.tasks.contains_key(place) {
        let held = tables.tasks.get(place)?;
        let row = held.and_then(|bytes| serde_json::from_slice::<Row>(bytes.value()).ok());
        let due = row.as_ref().and_then(Row::due_ms);
        let row = row.unwrap_or_else(|| Row::unknown(index));
        rows.tasks.insert(place.to_vec(), (row, due));
    }
    Ok(rows.tasks.get_mut(place).map(|(row, _)| row))
}

fn workflow(leaf: &Leaf) -> Option<[u8; 16]> {
    let mut bytes = [0; 16];
    hex::decode_to_slice(leaf.workflow.as_ref()?, &mut bytes).ok()?;
    Some(bytes)
}
