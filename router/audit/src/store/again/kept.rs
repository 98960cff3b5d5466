//! What no leaf says, written as it was: holds, erasures, what was pruned, and tasks whose first records are gone.

use std::collections::BTreeSet;

use redb::{Table, WriteTransaction};
use tidegate_schemas::ids::TaskId;

use crate::copy::state::{Pruned, Sequences, State};
use crate::erase::names::{self, Kept};
use crate::error::Failure;
use crate::store::Heads;
use crate::store::prune::forget_keys;
use crate::table;

/// Writes it. `seen` are the tasks of which a record was there.
pub(super) fn write(
    txn: &WriteTransaction,
    state: &State,
    seen: &BTreeSet<TaskId>,
    heads: &mut Heads,
    meta: &mut Table<'_, &'static str, u64>,
) -> Result<(), Failure> {
    if let Some(row) = state.references {
        meta.insert(table::META_REFERENCES, row)?;
    }
    for hold in &state.holds {
        // Names, numbers and times always serialise.
        let row = serde_json::to_vec(hold).unwrap_or_default();
        txn.open_table(table::HOLDS)?.insert(hold.id.as_bytes(), row.as_slice())?;
    }
    for (row, event) in &state.erased {
        txn.open_table(table::ERASED)?.insert(row, event)?;
    }
    for erasure in &state.erasures {
        let row = serde_json::to_vec(erasure).unwrap_or_default();
        txn.open_table(table::ERASURES)?.insert(erasure.event, row.as_slice())?;
    }
    match &state.pruned {
        Some(pruned) => write_pruned(txn, pruned, seen, heads, meta),
        None => Ok(()),
    }
}

fn write_pruned(
    txn: &WriteTransaction,
    pruned: &Pruned,
    seen: &BTreeSet<TaskId>,
    heads: &mut Heads,
    meta: &mut Table<'_, &'static str, u64>,
) -> Result<(), Failure> {
    let mut rows = txn.open_table(table::PRUNED)?;
    for (segment, spans) in &pruned.spans {
        for Sequences { stream, from, to } in spans {
            let Some(head) = heads.streams.get_mut(stream) else { continue };
            head.1 = head.1.max(to.saturating_add(1));
            rows.insert(&table::source(head.0, *from), (*to, *segment))?;
        }
    }
    let called = pruned.names.iter();
    let called = called.filter_map(|(row, kept)| Some((*row, Kept::decode(&hex::decode(kept).ok()?)?)));
    names::keep(txn, &called.collect(), meta)?;
    // All of it, with what is counted of records that are gone.
    (heads.accepted, heads.ended, heads.anomalies) = (pruned.accepted, pruned.ended, pruned.anomalies);
    let mut forgotten = pruned.forgotten;
    let (mut tasks, mut open) = (txn.open_table(table::TASKS)?, txn.open_table(table::OPEN)?);
    for (place, row) in &pruned.tasks {
        let place = hex::decode(place).unwrap_or_default();
        let Some((task, ..)) = table::split_task_key(&place) else { continue };
        if !seen.contains(&task) {
            // Its last record was pruned, and the record had not come to forget it.
            let (accepted, ended) = (row.opened.is_some(), row.opened.is_some() && row.terminal.is_some());
            forgotten.0 = Some(forgotten.0.unwrap_or_default() + u64::from(accepted));
            forgotten.1 = Some(forgotten.1.unwrap_or_default() + u64::from(ended));
            forget_keys(txn, task)?;
            continue;
        }
        let bytes = serde_json::to_vec(row).unwrap_or_default();
        tasks.insert(place.as_slice(), bytes.as_slice())?;
        if let Some(due) = row.due_ms() {
            open.insert(table::due_key(due, &place).as_slice(), ())?;
        }
    }
    for (name, count) in [(table::META_PRUNED_ACCEPTED, forgotten.0), (table::META_PRUNED_ENDED, forgotten.1)]
    {
        if let Some(count) = count {
            meta.insert(name, count)?;
        }
    }
    Ok(())
}
