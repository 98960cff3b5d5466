//! Reading the record: in the recorder's own process, and from the file while the recorder writes it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use redb::{Database, ReadOnlyDatabase, ReadTransaction, ReadableDatabase, ReadableTableMetadata as _};
use serde::{Deserialize, Serialize};
use tidegate_schemas::ids::Position;

use crate::body::{self, Body};
use crate::erase;
use crate::error::{Failure, OpenError, ReadError};
use crate::keys::MasterKey;
use crate::keys::file::KeyFile;
use crate::keys::seal;
use crate::keys::task::Wrapped;
use crate::leaf::Leaf;
use crate::segment::shelf::Shelf;
use crate::store::{self, Heads};
use crate::table;
use view::{Place, SealedBody, View};

pub use filter::{Cursor, Filter};
pub use prove::Head;
pub use query::Page;
pub use tasks::{Node, Timeline, Workflow};

mod breaks;
mod crashed;
mod filter;
pub(crate) mod prove;
mod query;
pub(crate) mod search;
pub(crate) mod tasks;
pub(crate) mod view;

/// Memory of a reader of the file for cached pages, bytes.
const CACHE_BYTES: usize = 64 * 1024 * 1024;
/// Most records that one call returns.
pub const RECORDS_MAX: usize = 10_000;

/// Reads a record. Each call sees the newest commit.
pub struct Reader {
    source: Source,
    dir: PathBuf,
    master: Option<MasterKey>,
    shelf: Arc<Shelf>,
}

enum Source {
    /// The writer's own handle, in its process.
    Shared(Arc<Database>),
    /// The file, beside a writer in another process or none.
    File(ReadOnlyDatabase),
}

/// One record.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// What it says, read.
    pub leaf: Leaf,
    /// The exact bytes of the leaf: one line of an export.
    pub line: String,
    /// The leaf hash as it is stored.
    pub hash: [u8; 32],
}

/// What could be had of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opened {
    /// The message.
    Body(Box<Body>),
    /// The record has none: a gap.
    Nothing,
    /// It stays sealed: no master key was given.
    Sealed,
    /// It was pruned by retention.
    Pruned,
    /// Its key was destroyed, by an act that is on record.
    Erased {
        /// Sequence in EVENTS of the act.
        event: u64,
    },
    /// Its key is gone or damaged and no act says why, or its bytes are not those that were sealed.
    Lost,
}

/// Where the record stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Records there are.
    pub records: u64,
    /// Records with an anomaly.
    pub anomalies: u64,
    /// Tasks accepted.
    pub accepted: u64,
    /// Accepted tasks that ended.
    pub ended: u64,
    /// Accepted tasks that have not; with those that ended they make up all.
    pub open: u64,
    /// Streams, each with the last sequence that is recorded.
    pub streams: Vec<(String, u64)>,
    /// What retention took away.
    #[serde(default)]
    pub pruned: Gone,
}

/// What retention took away.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gone {
    /// Records of which only the hashes are kept.
    pub records: u64,
    /// The newest of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub records_until: Option<Timestamp>,
    /// Records whose bodies are gone, with those that are gone themselves.
    pub bodies: u64,
    /// The newest of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bodies_until: Option<Timestamp>,
}

// === impl Reader ===

impl Reader {
    /// Opens the record in `dir`, beside a recorder or without one. Without a master key bodies stay sealed, and
    /// workflows cannot be looked up by name.
    ///
    /// # Errors
    /// [`OpenError::Absent`] when there is none; [`OpenError::NeedsRepair`] when a crashed recorder has not come back.
    pub fn open(dir: &Path, master: Option<MasterKey>) -> Result<Self, OpenError> {
        let db = store::builder(CACHE_BYTES)
            .open_read_only(store::file(dir))
            .map_err(|error| OpenError::from_redb(error.into(), dir))?;
        Self::new(Source::File(db), dir, master).checked()
    }

    /// Opens a record that its recorder left without closing it, as it is: the files are read and nothing is written. What
    /// was committed is there. While it is open no recorder can begin.
    ///
    /// # Errors
    /// [`OpenError::Locked`] while a recorder or a reader has it; else as [`Self::open`].
    pub fn open_crashed(dir: &Path, master: Option<MasterKey>) -> Result<Self, OpenError> {
        let db = crashed::open(&store::file(dir), CACHE_BYTES)?;
        Self::new(Source::Shared(Arc::new(db)), dir, master).checked()
    }

    fn new(source: Source, dir: &Path, master: Option<MasterKey>) -> Self {
        Self { source, dir: dir.to_owned(), master, shelf: Arc::new(Shelf::new(dir)) }
    }

    /// The reader, where the tables have a form that it knows, and the key is the record's.
    fn checked(mut self) -> Result<Self, OpenError> {
        let form = self.form().map_err(|Failure(error)| OpenError::from_redb(error, &self.dir))?;
        if !(table::FORM_OLDEST..=table::FORM).contains(&form) {
            return Err(OpenError::Version { found: form, known: table::FORM });
        }
        self.master = self.master.take().map(|master| self.fitting(master)).transpose()?;
        Ok(self)
    }

    /// The master key, with the record's own key of references.
    fn fitting(&self, master: MasterKey) -> Result<MasterKey, OpenError> {
        let broken = |Failure(error)| OpenError::from_redb(error, &self.dir);
        let txn = self.begin().map_err(broken)?;
        let rows = txn.open_table(table::META).map_err(|error| broken(error.into()))?;
        let rows = rows.get(table::META_KEY_ROWS).map_err(|error| broken(error.into()))?;
        if rows.is_none_or(|rows| rows.value() == 0) {
            return Ok(master);
        }
        let path = store::key_file(&self.dir);
        let file = KeyFile::read_only(&path, master.wrapping(), 0)
            .map_err(|source| OpenError::KeyFile { path, source })?;
        store::ring::fitting(&txn, &file, &master).map_err(broken)?.ok_or(OpenError::WrongKey)
    }

    pub(crate) fn shared(db: Arc<Database>, dir: &Path, master: MasterKey, shelf: Arc<Shelf>) -> Self {
        Self { source: Source::Shared(db), dir: dir.to_owned(), master: Some(master), shelf }
    }

    /// A reader in this process that opens no body.
    pub(crate) fn sealed(db: Arc<Database>, dir: &Path) -> Self {
        Self::new(Source::Shared(db), dir, None)
    }

    /// The record's directory.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    fn form(&self) -> Result<u64, Failure> {
        let meta = self.begin()?.open_table(table::META)?;
        Ok(meta.get(table::META_FORM)?.map_or(0, |form| form.value()))
    }

    /// The record as it is now.
    pub(crate) fn begin(&self) -> Result<View, Failure> {
        let txn = match &self.source {
            Source::Shared(db) => db.begin_read()?,
            Source::File(db) => db.begin_read()?,
        };
        View::new(txn, Arc::clone(&self.shelf))
    }

    pub(crate) fn master(&self) -> Option<&MasterKey> {
        self.master.as_ref()
    }

    /// Where the record stands.
    ///
    /// # Errors
    /// [`ReadError::Broken`] when the file cannot be read.
    pub fn status(&self) -> Result<Status, ReadError> {
        let txn = self.begin()?;
        let heads = Heads::read(&txn)?;
        let open = txn.open_table(table::OPEN).map_err(Failure::from)?;
        let streams = heads.streams.into_iter().map(|(name, (_, next))| (name, next.saturating_sub(1)));
        Ok(Status {
            records: heads.records,
            anomalies: heads.anomalies,
            accepted: heads.accepted,
            ended: heads.ended,
            open: open.len().map_err(Failure::from)?,
            streams: streams.collect(),
            pruned: gone(&txn)?,
        })
    }

    /// The record at an index.
    ///
    /// # Errors
    /// [`ReadError`] when the file cannot be read or the record is damaged.
    pub fn get(&self, index: u64) -> Result<Option<Record>, ReadError> {
        let txn = self.begin()?;
        record(&txn, index)
    }

    /// The record of a message.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn at(&self, position: &Position) -> Result<Option<Record>, ReadError> {
        let txn = self.begin()?;
        match index_of(&txn, position)? {
            Some(index) => record(&txn, index),
            None => Ok(None),
        }
    }

    /// Whether a message is recorded.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn holds(&self, position: &Position) -> Result<bool, ReadError> {
        Ok(index_of(&*self.begin()?, position)?.is_some())
    }

    /// Whether a message's record was pruned.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn was_pruned(&self, position: &Position) -> Result<bool, ReadError> {
        Ok(self.begin()?.is_pruned(position)?)
    }

    /// Records from an index on, at most `limit` and at most [`RECORDS_MAX`]. Empty at the end: ask again later.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn tail(&self, from: u64, limit: usize) -> Result<Vec<Record>, ReadError> {
        let txn = self.begin()?;
        let found = txn.indices(from, limit.min(RECORDS_MAX))?;
        let end = found.last().map_or(from, |last| last.saturating_add(1));
        let mut records = Vec::with_capacity(found.len());
        txn.rows(from..end, |index, row| -> Result<(), ReadError> {
            records.push(read(index, row)?);
            Ok(())
        })?;
        Ok(records)
    }

    /// How many of these records have a message that retention took away.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn pruned_among(&self, records: &[Record]) -> Result<u64, ReadError> {
        let (txn, mut pruned) = (self.begin()?, 0);
        for record in records.iter().filter(|record| record.leaf.body.is_some()) {
            let index = record.leaf.index;
            let places = txn.places(index..index.saturating_add(1))?;
            let gone = |(_, place): &(_, Place)| matches!(place, Place::Segment(segment) if segment.bodies.is_some());
            pruned += u64::from(places.iter().any(gone));
        }
        Ok(pruned)
    }

    /// The sealed message of a record.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn body(&self, record: &Record) -> Result<Opened, ReadError> {
        let Some(commitment) = record.leaf.body else { return Ok(Opened::Nothing) };
        let txn = self.begin()?;
        let sealed = match txn.body(record.leaf.index)? {
            SealedBody::Bytes(sealed) => sealed,
            SealedBody::Pruned => return Ok(Opened::Pruned),
            SealedBody::Missing => return Ok(Opened::Lost),
        };
        let Some(master) = &self.master else {
            return Ok(self.erased_by(record)?.map_or(Opened::Sealed, |event| Opened::Erased { event }));
        };
        let keys = txn.open_table(table::KEYS).map_err(Failure::from)?;
        let wrapped = keys.get(commitment.key).map_err(Failure::from)?;
        let Some(wrapped) = wrapped.and_then(|bytes| Wrapped::decode(bytes.value())) else {
            return Ok(Opened::Lost);
        };
        let file = key_file(&self.dir, master)?;
        let mut subjects = Vec::new();
        for row in &wrapped.rows {
            match file.key(*row).map_err(ReadError::of_file)? {
                Ok(key) => subjects.push(key),
                Err(_) => {
                    let erased = erase::act_on(&txn, *row, &record.leaf)?;
                    if erased.is_none() && store::ring::fitting(&txn, &file, master)?.is_none() {
                        return Err(ReadError::KeyChanged);
                    }
                    return Ok(erased.map_or(Opened::Lost, |event| Opened::Erased { event }));
                }
            }
        }
        let source = &record.leaf.source;
        let place = body::place(&source.stream, source.sequence);
        let plain = wrapped
            .open(commitment.key, &subjects)
            .and_then(|key| seal::open(&key, &place, &sealed))
            .ok()
            .and_then(|plain| Body::decode(&plain));
        Ok(plain.map_or(Opened::Lost, |body| Opened::Body(Box::new(body))))
    }
}

/// The record's keys, to read.
fn key_file(dir: &Path, master: &MasterKey) -> Result<KeyFile, ReadError> {
    KeyFile::read_only(&store::key_file(dir), master.wrapping(), 0).map_err(ReadError::of_file)
}

/// The index of a message's record.
pub(crate) fn index_of(txn: &ReadTransaction, position: &Position) -> Result<Option<u64>, Failure> {
    let streams = txn.open_table(table::STREAMS)?;
    let Some((number, _)) = streams.get(position.stream.as_str())?.map(|head| head.value()) else {
        return Ok(None);
    };
    let src = txn.open_table(table::SRC)?;
    Ok(src.get(&table::source(number, position.sequence))?.map(|index| index.value()))
}

/// The record at an index.
pub(crate) fn record(view: &View, index: u64) -> Result<Option<Record>, ReadError> {
    view.row(index)?.map(|row| read(index, &row)).transpose()
}

/// What retention took away.
fn gone(view: &View) -> Result<Gone, Failure> {
    let mut gone = Gone::default();
    for segment in view.segments()? {
        if segment.bodies.is_some() {
            gone.bodies += segment.len();
            gone.bodies_until = gone.bodies_until.max(Some(segment.newest));
        }
        if segment.records.is_some() {
            gone.records += segment.len();
            gone.records_until = gone.records_until.max(Some(segment.newest));
        }
    }
    Ok(gone)
}

/// A record from its row.
pub(crate) fn read(index: u64, value: &[u8]) -> Result<Record, ReadError> {
    let damaged = || ReadError::Damaged { index };
    let (hash, line) = value.split_first_chunk::<32>().ok_or_else(damaged)?;
    let line = std::str::from_utf8(line).map_err(|_| damaged())?;
    let leaf = serde_json::from_str(line).map_err(|_| damaged())?;
    Ok(Record { leaf, line: line.to_owned(), hash: *hash })
}

impl Record {
    /// The cursor of a page that ends with this record.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        Cursor::at(self.leaf.index)
    }
}
