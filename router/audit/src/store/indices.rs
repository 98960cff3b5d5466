//! What finds a record by its place and its task: rows from its leaf alone. So a record that is made anew from leaves gets the
//! same rows as the one that was written from messages. What finds it by its terms is the lagging index's part.

use redb::ReadableTable as _;
use tidegate_schemas::ids::Name;

use super::Heads;
use super::rows::{Rows, Tables};
use crate::error::Failure;
use crate::leaf::{Detail, Leaf, RecordKind};
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
    if let Some(name) = &leaf.tenant {
        tenant(heads, name);
    }
    heads.anomalies += u64::from(leaf.is_odd());
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
