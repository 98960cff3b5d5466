//! What leaves called a data subject, kept with its key when those leaves are pruned. Only the first leaf under a key must
//! name its data subjects: without it nothing else would say whom the key, and what it still seals, is of.

use std::collections::{BTreeMap, BTreeSet};

use redb::{ReadTransaction, ReadableTable as _, Table, TableError, WriteTransaction};
use tidegate_schemas::ids::TaskId;

use crate::error::Failure;
use crate::hold::reference;
use crate::keys::MasterKey;
use crate::keys::task::Wrapped;
use crate::leaf::Leaf;
use crate::table;

/// Bytes of a row: tenant's number, name, and whether it is a task's own.
const BYTES: usize = 4 + 16 + 1;

/// What a row of the key file is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kept {
    /// Number of the tenant.
    pub(crate) tenant: u32,
    /// What leaves call its data subject.
    pub(crate) name: [u8; 16],
    /// Whether it is the own subject of a task, whose key nothing else is wrapped for.
    pub(crate) own: bool,
}

/// Names by row of the key file.
pub(crate) type Names = BTreeMap<u64, Kept>;

// === impl Kept ===

impl Kept {
    pub(crate) fn encode(self) -> [u8; BYTES] {
        let mut row = [0; BYTES];
        row[..4].copy_from_slice(&self.tenant.to_be_bytes());
        row[4..20].copy_from_slice(&self.name);
        row[20] = u8::from(self.own);
        row
    }

    pub(crate) fn decode(row: &[u8]) -> Option<Self> {
        let (tenant, rest) = row.split_first_chunk::<4>()?;
        let (name, own) = rest.split_first_chunk::<16>()?;
        Some(Self { tenant: u32::from_be_bytes(*tenant), name: *name, own: own == [1] })
    }
}

/// The names that a leaf says of the rows that its key is wrapped for.
pub(crate) fn of(
    txn: &ReadTransaction,
    tenants: &BTreeMap<String, u32>,
    master: &MasterKey,
    leaf: &Leaf,
) -> Result<Names, Failure> {
    let mut names = Names::new();
    let (Some(body), Some(tenant)) = (leaf.body, &leaf.tenant) else { return Ok(names) };
    let Some(number) = tenants.get(tenant.as_str()).filter(|_| !leaf.subjects.is_empty()) else {
        return Ok(names);
    };
    let wrapped = txn.open_table(table::KEYS)?.get(body.key)?.and_then(|row| Wrapped::decode(row.value()));
    let Some(wrapped) = wrapped else { return Ok(names) };
    let own = match leaf.task {
        Some(task) => own_key(txn, master, tenant.as_str(), task)? == Some(body.key),
        None => false,
    };
    // The rows of a key stand in the order of the names.
    for (row, name) in wrapped.rows.into_iter().zip(&leaf.subjects) {
        names.extend(reference(name).map(|name| (row, Kept { tenant: *number, name, own })));
    }
    Ok(names)
}

/// The key of a task that names no data subjects.
fn own_key(
    txn: &ReadTransaction,
    master: &MasterKey,
    tenant: &str,
    task: TaskId,
) -> Result<Option<u64>, Failure> {
    let place = super::own_place(master, tenant, task);
    Ok(txn.open_table(table::KEY_OF)?.get(&place)?.map(|id| id.value()))
}

/// Keeps names.
pub(crate) fn keep(
    txn: &WriteTransaction,
    names: &Names,
    meta: &mut Table<'_, &'static str, u64>,
) -> Result<(), Failure> {
    if names.is_empty() {
        return Ok(());
    }
    let mut rows = txn.open_table(table::NAMES)?;
    for (row, name) in names {
        rows.insert(row, name.encode().as_slice())?;
    }
    let before = meta.get(table::META_NAMED)?.map_or(0, |count| count.value());
    meta.insert(table::META_NAMED, before + 1)?;
    Ok(())
}

/// Forgets the names of tasks' own subjects among these rows: the one key that was wrapped for each is gone.
pub(crate) fn forget(txn: &WriteTransaction, rows: &BTreeSet<u64>) -> Result<(), Failure> {
    let mut names = txn.open_table(table::NAMES)?;
    for row in rows {
        let own = names.get(row)?.and_then(|kept| Kept::decode(kept.value())).is_some_and(|kept| kept.own);
        if own {
            names.remove(row)?;
        }
    }
    Ok(())
}

/// All names that are kept.
pub(crate) fn all(txn: &ReadTransaction) -> Result<Names, Failure> {
    let table = match txn.open_table(table::NAMES) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) => return Ok(Names::new()),
        Err(error) => return Err(error.into()),
    };
    let mut names = Names::new();
    for row in table.iter()? {
        let (row, kept) = row?;
        names.extend(Kept::decode(kept.value()).map(|kept| (row.value(), kept)));
    }
    Ok(names)
}

/// How often names came: where it is the same, so are they, but for those of keys that are gone.
pub(super) fn version(txn: &ReadTransaction) -> Result<u64, Failure> {
    Ok(txn.open_table(table::META)?.get(table::META_NAMED)?.map_or(0, |count| count.value()))
}

/// Rows of the key file that are called one of these.
pub(super) fn rows(
    txn: &ReadTransaction,
    tenant: &str,
    references: &[String],
) -> Result<BTreeSet<u64>, Failure> {
    let number = txn.open_table(table::TENANTS)?.get(tenant)?.map(|number| number.value());
    let asked: Vec<[u8; 16]> = references.iter().filter_map(|name| reference(name)).collect();
    let meant = |kept: &Kept| Some(kept.tenant) == number && asked.contains(&kept.name);
    Ok(all(txn)?.into_iter().filter(|(_, kept)| meant(kept)).map(|(row, _)| row).collect())
}

/// Keys that are wrapped for one of these rows, and the tasks that they are of.
pub(super) fn keys(
    txn: &ReadTransaction,
    rows: &BTreeSet<u64>,
) -> Result<(BTreeSet<u64>, BTreeSet<TaskId>), Failure> {
    let (mut keys, mut tasks) = (BTreeSet::new(), BTreeSet::new());
    for row in txn.open_table(table::KEYS)?.iter()? {
        let (key, wrapped) = row?;
        let wrapped = Wrapped::decode(wrapped.value());
        if wrapped.is_some_and(|wrapped| wrapped.rows.iter().any(|row| rows.contains(row))) {
            keys.insert(key.value());
        }
    }
    for row in txn.open_table(table::KEY_OF)?.iter()? {
        let (place, key) = row?;
        if keys.contains(&key.value())
            && let Some(task) = place.value().first_chunk::<16>()
        {
            tasks.insert(TaskId(uuid::Uuid::from_bytes(*task)));
        }
    }
    Ok((keys, tasks))
}
