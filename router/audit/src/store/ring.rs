//! The writer's keys: finds or makes the key that a message is sealed with.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use redb::{ReadTransaction, ReadableTable as _, WriteTransaction};
use tidegate_schemas::ids::TaskId;
use uuid::Uuid;

use super::rows::Tables;
use crate::error::Failure;
use crate::keys::file::KeyFile;
use crate::keys::task::{Wrapped, subject_ref};
use crate::keys::{Entropy, Key, MasterKey};
use crate::table;

/// Row of the cell's own key: for messages of no task.
pub(crate) const CELL_ROW: u64 = 0;
const CELL: &str = "cell";
/// Task keys kept at hand, in each of two generations.
const CACHE_MAX: usize = 8_192;

/// A key to seal with.
#[derive(Clone)]
pub(super) struct Sealing {
    /// Its number in the record.
    pub(super) id: u64,
    /// The key.
    pub(super) key: Key,
    /// What its data subjects are called in a leaf.
    pub(super) refs: Vec<String>,
}

/// Whose data a message holds.
pub(super) struct Whose<'a> {
    pub(super) tenant: &'a str,
    pub(super) task: TaskId,
    /// In the order of the task's list; the task's own where it names none.
    pub(super) subjects: &'a [String],
    /// Whether the subjects are only the task's own (`task:<id>`), which no other task can share.
    pub(super) own: bool,
}

type Place = [u8; 32];

pub(super) struct Ring {
    master: MasterKey,
    file: KeyFile,
    young: HashMap<Place, Sealing>,
    old: HashMap<Place, Sealing>,
    /// Keys of this batch by place, written in order at its end.
    made: BTreeMap<Place, u64>,
}

/// The master key with the record's key of references; `None` when it does not open the record's keys.
pub(crate) fn fitting(
    txn: &ReadTransaction,
    file: &KeyFile,
    master: &MasterKey,
) -> Result<Option<MasterKey>, Failure> {
    if file.key(CELL_ROW)?.is_err() {
        return Ok(None);
    }
    let Some(row) = txn.open_table(table::META)?.get(table::META_REFERENCES)?.map(|row| row.value()) else {
        return Ok(Some(master.clone()));
    };
    Ok(file.key(row)?.ok().map(|key| master.clone().with_references(key)))
}

impl Ring {
    pub(super) fn new(master: MasterKey, file: KeyFile) -> Self {
        Self { master, file, young: HashMap::new(), old: HashMap::new(), made: BTreeMap::new() }
    }

    /// Makes the cell's own key and the key of references in a new record.
    pub(super) fn begin(&mut self, txn: &WriteTransaction, entropy: &mut Entropy) -> Result<(), Failure> {
        let (row, _) = self.file.push(entropy);
        let (references, key) = self.file.push(entropy);
        self.name_references(txn, references, key)?;
        txn.open_table(table::SUBJECTS)?.insert(&self.master.subject_lookup("", CELL), row)?;
        Ok(())
    }

    /// Keeps a key of references in the key file.
    pub(super) fn add_references(
        &mut self,
        txn: &WriteTransaction,
        key: Key,
        entropy: &mut Entropy,
    ) -> Result<(), Failure> {
        let row = self.file.push_known(key.clone(), entropy);
        self.name_references(txn, row, key)
    }

    /// Says which row of the key file is the key of references.
    fn name_references(&mut self, txn: &WriteTransaction, row: u64, key: Key) -> Result<(), Failure> {
        self.master = self.master.clone().with_references(key);
        let mut meta = txn.open_table(table::META)?;
        meta.insert(table::META_REFERENCES, row)?;
        meta.insert(table::META_KEY_ROWS, self.file.rows())?;
        if let Some(mark) = self.file.mark() {
            meta.insert(table::META_KEY_MARK, mark)?;
        }
        Ok(())
    }

    /// The master key, with the record's key of references.
    pub(super) fn master(&self) -> &MasterKey {
        &self.master
    }

    /// Those of these rows that are not destroyed yet.
    pub(super) fn standing(&self, rows: &BTreeSet<u64>) -> std::io::Result<BTreeSet<u64>> {
        let mut standing = BTreeSet::new();
        for row in rows {
            if !self.file.is_destroyed(*row)? {
                standing.insert(*row);
            }
        }
        Ok(standing)
    }

    /// Destroys rows of the key file, and forgets what was opened with them.
    pub(super) fn destroy(&mut self, rows: &BTreeSet<u64>) -> std::io::Result<()> {
        self.discard();
        self.file.destroy(rows)
    }

    /// Goes over to another master key.
    pub(super) fn rewrap(&mut self, master: MasterKey, entropy: &mut Entropy) -> std::io::Result<()> {
        let references = self.master.references().clone();
        self.file.rewrap(master.wrapping(), entropy)?;
        self.master = master.with_references(references);
        Ok(())
    }

    /// The mark of this batch's last row.
    pub(super) fn mark(&self) -> Option<u64> {
        self.file.mark()
    }

    /// Rows of the key file, with this batch's.
    pub(super) fn rows(&self) -> u64 {
        self.file.rows()
    }

    /// The key for messages of no task.
    pub(super) fn cell(
        &mut self,
        tables: &mut Tables<'_>,
        keys: &mut u64,
        entropy: &mut Entropy,
    ) -> Result<Sealing, Failure> {
        let subjects = [CELL.to_owned()];
        let whose = Whose { tenant: "", task: TaskId(Uuid::nil()), subjects: &subjects, own: false };
        let mut sealing = self.sealing(&whose, tables, keys, entropy)?;
        sealing.refs.clear();
        Ok(sealing)
    }

    /// The key for a task's messages that hold these subjects' data, made where there is none.
    pub(super) fn sealing(
        &mut self,
        whose: &Whose<'_>,
        tables: &mut Tables<'_>,
        keys: &mut u64,
        entropy: &mut Entropy,
    ) -> Result<Sealing, Failure> {
        let mut place = [0; 32];
        place[..16].copy_from_slice(whose.task.0.as_bytes());
        place[16..].copy_from_slice(&self.master.set_lookup(whose.tenant, whose.subjects));
        if let Some(known) = self.cached(&place) {
            return Ok(known);
        }
        let found = tables.key_of.get(&place)?.map(|id| id.value());
        let sealing = match found.map(|id| self.unwrap(id, whose, tables)).transpose()?.flatten() {
            Some(known) => known,
            None => self.make(place, whose, tables, keys, entropy)?,
        };
        self.cache(place, sealing.clone());
        Ok(sealing)
    }

    /// A key that the record has, by its number; for messages that name no data subjects, so it gives no references.
    pub(super) fn numbered(&self, id: u64, tables: &Tables<'_>) -> Result<Option<Sealing>, Failure> {
        let whose = Whose { tenant: "", task: TaskId(Uuid::nil()), subjects: &[], own: false };
        self.unwrap(id, &whose, tables)
    }

    /// Opens a key of the record; `None` when one of its subjects' keys was destroyed.
    fn unwrap(&self, id: u64, whose: &Whose<'_>, tables: &Tables<'_>) -> Result<Option<Sealing>, Failure> {
        let Some(wrapped) = tables.keys.get(id)?.and_then(|bytes| Wrapped::decode(bytes.value())) else {
            return Ok(None);
        };
        let mut subjects = Vec::new();
        for row in &wrapped.rows {
            match self.file.key(*row)? {
                Ok(key) => subjects.push(key),
                Err(_) => return Ok(None),
            }
        }
        let refs = whose.subjects.iter().zip(&subjects).map(|(name, key)| subject_ref(key, name)).collect();
        Ok(wrapped.open(id, &subjects).ok().map(|key| Sealing { id, key, refs }))
    }

    fn make(
        &mut self,
        place: Place,
        whose: &Whose<'_>,
        tables: &mut Tables<'_>,
        keys: &mut u64,
        entropy: &mut Entropy,
    ) -> Result<Sealing, Failure> {
        let mut subjects = Vec::with_capacity(whose.subjects.len());
        for name in whose.subjects {
            subjects.push(self.subject(whose, name, tables, entropy)?);
        }
        let (id, key) = (*keys, entropy.key());
        *keys += 1;
        let wrapped = Wrapped::new(id, &key, &subjects, entropy);
        tables.keys.insert(id, wrapped.encode().as_slice())?;
        self.made.insert(place, id);
        let refs =
            whose.subjects.iter().zip(&subjects).map(|(name, (_, key))| subject_ref(key, name)).collect();
        Ok(Sealing { id, key, refs })
    }

    /// A data subject's key, made where there is none or the one there was is destroyed.
    fn subject(
        &mut self,
        whose: &Whose<'_>,
        name: &str,
        tables: &mut Tables<'_>,
        entropy: &mut Entropy,
    ) -> Result<(u64, Key), Failure> {
        let lookup = || self.master.subject_lookup(whose.tenant, name);
        if !whose.own {
            let row = tables.subjects.get(&lookup())?.map(|row| row.value());
            if let Some(row) = row
                && let Ok(key) = self.file.key(row)?
            {
                return Ok((row, key));
            }
        }
        let (row, key) = self.file.push(entropy);
        if !whose.own {
            tables.subjects.insert(&lookup(), row)?;
        }
        Ok((row, key))
    }

    /// Writes this batch's keys into their index, in order.
    pub(super) fn flush(&mut self, tables: &mut Tables<'_>) -> Result<(), Failure> {
        for (place, id) in std::mem::take(&mut self.made) {
            tables.key_of.insert(&place, id)?;
        }
        Ok(())
    }

    /// Whether this batch has keys of its own.
    pub(super) fn is_changed(&self) -> bool {
        self.file.is_changed()
    }

    /// Makes this batch's rows durable; before the record that names them is.
    pub(super) fn sync(&self) -> std::io::Result<()> {
        self.file.sync()
    }

    /// The record counts this batch's rows now.
    pub(super) fn committed(&mut self) {
        self.file.committed();
    }

    /// The batch was given up: its keys never were.
    pub(super) fn discard(&mut self) {
        self.file.discard();
        self.made.clear();
        self.young.clear();
        self.old.clear();
    }

    fn cached(&mut self, place: &Place) -> Option<Sealing> {
        if let Some(known) = self.young.get(place) {
            return Some(known.clone());
        }
        let known = self.old.remove(place)?;
        self.cache(*place, known.clone());
        Some(known)
    }

    /// Keeps a key at hand. When the young generation is full it becomes the old one, and what was old is forgotten.
    fn cache(&mut self, place: Place, sealing: Sealing) {
        if self.young.len() >= CACHE_MAX {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(place, sealing);
    }
}
