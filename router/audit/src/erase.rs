//! Erasing a data subject: what the record calls it, what it holds of it, and how far an erasure is.
//!
//! A body is sealed for a set of data subjects; with the key of any one of them it is lost, and every leaf and proof stays.
//! The act on record names the subject as leaves do, by an HMAC under the subject's own key: while the key is there it says
//! whose records are meant, and when the key is gone nobody can tell whom it meant. So the act is enough to carry it out.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use jiff::Timestamp;
use redb::{ReadableTable as _, TableError};
use serde::{Deserialize, Serialize};
use tidegate_schemas::control::EraseOutcome;
use tidegate_schemas::ids::{Identifier, Name, Position, TaskId};
use tidegate_schemas::subject::EVENTS;

use crate::error::{Failure, ReadError};
use crate::hold::reference;
use crate::keys::MasterKey;
use crate::keys::file::KeyFile;
use crate::keys::task::{Wrapped, subject_ref};
use crate::leaf::{ActWord, Detail, Leaf, leaf_hash};
use crate::read::view::View;
use crate::read::{Reader, Record, index_of, record};
use crate::store;
use crate::store::tree::Stored;
use crate::table;
use crate::task::Row;

pub(crate) mod names;

/// Names of one data subject that an act may hold: its own, and that of a task whose own subject it is.
pub const SUBJECTS_MAX: usize = 16;
/// Length of a data subject's name in the record, hexadecimal digits.
const REFERENCE_DIGITS: usize = 32;
/// How a task's own data subject is called.
const OWN: &str = "task:";
/// Records of one look.
const LOOK: usize = 1_000;

/// A data subject, as the record calls it now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataSubject {
    /// Whose.
    pub tenant: Name,
    /// Its names in leaves.
    pub references: Vec<String>,
    /// Their rows of the key file, in this order, and whether each is a task's own.
    #[serde(skip)]
    rows: Vec<(u64, bool)>,
}

/// What a record holds of a data subject.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holding {
    /// Rows of the key file that hold its keys.
    pub rows: BTreeSet<u64>,
    /// Numbers of the keys that cannot be opened without it.
    pub keys: BTreeSet<u64>,
    /// Tasks that its records are of.
    pub tasks: BTreeSet<TaskId>,
    /// Records of it.
    pub records: u64,
    /// Index of the first record that was not looked at.
    pub next: u64,
    /// The names of pruned leaves that were looked at; none before the first look.
    names: Option<u64>,
}

/// One erasure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erasure {
    /// Sequence in EVENTS of the act.
    pub event: u64,
    /// Who wanted it.
    pub operator: Name,
    /// Whose data subject.
    pub tenant: Name,
    /// What the record called it.
    pub subjects: Vec<String>,
    /// When it was begun.
    pub begun: Timestamp,
    /// Records that cannot be read any more.
    pub records: u64,
    /// Messages that are deleted in the streams: those that were there before the first one went.
    pub messages: u64,
    /// Whether they were counted. What is deleted may be gone already when this is done again, so it is counted once.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub counted: bool,
    /// Where it stands.
    pub state: ErasureState,
    /// Why it waits, where it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits: Option<String>,
    /// The act's own record, where retention took it: records that it erased may be held longer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub act: Option<KeptAct>,
}

/// The record of an act, kept beyond its segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptAct {
    /// Its index.
    pub index: u64,
    /// Its leaf, whose hash the tree holds.
    pub leaf: String,
}

/// Where an erasure stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErasureState {
    /// Nothing is done yet.
    Waiting,
    /// The keys are destroyed; the streams still hold messages.
    Destroyed,
    /// It is done, and its end is on record.
    Ended(EraseOutcome),
}

impl ErasureState {
    /// Whether there is nothing left to do.
    #[must_use]
    pub fn has_ended(self) -> bool {
        matches!(self, Self::Ended(_))
    }
}

// === impl DataSubject ===

impl DataSubject {
    /// Whether what the record holds of it does not lead to all its keys: before names were kept, they went with their leaves.
    #[must_use]
    pub fn is_unnamed(&self, held: &Holding) -> bool {
        self.rows.iter().any(|(row, _)| !held.rows.contains(row))
    }

    /// Its names by row of the key file; `tenant` is the tenant's number.
    pub(crate) fn names(&self, tenant: u32) -> names::Names {
        let both = self.rows.iter().zip(&self.references);
        let kept = |(row, own): (u64, bool), name| Some((row, names::Kept { tenant, name, own }));
        both.filter_map(|(row, name)| kept(*row, reference(name)?)).collect()
    }
}

// === impl Reader ===

impl Reader {
    /// What the record calls a data subject now. None when it holds nothing of it: it never came, or was erased.
    ///
    /// # Errors
    /// [`ReadError::KeyNeeded`] without a master key; else as [`Reader::get`].
    pub fn data_subject(
        &self,
        tenant: &Name,
        subject: &Identifier,
    ) -> Result<Option<DataSubject>, ReadError> {
        let master = self.master().ok_or(ReadError::KeyNeeded)?;
        let txn = self.begin()?;
        let mut rows = BTreeMap::new();
        let subjects = txn.open_table(table::SUBJECTS).map_err(Failure::from)?;
        let lookup = master.subject_lookup(tenant.as_str(), subject.as_str());
        rows.extend(subjects.get(&lookup).map_err(Failure::from)?.map(|row| (row.value(), false)));
        // The own subject of a task stands in no look-up but that of the task's key.
        if let Some(task) = subject.as_str().strip_prefix(OWN).and_then(|id| id.parse::<TaskId>().ok()) {
            let place = own_place(master, tenant.as_str(), task);
            let key_of = txn.open_table(table::KEY_OF).map_err(Failure::from)?;
            let keys = txn.open_table(table::KEYS).map_err(Failure::from)?;
            if let Some(id) = key_of.get(&place).map_err(Failure::from)?
                && let Some(wrapped) = keys.get(id.value()).map_err(Failure::from)?
            {
                let wrapped =
                    Wrapped::decode(wrapped.value()).map(|wrapped| wrapped.rows).unwrap_or_default();
                rows.extend(wrapped.into_iter().map(|row| (row, true)));
            }
        }
        let broken = |error: std::io::Error| ReadError::Broken { what: error.to_string() };
        let file = KeyFile::read_only(&store::key_file(self.dir()), master.wrapping(), 0).map_err(broken)?;
        let mut found = DataSubject { tenant: tenant.clone(), references: Vec::new(), rows: Vec::new() };
        for (row, own) in rows {
            if let Ok(key) = file.key(row).map_err(broken)? {
                found.references.push(subject_ref(&key, subject.as_str()));
                found.rows.push((row, own));
            }
        }
        Ok(Some(found).filter(|found| !found.references.is_empty()))
    }

    /// Looks through the whole record for what it holds of a data subject, by the names that leaves have for it; `each` is
    /// told every record of it, in order. Erased or not: it needs no key.
    ///
    /// # Errors
    /// As [`Reader::get`], or what `each` returns.
    pub fn holding(
        &self,
        tenant: &Name,
        references: &[String],
        each: &mut dyn FnMut(&Record) -> Result<(), ReadError>,
    ) -> Result<Holding, ReadError> {
        let mut held = Holding::default();
        self.look_on(&mut held, tenant, references, each)?;
        Ok(held)
    }

    /// The same of a data subject that was looked up, by its keys too: also where the leaves that named it were pruned.
    ///
    /// # Errors
    /// As [`Self::holding`].
    pub fn holding_of(
        &self,
        known: &DataSubject,
        each: &mut dyn FnMut(&Record) -> Result<(), ReadError>,
    ) -> Result<Holding, ReadError> {
        let mut held = Holding::default();
        held.rows.extend(known.rows.iter().map(|(row, _)| *row));
        let txn = self.begin()?;
        let (keys, tasks) = names::keys(&txn, &held.rows)?;
        drop(txn);
        held.keys.extend(keys);
        held.tasks.extend(tasks);
        self.look_on(&mut held, &known.tenant, &known.references, each)?;
        Ok(held)
    }

    /// The same from where `held` ends: `each` is told every record that came since.
    ///
    /// # Errors
    /// As [`Self::holding`]; `held` is of no use then.
    pub fn look_on(
        &self,
        held: &mut Holding,
        tenant: &Name,
        references: &[String],
        each: &mut dyn FnMut(&Record) -> Result<(), ReadError>,
    ) -> Result<(), ReadError> {
        loop {
            let records = self.tail(held.next, LOOK)?;
            // After the page: a leaf that was pruned before it was read has left its names by now.
            self.named(held, tenant, references)?;
            let Some(last) = records.last() else { return Ok(()) };
            held.next = last.leaf.index + 1;
            for record in records.iter().filter(|record| record.leaf.tenant.as_ref() == Some(tenant)) {
                if self.take(held, &record.leaf, references)? {
                    each(record)?;
                }
            }
        }
    }

    /// Takes in what pruned leaves said: whose keys there are of which no leaf says it any more.
    fn named(&self, held: &mut Holding, tenant: &Name, references: &[String]) -> Result<(), ReadError> {
        let txn = self.begin()?;
        let version = names::version(&txn)?;
        if held.names == Some(version) {
            return Ok(());
        }
        held.names = Some(version);
        let rows = names::rows(&txn, tenant.as_str(), references)?;
        if rows.is_empty() {
            return Ok(());
        }
        let (keys, tasks) = names::keys(&txn, &rows)?;
        held.rows.extend(rows);
        held.keys.extend(keys);
        held.tasks.extend(tasks);
        Ok(())
    }

    /// Whether a record is the data subject's. The first one under a key always names its data subjects; later ones may not.
    fn take(&self, held: &mut Holding, leaf: &Leaf, references: &[String]) -> Result<bool, ReadError> {
        let Some(commitment) = leaf.body else { return Ok(false) };
        if !held.keys.contains(&commitment.key) {
            let place = |name: &String| references.contains(name);
            let Some(at) = leaf.subjects.iter().position(place) else { return Ok(false) };
            let txn = self.begin()?;
            let keys = txn.open_table(table::KEYS).map_err(Failure::from)?;
            let wrapped = keys.get(commitment.key).map_err(Failure::from)?;
            let wrapped = wrapped.and_then(|bytes| Wrapped::decode(bytes.value()));
            // The rows of a key stand in the order of the names.
            held.rows.extend(wrapped.and_then(|wrapped| wrapped.rows.get(at).copied()));
            held.keys.insert(commitment.key);
        }
        held.records += 1;
        held.tasks.extend(leaf.task);
        Ok(true)
    }

    /// The act that erased a record's message: its sequence in EVENTS. It needs no key.
    ///
    /// # Errors
    /// As [`Reader::get`].
    pub fn erased_by(&self, record: &Record) -> Result<Option<u64>, ReadError> {
        let Some(commitment) = record.leaf.body else { return Ok(None) };
        let txn = self.begin()?;
        let keys = txn.open_table(table::KEYS).map_err(Failure::from)?;
        let wrapped = keys.get(commitment.key).map_err(Failure::from)?;
        for row in
            wrapped.and_then(|bytes| Wrapped::decode(bytes.value())).map(|w| w.rows).unwrap_or_default()
        {
            if let Some(event) = act_on(&txn, row, &record.leaf)? {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    /// Of records those whose messages were erased: index → sequence in EVENTS of the act. It needs no key.
    ///
    /// # Errors
    /// As [`Reader::get`].
    pub fn erased_among(&self, records: &[Record]) -> Result<BTreeMap<u64, u64>, ReadError> {
        if self.erasures()?.is_empty() {
            return Ok(BTreeMap::new());
        }
        let mut erased = BTreeMap::new();
        for record in records {
            erased.extend(self.erased_by(record)?.map(|event| (record.leaf.index, event)));
        }
        Ok(erased)
    }

    /// How many open tasks are sealed with one of these keys.
    ///
    /// # Errors
    /// As [`Reader::get`].
    pub fn open_with(&self, keys: &BTreeSet<u64>) -> Result<u64, ReadError> {
        let txn = self.begin()?;
        let tasks = txn.open_table(table::TASKS).map_err(Failure::from)?;
        let mut open = 0;
        for row in txn.open_table(table::OPEN).map_err(Failure::from)?.iter().map_err(Failure::from)? {
            let (key, _) = row.map_err(Failure::from)?;
            let place = key.value().get(8..).unwrap_or_default();
            let row = tasks.get(place).map_err(Failure::from)?;
            let row = row.and_then(|bytes| serde_json::from_slice::<Row>(bytes.value()).ok());
            open += u64::from(row.and_then(|row| row.key).is_some_and(|key| keys.contains(&key)));
        }
        Ok(open)
    }

    /// Acts other than `event` that destroyed all of these rows of the key file, by their sequences in EVENTS; none where a row
    /// is still there, or `event` itself destroyed one.
    ///
    /// # Errors
    /// As [`Reader::get`].
    pub fn destroyed_before(&self, event: u64, rows: &BTreeSet<u64>) -> Result<BTreeSet<u64>, ReadError> {
        let txn = self.begin()?;
        let table = match txn.open_table(table::ERASED) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(BTreeSet::new()),
            Err(error) => return Err(Failure::from(error).into()),
        };
        let mut acts = BTreeSet::new();
        for row in rows {
            match table.get(row).map_err(Failure::from)?.map(|act| act.value()) {
                Some(act) if act != event => drop(acts.insert(act)),
                _ => return Ok(BTreeSet::new()),
            }
        }
        Ok(acts)
    }

    /// Erasures, the oldest first.
    ///
    /// # Errors
    /// As [`Reader::get`].
    pub fn erasures(&self) -> Result<Vec<Erasure>, ReadError> {
        Ok(all(&self.begin()?)?)
    }
}

/// Where the key of a task is looked up whose only data subject is its own.
fn own_place(master: &MasterKey, tenant: &str, task: TaskId) -> [u8; 32] {
    let mut place = [0; 32];
    place[..16].copy_from_slice(task.0.as_bytes());
    place[16..].copy_from_slice(&master.set_lookup(tenant, &[format!("{OWN}{task}")]));
    place
}

/// The act that destroyed a row of the key file: only one that is on record, and that names who the record is of.
pub(crate) fn act_on(txn: &View, row: u64, leaf: &Leaf) -> Result<Option<u64>, ReadError> {
    let table = match txn.open_table(table::ERASED) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) => return Ok(None),
        Err(error) => return Err(Failure::from(error).into()),
    };
    let Some(event) = table.get(row).map_err(Failure::from)?.map(|event| event.value()) else {
        return Ok(None);
    };
    let Some(act) = act(txn, event)? else { return Ok(None) };
    let Some(Detail::Control { act: ActWord::Erase, subjects, .. }) = act.detail else { return Ok(None) };
    let whose = leaf.subjects.is_empty() || subjects.iter().any(|name| leaf.subjects.contains(name));
    Ok(whose.then_some(event))
}

/// The record of the act at a sequence of EVENTS; where retention took it, as it was kept with the erasure, if the tree holds it.
fn act(txn: &View, event: u64) -> Result<Option<Leaf>, ReadError> {
    let position = Position::new(EVENTS, event);
    if let Some(index) = index_of(txn, &position)?
        && let Some(record) = record(txn, index)?
    {
        return Ok(Some(record.leaf));
    }
    let Some(KeptAct { index, leaf: line }) = kept(txn, event)? else { return Ok(None) };
    let held = Stored::open(txn)?.leaf(index)? == Some(leaf_hash(line.as_bytes()));
    let leaf = serde_json::from_str::<Leaf>(&line).ok();
    Ok(leaf.filter(|leaf| held && leaf.index == index && leaf.position() == position))
}

fn kept(txn: &View, event: u64) -> Result<Option<KeptAct>, Failure> {
    let table = match txn.open_table(table::ERASURES) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let row = table.get(event)?;
    Ok(row
        .and_then(|row| serde_json::from_slice::<Erasure>(row.value()).ok())
        .and_then(|erasure| erasure.act))
}

/// Erasures whose acts are among the records of a range, each with its act: those records are about to go.
pub(crate) fn with_acts(view: &View, range: Range<u64>) -> Result<Vec<Erasure>, ReadError> {
    let mut found = Vec::new();
    for erasure in all(view)? {
        let index = index_of(view, &Position::new(EVENTS, erasure.event))?;
        let Some(index) = index.filter(|index| range.contains(index)) else { continue };
        let act = record(view, index)?.map(|record| KeptAct { index, leaf: record.line });
        found.push(Erasure { act, ..erasure });
    }
    Ok(found)
}

/// Erasures, the oldest first.
fn all(txn: &View) -> Result<Vec<Erasure>, Failure> {
    let table = match txn.open_table(table::ERASURES) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut found = Vec::new();
    for row in table.iter()? {
        found.extend(serde_json::from_slice(row?.1.value()).ok());
    }
    Ok(found)
}

/// Whether a text has the form of a data subject's name in the record.
pub(crate) fn is_reference(text: &str) -> bool {
    text.len() == REFERENCE_DIGITS && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}
