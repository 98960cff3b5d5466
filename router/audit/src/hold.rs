//! Legal holds: what must neither be pruned nor erased, whatever its retention says.
//!
//! A hold is an operator's act in a stream, and counts from the moment its record does: the row here is written in the same
//! transaction. So a record that is made again from its streams has the same holds. A person is named by a keyed digest only.

use jiff::Timestamp;
use redb::{ReadableTable as _, TableError, WriteTransaction};
use serde::{Deserialize, Serialize};
use tidegate_schemas::control::HoldTarget;
use tidegate_schemas::ids::{Name, TaskId};
use uuid::Uuid;

use crate::erase::Holding;
use crate::error::{Failure, ReadError};
use crate::keys::task::Wrapped;
use crate::read::Reader;
use crate::read::view::View;
use crate::table;

#[cfg(test)]
mod tests;

/// One hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Its id.
    pub id: Uuid,
    /// What it is about.
    pub target: HoldTarget,
    /// Who placed it.
    pub operator: Name,
    /// When.
    pub since: Timestamp,
    /// When it ends by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Index of the act's record; its body says why.
    pub record: u64,
}

/// What a message does to a hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HoldChange {
    Add { hold: Uuid, target: HoldTarget, until: Option<Timestamp> },
    Remove { hold: Uuid },
}

/// A change, and the record that makes it.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) change: HoldChange,
    pub(crate) operator: Name,
    pub(crate) time: Timestamp,
    pub(crate) record: u64,
}

// === impl Hold ===

impl Hold {
    /// Whether it counts at a time.
    #[must_use]
    pub fn counts(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

/// Takes changes in, in the transaction that records them.
pub(crate) fn save(txn: &WriteTransaction, told: Vec<Told>) -> Result<(), Failure> {
    if told.is_empty() {
        return Ok(());
    }
    let mut holds = txn.open_table(table::HOLDS)?;
    for Told { change, operator, time, record } in told {
        match change {
            HoldChange::Add { hold, target, until } => {
                let row = Hold { id: hold, target, operator, since: time, until, record };
                // Names, numbers and times always serialise.
                let text = serde_json::to_vec(&row).unwrap_or_default();
                holds.insert(hold.as_bytes(), text.as_slice())?;
            }
            HoldChange::Remove { hold } => drop(holds.remove(hold.as_bytes())?),
        }
    }
    Ok(())
}

/// The holds that there are, those that have ended by themselves too. A row that cannot be read is one that holds
/// everything: it is not passed over.
pub(crate) fn all(view: &View) -> Result<Vec<Hold>, ReadError> {
    let table = match view.open_table(table::HOLDS) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        Err(error) => return Err(Failure::from(error).into()),
    };
    let mut found = Vec::new();
    for row in table.iter().map_err(Failure::from)? {
        let (_, row) = row.map_err(Failure::from)?;
        let broken = |_| ReadError::Broken { what: "a hold cannot be read".to_owned() };
        found.push(serde_json::from_slice(row.value()).map_err(broken)?);
    }
    Ok(found)
}

/// The 16 bytes that a reference to a person stands for.
pub(crate) fn reference(text: &str) -> Option<[u8; 16]> {
    let mut bytes = [0; 16];
    hex::decode_to_slice(text, &mut bytes).ok()?;
    Some(bytes)
}

/// The row of the key file of a person, where the record knows them.
pub(crate) fn subject_row(view: &View, lookup: &[u8; 16]) -> Result<Option<u64>, Failure> {
    Ok(view.open_table(table::SUBJECTS)?.get(lookup)?.map(|row| row.value()))
}

/// Whether a key of the record is wrapped for a person.
pub(crate) fn key_is_of(view: &View, key: u64, row: u64) -> Result<bool, Failure> {
    let keys = view.open_table(table::KEYS)?;
    let wrapped = keys.get(key)?.and_then(|bytes| Wrapped::decode(bytes.value()));
    Ok(wrapped.is_some_and(|wrapped| wrapped.rows.contains(&row)))
}

impl Reader {
    /// What a person of a tenant is called in a hold: 32 hexadecimal digits, which outlast a change of the master key.
    ///
    /// # Errors
    /// [`ReadError::KeyNeeded`] without the master key.
    pub fn hold_reference(&self, tenant: &Name, subject: &str) -> Result<String, ReadError> {
        let master = self.master().ok_or(ReadError::KeyNeeded)?;
        Ok(hex::encode(master.subject_lookup(tenant.as_str(), subject)))
    }

    /// Holds, the oldest ids first; with those that ended by themselves.
    ///
    /// # Errors
    /// [`ReadError::Broken`] when they cannot be read.
    pub fn legal_holds(&self) -> Result<Vec<Hold>, ReadError> {
        all(&self.begin()?)
    }

    /// The holds that forbid to erase a person's data: on the person, on their tenant, and on a task that has data of theirs.
    ///
    /// # Errors
    /// [`ReadError::KeyNeeded`] without the master key; else as [`Self::legal_holds`].
    pub fn held(&self, tenant: &Name, subject: &str, now: Timestamp) -> Result<Vec<Hold>, ReadError> {
        let master = self.master().ok_or(ReadError::KeyNeeded)?;
        let view = self.begin()?;
        let lookup = master.subject_lookup(tenant.as_str(), subject);
        let row = subject_row(&view, &lookup)?;
        let mut found = Vec::new();
        for hold in all(&view)? {
            let fits = match &hold.target {
                HoldTarget::Tenant { tenant: held } => held == tenant,
                HoldTarget::Subject { reference: held, .. } => reference(held) == Some(lookup),
                HoldTarget::Task { task } => match row {
                    Some(row) => task_has(&view, *task, row)?,
                    None => false,
                },
            };
            if fits && hold.counts(now) {
                found.push(hold);
            }
        }
        Ok(found)
    }
}

impl Reader {
    /// The holds that forbid to destroy these keys of a tenant's person: on the tenant, on the person, and on a task among what
    /// they seal.
    ///
    /// # Errors
    /// [`ReadError::Broken`] when they cannot be read.
    pub fn forbidding(
        &self,
        tenant: &Name,
        holding: &Holding,
        now: Timestamp,
    ) -> Result<Vec<Hold>, ReadError> {
        let view = self.begin()?;
        let mut found = all(&view)?;
        found.retain(|hold| hold.counts(now));
        let mut forbids = Vec::new();
        for hold in found {
            let fits = match &hold.target {
                HoldTarget::Tenant { tenant: held } => held == tenant,
                HoldTarget::Task { task } => holding.tasks.contains(task),
                HoldTarget::Subject { reference: held, .. } => match reference(held) {
                    Some(lookup) => {
                        subject_row(&view, &lookup)?.is_some_and(|row| holding.rows.contains(&row))
                    }
                    None => false,
                },
            };
            forbids.extend(fits.then_some(hold));
        }
        Ok(forbids)
    }
}

/// Whether a task has data of a person.
fn task_has(view: &View, task: TaskId, row: u64) -> Result<bool, Failure> {
    let (mut start, mut end) = ([0; 32], [u8::MAX; 32]);
    start[..16].copy_from_slice(task.0.as_bytes());
    end[..16].copy_from_slice(task.0.as_bytes());
    let key_of = view.open_table(table::KEY_OF)?;
    for key in key_of.range::<&[u8; 32]>(&start..=&end)? {
        if key_is_of(view, key?.1.value(), row)? {
            return Ok(true);
        }
    }
    Ok(false)
}
